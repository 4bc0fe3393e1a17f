//! The journal of groups: what happened to them, why, who was behind it and how long it took.
//!
//! [`crate::rebalance`] and [`crate::consumer`] say what begins and what ends; here it becomes entries. Of a group of
//! the classic protocol an entry is written for each generation: its rebalance begins with a cause and ends with the
//! leader's assignment, without members, or with the next cause. Of a group of the consumer protocol it is one for each
//! group epoch: it ends when all members have their target, or with the next epoch. What changes a membership without
//! either is an entry of its own.
//!
//! Nothing here is durable. What a ledger has not told of when it is gone is not told, and its successor begins with
//! `coordinator restarted`. All of it is bounded; what is too much is counted and told as missing.
//!
//! The entries leave by [`crate::GroupLedger::take_journal`]; the host stores them (`dohle-broker`, `group_journal.rs`).

pub mod cause;
mod classic;
mod consumer;
pub mod entry;
mod json;
mod owners;
pub mod stats;
mod storm;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dohle_types::time::Instant;
use dohle_types::{Now, Str};

use crate::consumer::state::{ConsumerGroup, OwnedPartitions};
use crate::{Cluster, Effects, Rebalance, State};
use cause::{Cause, CauseKind};
use entry::{Entry, Event, Outcome, Protocol, Rebalanced};
pub use json::JournalError;
pub(crate) use owners::{Owner, Place};
use owners::{Owners, millis};
use storm::Recent;

/// How many causes one entry tells.
const CAUSES_MAX: usize = 8;

/// How many groups are followed at a time.
const GROUPS_MAX: usize = 20_000;

/// How many partitions are followed while their groups rebalance.
const PARTITIONS_MAX: usize = 500_000;

/// Of so few groups it is not looked which ones are idle.
const GROUPS_UNSWEPT: usize = 1_000;

/// How often it is looked at most.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// The journal of all groups of a ledger.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    groups: BTreeMap<Str, Followed>,
    /// When it was last looked which groups are idle.
    swept_at: Option<Instant>,
    /// Partitions that are followed in all groups.
    partitions: usize,
    /// Consumer groups that may have come to rest.
    touched: BTreeSet<Str>,
    entries: Vec<Entry>,
    /// Entries that there was no room for.
    missing: u64,
}

/// A group that rebalances, or did so not long ago.
#[derive(Debug, Default)]
struct Followed {
    open: Option<Open>,
    owners: Owners,
    recent: Recent,
}

/// A rebalance that is under way.
#[derive(Debug)]
struct Open {
    protocol: Protocol,
    from: i32,
    to: Option<i32>,
    causes: Vec<Cause>,
    more_causes: usize,
    started: Now,
    first_phase_until: Option<Instant>,
    members: usize,
}

/// How a rebalance ends.
struct End {
    outcome: Outcome,
    /// Members that are there then.
    members: usize,
    /// Partitions that these have.
    owned: usize,
}

impl Journal {
    /// A rebalance begins, which ends the one before. In a group of the consumer protocol that is a new epoch.
    pub(crate) fn begin(
        &mut self,
        now: Now,
        group_id: &Str,
        protocol: Protocol,
        (from, members): (i32, usize),
        cause: Cause,
        effects: &mut Effects,
    ) {
        effects.rebalances.push(Rebalance {
            group_id: group_id.clone(),
            generation: from,
            cause: cause.clone(),
        });
        self.touched.insert(group_id.clone());
        self.follow(now, group_id, |group, entries| {
            if protocol == Protocol::Classic
                && let Some(open) = &mut group.open
                && open.protocol == Protocol::Consumer
                && open.from == from
            {
                // What made a group a classic one is what it rebalances for.
                (open.protocol, open.to, open.members) = (protocol, None, members);
                return open.add(cause);
            }
            group.end(now, group_id, &End { outcome: Outcome::Superseded, members, owned: 0 }, entries);
            if protocol == Protocol::Consumer {
                group.owners.let_go();
            }
            let storm = group.recent.note(now.instant, &cause);
            group.open = Some(Open {
                protocol,
                from,
                to: (protocol == Protocol::Consumer).then(|| from.saturating_add(1)),
                causes: vec![cause],
                more_causes: 0,
                started: now,
                first_phase_until: None,
                members,
            });
            entries.extend(storm.map(|storm| Entry {
                group_id: group_id.clone(),
                at: now.wall,
                event: Event::Storm(storm),
            }));
        });
    }

