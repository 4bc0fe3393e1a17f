//! Walking over the batches of a segment's file, header by header, through a window of bounded size.

use bytes::Bytes;
use dohle_records::{BatchHeader, HEADER_SIZE};
use dohle_types::Offset;

use crate::damage::Damage;
use crate::disk::FilePath;
use crate::index::{self, OffsetEntry};
use crate::read::ReadError;
use crate::scan::{Scan, WRONG_CRC, crc_is_valid};
use crate::script::Disk;
use crate::segment::{INDEX_SUFFIX, LOG_SUFFIX, Segment, TIME_INDEX_SUFFIX, file};

/// Bytes that are read at a time to look at headers.
const WINDOW_SIZE: usize = 16 << 10;

/// A segment as a job sees it: as it was when the job was made. What is appended later does not matter to it.
#[derive(Debug, Clone)]
pub(crate) struct SegmentView {
    pub(crate) base: Offset,
    /// No record in it has this offset or a later one.
    pub(crate) end: Offset,
    pub(crate) size: u32,
    pub(crate) max_timestamp: dohle_types::Timestamp,
    pub(crate) offset_entries: u32,
    pub(crate) time_entries: u32,
    pub(crate) dir: FilePath,
}

impl SegmentView {
    pub(crate) fn new(dir: &FilePath, segment: &Segment) -> Self {
        Self {
            base: segment.base,
            end: Offset(i64::MAX),
            size: segment.size,
            max_timestamp: segment.max_timestamp,
            offset_entries: segment.offset_entries,
            time_entries: segment.time_entries,
            dir: dir.clone(),
        }
    }

    pub(crate) fn log_path(&self) -> FilePath {
        file(&self.dir, self.base, LOG_SUFFIX)
    }

    /// Looks up a key in the stored part of the offset index.
    pub(crate) async fn find_offset(&self, disk: &Disk, offset: Offset) -> Option<OffsetEntry> {
        let path = file(&self.dir, self.base, INDEX_SUFFIX);
        index::search(disk, &path, self.offset_entries, offset.0.saturating_sub(self.base.0)).await
    }

    /// Looks up a key in the stored part of the time index.
    pub(crate) async fn find_time(
        &self,
        disk: &Disk,
        timestamp: dohle_types::Timestamp,
    ) -> Option<index::TimeEntry> {
        let path = file(&self.dir, self.base, TIME_INDEX_SUFFIX);
        index::search(disk, &path, self.time_entries, timestamp.0).await
    }

    /// An offset of an index entry.
    pub(crate) const fn absolute(&self, relative_offset: u32) -> Offset {
        self.base.plus(relative_offset as i64)
    }
}

/// A batch that was walked over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) header: BatchHeader,
    pub(crate) position: u64,
    /// Where the batch before it ended.
    pub(crate) floor: Offset,
}

/// Where a walk has come to.
pub(crate) struct Walk {
    disk: Disk,
    path: FilePath,
    size: u64,
    position: u64,
    /// No batch from here on has a lower offset,
    floor: Offset,
    /// nor this one or a later one.
    end: Offset,
    /// The batch that was walked over last.
    previous: Option<Found>,
    window: Bytes,
    window_start: u64,
}

impl Walk {
    /// From the beginning of a segment.
    pub(crate) fn new(disk: &Disk, segment: &SegmentView) -> Self {
        Self {
            disk: disk.clone(),
            path: segment.log_path(),
            size: u64::from(segment.size),
            position: 0,
            floor: segment.base,
            end: segment.end,
            previous: None,
            window: Bytes::new(),
            window_start: 0,
        }
    }

    /// From the batch that an entry of the offset index leads to; `None` where the entry is wrong.
    pub(crate) async fn from_entry(
        disk: &Disk,
        segment: &SegmentView,
        entry: OffsetEntry,
    ) -> Result<Option<Self>, ReadError> {
        let mut walk = Self { position: u64::from(entry.position), ..Self::new(disk, segment) };
        match walk.peek().await {
            Ok(Some(found)) if found.header.last_offset() == segment.absolute(entry.relative_offset) => {
                walk.floor = found.header.base_offset;
                Ok(Some(walk))
            }
            Ok(_) | Err(ReadError::Corrupt { .. } | ReadError::Damaged(_)) => Ok(None),
            Err(gone @ ReadError::Gone { .. }) => Err(gone),
        }
    }

    /// Passes over what stands before `position`, where the offsets are not below `floor`.
    pub(crate) fn skip_to(&mut self, position: u64, floor: Offset) {
        if self.position < position {
            (self.position, self.floor, self.previous) = (position, floor, None);
        }
    }

    /// Goes back to a batch that was walked over.
    pub(crate) fn back_to(&mut self, found: &Found) {
        (self.position, self.floor) = (found.position, found.floor);
    }

