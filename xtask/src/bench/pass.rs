//! One pass: a broker is started on an empty directory, warmed up, put under each load, and stopped.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Options;
use super::loads::Load;
use crate::interop::broker::{Broker, Target};
use crate::interop::install;
use crate::interop::process::{self, BROKER_CORE, CLIENT_CORE, Result, pin};

/// When a record is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// When the operating system has it: Apache Kafka's default, and `dohle.durability=relaxed`.
    Relaxed,
    /// When it is on the disk: Dohle's default, and `flush.messages=1`.
    Durable,
}

/// The results of a pass by load and measure; what is the broker's own stands under the load `broker`.
pub(crate) type Measured = BTreeMap<(&'static str, &'static str), f64>;

const WARM_UP: Duration = Duration::from_secs(30);
/// A load, with what it takes to connect and to drain.
const PATIENCE: Duration = Duration::from_secs(600);

/// Takes all loads in their order.
pub(crate) fn run(target: &Target, binary: &Path, loads: &[&Load], options: &Options) -> Result<Measured> {
    let directory = install::work("bench");
    let overrides = match (target, options.durability) {
        (Target::Dohle(_), Durability::Relaxed) => vec!["dohle.durability=relaxed"],
        (Target::Dohle(_), Durability::Durable) | (Target::Kafka, _) => Vec::new(),
    };
    pin(BROKER_CORE)?;
    let begun = Instant::now();
    let broker = Broker::start(target, &directory, &overrides)?;
    pin(CLIENT_CORE)?;
    let client = Client { binary, broker: &broker, options };
    client.dohle(&["topic", "create", "first"])?;
    client.bench("first", &["produce", "-n", "1"])?;
    let mut measured = Measured::new();
    if matches!(target, Target::Dohle(_)) {
        // Kafka's directory was formatted in that time, by a JVM of its own.
        measured.insert(("broker", "start"), begun.elapsed().as_secs_f64() * 1000.0);
    }
    measured.insert(("broker", "idle"), broker.memory("VmRSS")?);
    client.warm_up(target)?;
    for load in loads {
        let figures = client.load(load, target)?;
        for figure in load.figures {
            let value = figures.get(figure.measure);
            let value = value.ok_or_else(|| format!("{}: no {} in the result", load.name, figure.measure))?;
            println!("  {}: {} {value}", load.name, figure.title);
            measured.insert((load.name, figure.title), *value);
        }
    }
    measured.insert(("broker", "loaded"), broker.memory("VmHWM")?);
    drop(broker);
    let _ = fs::remove_dir_all(&directory);
    Ok(measured)
}

/// The client's side of a pass.
struct Client<'a> {
    binary: &'a Path,
    broker: &'a Broker,
    options: &'a Options<'a>,
}

impl Client<'_> {
    /// A JVM compiles what it has run often: half a minute and a million requests. Dohle gets a moment.
    fn warm_up(&self, target: &Target) -> Result<()> {
        self.dohle(&["topic", "create", "warm", "--partitions", "12"])?;
        let (requests, at_least) = match target {
            Target::Kafka => (self.options.warm_up_requests, WARM_UP),
            Target::Dohle(_) => (10_000, Duration::ZERO),
        };
        let (begun, mut done) = (Instant::now(), 0);
        while done < requests || (requests > 0 && begun.elapsed() < at_least) {
            let words = ["produce", "--batch-size", "1", "--linger", "0", "-c", "20", "-n", "10000"];
            self.bench("warm", &words)?;
            self.bench("warm", &["consume", "-n", "100000"])?;
            done += 10_000;
        }
        Ok(())
    }

    /// Puts the broker under a load; its figures by name.
    fn load(&self, load: &Load, target: &Target) -> Result<BTreeMap<String, f64>> {
        let seconds = self.options.seconds.to_string();
        if let Some(written) = load.reads {
            let figures = self.bench(written, load.words)?;
            return Ok(figures);
        }
        let partitions = load.partitions.to_string();
        let mut create = vec!["topic", "create", load.name, "--partitions", &partitions];
        if matches!(target, Target::Kafka) && self.options.durability == Durability::Durable {
            create.extend(["--config", "flush.messages=1"]);
        }
        self.dohle(&create)?;
        let words = [load.words, &["--duration", &seconds]].concat();
        let written = self.bench(load.name, &words)?;
        let read = self.bench(load.name, &["consume"])?;
        let count = |figures: &BTreeMap<String, f64>| figures.get("records").copied().unwrap_or_default();
        // The client's own first records are there too.
        if count(&written) < 1.0 || count(&read) < count(&written) {
            return Err(format!(
                "{}: {} records were acknowledged, {} are there; the run is void",
                load.name,
                count(&written),
                count(&read)
            ));
        }
        Ok(written)
    }

    fn bench(&self, topic: &str, words: &[&str]) -> Result<BTreeMap<String, f64>> {
        let pid = self.broker.pid()?.to_string();
        let printed =
            self.dohle(&[&["bench"], words, &["--topic", topic, "--server-pid", &pid, "--json"]].concat())?;
        let mut figures = BTreeMap::new();
        for line in printed.lines() {
            let row: Value = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
            let name = row.get("measure").and_then(Value::as_str);
            if let (Some(name), Some(value)) = (name, row.get("value").and_then(Value::as_f64)) {
                figures.insert(name.to_owned(), value);
            }
        }
        Ok(figures)
    }

    fn dohle(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(self.binary);
        command.args(words).args(["--bootstrap-server", &self.broker.bootstrap()]);
        process::run(&mut command, PATIENCE)
    }
}
