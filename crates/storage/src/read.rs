//! Reading records: from the hot tail at once, or from a file by a job.

use bytes::Bytes;
use dohle_records::BatchHeader;
use dohle_types::{ErrorCode, Offset};

use crate::damage::Damage;
use crate::disk::{Answer, FilePath, Job, Progress};
use crate::index::OffsetEntry;
use crate::log::Log;
use crate::scan::{WRONG_CRC, crc_is_valid};
use crate::script::{Disk, Script};
use crate::walk::{SegmentView, Walk};

/// The most that a cold read brings into memory, unless a single batch is larger.
pub const COLD_READ_MAX: usize = 1 << 20;

/// Where the records are.
#[derive(Debug)]
pub enum Read {
    /// Here: whole batches, consecutive.
    Hot(Vec<Bytes>),
    /// In a file: this job reads them.
    Cold(ColdRead),
}

/// The log has no record at that offset (any more, or yet).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("offset {requested} is not within the log, which has {start} to {end}")]
pub struct OffsetOutOfRange {
    /// What was asked for.
    pub requested: Offset,
    /// The first offset there is.
    pub start: Offset,
    /// The offset after the last.
    pub end: Offset,
}

/// Why a job that reads a segment fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The segment was deleted meanwhile: ask the log again.
    #[error("{path} was deleted while it was read")]
    Gone {
        /// The file.
        path: FilePath,
    },
    /// The file does not hold what was written to it.
    #[error("{path} is damaged at byte {position}: {reason}")]
    Corrupt {
        /// The file.
        path: FilePath,
        /// Where the batch begins that cannot be read.
        position: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The same, and it is known which records are lost: the log is to be told ([`Log::note_damage`]).
    #[error("{} is damaged at byte {}: {}", .0.path, .0.position, .0.reason)]
    Damaged(Damage),
}

impl ReadError {
    /// The error as responses say it.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::Gone { .. } => ErrorCode::OffsetOutOfRange,
            Self::Corrupt { .. } | Self::Damaged(_) => ErrorCode::CorruptMessage,
        }
    }
}

/// Reads whole batches from one segment.
pub struct ColdRead(Script<Result<Vec<Bytes>, ReadError>>);

impl std::fmt::Debug for ColdRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ColdRead")
    }
}

impl Job for ColdRead {
    type Output = Result<Vec<Bytes>, ReadError>;

    fn start(&mut self) -> Progress<Self::Output> {
        self.0.start()
    }

    fn resume(&mut self, answer: Answer) -> Progress<Self::Output> {
        self.0.resume(answer)
    }
}

/// How much is wanted.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    from: Offset,
    upper_bound: Offset,
    max_bytes: usize,
    at_least_one: bool,
}

