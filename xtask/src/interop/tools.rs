//! Apache Kafka's own tools, each asked for what people use it for. Every step makes its own topic, so that one that fails does not fail the next.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::broker::Broker;
use super::client::{Client, Protocol};
use super::install;
use super::java;
use super::process::{self, Result};
use super::report::{self, Report};

/// What the broker must answer to `kafka-broker-api-versions`: the ranges of Apache Kafka 4.3.1.
const API_VERSIONS: &str = "Produce(0): 0 to 13
Fetch(1): 4 to 18
ListOffsets(2): 1 to 11
Metadata(3): 0 to 13
OffsetCommit(8): 2 to 10
OffsetFetch(9): 1 to 10
FindCoordinator(10): 0 to 6
JoinGroup(11): 0 to 9
Heartbeat(12): 0 to 4
LeaveGroup(13): 0 to 5
SyncGroup(14): 0 to 5
DescribeGroups(15): 0 to 6
ListGroups(16): 0 to 5
ApiVersions(18): 0 to 4
CreateTopics(19): 2 to 7
DeleteTopics(20): 1 to 6
DeleteRecords(21): 0 to 2
InitProducerId(22): 0 to 5
OffsetForLeaderEpoch(23): 2 to 4
DescribeConfigs(32): 1 to 4
AlterConfigs(33): 0 to 2
AlterReplicaLogDirs(34): 1 to 2
DescribeLogDirs(35): 1 to 5
CreatePartitions(37): 0 to 3
DeleteGroups(42): 0 to 2
IncrementalAlterConfigs(44): 0 to 1
AlterPartitionReassignments(45): 0 to 1
ListPartitionReassignments(46): 0
OffsetDelete(47): 0
UpdateFeatures(57): 0 to 2
DescribeCluster(60): 0 to 2
DescribeProducers(61): 0
ConsumerGroupHeartbeat(68): 0 to 1
ConsumerGroupDescribe(69): 0 to 1
ListConfigResources(74): 0 to 1
DescribeTopicPartitions(75): 0";
/// How many records the performance tools move.
const PERF_RECORDS: &str = "100000";
/// How many steps are taken at the same time.
const AT_ONCE: usize = 2;

/// The tools and the broker that they ask.
pub(crate) struct Kit<'a> {
    pub(crate) bootstrap: String,
    pub(crate) java: &'a Client,
}

