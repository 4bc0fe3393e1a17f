//! A data directory goes from Apache Kafka to Dohle and back: stop the one, start the other on the same files.
//!
//! Apache Kafka fills it by `interop/java/Directory.java`: every codec, transactions committed, aborted and left open,
//! compaction, deleted records and topics, groups of every protocol, configs, quotas and credentials. What clients see
//! of it (ids, configs, each record by both isolation levels, offsets, also by time, and groups) is one text for each
//! broker, and the texts must be the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::broker::{Broker, Target};
use super::process::{self, Result};
use super::report::Report;
use super::{install, java, tools};

const NAME: &str = "kafka-directory";
/// So that both brokers write snapshots of the metadata, and that compaction and internal topics take little time.
const OVERRIDES: &[&str] = &[
    "group.initial.rebalance.delay.ms=0",
    "log.cleaner.backoff.ms=300",
    "metadata.log.max.record.bytes.between.snapshots=4000",
    "offsets.topic.num.partitions=4",
    "transaction.state.log.num.partitions=4",
    "share.coordinator.state.topic.num.partitions=4",
];
/// Dohle writes a snapshot after each change, so that the last one has all of them.
const DOHLE_OVERRIDES: &[&str] =
    &["group.initial.rebalance.delay.ms=0", "metadata.log.max.record.bytes.between.snapshots=1"];
const PATIENCE: Duration = Duration::from_secs(90);

/// Takes the directory from Apache Kafka to `dohle` and back.
pub(crate) fn run(report: &Report, dohle: &Target) {
    let root = install::work("directory");
    let log_dirs = [root.join("data"), root.join("data-2")];
    let both = format!("log.dirs={},{}", log_dirs[0].display(), log_dirs[1].display());
    let mut kafka = None;
    let filled = report.step(NAME, "Apache Kafka fills a directory", || {
        let mut broker = Broker::start(&Target::Kafka, &root, &[OVERRIDES, &[&*both]].concat())?;
        directory(&broker, "fill")?;
        let seen = directory(&broker, "show")?;
        broker.stop()?;
        kafka = Some((broker, seen));
        Ok(())
    });
    let Some((mut broker, by_kafka)) = kafka.filter(|_| filled) else { return };
    let mut by_dohle = None;
    let served = report.step(NAME, "Dohle serves it record by record as it was", || {
        broker.change(dohle, &[DOHLE_OVERRIDES, &[&*both]].concat());
        broker.resume()?;
        same(&by_kafka, &directory(&broker, "show")?)
    });
    let written = served
        && report.step(NAME, "Dohle writes more to it", || {
            directory(&broker, "more")?;
            by_dohle = Some(directory(&broker, "show")?);
            Ok(())
        });
    let moved = written
        && report.step(NAME, "kafka-reassign-partitions moves partitions to the other log dir", || {
            move_partitions(&broker, &root, &log_dirs)?;
            same(by_dohle.as_deref().unwrap_or_default(), &directory(&broker, "show")?)?;
            broker.stop()
        });
    if !moved {
        return;
    }
    report.step(NAME, "kafka-dump-log finds no fault in any file", || {
        log_dirs.iter().try_for_each(|log_dir| tools::dump_all(log_dir))
    });
    report.step(NAME, "kafka-dump-log reads the snapshots of the metadata", || snapshots(&broker.data()));
    report.step(NAME, "Apache Kafka serves it again", || {
        broker.change(&Target::Kafka, &[]);
        broker.resume()?;
        let seen = directory(&broker, "show")?;
        broker.stop()?;
        // Its coordinator aborts the transaction that was left open.
        let stays = |text: &str| -> String {
            text.lines().filter(|line| !line.contains("unfinished-0")).flat_map(|line| [line, "\n"]).collect()
        };
        same(&stays(&by_dohle.take().unwrap_or_default()), &stays(&seen))
    });
}

