//! Every config of a topic does what it says, from the moment at which it is changed while the broker runs: by the topic
//! itself, or by the broker's config that the topic takes its default from.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dohle_configs::row::{Effect, Update};
use dohle_configs::table::{broker_config, topic_configs};
use dohle_protocol::messages::produce_response::PartitionProduceResponse;
use dohle_protocol::messages::{ApiVersionsRequest, ListOffsetsRequest, list_offsets_request};
use dohle_records::{Batch, BatchBuilder, BatchOptions, Batches, Compression, Compressor, Decompressor};
use dohle_types::{ErrorCode, Timestamp, TopicId};

use crate::client::{Client, FETCH_VERSION, PRODUCE_VERSION, fetch_request, produce_request};
use crate::process::{Broker, Directory, until};

type Row = (&'static str, &'static str, fn(&mut Lab));

/// A topic config, the broker config that is its default, and what shows its effect. Those without effect on a single
/// node are marked so in the table of `dohle-configs`.
const ROWS: &[Row] = &[
    ("cleanup.policy", "log.cleanup.policy", cleanup_policy),
    ("compression.gzip.level", "compression.gzip.level", gzip_level),
    ("compression.lz4.level", "compression.lz4.level", lz4_level),
    ("compression.type", "compression.type", compression_type),
    ("compression.zstd.level", "compression.zstd.level", zstd_level),
    ("delete.retention.ms", "log.cleaner.delete.retention.ms", delete_retention_ms),
    ("dohle.durability", "dohle.durability", dohle_durability),
    ("file.delete.delay.ms", "log.segment.delete.delay.ms", file_delete_delay_ms),
    ("flush.messages", "log.flush.interval.messages", flush_messages),
    ("flush.ms", "log.flush.interval.ms", flush_ms),
    ("index.interval.bytes", "log.index.interval.bytes", index_interval_bytes),
    ("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms", max_compaction_lag_ms),
    ("max.message.bytes", "message.max.bytes", max_message_bytes),
    ("message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms", message_timestamp_after_max_ms),
    (
        "message.timestamp.before.max.ms",
        "log.message.timestamp.before.max.ms",
        message_timestamp_before_max_ms,
    ),
    ("message.timestamp.type", "log.message.timestamp.type", message_timestamp_type),
    ("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio", min_cleanable_dirty_ratio),
    ("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", min_compaction_lag_ms),
    ("min.insync.replicas", "min.insync.replicas", min_insync_replicas),
    ("preallocate", "log.preallocate", preallocate),
    ("retention.bytes", "log.retention.bytes", retention_bytes),
    ("retention.ms", "log.retention.ms", retention_ms),
    ("segment.bytes", "log.segment.bytes", segment_bytes),
    ("segment.index.bytes", "log.index.size.max.bytes", segment_index_bytes),
    ("segment.jitter.ms", "log.roll.jitter.ms", segment_jitter_ms),
    ("segment.ms", "log.roll.ms", segment_ms),
];

#[test]
fn every_topic_config_of_the_table_has_a_row_here_or_a_reason_there() {
    let in_force = topic_configs().filter(|config| config.effect == Effect::InForce);
    let mut rows: Vec<&str> = ROWS.iter().map(|(name, ..)| *name).collect();
    rows.sort_unstable();
    assert_eq!(in_force.map(|config| config.name).collect::<Vec<_>>(), rows);
    for (_, broker, _) in ROWS {
        assert_eq!(broker_config(broker).unwrap().update, Update::ClusterWide, "{broker}");
    }
}

#[test]
fn a_topics_configs_take_force_when_the_topic_changes_them() {
    show_all(Scope::Topic);
}

#[test]
fn a_topics_configs_take_force_when_the_broker_changes_their_defaults() {
    show_all(Scope::Broker);
}

fn show_all(scope: Scope) {
    let mut lab = Lab::new(scope);
    for &(name, broker_name, show) in ROWS {
        // Only a test that fails shows its output.
        println!("{name}");
        (lab.name, lab.broker_name) = (name, broker_name);
        show(&mut lab);
        if scope == Scope::Broker {
            assert_eq!(lab.client.alter_configs(BROKER, "", &[(broker_name, None)]).0, 0);
        }
    }
}

