//! Deleting the oldest records: by age, by size, and on request.
//!
//! The start of the log moves at once. The files of the segments below it go later: not before the log start
//! offset checkpoint says durably that they may (so that recovery can tell a deleted segment from a lost one),
//! and not before `file.delete.delay.ms` has passed (so that reads that have begun can end).
//!
//! Differs from Kafka: the files of deleted segments keep their names until they are removed, where Kafka renames them to `.deleted`.

use std::time::Duration;

use dohle_types::time::Instant;
use dohle_types::{Now, Offset, Timestamp};

use crate::disk::Op;
use crate::log::Log;
use crate::segment::{
    INDEX_SUFFIX, LOG_SUFFIX, SNAPSHOT_SUFFIX, Segment, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX, file,
};

impl Log {
    /// Makes `offset` the start of the log (DeleteRecords), unless it starts later already.
    ///
    /// The caller has made sure that `offset` is not above the high watermark.
    pub fn delete_records_before(&mut self, now: Now, offset: Offset) {
        assert!(offset <= self.end, "invariant 2: the log starts at or before its end");
        self.start = self.start.max(offset);
        let start = self.start;
        let below = self.segments.partition_point(|segment| segment.base <= start).saturating_sub(1);
        for segment in self.segments.iter_mut().take(below) {
            segment.deleted_at.get_or_insert(now.instant);
        }
    }

    /// Applies `retention.ms` and `retention.bytes` where `cleanup.policy` has `delete`, and removes the files of
    /// segments that were deleted long enough ago. To be called from time to time.
    ///
    /// Nothing above `high_watermark` is deleted. `checkpointed_start` is the start offset that the log start
    /// offset checkpoint durably has for this log, 0 where it has none.
    pub fn retain(
        &mut self,
        now: Now,
        high_watermark: Offset,
        checkpointed_start: Offset,
        ops: &mut Vec<Op>,
    ) {
        self.producers.forget_decided(high_watermark);
        if self.config.cleanup_policy.delete {
            let retained = self.retained_from(now.wall, high_watermark);
            if retained == self.end && self.start < self.end {
                self.roll(now.wall, ops);
                self.create_active_file(ops);
            }
            self.delete_records_before(now, retained);
        }
        // Segments that DeleteRecords emptied while they were active are noticed here, once they are not.
        self.delete_records_before(now, self.start);
        let delay = Duration::from_millis(u64::try_from(self.config.file_delete_delay_ms).unwrap_or(0));
        let is_due = |deleted_at: Instant| now.instant >= deleted_at.saturating_add(delay);
        if !self.cleaning {
            self.remove_deleted(is_due, checkpointed_start, ops);
        }
        self.remove_replaced(ops, is_due);
        self.forget_damage();
    }

    /// Whether something waits for a flush though no producer does: a segment that was closed, which cannot be compacted
    /// before, or deleted ones, whose files stay until that of their successor is durable.
    #[must_use]
    pub fn awaits_flush(&self) -> bool {
        let is_deleted = |segment: &Segment| segment.deleted_at.is_some();
        !self.files.unsynced.is_empty()
            || self.segments.first().is_some_and(is_deleted)
                && !self.is_file_durable(self.segments.partition_point(is_deleted))
    }

    /// Where the log begins if all segments go that its configs do not retain.
    fn retained_from(&self, now: Timestamp, high_watermark: Offset) -> Offset {
        let visible =
            || (self.first_visible()..self.segments.len()).filter_map(|index| self.segments.get(index));
        let size: u64 = visible().map(|segment| u64::from(segment.size)).sum();
        let mut excess = self.config.retention_bytes.map_or(0, |max| size.saturating_sub(max));
        let mut from = self.start;
        for (index, segment) in self.segments.iter().enumerate().skip(self.first_visible()) {
            let end = self.segment_end(index);
            let is_active = index + 1 == self.segments.len();
            if end > high_watermark || (segment.size == 0 && is_active) {
                break;
            }
            let segment_bytes = u64::from(segment.size);
            let too_much = excess >= segment_bytes;
            let age_ms = now.0.saturating_sub(segment.largest_timestamp().0);
            // Of a segment that Kafka's compaction emptied nothing is there to be kept.
            let too_old = segment.size == 0 || self.config.retention_ms.is_some_and(|max| age_ms > max);
            if !too_much && !too_old {
                break;
            }
            excess = excess.saturating_sub(segment_bytes);
            from = from.max(end);
        }
        from
    }

    /// Removes the files of segments below the start, as long as that leaves a segment whose file is durable.
    fn remove_deleted(
        &mut self,
        is_due: impl Fn(Instant) -> bool,
        checkpointed_start: Offset,
        ops: &mut Vec<Op>,
    ) {
        let mut removed = 0;
        for (index, segment) in self.segments.iter().enumerate() {
            let end = self.segment_end(index);
            if !segment.deleted_at.is_some_and(&is_due)
                || end > checkpointed_start
                || !self.is_file_durable(index + 1)
            {
                break;
            }
            removed = index + 1;
        }
        if removed == 0 {
            return;
        }
        for segment in self.segments.drain(..removed).collect::<Vec<_>>() {
            for suffix in [LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX] {
                self.remove_file(file(&self.dir, segment.base, suffix), ops);
            }
            self.remove_snapshot(segment.base, ops);
        }
        let first = self.segments.first().map_or(self.start, |segment| segment.base);
        self.files.epochs_changed |= self.epochs.truncate_from_start(first);
        self.save_epochs(ops);
        for offset in self.snapshots.range(..first).copied().collect::<Vec<_>>() {
            self.remove_file(file(&self.dir, offset, SNAPSHOT_SUFFIX), ops);
            self.snapshots.remove(&offset);
        }
    }

    /// Whether the file of a segment survives power loss, at least by name: without one the log would be
    /// taken for new.
    fn is_file_durable(&self, index: usize) -> bool {
        let Some(segment) = self.segments.get(index) else { return false };
        let is_empty_and_there =
            segment.size == 0 && !(index + 1 == self.segments.len() && self.is_active_file_missing());
        self.files.flushed.end > segment.base || is_empty_and_there && self.is_settled()
    }

    /// Creates the file of an empty active segment that no append has created.
    pub(crate) fn create_active_file(&mut self, ops: &mut Vec<Op>) {
        if self.active_segment().size == 0 {
            let path = self.active.log_path.clone();
            ops.push(Op::Write { path, position: 0, data: bytes::Bytes::new() });
            self.files.dirty.insert(self.active.log_path.clone());
            self.active.is_file_created = true;
        }
    }

    fn is_active_file_missing(&self) -> bool {
        self.active_segment().size == 0 && !self.active.is_file_created
    }

    /// The offset after the last that a segment may hold.
    pub(crate) fn segment_end(&self, index: usize) -> Offset {
        self.segments.get(index + 1).map_or(self.end, |next| next.base)
    }
}