    /// The next batch; `None` at the end of the segment.
    pub(crate) async fn next(&mut self) -> Result<Option<Found>, ReadError> {
        let found = match self.peek().await {
            // What is wrong may be where the batch before says that it ends.
            Err(error @ ReadError::Corrupt { .. }) => {
                self.check(self.previous).await?;
                return Err(error);
            }
            found => found?,
        };
        if let Some(found) = found {
            self.previous = Some(found);
            self.position = found.position + found.header.size_in_bytes() as u64;
            self.floor = found.header.next_offset();
            // No CRC covers the offset. Where it does not follow from the batch before, the next one must agree.
            if found.header.base_offset > found.floor
                && let Some(wrong) = self.disagrees().await?
            {
                self.back_to(&found);
                return Err(self.corrupt(found.position, wrong));
            }
        }
        Ok(found)
    }

    /// What is wrong with the end of the batch that was walked over last, as the next one has it.
    async fn disagrees(&mut self) -> Result<Option<String>, ReadError> {
        let next = if self.position < self.size {
            let follower = self.window_at(self.position, HEADER_SIZE).await?;
            follower.first_chunk().map_or(self.end, |&offset| Offset(i64::from_be_bytes(offset)))
        } else {
            self.end
        };
        Ok((next < self.floor).then(|| format!("it ends at offset {}, where {next} follows", self.floor)))
    }

    /// Goes on behind the batch that cannot be read; what is damaged of a segment that ends with offset `end`.
    pub(crate) async fn pass_damage(&mut self, segment: &SegmentView, end: Offset, reason: String) -> Damage {
        // Compaction may have taken records away, so that any later offset is due.
        let mut scan = Scan::new(&self.disk, self.path.clone(), self.size, self.floor, Offset(i64::MAX));
        scan.position = self.position;
        let damage = scan.pass_damage(segment.base, end, end, reason).await;
        (self.position, self.floor, self.previous) = (scan.position, scan.expected, None);
        damage
    }

    /// The next batch that ends at or above `offset`.
    pub(crate) async fn next_at(&mut self, offset: Offset) -> Result<Option<Found>, ReadError> {
        loop {
            let previous = self.previous;
            match self.next().await? {
                Some(found) if found.header.last_offset() < offset => {}
                // The offset seems to be missing, unless the batch before reaches further than it says.
                found => {
                    if found.is_none_or(|found| found.header.base_offset > offset) {
                        self.check(previous).await?;
                    }
                    return Ok(found);
                }
            }
        }
    }

    /// Checks the CRC of a batch that was walked over; goes back to it where it is wrong.
    pub(crate) async fn check(&mut self, passed: Option<Found>) -> Result<(), ReadError> {
        let Some(found) = passed else { return Ok(()) };
        let batch = self.read(found.position, found.header.size_in_bytes()).await?;
        if crc_is_valid(&batch, &found.header) {
            return Ok(());
        }
        self.back_to(&found);
        Err(self.corrupt(found.position, WRONG_CRC.to_owned()))
    }

    async fn peek(&mut self) -> Result<Option<Found>, ReadError> {
        let position = self.position;
        if position >= self.size {
            return Ok(None);
        }
        let bytes = self.window_at(position, HEADER_SIZE).await?;
        let header = BatchHeader::parse(&bytes).map_err(|error| self.corrupt(position, error.to_string()))?;
        if header.base_offset < self.floor || header.last_offset_delta < 0 {
            return Err(self.corrupt(position, format!("its offset {} is not due yet", header.base_offset)));
        }
        if position + header.size_in_bytes() as u64 > self.size {
            return Err(self.corrupt(position, "it reaches beyond the end of the segment".to_owned()));
        }
        Ok(Some(Found { header, position, floor: self.floor }))
    }

    /// `length` bytes from `position`.
    pub(crate) async fn read(&self, position: u64, length: usize) -> Result<Bytes, ReadError> {
        let bytes = self.disk.read(&self.path, position, length).await;
        let bytes = bytes.ok_or_else(|| ReadError::Gone { path: self.path.clone() })?;
        if bytes.len() < length {
            return Err(self.corrupt(position, "the file is shorter than it was".to_owned()));
        }
        Ok(bytes)
    }

    /// Bytes from the position of a batch to the end of the segment.
    pub(crate) fn rest(&self, found: &Found) -> usize {
        usize::try_from(self.size.saturating_sub(found.position)).unwrap_or(usize::MAX)
    }

    async fn window_at(&mut self, position: u64, needed: usize) -> Result<Bytes, ReadError> {
        let rest = usize::try_from(self.size.saturating_sub(position)).unwrap_or(usize::MAX);
        let from = position.checked_sub(self.window_start).and_then(|from| usize::try_from(from).ok());
        if let Some(bytes) = from.and_then(|from| self.window.get(from..from.checked_add(needed.min(rest))?))
        {
            return Ok(self.window.slice_ref(bytes));
        }
        self.window = self.read(position, rest.min(WINDOW_SIZE.max(needed))).await?;
        self.window_start = position;
        Ok(self.window.clone())
    }

    pub(crate) fn corrupt(&self, position: u64, reason: String) -> ReadError {
        ReadError::Corrupt { path: self.path.clone(), position, reason }
    }
}
