//! `dohle topic fork`, seen by Apache Kafka's Java client: a fork has exactly the records of its source up to where it
//! leaves it, each goes on alone, and `kafka-dump-log` finds no fault in the files of either.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::broker::{Broker, Target};
use super::client::{Client, Protocol};
use super::process::{self, Result};
use super::report::Report;
use super::tools::{dump_log, files};
use super::{OVERRIDES, install};

const NAME: &str = "fork";
const PATIENCE: Duration = Duration::from_secs(45);
/// How long nothing more must come after all has come.
const QUIET: Duration = Duration::from_millis(500);
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// Records of each codec.
const EACH: usize = 200;
/// Records that are written to each topic after the forks were made.
const MORE: usize = 100;
const SOURCE: &str = "orders";
/// A fork of all, and one that leaves the source earlier.
const FORKS: [&str; 2] = ["orders.all", "orders.early"];
/// Where that leaves it.
const EARLY: &str = "60";

/// The records of a topic, as the client prints them, by partition and offset.
type Records = BTreeMap<(i32, i64), String>;

/// Forks a topic of the Java client.
pub(crate) fn run(report: &Report, target: &Target, java: &Client) {
    let mut broker = None;
    let started = report.step(NAME, "start", || {
        broker = Some(Broker::start(target, &install::work("fork"), OVERRIDES)?);
        Ok(())
    });
    let (Some(mut broker), Target::Dohle(dohle), true) = (broker, target, started) else { return };
    let topics = [SOURCE, FORKS[0], FORKS[1]];
    let mut known: BTreeMap<&str, Records> = BTreeMap::new();
    report.step(NAME, "the Java client finds in a fork what its source has up to there, and no more", || {
        let bootstrap = broker.bootstrap();
        java.run(&["create", &bootstrap, SOURCE, "4"])?;
        produce(java, &bootstrap, SOURCE, 0, EACH, &CODECS)?;
        let source = read(java, &bootstrap, SOURCE, EACH * CODECS.len())?;
        for (name, at) in [(FORKS[0], "end"), (FORKS[1], EARLY)] {
            let ends = fork(dohle, &bootstrap, name, at)?;
            let is_below =
                |partition: i32, offset: i64| ends.get(&partition).is_some_and(|&end| offset < end);
            let expected = source.iter().filter(|((partition, offset), _)| is_below(*partition, *offset));
            let expected: Records = expected.map(|(place, record)| (*place, record.clone())).collect();
            let is_enough = if at == "end" {
                expected.len() == source.len()
            } else {
                !expected.is_empty() && expected.len() < source.len()
            };
            same(name, &expected, &read(java, &bootstrap, name, expected.len())?)?;
            if !is_enough {
                return Err(format!("{name} has {} records of {}", expected.len(), source.len()));
            }
            known.insert(name, expected);
        }
        known.insert(SOURCE, source);
        Ok(())
    });
    report.step(NAME, "it writes to source and forks, and each has its own, also after a kill", || {
        for (place, topic) in topics.iter().enumerate() {
            produce(java, &broker.bootstrap(), topic, (1 + place) * 100_000, MORE, &["lz4"])?;
        }
        let mut after: BTreeMap<&str, Records> = BTreeMap::new();
        for (place, topic) in topics.iter().enumerate() {
            let before = known.get(topic).ok_or("the first step has failed")?;
            let all = read(java, &broker.bootstrap(), topic, before.len() + MORE)?;
            let (old, new): (Records, Records) =
                all.clone().into_iter().partition(|(at, _)| before.contains_key(at));
            same(topic, before, &old)?;
            let own = format!("value-{}", 1 + place);
            match new.values().find(|record| !record.contains(&own)) {
                Some(record) => return Err(format!("{topic} has a record of another topic: {record}")),
                None => after.insert(topic, all),
            };
        }
        broker.kill();
        broker.resume()?;
        for (topic, records) in &after {
            same(topic, records, &read(java, &broker.bootstrap(), topic, records.len())?)?;
        }
        Ok(())
    });
    report.step(NAME, "stop", || broker.stop());
    report.step(NAME, "kafka-dump-log finds no fault in the files that they share and in their own", || {
        for topic in topics {
            let all =
                files(&broker.data(), &format!("{topic}-"), &["log", "index", "timeindex", "snapshot"])?;
            dump_log(&["--deep-iteration"], &all)?;
        }
        let first = broker.data().join(format!("{SOURCE}-0/{:020}.log", 0));
        let names = first.metadata().map_err(|error| format!("{}: {error}", first.display()))?.nlink();
        if names == 2 { Ok(()) } else { Err(format!("{} has {names} names, not 2", first.display())) }
    });
}

fn produce(
    java: &Client,
    bootstrap: &str,
    topic: &str,
    first: usize,
    each: usize,
    codecs: &[&str],
) -> Result<()> {
    let (first, each) = (first.to_string(), each.to_string());
    java.run(&[&["produce", bootstrap, topic, &first, &each, "1795341600000"], codecs].concat()).map(drop)
}

/// Forks the source; where the fork leaves each partition.
fn fork(dohle: &Path, bootstrap: &str, name: &str, at: &str) -> Result<BTreeMap<i32, i64>> {
    let mut command = Command::new(dohle);
    command.args(["topic", "fork", SOURCE, name, "--at", at, "--bootstrap-server", bootstrap]);
    let printed = process::run(&mut command, PATIENCE)?;
    let end = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        Some((words.next()?.parse().ok()?, words.nth(1)?.parse().ok()?))
    };
    let ends: Option<BTreeMap<i32, i64>> = printed.lines().skip(1).map(end).collect();
    ends.filter(|ends| ends.len() == 4).ok_or_else(|| format!("not four partitions:\n{printed}"))
}

/// Reads a topic from its beginning as a new group, whose member must get exactly so many records.
fn read(java: &Client, bootstrap: &str, topic: &str, count: usize) -> Result<Records> {
    let begun = Instant::now();
    let group = format!("{topic}-{}", unique());
    let mut member = java.member(bootstrap, topic, &group, Protocol::Consumer, None)?;
    let mut records = Records::new();
    let mut take = |line: &str| {
        let mut fields = line.split('\t');
        let place = fields.next().zip(fields.next());
        let place =
            place.and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
        let place = place.ok_or_else(|| format!("not a record: {line}"))?;
        match records.insert(place, line.to_owned()) {
            Some(_) => Err(format!("read twice: {line}")),
            None => Ok(()),
        }
    };
    let mut heard = 0;
    while heard < count && begun.elapsed() < PATIENCE {
        member.listen(Duration::from_millis(50), &mut |line| {
            heard += 1;
            take(line)
        })?;
    }
    member.listen(QUIET, &mut take)?;
    member.stop(&mut take)?;
    if records.len() == count {
        return Ok(records);
    }
    Err(format!("{topic}: {} records came, not {count}", records.len()))
}

/// A name that no group had before.
fn unique() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_nanos()
}

fn same(topic: &str, expected: &Records, found: &Records) -> Result<()> {
    let other = expected.iter().find(|&(place, record)| found.get(place) != Some(record));
    match other {
        Some((place, record)) => {
            Err(format!("{topic} has at {place:?} {:?}, not {record:?}", found.get(place)))
        }
        None if found.len() == expected.len() => Ok(()),
        None => Err(format!("{topic} has {} records, not {}", found.len(), expected.len())),
    }
}
