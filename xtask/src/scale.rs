//! `cargo xtask scale NAME`: what a node does with much of something: bytes, partitions, connections. Each prints what
//! it measured; none is part of CI, for they take minutes, and room on the disk.
//!
//! - `bytes`: records in many partitions, killed under write; how soon it serves, and with how much memory
//! - `small`: thousands of small partitions, killed; how soon it serves
//! - `partitions`: a hundred thousand partitions: created, stopped, started, killed
//! - `connections`: ten thousand clients that are connected and silent
//! - `memory`: thousands of clients that together want much more memory than there is
//! - `cold`: producers while others read what was written long ago
//! - `groups`: 10,000 members of groups by both protocols, beside Apache Kafka where `--target both` asks for it
//! - `fork`: a topic of several GB forked, and how much disk that takes
//! - `kill`: kill -9 while many partitions are written to, again and again; whether all that was acknowledged is there

mod cold;
mod fork;
mod groups;
mod memory;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::interop::broker::{Broker, Target};
use crate::interop::process::{self, Process, Result};
use crate::interop::{dohle_binary, install, java};

const USAGE: &str = "usage: cargo xtask scale bytes|small|partitions|connections|memory|cold|fork|groups|kill \
     [--gigabytes N] [--partitions N] [--connections N] [--rounds N] [--rate MB] [--durability relaxed|durable] \
     [--target dohle|kafka|both] [--bin PATH]";
/// For one command of the client.
const PATIENCE: Duration = Duration::from_secs(3600);
/// A topic of more is created in several.
const PARTITIONS_PER_TOPIC: u32 = 1000;

struct Options {
    gigabytes: Option<u64>,
    partitions: Option<u32>,
    connections: Option<usize>,
    rounds: Option<u64>,
    side: Side,
    /// What readers read together, in MB a second.
    rate: u64,
    relaxed: bool,
    bin: Option<PathBuf>,
}

/// Which broker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Dohle,
    Kafka,
    Both,
}

/// Runs one of them.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let (&name, rest) = arguments.split_first().ok_or(USAGE)?;
    let options = parse(rest)?;
    process::end_with_us()?;
    if name == "kill" {
        return kill(options.rounds.unwrap_or(100), options.partitions.unwrap_or(100));
    }
    let binary = dohle_binary(options.bin.as_deref())?;
    if name == "groups" {
        return groups::run(&binary, options.side, options.rounds.unwrap_or(1));
    }
    let target = if options.side == Side::Kafka {
        java::install()?;
        Target::Kafka
    } else {
        Target::Dohle(binary.clone())
    };
    let directory = install::work("scale");
    let begun = Instant::now();
    let overrides: &[&str] = match name {
        "memory" => &[memory::BUDGET],
        "cold" => cold::overrides(&target, options.relaxed)?,
        _ => &[],
    };
    let broker = Broker::start(&target, &directory, overrides)?;
    let mut node = Node { broker, binary: &binary };
    println!("{}: started in {:.2} s", target.name(), begun.elapsed().as_secs_f64());
    let partitions = |default| options.partitions.unwrap_or(default);
    match name {
        "bytes" => bytes(&mut node, options.gigabytes.unwrap_or(35), partitions(1000))?,
        "small" => small(&mut node, partitions(6000))?,
        "partitions" => many(&mut node, partitions(100_000))?,
        "connections" => connections(&node, options.connections.unwrap_or(10_000))?,
        "memory" => memory::run(&node, options.connections.unwrap_or(2000))?,
        "fork" => fork::run(&mut node, options.gigabytes.unwrap_or(4))?,
        "cold" => {
            cold::run(&node, options.gigabytes.unwrap_or(4), options.rate, options.rounds.unwrap_or(3))?
        }
        _ => return Err(USAGE.to_owned()),
    }
    drop(node);
    let _ = fs::remove_dir_all(&directory);
    Ok(())
}

