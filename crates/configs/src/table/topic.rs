//! Topic configs.

use crate::row::Effect::{InForce, WithoutEffect};
use crate::row::Update::PerTopic;
use crate::row::configs;
use crate::table::reasons::{CLUSTER, TIERED};
use crate::valid::Valid::{
    Any, AtLeast, Between, BetweenOrMinusOne, Fraction, OneOf, Subset, ThrottledReplicas,
};
use crate::value::{Boolean, Double, Int, List, Long};

configs! {
    CLEANUP_POLICY "cleanup.policy": List = "delete", Subset(&["compact", "delete"]), PerTopic, InForce,
        "What happens to old segments: `delete` after the retention, `compact` to the last record of each \
         key, or both; empty keeps everything.";

    COMPRESSION_TYPE "compression.type": String = "producer",
        OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), PerTopic, InForce,
        "How batches are compressed in the log; `producer` keeps what the producer chose.";

    COMPRESSION_GZIP_LEVEL "compression.gzip.level": Int = -1, BetweenOrMinusOne(1, 9), PerTopic, InForce,
        "The gzip level where the broker compresses; -1 is the codec's default.";

    COMPRESSION_LZ4_LEVEL "compression.lz4.level": Int = 9, Between(1, 17), PerTopic, InForce,
        "The lz4 level where the broker compresses.";

    COMPRESSION_ZSTD_LEVEL "compression.zstd.level": Int = 3, Between(-131072, 22), PerTopic, InForce,
        "The zstd level where the broker compresses.";

    DELETE_RETENTION_MS "delete.retention.ms": Long = 86400000,
        AtLeast(0), PerTopic, InForce,
        "How long the deletion marks of a compacted topic are kept.";

    DOHLE_DURABILITY "dohle.durability": String = "durable",
        OneOf(&["durable", "relaxed"]), PerTopic, InForce,
        "`durable`: a write with acks=all is answered after it is on the disk (fdatasync). `relaxed`: it \
         is answered once the operating system has it, as Apache Kafka does; a power loss may take it.";

    FILE_DELETE_DELAY_MS "file.delete.delay.ms": Long = 60000, AtLeast(0), PerTopic, InForce,
        "How long a deleted segment's file is kept before it is removed.";

    FLUSH_MESSAGES "flush.messages": Long = 9223372036854775807, AtLeast(1), PerTopic, InForce,
        "After how many records a partition is written to the disk, for which the last of them waits.";

    FLUSH_MS "flush.ms": Long = 9223372036854775807, AtLeast(0), PerTopic, InForce,
        "After how long a record is written to the disk at the latest, whether or not anyone waits for it.";

    FOLLOWER_REPLICATION_THROTTLED_REPLICAS "follower.replication.throttled.replicas": List = "",
        ThrottledReplicas, PerTopic, WithoutEffect(CLUSTER),
        "The replicas whose following is throttled, as `partition:broker`; `*` means all.";

    INDEX_INTERVAL_BYTES "index.interval.bytes": Int = 4096, AtLeast(0), PerTopic, InForce,
        "After how many bytes of records an entry is added to the offset index.";

    LEADER_REPLICATION_THROTTLED_REPLICAS "leader.replication.throttled.replicas": List = "",
        ThrottledReplicas, PerTopic, WithoutEffect(CLUSTER),
        "The replicas whose leading is throttled, as `partition:broker`; `*` means all.";

    LOCAL_RETENTION_BYTES "local.retention.bytes": Long = -2, AtLeast(-2), PerTopic, WithoutEffect(TIERED),
        "How many bytes of a tiered partition stay on the local disk; -2 follows `retention.bytes`.";

    LOCAL_RETENTION_MS "local.retention.ms": Long = -2, AtLeast(-2), PerTopic, WithoutEffect(TIERED),
        "How long records of a tiered topic stay on the local disk; -2 follows `retention.ms`.";

    MAX_COMPACTION_LAG_MS "max.compaction.lag.ms": Long = 9223372036854775807,
        AtLeast(1), PerTopic, InForce,
        "How long a record stays uncompacted at most.";

    MAX_MESSAGE_BYTES "max.message.bytes": Int = 1048588, AtLeast(0), PerTopic, InForce,
        "The largest record batch accepted.";

    MESSAGE_TIMESTAMP_AFTER_MAX_MS "message.timestamp.after.max.ms": Long = 3600000,
        AtLeast(0), PerTopic, InForce,
        "How far a record's timestamp may lie after the broker's time.";

    MESSAGE_TIMESTAMP_BEFORE_MAX_MS "message.timestamp.before.max.ms": Long = 9223372036854775807,
        AtLeast(0), PerTopic, InForce,
        "How far a record's timestamp may lie before the broker's time.";

    MESSAGE_TIMESTAMP_TYPE "message.timestamp.type": String = "CreateTime",
        OneOf(&["CreateTime", "LogAppendTime"]), PerTopic, InForce,
        "Whether a record keeps the time its producer gave it or gets the time of its append.";

    MIN_CLEANABLE_DIRTY_RATIO "min.cleanable.dirty.ratio": Double = 0.5,
        Fraction(0.0, 1.0), PerTopic, InForce,
        "How much of a log must be uncleaned before it is cleaned again.";

    MIN_COMPACTION_LAG_MS "min.compaction.lag.ms": Long = 0, AtLeast(0), PerTopic, InForce,
        "How long a record stays uncompacted at least.";

    MIN_INSYNC_REPLICAS "min.insync.replicas": Int = 1, AtLeast(1), PerTopic, InForce,
        "How many replicas must be in sync for acks=all to be served, but no more than the partition has.";

    PREALLOCATE "preallocate": Boolean = false, Any, PerTopic, InForce,
        "Whether a new segment gets room for its full size on the disk at once.";

    REMOTE_LOG_COPY_DISABLE "remote.log.copy.disable": Boolean = false, Any, PerTopic, WithoutEffect(TIERED),
        "Whether no more segments are copied to remote storage.";

    REMOTE_LOG_DELETE_ON_DISABLE "remote.log.delete.on.disable": Boolean = false,
        Any, PerTopic, WithoutEffect(TIERED),
        "Whether turning tiered storage off deletes what is in remote storage.";

    REMOTE_STORAGE_ENABLE "remote.storage.enable": Boolean = false, Any, PerTopic, WithoutEffect(TIERED),
        "Whether closed segments of the topic move to remote storage.";

    RETENTION_BYTES "retention.bytes": Long = -1, Any, PerTopic, InForce,
        "How large a partition may grow before its oldest segments are deleted; -1 means without limit.";

    RETENTION_MS "retention.ms": Long = 604800000, AtLeast(-1), PerTopic, InForce,
        "How long records are kept; -1 means for ever.";

    SEGMENT_BYTES "segment.bytes": Int = 1073741824, AtLeast(1048576), PerTopic, InForce,
        "The size at which a segment is closed and the next one begun.";

    SEGMENT_INDEX_BYTES "segment.index.bytes": Int = 10485760, AtLeast(4), PerTopic, InForce,
        "The most bytes of a segment's index; a full index rolls the segment.";

    SEGMENT_JITTER_MS "segment.jitter.ms": Long = 0, AtLeast(0), PerTopic, InForce,
        "The most by which a segment is closed earlier, at random, so that not all roll at once.";

    SEGMENT_MS "segment.ms": Long = 604800000, AtLeast(1), PerTopic, InForce,
        "The age at which a segment is closed even if it is not full.";

    UNCLEAN_LEADER_ELECTION_ENABLE "unclean.leader.election.enable": Boolean = false,
        Any, PerTopic, WithoutEffect(CLUSTER),
        "Whether a replica that lacks committed records may become leader, at the price of losing them.";
}
