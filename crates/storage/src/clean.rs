//! Compacting a log (Kafka's `Cleaner`): a job that is done piece by piece, so that it holds up nobody for long.
//!
//! 1. The dirty part is read, and the last offset of each key is put into a map of bounded memory. If the map is full,
//!    the part ends there and the rest is left for the next time.
//! 2. All segments up to there are written anew, in groups that make one segment each. A record goes if the map has a
//!    later offset for its key, if it has no key, if its transaction was aborted, or if it is a tombstone whose time has
//!    come. Batches that lose nothing are copied as they are; those that lose all go, except where they bear the last
//!    sequence of a producer, and the last one of each group: it says up to where the new segment reaches.
//! 3. A group's files are written as `.cleaned`, synced, and renamed to `.swap`, that of the records last. From then on
//!    a crash ends with the new segment (`swap.rs`), before with the old ones. Then the log takes it into its list and
//!    the files get their names (`replace.rs`), and when that is durable the next group begins.
//!
//! Nothing in the files of a live segment is ever changed. The names are changed by whoever runs the job, in its own
//! time and only while the log is there.
//!
//! Differs from Kafka: a segment in which nothing changes is left as it is.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dohle_configs::TopicConfig;
use dohle_records::compact::{CompactError, emptied, survivors};
use dohle_records::{Batch, BatchHeader, Compressor, Decompressor, HEADER_SIZE, Record};
use dohle_types::{FastMap, Now, Offset, ProducerEpoch, ProducerId, Timestamp};

use crate::cleanable::Cleanable;
use crate::cleaned_txns::CleanedTxns;
use crate::disk::{Answer, FilePath, Job, Op, Progress};
use crate::log::Log;
use crate::offset_map::{HashSecret, OffsetMap};
use crate::read::ReadError;
use crate::script::{Disk, Polled, Script};
use crate::segment::{INDEX_SUFFIX, LOG_SUFFIX, Segment, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX, file};
use crate::segment_writer::{SegmentWriter, beside};
use crate::swap::{CLEANED_SUFFIX, SWAP_SUFFIX};
use crate::txn_index::{AbortedTxn, TxnIndexView, find_aborted};

/// Bytes that are read and written before others get their turn.
const PIECE_BYTES: u64 = 4 << 20;
/// A record and what is around it take this at the least.
const RECORD_SIZE_MIN: u64 = 8;
const IO_BUFFER_MIN: usize = 4 << 10;

/// What a cleaning may use.
#[derive(Debug, Clone, Copy)]
pub struct CleanerLimits {
    /// Memory for the map of keys (`log.cleaner.dedupe.buffer.size`),
    pub dedupe_bytes: usize,
    /// and the share of it that is filled (`log.cleaner.io.buffer.load.factor`).
    pub load_factor: f64,
    /// Bytes that are read and written at a time (`log.cleaner.io.buffer.size`).
    pub io_buffer_bytes: usize,
    /// What keys are hashed with.
    pub secret: HashSecret,
}

/// A log that is being compacted.
pub struct CleanLog(Option<Box<Cleaning>>);

struct Cleaning {
    script: Script<Result<Offset, CleanError>>,
    said: Said,
}

/// How far a piece of the work has come, and what is to be done before the next one.
#[derive(Debug)]
pub struct CleanPiece {
    /// Bytes that were read and written.
    pub bytes: u64,
    /// What is to be done.
    pub next: CleanNext,
}

/// What is to be done after a piece.
#[derive(Debug)]
pub enum CleanNext {
    /// Go on.
    Continue(CleanLog),
    /// Carry out the changes if the log is still there, then go on.
    Apply(Vec<Op>, CleanLog),
    /// Have the log take the new segment ([`Log::replace`]), then go on.
    Replace(CleanedSegment, CleanLog),
    /// It is done: the log is clean up to the offset.
    Done(Offset),
    /// The log cannot be compacted. It is as it was, or part of it is compacted.
    Failed(CleanError),
}

/// Why a log cannot be compacted.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// A segment cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What is left of a batch cannot be written.
    #[error("what is left of the batch at offset {offset} cannot be written: {error}")]
    Batch {
        /// The batch's first offset.
        offset: Offset,
        /// Why.
        error: CompactError,
    },
    /// Tombstones take more bytes once they have a time to go, and a full segment has no room for that.
    #[error("the segment at offset {base} would become larger than a segment may be; lower segment.bytes")]
    TooLarge {
        /// The segment.
        base: Offset,
    },
}

