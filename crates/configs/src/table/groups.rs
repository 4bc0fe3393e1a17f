//! Consumer groups and committed offsets.

use crate::row::Effect::{InForce, WithoutEffect};
use crate::row::Update::{ClusterWide, ReadOnly};
use crate::row::configs;
use crate::table::reasons::{JVM, LEDGERS};
use crate::valid::Valid::{Any, AtLeast, Between, Subset};
use crate::value::{Int, List, Long, Short};

configs! {
    GROUP_MIN_SESSION_TIMEOUT_MS "group.min.session.timeout.ms": Int = 6000, Any, ReadOnly, InForce,
        "The shortest session timeout a member may ask for.";

    GROUP_MAX_SESSION_TIMEOUT_MS "group.max.session.timeout.ms": Int = 1800000, Any, ReadOnly, InForce,
        "The longest session timeout a member may ask for.";

    GROUP_INITIAL_REBALANCE_DELAY_MS "group.initial.rebalance.delay.ms": Int = 3000, Any, ReadOnly, InForce,
        "How long an empty group waits for more members before its first rebalance.";

    GROUP_MAX_SIZE "group.max.size": Int = 2147483647, AtLeast(1), ReadOnly, InForce,
        "The most members of a group.";

    GROUP_COORDINATOR_REBALANCE_PROTOCOLS "group.coordinator.rebalance.protocols": List = "classic,consumer,streams",
        Subset(&["consumer", "classic", "share", "streams"]), ReadOnly, InForce,
        "Which group protocols are served. Dohle serves `classic`, always, and `consumer`.";

    GROUP_COORDINATOR_THREADS "group.coordinator.threads": Int = 4, AtLeast(1), ReadOnly, WithoutEffect(JVM),
        "How many threads run the group coordinator.";

    GROUP_COORDINATOR_BACKGROUND_THREADS "group.coordinator.background.threads": Int = 2,
        AtLeast(1), ReadOnly, WithoutEffect(JVM),
        "How many threads do the coordinator's background work.";

    GROUP_COORDINATOR_APPEND_LINGER_MS "group.coordinator.append.linger.ms": Int = -1,
        AtLeast(-1), ReadOnly, WithoutEffect(JVM),
        "How long the coordinator gathers records before it writes them; -1 adapts to the load.";

    GROUP_COORDINATOR_CACHED_BUFFER_MAX_BYTES "group.coordinator.cached.buffer.max.bytes": Int = 1048588,
        AtLeast(524288), ClusterWide, WithoutEffect(JVM),
        "How large a write buffer the coordinator keeps for the next write.";

    OFFSET_METADATA_MAX_BYTES "offset.metadata.max.bytes": Int = 4096, Any, ReadOnly, InForce,
        "The longest metadata text of a committed offset.";

    OFFSETS_COMMIT_TIMEOUT_MS "offsets.commit.timeout.ms": Int = 5000, AtLeast(1), ReadOnly, WithoutEffect(LEDGERS),
        "How long an offset commit waits for the replicas.";

    OFFSETS_LOAD_BUFFER_SIZE "offsets.load.buffer.size": Int = 5242880, AtLeast(1), ReadOnly, WithoutEffect(LEDGERS),
        "How many bytes at a time are read when offsets are loaded.";

    OFFSETS_RETENTION_MINUTES "offsets.retention.minutes": Int = 10080, AtLeast(1), ReadOnly, InForce,
        "How long the offsets of an empty group are kept.";

    OFFSETS_RETENTION_CHECK_INTERVAL_MS "offsets.retention.check.interval.ms": Long = 600000,
        AtLeast(1), ReadOnly, InForce,
        "How often expired offsets are looked for.";

    OFFSETS_TOPIC_COMPRESSION_CODEC "offsets.topic.compression.codec": Int = 0,
        Between(0, 4), ReadOnly, WithoutEffect(LEDGERS),
        "The compression of `__consumer_offsets`: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.";

    OFFSETS_TOPIC_NUM_PARTITIONS "offsets.topic.num.partitions": Int = 50, AtLeast(1), ReadOnly, InForce,
        "The number of partitions of `__consumer_offsets`; fixed once the topic exists.";

    OFFSETS_TOPIC_REPLICATION_FACTOR "offsets.topic.replication.factor": Short = 3,
        AtLeast(1), ReadOnly, InForce,
        "The number of replicas of `__consumer_offsets`; brokers that are not there are not counted, so a \
         single node works.";

    OFFSETS_TOPIC_SEGMENT_BYTES "offsets.topic.segment.bytes": Int = 104857600, AtLeast(1), ReadOnly, InForce,
        "The segment size of `__consumer_offsets`.";
}