impl Log {
    /// Reads whole batches, beginning with the one that holds `from`, of which all end at or below
    /// `upper_bound`.
    ///
    /// They take at most `max_bytes` together; but where `at_least_one` is set the first is read whatever its
    /// size (KIP-74). Nothing is read from `upper_bound` on, nor at the end of the log.
    ///
    /// # Errors
    /// When `from` is outside of the log.
    pub fn read(
        &self,
        from: Offset,
        upper_bound: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Read, OffsetOutOfRange> {
        if from < self.start || from > self.end {
            return Err(OffsetOutOfRange { requested: from, start: self.start, end: self.end });
        }
        if from >= upper_bound.min(self.end) || (max_bytes == 0 && !at_least_one) {
            return Ok(Read::Hot(Vec::new()));
        }
        let upper_bound = upper_bound.min(self.undamaged_until(from));
        if let Some(batches) = self.tail.read(from, upper_bound, max_bytes, at_least_one) {
            return Ok(Read::Hot(batches));
        }
        let wanted = Wanted { from, upper_bound, max_bytes: max_bytes.min(COLD_READ_MAX), at_least_one };
        let first = self.segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        // Only where compaction took the end of a segment away is the record after `from` in a later one.
        let views = self.views(first, if self.has_gaps { usize::MAX } else { 1 });
        let hint = self.pending_entry(first, from);
        let skip = self.segments.get(first).and_then(|segment| self.readable_from(segment.base, from));
        Ok(Read::Cold(ColdRead(Script::new(move |disk| read_segments(disk, views, hint, skip, wanted)))))
    }

    /// Up to `count` segments from index `first` on, as a job sees them.
    pub(crate) fn views(&self, first: usize, count: usize) -> Vec<SegmentView> {
        self.segments
            .iter()
            .enumerate()
            .skip(first)
            .take(count)
            .map(|(index, segment)| SegmentView {
                end: self.segment_end(index),
                ..SegmentView::new(&self.dir, segment)
            })
            .collect()
    }

    /// The index entry that leads to `offset`, where it is not in the file yet.
    pub(crate) fn pending_entry(&self, index: usize, offset: Offset) -> Option<OffsetEntry> {
        let segment = self.segments.get(index).filter(|_| index + 1 == self.segments.len())?;
        self.active.index.find_pending(offset.0.saturating_sub(segment.base.0))
    }
}

async fn read_segments(
    disk: Disk,
    segments: Vec<SegmentView>,
    hint: Option<OffsetEntry>,
    skip: Option<(u64, Offset)>,
    wanted: Wanted,
) -> Result<Vec<Bytes>, ReadError> {
    let (mut hint, mut skip) = (hint, skip);
    for segment in segments {
        let entry = match hint.take() {
            None => segment.find_offset(&disk, wanted.from).await,
            known => known,
        };
        let mut walk = start(&disk, &segment, entry).await?;
        if let Some((position, floor)) = skip.take() {
            walk.skip_to(position, floor);
        }
        match read_segment(&mut walk, &segment, wanted).await {
            Ok(None) => {}
            Ok(Some(batches)) => return Ok(batches),
            Err(ReadError::Corrupt { reason, .. }) => {
                return Err(ReadError::Damaged(walk.pass_damage(&segment, segment.end, reason).await));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Vec::new())
}

/// Reads batches from a segment; `None` where the offset lies behind its end. Where that fails, the walk is at the
/// batch that cannot be read.
async fn read_segment(
    walk: &mut Walk,
    segment: &SegmentView,
    wanted: Wanted,
) -> Result<Option<Vec<Bytes>>, ReadError> {
    let Some(first) = walk.next_at(wanted.from).await? else { return Ok(None) };
    let first_size = first.header.size_in_bytes();
    let out_of_bounds = first.header.next_offset() > wanted.upper_bound;
    if out_of_bounds {
        // Whoever is told that there is nothing waits.
        walk.check(Some(first)).await?;
    }
    if out_of_bounds || (first_size > wanted.max_bytes && !wanted.at_least_one) {
        return Ok(Some(Vec::new()));
    }
    let length = wanted.max_bytes.max(first_size).min(walk.rest(&first));
    let is_to_the_end = length == walk.rest(&first);
    let bytes = walk.read(first.position, length).await;
    let whole = bytes.and_then(|bytes| {
        let end = is_to_the_end.then_some(segment.end);
        let whole = whole_batches(&bytes, first.header.base_offset, wanted.upper_bound, end);
        if whole < first_size {
            return Err(walk.corrupt(first.position, WRONG_CRC.to_owned()));
        }
        let batches = bytes.slice(..whole);
        // A slice keeps all of its buffer: one that is mostly something else is not worth that.
        Ok(vec![if whole < bytes.len() / 2 { Bytes::copy_from_slice(&batches) } else { batches }])
    });
    if whole.is_err() {
        walk.back_to(&first);
    }
    whole.map(Some)
}

/// A walk from `entry`, or from the beginning where there is none or it is wrong.
pub(crate) async fn start(
    disk: &Disk,
    segment: &SegmentView,
    entry: Option<OffsetEntry>,
) -> Result<Walk, ReadError> {
    let from_entry = match entry {
        Some(entry) => Walk::from_entry(disk, segment, entry).await?,
        None => None,
    };
    Ok(from_entry.unwrap_or_else(|| Walk::new(disk, segment)))
}

/// How many of the bytes are whole batches that end at or below `upper_bound`. The first one begins with offset
/// `first`; what follows the last is the end of the segment, where that is known.
///
/// Readers get what was written or an error: a batch whose bytes have changed is left for the next read to find.
fn whole_batches(bytes: &[u8], first: Offset, upper_bound: Offset, end: Option<Offset>) -> usize {
    let (mut whole, mut due) = (0, first);
    while let Some(Ok(header)) = bytes.get(whole..).map(BatchHeader::parse) {
        let next = whole + header.size_in_bytes();
        let Some(batch) = bytes.get(whole..next).filter(|_| header.next_offset() <= upper_bound) else {
            break;
        };
        // No CRC covers the offset. Where it does not follow from the batch before, the next one must agree.
        let follower = bytes.get(next..).and_then(|rest| rest.first_chunk());
        let follower = follower.map(|&offset| Offset(i64::from_be_bytes(offset))).or(end);
        let is_due = header.base_offset == due
            || header.base_offset > due && follower.is_some_and(|follower| header.next_offset() <= follower);
        if !is_due || header.last_offset_delta < 0 || !crc_is_valid(batch, &header) {
            break;
        }
        (whole, due) = (next, header.next_offset());
    }
    whole
}
