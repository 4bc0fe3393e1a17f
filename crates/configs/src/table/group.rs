//! Configs of single groups. Most are `group.` and their name for the broker, which gives them their defaults.

use crate::row::Effect::{InForce, WithoutEffect};
use crate::row::Update::PerGroup;
use crate::row::configs;
use crate::table::reasons::SHARE;
use crate::valid::Valid::{Any, AtLeast};
use crate::value::Int;

configs! {
    CONSUMER_ASSIGNMENT_INTERVAL_MS "consumer.assignment.interval.ms": Int = 1000, AtLeast(0), PerGroup, InForce,
        "The least time between two assignments of the group.";

    CONSUMER_HEARTBEAT_INTERVAL_MS "consumer.heartbeat.interval.ms": Int = 5000, AtLeast(1), PerGroup, InForce,
        "How often a member of the group sends a heartbeat.";

    CONSUMER_SESSION_TIMEOUT_MS "consumer.session.timeout.ms": Int = 45000, AtLeast(1), PerGroup, InForce,
        "After how long without a heartbeat a member of the group is removed.";

    ERRORS_DEADLETTERQUEUE_TOPIC_NAME "errors.deadletterqueue.topic.name": String = "", Any, PerGroup, WithoutEffect(SHARE),
        "The topic to which a share group's records go that are not delivered any more (KIP-1191); empty for none. Not an \
         internal one.";

    SHARE_DELIVERY_COUNT_LIMIT "share.delivery.count.limit": Int = 5, AtLeast(2), PerGroup, WithoutEffect(SHARE),
        "How often a record is delivered to a share group before it is set aside.";
}
