//! The table: every config, by subject. A new config is one row in the file of its subject.

pub(crate) mod group;
pub(crate) mod groups;
pub(crate) mod log;
pub(crate) mod modern_groups;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod others;
pub(crate) mod quorum;
pub(crate) mod quotas;
pub(crate) mod remote;
pub(crate) mod replication;
pub(crate) mod security;
pub(crate) mod shares;
pub(crate) mod topic;
pub(crate) mod topics;
pub(crate) mod transactions;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::row::Config;

/// Why a config is without effect.
pub(crate) mod reasons {
    pub(crate) const BUFFERS: &str = "the system sizes the buffers of sockets by what they carry";
    pub(crate) const CHECKPOINTS: &str =
        "all checkpoints are written together, every log.flush.offset.checkpoint.interval.ms";
    pub(crate) const CLUSTER: &str = "clusters of several nodes come with a later version";
    pub(crate) const IN_FLIGHT: &str =
        "requests in flight are counted by connection, and bounded over all of them by their bytes";
    pub(crate) const JVM: &str = "it tunes a part of Apache Kafka that Dohle does not have";
    pub(crate) const LEDGERS: &str =
        "the records of coordinators are small, appended at once, and read in pieces of 1 MiB";
    pub(crate) const METRICS: &str = "metrics are served where dohle.metrics.listeners says, and not by JMX";
    pub(crate) const ONE_CLEANER: &str = "one log is compacted at a time, or none where it is 0";
    pub(crate) const PLUGINS: &str = "Dohle loads no Java classes";
    pub(crate) const PURGATORY: &str = "Dohle removes an answered request from the purgatory at once";
    pub(crate) const QUOTAS: &str = "quotas come with a later version";
    pub(crate) const SECURITY: &str = "TLS, SASL and ACLs come with a later version";
    pub(crate) const SHARE: &str = "share groups come with a later version";
    pub(crate) const STREAMS: &str = "the streams group protocol of KIP-1071 comes with a later version";
    pub(crate) const TIERED: &str = "tiered storage comes with a later version";
    pub(crate) const TRANSACTION_ENDS: &str =
        "what waits for the end of a transaction goes on at once when it has ended";
    pub(crate) const TRANSACTION_TIMEOUTS: &str =
        "a transaction is aborted when its time is over, not some time later";
    pub(crate) const TWO_PHASE_COMMIT: &str = "two-phase commit (KIP-939) comes with a later version";
}

/// The configs of one subject.
#[derive(Debug)]
pub struct Area {
    /// The subject, as the heading in the docs.
    pub title: &'static str,
    /// Its configs.
    pub rows: &'static [Config],
}

/// All broker configs, by subject.
pub const BROKER: &[Area] = &[
    Area { title: "The node and its threads", rows: node::ROWS },
    Area { title: "Listeners and connections", rows: network::ROWS },
    Area { title: "Topics and their defaults", rows: topics::ROWS },
    Area { title: "The log", rows: log::ROWS },
    Area { title: "Replication", rows: replication::ROWS },
    Area { title: "Metadata and the controller quorum", rows: quorum::ROWS },
    Area { title: "Consumer groups and committed offsets", rows: groups::ROWS },
    Area { title: "Groups of the new protocols (KIP-848, KIP-1071)", rows: modern_groups::ROWS },
    Area { title: "Share groups (KIP-932)", rows: shares::ROWS },
    Area { title: "Transactions", rows: transactions::ROWS },
    Area { title: "Quotas and metrics", rows: quotas::ROWS },
    Area { title: "Security", rows: security::ROWS },
    Area { title: "Tiered storage (KIP-405)", rows: remote::ROWS },
];

/// All topic configs.
pub const TOPIC: &[Config] = topic::ROWS;

/// All configs of groups.
pub const GROUP: &[Config] = group::ROWS;

static BROKER_BY_NAME: LazyLock<BTreeMap<&str, &Config>> =
    LazyLock::new(|| BROKER.iter().flat_map(|area| area.rows).map(|row| (row.name, row)).collect());

static TOPIC_BY_NAME: LazyLock<BTreeMap<&str, &Config>> =
    LazyLock::new(|| TOPIC.iter().map(|row| (row.name, row)).collect());

/// The group config of this name.
#[must_use]
pub fn group_config(name: &str) -> Option<&'static Config> {
    GROUP.iter().find(|row| row.name == name)
}

/// All group configs, by name.
pub fn group_configs() -> impl Iterator<Item = &'static Config> {
    GROUP.iter()
}

/// The broker config of this name.
#[must_use]
pub fn broker_config(name: &str) -> Option<&'static Config> {
    BROKER_BY_NAME.get(name).copied()
}

/// All broker configs, by name.
pub fn broker_configs() -> impl Iterator<Item = &'static Config> {
    BROKER_BY_NAME.values().copied()
}

/// The topic config of this name.
#[must_use]
pub fn topic_config(name: &str) -> Option<&'static Config> {
    TOPIC_BY_NAME.get(name).copied()
}

/// All topic configs, by name.
pub fn topic_configs() -> impl Iterator<Item = &'static Config> {
    TOPIC_BY_NAME.values().copied()
}
