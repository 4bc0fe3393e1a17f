//! Opening a log that is on disk: after a clean shutdown what is there is believed, after a crash it is
//! recovered (Kafka's `LogLoader`).

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use dohle_configs::TopicConfig;
use dohle_records::{Batch, BatchHeader, Decompressor};
use dohle_types::{Now, Offset, Timestamp, TopicId};

use crate::append::marker;
use crate::checkpoint::{self, LEADER_EPOCH_CHECKPOINT, PARTITION_METADATA};
use crate::disk::{Answer, Entry, FilePath, Job, Op, Progress};
use crate::epochs::LeaderEpochs;
use crate::index::{self, GrowingIndex, IndexEntry, OffsetEntry, TimeEntry};
use crate::log::Log;
use crate::producer_snapshot;
use crate::producer_state::ProducerStates;
use crate::read::{ReadError, start};
use crate::script::{Disk, Script};
use crate::segment::{
    Active, INDEX_SUFFIX, LOG_SUFFIX, SNAPSHOT_SUFFIX, Segment, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX, file,
    offset_in,
};
use crate::timestamp_lookup::is_right;
use crate::txn_index::{self, AbortedTxn};
use crate::walk::{Found, SegmentView, Walk};

/// What is known of a log before its files are read.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Its directory.
    pub dir: FilePath,
    /// The id its topic has in the metadata.
    pub topic_id: TopicId,
    /// Its configs.
    pub config: Arc<TopicConfig>,
    /// Whether the node was shut down cleanly, so that the files need no check.
    pub clean: bool,
    /// The offset below which everything was durable, by the recovery point checkpoint. It must be this log's
    /// own: the entry of a deleted topic has to be out of the file before another topic gets its name.
    pub recovery_point: Option<Offset>,
    /// The start of the log, by the log start offset checkpoint.
    pub start_offset: Option<Offset>,
    /// Up to where it was compacted, whatever its configs say now; the cleaner offset checkpoint knows it.
    pub cleaned: Option<Offset>,
    /// The end of what the commit journal had of the log after a crash: it was durable, and everything before it.
    pub durable_to: Option<Offset>,
    /// The time.
    pub now: Now,
}

/// Why a log cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The directory belongs to a topic that was deleted, and another has its name now.
    #[error("{dir} belongs to topic id {found}, not {expected}: it is left over from a deleted topic")]
    OtherTopic {
        /// The directory.
        dir: FilePath,
        /// The id in its `partition.metadata`.
        found: TopicId,
        /// The id in the cluster's metadata.
        expected: TopicId,
    },
}

/// Opens a log. Where its directory is not there, or holds no segment, the log is empty.
pub struct OpenLog(Script<Result<Log, OpenError>>);

impl std::fmt::Debug for OpenLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenLog")
    }
}

impl Job for OpenLog {
    type Output = Result<Log, OpenError>;

    fn start(&mut self) -> Progress<Self::Output> {
        self.0.start()
    }

    fn resume(&mut self, answer: Answer) -> Progress<Self::Output> {
        self.0.resume(answer)
    }
}

impl OpenLog {
    /// Will open the log in `opening.dir`.
    #[must_use]
    pub fn new(opening: Opening) -> Self {
        Self(Script::new(|disk| async move { Opener { disk, opening }.open().await }))
    }
}

/// The files of a segment beside its `.log`.
pub(crate) const INDEX_SUFFIXES: [&str; 3] = [INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX];
/// No `.log` file is longer; what a longer one has is not ours.
const LOG_LENGTH_MAX: u64 = i32::MAX as u64;
/// More than a `partition.metadata` takes.
const METADATA_MAX: usize = 1024;

/// The job at work.
pub(crate) struct Opener {
    pub(crate) disk: Disk,
    pub(crate) opening: Opening,
}

