//! What the broker changes in a batch it was sent, in place (Kafka's `MutableRecordBatch`).

use dohle_types::{LeaderEpoch, Offset, Timestamp};

use crate::header::{
    BASE_OFFSET_POSITION, HEADER_SIZE, LENGTH_POSITION, MAGIC_POSITION, PARTITION_LEADER_EPOCH_POSITION,
};
use crate::{BatchError, BatchHeader, TimestampType};

/// Writes the base offset and the leader epoch, neither of which the CRC covers.
///
/// `batch` may be the whole batch or a copy of its header alone.
pub fn assign_offset(
    batch: &mut [u8],
    base_offset: Offset,
    partition_leader_epoch: LeaderEpoch,
) -> Result<(), BatchError> {
    let Some((header, _)) = batch.split_first_chunk_mut::<HEADER_SIZE>() else {
        return Err(BatchError::Truncated { needed: HEADER_SIZE, available: batch.len() });
    };
    header[BASE_OFFSET_POSITION..LENGTH_POSITION].copy_from_slice(&base_offset.0.to_be_bytes());
    header[PARTITION_LEADER_EPOCH_POSITION..MAGIC_POSITION]
        .copy_from_slice(&partition_leader_epoch.0.to_be_bytes());
    Ok(())
}

/// Writes the timestamp type and the maximum timestamp, and the CRC that follows from them.
///
/// `batch` is the whole batch and nothing more.
pub fn assign_timestamp(
    batch: &mut [u8],
    timestamp_type: TimestampType,
    max_timestamp: Timestamp,
) -> Result<(), BatchError> {
    let mut header = BatchHeader::parse(batch)?;
    header.attributes = header.attributes.with_timestamp_type(timestamp_type);
    header.max_timestamp = max_timestamp;
    let available = batch.len();
    let Some((bytes, body)) =
        batch.split_first_chunk_mut::<HEADER_SIZE>().filter(|_| header.size_in_bytes() == available)
    else {
        return Err(BatchError::Truncated { needed: header.size_in_bytes(), available });
    };
    header.crc = header.computed_crc(body);
    *bytes = header.to_bytes();
    Ok(())
}
