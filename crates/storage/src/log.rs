//! The state of one partition's log, and the questions about it that need no file (Kafka's `UnifiedLog`).
//!
//! What changes it stands elsewhere: `append.rs`, `retention.rs`; what reads files: `read.rs`,
//! `timestamp_lookup.rs`; how it comes back after a restart: `recovery.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dohle_configs::TopicConfig;
use dohle_types::time::Instant;
use dohle_types::{LeaderEpoch, Now, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId};

use crate::checkpoint::{self, LEADER_EPOCH_CHECKPOINT, PARTITION_METADATA};
use crate::damage::Damage;
use crate::disk::{FilePath, Op};
use crate::epochs::LeaderEpochs;
use crate::producer_snapshot;
use crate::producer_state::{ProducerState, ProducerStates};
use crate::segment::{Active, INDEX_SUFFIX, SNAPSHOT_SUFFIX, Segment, TIME_INDEX_SUFFIX, file};
use crate::tail::Tail;

/// One partition's log.
#[derive(Debug)]
pub struct Log {
    pub(crate) dir: FilePath,
    pub(crate) topic_id: TopicId,
    pub(crate) config: Arc<TopicConfig>,
    /// Oldest first, never empty; the last one is appended to.
    pub(crate) segments: Vec<Segment>,
    pub(crate) active: Active,
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) producers: ProducerStates,
    /// No marker above it aborts a transaction.
    pub(crate) last_abort: Offset,
    /// Offsets of the producer snapshots on disk.
    pub(crate) snapshots: BTreeSet<Offset>,
    /// Whether a segment was closed that compaction has not looked at.
    pub(crate) sealed: bool,
    /// Whether offsets may be missing between the batches, for compaction has been here or may come.
    pub(crate) has_gaps: bool,
    /// Whether compaction is at work, which keeps the files where they are.
    pub(crate) cleaning: bool,
    /// How often compaction has replaced segments.
    pub(crate) generation: u32,
    /// The records of segments that compaction replaced, and when it did.
    pub(crate) replaced: BTreeMap<FilePath, Instant>,
    pub(crate) tail: Tail,
    /// Ascending.
    pub(crate) damage: Vec<Damage>,
    /// Whether it is not known where the log ended.
    pub(crate) is_end_lost: bool,
    pub(crate) files: Files,
}

/// What is known of the files beyond their content.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Whether the directory is there.
    pub(crate) exist: bool,
    /// Whether the epochs in memory differ from those in the file.
    pub(crate) epochs_changed: bool,
    /// Files that were written since a sync was last asked for, but for the records in `.log` files.
    pub(crate) dirty: BTreeSet<FilePath>,
    /// Records of sealed segments for which no sync was asked yet.
    pub(crate) unsynced: Vec<LogRange>,
    /// Up to where in the active segment's `.log` a sync was asked for.
    pub(crate) active_synced: u32,
    /// The number of the last sync that was asked for.
    pub(crate) syncs_begun: u64,
    /// The sync under way.
    pub(crate) syncing: Option<SyncPoint>,
    /// Everything below it survives power loss.
    pub(crate) durable: Offset,
    /// Everything that this sync covers is durable in the log's own files.
    pub(crate) flushed: SyncPoint,
}

/// Which of a log's syncs it is, and how far it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct SyncPoint {
    /// Counted from 1 since the log was opened.
    pub(crate) number: u64,
    /// The log's end when it was asked for.
    pub end: Offset,
}

/// What a log wants to be made durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncWork {
    /// To be given back.
    pub point: SyncPoint,
    /// The log's directory.
    pub dir: FilePath,
    /// Records, which count as durable wherever they are found after a crash; ascending.
    pub ranges: Vec<LogRange>,
    /// Other files, which recovery can make anew from the records.
    pub files: Vec<FilePath>,
    /// Whether it has to be in the log's own files.
    pub in_files: bool,
}

/// Consecutive records in a `.log` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRange {
    /// The file.
    pub path: FilePath,
    /// The offset that the file is named by.
    pub base: Offset,
    /// The first byte.
    pub position: u32,
    /// Bytes.
    pub length: u32,
    /// The offset after the last record.
    pub end: Offset,
}