type Step = (&'static str, &'static str, fn(&Kit<'_>) -> Result<()>);

const STEPS: &[Step] = &[
    ("kafka-*-perf-test", "produce and consume 100000 records", perf),
    ("kafka-*-perf-test", "acks 0 and 1; records of 3 MB, and one that is too large", sizes),
    ("kafka-topics", "create, list, describe, add partitions, delete", topics),
    ("kafka-configs", "describe, alter and delete configs of topics and brokers", configs),
    ("kafka-console-*", "records with keys and headers, zstd; a group goes on", console),
    ("kafka-consumer-groups", "a live group: list, describe, and what it refuses", live_group),
    ("kafka-consumer-groups", "a live group of the consumer protocol, and its configs", live_consumer_group),
    ("kafka-consumer-groups", "reset offsets, delete offsets, delete the group", reset_offsets),
    ("kafka-delete-records", "delete records; kafka-get-offsets by time", delete_records),
    ("kafka-broker-api-versions", "the ranges of Apache Kafka 4.3.1", api_versions),
    ("kafka-features", "levels that are served, and what is no way to another", features),
    ("kafka-log-dirs", "sizes; kafka-cluster id; kafka-transactions producers", describe_broker),
];

/// Takes every step against the running broker.
pub(crate) fn run(report: &Report, broker: &Broker, java: &Client) {
    let kit = Kit { bootstrap: broker.bootstrap(), java };
    report::each(AT_ONCE, STEPS.iter(), |(tool, what, act)| {
        report.step(tool, what, || act(&kit));
    });
}

/// Lets `kafka-dump-log` read what the broker, which has stopped by now, has left on the disk.
pub(crate) fn dump(report: &Report, data: &Path) {
    report.step("kafka-dump-log", "segments and indexes of a topic", || {
        let files = files(data, "perf-", &["log", "index", "timeindex"])?;
        let text = dump_log(&["--deep-iteration"], &files)?;
        let count: u64 = text
            .lines()
            .filter_map(|line| {
                line.strip_prefix("baseOffset: ")?
                    .split(" count: ")
                    .nth(1)?
                    .split(' ')
                    .next()?
                    .parse::<u64>()
                    .ok()
            })
            .sum();
        if count.to_string() != PERF_RECORDS {
            return Err(format!("{count} records on disk, {PERF_RECORDS} were produced"));
        }
        says(&text, &["isvalid: true", "offset: ", "timestamp: "])
    });
    report.step("kafka-dump-log", "every segment, index and snapshot that the tests have left", || {
        dump_all(data)
    });
    report.step("kafka-dump-log", "the groups' offsets", || {
        let text = dump_log(&["--offsets-decoder"], &files(data, "__consumer_offsets-", &["log"])?)?;
        says(&text, &["\"group\":\"group-reset\"", "\"protocolType\":\"consumer\"", "\"offset\":"])
    });
    report.step("kafka-dump-log", "the cluster's metadata", || {
        let text = dump_log(&["--cluster-metadata-decoder"], &files(data, "__cluster_metadata-", &["log"])?)?;
        says(
            &text,
            &["\"TOPIC_RECORD\"", "\"PARTITION_RECORD\"", "\"CONFIG_RECORD\"", "\"REMOVE_TOPIC_RECORD\""],
        )
    });
}

/// Lets `kafka-dump-log` read every file of every partition: the records, what the indexes say of them, the producers.
pub(crate) fn dump_all(data: &Path) -> Result<()> {
    let files = files(data, "", &["log", "index", "timeindex", "txnindex", "snapshot"])?;
    dump_log(&["--deep-iteration"], &files).map(drop)
}

fn perf(kit: &Kit<'_>) -> Result<()> {
    kit.tool("kafka-topics", "--create --topic perf --partitions 2 --config segment.bytes=4194304")?;
    let produce = format!(
        "--topic perf --num-records {PERF_RECORDS} --record-size 200 --throughput -1 --command-property acks=all"
    );
    says(&kit.tool("kafka-producer-perf-test", &produce)?, &[&format!("{PERF_RECORDS} records sent")])?;
    let consumed =
        kit.tool("kafka-consumer-perf-test", &format!("--topic perf --num-records {PERF_RECORDS}"))?;
    says(&consumed, &[&format!(", {PERF_RECORDS}, ")])
}

fn sizes(kit: &Kit<'_>) -> Result<()> {
    let produce = |topic: &str, records: u64, size: u64, acks: &str| {
        let words = format!("--topic {topic} --num-records {records} --record-size {size} --throughput -1");
        let configs = format!("--command-property acks={acks} max.request.size=4000000");
        kit.tool("kafka-producer-perf-test", &format!("{words} {configs}"))
    };
    let consume = |topic: &str, records: u64| {
        let text =
            kit.tool("kafka-consumer-perf-test", &format!("--topic {topic} --num-records {records}"))?;
        says(&text, &[&format!(", {records}, ")])
    };
    kit.tool("kafka-topics", "--create --topic small --partitions 1")?;
    produce("small", 1000, 100, "0")?;
    produce("small", 1000, 100, "1")?;
    consume("small", 2000)?;
    says(&produce("small", 1, 3_000_000, "all")?, &["0 records sent, 0.0"])?;
    // Larger than what a fetch asks for at most: one batch must come all the same.
    kit.tool("kafka-topics", "--create --topic large --partitions 1 --config max.message.bytes=4000000")?;
    produce("large", 5, 3_000_000, "all")?;
    consume("large", 5)
}

fn topics(kit: &Kit<'_>) -> Result<()> {
    let topics = |words: &str| kit.tool("kafka-topics", words);
    says(
        &topics("--create --topic plain --partitions 3 --config segment.bytes=1048576")?,
        &["Created topic plain."],
    )?;
    kit.refuses("kafka-topics", "--create --topic plain --partitions 3", "already exists")?;
    topics("--create --topic plain --if-not-exists")?;
    kit.refuses("kafka-topics", "--create --topic no/slash", "invalid")?;
    kit.refuses("kafka-topics", "--create --topic wide --replication-factor 3", "replication factor")?;
    says(&topics("--list")?, &["plain\n"])?;
    let described = topics("--describe --topic plain")?;
    says(
        &described,
        &["PartitionCount: 3", "ReplicationFactor: 1", "segment.bytes=1048576", "Partition: 2", "Isr: "],
    )?;
    topics("--alter --topic plain --partitions 5")?;
    says(&topics("--describe --topic plain")?, &["PartitionCount: 5", "Partition: 4"])?;
    kit.refuses("kafka-topics", "--alter --topic plain --partitions 2", "would not be an increase")?;
    topics("--delete --topic plain")?;
    if topics("--list")?.lines().any(|line| line == "plain") {
        return Err("a deleted topic is still listed".to_owned());
    }
    kit.refuses("kafka-topics", "--describe --topic plain", "does not exist")
}

fn configs(kit: &Kit<'_>) -> Result<()> {
    let configs = |words: &str| kit.tool("kafka-configs", words);
    kit.tool("kafka-topics", "--create --topic configured --config segment.bytes=1048576")?;
    let segment = "segment.bytes=1048576 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:segment.bytes=1048576, DEFAULT_CONFIG:log.segment.bytes=1073741824}";
    says(&configs("--describe --topic configured")?, &[segment])?;
    says(
        &configs("--describe --topic configured --all")?,
        &[segment, "cleanup.policy=delete", "retention.ms=604800000"],
    )?;
    configs("--alter --topic configured --add-config retention.ms=1000000,cleanup.policy=[compact,delete]")?;
    says(
        &configs("--describe --topic configured")?,
        &["retention.ms=1000000", "cleanup.policy=compact,delete"],
    )?;
    configs("--alter --topic configured --delete-config retention.ms")?;
    if configs("--describe --topic configured")?.contains("retention.ms=1000000") {
        return Err("a deleted config is still there".to_owned());
    }
    kit.refuses(
        "kafka-configs",
        "--alter --topic configured --add-config retention.ms=soon",
        "retention.ms",
    )?;
    kit.refuses("kafka-configs", "--alter --topic configured --add-config no.such=1", "no.such")?;
    let broker = kit.broker_id()?;
    let described = configs(&format!("--describe --broker {broker} --all"))?;
    says(&described, &["log.segment.bytes=1073741824", "num.partitions=4", "STATIC_BROKER_CONFIG"])?;
    configs("--alter --broker-defaults --add-config log.retention.ms=86400000")?;
    says(&configs("--describe --broker-defaults")?, &["log.retention.ms=86400000"])?;
    says(&configs("--describe --topic configured --all")?, &["retention.ms=86400000"])?;
    configs("--alter --broker-defaults --delete-config log.retention.ms")?;
    says(&configs("--describe --topic configured --all")?, &["retention.ms=604800000"])
}

fn console(kit: &Kit<'_>) -> Result<()> {
    kit.tool("kafka-topics", "--create --topic console --partitions 1")?;
    kit.produce("console", "one:1,two:2\tapple\tred\nthree:3\tpear\tgreen\nfour:4\tplum\tblue\n")?;
    let consume = |count: u8| {
        let properties = ["key", "headers", "partition", "offset"]
            .map(|what| format!("--formatter-property print.{what}=true"));
        let words = format!(
            "--topic console --from-beginning --max-messages {count} --group console {}",
            properties.join(" ")
        );
        kit.tool("kafka-console-consumer", &words)
    };
    says(&consume(1)?, &["Partition:0\tOffset:0\tone:1,two:2\tapple\tred\n"])?;
    let rest = consume(2)?;
    says(
        &rest,
        &["Partition:0\tOffset:1\tthree:3\tpear\tgreen\nPartition:0\tOffset:2\tfour:4\tplum\tblue\n"],
    )?;
    if rest.contains("apple") { Err("a committed record was consumed again".to_owned()) } else { Ok(()) }
}

fn live_group(kit: &Kit<'_>) -> Result<()> {
    let groups = |words: &str| kit.tool("kafka-consumer-groups", words);
    kit.tool("kafka-topics", "--create --topic live --partitions 2")?;
    let mut member = kit.java.member(&kit.bootstrap, "live", "group-live", Protocol::Classic, None)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while member.assigned.len() < 2 && Instant::now() < deadline {
        member.listen(Duration::from_millis(100), &mut |_| Ok(()))?;
    }
    says(&groups("--list")?, &["group-live\n"])?;
    says(&groups("--list --state")?, &["group-live", "Stable"])?;
    says(&kit.tool("kafka-groups", "--list")?, &["group-live", "Classic", "consumer"])?;
    says(&groups("--describe --group group-live --state")?, &["range", "Stable", "1"])?;
    says(
        &groups("--describe --group group-live --members --verbose")?,
        &["consumer-group-live-1", "live:0,1"],
    )?;
    says(
        &groups("--describe --group group-live")?,
        &["live            0", "live            1", "/127.0.0.1"],
    )?;
    kit.refuses("kafka-consumer-groups", "--delete --group group-live", "not empty")?;
    let reset = "--reset-offsets --to-earliest --topic live --group group-live --execute";
    kit.refuses("kafka-consumer-groups", reset, "inactive")?;
    member.stop(&mut |_| Ok(()))?;
    says(&groups("--describe --group group-live --state")?, &["Empty", "0"])?;
    groups("--delete --group group-live").map(drop)
}

fn live_consumer_group(kit: &Kit<'_>) -> Result<()> {
    let groups = |words: &str| kit.tool("kafka-consumer-groups", words);
    let configs = |words: &str| {
        kit.tool("kafka-configs", &format!("--entity-type groups --entity-name group-modern {words}"))
    };
    kit.tool("kafka-topics", "--create --topic modern --partitions 2")?;
    configs("--alter --add-config consumer.session.timeout.ms=46000")?;
    says(&configs("--describe")?, &["consumer.session.timeout.ms=46000"])?;
    let every_group = kit.tool("kafka-configs", "--describe --entity-type groups")?;
    says(&every_group, &["group-modern", "consumer.session.timeout.ms=46000"])?;
    let too_short =
        "--alter --entity-type groups --entity-name group-modern --add-config consumer.session.timeout.ms=1";
    kit.refuses("kafka-configs", too_short, "group.consumer.min.session.timeout.ms")?;
    configs("--alter --add-config share.delivery.count.limit=7")?;
    let synonyms = "synonyms={DYNAMIC_GROUP_CONFIG:share.delivery.count.limit=7, \
                    DEFAULT_CONFIG:group.share.delivery.count.limit=5}";
    says(&configs("--describe --all")?, &["share.delivery.count.limit=7 sensitive=false", synonyms])?;
    let too_many =
        "--alter --entity-type groups --entity-name group-modern --add-config share.delivery.count.limit=11";
    kit.refuses("kafka-configs", too_many, "group.share.max.delivery.count.limit")?;
    configs("--alter --delete-config share.delivery.count.limit")?;
    let mut member = kit.java.member(&kit.bootstrap, "modern", "group-modern", Protocol::Consumer, None)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while member.assigned.len() < 2 && Instant::now() < deadline {
        member.listen(Duration::from_millis(100), &mut |_| Ok(()))?;
    }
    has_row(&groups("--list --state --type")?, "group-modern Consumer Stable")?;
    has_row(&kit.tool("kafka-groups", "--list --consumer")?, "group-modern Consumer consumer")?;
    // Group, coordinator, assignor, state, epochs of the group and of its target, members.
    let state = groups("--describe --group group-modern --state --verbose")?;
    has_row(&state, "group-modern * * uniform Stable 2 2 1")?;
    // Group, member, host, client, partitions, epoch and partitions, epoch and partitions of the target.
    let members = groups("--describe --group group-modern --members --verbose")?;
    has_row(&members, "group-modern * /127.0.0.1 consumer-group-modern-1 2 2 modern:0,1 2 modern:0,1")?;
    let offsets = groups("--describe --group group-modern")?;
    has_row(&offsets, "group-modern modern 1 - 0 - * /127.0.0.1 consumer-group-modern-1")?;
    kit.refuses("kafka-consumer-groups", "--delete --group group-modern", "not empty")?;
    member.stop(&mut |_| Ok(()))?;
    has_row(
        &groups("--describe --group group-modern --state --verbose")?,
        "group-modern * * uniform Empty 3 2 0",
    )?;
    configs("--alter --delete-config consumer.session.timeout.ms")?;
    groups("--delete --group group-modern").map(drop)
}

/// Only what changes nothing: the other steps need the levels there are.
fn features(kit: &Kit<'_>) -> Result<()> {
    let features = |words: &str| kit.tool("kafka-features", words);
    let described = features("describe")?;
    for level in ["group.version", "metadata.version", "transaction.version"] {
        let line = described.lines().find(|line| line.contains(level)).unwrap_or_default();
        says(line, &["SupportedMinVersion", "FinalizedVersionLevel"])?;
    }
    says(&features("downgrade --feature group.version=0 --dry-run")?, &["can be downgraded to 0"])?;
    says(&features("upgrade --metadata 4.3")?, &["metadata.version was upgraded to 30"])?;
    let loss = "might delete metadata information";
    kit.refuses("kafka-features", "downgrade --feature metadata.version=29", loss)?;
    kit.refuses("kafka-features", "upgrade --feature group.version=2", "only supports versions 0-1")?;
    kit.refuses("kafka-features", "upgrade --feature no.version=1", "does not support this feature")
}

/// Whether a table has a row of these cells; `*` is any.
fn has_row(table: &str, cells: &str) -> Result<()> {
    let expected: Vec<&str> = cells.split(' ').collect();
    let is_row = |line: &str| {
        let row: Vec<&str> = line.split_whitespace().collect();
        row.len() == expected.len() && row.iter().zip(&expected).all(|(is, cell)| *cell == "*" || is == cell)
    };
    if table.lines().any(is_row) { Ok(()) } else { Err(format!("there is no row {cells} in\n{table}")) }
}

fn reset_offsets(kit: &Kit<'_>) -> Result<()> {
    let groups = |words: &str| kit.tool("kafka-consumer-groups", &format!("--group group-reset {words}"));
    let reset = |words: &str| groups(&format!("--reset-offsets --topic reset {words}"));
    // Columns: group, topic, partition, current offset, log end offset, lag.
    let current = |offset: &str| -> Result<()> {
        let text = groups("--describe")?;
        let row = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|row| row.get(1) == Some(&"reset"));
        match row {
            Some(row) if row.get(3) == Some(&offset) && row.get(4) == Some(&"5") => Ok(()),
            _ => Err(format!("the offset is not {offset} of 5:\n{text}")),
        }
    };
    kit.tool("kafka-topics", "--create --topic reset --partitions 1")?;
    kit.produce("reset", "h:1\tk\t1\nh:1\tk\t2\nh:1\tk\t3\nh:1\tk\t4\nh:1\tk\t5\n")?;
    kit.tool(
        "kafka-console-consumer",
        "--topic reset --from-beginning --max-messages 5 --group group-reset",
    )?;
    current("5")?;
    reset("--to-earliest --dry-run")?;
    current("5")?;
    reset("--to-earliest --execute")?;
    current("0")?;
    reset("--to-offset 4 --execute")?;
    current("4")?;
    reset("--shift-by -3 --execute")?;
    current("1")?;
    reset("--to-datetime 2000-01-01T00:00:00.000 --execute")?;
    current("0")?;
    reset("--to-latest --execute")?;
    current("5")?;
    says(&groups("--delete-offsets --topic reset")?, &["Successful"])?;
    if groups("--describe").is_ok_and(|text| text.contains("reset           0")) {
        return Err("deleted offsets are still there".to_owned());
    }
    // Deleting the last offset has deleted an empty group of Apache Kafka's or leaves it to be deleted.
    reset("--to-earliest --execute")?;
    says(&groups("--delete")?, &["was successful"])?;
    let listed = kit.tool("kafka-consumer-groups", "--list")?;
    if listed.contains("group-reset") { Err("a deleted group is still listed".to_owned()) } else { Ok(()) }
}

fn delete_records(kit: &Kit<'_>) -> Result<()> {
    let offsets = |words: &str| kit.tool("kafka-get-offsets", &format!("--topic shortened {words}"));
    kit.tool("kafka-topics", "--create --topic shortened --partitions 1")?;
    kit.produce("shortened", "h:1\tk\tone\nh:1\tk\ttwo\nh:1\tk\tthree\n")?;
    says(&offsets("")?, &["shortened:0:3\n"])?;
    says(&offsets("--time earliest")?, &["shortened:0:0\n"])?;
    says(&offsets("--time 1000")?, &["shortened:0:0\n"])?;
    // Records of one batch may share a timestamp: the offset of the greatest is one of them.
    says(&offsets("--time max-timestamp")?, &["shortened:0:"])?;
    let file = install::work("delete-records.json");
    let text = r#"{"version":1,"partitions":[{"topic":"shortened","partition":0,"offset":2}]}"#;
    fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    let deleted = kit.tool("kafka-delete-records", &format!("--offset-json-file {}", file.display()))?;
    says(&deleted, &["low_watermark: 2"])?;
    says(&offsets("--time earliest")?, &["shortened:0:2\n"])?;
    let left = kit.tool("kafka-console-consumer", "--topic shortened --from-beginning --max-messages 1")?;
    says(&left, &["three\n"])
}

fn api_versions(kit: &Kit<'_>) -> Result<()> {
    let text = kit.tool("kafka-broker-api-versions", "")?;
    let missing: Vec<&str> =
        API_VERSIONS.lines().filter(|&range| !text.contains(&format!("\t{range} [usable"))).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("not there: {}\n{text}", missing.join(", "))) }
}