/// A segment that compaction made, and those it stands for.
#[derive(Debug, Clone)]
pub struct CleanedSegment {
    pub(crate) segment: Segment,
    /// The base offsets of the old ones.
    pub(crate) replaced: Vec<Offset>,
    pub(crate) has_txn_index: bool,
}

impl std::fmt::Debug for CleanLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CleanLog")
    }
}

impl Job for CleanLog {
    type Output = CleanPiece;

    fn start(&mut self) -> Progress<CleanPiece> {
        if let Some(cleaning) = &mut self.0 {
            cleaning.script.unpause();
        }
        self.advance(None)
    }

    fn resume(&mut self, answer: Answer) -> Progress<CleanPiece> {
        self.advance(Some(answer))
    }
}

impl CleanLog {
    fn advance(&mut self, answer: Option<Answer>) -> Progress<CleanPiece> {
        let Some(cleaning) = &mut self.0 else { unreachable!("a piece that is done hands the job over") };
        let polled = cleaning.script.advance(answer);
        let (bytes, said) = match &polled {
            Polled::Asked(_) => (0, None),
            Polled::Paused | Polled::Done(_) => cleaning.said.take(),
        };
        let next = match polled {
            Polled::Asked(step) => return Progress::Next(step),
            Polled::Done(Ok(clean_to)) => CleanNext::Done(clean_to),
            Polled::Done(Err(error)) => CleanNext::Failed(error),
            Polled::Paused => {
                let rest = Self(self.0.take());
                match said {
                    None => CleanNext::Continue(rest),
                    Some(Handover::Apply(ops)) => CleanNext::Apply(ops, rest),
                    Some(Handover::Replace(segment)) => CleanNext::Replace(segment, rest),
                }
            }
        };
        Progress::Done(CleanPiece { bytes, next })
    }
}

/// What the script leaves for whoever runs it.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<(u64, Option<Handover>)>>);

enum Handover {
    Apply(Vec<Op>),
    Replace(CleanedSegment),
}

impl Said {
    fn take(&self) -> (u64, Option<Handover>) {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn say(&self, handover: Handover) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(handover);
    }

    /// Counts bytes that were read or written; whether it is another's turn.
    fn count(&self, bytes: usize) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.0 += bytes as u64;
        said.0 >= PIECE_BYTES
    }
}

impl Log {
    /// Begins to compact the log, as [`Log::cleanable`] found it. The files stay where they are until
    /// [`Log::end_cleaning`].
    pub fn begin_cleaning(&mut self, now: Now, cleanable: &Cleanable, limits: CleanerLimits) -> CleanLog {
        self.cleaning = true;
        let first = self.first_visible();
        let sealed = self.segments.len() - 1;
        let segments = self.segments.get(first..sealed).unwrap_or_default().iter();
        let segments: Vec<Segment> =
            segments.take_while(|segment| segment.base < cleanable.first_uncleanable).copied().collect();
        let last_batches = self
            .producers
            .iter()
            .map(|(id, state)| (id, (state.last_batch().map(|batch| batch.last_offset), state.epoch)));
        let plan = Plan {
            dir: self.dir.clone(),
            config: self.config.clone(),
            segments,
            txn_indexes: self.txn_indexes(self.start),
            first_dirty: cleanable.first_dirty,
            upper_bound: cleanable.first_uncleanable,
            dirty_bytes: cleanable.cleanable_bytes,
            last_batches: last_batches.collect(),
            now: now.wall,
            limits,
        };
        let said = Said::default();
        let heard = said.clone();
        let script = Script::new(|disk| Cleaner::new(disk, plan, heard).clean());
        CleanLog(Some(Box::new(Cleaning { script, said })))
    }

    /// Compaction is over, or given up: files may be removed again.
    pub fn end_cleaning(&mut self) {
        self.cleaning = false;
    }
}

/// What is to be cleaned.
struct Plan {
    dir: FilePath,
    config: Arc<TopicConfig>,
    /// From the start of the log up to the first that may not be cleaned.
    segments: Vec<Segment>,
    /// The transaction indexes of those and the later segments: a transaction may have its marker there.
    txn_indexes: Vec<(Offset, TxnIndexView)>,
    first_dirty: Offset,
    upper_bound: Offset,
    dirty_bytes: u64,
    /// The last data batch of each producer, where there is one, and its epoch.
    last_batches: FastMap<ProducerId, (Option<Offset>, ProducerEpoch)>,
    now: Timestamp,
    limits: CleanerLimits,
}

/// The job at work.
struct Cleaner {
    disk: Disk,
    plan: Plan,
    said: Said,
    decompressor: Decompressor,
    compressor: Compressor,
}

