//! Appending a batch.

use bytes::Bytes;
use dohle_configs::{self as configs, MessageTimestampType, TopicConfig};
use dohle_records::{
    Batch, BatchError, BatchHeader, Compression, CompressionTarget, Compressor, ControlRecordKey,
    ControlRecordType, Decompressor, EndTxnMarker, InvalidBatch, TimestampType, ValidationRules, patch,
    recompress::RecompressError, validate::RecordError,
};
use dohle_types::{ErrorCode, LeaderEpoch, Now, Offset, Sequence, Timestamp};

use crate::disk::Op;
use crate::log::{Log, into_own};
use crate::producer_state::{Checked, MarkerCheck, ProducerBatch, ProducerError, SequenceCheck};
use crate::segment::{TXN_INDEX_SUFFIX, file};
use crate::txn_index;

/// Who appends, and thus how far a batch is trusted (Kafka's `AppendOrigin`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A client: everything is checked.
    Client {
        /// Whether the request's version (7 and later) may bring zstd (KIP-110).
        zstd_allowed: bool,
    },
    /// A coordinator of this broker: control batches are allowed, sequences are not checked.
    Coordinator,
    /// As a coordinator, a marker of transactions v2 (KIP-890): its epoch has to be greater than the producer's
    /// (KIP-1228). One that the log has already is not appended again.
    MarkerV2,
    /// The leader of the metadata log: as a coordinator, and no producers are kept.
    RaftLeader,
}

/// Contexts and buffers for compressed batches, reused from append to append.
#[derive(Default)]
pub struct Codecs {
    /// For validating them, and for changing their compression.
    pub decompressor: Decompressor,
    /// For changing their compression.
    pub compressor: Compressor,
}

/// An append that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub first_offset: Offset,
    /// The offset after its last; once everything below is committed, so is the append.
    pub next_offset: Offset,
    /// When it was appended, where the topic keeps that time; else -1.
    pub log_append_time: Timestamp,
    /// The start of the log.
    pub log_start_offset: Offset,
    /// Whether the batch had been appended before: nothing was written, and the offsets are those of then.
    pub duplicate: bool,
    /// Bytes that were appended to the log and its hot tail; 0 for a duplicate.
    pub bytes: usize,
}

/// Why a batch is not appended. The log is as it was.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The batch is not what it should be.
    #[error(transparent)]
    Invalid(#[from] InvalidBatch),
    /// The topic's compression could not be applied.
    #[error("the batch cannot be recompressed: {0}")]
    Recompress(#[from] RecompressError),
    /// The batch is longer than a segment may be.
    #[error("the record batch takes {size} bytes; segment.bytes is {max}")]
    TooLargeForSegment {
        /// Bytes it takes.
        size: usize,
        /// `segment.bytes`.
        max: u32,
    },
    /// Its producer must not send it now.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// Which offsets were given out cannot be known.
    #[error("the end of the log is damaged: nothing is appended until its file is restored")]
    EndLost,
}

impl AppendError {
    /// The error as the produce response says it.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::Invalid(error) => error.error_code(),
            Self::Recompress(_) => ErrorCode::UnknownServerError,
            Self::TooLargeForSegment { .. } => ErrorCode::RecordListTooLarge,
            Self::EndLost => ErrorCode::KafkaStorageError,
            Self::Producer(error) => match error {
                ProducerError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
                ProducerError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
                ProducerError::InvalidTransactionState { .. } => ErrorCode::InvalidTxnState,
                ProducerError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
            },
        }
    }

    /// The records at fault, where it is their fault.
    #[must_use]
    pub fn record_errors(&self) -> &[RecordError] {
        match self {
            Self::Invalid(error) => error.record_errors(),
            Self::Recompress(_) | Self::TooLargeForSegment { .. } | Self::Producer(_) | Self::EndLost => &[],
        }
    }
}

