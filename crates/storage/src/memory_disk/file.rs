//! One file of a disk in memory: what changes it, and what power loss leaves of the changes that were not synced.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use dohle_types::Rng;

use super::{PowerLoss, SECTOR_SIZE, index};

/// A file, in the cache and on the medium.
#[derive(Debug, Default, Clone)]
pub(super) struct File {
    pub(super) cached: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// Changes that are not on the medium, in their order.
    pub(super) changes: VecDeque<Change>,
    /// How many changes came before those.
    changes_settled: u64,
    /// Sectors that a failed sync may have left behind; the next write to one takes all of it along.
    spoiled: BTreeSet<usize>,
}

/// What is done to a file's content.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write(usize, Bytes),
    Length(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(position, data) => {
                let end = position + data.len();
                // An empty write only creates the file.
                if !data.is_empty() {
                    content.resize(content.len().max(end), 0);
                    content[*position..end].copy_from_slice(data);
                }
            }
            Self::Length(length) => content.resize(*length, 0),
        }
    }
}

impl File {
    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.cached);
        self.queue(change);
    }

    fn queue(&mut self, change: Change) {
        if let Change::Write(position, data) = &change
            && !self.spoiled.is_empty()
            && !data.is_empty()
        {
            for sector in sectors(*position, data.len()) {
                if self.spoiled.remove(&sector) {
                    let start = sector * SECTOR_SIZE;
                    let end = self.cached.len().min(start + SECTOR_SIZE);
                    let whole = Bytes::copy_from_slice(&self.cached[start..end]);
                    self.changes.push_back(Change::Write(start, whole));
                }
            }
        }
        self.changes.push_back(change);
    }

    /// How many changes there were.
    pub(super) fn changes_so_far(&self) -> u64 {
        self.changes_settled + self.changes.len() as u64
    }

    /// Of the changes those before this number reach the medium.
    pub(super) fn finish_sync(&mut self, before: u64) {
        while self.changes_settled < before
            && let Some(change) = self.changes.pop_front()
        {
            self.changes_settled += 1;
            change.apply(&mut self.durable);
        }
    }

    /// Of the changes before this number some reach the medium, and the system takes all of them for written.
    pub(super) fn fail_sync(&mut self, before: u64, rng: &mut Rng) {
        let mut taken = VecDeque::new();
        while self.changes_settled < before
            && let Some(change) = self.changes.pop_front()
        {
            self.changes_settled += 1;
            taken.push_back(change);
        }
        keep_some(&mut self.durable, &taken, rng);
        for change in &taken {
            if let Change::Write(position, data) = change
                && !data.is_empty()
            {
                self.spoiled.extend(sectors(*position, data.len()));
            }
        }
        for later in std::mem::take(&mut self.changes) {
            self.queue(later);
        }
    }

    pub(super) fn lose_power(&mut self, rng: &mut Rng, loss: &mut PowerLoss) {
        let mut survived = std::mem::take(&mut self.durable);
        if !self.changes.is_empty() {
            let kept = keep_some(&mut survived, &self.changes, rng);
            self.changes_settled += self.changes.len() as u64;
            self.changes.clear();
            loss.files_torn += usize::from(survived != self.cached && kept > 0);
        }
        self.spoiled.clear();
        loss.files_changed += usize::from(survived != self.cached);
        self.cached.clone_from(&survived);
        self.durable = survived;
    }
}

/// The sectors that a write touches.
const fn sectors(position: usize, length: usize) -> std::ops::RangeInclusive<usize> {
    position / SECTOR_SIZE..=(position + length - 1) / SECTOR_SIZE
}

/// Applies some of the changes: each sector ends as it was after one of them. How many sectors took one.
fn keep_some(durable: &mut Vec<u8>, changes: &VecDeque<Change>, rng: &mut Rng) -> usize {
    let of_ten = match rng.below(4) {
        0 => 0,
        1 => 10,
        _ => 1 + rng.below(9),
    };
    let (mut lowest, mut highest, mut length) = (durable.len(), durable.len(), durable.len());
    let mut lost = BTreeSet::new();
    let mut kept = 0;
    for change in changes {
        match change {
            Change::Write(position, data) => {
                let mut from = 0;
                while from < data.len() {
                    let at = position + from;
                    let part = (SECTOR_SIZE - at % SECTOR_SIZE).min(data.len() - from);
                    if !lost.contains(&(at / SECTOR_SIZE)) {
                        if rng.chance(of_ten, 10) {
                            Change::Write(at, data.slice(from..from + part)).apply(durable);
                            kept += 1;
                        } else {
                            lost.insert(at / SECTOR_SIZE);
                        }
                    }
                    from += part;
                }
                length = length.max(position + data.len());
            }
            Change::Length(to) => {
                if rng.chance(of_ten, 10) {
                    durable.resize(*to, 0);
                }
                length = *to;
            }
        }
        lowest = lowest.min(length);
        highest = highest.max(length);
    }
    let length = surviving_length(lowest, highest, durable.len(), rng);
    durable.resize(length, 0);
    kept
}

/// The length that a file is left with: it is written on its own, before or after the sectors.
fn surviving_length(lowest: usize, highest: usize, length: usize, rng: &mut Rng) -> usize {
    const PAGE_SIZE: usize = 4096;
    let anywhere = lowest + index(rng.below((highest - lowest) as u64 + 1));
    match rng.below(8) {
        0 => lowest,
        1 => anywhere,
        2 => (anywhere / PAGE_SIZE * PAGE_SIZE).clamp(lowest, highest),
        3 => (anywhere / SECTOR_SIZE * SECTOR_SIZE).clamp(lowest, highest),
        4 => highest,
        _ => length,
    }
}
