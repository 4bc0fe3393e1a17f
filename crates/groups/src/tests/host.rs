//! The least host that keeps the ledger's contract: an in-memory log, a clock, and replies that wait for a commit.

use std::collections::VecDeque;
use std::time::Duration;

use dohle_types::{Now, Rng, Timestamp};

use crate::{Effects, GroupLedger, GroupsConfig, Record, State};

/// The moment that scripts begin.
pub(super) const START: Now = Now { instant: Duration::from_secs(1_000), wall: Timestamp(1_800_000_000_000) };

pub(super) struct Host<Reply> {
    pub(super) config: GroupsConfig,
    pub(super) ledger: GroupLedger,
    pub(super) log: Vec<Record>,
    /// Records of `log` that survive a crash.
    committed: usize,
    held: VecDeque<(usize, Reply)>,
    pub(super) now: Now,
    pub(super) rng: Rng,
}

impl<Reply> Host<Reply> {
    pub(super) fn new(config: GroupsConfig) -> Self {
        Self {
            ledger: GroupLedger::new(config.clone()),
            config,
            log: Vec::new(),
            committed: 0,
            held: VecDeque::new(),
            now: START,
            rng: Rng::from_seed(1),
        }
    }

    /// Appends and replays what a call wants to write, and holds what it answers.
    pub(super) fn take(&mut self, effects: Effects, replies: impl IntoIterator<Item = Reply>) {
        for record in effects.records {
            self.ledger.replay(&record.key, record.value.as_ref()).expect("our own record");
            self.log.push(record);
        }
        self.held.extend(replies.into_iter().map(|reply| (self.log.len(), reply)));
    }

    /// Commits everything, and releases the replies.
    pub(super) fn commit(&mut self) -> Vec<Reply> {
        self.committed = self.log.len();
        self.held.drain(..).map(|(_, reply)| reply).collect()
    }

    /// Loses what was not committed, and starts again from the log.
    pub(super) fn crash(&mut self) {
        self.log.truncate(self.committed);
        self.held.clear();
        self.ledger = replayed(&self.config, &self.log);
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now = Now { instant: self.now.instant + by, wall: self.now.wall.plus(by) };
    }
}

/// A ledger that read these records and is not loaded yet.
pub(super) fn replayed(config: &GroupsConfig, log: &[Record]) -> GroupLedger {
    let mut ledger = GroupLedger::new(config.clone());
    for record in log {
        ledger.replay(&record.key, record.value.as_ref()).expect("our own record");
    }
    ledger
}

/// The state that is left if the log cleaner keeps only the last record of each key.
pub(super) fn compacted_state(config: &GroupsConfig, log: &[Record]) -> State {
    let is_last =
        |index: usize, record: &Record| log.iter().skip(index + 1).all(|later| later.key != record.key);
    let kept: Vec<Record> = log
        .iter()
        .enumerate()
        .filter(|&(index, record)| is_last(index, record))
        .map(|(_, record)| record.clone())
        .collect();
    replayed(config, &kept).state().clone()
}