/// A batch that passed the checks which need no log.
struct Incoming {
    header: BatchHeader,
    bytes: Bytes,
    /// What the header's timestamp fields must become, where they are not that.
    timestamps: Option<(TimestampType, Timestamp)>,
    /// What it says, where it is a transaction marker.
    marker: Option<EndTxn>,
}

impl Log {
    /// Appends the one batch in `records` and says what is to be written.
    ///
    /// # Errors
    /// When the batch is refused; nothing has changed then.
    pub fn append(
        &mut self,
        now: Now,
        records: Bytes,
        origin: Origin,
        leader_epoch: LeaderEpoch,
        codecs: &mut Codecs,
        ops: &mut Vec<Op>,
    ) -> Result<Appended, AppendError> {
        if self.is_end_lost {
            return Err(AppendError::EndLost);
        }
        let incoming = match origin {
            Origin::Client { zstd_allowed } => self.check_client_batch(now, records, zstd_allowed, codecs)?,
            Origin::Coordinator | Origin::MarkerV2 | Origin::RaftLeader => {
                from_broker(&records, &mut codecs.decompressor)?
            }
        };
        if let Checked::Duplicate(batch) = self.check_producer(&incoming, origin)? {
            return Ok(self.duplicate(batch));
        }
        let size = incoming.header.size_in_bytes();
        if size > self.config.segment_bytes as usize {
            return Err(AppendError::TooLargeForSegment { size, max: self.config.segment_bytes });
        }
        Ok(self.append_checked(now, incoming, origin, leader_epoch, ops))
    }

    /// Notes that the leader of `epoch` begins at the end of the log.
    ///
    /// The file follows with the next append: until then the epoch has written nothing.
    pub fn begin_leader_epoch(&mut self, epoch: LeaderEpoch) {
        self.files.epochs_changed |= self.epochs.assign(epoch, self.end);
    }

    fn check_client_batch(
        &self,
        now: Now,
        records: Bytes,
        zstd_allowed: bool,
        codecs: &mut Codecs,
    ) -> Result<Incoming, AppendError> {
        let config = &self.config;
        let rules = ValidationRules {
            timestamp_type: timestamp_type(config),
            before_max_ms: config.message_timestamp_before_max_ms,
            after_max_ms: config.message_timestamp_after_max_ms,
            max_message_bytes: config.max_message_bytes as usize,
            compacted: config.cleanup_policy.compact,
            compression: compression_target(config).map(|target| target.compression),
            zstd_allowed,
            now: now.wall,
        };
        let validated = dohle_records::validate(&records, &rules, &mut codecs.decompressor)?;
        let timestamps =
            validated.needs_timestamp_patch().then_some((validated.timestamp_type, validated.max_timestamp));
        let recompressed = match compression_target(config) {
            Some(target) if validated.needs_recompression => Some(dohle_records::recompress(
                &validated.batch,
                target,
                &mut codecs.decompressor,
                &mut codecs.compressor,
            )?),
            _ => None,
        };
        // From here on the batch's bytes have one owner if the receive buffer has no other, so that they can
        // be changed in place.
        drop(records);
        let bytes = recompressed.unwrap_or_else(|| validated.batch.into_bytes());
        let header = BatchHeader::parse(&bytes).map_err(InvalidBatch::from)?;
        let max = config.max_message_bytes as usize;
        if header.size_in_bytes() > max {
            return Err(InvalidBatch::TooLarge { size: header.size_in_bytes(), max }.into());
        }
        Ok(Incoming { header, bytes, timestamps, marker: None })
    }