#[test]
fn tiered_storage_is_refused_as_by_a_broker_that_has_none() {
    let mut lab = Lab::new(Scope::Topic);
    let topic = lab.topic(&[]);
    let (error, message) =
        lab.client.alter_configs(TOPIC, &topic.name, &[("remote.storage.enable", Some("true"))]);
    assert_eq!(error, ErrorCode::InvalidConfig.code());
    assert!(message.contains("Tiered storage is not available"), "{message}");
}

/// Kafka flushes a segment when it is closed; without that nothing of a relaxed topic could ever be deleted or compacted.
#[test]
fn relaxed_topics_are_compacted_and_their_deleted_segments_removed() {
    let mut lab = Lab::new(Scope::Topic);
    let relaxed = ("dohle.durability", "relaxed");
    let topic = lab.topic(&[COMPACTED[0], COMPACTED[1], COMPACTED[2], relaxed]);
    lab.produce_dirt(&topic);
    lab.wait_for_compaction(&topic);
    let topic =
        lab.topic(&[("segment.ms", "1"), ("retention.bytes", "1"), ("file.delete.delay.ms", "0"), relaxed]);
    lab.produce_dirt(&topic);
    until("the files are removed", || (lab.segments(&topic, 0).first()? > &0).then_some(()));
    // What is emptied by its age, the active segment included, goes without another write.
    assert_eq!(lab.client.alter_configs(TOPIC, &topic.name, &[("retention.ms", Some("1"))]).0, 0);
    until("the files are removed", || (lab.segments(&topic, 0) == [3]).then_some(()));
}

#[test]
fn a_log_that_could_not_be_compacted_is_tried_again_when_configs_change() {
    let mut lab = Lab::new(Scope::Topic);
    let topic = lab.topic(&COMPACTED[1..]);
    lab.produce_dirt(&topic);
    let path = lab.path(&topic, 0, &format!("{:020}.log", 0));
    let good = fs::read(&path).unwrap();
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&path, damaged).unwrap();
    lab.name = "cleanup.policy";
    lab.set(&topic, "compact");
    // The filthiest goes first, and the older of two that are alike.
    lab.assert_not_compacted(&topic);
    fs::write(&path, good).unwrap();
    lab.name = "min.compaction.lag.ms";
    lab.set(&topic, "0");
    lab.wait_for_compaction(&topic);
}

#[test]
fn the_limits_of_connections_can_be_changed() {
    let mut lab = Lab::new(Scope::Broker);
    let address = lab.broker.address.clone();
    let is_taken = || {
        let mut client = Client::connect(&address);
        let sent = client.send(&ApiVersionsRequest::default(), 0);
        sent.is_ok() && client.receive_frame().is_ok()
    };
    for (name, low, high) in [
        ("max.connections.per.ip", "1", "100"),
        ("max.connections", "1", "100"),
        ("max.connections.per.ip.overrides", "127.0.0.1:1", "127.0.0.1:100"),
    ] {
        for (value, expected) in [(low, false), (high, true)] {
            assert_eq!(lab.client.alter_configs(BROKER, "", &[(name, Some(value))]).0, 0);
            until("it holds", || (is_taken() == expected).then_some(()));
        }
    }
}

/// By what the config of the row is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    Topic,
    Broker,
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

const COMPACTED: [(&str, &str); 3] =
    [("cleanup.policy", "compact"), ("segment.ms", "1"), ("min.cleanable.dirty.ratio", "0")];

/// A broker that does from time to time what it has to very often.
struct Lab {
    data: Directory,
    broker: Broker,
    client: Client,
    scope: Scope,
    /// The config of the row.
    name: &'static str,
    broker_name: &'static str,
    topics: u32,
}

struct Topic {
    name: String,
    id: TopicId,
}

impl Lab {
    fn new(scope: Scope) -> Self {
        let data = Directory::new();
        let often = [
            "log.cleaner.backoff.ms=1",
            "log.retention.check.interval.ms=20",
            "log.flush.offset.checkpoint.interval.ms=50",
        ];
        let broker = Broker::start(&data.0, &often);
        let client = Client::connect(&broker.address);
        Self { data, broker, client, scope, name: "", broker_name: "", topics: 0 }
    }

    fn topic(&mut self, configs: &[(&str, &str)]) -> Topic {
        self.topic_of(1, configs)
    }

    fn topic_of(&mut self, partitions: i32, configs: &[(&str, &str)]) -> Topic {
        self.topics += 1;
        let name = format!("t{}", self.topics);
        let id = self.client.create_topic(&name, partitions, configs);
        Topic { name, id }
    }

