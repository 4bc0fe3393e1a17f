//! Requests.

use crate::row::metrics;

metrics! {
    REQUESTS "dohle_requests_total": Counter, ["api"], "Requests that were received, by API.";

    REQUEST_SECONDS "dohle_request_seconds": Histogram, ["api"], "How long requests took, by API: from when their bytes were taken until the answer was on its way, waiting for the disk, for other requests of the connection, and (Fetch, JoinGroup) for what they ask for included.";

    REQUEST_ERRORS "dohle_request_errors_total": Counter, ["api", "error"], "Error codes in answers, by API. An answer has one for each partition, group or topic that it is about.";

    REQUESTS_REFUSED "dohle_requests_refused_total": Counter, [], "Requests whose connection was closed instead of an answer.";

    REQUESTS_IN_FLIGHT "dohle_requests_in_flight": Gauge, [], "Requests that are not answered yet.";

    REQUESTS_PARKED "dohle_requests_parked": Gauge, [], "Requests, and work of the node's own, in the purgatory.";
}