/// What the directory holds.
#[derive(Default)]
pub(crate) struct Listing {
    /// Base offset and length of the `.log` files, ascending.
    pub(crate) logs: Vec<(Offset, u64)>,
    pub(crate) snapshots: BTreeSet<Offset>,
    pub(crate) entries: Vec<Entry>,
}

impl Listing {
    fn new(entries: Vec<Entry>) -> Self {
        let mut listing = Self::default();
        for entry in &entries {
            if let Some(base) = offset_in(&entry.name, LOG_SUFFIX) {
                listing.logs.push((base, entry.length.min(LOG_LENGTH_MAX)));
            } else if let Some(offset) = offset_in(&entry.name, SNAPSHOT_SUFFIX) {
                listing.snapshots.insert(offset);
            }
        }
        Self { entries, ..listing }
    }

    /// Whether a `.log` file has other names.
    pub(crate) fn is_shared(&self, base: Offset) -> bool {
        self.entry(&format!("{:020}{LOG_SUFFIX}", base.0)).is_some_and(|entry| entry.is_shared)
    }

    /// Whole entries in an index file of a segment.
    fn index_entries<E: IndexEntry>(&self, base: Offset, suffix: &str) -> u32 {
        let length = self.length(base, suffix).unwrap_or(0);
        u32::try_from(length / E::SIZE as u64).unwrap_or(0)
    }

    /// The length of a segment's file; `None` where there is none.
    pub(crate) fn length(&self, base: Offset, suffix: &str) -> Option<u64> {
        self.entry(&format!("{:020}{suffix}", base.0)).map(|entry| entry.length)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        let found = self.entries.binary_search_by(|entry| entry.name.as_str().cmp(name));
        found.ok().and_then(|index| self.entries.get(index))
    }
}

impl Opener {
    pub(crate) async fn open(self) -> Result<Log, OpenError> {
        let has_metadata = self.check_topic_id().await?;
        let listing = self.tidy().await;
        let Opening { dir, topic_id, config, start_offset, now, .. } = self.opening.clone();
        let Some(&(first_base, _)) = listing.logs.first() else {
            // They tell of producers whose records are lost.
            for &offset in &listing.snapshots {
                self.disk.apply(Op::Remove { path: file(&dir, offset, SNAPSHOT_SUFFIX) }).await;
            }
            return Ok(Log::at(dir, topic_id, config, start_offset.unwrap_or_default()));
        };
        let mut log = Log::at(dir, topic_id, config, first_base);
        log.files.exist = has_metadata;
        log.has_gaps |= self.compacted();
        let is_shared = listing.logs.last().is_some_and(|&(base, _)| listing.is_shared(base));
        if !self.opening.clean || !self.believe(&mut log, &listing).await {
            self.recover(&mut log, listing).await;
        }
        if is_shared && !log.is_end_lost {
            self.leave_shared(&mut log).await;
        }
        let start = start_offset.unwrap_or(first_base).max(first_base);
        if start > log.end {
            // Records were deleted up to an offset that a power loss took away again (relaxed durability).
            // The offsets in between were given out; they must not be given out twice.
            return Ok(self.restart_at(log, start).await);
        }
        log.start = first_base;
        log.last_abort = log.last_abort_by_segments();
        // Nobody knows what room a process that was killed has left.
        log.active.has_room = log.config.preallocate;
        log.delete_records_before(now, start);
        Ok(log)
    }

    /// Begins a segment, so that nothing is appended to a file that has other names: that of a fork, or of a backup
    /// made of links.
    async fn leave_shared(&self, log: &mut Log) {
        let mut ops = Vec::new();
        log.roll(self.opening.now.wall, &mut ops);
        for op in ops {
            self.disk.apply(op).await;
        }
    }