    /// Changes the config of the row.
    fn set(&mut self, topic: &Topic, value: &str) {
        let (error, message) = match self.scope {
            Scope::Topic => self.client.alter_configs(TOPIC, &topic.name, &[(self.name, Some(value))]),
            Scope::Broker => self.client.alter_configs(BROKER, "", &[(self.broker_name, Some(value))]),
        };
        assert_eq!(error, 0, "{message}");
    }

    /// Produces a batch of one record, so many ms after [`hour_ago`].
    fn produce(
        &mut self,
        topic: &Topic,
        after: i64,
        key: &str,
        value: Option<&[u8]>,
    ) -> PartitionProduceResponse {
        self.produce_to(topic, 0, hour_ago() + after, key, value)
    }

    fn produce_to(
        &mut self,
        topic: &Topic,
        partition: i32,
        timestamp: i64,
        key: &str,
        value: Option<&[u8]>,
    ) -> PartitionProduceResponse {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(Timestamp(timestamp), Some(key.as_bytes()), value, &[]).unwrap();
        let records = builder.build(&mut Compressor::default()).unwrap();
        let mut response = self.client.call(&produce_request(topic.id, partition, records), PRODUCE_VERSION);
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// Produces what compaction, when it is allowed to, leaves `a=2` and `b=1` of.
    fn produce_dirt(&mut self, topic: &Topic) {
        for (after, key, value) in [(0, "a", b"1"), (10, "a", b"2"), (20, "b", b"1")] {
            assert_eq!(self.produce(topic, after, key, Some(value)).error_code, 0);
        }
    }

    fn wait_for_compaction(&mut self, topic: &Topic) {
        let expected = BTreeMap::from([(1, "a=2".to_owned()), (2, "b=1".to_owned())]);
        until("the topic is compacted", || (self.records(topic) == expected).then_some(()));
    }

    /// Waits until the cleaner has been at work, and shows that it was not at this topic.
    fn assert_not_compacted(&mut self, topic: &Topic) {
        let control = self.topic(&[
            COMPACTED[0],
            COMPACTED[1],
            COMPACTED[2],
            ("min.compaction.lag.ms", "0"),
            ("max.compaction.lag.ms", "9223372036854775807"),
        ]);
        self.produce_dirt(&control);
        self.wait_for_compaction(&control);
        assert_eq!(self.records(topic).len(), 3);
    }

    fn batches(&mut self, topic: &Topic) -> Vec<Batch> {
        let mut batches: Vec<Batch> = Vec::new();
        loop {
            let next = batches.last().map_or(0, |batch| batch.header().next_offset().0);
            let response = self.client.call(&fetch_request(topic.id, 0, next, 0), FETCH_VERSION);
            let answer = &response.responses[0].partitions[0];
            assert_eq!(answer.error_code, 0);
            let bytes = answer.records.clone().map(|records| records.into_bytes()).unwrap_or_default();
            if bytes.is_empty() {
                return batches;
            }
            batches.extend(Batches::new(bytes).map(Result::unwrap));
        }
    }

    /// All records by offset, `key=` for a tombstone.
    fn records(&mut self, topic: &Topic) -> BTreeMap<i64, String> {
        let text = |bytes: Option<Bytes>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
        let mut records = BTreeMap::new();
        for batch in self.batches(topic) {
            for record in batch.records(&mut Decompressor::default()).unwrap().map(Result::unwrap) {
                records.insert(record.offset.0, format!("{}={}", text(record.key), text(record.value)));
            }
        }
        records
    }

    fn earliest(&mut self, topic: &Topic) -> i64 {
        let partition = list_offsets_request::ListOffsetsPartition { timestamp: -2, ..Default::default() };
        let topic = list_offsets_request::ListOffsetsTopic {
            name: topic.name.as_str().into(),
            partitions: vec![partition],
        };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        self.client.call(&request, 8).topics[0].partitions[0].offset
    }

    fn path(&self, topic: &Topic, partition: i32, name: &str) -> PathBuf {
        self.data.0.join(format!("{}-{partition}", topic.name)).join(name)
    }

    /// Names in a partition's directory that end so.
    fn files(&self, topic: &Topic, partition: i32, suffix: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(topic, partition, "")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(suffix)).collect();
        names.sort_unstable();
        names
    }

    /// The offsets that its segments are named by.
    fn segments(&self, topic: &Topic, partition: i32) -> Vec<i64> {
        let names = self.files(topic, partition, ".log");
        names.iter().map(|name| name.trim_end_matches(".log").parse().unwrap()).collect()
    }