fn describe_broker(kit: &Kit<'_>) -> Result<()> {
    kit.tool("kafka-topics", "--create --topic sized --partitions 1")?;
    kit.produce("sized", "h:1\tk\tone\n")?;
    let sizes = kit.tool("kafka-log-dirs", "--describe --topic-list sized")?;
    says(&sizes, &["\"partition\":\"sized-0\"", "\"error\":null"])?;
    if sizes.contains("\"size\":0,") {
        return Err(format!("a partition with a record has the size 0: {sizes}"));
    }
    says(&kit.tool("kafka-cluster", "cluster-id")?, &["Cluster ID: "])?;
    says(&kit.tool("kafka-cluster", "list-endpoints")?, &["127.0.0.1"])?;
    let producers = kit.tool("kafka-transactions", "describe-producers --topic sized --partition 0")?;
    says(&producers, &["ProducerId", "\t0            \t"])
}

impl Kit<'_> {
    /// Runs a tool to its end and returns its standard output.
    pub(crate) fn tool(&self, name: &str, words: &str) -> Result<String> {
        self.fed(name, words, Stdio::null())
    }

    fn fed(&self, name: &str, words: &str, input: Stdio) -> Result<String> {
        let mut command = java::tool(name)?;
        // One tool takes the server after its subcommand.
        let (first, words) =
            if name == "kafka-cluster" { words.split_once(' ').unwrap_or((words, "")) } else { ("", words) };
        command.args(first.split_whitespace()).args(["--bootstrap-server", &self.bootstrap]);
        let printed =
            process::run_fed(command.args(words.split_whitespace()), input, Duration::from_secs(90))?;
        Ok(printed.stdout)
    }

    /// The tool must fail, and what it says must contain this text.
    fn refuses(&self, name: &str, words: &str, text: &str) -> Result<()> {
        match self.tool(name, words) {
            // Some tools succeed in saying that they did not.
            Ok(said) | Err(said) if said.to_lowercase().contains(&text.to_lowercase()) => Ok(()),
            Ok(said) => Err(format!("{name} {words} was not refused\n{}", process::tail(&said))),
            Err(said) => Err(format!("the reason is not that it is \"{text}\": {said}")),
        }
    }

    /// Produces lines of headers, key and value with the console producer.
    fn produce(&self, topic: &str, lines: &str) -> Result<()> {
        let file = install::work(&format!("{topic}.txt"));
        fs::write(&file, lines).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        let input =
            fs::File::open(&file).map_err(|error| format!("cannot open {}: {error}", file.display()))?;
        let words = format!(
            "--topic {topic} --compression-codec zstd --reader-property parse.key=true --reader-property parse.headers=true"
        );
        self.fed("kafka-console-producer", &words, input.into()).map(drop)
    }

    fn broker_id(&self) -> Result<String> {
        let text = self.tool("kafka-broker-api-versions", "")?;
        let id = text.split("(id: ").nth(1).and_then(|rest| rest.split(' ').next());
        id.map(str::to_owned).ok_or_else(|| format!("no broker id in\n{text}"))
    }
}