    /// Checks that the directory is of this topic; whether it says so itself.
    async fn check_topic_id(&self) -> Result<bool, OpenError> {
        let Opening { dir, topic_id: expected, .. } = &self.opening;
        let metadata = self.disk.read(&self.path(PARTITION_METADATA), 0, METADATA_MAX).await;
        match metadata.and_then(|file| checkpoint::parse_partition_metadata(&file)) {
            Some(found) if found != *expected => {
                Err(OpenError::OtherTopic { dir: dir.clone(), found, expected: *expected })
            }
            found => Ok(found.is_some()),
        }
    }

    /// Reads what a clean shutdown left; `false` where it is not what it should be, so that the log must be
    /// recovered after all.
    async fn believe(&self, log: &mut Log, listing: &Listing) -> bool {
        let Some((&(base, length), sealed)) = listing.logs.split_last() else { return false };
        let Some(epochs) = self.epochs(listing).await else { return false };
        log.epochs = epochs;
        log.segments = self.sealed_segments(log, listing, sealed).await;
        let is_complete = self.believe_active(log, listing, base, length).await
            && self.opening.recovery_point.is_none_or(|durable| durable <= log.end);
        if !is_complete {
            return false;
        }
        let from = self.load_producers(log, listing, log.end).await;
        self.replay(log, log.end, from, log.end).await;
        log.snapshots.clone_from(&listing.snapshots);
        log.settle();
        true
    }