    /// Up to where a topic's log is known to be on the disk.
    fn recovery_point(&self, topic: &Topic) -> Option<i64> {
        let file = fs::read_to_string(self.data.0.join("recovery-point-offset-checkpoint")).ok()?;
        file.lines().find_map(|line| line.strip_prefix(&format!("{} 0 ", topic.name))?.parse().ok())
    }

    /// Waits until checkpoints have been written, and shows that they know nothing of this topic.
    fn assert_not_flushed(&mut self, topic: &Topic) {
        let control = self.topic_of(1, &[("dohle.durability", "durable")]);
        self.produce(&control, 0, "key", Some(b"value"));
        until("there is a checkpoint", || self.recovery_point(&control));
        assert_eq!(self.recovery_point(topic), None);
    }

    /// The size on the disk of the batch that the same text gives at each of two levels.
    fn sizes_at_levels(&mut self, codec: &str, levels: [&str; 2]) -> [usize; 2] {
        let topic = self.topic(&[("compression.type", codec)]);
        let text: String =
            (0..20_000u64).map(|n| format!("{} pears, {} plums\n", n * n % 977, n % 89)).collect();
        for level in levels {
            self.set(&topic, level);
            assert_eq!(self.produce(&topic, 0, "key", Some(text.as_bytes())).error_code, 0);
        }
        let batches = self.batches(&topic);
        [0, 1].map(|index: usize| batches[index].bytes().len())
    }
}

/// An hour ago, by which records are old and no retention deletes them.
fn hour_ago() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    i64::try_from(now).unwrap() - 3_600_000
}

fn cleanup_policy(lab: &mut Lab) {
    let topic = lab.topic(&COMPACTED[1..]);
    lab.produce_dirt(&topic);
    lab.assert_not_compacted(&topic);
    lab.set(&topic, "compact");
    lab.wait_for_compaction(&topic);
}

fn gzip_level(lab: &mut Lab) {
    let [fast, slow] = lab.sizes_at_levels("gzip", ["1", "9"]);
    assert!(slow < fast, "{slow} {fast}");
}

fn lz4_level(lab: &mut Lab) {
    let [fast, slow] = lab.sizes_at_levels("lz4", ["9", "12"]);
    assert!(slow < fast, "{slow} {fast}");
}

fn zstd_level(lab: &mut Lab) {
    let [fast, slow] = lab.sizes_at_levels("zstd", ["1", "19"]);
    assert!(slow < fast, "{slow} {fast}");
}

fn compression_type(lab: &mut Lab) {
    let topic = lab.topic(&[]);
    lab.produce(&topic, 0, "key", Some(b"value"));
    lab.set(&topic, "gzip");
    lab.produce(&topic, 0, "key", Some(b"value"));
    let batches = lab.batches(&topic);
    let compressions = batches.iter().map(|batch| batch.header().attributes.compression().unwrap());
    assert!(compressions.eq([Compression::None, Compression::Gzip]));
}

fn delete_retention_ms(lab: &mut Lab) {
    let topic = lab.topic(&COMPACTED);
    for (after, key, value) in [(0, "old", Some(&b"1"[..])), (10, "old", None), (20, "filler", Some(b"0"))] {
        lab.produce(&topic, after, key, value);
    }
    let expected = [(1, "old=".to_owned()), (2, "filler=0".to_owned())];
    until("the topic is compacted", || lab.records(&topic).into_iter().eq(expected.clone()).then_some(()));
    lab.set(&topic, "0");
    lab.produce(&topic, 30, "new", None);
    let mut after = 30;
    until("only the mark is left that was found before", || {
        after += 10;
        lab.produce(&topic, after, "filler", Some(b"1"));
        let records: Vec<String> = lab.records(&topic).into_values().collect();
        (!records.contains(&"new=".to_owned()) && records.contains(&"old=".to_owned())).then_some(())
    });
}

fn dohle_durability(lab: &mut Lab) {
    let topic = lab.topic(&[]);
    lab.set(&topic, "relaxed");
    lab.produce(&topic, 0, "key", Some(b"value"));
    lab.assert_not_flushed(&topic);
    lab.set(&topic, "durable");
    until("what was written before is durable", || lab.recovery_point(&topic));
}

