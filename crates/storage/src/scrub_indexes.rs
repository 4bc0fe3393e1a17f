//! Scrubbing the indexes of a sealed segment, beside its records: each entry must be what a batch calls for.
//!
//! A sparse index that is wrong costs time, and what retention deletes goes by the last entry of the time index. A
//! transaction index that is wrong shows aborted records, or hides others. All of them follow from the records, and so
//! they are built anew ([`IndexesAnew`]); but not where records are damaged, for then nobody knows what was there.
//!
//! The transaction index is compared with the markers, and with what the producer snapshot of the segment has of
//! transactions that begin before it. Where there is none it is not looked at, nor in a log that was compacted: there
//! markers outlive the records that they are of, and the other way round.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use dohle_records::{Batch, BatchHeader, Decompressor};
use dohle_types::{Offset, ProducerId, Timestamp};

use crate::append::marker;
use crate::disk::{FilePath, Op};
use crate::index::{self, IndexEntry, OffsetEntry, TimeEntry};
use crate::log::Log;
use crate::open::needs_records;
use crate::producer_snapshot;
use crate::script::Disk;
use crate::segment::{
    Active, INDEX_SUFFIX, SNAPSHOT_SUFFIX, Segment, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX, file,
};
use crate::txn_index::{self, AbortedTxn};
use crate::walk::{SegmentView, Walk};

/// Entries of an index that are read at a time.
const CHUNK_ENTRIES: u32 = 1024;
/// More than the snapshot of as many producers as are remembered takes.
const SNAPSHOT_MAX: usize = 64 << 20;

/// How far the indexes of a segment were compared with its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexPoint {
    /// Entries that were looked at.
    offsets: u32,
    times: u32,
    aborted: u32,
    /// The greatest timestamp so far, of the records and of the time index.
    max_timestamp: Timestamp,
    newest: Timestamp,
    /// Transactions that are open there; `None` where that is not known.
    open: Option<OpenTxns>,
    /// Whether an entry was wrong.
    is_wrong: bool,
}

impl IndexPoint {
    pub(crate) const BEGIN: Self = Self {
        offsets: 0,
        times: 0,
        aborted: 0,
        max_timestamp: Timestamp::NONE,
        newest: Timestamp::NONE,
        open: None,
        is_wrong: false,
    };
}

/// The transactions that are open at a point of a log, by their producers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OpenTxns(BTreeMap<ProducerId, Offset>);

impl OpenTxns {
    /// Those at the beginning of a segment.
    async fn at(disk: &Disk, dir: &str, base: Offset) -> Option<Self> {
        if base == Offset::ZERO {
            return Some(Self::default());
        }
        let snapshot = disk.read(&file(dir, base, SNAPSHOT_SUFFIX), 0, SNAPSHOT_MAX).await?;
        let states = producer_snapshot::decode(&snapshot).ok()?.into_iter();
        Some(Self(states.filter_map(|(id, state)| Some((id, state.transaction_start?))).collect()))
    }

    /// Passes a batch; the entry that it calls for, if it is a marker that aborts.
    fn pass(&mut self, header: &BatchHeader, batch: &Bytes) -> Option<AbortedTxn> {
        if !needs_records(header) {
            if header.has_producer_id() && header.attributes.is_transactional() {
                self.0.entry(header.producer_id).or_insert(header.base_offset);
            }
            return None;
        }
        let marker = Batch::parse(batch).and_then(|batch| marker(&batch, &mut Decompressor::default()));
        let marker = marker.ok()??;
        let first_offset = self.0.remove(&header.producer_id)?;
        marker.is_abort.then(|| AbortedTxn {
            producer_id: header.producer_id,
            first_offset,
            last_offset: header.last_offset(),
            last_stable_offset: self.0.values().min().copied().unwrap_or_else(|| header.next_offset()),
        })
    }
}

/// The indexes of a segment at work.
pub(crate) struct IndexScrub {
    disk: Disk,
    segment: SegmentView,
    offsets: Entries<OffsetEntry>,
    times: Entries<TimeEntry>,
    aborted: Entries<AbortedTxn>,
    point: IndexPoint,
    last_position: u64,
}

