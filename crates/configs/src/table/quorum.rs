//! Metadata and the controller quorum.

use crate::row::Effect::{InForce, WithoutEffect};
use crate::row::Update::ReadOnly;
use crate::row::configs;
use crate::table::reasons::CLUSTER;
use crate::valid::Valid::{Any, AtLeast};
use crate::value::{Boolean, Int, List, Long};

configs! {
    CONTROLLER_LISTENER_NAMES "controller.listener.names": List = "CONTROLLER",
        Any, ReadOnly, WithoutEffect(CLUSTER),
        "The listeners of the controller; clients do not use them.";

    CONTROLLER_QUORUM_VOTERS "controller.quorum.voters": List = "", Any, ReadOnly, WithoutEffect(CLUSTER),
        "The controllers that vote, as `id@host:port`.";

    CONTROLLER_QUORUM_BOOTSTRAP_SERVERS "controller.quorum.bootstrap.servers": List = "",
        Any, ReadOnly, WithoutEffect(CLUSTER),
        "Where controllers can be found, as `host:port`.";

    CONTROLLER_QUORUM_AUTO_JOIN_ENABLE "controller.quorum.auto.join.enable": Boolean = false,
        Any, ReadOnly, WithoutEffect(CLUSTER),
        "Whether a controller joins the voters by itself.";

    CONTROLLER_QUORUM_ELECTION_TIMEOUT_MS "controller.quorum.election.timeout.ms": Int = 1000,
        AtLeast(0), ReadOnly, WithoutEffect(CLUSTER),
        "How long a candidate waits for votes.";

    CONTROLLER_QUORUM_ELECTION_BACKOFF_MAX_MS "controller.quorum.election.backoff.max.ms": Int = 1000,
        AtLeast(0), ReadOnly, WithoutEffect(CLUSTER),
        "The longest wait between two candidacies.";

    CONTROLLER_QUORUM_FETCH_TIMEOUT_MS "controller.quorum.fetch.timeout.ms": Int = 2000,
        AtLeast(0), ReadOnly, WithoutEffect(CLUSTER),
        "How long a voter waits for its leader before it calls an election.";

    CONTROLLER_QUORUM_FETCH_MAX_BYTES "controller.quorum.fetch.max.bytes": Int = 1048576,
        AtLeast(1), ReadOnly, WithoutEffect(CLUSTER),
        "How many bytes of the metadata log one fetch carries.";

    CONTROLLER_QUORUM_FETCH_SNAPSHOT_MAX_BYTES "controller.quorum.fetch.snapshot.max.bytes": Int = 1048576,
        AtLeast(1), ReadOnly, WithoutEffect(CLUSTER),
        "How many bytes of a metadata snapshot one fetch carries.";

    CONTROLLER_QUORUM_APPEND_LINGER_MS "controller.quorum.append.linger.ms": Int = 25,
        AtLeast(0), ReadOnly, WithoutEffect(CLUSTER),
        "How long a controller gathers records before it writes them.";

    CONTROLLER_QUORUM_REQUEST_TIMEOUT_MS "controller.quorum.request.timeout.ms": Int = 2000,
        AtLeast(0), ReadOnly, WithoutEffect(CLUSTER),
        "How long a quorum member waits for an answer.";

    CONTROLLER_QUORUM_RETRY_BACKOFF_MS "controller.quorum.retry.backoff.ms": Int = 20,
        AtLeast(0), ReadOnly, WithoutEffect(CLUSTER),
        "How long a quorum member waits before it tries again.";

    BROKER_HEARTBEAT_INTERVAL_MS "broker.heartbeat.interval.ms": Int = 2000,
        Any, ReadOnly, WithoutEffect(CLUSTER),
        "How often a broker tells the controller that it lives.";

    BROKER_SESSION_TIMEOUT_MS "broker.session.timeout.ms": Int = 9000, Any, ReadOnly, WithoutEffect(CLUSTER),
        "After how long without a heartbeat a broker counts as gone.";

    INITIAL_BROKER_REGISTRATION_TIMEOUT_MS "initial.broker.registration.timeout.ms": Int = 60000,
        Any, ReadOnly, WithoutEffect(CLUSTER),
        "How long a broker tries at start to register with the controller.";

    METADATA_LOG_DIR "metadata.log.dir": Option<String>, Any, ReadOnly, InForce,
        "The directory of the metadata log; not set, the first log directory.";

    METADATA_LOG_SEGMENT_BYTES "metadata.log.segment.bytes": Int = 1073741824,
        AtLeast(8388608), ReadOnly, InForce,
        "The size at which a segment of the metadata log is closed.";

    METADATA_LOG_SEGMENT_MS "metadata.log.segment.ms": Long = 604800000, Any, ReadOnly, InForce,
        "The age at which a segment of the metadata log is closed.";

    METADATA_LOG_MAX_RECORD_BYTES_BETWEEN_SNAPSHOTS "metadata.log.max.record.bytes.between.snapshots": Long = 20971520,
        AtLeast(1), ReadOnly, InForce,
        "After how many bytes of metadata records a snapshot is written.";

    METADATA_LOG_MAX_SNAPSHOT_INTERVAL_MS "metadata.log.max.snapshot.interval.ms": Long = 3600000,
        AtLeast(0), ReadOnly, InForce,
        "After how long a snapshot of the metadata is written; zero means never by time.";

    METADATA_MAX_IDLE_INTERVAL_MS "metadata.max.idle.interval.ms": Int = 500,
        AtLeast(0), ReadOnly, WithoutEffect(CLUSTER),
        "How often an idle controller writes a no-op record; zero means never.";

    METADATA_MAX_RETENTION_BYTES "metadata.max.retention.bytes": Long = 104857600,
        Any, ReadOnly, InForce,
        "How large metadata log and snapshots may grow before old ones are deleted.";

    METADATA_MAX_RETENTION_MS "metadata.max.retention.ms": Long = 604800000,
        Any, ReadOnly, InForce,
        "How long old metadata segments and snapshots are kept.";
}