    /// A consumer group is loaded. If it was on the way to an epoch, it goes on.
    pub(crate) fn on_loaded(&mut self, now: Now, group_id: &Str, group: &ConsumerGroup) {
        let cause = Cause::of_nobody(CauseKind::CoordinatorRestarted);
        if group.is_reconciled() {
            return self.note(now, group_id, group.epoch, cause);
        }
        self.follow(now, group_id, |followed, _| {
            followed.open = Some(Open {
                protocol: Protocol::Consumer,
                from: group.epoch,
                to: None,
                causes: vec![cause],
                more_causes: 0,
                started: now,
                first_phase_until: (group.assignment_epoch == group.epoch).then_some(now.instant),
                members: group.members().len(),
            });
        });
    }

    /// Something else happened while a group rebalances, which it would have rebalanced for.
    pub(crate) fn add(&mut self, group_id: &str, cause: Cause) {
        if let Some(open) = self.groups.get_mut(group_id).and_then(|group| group.open.as_mut()) {
            open.add(cause);
        }
    }

    /// All members of a classic group have joined again, or the time is up, and a generation begins; or there is an
    /// assignment for a consumer group's epoch.
    pub(crate) fn end_first_phase(&mut self, now: Now, group_id: &str, to: i32, members: usize) {
        if let Some(open) = self.groups.get_mut(group_id).and_then(|group| group.open.as_mut()) {
            (open.to, open.members) = (Some(to), members);
            open.first_phase_until.get_or_insert(now.instant);
        }
    }

    /// The leader of a classic group, whose members subscribe to these topics, has assigned; none if that cannot be
    /// read.
    pub(crate) fn complete(
        &mut self,
        now: Now,
        (group_id, members): (&Str, usize),
        subscribed: Option<&BTreeSet<Str>>,
        assigned: Option<BTreeMap<Owner, Vec<Place>>>,
    ) {
        self.follow(now, group_id, |group, entries| {
            let started = group.open.as_ref().map_or(now.instant, |open| open.started.instant);
            let owned = assigned.iter().flat_map(BTreeMap::values).map(Vec::len).sum();
            match assigned {
                Some(assigned) => group.owners.assign(now.instant, assigned),
                None => group.owners.lose(),
            }
            // What was not assigned throughout a whole rebalance is nobody's business.
            group.owners.retain(|(topic, _), since| {
                since >= started && subscribed.is_none_or(|subscribed| subscribed.contains(topic))
            });
            group.end(now, group_id, &End { outcome: Outcome::Completed, members, owned }, entries);
        });
    }

    /// A classic group has no members left.
    pub(crate) fn become_empty(&mut self, now: Now, group_id: &Str, to: i32) {
        self.end_first_phase(now, group_id, to, 0);
        self.follow(now, group_id, |group, entries| {
            group.end(now, group_id, &End { outcome: Outcome::Emptied, members: 0, owned: 0 }, entries);
        });
    }

    /// A membership changed that no rebalance follows from.
    pub(crate) fn note(&mut self, now: Now, group_id: &Str, generation: i32, cause: Cause) {
        let event = Event::Membership { generation, cause };
        self.entries.push(Entry { group_id: group_id.clone(), at: now.wall, event });
    }

    /// Whether it is still to be told what the members of a classic group have.
    pub(crate) fn wants_owners(&self, group_id: &str) -> bool {
        self.groups.get(group_id).is_none_or(|group| group.owners.is_unknown())
    }

    /// What the members of a classic group have before they rebalance; none if that cannot be read.
    pub(crate) fn take_up(&mut self, now: Now, group_id: &Str, held: Option<BTreeMap<Owner, Vec<Place>>>) {
        self.follow(now, group_id, |group, _| match held {
            Some(held) => group.owners.take_up(held),
            None => group.owners.lose(),
        });
    }

    /// A member of a classic group has only these partitions left.
    pub(crate) fn keep_only(&mut self, now: Now, group_id: &Str, owner: &Owner, kept: &[Place]) {
        if self.groups.contains_key(group_id) {
            self.follow(now, group_id, |group, _| group.owners.keep_only(now.instant, owner, kept));
        }
    }

    /// Something was written of a consumer group, after which it may be at rest.
    pub(crate) fn touch(&mut self, group_id: &Str) {
        self.touched.insert(group_id.clone());
    }

