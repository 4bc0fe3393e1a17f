//! `dohle bench`: throughput and latency, measured from outside over real sockets.
//!
//! Load is open-loop: with `--rate` every record has a time at which it is to be sent, and its latency counts
//! from that time, whether or not the client or the server was ready for it. A closed loop would leave out
//! exactly the waiting that a stall causes ("coordinated omission").

mod groups;
mod load;
mod read;
mod report;

use std::time::Duration;

use dohle_client::Acks;
use dohle_client::group::GroupProtocol;
use dohle_records::Compression;
use dohle_types::Str;

use crate::produce::{parse_acks, parse_compression};
use crate::session::Session;
use crate::{CliError, Connection, topic};

/// `dohle bench ...`
#[derive(Clone, Debug, clap::Subcommand)]
pub enum BenchCommand {
    /// Write records as fast as possible, or at a rate
    Produce(ProduceBench),
    /// Read a topic from its beginning as fast as possible
    Consume(ConsumeBench),
    /// Write single records at a rate, each in a request of its own
    Latency(LatencyBench),
    /// Have many members join groups at once, live in them, commit at once, and leave
    Groups(GroupsBench),
}

/// What all benchmarks take.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// The topic; it is made if there is none
    #[arg(long, default_value = "dohle-bench")]
    topic: Str,
    /// How many partitions the topic is made with
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    /// Over how many connections, each a client of its own
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// The server's process on this machine, of which the CPU time is reported too
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// The result as one JSON object
    #[arg(long)]
    json: bool,
}

/// `dohle bench produce`
#[derive(Clone, Debug, clap::Args)]
pub struct ProduceBench {
    #[command(flatten)]
    common: Common,
    /// For how many seconds
    #[arg(short, long, default_value_t = 10.0, value_name = "SECONDS")]
    duration: f64,
    /// How many records at the most
    #[arg(short = 'n', long, value_name = "COUNT")]
    records: Option<u64>,
    /// Records a second; without it as many as go
    #[arg(short, long)]
    rate: Option<f64>,
    /// Bytes in a record's value
    #[arg(short, long, default_value_t = 100, value_name = "BYTES")]
    size: usize,
    /// Bytes in a batch
    #[arg(short, long, default_value_t = 128 << 10, value_name = "BYTES")]
    batch_size: usize,
    /// How many milliseconds a record waits for others
    #[arg(long, default_value_t = 5, value_name = "MS")]
    linger: u64,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, default_value = "none", value_parser = parse_compression)]
    compression: Compression,
    /// all, 1 or 0
    #[arg(short, long, default_value = "all", value_parser = parse_acks)]
    acks: Acks,
    /// Send what a producer without idempotence sends
    #[arg(long)]
    no_idempotence: bool,
    /// Bytes of records that a connection may have waiting; behind that the load is blocked, for which there is a line
    #[arg(long, default_value_t = 32 << 20, value_name = "BYTES")]
    buffer_memory: usize,
}

/// `dohle bench latency`
#[derive(Clone, Debug, clap::Args)]
pub struct LatencyBench {
    #[command(flatten)]
    common: Common,
    /// For how many seconds
    #[arg(short, long, default_value_t = 10.0, value_name = "SECONDS")]
    duration: f64,
    /// Requests a second, over all connections
    #[arg(short, long, default_value_t = 1000.0)]
    rate: f64,
    /// Bytes in a record's value
    #[arg(short, long, default_value_t = 100, value_name = "BYTES")]
    size: usize,
    /// all, 1 or 0
    #[arg(short, long, default_value = "all", value_parser = parse_acks)]
    acks: Acks,
    /// Measure until a consumer has the record, not until it is acknowledged
    #[arg(short, long)]
    end_to_end: bool,
}

/// `dohle bench consume`
#[derive(Clone, Debug, clap::Args)]
pub struct ConsumeBench {
    #[command(flatten)]
    common: Common,
    /// How many records at the most; without it all there are
    #[arg(short = 'n', long, value_name = "COUNT")]
    records: Option<u64>,
    /// Bytes of a partition in a response at the most
    #[arg(long, default_value_t = 1 << 20, value_name = "BYTES")]
    fetch_size: i32,
    /// Records a second, over all connections; without it as many as go
    #[arg(short, long)]
    rate: Option<f64>,
    /// For how many seconds, from the beginning again whenever the end is reached; without it once
    #[arg(short, long, value_name = "SECONDS")]
    duration: Option<f64>,
}

/// `dohle bench groups`
#[derive(Clone, Debug, clap::Args)]
pub struct GroupsBench {
    /// How many groups
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    groups: u32,
    /// How many members each has
    #[arg(short, long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    members: u32,
    /// classic or consumer
    #[arg(long, default_value = "classic", value_parser = parse_protocol)]
    protocol: GroupProtocol,
    /// The topic that all subscribe to; it is made if there is none
    #[arg(long, default_value = "dohle-bench-groups")]
    topic: Str,
    /// How many partitions the topic is made with; by default as many as a group has members
    #[arg(long)]
    partitions: Option<i32>,
    /// What the names of the groups begin with
    #[arg(long, default_value = "bench")]
    prefix: String,
    /// For how many seconds the members only live
    #[arg(short, long, default_value_t = 10.0, value_name = "SECONDS")]
    duration: f64,
    /// How often all members commit at once
    #[arg(long, default_value_t = 10)]
    commits: u32,
    /// The server's process on this machine, of which CPU time and memory are reported too
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// The result as JSON, an object a line
    #[arg(long)]
    json: bool,
}

fn parse_protocol(text: &str) -> Result<GroupProtocol, String> {
    match text {
        "classic" => Ok(GroupProtocol::Classic),
        "consumer" => Ok(GroupProtocol::Consumer),
        _ => Err("a protocol is classic or consumer".to_owned()),
    }
}

pub(crate) fn run(connection: &Connection, command: BenchCommand) -> Result<(), CliError> {
    match command {
        BenchCommand::Produce(bench) => {
            ensure_topic(connection, &bench.common)?;
            load::run(connection, &bench.common, &load::Load::produce(&bench)?)
        }
        BenchCommand::Latency(bench) => {
            ensure_topic(connection, &bench.common)?;
            load::run(connection, &bench.common, &load::Load::latency(&bench)?)
        }
        BenchCommand::Consume(bench) => read::run(connection, &bench),
        BenchCommand::Groups(bench) => groups::run(connection, &bench),
    }
}

fn ensure_topic(connection: &Connection, common: &Common) -> Result<(), CliError> {
    topic::ensure(&mut Session::new(connection)?, &common.topic, common.partitions)
}

fn positive(rate: Option<f64>) -> Result<Option<f64>, CliError> {
    match rate {
        Some(rate) if !(rate.is_finite() && rate > 0.0) => {
            Err(CliError::Usage(format!("--rate {rate}: a rate is more than 0")))
        }
        rate => Ok(rate),
    }
}

/// Seconds as given by a user.
fn seconds(value: f64) -> Result<Duration, CliError> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| CliError::Usage(format!("{value} is no duration in seconds")))
}
