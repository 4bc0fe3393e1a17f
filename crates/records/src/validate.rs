//! What a client's batch must be before it is appended (Kafka's `ProduceRequest.validateRecords`,
//! `UnifiedLog.analyzeAndValidateRecords` and `LogValidator`).
//!
//! An uncompressed batch is walked in place; a compressed one is decompressed through a window of fixed size
//! while it is walked, and never held whole.
//!
//! Differs from Kafka: offsets within an uncompressed batch that do not count up from 0, transactional batches without
//! a producer id, producer ids without an epoch, and batches that claim log-append time for a topic of create time are
//! refused as invalid, where Kafka stores them (rewriting some). No known client sends them.
//! Differs from Kafka: an unknown compression is `UNSUPPORTED_COMPRESSION_TYPE` and records that do not decompress are
//! `INVALID_RECORD`, where Kafka answers `UNKNOWN_SERVER_ERROR` to both.
//! Differs from Kafka: decompression is bounded. Beyond the bound the answer is `MESSAGE_TOO_LARGE`, on which the Java
//! producer splits the batch and tries again.

use bytes::Bytes;
use dohle_types::{ErrorCode, Offset, Timestamp};

use crate::source::{ReadError, SliceSource, Source, StreamSource};
use crate::{
    Batch, BatchError, BatchHeader, Compression, DecompressionError, Decompressor, Malformed, TimestampType,
};