impl SyncWork {
    /// All files that must be synced where the log's own files are to have it.
    pub fn paths(&self) -> impl Iterator<Item = &FilePath> {
        self.ranges.iter().map(|range| &range.path).chain(&self.files)
    }
}

/// A segment as DescribeLogDirs and tools see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentDescription {
    /// The offset its files are named by.
    pub base_offset: Offset,
    /// Bytes of records.
    pub size_in_bytes: u64,
    /// The greatest timestamp in it, -1 where no record has one.
    pub max_timestamp: Timestamp,
}

impl Log {
    /// A log that nobody wrote to yet. Its directory `dir` is made by the first append.
    #[must_use]
    pub fn create(dir: FilePath, topic_id: TopicId, config: Arc<TopicConfig>) -> Self {
        Self::at(dir, topic_id, config, Offset::ZERO)
    }

    /// An empty log that begins at `start`.
    pub(crate) fn at(dir: FilePath, topic_id: TopicId, config: Arc<TopicConfig>, start: Offset) -> Self {
        Self {
            segments: vec![Segment::new(start, Timestamp::NONE)],
            active: Active::new(&dir, start, Timestamp::NONE),
            start,
            end: start,
            epochs: LeaderEpochs::default(),
            producers: ProducerStates::default(),
            last_abort: Offset(-1),
            snapshots: BTreeSet::new(),
            sealed: false,
            has_gaps: config.cleanup_policy.compact,
            cleaning: false,
            generation: 0,
            replaced: BTreeMap::new(),
            tail: Tail::default(),
            damage: Vec::new(),
            is_end_lost: false,
            files: Files { durable: start, flushed: SyncPoint { number: 0, end: start }, ..Files::default() },
            dir,
            topic_id,
            config,
        }
    }

    /// Its directory.
    #[must_use]
    pub const fn dir(&self) -> &FilePath {
        &self.dir
    }

    /// Whether its directory is there, which the first append makes.
    #[must_use]
    pub const fn has_files(&self) -> bool {
        self.files.exist
    }

    /// The id of its topic.
    #[must_use]
    pub const fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// Its configs.
    #[must_use]
    pub const fn config(&self) -> &Arc<TopicConfig> {
        &self.config
    }

    /// Heeds new configs from now on.
    pub fn set_config(&mut self, config: Arc<TopicConfig>) {
        self.has_gaps |= config.cleanup_policy.compact;
        self.config = config;
    }

    /// The first offset that may be read.
    #[must_use]
    pub const fn start_offset(&self) -> Offset {
        self.start
    }

    /// The offset that the next record gets (Kafka's log end offset).
    #[must_use]
    pub const fn end_offset(&self) -> Offset {
        self.end
    }

    /// Everything below it survives power loss, in the log's files or elsewhere: it may be acknowledged.
    #[must_use]
    pub const fn durable_offset(&self) -> Offset {
        self.files.durable
    }

    /// Everything below it is durable in the log's own files: what the recovery point checkpoint says, and up to
    /// where a file may be replaced or cut.
    #[must_use]
    pub const fn recovery_point(&self) -> Offset {
        self.files.flushed.end
    }

    /// The start offset, where it is not 0: the log start offset checkpoint must know it.
    ///
    /// Differs from Kafka: the checkpoint has it also where the name of the first segment tells it, since a power
    /// loss may bring files back that were removed, not necessarily all of them.
    #[must_use]
    pub fn start_offset_to_checkpoint(&self) -> Option<Offset> {
        (self.start > Offset::ZERO).then_some(self.start)
    }

