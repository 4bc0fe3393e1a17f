//! Putting a segment that compaction made in the place of the old ones.
//!
//! The records of the old ones are kept as `.deleted` for `file.delete.delay.ms`, or until the log is closed or opened.
//! Whoever reads one of them meanwhile is told by [`Log::generation`] to read again.
//!
//! Differs from Kafka: the indexes of the old segments go at once, for they can be made anew.

use dohle_types::Now;
use dohle_types::time::Instant;

use crate::clean::CleanedSegment;
use crate::disk::Op;
use crate::log::Log;
use crate::segment::{INDEX_SUFFIX, LOG_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX, file};
use crate::segment_writer::beside;
use crate::swap::{CLEANED_SUFFIX, DELETED_SUFFIX, SWAP_SUFFIX};

const SUFFIXES: [&str; 4] = [INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX, LOG_SUFFIX];

impl Log {
    /// How often segments were replaced. What a job read from files is right only if this is what it was when the job
    /// was made: else it may have looked at positions of an old segment in a new one.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Takes the new segment into the log, and has its files take the place of the old ones.
    pub fn replace(&mut self, now: Now, cleaned: &CleanedSegment, ops: &mut Vec<Op>) {
        let base = cleaned.segment.base;
        let first = self.segments.partition_point(|segment| segment.base < base);
        let replaced = first..first + cleaned.replaced.len();
        let old = self.segments.get(replaced.clone()).unwrap_or_default();
        assert!(
            old.iter().map(|segment| segment.base).eq(cleaned.replaced.iter().copied())
                && replaced.end < self.segments.len(),
            "invariant 8: compaction replaces consecutive segments, and not the active one"
        );
        for &other in &cleaned.replaced {
            let (from, to) =
                (file(&self.dir, other, LOG_SUFFIX), beside(&self.dir, other, LOG_SUFFIX, DELETED_SUFFIX));
            self.replaced.insert(to.clone(), now.instant);
            ops.push(Op::Rename { from, to });
        }
        for &other in cleaned.replaced.iter().filter(|&&other| other != base) {
            for suffix in SUFFIXES {
                self.remove_file(file(&self.dir, other, suffix), ops);
            }
            self.remove_snapshot(other, ops);
        }
        for suffix in SUFFIXES {
            if suffix != TXN_INDEX_SUFFIX || cleaned.has_txn_index {
                let to = file(&self.dir, base, suffix);
                ops.push(Op::Rename { from: beside(&self.dir, base, suffix, SWAP_SUFFIX), to: to.clone() });
                self.files.dirty.insert(to);
            }
        }
        let end = self.segment_end(replaced.end - 1);
        self.segments.splice(replaced, [cleaned.segment]);
        self.tail.forget_below(end);
        self.generation += 1;
    }

    /// Removes the records of those replaced segments that are due by when they were replaced.
    pub(crate) fn remove_replaced(&mut self, ops: &mut Vec<Op>, is_due: impl Fn(Instant) -> bool) {
        let due = self.replaced.extract_if(.., |_, replaced_at| is_due(*replaced_at));
        ops.extend(due.map(|(path, _)| Op::Remove { path }));
    }

    /// Removes what a cleaning that failed has written. The indexes go first, while it can be told by the records that
    /// they do not count.
    pub fn remove_uncompleted(&self, ops: &mut Vec<Op>) {
        for segment in &self.segments {
            let name = |suffix: &str, extension: &str| beside(&self.dir, segment.base, suffix, extension);
            for suffix in SUFFIXES.iter().filter(|&&suffix| suffix != LOG_SUFFIX) {
                ops.push(Op::Remove { path: name(suffix, SWAP_SUFFIX) });
            }
            for suffix in SUFFIXES {
                ops.push(Op::Remove { path: name(suffix, CLEANED_SUFFIX) });
            }
        }
    }
}
