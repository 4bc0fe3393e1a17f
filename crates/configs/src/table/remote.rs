//! Tiered storage (KIP-405).

use crate::row::Effect::WithoutEffect;
use crate::row::Update::{ClusterWide, ReadOnly};
use crate::row::configs;
use crate::table::reasons::TIERED;
use crate::valid::Valid::{Any, AtLeast, NotEmpty};
use crate::value::{Boolean, Int, Long};

configs! {
    REMOTE_LOG_STORAGE_SYSTEM_ENABLE "remote.log.storage.system.enable": Boolean = false,
        Any, ReadOnly, WithoutEffect(TIERED),
        "Whether closed segments may move to remote storage.";

    LOG_LOCAL_RETENTION_MS "log.local.retention.ms": Long = -2,
        AtLeast(-2), ClusterWide, WithoutEffect(TIERED),
        "How long records of a tiered topic stay on the local disk; -2 follows `log.retention.ms`.";

    LOG_LOCAL_RETENTION_BYTES "log.local.retention.bytes": Long = -2,
        AtLeast(-2), ClusterWide, WithoutEffect(TIERED),
        "How many bytes of a tiered partition stay on the local disk; -2 follows `log.retention.bytes`.";

    FOLLOWER_FETCH_LAST_TIERED_OFFSET_ENABLE "follower.fetch.last.tiered.offset.enable": Boolean = false,
        Any, ClusterWide, WithoutEffect(TIERED),
        "Whether a new follower begins after what is in remote storage.";

    REMOTE_FETCH_MAX_WAIT_MS "remote.fetch.max.wait.ms": Int = 500,
        AtLeast(1), ClusterWide, WithoutEffect(TIERED),
        "How long a fetch waits for remote storage.";

    REMOTE_LIST_OFFSETS_REQUEST_TIMEOUT_MS "remote.list.offsets.request.timeout.ms": Long = 30000,
        AtLeast(1), ClusterWide, WithoutEffect(TIERED),
        "How long a search for an offset in remote storage may take.";

    REMOTE_LOG_INDEX_FILE_CACHE_TOTAL_SIZE_BYTES "remote.log.index.file.cache.total.size.bytes": Long = 1073741824,
        AtLeast(1), ClusterWide, WithoutEffect(TIERED),
        "How much disk the indexes of remote segments may take.";

    REMOTE_LOG_MANAGER_TASK_INTERVAL_MS "remote.log.manager.task.interval.ms": Long = 30000,
        AtLeast(1), ReadOnly, WithoutEffect(TIERED),
        "How often segments to move are looked for.";

    REMOTE_LOG_MANAGER_THREAD_POOL_SIZE "remote.log.manager.thread.pool.size": Int = 2,
        AtLeast(1), ReadOnly, WithoutEffect(TIERED),
        "How many threads schedule the work on remote segments.";

    REMOTE_LOG_MANAGER_COPIER_THREAD_POOL_SIZE "remote.log.manager.copier.thread.pool.size": Int = 10,
        AtLeast(1), ClusterWide, WithoutEffect(TIERED),
        "How many threads copy segments to remote storage.";

    REMOTE_LOG_MANAGER_EXPIRATION_THREAD_POOL_SIZE "remote.log.manager.expiration.thread.pool.size": Int = 10,
        AtLeast(1), ClusterWide, WithoutEffect(TIERED),
        "How many threads delete expired remote segments.";

    REMOTE_LOG_MANAGER_FOLLOWER_THREAD_POOL_SIZE "remote.log.manager.follower.thread.pool.size": Int = 2,
        AtLeast(1), ClusterWide, WithoutEffect(TIERED),
        "How many threads follow remote segments on followers.";

    REMOTE_LOG_MANAGER_COPY_MAX_BYTES_PER_SECOND "remote.log.manager.copy.max.bytes.per.second": Long = 9223372036854775807,
        AtLeast(1), ClusterWide, WithoutEffect(TIERED),
        "How fast segments are copied to remote storage.";

    REMOTE_LOG_MANAGER_COPY_QUOTA_WINDOW_NUM "remote.log.manager.copy.quota.window.num": Int = 11,
        AtLeast(1), ReadOnly, WithoutEffect(TIERED),
        "How many windows that speed is measured over.";

    REMOTE_LOG_MANAGER_COPY_QUOTA_WINDOW_SIZE_SECONDS "remote.log.manager.copy.quota.window.size.seconds": Int = 1,
        AtLeast(1), ReadOnly, WithoutEffect(TIERED),
        "How long a window of that measurement is.";

    REMOTE_LOG_MANAGER_FETCH_MAX_BYTES_PER_SECOND "remote.log.manager.fetch.max.bytes.per.second": Long = 9223372036854775807,
        AtLeast(1), ClusterWide, WithoutEffect(TIERED),
        "How fast remote storage is read.";

    REMOTE_LOG_MANAGER_FETCH_QUOTA_WINDOW_NUM "remote.log.manager.fetch.quota.window.num": Int = 11,
        AtLeast(1), ReadOnly, WithoutEffect(TIERED),
        "How many windows that reading is measured over.";

    REMOTE_LOG_MANAGER_FETCH_QUOTA_WINDOW_SIZE_SECONDS "remote.log.manager.fetch.quota.window.size.seconds": Int = 1,
        AtLeast(1), ReadOnly, WithoutEffect(TIERED),
        "How long a window of that measurement is.";

    REMOTE_LOG_READER_THREADS "remote.log.reader.threads": Int = 10,
        AtLeast(1), ClusterWide, WithoutEffect(TIERED),
        "How many threads read remote storage.";

    REMOTE_LOG_READER_MAX_PENDING_TASKS "remote.log.reader.max.pending.tasks": Int = 100,
        AtLeast(1), ReadOnly, WithoutEffect(TIERED),
        "How many reads of remote storage may wait.";

    REMOTE_LOG_METADATA_CUSTOM_METADATA_MAX_BYTES "remote.log.metadata.custom.metadata.max.bytes": Int = 128,
        AtLeast(0), ReadOnly, WithoutEffect(TIERED),
        "The most bytes a storage plugin may attach to a remote segment.";

    REMOTE_LOG_METADATA_MANAGER_CLASS_NAME "remote.log.metadata.manager.class.name": String = "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager",
        NotEmpty, ReadOnly, WithoutEffect(TIERED),
        "The class that keeps the metadata of remote segments.";

    REMOTE_LOG_METADATA_MANAGER_CLASS_PATH "remote.log.metadata.manager.class.path": Option<String>,
        Any, ReadOnly, WithoutEffect(TIERED),
        "Where that class is found.";

    REMOTE_LOG_METADATA_MANAGER_IMPL_PREFIX "remote.log.metadata.manager.impl.prefix": String = "rlmm.config.",
        NotEmpty, ReadOnly, WithoutEffect(TIERED),
        "The prefix of the configs passed to that class.";

    REMOTE_LOG_METADATA_MANAGER_LISTENER_NAME "remote.log.metadata.manager.listener.name": Option<String>,
        NotEmpty, ReadOnly, WithoutEffect(TIERED),
        "The listener that class uses.";

    REMOTE_LOG_STORAGE_MANAGER_CLASS_NAME "remote.log.storage.manager.class.name": Option<String>,
        NotEmpty, ReadOnly, WithoutEffect(TIERED),
        "The class that reads and writes remote storage.";

    REMOTE_LOG_STORAGE_MANAGER_CLASS_PATH "remote.log.storage.manager.class.path": Option<String>,
        Any, ReadOnly, WithoutEffect(TIERED),
        "Where that class is found.";

    REMOTE_LOG_STORAGE_MANAGER_IMPL_PREFIX "remote.log.storage.manager.impl.prefix": String = "rsm.config.",
        NotEmpty, ReadOnly, WithoutEffect(TIERED),
        "The prefix of the configs passed to that class.";
}
