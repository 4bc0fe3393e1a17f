//! A data directory goes from Apache Kafka to Dohle and back: stop the one, start the other on the same files.
//!
//! Apache Kafka fills it by `interop/java/Directory.java`: every codec, transactions committed, aborted and left open,
//! compaction, deleted records and topics, groups of every protocol, configs, quotas and credentials. What clients see
//! of it (ids, configs, each record by both isolation levels, offsets, also by time, and groups) is one text for each
//! broker, and the texts must be the same.

use std::path::Path;
use std::time::Duration;

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
    let mut kafka = None;
    let filled = report.step(NAME, "Apache Kafka fills a directory", || {
        let mut broker = Broker::start(&Target::Kafka, &install::work("directory"), OVERRIDES)?;
        directory(&broker, "fill")?;
        let seen = directory(&broker, "show")?;
        broker.stop()?;
        kafka = Some((broker, seen));
        Ok(())
    });
    let Some((mut broker, by_kafka)) = kafka.filter(|_| filled) else { return };
    let mut by_dohle = None;
    let served = report.step(NAME, "Dohle serves it record by record as it was", || {
        broker.change(dohle, DOHLE_OVERRIDES);
        broker.resume()?;
        same(&by_kafka, &directory(&broker, "show")?)
    });
    let written = served
        && report.step(NAME, "Dohle writes more to it", || {
            directory(&broker, "more")?;
            by_dohle = Some(directory(&broker, "show")?);
            broker.stop()
        });
    if !written {
        return;
    }
    report.step(NAME, "kafka-dump-log finds no fault in any file", || tools::dump_all(&broker.data()));
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