fn parse(words: &[&str]) -> Result<Options> {
    let mut options = Options {
        gigabytes: None,
        partitions: None,
        connections: None,
        rounds: None,
        side: Side::Dohle,
        rate: 100,
        relaxed: false,
        bin: None,
    };
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        let invalid = |_| format!("{word} {value}: not a number\n{USAGE}");
        match (word, value) {
            ("--gigabytes", number) => options.gigabytes = Some(number.parse().map_err(invalid)?),
            ("--partitions", number) => options.partitions = Some(number.parse().map_err(invalid)?),
            ("--connections", number) => options.connections = Some(number.parse().map_err(invalid)?),
            ("--rounds", number) => options.rounds = Some(number.parse().map_err(invalid)?),
            ("--target", "kafka") => options.side = Side::Kafka,
            ("--target", "dohle") => options.side = Side::Dohle,
            ("--target", "both") => options.side = Side::Both,
            ("--rate", number) => options.rate = number.parse().map_err(invalid)?,
            ("--durability", "durable") => options.relaxed = false,
            ("--durability", "relaxed") => options.relaxed = true,
            ("--bin", path) => options.bin = Some(PathBuf::from(path)),
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(options)
}

/// Kills a node while it is written to, so many times. It is the test of the built binary, with more to do.
fn kill(rounds: u64, partitions: u32) -> Result<()> {
    let test = "durable::every_acknowledged_record_is_there_after_kill_once_and_in_order";
    let mut command = Command::new("cargo");
    command.args([
        "test",
        "--release",
        "-p",
        "dohle",
        "--test",
        "broker",
        test,
        "--",
        "--exact",
        "--nocapture",
    ]);
    command.env("DOHLE_CRASH_ROUNDS", rounds.to_string());
    command.env("DOHLE_CRASH_PARTITIONS", partitions.to_string());
    let status = command.status().map_err(|error| format!("cargo test: {error}"))?;
    if status.success() { Ok(()) } else { Err("an acknowledged record is not as it was".to_owned()) }
}

/// Writes so much, kills the node while it writes on, and starts it again.
fn bytes(node: &mut Node<'_>, gigabytes: u64, partitions: u32) -> Result<()> {
    let count = partitions.to_string();
    node.dohle(&["topic", "create", "much", "--partitions", &count])?;
    let load = |records: &str| {
        let words = ["bench", "produce", "--topic", "much", "--size", "1000", "--batch-size", "100000"];
        let more = ["--duration", "3600", "-n", records];
        node.command(&[&words[..], &more[..]].concat())
    };
    let begun = Instant::now();
    process::run(&mut load(&(gigabytes * 1_000_000).to_string()), PATIENCE)?;
    node.tell(&format!("{gigabytes} GB in {partitions} partitions written in {:.0?}", begun.elapsed()))?;
    let writing = Process::spawn(load("100000000").stdout(Stdio::null()).stderr(Stdio::null()))?;
    thread::sleep(Duration::from_secs(3));
    node.broker.kill();
    drop(writing);
    node.resume("killed under write", "much")?;
    // What was not asked for yet is opened or recovered meanwhile.
    thread::sleep(Duration::from_secs(10));
    node.tell("10 s later")
}

/// Writes a record to each of so many partitions, kills the node, and starts it again.
fn small(node: &mut Node<'_>, partitions: u32) -> Result<()> {
    let topics = node.create(partitions)?;
    for topic in &topics {
        let words = ["bench", "produce", "--size", "100", "--batch-size", "1", "--linger", "0"];
        let records = (PARTITIONS_PER_TOPIC * 2).to_string();
        node.dohle(&[&words[..], &["--topic", topic, "-n", &records]].concat())?;
    }
    node.tell(&format!("two records in each of {partitions} partitions, on average"))?;
    node.broker.kill();
    node.resume("killed", "t0")
}

/// Creates so many partitions, writes to a few of them, and stops, starts, kills and starts the node.
fn many(node: &mut Node<'_>, partitions: u32) -> Result<()> {
    let begun = Instant::now();
    let topics = node.create(partitions)?;
    node.tell(&format!(
        "{partitions} partitions in {} topics created in {:.1?}",
        topics.len(),
        begun.elapsed()
    ))?;
    node.dohle(&["bench", "produce", "--topic", "t0", "--size", "100", "-n", "1000000"])?;
    node.tell("a million records written to one topic")?;
    let begun = Instant::now();
    node.broker.stop()?;
    println!("stopped in {:.2} s", begun.elapsed().as_secs_f64());
    node.resume("stopped", "t0")?;
    node.broker.kill();
    node.resume("killed", "t0")
}

/// Connects so many clients, each of which asks for the versions once and is silent from then on.
fn connections(node: &Node<'_>, count: usize) -> Result<()> {
    raise_open_files_limit();
    node.tell("without connections")?;
    // ApiVersions, version 0, correlation id 7, no client id.
    let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let begun = Instant::now();
    let mut streams = Vec::new();
    for number in 0..count {
        let failed = |error| format!("connection {number}: {error}");
        let mut stream = TcpStream::connect(node.broker.bootstrap()).map_err(failed)?;
        stream.write_all(&request).map_err(failed)?;
        let mut size = [0; 4];
        stream.read_exact(&mut size).map_err(failed)?;
        let mut response = vec![0; u32::from_be_bytes(size) as usize];
        stream.read_exact(&mut response).map_err(failed)?;
        streams.push(stream);
    }
    node.tell(&format!("{count} connections, answered within {:.1?} together", begun.elapsed()))
}

/// Asks for as many connections as there may be; where they are not granted, connecting says so.
fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The node, and the client that talks to it.
struct Node<'a> {
    broker: Broker,
    binary: &'a Path,
}

impl Node<'_> {
    /// Creates so many partitions; the names of their topics.
    fn create(&self, partitions: u32) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for number in 0..partitions.div_ceil(PARTITIONS_PER_TOPIC) {
            let count = (partitions - number * PARTITIONS_PER_TOPIC).min(PARTITIONS_PER_TOPIC);
            let name = format!("t{number}");
            self.dohle(&["topic", "create", &name, "--partitions", &count.to_string()])?;
            names.push(name);
        }
        Ok(names)
    }

    /// Starts the broker again, and tells when it listens and when it has acknowledged a record.
    fn resume(&mut self, after: &str, topic: &str) -> Result<()> {
        let begun = Instant::now();
        let listens = self.broker.resume()?;
        self.dohle(&["bench", "produce", "--topic", topic, "--size", "100", "-n", "1"])?;
        self.tell(&format!(
            "{after}: listens after {:.3} s, has acknowledged a record after {:.3} s",
            listens.as_secs_f64(),
            begun.elapsed().as_secs_f64()
        ))
    }

    /// Prints what happened, and what memory the broker has.
    fn tell(&self, what: &str) -> Result<()> {
        let (now, most) = (self.broker.memory("VmRSS")?, self.broker.memory("VmHWM")?);
        println!("{what}; memory {now:.0} MB, at the most {most:.0} MB");
        Ok(())
    }

    fn dohle(&self, words: &[&str]) -> Result<String> {
        process::run(&mut self.command(words), PATIENCE)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.binary);
        command.args(words).args(["--bootstrap-server", &self.broker.bootstrap()]);
        command
    }
}