fn file_delete_delay_ms(lab: &mut Lab) {
    let topic = lab.topic(&COMPACTED);
    lab.produce_dirt(&topic);
    lab.wait_for_compaction(&topic);
    assert_eq!(lab.files(&topic, 0, ".deleted").len(), 2);
    lab.set(&topic, "0");
    until("the files are removed", || lab.files(&topic, 0, ".deleted").is_empty().then_some(()));
}

fn flush_messages(lab: &mut Lab) {
    let topic = lab.topic(&[("dohle.durability", "relaxed")]);
    lab.produce(&topic, 0, "key", Some(b"value"));
    lab.assert_not_flushed(&topic);
    lab.set(&topic, "2");
    lab.produce(&topic, 0, "key", Some(b"value"));
    until("two records are flushed", || (lab.recovery_point(&topic)? == 2).then_some(()));
}

fn flush_ms(lab: &mut Lab) {
    let topic = lab.topic(&[("dohle.durability", "relaxed")]);
    lab.produce(&topic, 0, "key", Some(b"value"));
    lab.assert_not_flushed(&topic);
    lab.set(&topic, "1");
    until("what was written before is flushed", || (lab.recovery_point(&topic)? == 1).then_some(()));
    lab.produce(&topic, 0, "key", Some(b"value"));
    until("and what comes later", || (lab.recovery_point(&topic)? == 2).then_some(()));
}

fn index_interval_bytes(lab: &mut Lab) {
    let topic = lab.topic(&[("segment.ms", "1000")]);
    let entries = |lab: &mut Lab, segment: i64| {
        for batch in 0..3 {
            lab.produce(&topic, segment * 2000 + batch, "key", Some(b"value"));
        }
        lab.produce(&topic, (segment + 1) * 2000, "key", Some(b"value"));
        let name = format!("{:020}.index", segment * 3);
        fs::metadata(lab.path(&topic, 0, &name)).unwrap().len() / 8
    };
    assert_eq!(entries(lab, 0), 0);
    lab.set(&topic, "0");
    // The batch that rolled the segment is the first of the next one.
    assert_eq!(entries(lab, 1), 3);
}

fn max_compaction_lag_ms(lab: &mut Lab) {
    let topic = lab.topic(&[COMPACTED[0], COMPACTED[1], ("min.cleanable.dirty.ratio", "1")]);
    lab.produce_dirt(&topic);
    lab.assert_not_compacted(&topic);
    lab.set(&topic, "1");
    lab.wait_for_compaction(&topic);
}

fn max_message_bytes(lab: &mut Lab) {
    let topic = lab.topic(&[]);
    assert_eq!(lab.produce(&topic, 0, "key", Some(&[0; 1000])).error_code, 0);
    lab.set(&topic, "1000");
    assert_eq!(lab.produce(&topic, 0, "key", Some(&[0; 1000])).error_code, ErrorCode::MessageTooLarge.code());
}

fn message_timestamp_after_max_ms(lab: &mut Lab) {
    let topic = lab.topic(&[]);
    let in_half_an_hour = 5_400_000;
    assert_eq!(lab.produce(&topic, in_half_an_hour, "key", Some(b"value")).error_code, 0);
    lab.set(&topic, "1000");
    let refused = lab.produce(&topic, in_half_an_hour, "key", Some(b"value"));
    assert_eq!(refused.error_code, ErrorCode::InvalidTimestamp.code());
}

fn message_timestamp_before_max_ms(lab: &mut Lab) {
    let topic = lab.topic(&[]);
    assert_eq!(lab.produce(&topic, 0, "key", Some(b"value")).error_code, 0);
    lab.set(&topic, "1000");
    let refused = lab.produce(&topic, 0, "key", Some(b"value"));
    assert_eq!(refused.error_code, ErrorCode::InvalidTimestamp.code());
}

fn message_timestamp_type(lab: &mut Lab) {
    let topic = lab.topic(&[]);
    assert_eq!(lab.produce(&topic, 0, "key", Some(b"value")).log_append_time_ms, -1);
    lab.set(&topic, "LogAppendTime");
    assert!(lab.produce(&topic, 0, "key", Some(b"value")).log_append_time_ms > hour_ago() + 1_800_000);
}

fn min_cleanable_dirty_ratio(lab: &mut Lab) {
    let topic = lab.topic(&COMPACTED[..2]);
    lab.set(&topic, "1");
    lab.produce_dirt(&topic);
    lab.assert_not_compacted(&topic);
    lab.set(&topic, "0");
    lab.wait_for_compaction(&topic);
}

