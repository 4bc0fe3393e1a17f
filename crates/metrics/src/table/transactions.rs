//! Idempotent producers and transactions.

use crate::row::metrics;

metrics! {
    PRODUCERS "dohle_producers": Gauge, [], "Idempotent producers that the logs remember, counted in each partition that they have written to.";

    PRODUCERS_LIMIT "dohle_producers_limit": Gauge, [], "How many there may be (`dohle.producers.max`); those of open transactions may be more.";

    PRODUCERS_FORGOTTEN "dohle_producers_forgotten_total": Counter, [], "Producers that were forgotten before `producer.id.expiration.ms`, because there were too many.";
}
