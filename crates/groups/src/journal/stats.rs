//! Counters and histograms of what a journal tells, by cause.

use std::collections::BTreeMap;

use super::cause::CauseKind;
use super::entry::{Entry, Event, Outcome};

/// The upper bounds of a histogram's buckets, in milliseconds; what is above the last has a bucket of its own.
pub const BUCKETS_MS: [u64; 9] = [100, 300, 1_000, 3_000, 10_000, 30_000, 60_000, 180_000, 600_000];

/// How often groups rebalanced, why, and how long it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// By what caused a rebalance, or changed a membership without one.
    pub by_cause: BTreeMap<CauseKind, CauseStats>,
    /// Storms.
    pub storms: u64,
    /// Records that were set aside.
    pub poisons: u64,
    /// Entries that are missing.
    pub dropped: u64,
}

/// What was due to one kind of cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CauseStats {
    /// Rebalances that it began.
    pub rebalances: u64,
    /// Of which the next one interrupted.
    pub superseded: u64,
    /// Changes of a membership without a rebalance.
    pub memberships: u64,
    /// Partitions that moved.
    pub moved: u64,
    /// How long the rebalances took.
    pub duration: Histogram,
    /// How long the partitions were without owner, of each rebalance the longest.
    pub without_owner: Histogram,
}

/// How long something took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many took no longer than [`BUCKETS_MS`] says, and longer than the bound before; the last ones longer.
    pub buckets: [u64; BUCKETS_MS.len() + 1],
    /// All together.
    pub sum_ms: u64,
    /// The longest.
    pub max_ms: u64,
}

impl JournalStats {
    /// Counts an entry.
    pub fn note(&mut self, entry: &Entry) {
        match &entry.event {
            Event::Rebalance(rebalanced) => {
                let Some(cause) = rebalanced.causes.first() else { return };
                let stats = self.by_cause.entry(cause.kind).or_default();
                stats.rebalances += 1;
                stats.superseded += u64::from(rebalanced.outcome == Outcome::Superseded);
                stats.duration.note(rebalanced.duration_ms);
                if let Some(moves) = &rebalanced.moves {
                    stats.moved += moves.moved as u64;
                    moves.longest_without_owner_ms.into_iter().for_each(|ms| stats.without_owner.note(ms));
                }
            }
            Event::Membership { cause, .. } => {
                self.by_cause.entry(cause.kind).or_default().memberships += 1;
            }
            Event::Storm(_) => self.storms += 1,
            Event::Poison(_) => self.poisons += 1,
            Event::Dropped { entries } => self.dropped += entries,
        }
    }
}

impl Histogram {
    fn note(&mut self, ms: u64) {
        let bucket = BUCKETS_MS.iter().position(|&bound| ms <= bound).unwrap_or(BUCKETS_MS.len());
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.sum_ms = self.sum_ms.saturating_add(ms);
        self.max_ms = self.max_ms.max(ms);
    }
}
