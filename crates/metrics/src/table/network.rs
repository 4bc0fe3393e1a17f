//! Connections and the event loop.

use crate::row::metrics;

metrics! {
    CONNECTIONS "dohle_connections": Gauge, [], "Connections of clients that are open.";

    CONNECTIONS_LIMIT "dohle_connections_limit": Gauge, [], "Connections that may be open: what `max.connections` says, or what the process has file handles for.";

    CONNECTIONS_OPENED "dohle_connections_opened_total": Counter, [], "Connections that were taken.";

    CONNECTIONS_REFUSED "dohle_connections_refused_total": Counter, [], "Connections that were closed at once, for `max.connections` or `max.connections.per.ip` was reached, or because the system refused something.";

    CONNECTIONS_CLOSED "dohle_connections_closed_total": Counter, ["reason"], "Connections that ended. `peer`: the client closed it, or it broke. `broker`: its request could not be answered. `frame`: it sent what is no frame, or one that is too large. `idle`: `connections.max.idle.ms`. `stalled`: others waited for the memory that it held.";

    CONNECTIONS_WAITING "dohle_connections_waiting": Gauge, [], "Connections whose next request waits for memory.";

    RECEIVED_BYTES "dohle_network_received_bytes_total": Counter, [], "Bytes of requests, with their length fields.";

    SENT_BYTES "dohle_network_sent_bytes_total": Counter, [], "Bytes of answers that were handed to the system.";

    LOOP_SECONDS "dohle_event_loop_round_seconds": Histogram, [], "How long the event loop's rounds took, without the time in which it waited. Its sum grows by one second a second when the loop has no time left.";
}
