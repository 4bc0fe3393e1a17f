//! DescribeTransactions: all that is known of a transactional id (KIP-664).

use dohle_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use dohle_types::{ErrorCode, Str};

use crate::TransactionLedger;

impl TransactionLedger {
    /// What is known of a transactional id.
    #[must_use]
    pub fn describe(&self, transactional_id: &Str) -> TransactionState {
        match self.state.transaction(transactional_id) {
            _ if transactional_id.is_empty() => undescribed(transactional_id, ErrorCode::InvalidRequest),
            None => undescribed(transactional_id, ErrorCode::TransactionalIdNotFound),
            Some(transaction) => TransactionState {
                error_code: ErrorCode::None.code(),
                transactional_id: transactional_id.clone(),
                transaction_state: Str::from(transaction.status.name()),
                transaction_timeout_ms: transaction.timeout_ms,
                transaction_start_time_ms: transaction.started.0,
                producer_id: transaction.producer_id.0,
                producer_epoch: transaction.epoch.0,
                topics: transaction
                    .partitions
                    .iter()
                    .map(|(topic, indexes)| TopicData {
                        topic: topic.clone(),
                        partitions: indexes.iter().copied().collect(),
                    })
                    .collect(),
            },
        }
    }
}

/// The answer where there is nothing to describe.
fn undescribed(transactional_id: &Str, error: ErrorCode) -> TransactionState {
    TransactionState {
        error_code: error.code(),
        transactional_id: transactional_id.clone(),
        ..TransactionState::default()
    }
}