/// What a topic asks of the batches produced to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ValidationRules {
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms` (KIP-937).
    pub before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub after_max_ms: i64,
    /// `max.message.bytes`: the size of a batch at most.
    pub max_message_bytes: usize,
    /// Whether `cleanup.policy` has `compact`: records need keys.
    pub compacted: bool,
    /// `compression.type`, `None` where it is `producer`.
    pub compression: Option<Compression>,
    /// Whether the request's version (7 and later) may bring zstd (KIP-110).
    pub zstd_allowed: bool,
    /// The time of the append.
    pub now: Timestamp,
}

/// A batch that may be appended, once it is recompressed and [patched](crate::patch) as its fields here say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Validated {
    /// The batch, without what may have followed it.
    pub batch: Batch,
    /// The timestamp type to store.
    pub timestamp_type: TimestampType,
    /// The maximum timestamp to store: that of the records, or the time of the append. Indexes note it at the
    /// batch's last offset, since a follower does not look into batches and must come to the same.
    pub max_timestamp: Timestamp,
    /// Whether the topic wants another compression: [`recompress`](crate::recompress()) the batch before patching it,
    /// and check its new size.
    pub needs_recompression: bool,
}

impl Validated {
    /// How many records there are.
    #[must_use]
    pub const fn record_count(&self) -> i32 {
        self.batch.header().record_count
    }

    /// Whether the header's timestamp type or maximum timestamp, and with them the CRC, are not those to store.
    #[must_use]
    pub fn needs_timestamp_patch(&self) -> bool {
        let header = self.batch.header();
        header.attributes.timestamp_type() != self.timestamp_type
            || header.max_timestamp != self.max_timestamp
    }
}

/// Why a client's records are refused as a whole.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidBatch {
    /// There is no batch.
    #[error("a produce request must bring a record batch for each partition")]
    NoBatch,
    /// There is more than one batch.
    #[error("a produce request must bring exactly one record batch for each partition")]
    MoreThanOneBatch,
    /// The bytes are not a batch, or not the one that was sent.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The request's version is older than zstd.
    #[error("produce requests before version 7 must not use zstd")]
    ZstdNotAllowed,
    /// The producer set an offset.
    #[error("the base offset must be 0, but is {0}")]
    BaseOffset(Offset),
    /// The batch is larger than the topic allows.
    #[error("the record batch takes {size} bytes; max.message.bytes is {max}")]
    TooLarge {
        /// Bytes it takes.
        size: usize,
        /// Bytes it may take.
        max: usize,
    },
    /// The count is not positive, or not that of the offsets.
    #[error("the batch announces {record_count} records for the offset deltas 0 to {last_offset_delta}")]
    RecordCount {
        /// Records announced.
        record_count: i32,
        /// The last record's offset delta announced.
        last_offset_delta: i32,
    },
    /// Only brokers write control records.
    #[error("clients must not write control records")]
    Control,
    /// A producer id without a sequence or an epoch.
    #[error("the batch has a producer id but its epoch is {epoch} and its sequence {sequence}")]
    ProducerFields {
        /// The epoch.
        epoch: i16,
        /// The sequence.
        sequence: i32,
    },
    /// A transaction without a producer id.
    #[error("the batch is transactional but has no producer id")]
    TransactionalWithoutProducerId,
    /// Records that the topic does not accept.
    #[error("{total} record(s) were rejected, the first because {}", first_reason(errors))]
    Records {
        /// The first of them, at most [`RECORD_ERRORS_MAX`].
        errors: Vec<RecordError>,
        /// How many there are.
        total: i32,
        /// Whether the timestamp is the reason for one of them.
        timestamp_at_fault: bool,
    },
}

/// How many rejected records are reported one by one.
pub const RECORD_ERRORS_MAX: usize = 1000;

/// Why one record is refused, for `record_errors` of the produce response (KIP-467).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct RecordError {
    /// Which record of the batch, counted from 0 (`batch_index`).
    pub index: i32,
    /// What is wrong with it.
    pub reason: InvalidRecord,
}

/// What a topic does not accept in a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidRecord {
    /// Compaction needs keys.
    #[error("a compacted topic does not accept records without a key")]
    MissingKey,
    /// The timestamp is too far from the broker's clock.
    #[error("the timestamp {timestamp} is not within {earliest} to {latest}, which the topic accepts now")]
    TimestampOutOfRange {
        /// The record's timestamp.
        timestamp: Timestamp,
        /// The least timestamp accepted.
        earliest: Timestamp,
        /// The greatest timestamp accepted.
        latest: Timestamp,
    },
    /// Only brokers set log-append time.
    #[error("producers must not set the timestamp type to log-append time")]
    LogAppendTime,
}

fn first_reason(errors: &[RecordError]) -> String {
    errors.first().map(ToString::to_string).unwrap_or_default()
}

impl InvalidBatch {
    /// The error as the produce response says it.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::NoBatch
            | Self::MoreThanOneBatch
            | Self::BaseOffset(_)
            | Self::RecordCount { .. }
            | Self::Control
            | Self::ProducerFields { .. }
            | Self::TransactionalWithoutProducerId
            | Self::Records { timestamp_at_fault: false, .. } => ErrorCode::InvalidRecord,
            Self::Records { timestamp_at_fault: true, .. } => ErrorCode::InvalidTimestamp,
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::ZstdNotAllowed => ErrorCode::UnsupportedCompressionType,
            Self::Batch(error) => match error {
                BatchError::InvalidLength(_) | BatchError::CrcMismatch { .. } => ErrorCode::CorruptMessage,
                // Kafka sees no batch in half a one.
                BatchError::Truncated { .. }
                | BatchError::InvalidRecordCount(_)
                | BatchError::MalformedRecord { .. }
                | BatchError::Decompression(DecompressionError::Corrupt { .. })
                | BatchError::UnsupportedMagic(0 | 1) => ErrorCode::InvalidRecord,
                BatchError::UnsupportedMagic(_) => ErrorCode::CorruptMessage,
                BatchError::UnsupportedCompression(_) => ErrorCode::UnsupportedCompressionType,
                BatchError::Decompression(DecompressionError::TooLarge { .. }) => ErrorCode::MessageTooLarge,
            },
        }
    }

    /// The records at fault, where it is their fault.
    #[must_use]
    pub fn record_errors(&self) -> &[RecordError] {
        if let Self::Records { errors, .. } = self { errors } else { &[] }
    }
}

/// Checks what a client sent for one partition: exactly one batch, whole and consistent, that follows the rules.
///
/// Bytes after the batch that are not a whole batch are left out, as Kafka does: a client that copies
/// what it fetched may send the torn beginning of a batch.
pub fn validate(
    bytes: &Bytes,
    rules: &ValidationRules,
    decompressor: &mut Decompressor,
) -> Result<Validated, InvalidBatch> {
    if bytes.is_empty() {
        return Err(InvalidBatch::NoBatch);
    }
    let batch = Batch::parse(bytes)?;
    check_rest(bytes.get(batch.bytes().len()..).unwrap_or_default())?;
    let compression = batch.header().attributes.compression()?;
    check_header(batch.header(), compression, rules)?;
    batch.check_crc()?;

    let mut checks = RecordChecks::new(batch.header(), rules);
    let body = batch.bytes().get(crate::HEADER_SIZE..).unwrap_or_default();
    if compression == Compression::None {
        checks.walk(&mut SliceSource::new(body))?;
    } else {
        let (stream, window) = decompressor.stream(compression, body).map_err(BatchError::from)?;
        checks.walk(&mut StreamSource::new(stream, window))?;
    }
    let max_timestamp = checks.finish()?;

    let max_timestamp = match rules.timestamp_type {
        TimestampType::CreateTime => max_timestamp,
        TimestampType::LogAppendTime => rules.now,
    };
    Ok(Validated {
        batch,
        timestamp_type: rules.timestamp_type,
        max_timestamp,
        needs_recompression: rules.compression.is_some_and(|target| target != compression),
    })
}

/// Checks that what follows the batch is not another.
fn check_rest(rest: &[u8]) -> Result<(), InvalidBatch> {
    match BatchHeader::parse(rest) {
        Ok(second) if second.size_in_bytes() <= rest.len() => Err(InvalidBatch::MoreThanOneBatch),
        Ok(_) | Err(BatchError::Truncated { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn check_header(
    header: &BatchHeader,
    compression: Compression,
    rules: &ValidationRules,
) -> Result<(), InvalidBatch> {
    let BatchHeader { base_offset, record_count, last_offset_delta, .. } = *header;
    if compression == Compression::Zstd && !rules.zstd_allowed {
        return Err(InvalidBatch::ZstdNotAllowed);
    }
    if base_offset != Offset::ZERO {
        return Err(InvalidBatch::BaseOffset(base_offset));
    }
    let (size, max) = (header.size_in_bytes(), rules.max_message_bytes);
    if size > max {
        return Err(InvalidBatch::TooLarge { size, max });
    }
    if record_count <= 0 || last_offset_delta != record_count - 1 {
        return Err(InvalidBatch::RecordCount { record_count, last_offset_delta });
    }
    if header.attributes.is_control() {
        return Err(InvalidBatch::Control);
    }
    let (epoch, sequence) = (header.producer_epoch.0, header.base_sequence.0);
    if header.has_producer_id() {
        if epoch < 0 || sequence < 0 {
            return Err(InvalidBatch::ProducerFields { epoch, sequence });
        }
    } else if header.attributes.is_transactional() {
        return Err(InvalidBatch::TransactionalWithoutProducerId);
    }
    Ok(())
}

/// The walk over the records of one batch.
struct RecordChecks {
    record_count: i32,
    base_timestamp: i64,
    /// The timestamps accepted; all of them where the topic has log-append time.
    earliest: i64,
    latest: i64,
    keys_needed: bool,
    claims_log_append_time: bool,
    max_timestamp: i64,
    errors: Vec<RecordError>,
    total_errors: i32,
    timestamp_at_fault: bool,
}

impl RecordChecks {
    fn new(header: &BatchHeader, rules: &ValidationRules) -> Self {
        let (earliest, latest) = match rules.timestamp_type {
            TimestampType::CreateTime => (
                rules.now.0.saturating_sub(rules.before_max_ms),
                rules.now.0.saturating_add(rules.after_max_ms),
            ),
            TimestampType::LogAppendTime => (i64::MIN, i64::MAX),
        };
        Self {
            record_count: header.record_count,
            base_timestamp: header.base_timestamp.0,
            earliest,
            latest,
            keys_needed: rules.compacted,
            claims_log_append_time: header.attributes.timestamp_type() == TimestampType::LogAppendTime,
            max_timestamp: Timestamp::NONE.0,
            errors: Vec::new(),
            total_errors: 0,
            timestamp_at_fault: false,
        }
    }

    /// Passes over all records, which must fill the source exactly.
    #[inline(always)]
    fn walk<S: Source>(&mut self, source: &mut S) -> Result<(), BatchError> {
        for index in 0..self.record_count {
            self.walk_record(source, index).map_err(|error| error.into().at(index))?;
        }
        if source.is_at_end().map_err(|error| error.into().at(self.record_count - 1))? {
            Ok(())
        } else {
            Err(ReadError::from(Malformed::TrailingBytes).at(self.record_count - 1))
        }
    }

    #[inline(always)]
    fn walk_record<S: Source>(&mut self, source: &mut S, index: i32) -> Result<(), S::Error> {
        let size = u64::try_from(source.varint()?).map_err(|_| Malformed::NegativeSize)?;
        let start = source.position();
        let _attributes = source.byte()?;
        let timestamp = self.base_timestamp.wrapping_add(source.varlong()?);
        if source.varint()? != index {
            return Err(Malformed::OffsetDelta.into());
        }
        let has_key = source.skip_field()?;
        source.skip_field()?;
        let header_count = source.varint()?;
        if header_count != 0 {
            skip_headers(source, header_count)?;
        }
        if source.position() - start != size {
            return Err(Malformed::SizeMismatch.into());
        }
        self.check(index, timestamp, has_key);
        Ok(())
    }

    /// Notes the record's timestamp, and what is wrong with it. As in Kafka a missing key hides a wrong timestamp.
    #[inline(always)]
    fn check(&mut self, index: i32, timestamp: i64, has_key: bool) {
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let in_range = (timestamp >= self.earliest && timestamp <= self.latest) || timestamp == -1;
        if !in_range || self.claims_log_append_time || (self.keys_needed && !has_key) {
            self.reject(index, timestamp, has_key);
        }
    }

    #[cold]
    fn reject(&mut self, index: i32, timestamp: i64, has_key: bool) {
        let reason = if self.keys_needed && !has_key {
            InvalidRecord::MissingKey
        } else if self.claims_log_append_time {
            InvalidRecord::LogAppendTime
        } else {
            InvalidRecord::TimestampOutOfRange {
                timestamp: Timestamp(timestamp),
                earliest: Timestamp(self.earliest),
                latest: Timestamp(self.latest),
            }
        };
        self.timestamp_at_fault |= reason != InvalidRecord::MissingKey;
        self.total_errors = self.total_errors.saturating_add(1);
        if self.errors.len() < RECORD_ERRORS_MAX {
            self.errors.push(RecordError { index, reason });
        }
    }

    /// The greatest timestamp, if no record was rejected.
    fn finish(self) -> Result<Timestamp, InvalidBatch> {
        if self.total_errors == 0 {
            return Ok(Timestamp(self.max_timestamp));
        }
        Err(InvalidBatch::Records {
            errors: self.errors,
            total: self.total_errors,
            timestamp_at_fault: self.timestamp_at_fault,
        })
    }
}

/// Passes over headers. However many are announced, each takes bytes, so their end ends this.
fn skip_headers<S: Source>(source: &mut S, count: i32) -> Result<(), S::Error> {
    if count < 0 {
        return Err(Malformed::HeaderCount.into());
    }
    for _ in 0..count {
        if !source.skip_field()? {
            return Err(Malformed::NullHeaderKey.into());
        }
        source.skip_field()?;
    }
    Ok(())
}
