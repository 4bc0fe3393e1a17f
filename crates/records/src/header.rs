//! The 61 bytes every batch begins with (Kafka's `DefaultRecordBatch`).
//!
//! ```text
//!  0 base offset i64            21 attributes i16           43 producer id i64
//!  8 length i32 (bytes from 12) 23 last offset delta i32    51 producer epoch i16
//! 12 leader epoch i32           27 base timestamp i64       53 base sequence i32
//! 16 magic i8                   35 max timestamp i64        57 record count i32
//! 17 CRC-32C u32 (of bytes 21..)                            61 records
//! ```

use bytes::{Buf, BufMut};
use dohle_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::{BatchError, Compression};

/// Bytes of a batch before its records.
pub const HEADER_SIZE: usize = 61;
/// Bytes that the length field does not count: base offset and the length itself.
pub const LOG_OVERHEAD: usize = 12;
/// The magic of the only format there is since Kafka 4.
pub const MAGIC: i8 = 2;

/// Where the base offset stands.
pub const BASE_OFFSET_POSITION: usize = 0;
/// Where the length stands.
pub const LENGTH_POSITION: usize = 8;
/// Where the partition leader epoch stands.
pub const PARTITION_LEADER_EPOCH_POSITION: usize = 12;
/// Where the magic stands.
pub const MAGIC_POSITION: usize = 16;
/// Where the CRC stands.
pub const CRC_POSITION: usize = 17;
/// Where the attributes stand, the first field that the CRC covers.
pub const ATTRIBUTES_POSITION: usize = 21;
/// Where the maximum timestamp stands.
pub const MAX_TIMESTAMP_POSITION: usize = 35;

/// The least value of the length field in a batch of magic 2.
const LENGTH_MIN: i32 = 49;
/// The least value of the length field in any format; a lesser one is damage, not age.
const LEGACY_LENGTH_MIN: i32 = 14;

/// Where a record's timestamp comes from (KIP-32).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimestampType {
    /// The producer's clock.
    #[default]
    CreateTime,
    /// The broker's clock when it appended the batch; it holds for all records of the batch.
    LogAppendTime,
}

/// The attribute bits of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const COMPRESSION_MASK: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// How the records are compressed.
    pub const fn compression(self) -> Result<Compression, BatchError> {
        let code = self.0 & Self::COMPRESSION_MASK;
        match Compression::from_code(code) {
            Some(compression) => Ok(compression),
            None => Err(BatchError::UnsupportedCompression(code)),
        }
    }

    /// Where the timestamps come from.
    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the records are control records, which consumers do not see.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is in truth the time from which compaction may remove tombstones (KIP-534).
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// The same attributes with this compression.
    #[must_use]
    pub const fn with_compression(self, compression: Compression) -> Self {
        Self(self.0 & !Self::COMPRESSION_MASK | compression.code())
    }

    /// The same attributes with this timestamp type.
    #[must_use]
    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with(Self::LOG_APPEND_TIME, matches!(timestamp_type, TimestampType::LogAppendTime))
    }

    /// The same attributes, transactional or not.
    #[must_use]
    pub const fn with_transactional(self, transactional: bool) -> Self {
        self.with(Self::TRANSACTIONAL, transactional)
    }

    /// The same attributes, of a control batch or not.
    #[must_use]
    pub const fn with_control(self, control: bool) -> Self {
        self.with(Self::CONTROL, control)
    }

    /// The same attributes, with a delete horizon in place of the base timestamp or without.
    #[must_use]
    pub const fn with_delete_horizon(self, has_delete_horizon: bool) -> Self {
        self.with(Self::DELETE_HORIZON, has_delete_horizon)
    }

    const fn with(self, bit: i16, set: bool) -> Self {
        Self(if set { self.0 | bit } else { self.0 & !bit })
    }
}