pub(crate) fn says(text: &str, parts: &[&str]) -> Result<()> {
    match parts.iter().find(|part| !text.contains(*part)) {
        Some(part) => Err(format!("{part:?} is not in\n{}", process::tail(text))),
        None => Ok(()),
    }
}

/// The files with one of these extensions in the partitions whose names begin so; empty ones have nothing to tell.
pub(crate) fn files(data: &Path, prefix: &str, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let list = |folder: &Path| -> Result<Vec<PathBuf>> {
        let entries =
            fs::read_dir(folder).map_err(|error| format!("cannot list {}: {error}", folder.display()))?;
        Ok(entries.flatten().map(|entry| entry.path()).collect())
    };
    let mut found = Vec::new();
    for folder in list(data)?.into_iter().filter(|path| path.is_dir()) {
        if folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)) {
            found.extend(list(&folder)?.into_iter().filter(|file| {
                let known =
                    file.extension().is_some_and(|of| extensions.iter().any(|&extension| of == extension));
                known && file.metadata().is_ok_and(|metadata| metadata.len() > 0)
            }));
        }
    }
    found.sort();
    if found.is_empty() { Err(format!("no files of {prefix}* in {}", data.display())) } else { Ok(found) }
}

/// What `kafka-dump-log` says of the files; an error if it finds fault with them.
pub(crate) fn dump_log(words: &[&str], files: &[PathBuf]) -> Result<String> {
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut command = java::tool("kafka-dump-log")?;
    command.args(words).arg("--files").arg(names.join(","));
    let printed = process::run_fed(&mut command, Stdio::null(), Duration::from_secs(90))?;
    // Mismatches between a segment and its indexes are told on the standard error. That the first offset of every
    // later segment follows on -1 is the tool's own mistake, and that offsets are missing is what compaction is for.
    let compacted = ["/__", "/compacted-", "/both-", "/configured-"];
    let mut may_have_gaps = false;
    let mut mistaken = |line: &&str| match line.strip_prefix("Non-consecutive offsets in") {
        Some(file) => {
            may_have_gaps = compacted.iter().any(|topic| file.contains(topic));
            true
        }
        None => line.starts_with("  -1 is followed by") || may_have_gaps && line.contains(" is followed by "),
    };
    let faulty = |line: &&str| line.contains("isvalid: false") || line.contains("invalid bytes");
    let mut told = printed.stderr.lines().filter(|line| !mistaken(line));
    match told.next().or_else(|| printed.stdout.lines().find(faulty)) {
        Some(line) => Err(format!("kafka-dump-log finds fault: {line}")),
        None => Ok(printed.stdout),
    }
}