/// Has all of the users' partitions in the first log dir moved to the second one by Apache Kafka's tool, and to nowhere
/// while that is cordoned.
fn move_partitions(broker: &Broker, root: &Path, log_dirs: &[PathBuf; 2]) -> Result<()> {
    let tool = |name: &str, words: &[&str]| -> Result<String> {
        let mut command = java::tool(name)?;
        command.args(["--bootstrap-server", &broker.bootstrap()]).args(words);
        process::run(&mut command, PATIENCE).map_err(|error| format!("{error}\n{}", broker.said()))
    };
    let target = log_dirs[1].display().to_string();
    let names = partitions(&log_dirs[0])?;
    let moves: Vec<String> = names
        .iter()
        .filter_map(|name| name.rsplit_once('-'))
        .map(|(topic, index)| {
            format!(r#"{{"topic":"{topic}","partition":{index},"replicas":[1],"log_dirs":["{target}"]}}"#)
        })
        .collect();
    let plan = root.join("moves.json");
    let text = format!(r#"{{"version":1,"partitions":[{}]}}"#, moves.join(","));
    fs::write(&plan, text).map_err(|error| format!("cannot write {}: {error}", plan.display()))?;
    let plan = plan.display().to_string();
    let cordon = |change: &str, config: &str| {
        tool("kafka-configs", &["--alter", "--entity-type", "brokers", "--entity-name", "1", change, config])
    };
    cordon("--add-config", "cordoned.log.dirs=*")?;
    let execute = ["--execute", "--timeout", "3000", "--reassignment-json-file", &plan];
    match tool("kafka-reassign-partitions", &execute) {
        Err(said) => tools::says(&said, &["Replica assignment is invalid"])?,
        Ok(said) => return Err(format!("partitions move to a cordoned log dir: {said}")),
    }
    cordon("--delete-config", "cordoned.log.dirs")?;
    let execute = ["--execute", "--reassignment-json-file", &plan];
    tools::says(
        &tool("kafka-reassign-partitions", &execute)?,
        &["Successfully started moving log directory"],
    )?;
    let verify = ["--verify", "--reassignment-json-file", &plan];
    let begun = Instant::now();
    loop {
        let said = tool("kafka-reassign-partitions", &verify)?;
        if !said.contains("is still in progress") && !said.contains("is not found") {
            tools::says(&said, &["completed successfully", "is complete"])?;
            break;
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("the partitions have not moved: {said}"));
        }
    }
    let left = partitions(&log_dirs[0])?;
    if left.is_empty() { Ok(()) } else { Err(format!("still where they were: {}", left.join(" "))) }
}

/// The users' partitions in a log dir.
fn partitions(log_dir: &Path) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(log_dir).map_err(|error| format!("cannot list {}: {error}", log_dir.display()))?;
    let names = entries.flatten().filter(|entry| entry.path().is_dir());
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    // What is set aside or removed ends in a word.
    let is_partition =
        |name: &String| !name.starts_with("__") && name.ends_with(|last: char| last.is_ascii_digit());
    Ok(names.filter(is_partition).collect())
}

fn snapshots(data: &Path) -> Result<()> {
    let snapshots = tools::files(data, "__cluster_metadata-", &["checkpoint"])?;
    let text = tools::dump_log(&["--cluster-metadata-decoder"], &snapshots)?;
    let kinds = ["SnapshotHeader", "SnapshotFooter", "TOPIC_RECORD", "CLIENT_QUOTA_RECORD", "\"after\""];
    tools::says(&text, &kinds)
}

/// One of the things that the Java program does; what it prints.
fn directory(broker: &Broker, what: &str) -> Result<String> {
    let mut command = java::command("Directory");
    process::run(command.args([what, &broker.bootstrap()]), PATIENCE)
        .map_err(|error| format!("{error}\n{}", broker.said()))
}

fn same(before: &str, after: &str) -> Result<()> {
    if before == after {
        return Ok(());
    }
    let mut lines = before.lines().zip(after.lines());
    let (before_line, after_line) = lines.find(|(before, after)| before != after).unwrap_or_default();
    let (before, after) = (before.lines().count(), after.lines().count());
    Err(format!(
        "{before} lines became {after}; the first that differs was\n{before_line}\nand is\n{after_line}"
    ))
}
