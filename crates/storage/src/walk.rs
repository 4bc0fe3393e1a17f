//! Walking over the batches of a segment's file, header by header, through a window of bounded size.

use bytes::Bytes;
use dohle_records::{BatchHeader, HEADER_SIZE};
use dohle_types::Offset;

use crate::disk::FilePath;
use crate::index::{self, OffsetEntry};
use crate::read::ReadError;
use crate::script::Disk;
use crate::segment::{INDEX_SUFFIX, LOG_SUFFIX, Segment, TIME_INDEX_SUFFIX, file};

/// Bytes that are read at a time to look at headers.
const WINDOW_SIZE: usize = 16 << 10;

/// A segment as a job sees it: as it was when the job was made. What is appended later does not matter to it.
#[derive(Debug, Clone)]
pub(crate) struct SegmentView {
    pub(crate) base: Offset,
    pub(crate) size: u32,
    pub(crate) max_timestamp: dohle_types::Timestamp,
    offset_entries: u32,
    time_entries: u32,
    dir: FilePath,
}

impl SegmentView {
    pub(crate) fn new(dir: &FilePath, segment: &Segment) -> Self {
        Self {
            base: segment.base,
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
}

/// Where a walk has come to.
pub(crate) struct Walk {
    disk: Disk,
    path: FilePath,
    size: u64,
    position: u64,
    /// No batch from here on has a lower offset.
    floor: Offset,
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
                Ok(Some(walk))
            }
            Ok(_) | Err(ReadError::Corrupt { .. }) => Ok(None),
            Err(gone @ ReadError::Gone { .. }) => Err(gone),
        }
    }

    /// Passes over what stands before `position`, where the offsets are not below `floor`.
    pub(crate) fn skip_to(&mut self, position: u64, floor: Offset) {
        if self.position < position {
            (self.position, self.floor) = (position, floor);
        }
    }

    /// The next batch; `None` at the end of the segment.
    pub(crate) async fn next(&mut self) -> Result<Option<Found>, ReadError> {
        let found = self.peek().await?;
        if let Some(Found { header, position }) = found {
            self.position = position + header.size_in_bytes() as u64;
            self.floor = header.next_offset();
        }
        Ok(found)
    }

    /// The next batch that ends at or above `offset`.
    pub(crate) async fn next_at(&mut self, offset: Offset) -> Result<Option<Found>, ReadError> {
        loop {
            match self.next().await? {
                Some(found) if found.header.last_offset() < offset => {}
                found => return Ok(found),
            }
        }
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
        Ok(Some(Found { header, position }))
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