impl Cleaner {
    fn new(disk: Disk, plan: Plan, said: Said) -> Self {
        Self { disk, plan, said, decompressor: Decompressor::default(), compressor: Compressor::default() }
    }

    async fn clean(mut self) -> Result<Offset, CleanError> {
        let (map, clean_to) = self.map_keys().await?;
        let mut txns = CleanedTxns::default();
        for group in self.groups(clean_to) {
            let Some(first) = group.first() else { continue };
            let Plan { dir, config, now, .. } = &self.plan;
            let buffer_bytes = self.plan.limits.io_buffer_bytes.max(IO_BUFFER_MIN);
            let mut writer =
                SegmentWriter::new(dir, first.base, *now, config.index_interval_bytes, buffer_bytes);
            // Of a cleaning that a crash or a failure ended.
            writer.remove(&self.disk).await;
            let written = self.write_group(&group, &map, clean_to, &mut txns, &mut writer).await;
            let aborted = std::mem::take(&mut txns.kept);
            let is_same =
                group.len() == 1 && !writer.changed && u32::try_from(aborted.len()) == Ok(first.aborted_txns);
            if written.is_err() || is_same {
                writer.remove(&self.disk).await;
                written?;
            } else {
                self.swap_in(&group, writer, &aborted).await;
            }
        }
        Ok(clean_to)
    }

    /// The last offset of each key in the dirty part, as far as the map has room, and where it ends.
    async fn map_keys(&mut self) -> Result<(OffsetMap, Offset), CleanError> {
        let CleanerLimits { dedupe_bytes, load_factor, secret, .. } = self.plan.limits;
        let keys = usize::try_from(self.plan.dirty_bytes / RECORD_SIZE_MIN).unwrap_or(usize::MAX);
        let mut map = OffsetMap::new(keys, dedupe_bytes, load_factor, secret);
        let start = self.plan.first_dirty;
        let mut txns = CleanedTxns::default();
        let first = self.plan.segments.partition_point(|segment| segment.base <= start).saturating_sub(1);
        let mut floor = Offset::ZERO;
        for index in first..self.plan.segments.len() {
            txns.expect(self.aborted_in(index, start).await);
            let Some(segment) = self.plan.segments.get(index) else { break };
            let mut batches = Batches::new(self, segment, floor);
            while let Some(batch) = batches.next(self).await? {
                let is_aborted = txns.pass(&batch, &mut self.decompressor);
                let header = batch.header();
                if is_aborted || header.attributes.is_control() || header.last_offset() < start {
                    continue;
                }
                let corrupt = |error: dohle_records::BatchError| batches.corrupt(header, &error);
                for record in batch.records(&mut self.decompressor).map_err(corrupt)? {
                    let Record { offset, key, .. } = record.map_err(corrupt)?;
                    if let Some(key) = key
                        && offset >= start
                        && !map.put(&key, offset)
                    {
                        return Ok((map, offset));
                    }
                }
            }
            floor = batches.floor;
        }
        Ok((map, self.plan.upper_bound))
    }

    /// The segments below `clean_to`, in groups of which each fits into one (Kafka's `groupSegmentsBySize`).
    fn groups(&self, clean_to: Offset) -> Vec<Vec<Segment>> {
        let config = &self.plan.config;
        let segments = &self.plan.segments;
        let ends = segments.iter().skip(1).map(|next| next.base).chain([self.plan.upper_bound]);
        let mut groups: Vec<Vec<Segment>> = Vec::new();
        let (mut size, mut index_bytes, mut time_bytes) = (0_u64, 0_u64, 0_u64);
        for (segment, end) in segments.iter().zip(ends).take_while(|(segment, _)| segment.base < clean_to) {
            let own = u64::from(segment.size);
            let (own_index, own_time) =
                (u64::from(segment.offset_entries) * 8, u64::from(segment.time_entries) * 12);
            let limit = u64::from(config.segment_index_bytes);
            let fits = groups.last().and_then(|group| group.first()).is_some_and(|first| {
                size + own <= u64::from(config.segment_bytes)
                    && index_bytes + own_index <= limit
                    && time_bytes + own_time <= limit
                    && first.relative(end.plus(-1)).is_some()
            });
            match groups.last_mut().filter(|_| fits) {
                Some(group) => {
                    group.push(*segment);
                    (size, index_bytes, time_bytes) =
                        (size + own, index_bytes + own_index, time_bytes + own_time);
                }
                None => {
                    groups.push(vec![*segment]);
                    (size, index_bytes, time_bytes) = (own, own_index, own_time);
                }
            }
        }
        groups
    }

