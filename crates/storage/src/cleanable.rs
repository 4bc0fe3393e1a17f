//! Which part of a log may be compacted now, and whether it is dirty enough to be (Kafka's `LogCleanerManager`).
//!
//! A log that is compacted has a clean part, in which compaction has left the last record of each key, and behind it
//! a dirty one. Compaction goes from the first dirty offset up to a segment of which some records are not committed,
//! belong to an open transaction, are too young or not durable in the segment itself, and never takes the segment that
//! is appended to.

use dohle_types::{Now, Offset, Timestamp};

use crate::log::Log;
use crate::segment::Segment;

/// What compaction would find in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleanable {
    /// Where the dirty part begins,
    pub first_dirty: Offset,
    /// and the segment begins that may not be cleaned.
    pub first_uncleanable: Offset,
    /// Bytes before the dirty part.
    pub clean_bytes: u64,
    /// Bytes of the dirty part that may be cleaned.
    pub cleanable_bytes: u64,
    /// Whether some of it waits for longer than `max.compaction.lag.ms`.
    pub is_overdue: bool,
    /// When the passing of time alone next changes any of this.
    pub changes_at: Option<Timestamp>,
}

impl Cleanable {
    /// How much of what may be cleaned is dirty, from 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "logs of more than 2^53 bytes are not told apart exactly")]
    pub fn dirty_ratio(&self) -> f64 {
        let total = self.clean_bytes + self.cleanable_bytes;
        if total == 0 { 0.0 } else { self.cleanable_bytes as f64 / total as f64 }
    }
}

impl Log {
    /// What compaction would find, and whether it is due: the dirty part is larger than `min.cleanable.dirty.ratio`, or
    /// overdue. `checkpointed` is the log's first dirty offset by the cleaner offset checkpoint.
    #[must_use]
    pub fn cleanable(
        &self,
        now: Now,
        high_watermark: Offset,
        checkpointed: Option<Offset>,
    ) -> (Cleanable, bool) {
        // A checkpoint outside of the log is of another log, or of one that lost its end: nothing is known to be clean.
        let first_dirty = checkpointed.filter(|&offset| offset >= self.start && offset <= self.end);
        let first_dirty = first_dirty.unwrap_or(self.start);
        let sealed = self.segments.len() - 1;
        let dirty = || self.segments.iter().take(sealed).skip(self.index_of(first_dirty));
        let mut changes_at: Option<Timestamp> = None;
        let mut note_change = |at: i64| {
            let at = Timestamp(at.saturating_add(1));
            if at > now.wall {
                changes_at = Some(changes_at.map_or(at, |before| before.min(at)));
            }
        };

        let stable = self.last_stable_offset(high_watermark);
        // What is in the journal alone would be written to a place in the segment that is not its own any more.
        let mut bound = stable.min(self.active_segment().base).min(self.recovery_point());
        let min_lag = self.config.min_compaction_lag_ms;
        if min_lag > 0 {
            let is_young =
                |segment: &&Segment| segment.largest_timestamp().0 > now.wall.0.saturating_sub(min_lag);
            if let Some(young) = dirty().find(is_young) {
                bound = bound.min(young.base);
                note_change(young.largest_timestamp().0.saturating_add(min_lag));
            }
        }
        let bound = bound.max(first_dirty);
        let first_uncleanable =
            self.segments.get(self.index_of(bound).min(sealed)).map_or(bound, |segment| segment.base);

        let max_lag = self.config.max_compaction_lag_ms;
        let oldest = dirty().map(Segment::first_timestamp).filter(|first| first.0 > 0).min();
        let is_overdue = oldest.is_some_and(|oldest| oldest.0 < now.wall.0.saturating_sub(max_lag));
        if let Some(oldest) = oldest.filter(|_| !is_overdue && max_lag < i64::MAX) {
            note_change(oldest.0.saturating_add(max_lag));
        }
        let bytes = |from: Offset, to: Offset| -> u64 {
            let first = self.index_of(from.max(self.start));
            let within = self.segments.iter().skip(first).take_while(|segment| segment.base < to);
            within.map(|segment| u64::from(segment.size)).sum()
        };
        let found = Cleanable {
            first_dirty,
            first_uncleanable,
            clean_bytes: bytes(self.start, first_dirty),
            cleanable_bytes: bytes(first_dirty.min(first_uncleanable), first_uncleanable),
            is_overdue,
            changes_at,
        };
        let is_due = self.config.cleanup_policy.compact
            && found.cleanable_bytes > 0
            && (is_overdue || found.dirty_ratio() > self.config.min_cleanable_dirty_ratio);
        (found, is_due)
    }

    /// Whether a segment may have become cleanable since this was last asked: one was closed, and everything in it is
    /// stable.
    pub fn take_sealed(&mut self, high_watermark: Offset) -> bool {
        let settled = self.last_stable_offset(high_watermark).min(self.recovery_point());
        let is_news = self.sealed && settled >= self.active_segment().base;
        self.sealed &= !is_news;
        is_news
    }

    /// Whether segments were closed that compaction may take once they are durable in the log's own files.
    #[must_use]
    pub fn waits_for_flush(&self, high_watermark: Offset) -> bool {
        let base = self.active_segment().base;
        self.sealed
            && self.config.cleanup_policy.compact
            && self.recovery_point() < base
            && self.last_stable_offset(high_watermark) >= base
    }

    /// The index of the segment that holds `offset`.
    fn index_of(&self, offset: Offset) -> usize {
        self.segments.partition_point(|segment| segment.base <= offset).saturating_sub(1)
    }
}
