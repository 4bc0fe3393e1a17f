//! The node and its threads.

use crate::row::Effect::{InForce, WithoutEffect};
use crate::row::Update::{ClusterWide, ReadOnly};
use crate::row::configs;
use crate::table::reasons::{CLUSTER, IN_FLIGHT, JVM, PLUGINS};
use crate::valid::Valid::{Any, AtLeast, OneOf, Subset};
use crate::value::{Boolean, Class, Int, List, Long};

configs! {
    NODE_ID "node.id": Int = 1, AtLeast(0), ReadOnly, InForce,
        "The number of this node, unique in its cluster.";

    BROKER_ID "broker.id": Int = -1, AtLeast(-1), ReadOnly, InForce,
        "The older name of `node.id`. Where both are set they must be equal; -1 stands for not set.";

    PROCESS_ROLES "process.roles": List = "broker,controller",
        Subset(&["broker", "controller"]), ReadOnly, WithoutEffect(CLUSTER),
        "The roles of this node. A Dohle node is broker and controller in one.";

    BROKER_RACK "broker.rack": Option<String>, Any, ReadOnly, WithoutEffect(CLUSTER),
        "The rack or zone of this broker, told to clients and used to spread replicas.";

    BACKGROUND_THREADS "background.threads": Int = 10, AtLeast(1), ClusterWide, WithoutEffect(JVM),
        "How many threads do background work such as deleting files.";

    NUM_IO_THREADS "num.io.threads": Int = 8, AtLeast(1), ClusterWide, WithoutEffect(JVM),
        "How many threads handle requests.";

    NUM_NETWORK_THREADS "num.network.threads": Int = 3, AtLeast(1), ClusterWide, WithoutEffect(JVM),
        "How many threads of each listener read and write sockets.";

    NUM_RECOVERY_THREADS_PER_DATA_DIR "num.recovery.threads.per.data.dir": Int = 2,
        AtLeast(1), ClusterWide, WithoutEffect(JVM),
        "How many threads of each log directory open and recover logs at start.";

    NUM_REPLICA_ALTER_LOG_DIRS_THREADS "num.replica.alter.log.dirs.threads": Option<Int>,
        Any, ReadOnly, WithoutEffect(JVM),
        "How many threads move replicas between log directories.";

    QUEUED_MAX_REQUESTS "queued.max.requests": Int = 500, AtLeast(1), ReadOnly, WithoutEffect(IN_FLIGHT),
        "How many requests may wait to be handled before no more are read from the network.";

    QUEUED_MAX_REQUEST_BYTES "queued.max.request.bytes": Long = -1, Any, ReadOnly, InForce,
        "How many bytes of large requests may be received and unanswered before no more are read, where that is less \
         than their share of `dohle.memory.max`; zero or less leaves it at that.";

    REQUEST_TIMEOUT_MS "request.timeout.ms": Int = 30000, Any, ReadOnly, WithoutEffect(CLUSTER),
        "How long this broker waits for the answer to a request of its own.";

    CONFIG_PROVIDERS "config.providers": List = "", Any, ClusterWide, WithoutEffect(PLUGINS),
        "Names of providers that replace `${...}` in values.";

    SECURITY_PROVIDERS "security.providers": Option<String>, Any, ReadOnly, WithoutEffect(PLUGINS),
        "Classes that provide security algorithms.";

    CREATE_TOPIC_POLICY_CLASS_NAME "create.topic.policy.class.name": Option<Class>,
        Any, ReadOnly, WithoutEffect(PLUGINS),
        "A class that decides whether a topic may be created.";

    ALTER_CONFIG_POLICY_CLASS_NAME "alter.config.policy.class.name": Option<Class>,
        Any, ReadOnly, WithoutEffect(PLUGINS),
        "A class that decides whether configs may be changed.";

    CONTROLLED_SHUTDOWN_ENABLE "controlled.shutdown.enable": Boolean = true,
        Any, ReadOnly, WithoutEffect(CLUSTER),
        "Whether a broker hands its leaderships over before it stops.";

    DOHLE_DURABILITY "dohle.durability": String = "durable",
        OneOf(&["durable", "relaxed"]), ClusterWide, InForce,
        "`durable`: a write with acks=all is answered after it is on the disk (fdatasync). `relaxed`: it \
         is answered once the operating system has it, as Apache Kafka does; a power loss may take it.";

    DOHLE_LOG_DIR_RESERVE_BYTES "dohle.log.dir.reserve.bytes": Long = 67108864, AtLeast(0), ReadOnly, InForce,
        "How much of each disk is kept for the node itself, but no more than a twentieth of it: records are \
         refused before less than that is left.";

    DOHLE_SCRUB_INTERVAL_MS "dohle.scrub.interval.ms": Long = 604800000, AtLeast(0), ReadOnly, InForce,
        "How long it is from one round to the next in which all sealed segments are read and checked, so that damage \
         is found before anybody asks for the records; 0 switches it off.";

    DOHLE_SCRUB_BYTES_PER_SECOND "dohle.scrub.bytes.per.second": Long = 16777216, AtLeast(1), ReadOnly, InForce,
        "How fast the segments of a log directory are checked.";

    DOHLE_TOPIC_TRASH_MS "dohle.topic.trash.ms": Long = 86400000, AtLeast(0), ClusterWide, InForce,
        "How long a deleted topic stays in the trash, from which `dohle topic undelete` brings it back; it goes \
         earlier when the disk runs short. 0 deletes at once and for good.";

    DOHLE_MEMORY_MAX "dohle.memory.max": Long = 0, AtLeast(0), ReadOnly, InForce,
        "The memory, in bytes, that requests, answers, hot tails, fetch sessions and the cleaner have together, at \
         least 16 MiB; each has a share of it. 0 means a quarter of what the machine or the container has, at least 64 MiB and \
         at most 4 GiB.";

    DOHLE_JOURNAL_BYTES "dohle.journal.bytes": Long = 67108864, AtLeast(0), ReadOnly, InForce,
        "How much disk the commit journal of a log dir takes at the most; it is made when it is first of use. 0 is no \
         journal: each partition that was written to is synced on its own.";

    DOHLE_JOURNAL_PARTITIONS_MIN "dohle.journal.partitions.min": Int = 4, AtLeast(1), ReadOnly, InForce,
        "From how many partitions on, written to at once, records are made durable in the commit journal instead of by \
         a sync of each partition's file.";

    DOHLE_CHECKPOINT_BYTES "dohle.checkpoint.bytes": Long = 268435456, AtLeast(1), ReadOnly, InForce,
        "How much is written in a log directory before what is in its files for good is noted, so that a start after a \
         crash reads little more than twice that, however long ago `log.flush.offset.checkpoint.interval.ms` had it noted.";

    DOHLE_TAIL_CACHE_BYTES "dohle.tail.cache.bytes": Long = 33554432, AtLeast(0), ReadOnly, InForce,
        "How much memory keeps the newest records of all partitions, so that consumers at the end of a log \
         never read a file; at most an eighth of `dohle.memory.max`.";
}
