//! Configs of single groups. Each is `group.` and its name for the broker, which gives it its default.

use crate::row::Effect::InForce;
use crate::row::Update::PerGroup;
use crate::row::configs;
use crate::valid::Valid::AtLeast;
use crate::value::Int;

configs! {
    CONSUMER_ASSIGNMENT_INTERVAL_MS "consumer.assignment.interval.ms": Int = 1000, AtLeast(0), PerGroup, InForce,
        "The least time between two assignments of the group.";

    CONSUMER_HEARTBEAT_INTERVAL_MS "consumer.heartbeat.interval.ms": Int = 5000, AtLeast(1), PerGroup, InForce,
        "How often a member of the group sends a heartbeat.";

    CONSUMER_SESSION_TIMEOUT_MS "consumer.session.timeout.ms": Int = 45000, AtLeast(1), PerGroup, InForce,
        "After how long without a heartbeat a member of the group is removed.";
}