impl IndexScrub {
    /// Goes on at a point. The transaction index is looked at where it is known how many entries it has.
    pub(crate) async fn new(
        disk: &Disk,
        segment: SegmentView,
        aborted: Option<u32>,
        mut point: IndexPoint,
    ) -> Self {
        if aborted.is_some() && point == IndexPoint::BEGIN {
            point.open = OpenTxns::at(disk, &segment.dir, segment.base).await;
        }
        Self {
            disk: disk.clone(),
            offsets: Entries::new(&segment, INDEX_SUFFIX, segment.offset_entries, point.offsets),
            times: Entries::new(&segment, TIME_INDEX_SUFFIX, segment.time_entries, point.times),
            aborted: Entries::new(&segment, TXN_INDEX_SUFFIX, aborted.unwrap_or_default(), point.aborted),
            segment,
            point,
            last_position: 0,
        }
    }

    /// Whether the records of a batch must be read to know what it calls for.
    pub(crate) fn needs_records(&self, header: &BatchHeader) -> bool {
        self.point.open.is_some() && needs_records(header)
    }

    /// Compares the entries that a batch calls for.
    pub(crate) async fn pass(&mut self, header: &BatchHeader, position: u64, batch: &Bytes) {
        let (segment, point) = (&self.segment, &mut self.point);
        self.last_position = position;
        while let Some(entry) = self.offsets.next(&self.disk).await {
            let at = u64::from(entry.position);
            if at > position {
                self.offsets.put_back(entry);
                break;
            }
            point.is_wrong |=
                at < position || segment.absolute(entry.relative_offset) != header.last_offset();
        }
        point.max_timestamp = point.max_timestamp.max(header.max_timestamp);
        while let Some(entry) = self.times.next(&self.disk).await {
            let offset = segment.absolute(entry.relative_offset);
            if offset > header.last_offset() {
                self.times.put_back(entry);
                break;
            }
            // Earlier versions of Kafka name the very record.
            point.is_wrong |= offset < header.base_offset
                || entry.timestamp != header.max_timestamp
                || entry.timestamp != point.max_timestamp;
            point.newest = point.newest.max(entry.timestamp);
        }
        if let Some(expected) = point.open.as_mut().and_then(|open| open.pass(header, batch)) {
            point.is_wrong |= self.aborted.next(&self.disk).await != Some(expected);
        }
    }

    /// Where to go on.
    pub(crate) fn into_point(self) -> IndexPoint {
        IndexPoint {
            offsets: self.offsets.passed(),
            times: self.times.passed(),
            aborted: self.aborted.passed(),
            is_wrong: self.is_wrong(),
            ..self.point
        }
    }

    /// At the end of the segment: its indexes as they must be, where they are not.
    pub(crate) async fn conclude(mut self, interval: u32) -> Option<IndexesAnew> {
        let has_more = self.offsets.next(&self.disk).await.is_some()
            || self.times.next(&self.disk).await.is_some()
            || self.point.open.is_some() && self.aborted.next(&self.disk).await.is_some();
        // What the configs called for when it was written nobody knows; but a segment without any entry is one that
        // an entry would be of use for.
        let lacks_offsets = self.segment.offset_entries == 0 && self.last_position > u64::from(interval);
        let lacks_time = self.point.newest != self.point.max_timestamp;
        if !(self.is_wrong() || has_more || lacks_offsets || lacks_time) {
            return None;
        }
        let has_txns = self.point.open.is_some();
        build(&self.disk, &self.segment, interval, has_txns).await
    }

    fn is_wrong(&self) -> bool {
        self.point.is_wrong || self.offsets.is_short || self.times.is_short || self.aborted.is_short
    }
}

/// The entries of an index file, one after the other.
struct Entries<E> {
    path: FilePath,
    count: u32,
    /// Those that were read.
    read: u32,
    chunk: VecDeque<E>,
    /// Whether the file has less than it should.
    is_short: bool,
}