    /// What happened since the last time, now that it is in the state.
    pub(crate) fn take(&mut self, now: Now, state: &State) -> Vec<Entry> {
        for group_id in std::mem::take(&mut self.touched) {
            let is_open = self.groups.get(&group_id).is_some_and(|group| {
                group.open.as_ref().is_some_and(|open| open.protocol == Protocol::Consumer)
            });
            if let Some(group) = state.consumer_group(&group_id).filter(|_| is_open)
                && let Some(outcome) = rest(group)
            {
                let end = End { outcome, members: group.members().len(), owned: group.owned_count() };
                self.follow(now, &group_id, |followed, entries| {
                    if outcome == Outcome::Completed {
                        // Whatever there is to have somebody has.
                        followed.owners.retain(|_, _| false);
                    }
                    followed.end(now, &group_id, &end, entries);
                });
            }
        }
        let missing = std::mem::take(&mut self.missing);
        if missing > 0 {
            let event = Event::Dropped { entries: missing };
            self.entries.push(Entry { group_id: Str::default(), at: now.wall, event });
        }
        std::mem::take(&mut self.entries)
    }

    /// Lets `act` change what is known of a group, and keeps the limits.
    fn follow(&mut self, now: Now, group_id: &Str, act: impl FnOnce(&mut Followed, &mut Vec<Entry>)) {
        if !self.groups.contains_key(group_id) && !self.has_room(now) {
            self.missing += 1;
            return;
        }
        let group = self.groups.entry(group_id.clone()).or_default();
        self.partitions -= group.owners.len();
        act(group, &mut self.entries);
        if self.partitions + group.owners.len() > PARTITIONS_MAX {
            group.owners.lose();
        }
        self.partitions += group.owners.len();
    }

    /// Whether another group can be followed; forgets those that are idle.
    fn has_room(&mut self, now: Now) -> bool {
        let is_due = self.swept_at.is_none_or(|at| at + SWEEP_INTERVAL <= now.instant);
        if self.groups.len() >= GROUPS_UNSWEPT && is_due {
            self.groups.retain(|_, group| {
                let stays = group.open.is_some() || !group.recent.is_idle(now.instant);
                self.partitions -= if stays { 0 } else { group.owners.len() };
                stays
            });
            self.swept_at = Some(now.instant);
        }
        self.groups.len() < GROUPS_MAX
    }
}

impl Followed {
    /// Ends the rebalance that is under way, if any.
    fn end(&mut self, now: Now, group_id: &Str, end: &End, entries: &mut Vec<Entry>) {
        let Some(open) = self.open.take() else { return };
        let moves = match end.outcome {
            Outcome::Emptied => self.owners.become_empty(now.instant),
            Outcome::Completed => self.owners.take_moves(end.owned),
            Outcome::Superseded => None,
        };
        let rebalanced = Rebalanced {
            protocol: open.protocol,
            from: open.from,
            to: open.to.unwrap_or(open.from),
            causes: open.causes,
            more_causes: open.more_causes,
            outcome: end.outcome,
            started: open.started.wall,
            duration_ms: millis(open.started.instant, now.instant),
            first_phase_ms: open.first_phase_until.map(|until| millis(open.started.instant, until)),
            members: if end.outcome == Outcome::Superseded { open.members } else { end.members },
            moves,
        };
        entries.push(Entry { group_id: group_id.clone(), at: now.wall, event: Event::Rebalance(rebalanced) });
    }
}

impl Open {
    fn add(&mut self, cause: Cause) {
        if self.causes.len() < CAUSES_MAX { self.causes.push(cause) } else { self.more_causes += 1 }
    }
}

/// Whether a consumer group is at rest. A static member that is away, and will be back, is not waited for.
fn rest(group: &ConsumerGroup) -> Option<Outcome> {
    if group.members().is_empty() {
        return Some(Outcome::Emptied);
    }
    group.is_reconciled().then_some(Outcome::Completed)
}

/// The partitions, as far as they exist, that are in the first ones and not in the second ones.
fn places<'a>(
    owned: [&'a OwnedPartitions; 2],
    others: [&'a OwnedPartitions; 2],
    cluster: &'a dyn Cluster,
) -> impl Iterator<Item = Place> + use<'a> {
    let topics = owned.into_iter().flatten();
    let topics = topics.filter_map(move |(&topic_id, partitions)| {
        Some((topic_id, cluster.topic_by_id(topic_id)?.name, partitions))
    });
    topics.flat_map(move |(topic_id, name, partitions)| {
        let is_missing = move |index: &i32| {
            !others
                .iter()
                .any(|others| others.get(&topic_id).is_some_and(|partitions| partitions.contains_key(index)))
        };
        partitions.keys().copied().filter(is_missing).map(move |index| (name.clone(), index))
    })
}