    fn check_producer(&self, incoming: &Incoming, origin: Origin) -> Result<Checked, ProducerError> {
        if let Some(marker) = incoming.marker {
            let is_v2 = origin == Origin::MarkerV2;
            match self.producers.check_marker(&incoming.header, marker.coordinator_epoch, is_v2)? {
                MarkerCheck::New => {}
                MarkerCheck::Repeated { written_at } => {
                    // Where it stands is not kept; it is committed when all of the log is.
                    return Ok(Checked::Duplicate(ProducerBatch {
                        last_sequence: Sequence(-1),
                        last_offset: self.end.plus(-1),
                        offset_delta: 0,
                        timestamp: written_at,
                    }));
                }
            }
        }
        let check = match origin {
            Origin::Client { .. } => SequenceCheck::Full,
            Origin::Coordinator | Origin::MarkerV2 => SequenceCheck::EpochOnly,
            Origin::RaftLeader => SequenceCheck::None,
        };
        self.producers.check(&incoming.header, check)
    }

    fn duplicate(&self, batch: ProducerBatch) -> Appended {
        let log_append_time = match timestamp_type(&self.config) {
            TimestampType::CreateTime => Timestamp::NONE,
            TimestampType::LogAppendTime => batch.timestamp,
        };
        Appended {
            first_offset: batch.first_offset(),
            next_offset: batch.last_offset.plus(1),
            log_append_time,
            log_start_offset: self.start,
            duplicate: true,
            bytes: 0,
        }
    }

    /// Appends a batch that nothing can be said against any more.
    fn append_checked(
        &mut self,
        now: Now,
        incoming: Incoming,
        origin: Origin,
        leader_epoch: LeaderEpoch,
        ops: &mut Vec<Op>,
    ) -> Appended {
        let first_offset = self.end;
        let Incoming { mut header, bytes, timestamps, marker } = incoming;
        let mut bytes = into_own(bytes);
        let assigned = timestamps
            .map_or(Ok(()), |(kind, max)| patch::assign_timestamp(&mut bytes, kind, max))
            .and_then(|()| patch::assign_offset(&mut bytes, first_offset, leader_epoch))
            .and_then(|()| BatchHeader::parse(&bytes));
        header =
            assigned.unwrap_or_else(|_| unreachable!("a batch with the header {header:?} was parsed before"));
        let next_offset = header.next_offset();
        assert!(next_offset > first_offset, "invariant 2: offsets ascend");
        let bytes = bytes.freeze();

        if self.active.must_roll(self.active_segment(), &header, &self.config, &self.dir, now.wall) {
            self.roll(now.wall, ops);
        }
        self.create_files(ops);
        self.files.epochs_changed |= self.epochs.assign(leader_epoch, first_offset);
        self.save_epochs(ops);

        let Some(segment) = self.segments.last_mut() else {
            unreachable!("invariant 1: a log has a segment")
        };
        if segment.size == 0 {
            self.active.created = now.wall;
            if self.config.preallocate {
                let (path, length) = (self.active.log_path.clone(), u64::from(self.config.segment_bytes));
                ops.push(Op::Allocate { path, length });
                self.active.has_room = true;
            }
        }
        segment.last_written = now.wall;
        ops.push(Op::Write {
            path: self.active.log_path.clone(),
            position: u64::from(segment.size),
            data: bytes.clone(),
        });
        self.active.note(segment, &header, self.config.index_interval_bytes);
        if self.active.index.is_write_due() || self.active.time_index.is_write_due() {
            ops.extend(self.active.write_indexes(segment, &self.dir));
        }

        match (origin, marker) {
            (Origin::RaftLeader, _) => {}
            (Origin::Client { .. } | Origin::Coordinator | Origin::MarkerV2, Some(marker)) => {
                self.note_marker(&header, marker, ops);
            }
            (Origin::Client { .. } | Origin::Coordinator | Origin::MarkerV2, None) => {
                self.producers.note_data(&header);
            }
        }
        self.end = next_offset;
        let size = bytes.len();
        self.tail.push(first_offset, next_offset, bytes);

        let log_append_time = match header.attributes.timestamp_type() {
            TimestampType::CreateTime => Timestamp::NONE,
            TimestampType::LogAppendTime => header.max_timestamp,
        };
        Appended {
            first_offset,
            next_offset,
            log_append_time,
            log_start_offset: self.start,
            duplicate: false,
            bytes: size,
        }
    }

