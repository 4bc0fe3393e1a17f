//! Listeners and connections.

use crate::row::Effect::{InForce, WithoutEffect};
use crate::row::Update::{ClusterWide, PerBroker, ReadOnly};
use crate::row::configs;
use crate::table::reasons::{BUFFERS, CLUSTER, PURGATORY, QUOTAS, SECURITY};
use crate::valid::Valid::{Any, AtLeast, OneOf};
use crate::value::{Int, List, Long};

configs! {
    LISTENERS "listeners": List = "PLAINTEXT://:9092", Any, PerBroker, InForce,
        "Where the broker listens: a list of `NAME://host:port`. An empty host means all interfaces.";

    ADVERTISED_LISTENERS "advertised.listeners": Option<List>, Any, ReadOnly, InForce,
        "The addresses told to clients, in the form of `listeners`. Not set, clients are told the address \
         they have reached the broker by.";

    LISTENER_SECURITY_PROTOCOL_MAP "listener.security.protocol.map": String = "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT",
        Any, PerBroker, InForce,
        "Which security protocol each listener name stands for, as `NAME:PROTOCOL` pairs.";

    INTER_BROKER_LISTENER_NAME "inter.broker.listener.name": Option<String>,
        Any, ReadOnly, WithoutEffect(CLUSTER),
        "The listener over which brokers talk to each other.";

    SECURITY_INTER_BROKER_PROTOCOL "security.inter.broker.protocol": String = "PLAINTEXT",
        OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]), ReadOnly, WithoutEffect(CLUSTER),
        "The security protocol between brokers, where `inter.broker.listener.name` is not set.";

    EARLY_START_LISTENERS "early.start.listeners": Option<List>, Any, ReadOnly, WithoutEffect(CLUSTER),
        "Listeners that answer before the broker has loaded its metadata.";

    SOCKET_SEND_BUFFER_BYTES "socket.send.buffer.bytes": Int = 102400, Any, ReadOnly, WithoutEffect(BUFFERS),
        "The size of a socket's send buffer; -1 leaves it to the operating system.";

    SOCKET_RECEIVE_BUFFER_BYTES "socket.receive.buffer.bytes": Int = 102400, Any, ReadOnly, WithoutEffect(BUFFERS),
        "The size of a socket's receive buffer; -1 leaves it to the operating system.";

    SOCKET_REQUEST_MAX_BYTES "socket.request.max.bytes": Int = 104857600, AtLeast(1), ReadOnly, InForce,
        "The largest request accepted; a connection that announces more is closed.";

    SOCKET_LISTEN_BACKLOG_SIZE "socket.listen.backlog.size": Int = 50, AtLeast(1), ReadOnly, InForce,
        "How many connections may wait to be accepted.";

    SOCKET_CONNECTION_SETUP_TIMEOUT_MS "socket.connection.setup.timeout.ms": Long = 10000,
        Any, ReadOnly, WithoutEffect(CLUSTER),
        "How long this broker waits at first for a connection to another node.";

    SOCKET_CONNECTION_SETUP_TIMEOUT_MAX_MS "socket.connection.setup.timeout.max.ms": Long = 30000,
        Any, ReadOnly, WithoutEffect(CLUSTER),
        "How long this broker waits at most for a connection to another node.";

    MAX_CONNECTIONS "max.connections": Int = 2147483647, AtLeast(0), ClusterWide, InForce,
        "How many connections the broker keeps open; at the limit a new one is closed.";

    MAX_CONNECTIONS_PER_IP "max.connections.per.ip": Int = 2147483647, AtLeast(0), ClusterWide, InForce,
        "How many connections one address may have open.";

    MAX_CONNECTIONS_PER_IP_OVERRIDES "max.connections.per.ip.overrides": String = "",
        Any, ClusterWide, InForce,
        "Limits for single IP addresses that differ from `max.connections.per.ip`, as `address:count` pairs.";

    MAX_CONNECTION_CREATION_RATE "max.connection.creation.rate": Int = 2147483647,
        AtLeast(0), ClusterWide, WithoutEffect(QUOTAS),
        "How many connections per second may be opened.";

    CONNECTIONS_MAX_IDLE_MS "connections.max.idle.ms": Long = 600000, Any, ReadOnly, InForce,
        "After how long without a request a connection is closed.";

    CONNECTION_FAILED_AUTHENTICATION_DELAY_MS "connection.failed.authentication.delay.ms": Int = 100,
        AtLeast(0), ReadOnly, WithoutEffect(SECURITY),
        "How long a connection is kept after authentication has failed on it, to slow down guessing.";

    CONNECTIONS_MAX_REAUTH_MS "connections.max.reauth.ms": Long = 0, Any, ReadOnly, WithoutEffect(SECURITY),
        "How long a session may last before a client must authenticate again (KIP-368); zero means for \
         ever.";

    FETCH_MAX_BYTES "fetch.max.bytes": Int = 57671680, AtLeast(1024), ReadOnly, InForce,
        "The most bytes in one answer to a fetch; a single batch larger than this is still delivered.";

    MAX_INCREMENTAL_FETCH_SESSION_CACHE_SLOTS "max.incremental.fetch.session.cache.slots": Int = 1000,
        AtLeast(0), ReadOnly, InForce,
        "How many incremental fetch sessions (KIP-227) are remembered.";

    MAX_REQUEST_PARTITION_SIZE_LIMIT "max.request.partition.size.limit": Int = 2000,
        AtLeast(1), ReadOnly, InForce,
        "The most partitions in one answer to DescribeTopicPartitions.";

    FETCH_PURGATORY_PURGE_INTERVAL_REQUESTS "fetch.purgatory.purge.interval.requests": Int = 1000,
        Any, ReadOnly, WithoutEffect(PURGATORY),
        "After how many requests the purgatory of waiting fetches is cleaned.";

    PRODUCER_PURGATORY_PURGE_INTERVAL_REQUESTS "producer.purgatory.purge.interval.requests": Int = 1000,
        Any, ReadOnly, WithoutEffect(PURGATORY),
        "After how many requests the purgatory of waiting produce requests is cleaned.";

    DELETE_RECORDS_PURGATORY_PURGE_INTERVAL_REQUESTS "delete.records.purgatory.purge.interval.requests": Int = 1,
        Any, ReadOnly, WithoutEffect(PURGATORY),
        "After how many requests the purgatory of waiting DeleteRecords requests is cleaned.";
}
