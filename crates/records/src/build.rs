//! Building a batch of records, for producers, ledgers and the metadata log (Kafka's `MemoryRecordsBuilder`).

use bytes::{BufMut, Bytes};
use dohle_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::header::{HEADER_SIZE, LOG_OVERHEAD};
use crate::{Attributes, BatchHeader, Compression, CompressionTarget, Compressor, MAGIC, TimestampType};

/// What a batch is to be, but for its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchOptions {
    /// How to compress it.
    pub compression: CompressionTarget,
    /// The first record's offset; producers leave it 0.
    pub base_offset: Offset,
    /// Where the timestamps come from.
    pub timestamp_type: TimestampType,
    /// The producer, if it is idempotent.
    pub producer_id: ProducerId,
    /// The producer's epoch.
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence.
    pub base_sequence: Sequence,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
    /// Whether the records are control records.
    pub control: bool,
    /// The leader's term; producers do not know it.
    pub partition_leader_epoch: LeaderEpoch,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            compression: CompressionTarget::default(),
            base_offset: Offset::ZERO,
            timestamp_type: TimestampType::CreateTime,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: Sequence(-1),
            transactional: false,
            control: false,
            partition_leader_epoch: LeaderEpoch::NONE,
        }
    }
}

/// Why a batch cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No record was added.
    #[error("a batch needs at least one record")]
    Empty,
    /// The batch would be longer than its length field can say; begin another.
    #[error("a batch cannot be longer than 2 GiB")]
    Full,
    /// The compression's library refused.
    #[error("the records cannot be compressed: {0}")]
    Compression(#[from] std::io::Error),
}

/// A batch in the making.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// Room for the header, then the records.
    bytes: Vec<u8>,
    /// The record that is being written; its size must be known before it.
    record: Vec<u8>,
    record_count: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

impl BatchBuilder {
    /// A batch without records.
    #[must_use]
    pub fn new(options: BatchOptions) -> Self {
        Self {
            options,
            bytes: vec![0; HEADER_SIZE],
            record: Vec::new(),
            record_count: 0,
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
        }
    }

    /// Adds a record; its offset.
    pub fn append(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Result<Offset, BuildError> {
        if self.record_count == 0 {
            self.base_timestamp = timestamp;
        }
        let delta = timestamp.0.wrapping_sub(self.base_timestamp.0);
        let next_count = self.record_count.checked_add(1).ok_or(BuildError::Full)?;
        put_record(&mut self.bytes, &mut self.record, delta, self.record_count, key, value, headers)?;
        let offset = self.options.base_offset.plus(i64::from(self.record_count));
        self.record_count = next_count;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(offset)
    }

    /// How many records were added.
    #[must_use]
    pub const fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Whether no record was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// The batch's size so far, before compression.
    #[must_use]
    pub const fn size_in_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// An upper bound of what a record adds to [`size_in_bytes`](Self::size_in_bytes).
    #[must_use]
    pub fn record_size_bound(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> usize {
        /// Size, attributes, timestamp delta, offset delta, number of headers.
        const OVERHEAD_MAX: usize = VARINT_SIZE_MAX + 1 + 10 + VARINT_SIZE_MAX + VARINT_SIZE_MAX;
        let field = |field: Option<&[u8]>| VARINT_SIZE_MAX + field.map_or(0, <[u8]>::len);
        let headers = headers.iter().map(|(key, value)| field(Some(key)) + field(*value));
        OVERHEAD_MAX + field(key) + field(value) + headers.sum::<usize>()
    }

    /// The batch.
    pub fn build(mut self, compressor: &mut Compressor) -> Result<Bytes, BuildError> {
        if self.is_empty() {
            return Err(BuildError::Empty);
        }
        if self.options.compression.compression != Compression::None {
            let (_, records) = self.bytes.split_at(HEADER_SIZE);
            let compressed = compressor.compress(self.options.compression, records)?;
            self.bytes.truncate(HEADER_SIZE);
            self.bytes.extend_from_slice(&compressed);
        }
        let attributes = Attributes::default()
            .with_compression(self.options.compression.compression)
            .with_timestamp_type(self.options.timestamp_type)
            .with_transactional(self.options.transactional)
            .with_control(self.options.control);
        let mut header = BatchHeader {
            base_offset: self.options.base_offset,
            batch_length: batch_length(self.bytes.len())?,
            partition_leader_epoch: self.options.partition_leader_epoch,
            magic: MAGIC,
            crc: 0,
            attributes,
            last_offset_delta: self.record_count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.options.producer_id,
            producer_epoch: self.options.producer_epoch,
            base_sequence: self.options.base_sequence,
            record_count: self.record_count,
        };
        if let Some((room, records)) = self.bytes.split_first_chunk_mut() {
            header.crc = header.computed_crc(records);
            *room = header.to_bytes();
        }
        Ok(self.bytes.into())
    }
}

/// The length field of a batch that takes `size` bytes.
pub(crate) fn batch_length(size: usize) -> Result<i32, BuildError> {
    i32::try_from(size.saturating_sub(LOG_OVERHEAD)).map_err(|_| BuildError::Full)
}

const VARINT_SIZE_MAX: usize = 5;

/// Writes a record to the end of `bytes`, unless a batch cannot be that long. `scratch` is where it is put together:
/// its size must be known before it.
pub(crate) fn put_record(
    bytes: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(&[u8], Option<&[u8]>)],
) -> Result<(), BuildError> {
    scratch.clear();
    scratch.put_u8(0);
    put_varlong(scratch, timestamp_delta);
    put_varint(scratch, offset_delta);
    put_field(scratch, key)?;
    put_field(scratch, value)?;
    put_varint(scratch, i32::try_from(headers.len()).map_err(|_| BuildError::Full)?);
    for (key, value) in headers {
        put_field(scratch, Some(key))?;
        put_field(scratch, *value)?;
    }
    let size = i32::try_from(scratch.len()).map_err(|_| BuildError::Full)?;
    batch_length(bytes.len() + VARINT_SIZE_MAX + scratch.len())?;
    put_varint(bytes, size);
    bytes.append(scratch);
    Ok(())
}

fn put_field(bytes: &mut Vec<u8>, field: Option<&[u8]>) -> Result<(), BuildError> {
    match field {
        None => put_varint(bytes, -1),
        Some(field) => {
            put_varint(bytes, i32::try_from(field.len()).map_err(|_| BuildError::Full)?);
            bytes.extend_from_slice(field);
        }
    }
    Ok(())
}

fn put_varint(bytes: &mut Vec<u8>, value: i32) {
    put_varlong(bytes, i64::from(value));
}

/// Writes a number in zigzag form. An `i32` has the same form as the `i64` of its value.
fn put_varlong(bytes: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while value >= 0x80 {
        bytes.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.put_u8(value.to_le_bytes()[0]);
}
