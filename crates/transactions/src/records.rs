//! State to records, in the versions that Apache Kafka 4.3.1 writes.

use bytes::{BufMut, Bytes, BytesMut};
use dohle_protocol::messages::transaction_log_value::PartitionsSchema;
use dohle_protocol::messages::{TransactionLogKey, TransactionLogValue};
use dohle_protocol::{EncodeError, Message};
use dohle_types::Str;

use crate::Record;
use crate::state::{Status, Transaction, TransactionVersion};

pub(crate) const TRANSACTION_LOG_KEY: i16 = 0;

impl Record {
    /// Bytes that it takes up in a batch, at most.
    #[must_use]
    pub fn size(&self) -> usize {
        /// Length, attributes, deltas and lengths of key and value at their longest.
        const OVERHEAD: usize = 32;
        OVERHEAD + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Fails if the transaction has more partitions than a record can hold.
///
/// Before `transaction.version` 1 there is no room for the ids that come before and after the present one, nor for the
/// client's version: they are as good as unset.
pub(crate) fn transaction(
    transactional_id: &Str,
    transaction: &Transaction,
    version: TransactionVersion,
) -> Result<Record, EncodeError> {
    let partitions = transaction.partitions.iter().map(|(topic, indexes)| PartitionsSchema {
        topic: topic.clone(),
        partition_ids: indexes.iter().copied().collect(),
    });
    let mut value = TransactionLogValue {
        producer_id: transaction.producer_id.0,
        producer_epoch: transaction.epoch.0,
        transaction_timeout_ms: transaction.timeout_ms,
        transaction_status: transaction.status.code(),
        transaction_partitions: (transaction.status != Status::Empty).then(|| partitions.collect()),
        transaction_last_update_timestamp_ms: transaction.updated.0,
        transaction_start_timestamp_ms: transaction.started.0,
        ..TransactionLogValue::default()
    };
    let value_version = i16::from(version > TransactionVersion::V0);
    if value_version > 0 {
        value.previous_producer_id = transaction.previous_producer_id.0;
        value.next_producer_id = transaction.next_producer_id.0;
        value.client_transaction_version = transaction.client_version.0;
    }
    Ok(Record {
        key: key(transactional_id),
        value: Some(with_version(value_version, &value.to_bytes(value_version)?)),
    })
}

pub(crate) fn tombstone(transactional_id: &Str) -> Record {
    Record { key: key(transactional_id), value: None }
}

fn key(transactional_id: &Str) -> Bytes {
    let key = TransactionLogKey { transactional_id: transactional_id.clone() };
    let key = key.to_bytes(0).expect("a string that came by the wire or the log is short enough for it");
    with_version(TRANSACTION_LOG_KEY, &key)
}

fn with_version(version: i16, message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(2 + message.len());
    bytes.put_i16(version);
    bytes.put_slice(message);
    bytes.freeze()
}