    /// Writes a group anew.
    async fn write_group(
        &mut self,
        group: &[Segment],
        map: &OffsetMap,
        clean_to: Offset,
        txns: &mut CleanedTxns,
        writer: &mut SegmentWriter,
    ) -> Result<(), CleanError> {
        let last = group.last().map(|segment| segment.base);
        let mut floor = Offset::ZERO;
        for segment in group {
            let index = self.plan.segments.partition_point(|other| other.base < segment.base);
            txns.expect(self.aborted_in(index, segment.base).await);
            let mut batches = Batches::new(self, segment, floor);
            while let Some(batch) = batches.next(self).await? {
                let is_last = Some(segment.base) == last && batches.is_at_end();
                match self.filter(&batch, is_last, map, clean_to, txns)? {
                    Filtered::Same => writer.push(&self.disk, batch.bytes()).await?,
                    Filtered::Less(bytes) => {
                        writer.changed = true;
                        writer.push(&self.disk, &bytes).await?;
                    }
                    Filtered::Nothing => writer.changed = true,
                }
                if self.said.count(batch.bytes().len()) {
                    self.disk.pause().await;
                }
            }
            floor = batches.floor;
        }
        Ok(())
    }

    /// Completes the new segment, and has it put in the place of the old ones.
    async fn swap_in(&self, group: &[Segment], writer: SegmentWriter, aborted: &[AbortedTxn]) {
        let has_txn_index = group.iter().any(|segment| segment.aborted_txns > 0);
        let mut segment = writer.finish(&self.disk, aborted, has_txn_index).await;
        segment.last_written = group.last().map_or(self.plan.now, |last| last.last_written);
        let base = segment.base;
        let name = |suffix: &str, extension: &str| beside(&self.plan.dir, base, suffix, extension);
        let rename =
            |suffix: &str| Op::Rename { from: name(suffix, CLEANED_SUFFIX), to: name(suffix, SWAP_SUFFIX) };
        let txn_index = has_txn_index.then_some(TXN_INDEX_SUFFIX);
        let indexes = [INDEX_SUFFIX, TIME_INDEX_SUFFIX].into_iter().chain(txn_index);
        self.hand_over(Handover::Apply(indexes.map(rename).collect())).await;
        self.disk.sync(&name(INDEX_SUFFIX, SWAP_SUFFIX)).await;
        self.hand_over(Handover::Apply(vec![rename(LOG_SUFFIX)])).await;
        self.disk.sync(&name(LOG_SUFFIX, SWAP_SUFFIX)).await;
        let replaced = group.iter().map(|segment| segment.base).collect();
        self.hand_over(Handover::Replace(CleanedSegment { segment, replaced, has_txn_index })).await;
        self.disk.sync(&file(&self.plan.dir, base, LOG_SUFFIX)).await;
    }

    async fn hand_over(&self, handover: Handover) {
        self.said.say(handover);
        self.disk.pause().await;
    }

    /// What is left of a batch.
    fn filter(
        &mut self,
        batch: &Batch,
        is_last: bool,
        map: &OffsetMap,
        clean_to: Offset,
        txns: &mut CleanedTxns,
    ) -> Result<Filtered, CleanError> {
        let header = batch.header();
        let now = self.plan.now;
        let is_control = header.attributes.is_control();
        let is_useless = txns.pass(batch, &mut self.decompressor);
        let horizon = header.delete_horizon();
        let is_past_horizon = horizon.is_some_and(|horizon| horizon <= now);
        let discards_all = is_useless && (!is_control || is_past_horizon);
        let is_kept_empty = is_last || self.is_last_of_producer(header);
        if discards_all && !is_kept_empty {
            return Ok(Filtered::Nothing);
        }
        let failed = |error: CompactError| CleanError::Batch { offset: header.base_offset, error };
        let left = survivors(batch, &mut self.decompressor, |record| {
            !discards_all && (is_control || is_retained(record, map, clean_to, is_past_horizon))
        })
        .map_err(|error| failed(error.into()))?;
        if left.is_empty() {
            return Ok(match (is_kept_empty, header.record_count) {
                (true, 0) => Filtered::Same,
                (true, _) => Filtered::Less(emptied(header)),
                (false, _) => Filtered::Nothing,
            });
        }
        let begins_horizon = horizon.is_none() && (left.have_tombstone() || (is_useless && is_control));
        if left.are_all() && !begins_horizon {
            return Ok(Filtered::Same);
        }
        let horizon = if begins_horizon {
            Some(Timestamp(now.0.saturating_add(self.plan.config.delete_retention_ms)))
        } else {
            horizon
        };
        left.build(horizon, &mut self.compressor).map(Filtered::Less).map_err(failed)
    }

