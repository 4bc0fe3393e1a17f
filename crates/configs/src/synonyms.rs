//! Names that tell the same value: several broker configs of one meaning, and the broker configs from which
//! topics take what they do not set themselves.

use crate::broker_config::BrokerConfig;
use crate::table::{broker_config, topic_config};

/// Broker configs of one meaning; the first that is set counts (Kafka's `brokerConfigSynonyms`).
const SAME: &[&[&str]] = &[
    &["log.roll.ms", "log.roll.hours"],
    &["log.roll.jitter.ms", "log.roll.jitter.hours"],
    &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
];

/// A flush interval that is not set is told by the scheduler's, but not the other way round.
const FLUSH: &[&str] = &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"];

/// Topic configs and the broker configs they default to (Kafka's `ServerTopicConfigSynonyms`).
const INHERITED: &[(&str, &str)] = &[
    ("cleanup.policy", "log.cleanup.policy"),
    ("compression.gzip.level", "compression.gzip.level"),
    ("compression.lz4.level", "compression.lz4.level"),
    ("compression.type", "compression.type"),
    ("compression.zstd.level", "compression.zstd.level"),
    ("delete.retention.ms", "log.cleaner.delete.retention.ms"),
    ("dohle.durability", "dohle.durability"),
    ("file.delete.delay.ms", "log.segment.delete.delay.ms"),
    ("flush.messages", "log.flush.interval.messages"),
    ("flush.ms", "log.flush.interval.ms"),
    ("index.interval.bytes", "log.index.interval.bytes"),
    ("local.retention.bytes", "log.local.retention.bytes"),
    ("local.retention.ms", "log.local.retention.ms"),
    ("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms"),
    ("max.message.bytes", "message.max.bytes"),
    ("message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms"),
    ("message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms"),
    ("message.timestamp.type", "log.message.timestamp.type"),
    ("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio"),
    ("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms"),
    ("min.insync.replicas", "min.insync.replicas"),
    ("preallocate", "log.preallocate"),
    ("retention.bytes", "log.retention.bytes"),
    ("retention.ms", "log.retention.ms"),
    ("segment.bytes", "log.segment.bytes"),
    ("segment.index.bytes", "log.index.size.max.bytes"),
    ("segment.jitter.ms", "log.roll.jitter.ms"),
    ("segment.ms", "log.roll.ms"),
    ("unclean.leader.election.enable", "unclean.leader.election.enable"),
];

/// All names that tell the value of the broker config `name`, the strongest first.
pub(crate) fn of_broker_config(name: &str) -> Vec<&str> {
    if name == "log.flush.interval.ms" {
        return FLUSH.to_vec();
    }
    if let Some(same) = SAME.iter().find(|same| same.contains(&name)) {
        return same.to_vec();
    }
    // What is set for one listener goes before what is set for all.
    match listener_base(name) {
        Some(base) => vec![name, base],
        None => vec![name],
    }
}

/// The config that `listener.name.{listener}.{mechanism?}.{config}` sets.
pub(crate) fn listener_base(name: &str) -> Option<&str> {
    let (_, base) = name.strip_prefix("listener.name.")?.split_once('.')?;
    match broker_config(base) {
        Some(row) => Some(row.name),
        None => {
            let (_, of_mechanism) = base.split_once('.')?;
            broker_config(of_mechanism).map(|row| row.name)
        }
    }
}

/// The broker config from which a topic takes its default.
pub(crate) fn of_topic_config(name: &str) -> Option<&'static str> {
    INHERITED.iter().find(|(topic, _)| *topic == name).map(|(_, broker)| *broker)
}

/// The value of a topic config that the topic does not set itself.
pub(crate) fn inherited_text(broker: &BrokerConfig, name: &str) -> Option<String> {
    match name {
        "retention.ms" => Some(broker.log_retention_ms().to_string()),
        "segment.ms" => Some(broker.log_roll_ms().to_string()),
        "segment.jitter.ms" => Some(broker.log_roll_jitter_ms().to_string()),
        "flush.ms" => Some(broker.log_flush_interval_ms().to_string()),
        _ => match of_topic_config(name) {
            Some(broker_name) => broker.text(broker_name).map(str::to_owned),
            None => topic_config(name)?.default.map(str::to_owned),
        },
    }
}
