//! Finding a record by its timestamp (ListOffsets; KIP-79, KIP-734).

use dohle_records::{Batch, Decompressor};
use dohle_types::{LeaderEpoch, Offset, Timestamp};

use crate::disk::{Answer, Job, Progress};
use crate::index::{OffsetEntry, TimeEntry};
use crate::log::Log;
use crate::read::{ReadError, start};
use crate::script::{Disk, Script};
use crate::walk::{Found, SegmentView, Walk};

/// A record, as ListOffsets answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its offset.
    pub offset: Offset,
    /// The leader epoch it was written in.
    pub leader_epoch: LeaderEpoch,
}

/// Looks for a record; finds `None` where there is no such record below the upper bound.
pub struct FindTimestamp(Script<Result<Option<TimestampOffset>, ReadError>>);

impl std::fmt::Debug for FindTimestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FindTimestamp")
    }
}

impl Job for FindTimestamp {
    type Output = Result<Option<TimestampOffset>, ReadError>;

    fn start(&mut self) -> Progress<Self::Output> {
        self.0.start()
    }

    fn resume(&mut self, answer: Answer) -> Progress<Self::Output> {
        self.0.resume(answer)
    }
}

/// Which record is looked for.
#[derive(Debug, Clone, Copy)]
struct Target {
    /// The first with this timestamp or a later one,
    timestamp: Timestamp,
    /// from this offset on,
    start: Offset,
    /// below this one.
    upper_bound: Offset,
}

impl Log {
    /// Looks for the first record whose timestamp is `timestamp` or later; `None` where there surely is none.
    #[must_use]
    pub fn find_by_timestamp(&self, timestamp: Timestamp, upper_bound: Offset) -> Option<FindTimestamp> {
        let first = self.first_visible();
        let skipped = self
            .segments
            .iter()
            .skip(first)
            .position(|segment| segment.max_timestamp >= timestamp && segment.size > 0)?;
        let candidates = self.views(first + skipped, usize::MAX);
        let pending = self.active.time_index.find_pending(timestamp.0);
        let target = Target { timestamp, start: self.start, upper_bound };
        Some(FindTimestamp(Script::new(|disk| find(disk, candidates, pending, target))))
    }

    /// Looks for the first record with the greatest timestamp of the log; `None` where no record has one.
    #[must_use]
    pub fn find_max_timestamp(&self, upper_bound: Offset) -> Option<FindTimestamp> {
        let first = self.first_visible();
        // Of equal timestamps the first counts, and `max_by_key` would give the last.
        let newest = self.segments.iter().skip(first).rev().max_by_key(|segment| segment.max_timestamp)?;
        let (timestamp, at) = (newest.max_timestamp, newest.max_timestamp_offset);
        if timestamp < Timestamp(0) {
            return None;
        }
        let view = SegmentView::new(&self.dir, newest);
        let index = self.segments.partition_point(|segment| segment.base < newest.base);
        let pending = self.pending_entry(index, at);
        let target = Target { timestamp, start: self.start, upper_bound };
        Some(FindTimestamp(Script::new(|disk| async move {
            let entry = match pending {
                None => view.find_offset(&disk, at).await,
                known => known,
            };
            let mut walk = start(&disk, &view, entry).await?;
            match walk.next_at(at).await? {
                Some(found) => find_in_batch(&walk, &found, target).await,
                None => Ok(None),
            }
        })))
    }

    /// Looks for the first record from `from` on that is not a control record, whatever its timestamp; `None` where there
    /// surely is none.
    #[must_use]
    pub fn find_first(&self, from: Offset, upper_bound: Offset) -> Option<FindTimestamp> {
        if from >= upper_bound.min(self.end) {
            return None;
        }
        let from = from.max(self.start);
        let first = self.segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        let segments = self.views(first, usize::MAX);
        let pending = self.pending_entry(first, from);
        let target = Target { timestamp: Timestamp(i64::MIN), start: from, upper_bound };
        Some(FindTimestamp(Script::new(move |disk| find_first(disk, segments, pending, target))))
    }

