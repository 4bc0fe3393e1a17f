//! The hot tail: the newest batches in memory, so that consumers and followers at the end read no file.

use std::collections::VecDeque;

use bytes::Bytes;
use dohle_types::Offset;

/// A log by its number on its node, for [`TailBudget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogKey(pub u32);

/// The memory that the tails of all logs of a node share.
///
/// Whoever appends tells it, and while it is over budget has the log it names evict its oldest batch.
/// What was admitted first goes first, whatever log it belongs to: a busy log displaces idle ones.
#[derive(Debug)]
pub struct TailBudget {
    bytes_max: usize,
    bytes: usize,
    admitted: VecDeque<(LogKey, usize)>,
}

impl TailBudget {
    /// A budget of `bytes_max`.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, admitted: VecDeque::new() }
    }

    /// Counts a batch that was appended to a log.
    pub fn admit(&mut self, log: LogKey, bytes: usize) {
        let charge = charge(bytes);
        self.bytes += charge;
        self.admitted.push_back((log, charge));
    }

    /// The log whose oldest batch must go, where there is too much; it is no longer counted.
    pub fn over_budget(&mut self) -> Option<LogKey> {
        if self.bytes <= self.bytes_max {
            return None;
        }
        let (log, charge) = self.admitted.pop_front()?;
        self.bytes -= charge;
        Some(log)
    }

    /// Stops counting a log that is gone.
    pub fn forget(&mut self, gone: LogKey) {
        self.admitted.retain(|&(log, _)| log != gone);
        self.bytes = self.admitted.iter().map(|&(_, charge)| charge).sum();
    }

    /// Bytes that are counted.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What a batch costs: its bytes, and what keeping track of it takes.
const fn charge(bytes: usize) -> usize {
    bytes + size_of::<TailBatch>() + size_of::<(LogKey, usize)>()
}

/// The newest batches of one log, without gaps up to its end.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    batches: VecDeque<TailBatch>,
}

#[derive(Debug)]
struct TailBatch {
    base: Offset,
    next: Offset,
    bytes: Bytes,
}

impl Tail {
    pub(crate) fn push(&mut self, base: Offset, next: Offset, bytes: Bytes) {
        assert!(
            self.batches.back().is_none_or(|last| last.next == base),
            "invariant 4: the tail has no gaps"
        );
        self.batches.push_back(TailBatch { base, next, bytes });
    }

    pub(crate) fn evict_oldest(&mut self) {
        self.batches.pop_front();
        // A tail that once was long must not keep its room for ever.
        if self.batches.capacity() > 64 && self.batches.len() < self.batches.capacity() / 4 {
            self.batches.shrink_to(self.batches.len() * 2);
        }
    }

    /// Lets go of the batches that end at or below `offset`: the files have them otherwise now. Their places remain,
    /// for the budget counts them.
    pub(crate) fn forget_below(&mut self, offset: Offset) {
        for batch in self.batches.iter_mut().take_while(|batch| batch.next <= offset) {
            batch.bytes = Bytes::new();
        }
    }

    /// Whole batches from the one that holds `from` on, of which all end at or below `upper_bound`; `None`
    /// where that one is not here.
    pub(crate) fn read(
        &self,
        from: Offset,
        upper_bound: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<Vec<Bytes>> {
        let first = self.batches.partition_point(|batch| batch.next <= from);
        let holder = self.batches.get(first)?;
        if holder.base > from || holder.bytes.is_empty() {
            return None;
        }
        let mut bytes = 0_usize;
        let mut read = Vec::new();
        for batch in self.batches.range(first..) {
            bytes = bytes.saturating_add(batch.bytes.len());
            if batch.next > upper_bound || (bytes > max_bytes && !(at_least_one && read.is_empty())) {
                break;
            }
            read.push(batch.bytes.clone());
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail() -> Tail {
        let mut tail = Tail::default();
        for (base, next, text) in [(10, 12, "ab"), (12, 13, "c"), (13, 20, "defghij")] {
            tail.push(Offset(base), Offset(next), Bytes::from_static(text.as_bytes()));
        }
        tail
    }

    #[test]
    fn a_read_gives_whole_batches_up_to_its_limits() {
        let check = |from: i64, upper: i64, max: usize, at_least_one: bool, expected: Option<&[&str]>| {
            let read = tail().read(Offset(from), Offset(upper), max, at_least_one);
            let expected = expected
                .map(|texts| texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect());
            assert_eq!(read, expected, "from {from} below {upper}, {max} bytes");
        };
        check(9, 20, 100, true, None);
        check(10, 20, 100, true, Some(&["ab", "c", "defghij"]));
        check(11, 20, 100, true, Some(&["ab", "c", "defghij"]));
        check(12, 20, 100, true, Some(&["c", "defghij"]));
        check(15, 20, 100, true, Some(&["defghij"]));
        check(20, 20, 100, true, None);
        check(10, 20, 3, false, Some(&["ab", "c"]));
        check(10, 20, 2, false, Some(&["ab"]));
        check(10, 20, 1, false, Some(&[]));
        check(10, 20, 1, true, Some(&["ab"]));
        check(10, 19, 100, true, Some(&["ab", "c"]));
        check(10, 11, 100, true, Some(&[]));
    }

    #[test]
    fn the_budget_evicts_what_was_admitted_first() {
        let each = charge(100);
        let mut budget = TailBudget::new(3 * each);
        for log in [1, 2, 1] {
            budget.admit(LogKey(log), 100);
            assert_eq!(budget.over_budget(), None);
        }
        budget.admit(LogKey(3), 100);
        assert_eq!(budget.over_budget(), Some(LogKey(1)));
        assert_eq!(budget.over_budget(), None);
        budget.forget(LogKey(2));
        assert_eq!(budget.bytes(), 2 * each);
    }
}