fn min_compaction_lag_ms(lab: &mut Lab) {
    let topic = lab.topic(&COMPACTED);
    lab.set(&topic, "7200000");
    lab.produce_dirt(&topic);
    lab.assert_not_compacted(&topic);
    lab.set(&topic, "1");
    lab.wait_for_compaction(&topic);
}

/// It asks for no more replicas than there are, as Apache Kafka 4.3.1 does when it is asked.
fn min_insync_replicas(lab: &mut Lab) {
    let topic = lab.topic(&[]);
    lab.set(&topic, "2");
    assert_eq!(lab.produce(&topic, 0, "key", Some(b"value")).error_code, 0);
}

fn preallocate(lab: &mut Lab) {
    let topic = lab.topic(&[("segment.bytes", "1048576"), ("segment.ms", "1000")]);
    let room = |lab: &Lab, base: i64| {
        let metadata = fs::metadata(lab.path(&topic, 0, &format!("{base:020}.log"))).unwrap();
        assert!(metadata.len() < 1000, "the file is as long as its records");
        metadata.blocks() * 512
    };
    lab.produce(&topic, 0, "key", Some(b"value"));
    assert!(room(lab, 0) < 1 << 20);
    lab.set(&topic, "true");
    lab.produce(&topic, 2000, "key", Some(b"value"));
    assert!(room(lab, 1) >= 1 << 20);
    lab.produce(&topic, 4000, "key", Some(b"value"));
    assert!(room(lab, 1) < 1 << 20 && room(lab, 2) >= 1 << 20);
}

fn retention_bytes(lab: &mut Lab) {
    let topic = lab.topic(&COMPACTED[1..2]);
    lab.produce_dirt(&topic);
    assert_eq!(lab.earliest(&topic), 0);
    lab.set(&topic, "1");
    until("the older segments are deleted", || (lab.earliest(&topic) == 2).then_some(()));
}

fn retention_ms(lab: &mut Lab) {
    let topic = lab.topic(&COMPACTED[1..2]);
    lab.produce_dirt(&topic);
    assert_eq!(lab.earliest(&topic), 0);
    lab.set(&topic, "1000");
    until("all is deleted", || (lab.earliest(&topic) == 3).then_some(()));
}

fn segment_bytes(lab: &mut Lab) {
    let topic = lab.topic(&[]);
    let half = vec![0; 600_000];
    lab.produce(&topic, 0, "key", Some(&half));
    lab.produce(&topic, 0, "key", Some(&half));
    assert_eq!(lab.segments(&topic, 0), [0]);
    lab.set(&topic, "1048576");
    lab.produce(&topic, 0, "key", Some(&half));
    lab.produce(&topic, 0, "key", Some(&half));
    assert_eq!(lab.segments(&topic, 0), [0, 2, 3]);
}

fn segment_index_bytes(lab: &mut Lab) {
    let topic = lab.topic(&[("index.interval.bytes", "0")]);
    for _ in 0..5 {
        lab.produce(&topic, 0, "key", Some(b"value"));
    }
    assert_eq!(lab.segments(&topic, 0), [0]);
    // Room for two entries.
    lab.set(&topic, "16");
    for _ in 0..5 {
        lab.produce(&topic, 0, "key", Some(b"value"));
    }
    assert!(lab.segments(&topic, 0).len() > 2);
}

fn segment_jitter_ms(lab: &mut Lab) {
    let partitions = 8;
    let topic = lab.topic_of(partitions, &[("segment.ms", "3600000")]);
    let (begin, almost) = (hour_ago(), 3_540_000);
    let produce = |lab: &mut Lab, after: i64| {
        for partition in 0..partitions {
            lab.produce_to(&topic, partition, begin + after, "key", Some(b"value"));
        }
        (0..partitions).filter(|&partition| lab.segments(&topic, partition).len() > 1).count()
    };
    assert_eq!((produce(lab, 0), produce(lab, almost)), (0, 0));
    lab.set(&topic, "3600000");
    assert!(produce(lab, almost) > 0);
}

fn segment_ms(lab: &mut Lab) {
    let topic = lab.topic(&[]);
    lab.produce(&topic, 0, "key", Some(b"value"));
    lab.produce(&topic, 600_000, "key", Some(b"value"));
    assert_eq!(lab.segments(&topic, 0), [0]);
    lab.set(&topic, "1000");
    lab.produce(&topic, 1_200_000, "key", Some(b"value"));
    assert_eq!(lab.segments(&topic, 0), [0, 2]);
}
