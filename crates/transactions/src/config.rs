//! What can be set about transactions.

use std::time::Duration;

/// The broker configs that concern transactions, and limits that Kafka does not have.
///
/// Differs from Kafka: transactional ids, the partitions of a transaction, and the memory that both take are bounded;
/// beyond that they are refused with POLICY_VIOLATION.
#[derive(Clone, Debug)]
pub struct TransactionsConfig {
    /// `transaction.max.timeout.ms`
    pub timeout_ms_max: i32,
    /// `transactional.id.expiration.ms`
    pub transactional_id_expiration: Duration,
    /// How long to wait before a partition that did not take a marker is asked again.
    pub marker_retry_backoff: Duration,
    /// Transactional ids in this partition of `__transaction_state`.
    pub transactional_ids_max: usize,
    /// Partitions that one transaction may touch.
    pub partitions_per_transaction_max: usize,
    /// Bytes that all transactional ids and their transactions may take up in memory, about.
    pub state_bytes_max: usize,
    /// Bytes of the records of one batch: the `max.message.bytes` of `__transaction_state` without what a batch
    /// adds.
    pub batch_bytes_max: usize,
}

impl Default for TransactionsConfig {
    fn default() -> Self {
        Self {
            timeout_ms_max: 900_000,
            transactional_id_expiration: Duration::from_secs(7 * 24 * 60 * 60),
            marker_retry_backoff: Duration::from_millis(100),
            transactional_ids_max: 100_000,
            partitions_per_transaction_max: 20_000,
            state_bytes_max: 64 * 1024 * 1024,
            batch_bytes_max: 1_000_000,
        }
    }
}
