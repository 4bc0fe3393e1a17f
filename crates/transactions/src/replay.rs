//! Records to state: at loading, and again right after appending.

use bytes::Bytes;
use dohle_protocol::messages::{TransactionLogKey, TransactionLogValue};
use dohle_protocol::{DecodeError, Message};
use dohle_types::{ProducerEpoch, ProducerId, Timestamp};

use crate::TransactionLedger;
use crate::records::TRANSACTION_LOG_KEY;
use crate::state::{Partitions, Status, Transaction, TransactionVersion, TxnResult};

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It is part of the state.
    Applied,
    /// It is of a type that this ledger does not know: a newer Kafka's. It stays in the log.
    Skipped {
        /// The number of its type.
        record_type: i16,
    },
}

/// Why a record of `__transaction_state` makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// It is too short for the version that every key and value begins with.
    #[error("a key or value of __transaction_state is shorter than the two bytes of its version")]
    NoVersion,
    /// Its key cannot be read.
    #[error("the key of a record in __transaction_state is damaged: {0}")]
    Key(DecodeError),
    /// Its value cannot be read.
    #[error("the value of a record in __transaction_state is damaged: {0}")]
    Value(DecodeError),
    /// It has a status that Kafka never writes.
    #[error("a record in __transaction_state has status {0}, which is none of a transaction in a log")]
    Status(i8),
}

impl TransactionLedger {
    /// Takes in a record of the log, or one that this ledger has just written.
    pub fn replay(&mut self, key: &Bytes, value: Option<&Bytes>) -> Result<Replayed, ReplayError> {
        let (record_type, key) = split_version(key)?;
        if record_type != TRANSACTION_LOG_KEY {
            return Ok(Replayed::Skipped { record_type });
        }
        let key = TransactionLogKey::from_bytes(&key, 0).map_err(ReplayError::Key)?;
        let transaction = value.map(transaction).transpose()?;
        self.note_end(&key.transactional_id, transaction.as_ref());
        self.state.replay(key.transactional_id, transaction);
        Ok(Replayed::Applied)
    }
}

impl TransactionLedger {
    /// Counts a transaction that is over now.
    fn note_end(&mut self, transactional_id: &str, next: Option<&Transaction>) {
        let present = self.state.transaction(transactional_id).map(|transaction| transaction.status);
        let is_ending = present.is_some_and(Status::is_prepared);
        match next.map(|transaction| transaction.status).filter(|_| is_ending) {
            Some(Status::Complete(TxnResult::Commit)) => self.stats.committed += 1,
            Some(Status::Complete(TxnResult::Abort)) => self.stats.aborted += 1,
            Some(Status::Empty | Status::Ongoing | Status::Prepare(_)) | None => {}
        }
    }
}

fn transaction(value: &Bytes) -> Result<Transaction, ReplayError> {
    let (version, value) = split_version(value)?;
    let value = TransactionLogValue::from_bytes(&value, version).map_err(ReplayError::Value)?;
    let status =
        Status::from_code(value.transaction_status).ok_or(ReplayError::Status(value.transaction_status))?;
    let mut partitions = Partitions::new();
    for topic in value.transaction_partitions.unwrap_or_default() {
        partitions.entry(topic.topic).or_default().extend(topic.partition_ids);
    }
    Ok(Transaction {
        producer_id: ProducerId(value.producer_id),
        previous_producer_id: ProducerId(value.previous_producer_id),
        next_producer_id: ProducerId(value.next_producer_id),
        epoch: ProducerEpoch(value.producer_epoch),
        timeout_ms: value.transaction_timeout_ms,
        status,
        partitions,
        updated: Timestamp(value.transaction_last_update_timestamp_ms),
        started: Timestamp(value.transaction_start_timestamp_ms),
        client_version: TransactionVersion(value.client_transaction_version),
    })
}

fn split_version(bytes: &Bytes) -> Result<(i16, Bytes), ReplayError> {
    let (version, _) = bytes.split_first_chunk::<2>().ok_or(ReplayError::NoVersion)?;
    Ok((i16::from_be_bytes(*version), bytes.slice(2..)))
}
