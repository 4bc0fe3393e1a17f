//! Names that are not in the table of broker configs and still not unknown.

use crate::row::Effect::{InForce, WithoutEffect};
use crate::row::Update::ClusterWide;
use crate::row::configs;
use crate::table::reasons::CLUSTER;
use crate::valid::Valid::AtLeast;
use crate::value::Long;

// Throttles of a reassignment: set while the broker runs, never in a file, and reported only while set.
configs! {
    LEADER_REPLICATION_THROTTLED_RATE "leader.replication.throttled.rate": Long = 9223372036854775807,
        AtLeast(0), ClusterWide, WithoutEffect(CLUSTER),
        "How many bytes per second the throttled replicas that lead may send.";

    FOLLOWER_REPLICATION_THROTTLED_RATE "follower.replication.throttled.rate": Long = 9223372036854775807,
        AtLeast(0), ClusterWide, WithoutEffect(CLUSTER),
        "How many bytes per second the throttled replicas that follow may fetch.";

    REPLICA_ALTER_LOG_DIRS_RATE "replica.alter.log.dirs.io.max.bytes.per.second": Long = 9223372036854775807,
        AtLeast(0), ClusterWide, InForce,
        "How many bytes per second may move between log directories.";
}

/// The config of this name that exists only while the broker runs.
pub(crate) fn dynamic_only(name: &str) -> Option<&'static crate::row::Config> {
    ROWS.iter().find(|row| row.name == name)
}

/// Why a name that the table lacks is accepted in a properties file, and does nothing.
pub(crate) fn accepted_reason(name: &str) -> Option<&'static str> {
    let prefixed = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
    let named = NAMES.iter().find(|(names, _)| names.contains(&name));
    prefixed.map(|(_, reason)| *reason).or_else(|| named.map(|(_, reason)| *reason))
}

/// Apache Kafka takes any name behind these and passes it on.
const PREFIXES: &[(&str, &str)] = &[
    ("listener.name.", "settings of single listeners come with TLS and SASL in a later version"),
    ("config.providers.", "Dohle loads no Java classes"),
    ("metrics.jmx.", "metrics come with a later version, and not by JMX"),
    ("rsm.config.", "tiered storage comes with a later version"),
    ("rlmm.config.", "tiered storage comes with a later version"),
    ("confluent.", "it belongs to another distribution of Apache Kafka"),
];

const NAMES: &[(&[&str], &str)] = &[
    (&["super.users", "allow.everyone.if.no.acl.found"], "TLS, SASL and ACLs come with a later version"),
    (
        // Apache Kafka's own tests use these; its docs do not name them.
        &[
            "controller.performance.always.log.threshold.ms",
            "controller.performance.sample.period.ms",
            "group.consumer.regex.refresh.interval.ms",
            "group.share.initialize.retry.interval.ms",
            "group.share.persister.class.name",
            "internal.metadata.delete.delay.millis",
            "internal.metadata.log.segment.bytes",
            "internal.metadata.max.batch.size.in.bytes",
            "log.initial.task.delay.ms",
            "producer.id.expiration.check.interval.ms",
            "remote.log.index.file.cache.ttl.ms",
            "remote.log.manager.task.retry.backoff.max.ms",
            "remote.log.manager.task.retry.backoff.ms",
            "remote.log.manager.task.retry.jitter",
            "server.max.startup.time.ms",
            "share.coordinator.cold.partition.snapshot.interval.ms",
            "share.coordinator.state.topic.prune.interval.ms",
            "unclean.leader.election.interval.ms",
            "unstable.api.versions.enable",
            "unstable.feature.versions.enable",
        ],
        "it is internal to Apache Kafka",
    ),
    (
        &[
            "auto.include.jmx.reporter",
            "broker.id.generation.enable",
            "control.plane.listener.name",
            "controlled.shutdown.max.retries",
            "controlled.shutdown.retry.backoff.ms",
            "eligible.leader.replicas.enable",
            "inter.broker.protocol.version",
            "leader.imbalance.per.broker.percentage",
            "log.message.downconversion.enable",
            "log.message.format.version",
            "log.message.timestamp.difference.max.ms",
            "password.encoder.cipher.algorithm",
            "password.encoder.iterations",
            "password.encoder.key.length",
            "password.encoder.keyfactory.algorithm",
            "password.encoder.old.secret",
            "password.encoder.secret",
            "reserved.broker.max.id",
            "zookeeper.clientCnxnSocket",
            "zookeeper.connect",
            "zookeeper.connection.timeout.ms",
            "zookeeper.max.in.flight.requests",
            "zookeeper.metadata.migration.enable",
            "zookeeper.session.timeout.ms",
            "zookeeper.set.acl",
        ],
        "Apache Kafka 4 has removed it",
    ),
];