/// A copy of a batch's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The batch's size but for its first 12 bytes.
    pub batch_length: i32,
    /// The term of the leader that appended the batch.
    pub partition_leader_epoch: LeaderEpoch,
    /// The format's number, always 2.
    pub magic: i8,
    /// CRC-32C of all that follows it.
    pub crc: u32,
    /// Compression, timestamp type and flags.
    pub attributes: Attributes,
    /// The last record's offset less the base offset.
    pub last_offset_delta: i32,
    /// What the records' timestamps are reckoned from.
    pub base_timestamp: Timestamp,
    /// The greatest timestamp, or the append time.
    pub max_timestamp: Timestamp,
    /// The producer's id, -1 where there is none.
    pub producer_id: ProducerId,
    /// The producer's epoch, -1 where there is none.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of the first record, -1 where there is none.
    pub base_sequence: Sequence,
    /// How many records there are; fewer than the offsets span once compaction removed some.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header that `bytes` begin with. They need not hold the whole batch.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let truncated = Err(BatchError::Truncated { needed: HEADER_SIZE, available: bytes.len() });
        let Some((_, mut after_offset)) = bytes.split_first_chunk::<LENGTH_POSITION>() else {
            return truncated;
        };
        // The length and the magic are judged as soon as they are there: a stub in an older format
        // or a torn tail of zeros should not ask for more bytes.
        let Ok(batch_length) = after_offset.try_get_i32() else { return truncated };
        if batch_length < LEGACY_LENGTH_MIN {
            return Err(BatchError::InvalidLength(batch_length));
        }
        match bytes.get(MAGIC_POSITION).map(|&magic| magic.cast_signed()) {
            None | Some(MAGIC) => {}
            Some(other) => return Err(BatchError::UnsupportedMagic(other)),
        }
        if batch_length < LENGTH_MIN {
            return Err(BatchError::InvalidLength(batch_length));
        }
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_SIZE>() else { return truncated };
        let mut fields = header.as_slice();
        Ok(Self {
            base_offset: Offset(fields.get_i64()),
            batch_length: fields.get_i32(),
            partition_leader_epoch: LeaderEpoch(fields.get_i32()),
            magic: fields.get_i8(),
            crc: fields.get_u32(),
            attributes: Attributes(fields.get_i16()),
            last_offset_delta: fields.get_i32(),
            base_timestamp: Timestamp(fields.get_i64()),
            max_timestamp: Timestamp(fields.get_i64()),
            producer_id: ProducerId(fields.get_i64()),
            producer_epoch: ProducerEpoch(fields.get_i16()),
            base_sequence: Sequence(fields.get_i32()),
            record_count: fields.get_i32(),
        })
    }

    /// The header as it stands in front of the records.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        let mut fields = bytes.as_mut_slice();
        fields.put_i64(self.base_offset.0);
        fields.put_i32(self.batch_length);
        fields.put_i32(self.partition_leader_epoch.0);
        fields.put_i8(self.magic);
        fields.put_u32(self.crc);
        fields.put_i16(self.attributes.0);
        fields.put_i32(self.last_offset_delta);
        fields.put_i64(self.base_timestamp.0);
        fields.put_i64(self.max_timestamp.0);
        fields.put_i64(self.producer_id.0);
        fields.put_i16(self.producer_epoch.0);
        fields.put_i32(self.base_sequence.0);
        fields.put_i32(self.record_count);
        bytes
    }

    /// The CRC that the header must carry in front of `body`, the bytes after it.
    #[must_use]
    pub fn computed_crc(&self, body: &[u8]) -> u32 {
        let bytes = self.to_bytes();
        let (_, covered) = bytes.split_at(ATTRIBUTES_POSITION);
        crc32c::crc32c_append(crc32c::crc32c(covered), body)
    }

    /// The whole batch's size, header included.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        usize::try_from(self.batch_length).unwrap_or(0).saturating_add(LOG_OVERHEAD)
    }

    /// The offset of the last record (or of the last there was, before compaction).
    #[must_use]
    pub const fn last_offset(&self) -> Offset {
        self.base_offset.plus(self.last_offset_delta as i64)
    }

    /// The offset after the last, where the next batch begins at the earliest.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.last_offset().plus(1)
    }

    /// Whether an idempotent or transactional producer made the batch.
    #[must_use]
    pub const fn has_producer_id(&self) -> bool {
        self.producer_id.0 > ProducerId::NONE.0
    }

    /// The sequence of the last record; -1 where there is none.
    #[must_use]
    pub const fn last_sequence(&self) -> Sequence {
        if self.base_sequence.0 < 0 { Sequence(-1) } else { self.base_sequence.plus(self.last_offset_delta) }
    }

    /// The time from which compaction may remove this batch's tombstones, once it set one (KIP-534).
    #[must_use]
    pub fn delete_horizon(&self) -> Option<Timestamp> {
        self.attributes.has_delete_horizon().then_some(self.base_timestamp)
    }
}
