//! The configs of one topic as the log uses them.

use std::collections::BTreeMap;

use crate::broker_config::{BrokerConfig, check_value};
use crate::row::Key;
use crate::synonyms::inherited_text;
use crate::table::topic_config;
use crate::topic;
use crate::value::{Typed, Value};

/// All configs of a topic that the broker acts on: the topic's own values over the broker's.
///
/// Times are milliseconds. Where Kafka writes -1 or any negative number for "no limit" there is `None` here.
#[derive(Clone, PartialEq, Debug)]
pub struct TopicConfig {
    /// `segment.bytes`: the size at which a segment is closed.
    pub segment_bytes: u32,
    /// `segment.ms`: the age at which a segment is closed.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: by how much at most a segment is closed earlier.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`: the largest offset index or time index.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`: bytes of records between two index entries.
    pub index_interval_bytes: u32,
    /// `retention.ms`: how long records are kept.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`: how large the partition may grow.
    pub retention_bytes: Option<u64>,
    /// `cleanup.policy`: what happens to old segments.
    pub cleanup_policy: CleanupPolicy,
    /// `file.delete.delay.ms`: how long a deleted file is kept.
    pub file_delete_delay_ms: i64,
    /// `delete.retention.ms`: how long deletion marks of a compacted topic are kept.
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`: how long a record stays uncompacted at least.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: how long a record stays uncompacted at most.
    pub max_compaction_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`: how much must be uncleaned before it is cleaned.
    pub min_cleanable_dirty_ratio: f64,
    /// `max.message.bytes`: the largest batch accepted.
    pub max_message_bytes: u32,
    /// `message.timestamp.type`: whose time a record carries.
    pub message_timestamp_type: MessageTimestampType,
    /// `message.timestamp.before.max.ms`: how far a timestamp may lie in the past.
    pub message_timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far a timestamp may lie in the future.
    pub message_timestamp_after_max_ms: i64,
    /// `compression.type` and the level that belongs to it.
    pub compression: Compression,
    /// `min.insync.replicas`: how many replicas must have a record before acks=all is answered.
    pub min_insync_replicas: u32,
    /// `unclean.leader.election.enable`: whether a replica that lacks records may lead.
    pub unclean_leader_election_enable: bool,
    /// `flush.messages`: after how many records the log is written to the disk.
    pub flush_messages: i64,
    /// `flush.ms`: after how long the log is written to the disk.
    pub flush_ms: i64,
    /// `preallocate`: whether a segment's file gets its full size at once.
    pub preallocate: bool,
    /// `dohle.durability`: what an acknowledgement of acks=all promises.
    pub durability: Durability,
}

/// `cleanup.policy`. Neither means that everything is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanupPolicy {
    /// Old segments are deleted after the retention.
    pub delete: bool,
    /// Old segments are compacted to the last record of each key.
    pub compact: bool,
}

/// `message.timestamp.type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageTimestampType {
    /// The time the producer gave.
    CreateTime,
    /// The time of the append.
    LogAppendTime,
}

/// `compression.type`, with the level that the topic sets for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Whatever the producer chose.
    Producer,
    /// None.
    Uncompressed,
    /// gzip, with its level; -1 is zlib's default.
    Gzip(i32),
    /// snappy.
    Snappy,
    /// lz4, with its level.
    Lz4(i32),
    /// zstd, with its level.
    Zstd(i32),
}

/// `dohle.durability`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// acks=all is answered once the records are on the disk.
    Durable,
    /// acks=all is answered once the operating system has the records, as in Apache Kafka.
    Relaxed,
}

