//! Replication.

use crate::row::Effect::WithoutEffect;
use crate::row::Update::{ClusterWide, ReadOnly};
use crate::row::configs;
use crate::table::reasons::{CHECKPOINTS, CLUSTER, PLUGINS};
use crate::valid::Valid::{Any, AtLeast};
use crate::value::{Boolean, Int, Long};

configs! {
    REPLICA_LAG_TIME_MAX_MS "replica.lag.time.max.ms": Long = 30000, Any, ReadOnly, WithoutEffect(CLUSTER),
        "How long a follower may lag before it leaves the in-sync replicas.";

    REPLICA_FETCH_MAX_BYTES "replica.fetch.max.bytes": Int = 1048576,
        AtLeast(0), ReadOnly, WithoutEffect(CLUSTER),
        "How many bytes of each partition a follower asks for.";

    REPLICA_FETCH_RESPONSE_MAX_BYTES "replica.fetch.response.max.bytes": Int = 10485760,
        AtLeast(0), ReadOnly, WithoutEffect(CLUSTER),
        "How many bytes in all a follower asks for.";

    REPLICA_FETCH_MIN_BYTES "replica.fetch.min.bytes": Int = 1, Any, ReadOnly, WithoutEffect(CLUSTER),
        "How many bytes a leader gathers before it answers a follower.";

    REPLICA_FETCH_WAIT_MAX_MS "replica.fetch.wait.max.ms": Int = 500, Any, ReadOnly, WithoutEffect(CLUSTER),
        "How long a leader gathers before it answers a follower.";

    REPLICA_FETCH_BACKOFF_MS "replica.fetch.backoff.ms": Int = 1000,
        AtLeast(0), ReadOnly, WithoutEffect(CLUSTER),
        "How long a follower waits after an error.";

    REPLICA_SOCKET_TIMEOUT_MS "replica.socket.timeout.ms": Int = 30000, Any, ReadOnly, WithoutEffect(CLUSTER),
        "How long a follower waits for the leader's answer.";

    REPLICA_SOCKET_RECEIVE_BUFFER_BYTES "replica.socket.receive.buffer.bytes": Int = 65536,
        Any, ReadOnly, WithoutEffect(CLUSTER),
        "The receive buffer of a follower's connection.";

    REPLICA_HIGH_WATERMARK_CHECKPOINT_INTERVAL_MS "replica.high.watermark.checkpoint.interval.ms": Long = 5000,
        Any, ReadOnly, WithoutEffect(CHECKPOINTS),
        "How often the high watermarks are written.";

    REPLICA_SELECTOR_CLASS "replica.selector.class": Option<String>, Any, ReadOnly, WithoutEffect(PLUGINS),
        "A class that picks the replica a consumer reads from.";

    NUM_REPLICA_FETCHERS "num.replica.fetchers": Int = 1, AtLeast(1), ClusterWide, WithoutEffect(CLUSTER),
        "How many connections a follower keeps to each leader.";

    AUTO_LEADER_REBALANCE_ENABLE "auto.leader.rebalance.enable": Boolean = true,
        Any, ReadOnly, WithoutEffect(CLUSTER),
        "Whether leadership goes back to the preferred replicas by itself.";

    LEADER_IMBALANCE_CHECK_INTERVAL_SECONDS "leader.imbalance.check.interval.seconds": Long = 300,
        AtLeast(1), ReadOnly, WithoutEffect(CLUSTER),
        "How often leaderships are checked for balance.";

    CONTROLLER_SOCKET_TIMEOUT_MS "controller.socket.timeout.ms": Int = 30000,
        Any, ReadOnly, WithoutEffect(CLUSTER),
        "How long a controller waits for a broker's answer.";
}
