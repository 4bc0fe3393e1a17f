//! The log.

use crate::row::Effect::{InForce, WithoutEffect};
use crate::row::Update::{ClusterWide, PerBroker, ReadOnly};
use crate::row::configs;
use crate::table::reasons::{CHECKPOINTS, CLUSTER, ONE_CLEANER};
use crate::valid::Valid::{Any, AtLeast, Fraction, NotZero, OneOf, Subset};
use crate::value::{Boolean, Double, Int, List, Long};

configs! {
    LOG_DIRS "log.dirs": Option<List>, Any, ReadOnly, InForce,
        "The directories that hold the data, separated by commas; it goes before `log.dir`.";

    LOG_DIR "log.dir": List = "dohle-data", Any, ReadOnly, InForce,
        "The directory that holds the data, where `log.dirs` is not set.";

    CORDONED_LOG_DIRS "cordoned.log.dirs": List = "", Any, PerBroker, InForce,
        "Log directories that get no new partitions, `*` for all of them; those that are there stay.";

    LOG_DIR_FAILURE_TIMEOUT_MS "log.dir.failure.timeout.ms": Long = 30000,
        AtLeast(1), ReadOnly, WithoutEffect(CLUSTER),
        "How long a broker that cannot report a failed log directory to the controller goes on before it \
         stops.";

    LOG_SEGMENT_BYTES "log.segment.bytes": Int = 1073741824, AtLeast(1048576), ClusterWide, InForce,
        "The size at which a segment is closed and the next one begun.";

    LOG_ROLL_MS "log.roll.ms": Option<Long>, AtLeast(1), ClusterWide, InForce,
        "The age at which a segment is closed even if it is not full; it goes before `log.roll.hours`.";

    LOG_ROLL_HOURS "log.roll.hours": Int = 168, AtLeast(1), ReadOnly, InForce,
        "The age at which a segment is closed even if it is not full, in hours.";

    LOG_ROLL_JITTER_MS "log.roll.jitter.ms": Option<Long>, AtLeast(0), ClusterWide, InForce,
        "The most by which a segment is closed earlier, at random, so that not all roll at once; it goes \
         before `log.roll.jitter.hours`.";

    LOG_ROLL_JITTER_HOURS "log.roll.jitter.hours": Int = 0, AtLeast(0), ReadOnly, InForce,
        "The most by which a segment is closed earlier, at random, in hours.";

    LOG_RETENTION_MS "log.retention.ms": Option<Long>, NotZero, ClusterWide, InForce,
        "How long records are kept; -1 means for ever. It goes before `log.retention.minutes` and \
         `log.retention.hours`.";

    LOG_RETENTION_MINUTES "log.retention.minutes": Option<Int>, NotZero, ReadOnly, InForce,
        "How long records are kept, in minutes; it goes before `log.retention.hours`.";

    LOG_RETENTION_HOURS "log.retention.hours": Int = 168, NotZero, ReadOnly, InForce,
        "How long records are kept, in hours.";

    LOG_RETENTION_BYTES "log.retention.bytes": Long = -1, Any, ClusterWide, InForce,
        "How large a partition may grow before its oldest segments are deleted; -1 means without limit.";

    LOG_RETENTION_CHECK_INTERVAL_MS "log.retention.check.interval.ms": Long = 300000,
        AtLeast(1), ReadOnly, InForce,
        "How often the log is searched for segments to delete.";

    LOG_CLEANUP_POLICY "log.cleanup.policy": List = "delete",
        Subset(&["compact", "delete"]), ClusterWide, InForce,
        "What happens to old segments: `delete` after the retention, `compact` to the last record of each \
         key, or both; empty keeps everything.";

    LOG_SEGMENT_DELETE_DELAY_MS "log.segment.delete.delay.ms": Long = 60000, AtLeast(0), ClusterWide, InForce,
        "How long a deleted segment's file is kept before it is removed.";

    LOG_INDEX_INTERVAL_BYTES "log.index.interval.bytes": Int = 4096, AtLeast(0), ClusterWide, InForce,
        "After how many bytes of records an entry is added to the offset index.";

    LOG_INDEX_SIZE_MAX_BYTES "log.index.size.max.bytes": Int = 10485760, AtLeast(4), ClusterWide, InForce,
        "The most bytes of a segment's index; a full index rolls the segment.";

    LOG_MESSAGE_TIMESTAMP_TYPE "log.message.timestamp.type": String = "CreateTime",
        OneOf(&["CreateTime", "LogAppendTime"]), ClusterWide, InForce,
        "Whether a record keeps the time its producer gave it or gets the time of its append.";

    LOG_MESSAGE_TIMESTAMP_BEFORE_MAX_MS "log.message.timestamp.before.max.ms": Long = 9223372036854775807,
        AtLeast(0), ClusterWide, InForce,
        "How far a record's timestamp may lie before the broker's time.";

    LOG_MESSAGE_TIMESTAMP_AFTER_MAX_MS "log.message.timestamp.after.max.ms": Long = 3600000,
        AtLeast(0), ClusterWide, InForce,
        "How far a record's timestamp may lie after the broker's time.";

    LOG_FLUSH_INTERVAL_MESSAGES "log.flush.interval.messages": Long = 9223372036854775807,
        AtLeast(1), ClusterWide, InForce,
        "After how many records a partition is written to the disk, for which the last of them waits.";

    LOG_FLUSH_INTERVAL_MS "log.flush.interval.ms": Option<Long>, Any, ClusterWide, InForce,
        "After how long a record is written to the disk at the latest, whether or not anyone waits for it; \
         not set, `log.flush.scheduler.interval.ms` counts.";

    LOG_FLUSH_SCHEDULER_INTERVAL_MS "log.flush.scheduler.interval.ms": Long = 9223372036854775807,
        Any, ReadOnly, InForce,
        "What `log.flush.interval.ms` is where that is not set.";

    LOG_FLUSH_OFFSET_CHECKPOINT_INTERVAL_MS "log.flush.offset.checkpoint.interval.ms": Int = 60000,
        AtLeast(0), ReadOnly, InForce,
        "How often the recovery points are written; recovery after a crash begins there.";

    LOG_FLUSH_START_OFFSET_CHECKPOINT_INTERVAL_MS "log.flush.start.offset.checkpoint.interval.ms": Int = 60000,
        AtLeast(0), ReadOnly, WithoutEffect(CHECKPOINTS),
        "How often the log start offsets are written.";

    LOG_PREALLOCATE "log.preallocate": Boolean = false, Any, ClusterWide, InForce,
        "Whether a new segment gets room for its full size on the disk at once.";

    PRODUCER_ID_EXPIRATION_MS "producer.id.expiration.ms": Int = 86400000, AtLeast(1), ClusterWide, InForce,
        "How long the state of an idle idempotent producer is kept.";

    LOG_CLEANER_ENABLE "log.cleaner.enable": Boolean = true, Any, ReadOnly, InForce,
        "Whether compacted topics are cleaned.";

    LOG_CLEANER_THREADS "log.cleaner.threads": Int = 1, AtLeast(0), ClusterWide, WithoutEffect(ONE_CLEANER),
        "How many threads clean.";

    LOG_CLEANER_IO_MAX_BYTES_PER_SECOND "log.cleaner.io.max.bytes.per.second": Double = "1.7976931348623157E308",
        Any, ClusterWide, InForce,
        "How fast cleaning may read and write.";

    LOG_CLEANER_DEDUPE_BUFFER_SIZE "log.cleaner.dedupe.buffer.size": Long = 134217728,
        Any, ClusterWide, InForce,
        "The memory of all cleaner threads for the keys of a run; at most an eighth of `dohle.memory.max`.";

    LOG_CLEANER_IO_BUFFER_SIZE "log.cleaner.io.buffer.size": Int = 524288,
        AtLeast(0), ClusterWide, InForce,
        "The memory of all cleaner threads for reading and writing.";

    LOG_CLEANER_IO_BUFFER_LOAD_FACTOR "log.cleaner.io.buffer.load.factor": Double = 0.9,
        Any, ClusterWide, InForce,
        "How full the map of keys may get.";

    LOG_CLEANER_BACKOFF_MS "log.cleaner.backoff.ms": Long = 15000,
        AtLeast(0), ClusterWide, InForce,
        "How long the cleaner waits when there is nothing to clean.";

    LOG_CLEANER_MIN_CLEANABLE_RATIO "log.cleaner.min.cleanable.ratio": Double = 0.5,
        Fraction(0.0, 1.0), ClusterWide, InForce,
        "How much of a log must be uncleaned before it is cleaned again.";

    LOG_CLEANER_DELETE_RETENTION_MS "log.cleaner.delete.retention.ms": Long = 86400000,
        AtLeast(0), ClusterWide, InForce,
        "How long the deletion marks of a compacted topic are kept.";

    LOG_CLEANER_MIN_COMPACTION_LAG_MS "log.cleaner.min.compaction.lag.ms": Long = 0,
        AtLeast(0), ClusterWide, InForce,
        "How long a record stays uncompacted at least.";

    LOG_CLEANER_MAX_COMPACTION_LAG_MS "log.cleaner.max.compaction.lag.ms": Long = 9223372036854775807,
        AtLeast(1), ClusterWide, InForce,
        "How long a record stays uncompacted at most.";
}