    /// Takes the active segment as it is, and finds the log's end behind its last index entry.
    async fn believe_active(&self, log: &mut Log, listing: &Listing, base: Offset, length: u64) -> bool {
        let now = self.opening.now.wall;
        let mut segment = self.segment(listing, base, length).await;
        let last_entry = self.last_entry::<OffsetEntry>(base, INDEX_SUFFIX, segment.offset_entries).await;
        let last_time = self.last_entry::<TimeEntry>(base, TIME_INDEX_SUFFIX, segment.time_entries).await;
        let view = SegmentView::new(&self.opening.dir, &segment);
        let Ok(first) = Walk::new(&self.disk, &view).next().await else { return false };
        let mut walk = match last_entry {
            None => Walk::new(&self.disk, &view),
            Some(entry) => match Walk::from_entry(&self.disk, &view, entry).await {
                Ok(Some(walk)) => walk,
                Ok(None) | Err(_) => return false,
            },
        };
        if let Some(last) = last_time {
            let entry = view.find_offset(&self.disk, view.absolute(last.relative_offset)).await;
            if !matches!(is_right(&self.disk, &view, entry, last).await, Ok(true)) {
                return false;
            }
            segment.max_timestamp = last.timestamp;
            segment.max_timestamp_offset = view.absolute(last.relative_offset);
        }
        let mut end = base;
        loop {
            match walk.next().await {
                Ok(Some(Found { header, .. })) => {
                    end = header.next_offset();
                    segment.note_timestamp(&header);
                }
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        let mut active = Active::new(&self.opening.dir, base, now);
        active.index = GrowingIndex::new(segment.offset_entries, last_entry);
        active.time_index = GrowingIndex::new(segment.time_entries, last_time);
        active.bytes_since_entry =
            segment.size - last_entry.map_or(0, |entry| entry.position.min(segment.size));
        active.first_timestamp = first.map(|found| found.header.max_timestamp);
        active.is_file_created = true;
        log.segments.push(segment);
        log.active = active;
        log.end = end;
        true
    }

    /// Loads the newest usable producer snapshot at or below `offset`; the offset it was taken at, or that of the
    /// first record there is.
    pub(crate) async fn load_producers(&self, log: &mut Log, listing: &Listing, offset: Offset) -> Offset {
        for &at in listing.snapshots.range(..=offset).rev() {
            let snapshot = self.whole_file(listing, &format!("{:020}{SNAPSHOT_SUFFIX}", at.0)).await;
            if let Some(Ok(states)) = snapshot.map(|file| producer_snapshot::decode(&file)) {
                log.producers = ProducerStates::from_snapshot(states);
                return at;
            }
        }
        log.producers = ProducerStates::default();
        listing.logs.first().map_or(offset, |&(base, _)| base)
    }

    /// Takes note of the epochs of the batches in `epochs_from..to`, which are known to be good, and of the producers of
    /// those in `producers_from..to`: the log has those of the earlier ones from its checkpoint and from a snapshot.
    pub(crate) async fn replay(
        &self,
        log: &mut Log,
        epochs_from: Offset,
        producers_from: Offset,
        to: Offset,
    ) {
        let from = epochs_from.min(producers_from);
        let views: Vec<SegmentView> =
            log.segments.iter().map(|segment| SegmentView::new(&self.opening.dir, segment)).collect();
        let first = views.partition_point(|view| view.base <= from).saturating_sub(1);
        let ends = views.iter().skip(1).map(|next| next.base).chain([to]);
        for (view, end) in
            views.iter().zip(ends).skip(first).take_while(|(view, _)| view.base < to && from < to)
        {
            let entry = view.find_offset(&self.disk, from).await;
            let Ok(mut walk) = start(&self.disk, view, entry).await else { continue };
            while let Some(found) = self.next_undamaged(log, &mut walk, view, end).await {
                if found.header.last_offset() < from {
                    continue;
                }
                let batch = if needs_records(&found.header) {
                    walk.read(found.position, found.header.size_in_bytes()).await.unwrap_or_default()
                } else {
                    Bytes::new()
                };
                // Where the checkpoint tells them it is believed: no CRC covers what a batch says.
                if found.header.base_offset >= epochs_from {
                    note_epoch(log, &found.header);
                }
                note(log, &found.header, &batch, producers_from);
            }
        }
    }

    /// The next batch of a segment that ends with offset `end`. Damage on the way is taken note of.
    async fn next_undamaged(
        &self,
        log: &mut Log,
        walk: &mut Walk,
        view: &SegmentView,
        end: Offset,
    ) -> Option<Found> {
        loop {
            match walk.next().await {
                Ok(found) => return found,
                Err(ReadError::Gone { .. } | ReadError::Damaged(_)) => return None,
                Err(ReadError::Corrupt { reason, .. }) => {
                    log.note_damage(walk.pass_damage(view, end, reason).await);
                }
            }
        }
    }

    pub(crate) async fn sealed_segments(
        &self,
        log: &mut Log,
        listing: &Listing,
        logs: &[(Offset, u64)],
    ) -> Vec<Segment> {
        let mut segments = Vec::with_capacity(logs.len());
        let after = listing.logs.get(logs.len()).map(|&(base, _)| base);
        let ends = logs.iter().skip(1).map(|&(next, _)| next).chain(after);
        for (&(base, length), end) in logs.iter().zip(ends) {
            let mut segment = self.segment(listing, base, length).await;
            let view = SegmentView::new(&self.opening.dir, &segment);
            match self.last_entry::<TimeEntry>(base, TIME_INDEX_SUFFIX, segment.time_entries).await {
                Some(last) => {
                    segment.max_timestamp = last.timestamp;
                    segment.max_timestamp_offset = base.plus(i64::from(last.relative_offset));
                }
                // Either no record has a timestamp, or the index is missing: the batches tell.
                None => {
                    let mut walk = Walk::new(&self.disk, &view);
                    while let Some(found) = self.next_undamaged(log, &mut walk, &view, end).await {
                        segment.note_timestamp(&found.header);
                    }
                }
            }
            if self.compacted() && self.opening.config.max_compaction_lag_ms < i64::MAX {
                let first = Walk::new(&self.disk, &view).next().await.ok().flatten();
                segment.first_timestamp = first.map_or(Timestamp::NONE, |found| found.header.max_timestamp);
            }
            segments.push(segment);
        }
        segments
    }

    /// A segment with what the directory tells of it.
    pub(crate) async fn segment(&self, listing: &Listing, base: Offset, length: u64) -> Segment {
        let mut segment = Segment::new(base, self.opening.now.wall);
        segment.size = u32::try_from(length).unwrap_or(u32::MAX);
        segment.offset_entries = listing.index_entries::<OffsetEntry>(base, INDEX_SUFFIX);
        segment.time_entries = listing.index_entries::<TimeEntry>(base, TIME_INDEX_SUFFIX);
        segment.aborted_txns = listing.index_entries::<AbortedTxn>(base, TXN_INDEX_SUFFIX);
        segment
    }

    pub(crate) async fn last_entry<E: IndexEntry>(
        &self,
        base: Offset,
        suffix: &str,
        count: u32,
    ) -> Option<E> {
        let path = file(&self.opening.dir, base, suffix);
        index::entries::<E>(&self.disk, &path, count.checked_sub(1)?, 1).await.first().copied()
    }

    /// The epochs in the checkpoint; `None` where it is missing or damaged.
    pub(crate) async fn epochs(&self, listing: &Listing) -> Option<LeaderEpochs> {
        let file = self.whole_file(listing, LEADER_EPOCH_CHECKPOINT).await?;
        checkpoint::parse_epochs(&file).ok().map(LeaderEpochs::from_entries)
    }

    pub(crate) async fn remove_segment(&self, base: Offset) {
        for suffix in [LOG_SUFFIX].into_iter().chain(INDEX_SUFFIXES) {
            self.disk.apply(Op::Remove { path: file(&self.opening.dir, base, suffix) }).await;
        }
    }

    pub(crate) async fn list(&self) -> Listing {
        Listing::new(self.disk.list(&self.opening.dir).await)
    }

    /// A checkpoint or a snapshot.
    async fn whole_file(&self, listing: &Listing, name: &str) -> Option<Bytes> {
        let length = listing.entry(name)?.length;
        self.disk.read(&self.path(name), 0, usize::try_from(length).ok()?).await
    }

    pub(crate) fn path(&self, name: &str) -> FilePath {
        format!("{}/{name}", self.opening.dir).into()
    }

    /// Whether offsets may be missing between the batches.
    pub(crate) fn compacted(&self) -> bool {
        self.opening.cleaned.is_some() || self.opening.config.cleanup_policy.compact
    }

    /// The highest offset before which compaction may have left a gap, or put a segment in the place of others: it takes
    /// only what the recovery point checkpoint knows to be durable. Without that checkpoint nobody knows how far it came.
    pub(crate) fn compacted_to(&self) -> Offset {
        if !self.compacted() {
            return Offset::ZERO;
        }
        let known =
            self.opening.recovery_point.map(|point| point.max(self.opening.cleaned.unwrap_or_default()));
        known.unwrap_or(Offset(i64::MAX))
    }
}

/// Whether a batch's records must be read to know what it means for its producer.
pub(crate) fn needs_records(header: &BatchHeader) -> bool {
    header.attributes.is_control() && header.has_producer_id()
}

/// Takes note of the epoch of a batch that is in the log.
pub(crate) fn note_epoch(log: &mut Log, header: &BatchHeader) {
    if header.partition_leader_epoch > log.epochs.latest() {
        log.epochs.assign(header.partition_leader_epoch, header.base_offset);
    }
}

/// Takes note of a batch that is in the log; the transaction it aborts, if it is a marker that does. Its producer is
/// that of a snapshot if the batch is below `producers_from`.
pub(crate) fn note(
    log: &mut Log,
    header: &BatchHeader,
    batch: &Bytes,
    producers_from: Offset,
) -> Option<AbortedTxn> {
    if header.base_offset < producers_from {
        return None;
    }
    if needs_records(header) {
        let mut decompressor = Decompressor::default();
        let marker = Batch::parse(batch).and_then(|batch| marker(&batch, &mut decompressor)).ok()??;
        txn_index::note_marker(&mut log.producers, header, marker)
    } else {
        log.producers.note_data(header);
        None
    }
}
