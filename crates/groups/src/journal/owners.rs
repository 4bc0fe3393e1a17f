//! Who owns which partition while a group rebalances, and since when nobody does.
//!
//! It is what the coordinator knows: a member has given up a partition when it joins again without it, reports it no
//! longer, or is gone; it has one when it is told so. Members of the classic protocol are told all at once, at the end
//! of a rebalance, so what they had before is taken up when one begins.

use std::collections::{BTreeMap, BTreeSet};

use dohle_types::Str;
use dohle_types::time::Instant;

use super::entry::Moves;

/// A partition by the name of its topic.
pub(crate) type Place = (Str, i32);

/// A member by its instance id or, if it has none, by its member id: a static member that comes back is the same.
pub(crate) type Owner = Str;

/// What is known of a group's partitions.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// What members of the classic protocol had before the rebalance, and have not given up; none between rebalances.
    held: Option<BTreeMap<Owner, Vec<Place>>>,
    /// How many partitions that are.
    held_count: usize,
    /// Partitions that somebody had and nobody has now: since when, and who had them.
    free: BTreeMap<Place, (Instant, Owner)>,
    /// Since when the group has no members: then nobody has any partition.
    empty_since: Option<Instant>,
    /// Partitions that somebody has who did not have them before.
    moved: BTreeSet<Place>,
    longest_without_owner_ms: Option<u64>,
    /// More partitions than are followed, or such as nobody can read.
    is_lost: bool,
}

impl Owners {
    /// How many partitions it knows of.
    pub(crate) fn len(&self) -> usize {
        self.free.len() + self.held_count + self.moved.len()
    }

    /// Whether what members have is still to be taken up.
    pub(crate) fn is_unknown(&self) -> bool {
        self.held.is_none() && !self.is_lost
    }

    /// Takes up what the members of a classic group have, before any of them gives up anything.
    pub(crate) fn take_up(&mut self, held: BTreeMap<Owner, Vec<Place>>) {
        self.held_count = held.values().map(Vec::len).sum();
        self.held = Some(held);
    }

    /// Members of the classic protocol go on with what they have as members of a consumer group.
    pub(crate) fn let_go(&mut self) {
        self.held = None;
        self.held_count = 0;
    }

    /// Knows nothing any more: there is too much of it, or it cannot be read.
    pub(crate) fn lose(&mut self) {
        *self = Self { is_lost: true, ..Self::default() };
    }

    /// A member of the classic protocol has only these left.
    pub(crate) fn keep_only(&mut self, now: Instant, owner: &Owner, kept: &[Place]) {
        let Some(places) = self.held.as_mut().and_then(|held| held.get_mut(owner)) else { return };
        let kept: BTreeSet<&Place> = kept.iter().collect();
        let given_up: Vec<Place> = places.extract_if(.., |place| !kept.contains(place)).collect();
        self.held_count -= given_up.len();
        self.free(now, owner, given_up.into_iter());
    }

    /// A member of the consumer protocol has given these up.
    pub(crate) fn release(&mut self, now: Instant, owner: &Owner, places: impl Iterator<Item = Place>) {
        if !self.is_lost {
            self.free(now, owner, places);
        }
    }

    /// A member has these from now on.
    pub(crate) fn acquire(&mut self, now: Instant, owner: &Owner, places: impl Iterator<Item = Place>) {
        if self.is_lost {
            return;
        }
        for place in places {
            let freed = self.free.remove(&place);
            let since = freed.as_ref().map(|(since, _)| *since).or(self.empty_since);
            if let Some(since) = since {
                self.longest_without_owner_ms = self.longest_without_owner_ms.max(Some(millis(since, now)));
            }
            if freed.is_none_or(|(_, former)| former != *owner) {
                self.moved.insert(place);
            }
        }
    }

    /// All members of a classic group have what they are told from now on.
    pub(crate) fn assign(&mut self, now: Instant, assigned: BTreeMap<Owner, Vec<Place>>) {
        if self.is_lost {
            return;
        }
        let held = self.held.take().unwrap_or_default();
        self.held_count = 0;
        let mut has: BTreeMap<Place, Owner> = BTreeMap::new();
        for (owner, places) in held {
            has.extend(places.into_iter().map(|place| (place, owner.clone())));
        }
        for (owner, places) in assigned {
            let mut gained = Vec::new();
            for place in places {
                match has.remove(&place) {
                    Some(former) if former == owner => {}
                    // Told to two at once: there was no time without an owner.
                    Some(_) => {
                        self.moved.insert(place);
                    }
                    None => gained.push(place),
                }
            }
            self.acquire(now, &owner, gained.into_iter());
        }
        // Whoever had these learns by its assignment that it has them no longer.
        for (place, former) in has {
            self.free(now, &former, std::iter::once(place));
        }
    }

    /// Forgets partitions without owner that nobody is to have any more.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&Place, Instant) -> bool) {
        self.free.retain(|place, (since, _)| is_wanted(place, *since));
    }

    /// The group has no members left, and nobody has anything.
    pub(crate) fn become_empty(&mut self, now: Instant) -> Option<Moves> {
        let total = self.free.len() + self.held_count;
        let former = std::mem::replace(self, Self { empty_since: Some(now), ..Self::default() });
        (!former.is_lost).then(|| Moves { total, without_owner: total, ..Moves::default() })
    }

    /// What became of the partitions until all members had what they were to have, which are so many now. None if that
    /// is not known.
    pub(crate) fn take_moves(&mut self, owned: usize) -> Option<Moves> {
        let is_lost = std::mem::take(&mut self.is_lost);
        self.empty_since = self.empty_since.filter(|_| owned == 0);
        // Of a topic that was deleted meanwhile nothing has moved.
        let moved = std::mem::take(&mut self.moved).len().min(owned);
        let longest_without_owner_ms = self.longest_without_owner_ms.take();
        let without_owner = self.free.len();
        let total = owned + without_owner;
        (!is_lost).then_some(Moves { total, moved, without_owner, longest_without_owner_ms })
    }

    fn free(&mut self, now: Instant, owner: &Owner, places: impl Iterator<Item = Place>) {
        for place in places {
            self.moved.remove(&place);
            self.free.insert(place, (now, owner.clone()));
        }
    }
}

/// Whole milliseconds from one moment to another.
pub(crate) fn millis(since: Instant, until: Instant) -> u64 {
    u64::try_from(until.saturating_sub(since).as_millis()).unwrap_or(u64::MAX)
}
