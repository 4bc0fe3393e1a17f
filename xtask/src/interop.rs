//! Foreign clients against a real broker: `cargo xtask interop`, and what else needs Apache Kafka: `oracle`, `tool`, `pipe`.
//! The client programs and what they show are in `interop/` (see its README).

mod batches;
pub(crate) mod broker;
mod client;
mod directory;
mod fork;
mod group_lag;
pub(crate) mod install;
pub(crate) mod java;
mod journal;
mod live_reset;
mod metrics;
pub(crate) mod oracle;
mod pipe;
pub(crate) mod process;
mod reading;
mod report;
mod scenario;
mod tools;
mod transaction_tools;
mod transactions;
mod transcripts;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use broker::{Broker, Target};
use client::{CLIENTS, Client};
use process::Result;
use report::Report;

/// What `--only` names besides the clients.
const OTHERS: [&str; 7] =
    ["tools", "transactions", "kafka-directory", "group-journal", "fork", "transcripts", "metrics"];
/// Those that have a broker of their own.
const ALONE: [&str; 6] =
    ["transactions", "kafka-directory", "group-journal", "fork", "transcripts", "metrics"];
const USAGE: &str = "usage: cargo xtask interop [--target dohle|kafka] [--bin PATH] [--only NAME]...";
/// What both brokers are told, so that the tests need not wait, and automatically created topics have as many partitions as the others.
const OVERRIDES: &[&str] = &[
    "group.initial.rebalance.delay.ms=0",
    "group.consumer.heartbeat.interval.ms=500",
    "group.consumer.min.heartbeat.interval.ms=500",
    "num.partitions=4",
];

/// Runs the suite; an error if anything failed.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let options = Options::parse(arguments)?;
    process::end_with_us()?;
    let target = options.target()?;
    let report = Report::default();
    let required = std::env::var("DOHLE_INTEROP").is_ok_and(|mode| mode == "require");
    let mut clients: Vec<&Client> = Vec::new();
    // Apache Kafka and its tools come with the Java client; all but the metrics are held against them.
    let needed = |client: &&Client| {
        let others = OTHERS.iter().any(|&name| name != "metrics" && options.includes(name));
        let transactional = client.transactions && options.includes("transactions");
        options.includes(client.name) || transactional || client.tag == "java" && others
    };
    for client in CLIENTS.iter().filter(needed) {
        match client.install() {
            Ok(()) => clients.push(client),
            Err(error) if required => drop(report.step(client.name, "install", || Err(error))),
            Err(error) => report.skip(client.name, &error),
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let epoch = u64::try_from(now.as_millis()).unwrap_or_default();
    let has_java = clients.iter().any(|client| client.tag == "java");
    if has_java && options.includes("kafka-directory") && matches!(target, Target::Dohle(_)) {
        directory::run(&report, &target);
    }
    let java = clients.iter().copied().find(|client| client.tag == "java");
    if let Some(java) = java.filter(|_| matches!(target, Target::Dohle(_))) {
        if options.includes("group-journal") {
            journal::run(&report, &target, java);
        }
        if options.includes("fork") {
            fork::run(&report, &target, java);
        }
    }
    if options.includes("metrics") {
        metrics::run(&report, &target);
    }
    if has_java && options.includes("transcripts") {
        transcripts::run(&report, &target);
    }
    let included = |client: &Client| options.includes("transactions") || options.includes(client.name);
    let transactional = clients.iter().copied().filter(|client| client.transactions && included(client));
    let transactional: Vec<&Client> = transactional.collect();
    if !transactional.is_empty() {
        let tools = java.filter(|_| options.includes("transactions"));
        transactions::run(&report, &target, &transactional, tools, epoch);
    }
    if !options.only.is_empty() && options.only.iter().all(|name| ALONE.contains(name)) {
        return report.close();
    }
    let mut broker = Broker::start(&target, &install::work("broker"), OVERRIDES)?;
    let java = java.filter(|_| options.includes("tools"));
    clients.retain(|client| options.includes(client.name) && !client.only_transactions);
    scenario::run(&report, &mut broker, &clients, epoch);
    live_reset::run(&report, &broker, &target, &clients);
    if let Some(java) = java {
        group_lag::run(&report, &broker, &target, java);
        tools::run(&report, &broker, java);
    }
    let stopped = report.step("broker", "stop", || broker.stop());
    if stopped && java.is_some() {
        tools::dump(&report, &broker.data());
    }
    report.close()
}

/// Pipes a real file through the broker while it is killed.
pub(crate) fn pipe(arguments: &[&str]) -> Result<()> {
    let options = Options::parse(arguments)?;
    process::end_with_us()?;
    pipe::run(&options.target()?)
}

/// The command line.
#[derive(Default)]
struct Options<'a> {
    kafka: bool,
    bin: Option<&'a Path>,
    only: Vec<&'a str>,
}

impl<'a> Options<'a> {
    fn parse(arguments: &[&'a str]) -> Result<Self> {
        let mut options = Self::default();
        let mut words = arguments.iter().copied();
        while let Some(word) = words.next() {
            let value = words.next().ok_or(USAGE)?;
            match (word, value) {
                ("--target", "kafka") => options.kafka = true,
                ("--target", "dohle") => options.kafka = false,
                ("--bin", path) => options.bin = Some(Path::new(path)),
                ("--only", name)
                    if OTHERS.contains(&name) || CLIENTS.iter().any(|client| client.name == name) =>
                {
                    options.only.push(name);
                }
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(options)
    }

    fn includes(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.contains(&name)
    }

    /// The broker to test, installed or built.
    fn target(&self) -> Result<Target> {
        if self.kafka {
            java::install()?;
            return Ok(Target::Kafka);
        }
        dohle_binary(self.bin).map(Target::Dohle)
    }
}

/// The binary at `path`, or the one that is built for release.
pub(crate) fn dohle_binary(path: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = path {
        return path.canonicalize().map_err(|error| format!("{}: {error}", path.display()));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--package", "dohle"]).current_dir(&root);
    install::step(&mut command, Duration::from_secs(1800))?;
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(folder.join("release/dohle"))
}