    /// Takes note of a transaction marker at the end of the active segment.
    fn note_marker(&mut self, header: &BatchHeader, marker: EndTxn, ops: &mut Vec<Op>) {
        let Some(segment) = self.segments.last_mut() else {
            unreachable!("invariant 1: a log has a segment")
        };
        if let Some(aborted) = txn_index::note_marker(&mut self.producers, header, marker) {
            self.last_abort = aborted.last_offset;
            self.files.dirty.insert(file(&self.dir, segment.base, TXN_INDEX_SUFFIX));
            ops.push(txn_index::append(segment, &self.dir, &aborted));
        }
    }
}

/// What a transaction marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndTxn {
    pub(crate) is_abort: bool,
    pub(crate) coordinator_epoch: i32,
}

/// The timestamps that the topic's records keep.
fn timestamp_type(config: &TopicConfig) -> TimestampType {
    match config.message_timestamp_type {
        MessageTimestampType::CreateTime => TimestampType::CreateTime,
        MessageTimestampType::LogAppendTime => TimestampType::LogAppendTime,
    }
}

/// What batches are recompressed to; `None` where they stay as the producer made them.
fn compression_target(config: &TopicConfig) -> Option<CompressionTarget> {
    let (compression, level) = match config.compression {
        configs::Compression::Producer => return None,
        configs::Compression::Uncompressed => (Compression::None, None),
        configs::Compression::Gzip(level) => (Compression::Gzip, (level >= 0).then_some(level)),
        configs::Compression::Snappy => (Compression::Snappy, None),
        configs::Compression::Lz4(level) => (Compression::Lz4, Some(level)),
        configs::Compression::Zstd(level) => (Compression::Zstd, Some(level)),
    };
    Some(CompressionTarget { compression, level })
}

/// Takes a batch that this broker made: only what the log itself relies on is checked.
fn from_broker(records: &Bytes, decompressor: &mut Decompressor) -> Result<Incoming, InvalidBatch> {
    let batch = Batch::parse(records)?;
    let header = *batch.header();
    if batch.bytes().len() != records.len() {
        return Err(InvalidBatch::MoreThanOneBatch);
    }
    let (record_count, last_offset_delta) = (header.record_count, header.last_offset_delta);
    if record_count <= 0 || last_offset_delta != record_count - 1 {
        return Err(InvalidBatch::RecordCount { record_count, last_offset_delta });
    }
    batch.check_crc()?;
    let marker = marker(&batch, decompressor)?;
    Ok(Incoming { header, bytes: batch.into_bytes(), timestamps: None, marker })
}

/// What a transaction marker says; `None` where the batch is none.
pub(crate) fn marker(batch: &Batch, decompressor: &mut Decompressor) -> Result<Option<EndTxn>, BatchError> {
    if !batch.header().attributes.is_control() || !batch.header().has_producer_id() {
        return Ok(None);
    }
    let Some(record) = batch.records(decompressor)?.next().transpose()? else { return Ok(None) };
    let malformed = |reason| BatchError::MalformedRecord { index: 0, reason };
    let key = ControlRecordKey::parse(&record.key.unwrap_or_default()).map_err(malformed)?;
    match key.record_type {
        ControlRecordType::Abort | ControlRecordType::Commit => {
            let value = EndTxnMarker::parse(&record.value.unwrap_or_default()).map_err(malformed)?;
            let is_abort = key.record_type == ControlRecordType::Abort;
            Ok(Some(EndTxn { is_abort, coordinator_epoch: value.coordinator_epoch }))
        }
        ControlRecordType::LeaderChange
        | ControlRecordType::SnapshotHeader
        | ControlRecordType::SnapshotFooter
        | ControlRecordType::KRaftVersion
        | ControlRecordType::KRaftVoters
        | ControlRecordType::Unknown(_) => Ok(None),
    }
}
