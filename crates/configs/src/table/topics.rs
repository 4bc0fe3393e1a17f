//! Topics and their defaults.

use crate::row::Effect::{InForce, WithoutEffect};
use crate::row::Update::{ClusterWide, ReadOnly};
use crate::row::configs;
use crate::table::reasons::CLUSTER;
use crate::valid::Valid::{Any, AtLeast, Between, BetweenOrMinusOne, OneOf};
use crate::value::{Boolean, Int};

configs! {
    AUTO_CREATE_TOPICS_ENABLE "auto.create.topics.enable": Boolean = true, Any, ReadOnly, InForce,
        "Whether a topic that a client asks for is created when it does not exist.";

    DELETE_TOPIC_ENABLE "delete.topic.enable": Boolean = true, Any, ReadOnly, InForce,
        "Whether topics may be deleted.";

    NUM_PARTITIONS "num.partitions": Int = 1, AtLeast(1), ReadOnly, InForce,
        "The number of partitions of a topic that is created without naming one.";

    DEFAULT_REPLICATION_FACTOR "default.replication.factor": Int = 1, Any, ReadOnly, InForce,
        "The number of replicas of a topic that is created without naming one; brokers that are not there \
         are not counted.";

    MIN_INSYNC_REPLICAS "min.insync.replicas": Int = 1, AtLeast(1), ClusterWide, InForce,
        "How many replicas must be in sync for acks=all to be served, but no more than the partition has.";

    UNCLEAN_LEADER_ELECTION_ENABLE "unclean.leader.election.enable": Boolean = false,
        Any, ClusterWide, WithoutEffect(CLUSTER),
        "Whether a replica that lacks committed records may become leader, at the price of losing them.";

    MESSAGE_MAX_BYTES "message.max.bytes": Int = 1048588, AtLeast(0), ClusterWide, InForce,
        "The largest record batch accepted.";

    COMPRESSION_TYPE "compression.type": String = "producer",
        OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), ClusterWide, InForce,
        "How batches are compressed in the log; `producer` keeps what the producer chose.";

    COMPRESSION_GZIP_LEVEL "compression.gzip.level": Int = -1, BetweenOrMinusOne(1, 9), ClusterWide, InForce,
        "The gzip level where the broker compresses; -1 is the codec's default.";

    COMPRESSION_LZ4_LEVEL "compression.lz4.level": Int = 9, Between(1, 17), ClusterWide, InForce,
        "The lz4 level where the broker compresses.";

    COMPRESSION_ZSTD_LEVEL "compression.zstd.level": Int = 3, Between(-131072, 22), ClusterWide, InForce,
        "The zstd level where the broker compresses.";
}
