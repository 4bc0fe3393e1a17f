//! Which leader epoch began at which offset (KIP-101, KIP-279; Kafka's `LeaderEpochFileCache`).
//!
//! A follower, or a consumer whose leader changed, asks where an epoch ended in order to find the offset up to
//! which its log and this one agree.

use dohle_types::{LeaderEpoch, Offset};

/// The first offset that a leader of this epoch wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEntry {
    /// The leader's term.
    pub epoch: LeaderEpoch,
    /// Where it began.
    pub start: Offset,
}

/// The epochs of one log, oldest first. Both epochs and starts ascend strictly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<EpochEntry>,
}

impl LeaderEpochs {
    /// The epochs of a checkpoint file; each entry takes precedence over the earlier ones it contradicts.
    #[must_use]
    pub fn from_entries(entries: impl IntoIterator<Item = EpochEntry>) -> Self {
        let mut epochs = Self::default();
        for entry in entries {
            epochs.assign(entry.epoch, entry.start);
        }
        epochs
    }

    /// Notes that `epoch` begins at `start`; whether that is news.
    ///
    /// Entries which that contradicts (a later epoch, or one that begins at or after `start`) are dropped:
    /// their records were truncated away.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch < LeaderEpoch(0)
            || self.entries.last().is_some_and(|last| last.epoch == epoch && last.start <= start)
        {
            return false;
        }
        while self.entries.last().is_some_and(|last| last.epoch >= epoch || last.start >= start) {
            self.entries.pop();
        }
        self.entries.push(EpochEntry { epoch, start });
        true
    }

    /// The newest epoch; `LeaderEpoch::NONE` where there is none.
    #[must_use]
    pub fn latest(&self) -> LeaderEpoch {
        self.entries.last().map_or(LeaderEpoch::NONE, |entry| entry.epoch)
    }

    /// The epoch that the record at `offset` was written in; `LeaderEpoch::NONE` where that is not known.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let after = self.entries.partition_point(|entry| entry.start <= offset);
        after.checked_sub(1).and_then(|index| self.entries.get(index)).map_or(LeaderEpoch::NONE, |e| e.epoch)
    }

    /// The newest epoch of the log that is not newer than `requested`, and the offset at which it ended.
    ///
    /// Answers `(NONE, -1)` to an epoch that is not known here yet, and `(requested, start of the first)` to
    /// one older than the log.
    #[must_use]
    pub fn end_offset_for(&self, requested: LeaderEpoch, log_end: Offset) -> (LeaderEpoch, Offset) {
        let unknown = (LeaderEpoch::NONE, Offset(-1));
        if requested == LeaderEpoch::NONE {
            return unknown;
        }
        if requested == self.latest() {
            return (requested, log_end);
        }
        let higher = self.entries.partition_point(|entry| entry.epoch <= requested);
        let Some(next) = self.entries.get(higher) else { return unknown };
        let floor = higher.checked_sub(1).and_then(|index| self.entries.get(index));
        (floor.map_or(requested, |entry| entry.epoch), next.start)
    }

    /// Forgets what began at or after `end`; whether that was anything.
    pub fn truncate_from_end(&mut self, end: Offset) -> bool {
        let kept = self.entries.partition_point(|entry| entry.start < end);
        let changed = kept < self.entries.len();
        self.entries.truncate(kept);
        changed
    }

    /// Forgets what ended at or below `start`, the new start of the log; whether that was anything.
    ///
    /// The epoch in force at `start` remains and is from now on said to begin there.
    pub fn truncate_from_start(&mut self, start: Offset) -> bool {
        let after = self.entries.partition_point(|entry| entry.start <= start);
        let Some(in_force) = after.checked_sub(1) else { return false };
        self.entries.drain(..in_force);
        match self.entries.first_mut() {
            Some(first) if first.start < start => {
                first.start = start;
                true
            }
            _ => in_force > 0,
        }
    }

    /// The entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        LeaderEpochs::from_entries(
            entries.iter().map(|&(epoch, start)| EpochEntry { epoch: epoch.into(), start: start.into() }),
        )
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next() {
        let epochs = epochs(&[(2, 10), (4, 20), (7, 35)]);
        let check = |requested: i32, expected: (i32, i64)| {
            let (epoch, end) = epochs.end_offset_for(requested.into(), Offset(50));
            assert_eq!((epoch.0, end.0), expected, "epoch {requested}");
        };
        check(-1, (-1, -1));
        check(0, (0, 10));
        check(2, (2, 20));
        check(3, (2, 20));
        check(4, (4, 35));
        check(6, (4, 35));
        check(7, (7, 50));
        check(8, (-1, -1));
    }

    #[test]
    fn an_assignment_drops_what_it_contradicts() {
        let check = |epoch: i32, start: i64, expected: &[(i32, i64)]| {
            let mut assigned = epochs(&[(2, 10), (4, 20), (7, 35)]);
            assigned.assign(epoch.into(), start.into());
            assert_eq!(assigned, epochs(expected), "epoch {epoch} from {start}");
        };
        check(7, 40, &[(2, 10), (4, 20), (7, 35)]);
        check(8, 40, &[(2, 10), (4, 20), (7, 35), (8, 40)]);
        check(8, 35, &[(2, 10), (4, 20), (8, 35)]);
        check(7, 30, &[(2, 10), (4, 20), (7, 30)]);
        check(5, 25, &[(2, 10), (4, 20), (5, 25)]);
        check(3, 5, &[(3, 5)]);
        check(-1, 90, &[(2, 10), (4, 20), (7, 35)]);
    }

    #[test]
    fn truncation_keeps_the_epoch_in_force() {
        let from_start = |start: i64, expected: &[(i32, i64)]| {
            let mut truncated = epochs(&[(2, 10), (4, 20), (7, 35)]);
            truncated.truncate_from_start(start.into());
            assert_eq!(truncated, epochs(expected), "from {start}");
        };
        from_start(5, &[(2, 10), (4, 20), (7, 35)]);
        from_start(10, &[(2, 10), (4, 20), (7, 35)]);
        from_start(15, &[(2, 15), (4, 20), (7, 35)]);
        from_start(20, &[(4, 20), (7, 35)]);
        from_start(90, &[(7, 90)]);
        let mut truncated = epochs(&[(2, 10), (4, 20), (7, 35)]);
        assert!(truncated.truncate_from_end(Offset(35)));
        assert!(!truncated.truncate_from_end(Offset(35)));
        assert_eq!(truncated, epochs(&[(2, 10), (4, 20)]));
    }

    #[test]
    fn every_offset_has_the_epoch_that_wrote_it() {
        let epochs = epochs(&[(2, 10), (4, 20)]);
        for (offset, epoch) in [(9, -1), (10, 2), (19, 2), (20, 4), (900, 4)] {
            assert_eq!(epochs.epoch_at(Offset(offset)), LeaderEpoch(epoch), "at {offset}");
        }
    }
}
