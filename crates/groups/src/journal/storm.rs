//! Whether a group rebalances again and again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dohle_types::Str;
use dohle_types::time::Instant;

use super::cause::{Cause, CauseKind, Who};
use super::entry::Storm;
use super::owners::millis;

/// How far back is looked.
pub(crate) const WINDOW: Duration = Duration::from_secs(10 * 60);

/// How often a group has to rebalance in that time.
const REBALANCES_MIN: usize = 6;

/// Rebalances that follow so soon upon one that counts do not count: many members that are started together, or
/// stopped, are no storm.
const BURST: Duration = Duration::from_secs(10);

/// How many rebalances of a group are remembered.
const REMEMBERED_MAX: usize = 128;

/// A group's latest rebalances.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    rebalances: VecDeque<Seen>,
    told_at: Option<Instant>,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    counts: bool,
    kind: CauseKind,
    member: Option<Who>,
}

impl Recent {
    /// Whether nothing is remembered that matters at this time.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.rebalances.back().is_none_or(|last| last.at + WINDOW < now)
    }

    /// A rebalance began at this time. Says whether they are a storm, of one that goes on once in a while.
    pub(crate) fn note(&mut self, at: Instant, cause: &Cause) -> Option<Storm> {
        let is_old = |seen: &Seen| seen.at + WINDOW < at;
        while self.rebalances.len() >= REMEMBERED_MAX || self.rebalances.front().is_some_and(is_old) {
            self.rebalances.pop_front();
        }
        let last = self.rebalances.iter().rev().find(|seen| seen.counts);
        let counts = last.is_none_or(|last| last.at + BURST <= at);
        self.rebalances.push_back(Seen {
            at,
            counts,
            kind: cause.kind,
            member: cause.members.first().cloned(),
        });
        let is_storm = self.rebalances.iter().filter(|seen| seen.counts).count() >= REBALANCES_MIN;
        if !is_storm || self.told_at.is_some_and(|told| told + WINDOW > at) {
            return None;
        }
        self.told_at = Some(at);
        Some(self.storm(at))
    }

    fn storm(&self, now: Instant) -> Storm {
        let mut kinds: BTreeMap<CauseKind, usize> = BTreeMap::new();
        let mut members: BTreeMap<(Str, Str), (usize, &Who)> = BTreeMap::new();
        for seen in &self.rebalances {
            *kinds.entry(seen.kind).or_default() += 1;
            if let Some(who) = &seen.member {
                members.entry((Str::from(who.name()), who.client_host.clone())).or_insert((0, who)).0 += 1;
            }
        }
        let (kind, of_kind) =
            kinds.into_iter().max_by_key(|&(_, count)| count).unwrap_or((CauseKind::Joined, 0));
        let member = members.into_values().max_by_key(|&(count, _)| count);
        Storm {
            rebalances: self.rebalances.len(),
            within_ms: self.rebalances.front().map_or(0, |first| millis(first.at, now)),
            kind,
            of_kind,
            member: member.map(|(_, who)| who.clone()),
            of_member: member.map_or(0, |(count, _)| count),
        }
    }
}
