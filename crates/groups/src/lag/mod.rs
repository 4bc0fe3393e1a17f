//! Whether consumers keep up: the latest commits of each partition of each group, and what they say of its consumer.
//!
//! This is soft state, of all ledgers of a node together: it costs commits nothing but memory, which has a limit. A node
//! that was just started has seen no commits, and judges by what the log tells of the last one until it has.

mod ends;
mod group;
mod judge;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dohle_types::time::Instant;
use dohle_types::{Now, Offset, Str};

pub use ends::LogEnds;
pub use group::{GroupPartition, WatchedGroup};
pub use judge::{Backlog, LagState};

use crate::state::CommittedOffset;

/// How many commits of a partition are remembered.
const COMMITS_MAX: usize = 8;

/// Commits that follow sooner upon each other count as one, so that those that are remembered reach back for a while
/// however often a consumer commits.
const SPACING: Duration = Duration::from_secs(4);

/// If there is no room for more, partitions without a commit for so long are forgotten,
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// and no more often than this it is looked for them.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// A partition of a group: the group, the topic, the index.
pub type WatchedPlace = (Str, Str, i32);

/// The latest commits of all groups.
#[derive(Debug)]
pub struct CommitWindows {
    windows: BTreeMap<WatchedPlace, Window>,
    windows_max: usize,
    /// Since when commits are seen at all.
    since: Option<Instant>,
    swept: Option<Instant>,
}

/// The latest commits of a partition, the oldest first.
#[derive(Debug, Default)]
struct Window {
    commits: VecDeque<Commit>,
}

/// One commit, or several in short time.
#[derive(Clone, Copy, Debug)]
struct Commit {
    /// When the last of them came.
    at: Instant,
    offset: Offset,
    /// Records that were left to read then,
    left: i64,
    /// and the fewest that were, if others came shortly before.
    least: i64,
}

impl CommitWindows {
    /// About what a window takes, in bytes.
    pub const WINDOW_BYTES: usize = 512;

    /// Room for the commits of so many partitions.
    #[must_use]
    pub const fn new(windows_max: usize) -> Self {
        Self { windows: BTreeMap::new(), windows_max, since: None, swept: None }
    }

    /// How many partitions are remembered, and how many there is room for.
    #[must_use]
    pub fn usage(&self) -> (usize, usize) {
        (self.windows.len(), self.windows_max)
    }

    /// From now on commits come: silence does not count before.
    pub fn begin(&mut self, now: Now) {
        self.since.get_or_insert(now.instant);
    }

    /// A group has committed an offset, when so many records were `left` behind it.
    pub fn note(&mut self, now: Now, place: WatchedPlace, offset: Offset, left: i64) {
        let commit = Commit { at: now.instant, offset, left, least: left };
        if let Some(window) = self.windows.get_mut(&place) {
            return window.push(commit);
        }
        if self.windows.len() >= self.windows_max {
            self.sweep(now);
        }
        if self.windows.len() < self.windows_max {
            self.windows.entry(place).or_default().push(commit);
        }
    }

    /// How many commits are remembered that led to this one.
    #[must_use]
    pub fn commits(&self, place: &WatchedPlace, committed: &CommittedOffset) -> usize {
        self.window(place, committed).map_or(0, |window| window.commits.len())
    }

    /// How the consumer of a partition does.
    #[must_use]
    pub fn state(
        &self,
        now: Now,
        place: &WatchedPlace,
        committed: &CommittedOffset,
        backlog: Backlog,
    ) -> LagState {
        let commits: Vec<Commit> = self
            .window(place, committed)
            .map_or_else(Vec::new, |window| window.commits.iter().copied().collect());
        let since_commit =
            u64::try_from(now.wall.0.saturating_sub(committed.committed_at.0)).unwrap_or_default();
        let since_start = self.since.map_or(Duration::ZERO, |since| now.instant.saturating_sub(since));
        let silent = Duration::from_millis(since_commit).min(since_start);
        judge::judge(&commits, now.instant, silent, backlog)
    }

    /// What was seen of a partition, unless its offset was set in another way since: by a reset, or after it had been
    /// deleted.
    fn window(&self, place: &WatchedPlace, committed: &CommittedOffset) -> Option<&Window> {
        let window = self.windows.get(place)?;
        window.commits.back().is_some_and(|last| last.offset == committed.offset).then_some(window)
    }

    fn sweep(&mut self, now: Now) {
        if self.swept.is_some_and(|swept| now.instant < swept + SWEEP_EVERY) {
            return;
        }
        self.swept = Some(now.instant);
        let is_recent = |commit: &Commit| now.instant < commit.at + FORGOTTEN_AFTER;
        self.windows.retain(|_, window| window.commits.back().is_some_and(is_recent));
    }
}

impl Window {
    fn push(&mut self, mut commit: Commit) {
        if self.commits.back().is_some_and(|last| commit.offset < last.offset) {
            // It begins anew from an earlier offset, which is no standstill.
            self.commits.clear();
        }
        let before_last = self.commits.iter().rev().nth(1).copied();
        if let Some(before) = before_last
            && let Some(last) = self.commits.pop_back_if(|last| last.at < before.at + SPACING)
        {
            commit.least = commit.least.min(last.least);
        }
        if self.commits.len() == COMMITS_MAX {
            self.commits.pop_front();
        }
        self.commits.push_back(commit);
    }
}
