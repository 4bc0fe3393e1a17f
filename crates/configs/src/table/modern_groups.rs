//! Groups of the new protocols (KIP-848, KIP-1071).

use crate::row::Effect::{InForce, WithoutEffect};
use crate::row::Update::{ClusterWide, ReadOnly};
use crate::row::configs;
use crate::table::reasons::STREAMS;
use crate::valid::Valid::{AtLeast, OneOfIgnoreCase, Subset};
use crate::value::{Int, List};

configs! {
    GROUP_CONSUMER_ASSIGNORS "group.consumer.assignors": List = "uniform,range",
        Subset(&[
            "uniform", "range",
            "org.apache.kafka.coordinator.group.assignor.UniformAssignor",
            "org.apache.kafka.coordinator.group.assignor.RangeAssignor",
        ]), ReadOnly, InForce,
        "The assignors of the broker; the first is the default.";

    GROUP_CONSUMER_ASSIGNMENT_INTERVAL_MS "group.consumer.assignment.interval.ms": Int = 1000,
        AtLeast(0), ClusterWide, InForce,
        "The least time between two assignments of a consumer group.";

    GROUP_CONSUMER_MIN_ASSIGNMENT_INTERVAL_MS "group.consumer.min.assignment.interval.ms": Int = 0,
        AtLeast(0), ReadOnly, InForce,
        "The smallest `group.consumer.assignment.interval.ms` of a group.";

    GROUP_CONSUMER_MAX_ASSIGNMENT_INTERVAL_MS "group.consumer.max.assignment.interval.ms": Int = 15000,
        AtLeast(0), ReadOnly, InForce,
        "The largest `group.consumer.assignment.interval.ms` of a group.";

    GROUP_CONSUMER_HEARTBEAT_INTERVAL_MS "group.consumer.heartbeat.interval.ms": Int = 5000,
        AtLeast(1), ReadOnly, InForce,
        "How often a member of a consumer group sends a heartbeat.";

    GROUP_CONSUMER_MIN_HEARTBEAT_INTERVAL_MS "group.consumer.min.heartbeat.interval.ms": Int = 5000,
        AtLeast(1), ReadOnly, InForce,
        "The shortest heartbeat interval of a consumer group.";

    GROUP_CONSUMER_MAX_HEARTBEAT_INTERVAL_MS "group.consumer.max.heartbeat.interval.ms": Int = 15000,
        AtLeast(1), ReadOnly, InForce,
        "The longest heartbeat interval of a consumer group.";

    GROUP_CONSUMER_SESSION_TIMEOUT_MS "group.consumer.session.timeout.ms": Int = 45000,
        AtLeast(1), ReadOnly, InForce,
        "After how long without a heartbeat a member of a consumer group is removed.";

    GROUP_CONSUMER_MIN_SESSION_TIMEOUT_MS "group.consumer.min.session.timeout.ms": Int = 45000,
        AtLeast(1), ReadOnly, InForce,
        "The shortest session timeout of a consumer group.";

    GROUP_CONSUMER_MAX_SESSION_TIMEOUT_MS "group.consumer.max.session.timeout.ms": Int = 60000,
        AtLeast(1), ReadOnly, InForce,
        "The longest session timeout of a consumer group.";

    GROUP_CONSUMER_MAX_SIZE "group.consumer.max.size": Int = 2147483647,
        AtLeast(1), ReadOnly, InForce,
        "The most members of a consumer group.";

    GROUP_CONSUMER_MIGRATION_POLICY "group.consumer.migration.policy": String = "bidirectional",
        OneOfIgnoreCase(&["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"]), ReadOnly, InForce,
        "Whether classic groups become consumer groups, or the other way round, while members move over.";

    GROUP_STREAMS_ASSIGNMENT_INTERVAL_MS "group.streams.assignment.interval.ms": Int = 1000,
        AtLeast(0), ClusterWide, WithoutEffect(STREAMS),
        "The least time between two assignments of a streams group.";

    GROUP_STREAMS_MIN_ASSIGNMENT_INTERVAL_MS "group.streams.min.assignment.interval.ms": Int = 0,
        AtLeast(0), ReadOnly, WithoutEffect(STREAMS),
        "The smallest `group.streams.assignment.interval.ms` of a group.";

    GROUP_STREAMS_MAX_ASSIGNMENT_INTERVAL_MS "group.streams.max.assignment.interval.ms": Int = 15000,
        AtLeast(0), ReadOnly, WithoutEffect(STREAMS),
        "The largest `group.streams.assignment.interval.ms` of a group.";

    GROUP_STREAMS_HEARTBEAT_INTERVAL_MS "group.streams.heartbeat.interval.ms": Int = 5000,
        AtLeast(1), ReadOnly, WithoutEffect(STREAMS),
        "How often a member of a streams group sends a heartbeat.";

    GROUP_STREAMS_MIN_HEARTBEAT_INTERVAL_MS "group.streams.min.heartbeat.interval.ms": Int = 5000,
        AtLeast(1), ReadOnly, WithoutEffect(STREAMS),
        "The shortest heartbeat interval of a streams group.";

    GROUP_STREAMS_MAX_HEARTBEAT_INTERVAL_MS "group.streams.max.heartbeat.interval.ms": Int = 15000,
        AtLeast(1), ReadOnly, WithoutEffect(STREAMS),
        "The longest heartbeat interval of a streams group.";

    GROUP_STREAMS_SESSION_TIMEOUT_MS "group.streams.session.timeout.ms": Int = 45000,
        AtLeast(1), ReadOnly, WithoutEffect(STREAMS),
        "After how long without a heartbeat a member of a streams group is removed.";

    GROUP_STREAMS_MIN_SESSION_TIMEOUT_MS "group.streams.min.session.timeout.ms": Int = 45000,
        AtLeast(1), ReadOnly, WithoutEffect(STREAMS),
        "The shortest session timeout of a streams group.";

    GROUP_STREAMS_MAX_SESSION_TIMEOUT_MS "group.streams.max.session.timeout.ms": Int = 60000,
        AtLeast(1), ReadOnly, WithoutEffect(STREAMS),
        "The longest session timeout of a streams group.";

    GROUP_STREAMS_INITIAL_REBALANCE_DELAY_MS "group.streams.initial.rebalance.delay.ms": Int = 3000,
        AtLeast(0), ReadOnly, WithoutEffect(STREAMS),
        "How long an empty streams group waits for more members before its first rebalance.";

    GROUP_STREAMS_MAX_SIZE "group.streams.max.size": Int = 2147483647,
        AtLeast(1), ReadOnly, WithoutEffect(STREAMS),
        "The most members of a streams group.";

    GROUP_STREAMS_NUM_STANDBY_REPLICAS "group.streams.num.standby.replicas": Int = 0,
        AtLeast(0), ReadOnly, WithoutEffect(STREAMS),
        "How many standby copies each stateful task has.";

    GROUP_STREAMS_MAX_STANDBY_REPLICAS "group.streams.max.standby.replicas": Int = 2,
        AtLeast(0), ReadOnly, WithoutEffect(STREAMS),
        "The most standby copies a streams group may ask for.";
}