impl<E: IndexEntry> Entries<E> {
    fn new(segment: &SegmentView, suffix: &str, count: u32, read: u32) -> Self {
        let path = file(&segment.dir, segment.base, suffix);
        Self { path, count, read, chunk: VecDeque::new(), is_short: false }
    }

    async fn next(&mut self, disk: &Disk) -> Option<E> {
        if self.chunk.is_empty() && self.read < self.count {
            let wanted = CHUNK_ENTRIES.min(self.count - self.read);
            self.chunk = index::entries(disk, &self.path, self.read, wanted).await.into();
            self.is_short = self.chunk.is_empty();
            self.read += u32::try_from(self.chunk.len()).unwrap_or(wanted);
        }
        self.chunk.pop_front()
    }

    fn put_back(&mut self, entry: E) {
        self.chunk.push_front(entry);
    }

    fn passed(&self) -> u32 {
        self.read - u32::try_from(self.chunk.len()).unwrap_or_default()
    }
}

/// The indexes of a sealed segment as they must be.
#[derive(Debug)]
pub struct IndexesAnew {
    segment: Segment,
    has_txns: bool,
    ops: Vec<Op>,
}

/// Builds the indexes of a segment from its records; `None` where these cannot be read.
async fn build(disk: &Disk, view: &SegmentView, interval: u32, has_txns: bool) -> Option<IndexesAnew> {
    let mut open = OpenTxns::at(disk, &view.dir, view.base).await.filter(|_| has_txns);
    let mut segment = Segment::new(view.base, Timestamp::NONE);
    let mut active = Active::new(&view.dir, view.base, Timestamp::NONE);
    let mut aborted = Vec::new();
    let mut walk = Walk::new(disk, view);
    while let Some(found) = walk.next().await.ok()? {
        if let Some(open) = &mut open {
            let size = found.header.size_in_bytes();
            let records = needs_records(&found.header);
            let batch = if records { walk.read(found.position, size).await.ok()? } else { Bytes::new() };
            aborted.extend(open.pass(&found.header, &batch));
        }
        active.note(&mut segment, &found.header, interval);
    }
    active.push_time_entry(&segment);
    let mut ops: Vec<Op> = active.write_indexes(&mut segment, &view.dir).into();
    if open.is_some() {
        segment.aborted_txns = u32::try_from(aborted.len()).unwrap_or(u32::MAX);
        let path = file(&view.dir, view.base, TXN_INDEX_SUFFIX);
        ops.push(Op::Write { path, position: 0, data: txn_index::encode(&aborted) });
    }
    // What is longer is cut.
    let cut = |op: &Op| match op {
        Op::Write { path, data, .. } => Some(Op::Truncate { path: path.clone(), length: data.len() as u64 }),
        Op::Allocate { .. }
        | Op::Truncate { .. }
        | Op::Rename { .. }
        | Op::Link { .. }
        | Op::Remove { .. } => None,
    };
    let cut: Vec<Op> = ops.iter().filter_map(cut).collect();
    ops.extend(cut);
    Some(IndexesAnew { segment, has_txns: open.is_some(), ops })
}

impl Log {
    /// Takes the indexes of a sealed segment that were built anew ([`Log::has_sealed`] it as it was).
    pub fn take_indexes(&mut self, indexes: IndexesAnew, ops: &mut Vec<Op>) {
        let anew = indexes.segment;
        let Some(segment) = self.segments.iter_mut().find(|segment| segment.base == anew.base) else {
            return;
        };
        segment.offset_entries = anew.offset_entries;
        segment.time_entries = anew.time_entries;
        segment.max_timestamp = anew.max_timestamp;
        segment.max_timestamp_offset = anew.max_timestamp_offset;
        if indexes.has_txns {
            segment.aborted_txns = anew.aborted_txns;
            self.last_abort = self.last_abort.max(self.last_abort_by_segments());
        }
        for op in &indexes.ops {
            if let Op::Write { path, .. } = op {
                self.files.dirty.insert(path.clone());
            }
        }
        ops.extend(indexes.ops);
    }
}
