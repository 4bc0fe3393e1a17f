//! What a partition's latest commits say of its consumer, in the way of LinkedIn's Burrow: no threshold has to be set,
//! since a consumer is measured by what it did itself shortly before.

use std::fmt;
use std::time::Duration;

use dohle_types::time::Instant;

use super::Commit;

/// How many commits it takes to judge by,
const COMMITS_MIN: usize = 3;

/// and how far they must be apart; a consumer may be silent for so long in any case.
const SPAN_MIN: Duration = Duration::from_secs(20);

/// How long a consumer may be silent of which too few commits were seen: as long as Kafka's consumers may take to
/// process records by default (`max.poll.interval.ms`).
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// How the consumer of a partition does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LagState {
    /// It keeps up, or catches up, or too little is known to say anything else.
    Ok,
    /// It moves on, and does not catch up.
    Slow,
    /// It commits, and does not move on.
    Stuck,
    /// It does not commit any more, though there are records.
    Stopped,
}

impl LagState {
    /// All of them, by their numbers on the wire.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Slow, Self::Stuck, Self::Stopped];

    /// Its number on the wire.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::Ok => 0,
            Self::Slow => 1,
            Self::Stuck => 2,
            Self::Stopped => 3,
        }
    }

    /// The state of this number.
    #[must_use]
    pub fn from_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Slow => "slow",
            Self::Stuck => "stuck",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for LagState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is left for a consumer to read in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Records, as far as offsets tell.
    pub left: i64,
    /// How long the oldest of them has been there, if that is known.
    pub age: Option<Duration>,
    /// Whether the group had members and has none.
    pub is_abandoned: bool,
}

/// Judges by the latest commits, the oldest first. `silent` is how long there was no commit, where none was seen.
pub(super) fn judge(commits: &[Commit], now: Instant, silent: Duration, backlog: Backlog) -> LagState {
    if backlog.left <= 0 {
        return LagState::Ok;
    }
    if backlog.is_abandoned {
        return LagState::Stopped;
    }
    let (first, last) = (commits.first(), commits.last());
    let span = first.zip(last).map_or(Duration::ZERO, |(first, last)| last.at.saturating_sub(first.at));
    let is_telling = commits.len() >= COMMITS_MIN && span >= SPAN_MIN;
    let silent = last.map_or(silent, |last| now.saturating_sub(last.at));
    // Who had read everything has been waited for only since there is something to read.
    let has_rested = last.is_none_or(|last| last.left == 0);
    let silent = backlog.age.filter(|_| has_rested).map_or(silent, |age| silent.min(age));
    if silent > if commits.len() >= COMMITS_MIN { span.max(SPAN_MIN) } else { PATIENCE } {
        return LagState::Stopped;
    }
    let caught_up = commits.iter().any(|commit| commit.least == 0);
    let mut pairs = commits.iter().zip(commits.iter().skip(1));
    let came_closer = pairs.any(|(before, after)| after.least < before.left);
    if !is_telling || caught_up || came_closer {
        return LagState::Ok;
    }
    let moved = first.map(|commit| commit.offset) != last.map(|commit| commit.offset);
    if moved { LagState::Slow } else { LagState::Stuck }
}