    /// Up to where a `read_committed` consumer may read (KIP-98): the high watermark, or the beginning of the
    /// first transaction that is open, or whose end is not below the high watermark yet.
    #[must_use]
    pub fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        let first_unstable = self.producers.first_unstable_offset(high_watermark);
        first_unstable.map_or(high_watermark, |unstable| unstable.min(high_watermark))
    }

    /// Bytes of records, those below the start offset that are still there included.
    #[must_use]
    pub fn size_in_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.size)).sum()
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = SegmentDescription> + '_ {
        self.segments.iter().map(|segment| SegmentDescription {
            base_offset: segment.base,
            size_in_bytes: u64::from(segment.size),
            max_timestamp: segment.max_timestamp,
        })
    }

    /// The newest leader epoch that wrote here, -1 where none did.
    #[must_use]
    pub fn latest_epoch(&self) -> LeaderEpoch {
        self.epochs.latest()
    }

    /// The epoch that the record at `offset` was written in, -1 where that is not known.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        self.epochs.epoch_at(offset)
    }

    /// The newest epoch that is not newer than `requested`, and where it ended; `(-1, -1)` where `requested`
    /// is not known here (OffsetForLeaderEpoch).
    #[must_use]
    pub fn epoch_end_offset(&self, requested: LeaderEpoch) -> (LeaderEpoch, Offset) {
        self.epochs.end_offset_for(requested, self.end)
    }

    /// The producers that the log knows, by id (DescribeProducers).
    pub fn producers(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        self.producers.iter()
    }

    /// How many they are.
    #[must_use]
    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }

    /// Forgets producers without an open transaction, those first that were silent for longest, until `left` remain.
    /// How many it has forgotten.
    pub fn forget_silent_producers(&mut self, left: usize) -> usize {
        self.producers.forget_silent(left)
    }

    /// Whether a producer has a transaction open, in this epoch.
    #[must_use]
    pub fn has_open_transaction(&self, producer_id: ProducerId, epoch: ProducerEpoch) -> bool {
        self.producers.has_open_transaction(producer_id, epoch)
    }

    /// Whether offsets may be missing between its batches, for it was compacted or may be.
    #[must_use]
    pub const fn has_gaps(&self) -> bool {
        self.has_gaps
    }

    /// Who holds back the last stable offset: the producer whose open transaction began first.
    #[must_use]
    pub fn oldest_open_transaction(&self) -> Option<(ProducerId, &ProducerState)> {
        self.producers.oldest_open()
    }

    /// Forgets producers that have written nothing for `producer.id.expiration.ms`.
    pub fn expire_producers(&mut self, now: Now, expiration_ms: i64) {
        self.producers.expire(now.wall, expiration_ms);
    }

    /// Drops the oldest batch from the hot tail; see [`TailBudget`](crate::TailBudget).
    pub fn evict_oldest(&mut self) {
        self.tail.evict_oldest();
    }

    /// What to make durable so that everything there is survives power loss; `None` where everything does, or where
    /// a sync is under way: what was appended meanwhile is the next one's.
    pub fn begin_sync(&mut self) -> Option<SyncWork> {
        let is_dirty =
            !self.files.dirty.is_empty() || !self.files.unsynced.is_empty() || self.is_active_dirty();
        (is_dirty && self.files.syncing.is_none()).then(|| self.sync_work(false))
    }

    /// As [`Log::begin_sync`], but into the log's own files, those included that are durable elsewhere.
    pub fn begin_flush(&mut self) -> Option<SyncWork> {
        (!self.is_settled() && self.files.syncing.is_none()).then(|| self.sync_work(true))
    }

    fn sync_work(&mut self, in_files: bool) -> SyncWork {
        let (base, size) = (self.active_segment().base, self.active_segment().size);
        let files = &mut self.files;
        let mut ranges = std::mem::take(&mut files.unsynced);
        let position = std::mem::replace(&mut files.active_synced, size);
        if position < size {
            let path = self.active.log_path.clone();
            ranges.push(LogRange { path, base, position, length: size - position, end: self.end });
        }
        files.syncs_begun += 1;
        let point = SyncPoint { number: files.syncs_begun, end: self.end };
        files.syncing = Some(point);
        let files = std::mem::take(&mut files.dirty).into_iter().collect();
        SyncWork { point, dir: self.dir.clone(), ranges, files, in_files }
    }

    /// What [`Log::begin_sync`] asked for survives power loss.
    pub fn synced(&mut self, point: SyncPoint) {
        assert_eq!(self.files.syncing.take(), Some(point), "invariant 3: one sync at a time, and that one");
        self.files.durable = point.end;
    }

    /// What all syncs up to this one asked for is durable in the log's own files. Whether that ends the sync under
    /// way.
    pub fn flushed(&mut self, point: SyncPoint) -> bool {
        let ends = self.files.syncing == Some(point);
        if ends {
            self.synced(point);
        }
        assert!(point.end <= self.files.durable, "invariant 3: what is in the files is durable");
        self.files.flushed = self.files.flushed.max(point);
        ends
    }

    /// Everything there is was found, or made, durable in the log's own files.
    pub(crate) fn settle(&mut self) {
        self.files.active_synced = self.active_segment().size;
        self.files.durable = self.end;
        self.files.flushed = SyncPoint { number: self.files.syncs_begun, end: self.end };
    }

    /// Whether all that a sync was asked for is durable in the log's own files.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.files.flushed.number == self.files.syncs_begun
    }

    /// Whether all that there is, is durable in the log's own files.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let files = &self.files;
        self.is_flushed() && files.dirty.is_empty() && files.unsynced.is_empty() && !self.is_active_dirty()
    }

    fn is_active_dirty(&self) -> bool {
        self.files.active_synced < self.active_segment().size
    }

    /// Writes what a clean shutdown leaves behind: complete indexes and a producer snapshot at the end.
    ///
    /// The host then syncs ([`Log::begin_sync`]), writes the checkpoints, and marks the shutdown as clean.
    pub fn close(&mut self, ops: &mut Vec<Op>) {
        if self.files.exist {
            self.save_epochs(ops);
            self.finish_indexes(ops);
            self.trim(ops);
            self.take_snapshot(ops);
            self.remove_snapshots_within_segments(None, ops);
            self.remove_replaced(ops, |_| true);
        }
    }

    /// Gives back what room the active segment has beyond its end.
    fn trim(&mut self, ops: &mut Vec<Op>) {
        if std::mem::take(&mut self.active.has_room) {
            let length = u64::from(self.active_segment().size);
            ops.push(Op::Truncate { path: self.active.log_path.clone(), length });
        }
    }

    /// Writes a producer snapshot where so many bytes were appended since the last one. Whoever checkpoints the recovery
    /// point asks for it, so that a recovery from there has few batches to read for the sake of their producers.
    pub fn snapshot_producers(&mut self, every_bytes: u32, ops: &mut Vec<Op>) {
        if self.active_segment().size.saturating_sub(self.active.snapshot_position) >= every_bytes {
            self.take_snapshot(ops);
        }
    }

    /// The segment that is appended to.
    pub(crate) fn active_segment(&self) -> &Segment {
        self.segments.last().unwrap_or_else(|| unreachable!("invariant 1: a log has a segment"))
    }

    /// Closes the active segment and begins another at the end of the log; does nothing if it is empty.
    pub(crate) fn roll(&mut self, now: Timestamp, ops: &mut Vec<Op>) {
        if self.active_segment().size == 0 {
            return;
        }
        self.finish_indexes(ops);
        self.trim(ops);
        self.take_snapshot(ops);
        let (base, size) = (self.active_segment().base, self.active_segment().size);
        let position = std::mem::take(&mut self.files.active_synced);
        if position < size {
            let path = self.active.log_path.clone();
            self.files.unsynced.push(LogRange {
                path,
                base,
                position,
                length: size - position,
                end: self.end,
            });
        }
        self.sealed = true;
        self.segments.push(Segment::new(self.end, now));
        self.active = Active::new(&self.dir, self.end, now);
    }

    /// Writes the epochs, where they changed.
    pub(crate) fn save_epochs(&mut self, ops: &mut Vec<Op>) {
        if !std::mem::take(&mut self.files.epochs_changed) {
            return;
        }
        // Not in place: whoever finds the file after a kill finds all of it, or the one before. A power loss
        // may still spoil it, in which case recovery reads the epochs from the batches.
        let path: FilePath = format!("{}/{LEADER_EPOCH_CHECKPOINT}", self.dir).into();
        let beside: FilePath = format!("{path}.tmp").into();
        let data = checkpoint::format_epochs(self.epochs.entries());
        ops.push(Op::Remove { path: beside.clone() });
        ops.push(Op::Write { path: beside.clone(), position: 0, data: data.into() });
        ops.push(Op::Rename { from: beside, to: path.clone() });
        self.files.dirty.insert(path);
    }

    /// Writes the files that a log has from its first append on.
    pub(crate) fn create_files(&mut self, ops: &mut Vec<Op>) {
        if std::mem::replace(&mut self.files.exist, true) {
            return;
        }
        let path: FilePath = format!("{}/{PARTITION_METADATA}", self.dir).into();
        let data = checkpoint::format_partition_metadata(self.topic_id);
        ops.push(Op::Write { path: path.clone(), position: 0, data: data.into() });
        self.files.dirty.insert(path);
    }

    /// Writes all index entries of the active segment, the closing one of the time index included.
    pub(crate) fn finish_indexes(&mut self, ops: &mut Vec<Op>) {
        let Some(segment) = self.segments.last_mut() else { return };
        self.active.push_time_entry(segment);
        ops.extend(self.active.write_indexes(segment, &self.dir));
        for suffix in [INDEX_SUFFIX, TIME_INDEX_SUFFIX] {
            self.files.dirty.insert(file(&self.dir, segment.base, suffix));
        }
    }

    /// Writes a producer snapshot at the end of the log. Of the earlier ones those remain with which a segment begins,
    /// and the last one within the active segment: the recovery point may lie below this one.
    pub(crate) fn take_snapshot(&mut self, ops: &mut Vec<Op>) {
        let (base, size) = (self.active_segment().base, self.active_segment().size);
        self.active.snapshot_position = size;
        if !self.snapshots.insert(self.end) {
            return;
        }
        let path = file(&self.dir, self.end, SNAPSHOT_SUFFIX);
        ops.push(Op::Remove { path: path.clone() });
        ops.push(Op::Write {
            path: path.clone(),
            position: 0,
            data: producer_snapshot::encode(self.producers.iter()),
        });
        self.files.dirty.insert(path);
        let last = self.snapshots.range(..self.end).next_back().copied().filter(|&last| last > base);
        self.remove_snapshots_within_segments(last, ops);
    }

    /// Removes the snapshots below the end with which no segment begins, but for one.
    fn remove_snapshots_within_segments(&mut self, kept: Option<Offset>, ops: &mut Vec<Op>) {
        let is_stray = |offset: &Offset| Some(*offset) != kept && !self.begins_segment(*offset);
        let stray: Vec<Offset> = self.snapshots.range(..self.end).copied().filter(is_stray).collect();
        for offset in stray {
            self.remove_snapshot(offset, ops);
        }
    }

    fn begins_segment(&self, offset: Offset) -> bool {
        self.segments.binary_search_by_key(&offset, |segment| segment.base).is_ok()
    }

    pub(crate) fn remove_snapshot(&mut self, offset: Offset, ops: &mut Vec<Op>) {
        if self.snapshots.remove(&offset) {
            self.remove_file(file(&self.dir, offset, SNAPSHOT_SUFFIX), ops);
        }
    }

    pub(crate) fn remove_file(&mut self, path: FilePath, ops: &mut Vec<Op>) {
        self.files.dirty.remove(&path);
        self.files.unsynced.retain(|range| range.path != path);
        ops.push(Op::Remove { path });
    }
}

/// A copy of `bytes` in a buffer of its own where they are shared, or where they pin a much larger buffer.
pub(crate) fn into_own(bytes: Bytes) -> BytesMut {
    match bytes.try_into_mut() {
        Ok(own) if own.capacity() / 2 <= own.len() => own,
        Ok(roomy) => BytesMut::from(&*roomy),
        Err(shared) => BytesMut::from(&*shared),
    }
}
