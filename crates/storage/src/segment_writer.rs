//! Writing the segment that compaction makes of others: its files grow beside the live ones, under names that no reader
//! knows, until they are complete and durable.

use bytes::{Bytes, BytesMut};
use dohle_records::BatchHeader;
use dohle_types::{Offset, Timestamp};

use crate::clean::CleanError;
use crate::disk::{FilePath, Op};
use crate::script::Disk;
use crate::segment::{Active, INDEX_SUFFIX, LOG_SUFFIX, Segment, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX, file};
use crate::swap::CLEANED_SUFFIX;
use crate::txn_index::{self, AbortedTxn};

/// The new segment as it grows.
pub(crate) struct SegmentWriter {
    dir: FilePath,
    segment: Segment,
    active: Active,
    interval: u32,
    buffer_bytes: usize,
    pending: BytesMut,
    /// Whether anything differs from what was read.
    pub(crate) changed: bool,
}

impl SegmentWriter {
    /// A segment of the log in `dir`. An index entry is due each `interval` bytes; `buffer_bytes` are written at a time.
    pub(crate) fn new(
        dir: &FilePath,
        base: Offset,
        now: Timestamp,
        interval: u32,
        buffer_bytes: usize,
    ) -> Self {
        Self {
            dir: dir.clone(),
            segment: Segment::new(base, now),
            active: Active::new(dir, base, now),
            interval,
            buffer_bytes,
            pending: BytesMut::new(),
            changed: false,
        }
    }

    fn path(&self, suffix: &str) -> FilePath {
        beside(&self.dir, self.segment.base, suffix, CLEANED_SUFFIX)
    }

    /// Removes what there is of it.
    pub(crate) async fn remove(&self, disk: &Disk) {
        for suffix in [LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX] {
            disk.apply(Op::Remove { path: self.path(suffix) }).await;
        }
    }

    pub(crate) async fn push(&mut self, disk: &Disk, batch: &Bytes) -> Result<(), CleanError> {
        let base = self.segment.base;
        let size = usize::try_from(self.segment.size).unwrap_or(usize::MAX).saturating_add(batch.len());
        if i32::try_from(size).is_err() {
            return Err(CleanError::TooLarge { base });
        }
        let Ok(header) = BatchHeader::parse(batch) else { unreachable!("it was parsed or built") };
        self.active.note(&mut self.segment, &header, self.interval);
        self.pending.extend_from_slice(batch);
        if self.pending.len() >= self.buffer_bytes {
            self.flush(disk).await;
        }
        Ok(())
    }

    async fn flush(&mut self, disk: &Disk) {
        let data = self.pending.split().freeze();
        let position = u64::from(self.segment.size) - data.len() as u64;
        disk.apply(Op::Write { path: self.path(LOG_SUFFIX), position, data }).await;
        disk.apply(self.active.index.write(self.path(INDEX_SUFFIX))).await;
        disk.apply(self.active.time_index.write(self.path(TIME_INDEX_SUFFIX))).await;
    }

    /// Completes the files and makes them durable.
    pub(crate) async fn finish(
        mut self,
        disk: &Disk,
        aborted: &[AbortedTxn],
        has_txn_index: bool,
    ) -> Segment {
        self.active.push_time_entry(&self.segment);
        self.flush(disk).await;
        if has_txn_index {
            let path = self.path(TXN_INDEX_SUFFIX);
            let data = txn_index::encode(aborted);
            disk.apply(Op::Write { path: path.clone(), position: 0, data }).await;
            disk.sync(&path).await;
        }
        for suffix in [INDEX_SUFFIX, TIME_INDEX_SUFFIX, LOG_SUFFIX] {
            disk.sync(&self.path(suffix)).await;
        }
        self.segment.offset_entries = self.active.index.stored();
        self.segment.time_entries = self.active.time_index.stored();
        self.segment.aborted_txns = u32::try_from(aborted.len()).unwrap_or(u32::MAX);
        self.segment
    }
}

/// A file of a segment that is not in place yet.
pub(crate) fn beside(dir: &str, base: Offset, suffix: &str, extension: &str) -> FilePath {
    format!("{}{extension}", file(dir, base, suffix)).into()
}
