//! Apache Kafka's tools where there are transactions: producing in them, reading what they have committed, and looking at their files.

use std::collections::BTreeSet;
use std::path::Path;

use super::broker::Broker;
use super::client::Client;
use super::process::Result;
use super::report::{self, Report};
use super::tools::{self, Kit, says};

/// How many records the performance tool produces, each second this many, in transactions of so many ms.
const PERF_RECORDS: &str = "10000";
const PERF_RATE: &str = "10000";
const PERF_DURATION_MS: &str = "100";
/// How many steps are taken at the same time.
const AT_ONCE: usize = 2;

type Step<'a> = (&'static str, &'static str, &'a (dyn Fn() -> Result<()> + Sync));

/// Produces in transactions, and reads `topic`, in which so many records were committed once and some were aborted before.
pub(crate) fn run(report: &Report, broker: &Broker, java: &Client, topic: &str, committed: u64) {
    let kit = Kit { bootstrap: broker.bootstrap(), java };
    let perf = || produce(&kit);
    let console = || consume(&kit, topic, committed);
    let steps: [Step<'_>; 2] = [
        ("kafka-producer-perf-test", "in transactions of a duration; read_committed reads all", &perf),
        ("kafka-console-consumer", "read_committed reads no aborted record, read_uncommitted does", &console),
    ];
    report::each(AT_ONCE, steps.into_iter(), |(tool, what, act)| {
        report.step(tool, what, act);
    });
}

fn produce(kit: &Kit<'_>) -> Result<()> {
    kit.tool("kafka-topics", "--create --topic perf-transactions --partitions 2")?;
    let words = format!(
        "--topic perf-transactions --num-records {PERF_RECORDS} --record-size 100 --throughput {PERF_RATE} \
         --transactional-id perf --transaction-duration-ms {PERF_DURATION_MS}"
    );
    says(&kit.tool("kafka-producer-perf-test", &words)?, &[&format!("{PERF_RECORDS} records sent")])?;
    let read = values(kit, "perf-transactions", "read_committed", PERF_RECORDS)?;
    if read.len().to_string() == PERF_RECORDS {
        Ok(())
    } else {
        Err(format!("{} records were read, not {PERF_RECORDS}", read.len()))
    }
}

fn consume(kit: &Kit<'_>, topic: &str, committed: u64) -> Result<()> {
    let read = values(kit, topic, "read_committed", &committed.to_string())?;
    let different: BTreeSet<&String> = read.iter().collect();
    if different.len() as u64 != committed {
        return Err(format!("{} different records were read, {committed} were committed", different.len()));
    }
    // An aborted record was copied again: there is one more to read.
    let more = (committed + 1).to_string();
    let read = values(kit, topic, "read_uncommitted", &more)?;
    if read.len().to_string() == more {
        Ok(())
    } else {
        Err(format!("only {} records were read", read.len()))
    }
}

/// The values of so many records, from the beginning.
fn values(kit: &Kit<'_>, topic: &str, isolation: &str, count: &str) -> Result<Vec<String>> {
    let words =
        format!("--topic {topic} --from-beginning --max-messages {count} --isolation-level {isolation}");
    Ok(kit.tool("kafka-console-consumer", &words)?.lines().map(str::to_owned).collect())
}

/// Lets `kafka-dump-log` read what the broker, which has stopped by now, has left of transactions on the disk.
pub(crate) fn dump(report: &Report, data: &Path, topic: &str) {
    let files = |prefix: &str, extensions: &[&str]| tools::files(data, prefix, extensions);
    report.step("kafka-dump-log", "control batches of transactions", || {
        let text = tools::dump_log(&["--deep-iteration"], &files(&format!("{topic}-"), &["log"])?)?;
        says(&text, &["isTransactional: true isControl: true", "endTxnMarker: COMMIT", "endTxnMarker: ABORT"])
    });
    report.step("kafka-dump-log", "the index of aborted transactions", || {
        let text = tools::dump_log(&[], &files(&format!("{topic}-"), &["txnindex"])?)?;
        says(&text, &["producerId: ", "firstOffset: ", "lastOffset: ", "lastStableOffset: "])
    });
    report.step("kafka-dump-log", "the state of transactions", || {
        let logs = files("__transaction_state-", &["log"])?;
        let text = tools::dump_log(&["--transaction-log-decoder"], &logs)?;
        // Prepared and complete, to be committed and aborted: Kafka's numbers.
        let states = [2, 3, 4, 5].map(|state| format!("\"transactionStatus\":{state},"));
        says(&text, &["\"transactionalId\":\"copier-java\""])?;
        says(&text, &states.each_ref().map(String::as_str))
    });
    report.step("kafka-dump-log", "every file of a broker of transactions", || tools::dump_all(data));
}
