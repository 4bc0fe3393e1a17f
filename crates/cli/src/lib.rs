//! The command line of Dohle, but for `dohle server`: topics, records, groups, transactions, logs, benchmarks.
//!
//! It works with any server that speaks Kafka's protocol. What it is not: it holds no rule of the protocol
//! itself; those are in `dohle-client`, whose machines it drives over real sockets.
//!
//! Input: arguments, standard input, sockets. Output: what was asked for on standard output, all else on
//! standard error, and an exit code: 0 for success, 1 for failure, 2 for wrong arguments, 130 when interrupted.
//!
//! Invariants:
//! 1. Standard output carries only what was asked for, so that it can be piped; a closed pipe ends a command
//!    quietly.
//! 2. A command that wrote records fails unless every one of them was acknowledged.
//! 3. Every error says what to do next.
//!
//! Start reading at [`run`], then [`driver`], then `topic.rs`, the simplest command.

mod api_versions;
pub mod bench;
mod consume;
pub mod driver;
mod error;
mod format;
mod group;
mod group_journal;
mod group_lag;
mod group_reset;
mod held_back;
mod input;
mod log_dump;
mod open_txns;
mod output;
mod produce;
mod session;
mod timer;
mod topic;
mod topic_fork;
mod topic_trash;
mod txn;
mod txn_abort;
mod txn_hanging;

use std::process::ExitCode;

pub use error::CliError;

/// Where the brokers are.
#[derive(Clone, Debug, clap::Args)]
pub struct Connection {
    /// Where to begin: HOST:PORT of one or more brokers, separated by commas
    #[arg(
        long,
        global = true,
        env = "DOHLE_BOOTSTRAP_SERVER",
        default_value = "127.0.0.1:9092",
        value_name = "HOST:PORT"
    )]
    pub bootstrap_server: String,
}

/// The commands.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Write lines from standard input, or a file, as records
    Produce(produce::ProduceArgs),
    /// Read records to standard output
    Consume(consume::ConsumeArgs),
    /// List, describe and delete consumer groups, and reset their offsets
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// List and describe transactions, abort them, and find those that hang
    #[command(subcommand)]
    Txn(txn::TxnCommand),
    /// Look into log files
    #[command(subcommand)]
    Log(log_dump::LogCommand),
    /// Show which requests a broker serves, in which versions
    ApiVersions(api_versions::ApiVersionsArgs),
    /// Measure throughput and latency
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

/// Carries out a command and says on standard error what went wrong.
#[must_use]
pub fn run(connection: &Connection, command: Command) -> ExitCode {
    let done = match command {
        Command::Topic(command) => topic::run(connection, command),
        Command::Produce(args) => produce::run(connection, &args),
        Command::Consume(args) => consume::run(connection, &args),
        Command::Group(command) => group::run(connection, command),
        Command::Txn(command) => txn::run(connection, command),
        Command::Log(command) => log_dump::run(command),
        Command::ApiVersions(args) => api_versions::run(connection, &args),
        Command::Bench(command) => bench::run(connection, command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            output::say(format_args!("dohle: {error}"));
            error.exit_code()
        }
    }
}