    /// The index of the first segment with records that may be read.
    pub(crate) fn first_visible(&self) -> usize {
        self.segments.partition_point(|segment| segment.base <= self.start).saturating_sub(1)
    }
}

async fn find(
    disk: Disk,
    segments: Vec<SegmentView>,
    pending: Option<TimeEntry>,
    target: Target,
) -> Result<Option<TimestampOffset>, ReadError> {
    let last = segments.len().saturating_sub(1);
    for (index, segment) in segments.iter().enumerate() {
        if segment.max_timestamp < target.timestamp || segment.base >= target.upper_bound {
            continue;
        }
        let hint = match pending.filter(|_| index == last) {
            None => segment.find_time(&disk, target.timestamp).await,
            known => known,
        };
        let mut walk = start_at_time(&disk, segment, hint).await?;
        while let Some(found) = walk.next().await? {
            if found.header.base_offset >= target.upper_bound {
                return Ok(None);
            }
            if found.header.max_timestamp >= target.timestamp
                && found.header.last_offset() >= target.start
                && let Some(record) = find_in_batch(&walk, &found, target).await?
            {
                return Ok(Some(record));
            }
        }
    }
    Ok(None)
}

async fn find_first(
    disk: Disk,
    segments: Vec<SegmentView>,
    pending: Option<OffsetEntry>,
    target: Target,
) -> Result<Option<TimestampOffset>, ReadError> {
    let mut pending = pending;
    for segment in &segments {
        let entry = match pending.take() {
            None => segment.find_offset(&disk, target.start).await,
            known => known,
        };
        let mut walk = start(&disk, segment, entry).await?;
        while let Some(found) = walk.next_at(target.start).await? {
            if found.header.base_offset >= target.upper_bound {
                return Ok(None);
            }
            // Compaction may have left nothing in it.
            if !found.header.attributes.is_control()
                && let Some(record) = find_in_batch(&walk, &found, target).await?
            {
                return Ok(Some(record));
            }
        }
    }
    Ok(None)
}

/// A walk from the batch that an entry of the time index names, or from the beginning where the entry is wrong.
async fn start_at_time(
    disk: &Disk,
    segment: &SegmentView,
    hint: Option<TimeEntry>,
) -> Result<Walk, ReadError> {
    let Some(hint) = hint else { return Ok(Walk::new(disk, segment)) };
    let offset = segment.absolute(hint.relative_offset);
    let entry = segment.find_offset(disk, offset).await;
    if is_right(disk, segment, entry, hint).await? {
        start(disk, segment, entry).await
    } else {
        Ok(Walk::new(disk, segment))
    }
}

/// Whether an entry of the time index is true of the batch it names, to which `entry` leads.
pub(crate) async fn is_right(
    disk: &Disk,
    segment: &SegmentView,
    entry: Option<OffsetEntry>,
    hint: TimeEntry,
) -> Result<bool, ReadError> {
    let offset = segment.absolute(hint.relative_offset);
    let found = start(disk, segment, entry).await?.next_at(offset).await?;
    Ok(found.is_some_and(|Found { header, .. }| {
        header.last_offset() == offset && header.max_timestamp == hint.timestamp
    }))
}

async fn find_in_batch(
    walk: &Walk,
    found: &Found,
    target: Target,
) -> Result<Option<TimestampOffset>, ReadError> {
    let bytes = walk.read(found.position, found.header.size_in_bytes()).await?;
    let corrupt = |error: dohle_records::BatchError| walk.corrupt(found.position, error.to_string());
    let batch = Batch::parse(&bytes).map_err(corrupt)?;
    batch.check_crc().map_err(|error| walk.corrupt(found.position, error.to_string()))?;
    let mut decompressor = Decompressor::default();
    for record in batch.records(&mut decompressor).map_err(corrupt)? {
        let record = record.map_err(corrupt)?;
        if record.offset >= target.upper_bound {
            return Ok(None);
        }
        if record.timestamp >= target.timestamp && record.offset >= target.start {
            let leader_epoch = batch.header().partition_leader_epoch;
            return Ok(Some(TimestampOffset {
                timestamp: record.timestamp,
                offset: record.offset,
                leader_epoch,
            }));
        }
    }
    Ok(None)
}
