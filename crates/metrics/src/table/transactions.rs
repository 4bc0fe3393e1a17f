//! Idempotent producers and transactions.

use crate::row::metrics;

metrics! {
    PRODUCERS "dohle_producers": Gauge, [], "Idempotent producers that the logs remember, counted in each partition that they have written to.";

    PRODUCERS_LIMIT "dohle_producers_limit": Gauge, [], "How many there may be (`dohle.producers.max`); those of open transactions may be more.";

    PRODUCERS_FORGOTTEN "dohle_producers_forgotten_total": Counter, [], "Producers that were forgotten before `producer.id.expiration.ms`, because there were too many.";

    TRANSACTIONAL_IDS "dohle_transactional_ids": Gauge, [], "Transactional ids that this node coordinates.";

    TRANSACTIONS "dohle_transactions": Gauge, ["state"], "Transactions of these ids, the last of each, by state. Those in `Ongoing`, `PrepareCommit` and `PrepareAbort` are not over.";

    COMPLETED "dohle_transactions_completed_total": Counter, ["result"], "Transactions that were ended: `commit` or `abort`.";

    TIMED_OUT "dohle_transactions_timed_out_total": Counter, [], "Transactions that were aborted because their time was over.";

    STABLE_LAG "dohle_partition_last_stable_offset_lag": Gauge, ["topic", "partition"], "Records that `read_committed` consumers may not read yet, where there are any: from the last stable offset to the high watermark.";

    OLDEST_OPEN "dohle_oldest_transaction_seconds": Gauge, ["topic", "partition", "producer_id", "transactional_id"], "Of a partition whose last stable offset is held back, the transaction that holds it, once it is open for ten seconds, and for how long. Without transactional id no coordinator here knows it, and it has been silent for so long: `dohle txn find-hanging` may find it.";
}