impl TopicConfig {
    /// The configs of a topic with these values of its own on a broker.
    ///
    /// A value that is not allowed, which only a data directory of another origin can hold, counts as not set.
    #[must_use]
    pub fn resolve<'a>(
        broker: &BrokerConfig,
        overrides: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let of = Layers { broker, overrides: overrides.into_iter().collect() };
        let cleanup_policy = of.value(topic::CLEANUP_POLICY);
        Self {
            segment_bytes: unsigned(of.value(topic::SEGMENT_BYTES)),
            segment_ms: of.value(topic::SEGMENT_MS),
            segment_jitter_ms: of.value(topic::SEGMENT_JITTER_MS),
            segment_index_bytes: unsigned(of.value(topic::SEGMENT_INDEX_BYTES)),
            index_interval_bytes: unsigned(of.value(topic::INDEX_INTERVAL_BYTES)),
            retention_ms: limit(of.value(topic::RETENTION_MS)),
            retention_bytes: u64::try_from(of.value(topic::RETENTION_BYTES)).ok(),
            cleanup_policy: CleanupPolicy {
                delete: cleanup_policy.iter().any(|policy| policy == "delete"),
                compact: cleanup_policy.iter().any(|policy| policy == "compact"),
            },
            file_delete_delay_ms: of.value(topic::FILE_DELETE_DELAY_MS),
            delete_retention_ms: of.value(topic::DELETE_RETENTION_MS),
            min_compaction_lag_ms: of.value(topic::MIN_COMPACTION_LAG_MS),
            max_compaction_lag_ms: of.value(topic::MAX_COMPACTION_LAG_MS),
            min_cleanable_dirty_ratio: of.value(topic::MIN_CLEANABLE_DIRTY_RATIO),
            max_message_bytes: unsigned(of.value(topic::MAX_MESSAGE_BYTES)),
            message_timestamp_type: MessageTimestampType::parse(&of.value(topic::MESSAGE_TIMESTAMP_TYPE)),
            message_timestamp_before_max_ms: of.value(topic::MESSAGE_TIMESTAMP_BEFORE_MAX_MS),
            message_timestamp_after_max_ms: of.value(topic::MESSAGE_TIMESTAMP_AFTER_MAX_MS),
            compression: of.compression(),
            min_insync_replicas: unsigned(of.value(topic::MIN_INSYNC_REPLICAS)),
            unclean_leader_election_enable: of.value(topic::UNCLEAN_LEADER_ELECTION_ENABLE),
            flush_messages: of.value(topic::FLUSH_MESSAGES),
            flush_ms: of.value(topic::FLUSH_MS),
            preallocate: of.value(topic::PREALLOCATE),
            durability: Durability::parse(&of.value(topic::DOHLE_DURABILITY)),
        }
    }
}

/// The configs of a topic on a broker with its defaults.
impl Default for TopicConfig {
    fn default() -> Self {
        Self::resolve(&BrokerConfig::default(), [])
    }
}

/// A topic's own values over its broker's.
struct Layers<'a> {
    broker: &'a BrokerConfig,
    overrides: BTreeMap<&'a str, &'a str>,
}

impl Layers<'_> {
    /// The topic's own value, else the broker's.
    fn value<T: Typed>(&self, key: Key<T>) -> T {
        let own = || check_value(topic_config(key.name())?, self.overrides.get(key.name())?).ok();
        let inherited = || Value::parse(T::KIND, &inherited_text(self.broker, key.name())?).ok();
        T::from_value(own().or_else(inherited)).expect("invariant 3: the broker's configs were checked")
    }

    fn compression(&self) -> Compression {
        match self.value(topic::COMPRESSION_TYPE).as_str() {
            "uncompressed" => Compression::Uncompressed,
            "gzip" => Compression::Gzip(self.value(topic::COMPRESSION_GZIP_LEVEL)),
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4(self.value(topic::COMPRESSION_LZ4_LEVEL)),
            "zstd" => Compression::Zstd(self.value(topic::COMPRESSION_ZSTD_LEVEL)),
            _ => Compression::Producer,
        }
    }
}

impl MessageTimestampType {
    fn parse(text: &str) -> Self {
        if text == "LogAppendTime" { Self::LogAppendTime } else { Self::CreateTime }
    }
}

impl Durability {
    fn parse(text: &str) -> Self {
        if text == "relaxed" { Self::Relaxed } else { Self::Durable }
    }
}

/// The table allows these values no negative numbers.
fn unsigned(value: i32) -> u32 {
    u32::try_from(value).unwrap_or_default()
}

fn limit(value: i64) -> Option<i64> {
    (value >= 0).then_some(value)
}