    /// Whether a batch has the last sequence that its producer, which may go on, has sent.
    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        if !header.has_producer_id() {
            return false;
        }
        match self.plan.last_batches.get(&header.producer_id) {
            Some((Some(last_offset), _)) => header.last_offset() == *last_offset,
            Some((None, epoch)) => header.attributes.is_control() && header.producer_epoch == *epoch,
            None => false,
        }
    }

    /// The aborted transactions with records in a segment, from an offset on.
    async fn aborted_in(&self, index: usize, from: Offset) -> Vec<AbortedTxn> {
        let segments = &self.plan.segments;
        let base = segments.get(index).map_or(from, |segment| segment.base);
        let end = segments.get(index + 1).map_or(self.plan.upper_bound, |next| next.base);
        let indexes = self.plan.txn_indexes.iter().filter(|(of, _)| *of >= base);
        let indexes = indexes.map(|(_, view)| view.clone()).collect();
        find_aborted(self.disk.clone(), indexes, from, end).await
    }
}

enum Filtered {
    Same,
    Less(Bytes),
    Nothing,
}

/// Whether a record of a data batch stays.
fn is_retained(record: &Record, map: &OffsetMap, clean_to: Offset, is_past_horizon: bool) -> bool {
    if record.offset >= clean_to {
        return true;
    }
    let Some(key) = &record.key else { return false };
    let is_last = map.last_offset(key).is_none_or(|last| record.offset >= last);
    is_last && (record.value.is_some() || !is_past_horizon)
}

/// The batches of a segment, read in large pieces and checked.
struct Batches {
    path: FilePath,
    size: u64,
    position: u64,
    /// No batch from here on has a lower offset.
    floor: Offset,
    buffer_bytes: usize,
    chunk: Bytes,
}

impl Batches {
    fn new(cleaner: &Cleaner, segment: &Segment, floor: Offset) -> Self {
        Self {
            path: file(&cleaner.plan.dir, segment.base, LOG_SUFFIX),
            size: u64::from(segment.size),
            position: 0,
            floor: floor.max(segment.base),
            buffer_bytes: cleaner.plan.limits.io_buffer_bytes.max(IO_BUFFER_MIN),
            chunk: Bytes::new(),
        }
    }

    fn is_at_end(&self) -> bool {
        self.position >= self.size
    }

    async fn next(&mut self, cleaner: &Cleaner) -> Result<Option<Batch>, CleanError> {
        if self.is_at_end() {
            return Ok(None);
        }
        let mut needed = HEADER_SIZE;
        if let Ok(header) = BatchHeader::parse(&self.chunk) {
            needed = header.size_in_bytes();
        }
        if self.chunk.len() < needed {
            self.fill(cleaner, needed).await?;
            // Now the header is there; the batch may be larger than the buffer.
            if let Ok(header) = BatchHeader::parse(&self.chunk)
                && header.size_in_bytes() > self.chunk.len()
            {
                self.fill(cleaner, header.size_in_bytes()).await?;
            }
        }
        let corrupt = |reason: String| {
            CleanError::Read(ReadError::Corrupt { path: self.path.clone(), position: self.position, reason })
        };
        let batch = Batch::parse(&self.chunk).and_then(|batch| batch.check_crc().map(|()| batch));
        let batch = batch.map_err(|error| corrupt(error.to_string()))?;
        let header = *batch.header();
        if header.base_offset < self.floor || header.last_offset_delta < 0 {
            return Err(corrupt(format!("its offset {} is not due yet", header.base_offset)));
        }
        self.floor = header.next_offset();
        self.chunk = self.chunk.slice(header.size_in_bytes()..);
        self.position += header.size_in_bytes() as u64;
        Ok(Some(batch))
    }

    async fn fill(&mut self, cleaner: &Cleaner, needed: usize) -> Result<(), CleanError> {
        if cleaner.said.count(0) {
            cleaner.disk.pause().await;
        }
        let rest = usize::try_from(self.size - self.position).unwrap_or(usize::MAX);
        let length = self.buffer_bytes.max(needed).min(rest);
        let bytes = cleaner.disk.read(&self.path, self.position, length).await;
        self.chunk = bytes.ok_or_else(|| ReadError::Gone { path: self.path.clone() })?;
        cleaner.said.count(self.chunk.len());
        Ok(())
    }

    fn corrupt(&self, header: &BatchHeader, error: &dohle_records::BatchError) -> CleanError {
        let position = self.position - header.size_in_bytes() as u64;
        CleanError::Read(ReadError::Corrupt { path: self.path.clone(), position, reason: error.to_string() })
    }
}
