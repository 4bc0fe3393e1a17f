//! Share groups (KIP-932).

use crate::row::Effect::WithoutEffect;
use crate::row::Update::{ClusterWide, ReadOnly};
use crate::row::configs;
use crate::table::reasons::SHARE;
use crate::valid::Valid::{Any, AtLeast, Between};
use crate::value::{Int, List, Short};

configs! {
    GROUP_SHARE_ASSIGNORS "group.share.assignors": List = "simple", Any, ReadOnly, WithoutEffect(SHARE),
        "The assignors of share groups.";

    GROUP_SHARE_ASSIGNMENT_INTERVAL_MS "group.share.assignment.interval.ms": Int = 1000,
        AtLeast(0), ClusterWide, WithoutEffect(SHARE),
        "The least time between two assignments of a share group.";

    GROUP_SHARE_MIN_ASSIGNMENT_INTERVAL_MS "group.share.min.assignment.interval.ms": Int = 0,
        AtLeast(0), ReadOnly, WithoutEffect(SHARE),
        "The smallest `group.share.assignment.interval.ms` of a group.";

    GROUP_SHARE_MAX_ASSIGNMENT_INTERVAL_MS "group.share.max.assignment.interval.ms": Int = 15000,
        AtLeast(0), ReadOnly, WithoutEffect(SHARE),
        "The largest `group.share.assignment.interval.ms` of a group.";

    GROUP_SHARE_HEARTBEAT_INTERVAL_MS "group.share.heartbeat.interval.ms": Int = 5000,
        AtLeast(1), ReadOnly, WithoutEffect(SHARE),
        "How often a member of a share group sends a heartbeat.";

    GROUP_SHARE_MIN_HEARTBEAT_INTERVAL_MS "group.share.min.heartbeat.interval.ms": Int = 5000,
        AtLeast(1), ReadOnly, WithoutEffect(SHARE),
        "The shortest heartbeat interval of a share group.";

    GROUP_SHARE_MAX_HEARTBEAT_INTERVAL_MS "group.share.max.heartbeat.interval.ms": Int = 15000,
        AtLeast(1), ReadOnly, WithoutEffect(SHARE),
        "The longest heartbeat interval of a share group.";

    GROUP_SHARE_SESSION_TIMEOUT_MS "group.share.session.timeout.ms": Int = 45000,
        AtLeast(1), ReadOnly, WithoutEffect(SHARE),
        "After how long without a heartbeat a member of a share group is removed.";

    GROUP_SHARE_MIN_SESSION_TIMEOUT_MS "group.share.min.session.timeout.ms": Int = 45000,
        AtLeast(1), ReadOnly, WithoutEffect(SHARE),
        "The shortest session timeout of a share group.";

    GROUP_SHARE_MAX_SESSION_TIMEOUT_MS "group.share.max.session.timeout.ms": Int = 60000,
        AtLeast(1), ReadOnly, WithoutEffect(SHARE),
        "The longest session timeout of a share group.";

    GROUP_SHARE_MAX_SIZE "group.share.max.size": Int = 200, Between(1, 1000), ReadOnly, WithoutEffect(SHARE),
        "The most members of a share group.";

    GROUP_SHARE_MAX_SHARE_SESSIONS "group.share.max.share.sessions": Int = 2000,
        AtLeast(1), ReadOnly, WithoutEffect(SHARE),
        "The most share sessions of a broker.";

    GROUP_SHARE_DELIVERY_COUNT_LIMIT "group.share.delivery.count.limit": Int = 5,
        Between(2, 10), ReadOnly, WithoutEffect(SHARE),
        "How often a record is delivered before it is given up.";

    GROUP_SHARE_MIN_DELIVERY_COUNT_LIMIT "group.share.min.delivery.count.limit": Int = 2,
        Between(2, 5), ReadOnly, WithoutEffect(SHARE),
        "The smallest delivery limit of a share group.";

    GROUP_SHARE_MAX_DELIVERY_COUNT_LIMIT "group.share.max.delivery.count.limit": Int = 10,
        Between(5, 25), ReadOnly, WithoutEffect(SHARE),
        "The largest delivery limit of a share group.";

    GROUP_SHARE_PARTITION_MAX_RECORD_LOCKS "group.share.partition.max.record.locks": Int = 2000,
        Between(100, 10000), ReadOnly, WithoutEffect(SHARE),
        "How many records of a partition may be in delivery.";

    GROUP_SHARE_MIN_PARTITION_MAX_RECORD_LOCKS "group.share.min.partition.max.record.locks": Int = 100,
        Between(100, 2000), ReadOnly, WithoutEffect(SHARE),
        "The smallest limit of records in delivery of a share group.";

    GROUP_SHARE_MAX_PARTITION_MAX_RECORD_LOCKS "group.share.max.partition.max.record.locks": Int = 4000,
        Between(2000, 10000), ReadOnly, WithoutEffect(SHARE),
        "The largest limit of records in delivery of a share group.";

    GROUP_SHARE_RECORD_LOCK_DURATION_MS "group.share.record.lock.duration.ms": Int = 30000,
        Between(1000, 3600000), ReadOnly, WithoutEffect(SHARE),
        "How long a record stays with the consumer it was delivered to.";

    GROUP_SHARE_MIN_RECORD_LOCK_DURATION_MS "group.share.min.record.lock.duration.ms": Int = 15000,
        Between(1000, 30000), ReadOnly, WithoutEffect(SHARE),
        "The shortest lock duration of a share group.";

    GROUP_SHARE_MAX_RECORD_LOCK_DURATION_MS "group.share.max.record.lock.duration.ms": Int = 60000,
        Between(30000, 3600000), ReadOnly, WithoutEffect(SHARE),
        "The longest lock duration of a share group.";

    SHARE_COORDINATOR_APPEND_LINGER_MS "share.coordinator.append.linger.ms": Int = -1,
        AtLeast(-1), ReadOnly, WithoutEffect(SHARE),
        "How long the share coordinator gathers records before it writes them; -1 adapts to the load.";

    SHARE_COORDINATOR_CACHED_BUFFER_MAX_BYTES "share.coordinator.cached.buffer.max.bytes": Int = 1048588,
        AtLeast(524288), ClusterWide, WithoutEffect(SHARE),
        "How large a write buffer the share coordinator keeps for the next write.";

    SHARE_COORDINATOR_LOAD_BUFFER_SIZE "share.coordinator.load.buffer.size": Int = 5242880,
        AtLeast(1), ReadOnly, WithoutEffect(SHARE),
        "How many bytes at a time are read when share state is loaded.";

    SHARE_COORDINATOR_SNAPSHOT_UPDATE_RECORDS_PER_SNAPSHOT "share.coordinator.snapshot.update.records.per.snapshot": Int = 500,
        Between(0, 500), ReadOnly, WithoutEffect(SHARE),
        "How many updates are written between two snapshots of a share partition's state.";

    SHARE_COORDINATOR_STATE_TOPIC_COMPRESSION_CODEC "share.coordinator.state.topic.compression.codec": Int = 0,
        Between(0, 4), ReadOnly, WithoutEffect(SHARE),
        "The compression of `__share_group_state`, by its number.";

    SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR "share.coordinator.state.topic.min.isr": Short = 2,
        AtLeast(1), ReadOnly, WithoutEffect(SHARE),
        "The `min.insync.replicas` of `__share_group_state`.";

    SHARE_COORDINATOR_STATE_TOPIC_NUM_PARTITIONS "share.coordinator.state.topic.num.partitions": Int = 50,
        AtLeast(1), ReadOnly, WithoutEffect(SHARE),
        "The number of partitions of `__share_group_state`.";

    SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR "share.coordinator.state.topic.replication.factor": Short = 3,
        AtLeast(1), ReadOnly, WithoutEffect(SHARE),
        "The number of replicas of `__share_group_state`.";

    SHARE_COORDINATOR_STATE_TOPIC_SEGMENT_BYTES "share.coordinator.state.topic.segment.bytes": Int = 104857600,
        AtLeast(1), ReadOnly, WithoutEffect(SHARE),
        "The segment size of `__share_group_state`.";

    SHARE_COORDINATOR_THREADS "share.coordinator.threads": Int = 1,
        AtLeast(1), ReadOnly, WithoutEffect(SHARE),
        "How many threads run the share coordinator.";

    SHARE_COORDINATOR_WRITE_TIMEOUT_MS "share.coordinator.write.timeout.ms": Int = 5000,
        AtLeast(1), ReadOnly, WithoutEffect(SHARE),
        "How long a write of share state waits for the replicas.";

    SHARE_FETCH_PURGATORY_PURGE_INTERVAL_REQUESTS "share.fetch.purgatory.purge.interval.requests": Int = 1000,
        Any, ReadOnly, WithoutEffect(SHARE),
        "After how many requests the purgatory of waiting share fetches is cleaned.";
}
