//! The least host that keeps the ledger's contract: an in-memory log, a clock, replies and markers that wait for a
//! commit.

use std::collections::VecDeque;
use std::time::Duration;

use dohle_types::{Now, ProducerId, Timestamp};

use crate::effects::Marker;
use crate::state::TransactionVersion;
use crate::{Effects, Record, State, TransactionLedger, TransactionsConfig, Turn};

/// The moment that scripts begin.
pub(super) const START: Now = Now { instant: Duration::from_secs(1_000), wall: Timestamp(1_800_000_000_000) };

pub(super) struct Host<Reply> {
    pub(super) config: TransactionsConfig,
    pub(super) ledger: TransactionLedger,
    pub(super) log: Vec<Record>,
    /// Records of `log` that survive a crash.
    committed: usize,
    held: VecDeque<(Vec<Reply>, Vec<Marker>)>,
    pub(super) now: Now,
    pub(super) version: TransactionVersion,
    pub(super) epoch: i32,
    /// Whether there are producer ids to give.
    pub(super) has_ids: bool,
    next_producer_id: i64,
}

impl<Reply> Host<Reply> {
    pub(super) fn new(config: TransactionsConfig) -> Self {
        Self {
            ledger: TransactionLedger::new(config.clone(), 0),
            config,
            log: Vec::new(),
            committed: 0,
            held: VecDeque::new(),
            now: START,
            version: TransactionVersion::V2,
            epoch: 0,
            has_ids: true,
            next_producer_id: 1000,
        }
    }

    /// Lets the ledger act, appends and replays what it wants to write.
    pub(super) fn call<T>(
        &mut self,
        act: impl FnOnce(&mut TransactionLedger, &mut Turn<'_>) -> T,
    ) -> (T, Effects) {
        let Self { ledger, now, version, has_ids, next_producer_id, .. } = self;
        let mut effects = Effects::default();
        let mut take_producer_id = || {
            has_ids.then(|| {
                *next_producer_id += 1;
                ProducerId(*next_producer_id - 1)
            })
        };
        let mut turn = Turn {
            now: *now,
            version: *version,
            take_producer_id: &mut take_producer_id,
            effects: &mut effects,
        };
        let result = act(ledger, &mut turn);
        for record in &effects.records {
            self.ledger.replay(&record.key, record.value.as_ref()).expect("our own record");
            self.log.push(record.clone());
        }
        (result, effects)
    }

    /// Holds what a call answers, and the markers that it wants.
    pub(super) fn hold(&mut self, replies: Vec<Reply>, markers: Vec<Marker>) {
        self.held.push_back((replies, markers));
    }

    /// Commits everything, and releases what waits for it.
    pub(super) fn commit(&mut self) -> Vec<(Vec<Reply>, Vec<Marker>)> {
        self.committed = self.log.len();
        self.held.drain(..).collect()
    }

    /// Loses what was not committed, and starts again from the log, with the next epoch.
    pub(super) fn crash(&mut self) {
        self.log.truncate(self.committed);
        self.held.clear();
        self.epoch += 1;
        self.ledger = replayed(&self.config, self.epoch, &self.log);
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now = Now { instant: self.now.instant + by, wall: self.now.wall.plus(by) };
    }
}

/// A ledger that read these records and is not loaded yet.
pub(super) fn replayed(config: &TransactionsConfig, epoch: i32, log: &[Record]) -> TransactionLedger {
    let mut ledger = TransactionLedger::new(config.clone(), epoch);
    for record in log {
        ledger.replay(&record.key, record.value.as_ref()).expect("our own record");
    }
    ledger
}

/// The state that is left if the log cleaner keeps only the last record of each key.
pub(super) fn compacted_state(config: &TransactionsConfig, log: &[Record]) -> State {
    let is_last =
        |index: usize, record: &Record| log.iter().skip(index + 1).all(|later| later.key != record.key);
    let kept: Vec<Record> = log
        .iter()
        .enumerate()
        .filter(|&(index, record)| is_last(index, record))
        .map(|(_, record)| record.clone())
        .collect();
    replayed(config, 0, &kept).state().clone()
}
