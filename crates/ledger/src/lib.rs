//! The ledger: what must survive is a state machine that is replayed from a log.
//!
//! A ledger's `handle_*` methods read its state and return an [`Outcome`]: records to append and replies to
//! give. Durable state changes only when a record is replayed, so that the state after a restart is, by
//! construction, the state before it. The host appends the records, replays them at once, and holds the
//! replies in a [`CommitQueue`] until the log says that the records are committed; a reply that wrote nothing
//! waits as well for whatever was appended before it, since it may speak of that.
//!
//! Soft state (members that wait, timers) lives beside the durable state in a struct of its own and is empty
//! after loading.
//!
//! What it is not: it knows no bytes and no log. Tenants: `dohle-controller` (metadata log) and
//! `dohle-groups` (`__consumer_offsets`). Host: `dohle-broker`.
//!
//! Invariants:
//! 1. Durable state changes only in `replay`.
//! 2. Replies leave in the order in which they were given, none before its records are committed.

mod partition;

use std::collections::VecDeque;

use dohle_types::Offset;

pub use partition::partition_for;

/// What handling a request comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome<Record, Reply> {
    /// To be appended as one atomic batch, replayed, and committed before any reply leaves.
    pub records: Vec<Record>,
    /// To be given once the records are committed.
    pub reply: Reply,
}

impl<Record, Reply> Outcome<Record, Reply> {
    /// A reply that changes nothing.
    pub const fn reply(reply: Reply) -> Self {
        Self { records: Vec::new(), reply }
    }
}

/// Replies that wait until the log is committed up to an offset, in order.
///
/// Its length is bounded by its host: a request that waits here counts against its connection's limit of
/// requests in flight.
#[derive(Debug)]
pub struct CommitQueue<Reply> {
    waiting: VecDeque<(Offset, Reply)>,
}

impl<Reply> Default for CommitQueue<Reply> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

impl<Reply> CommitQueue<Reply> {
    /// Holds `reply` until everything below `end` is committed.
    ///
    /// `end` is the log's end after the reply's records; it never decreases from call to call.
    pub fn hold(&mut self, end: Offset, reply: Reply) {
        assert!(self.waiting.back().is_none_or(|&(last, _)| last <= end), "a log's end never goes back");
        self.waiting.push_back((end, reply));
    }

    /// The next reply whose records are below the high watermark, first in first out.
    pub fn release(&mut self, high_watermark: Offset) -> Option<Reply> {
        let &(end, _) = self.waiting.front()?;
        if end > high_watermark { None } else { self.waiting.pop_front().map(|(_, reply)| reply) }
    }

    /// All replies that will never be committed: the log is gone.
    pub fn abandon(&mut self) -> impl Iterator<Item = Reply> + '_ {
        self.waiting.drain(..).map(|(_, reply)| reply)
    }

    /// Replies that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_leave_in_order_once_their_records_are_committed() {
        let mut queue = CommitQueue::default();
        queue.hold(Offset(3), "first");
        queue.hold(Offset(3), "read after first");
        queue.hold(Offset(5), "second");
        assert_eq!(queue.release(Offset(2)), None);
        assert_eq!(queue.release(Offset(4)), Some("first"));
        assert_eq!(queue.release(Offset(4)), Some("read after first"));
        assert_eq!(queue.release(Offset(4)), None);
        assert_eq!(queue.abandon().collect::<Vec<_>>(), ["second"]);
        assert!(queue.is_empty());
    }
}
