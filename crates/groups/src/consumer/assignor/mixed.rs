//! The uniform assignor where members subscribe to different topics: members keep what they have, each free
//! partition goes to its least loaded subscriber, and then partitions move from the most to the least loaded
//! subscriber of their topic until no such move makes the shares more equal.
//!
//! Topics come in the order of their partitions per subscriber, the most first: who has few others to share with
//! is served before those who can still choose.

use std::collections::{BTreeMap, BTreeSet};

use dohle_types::TopicId;

use super::{Subscriber, kept, remove};
use crate::consumer::state::Assignment;

/// Passes over all topics. Where subscriptions overlap in chains, shares even out by half a pass.
const PASSES_MAX: usize = 16;

pub(super) fn assign(subscribers: &[Subscriber<'_>]) -> Vec<Assignment> {
    let mut shares = Shares::new(kept(subscribers));
    let topics = topics(subscribers);
    for topic in &topics {
        shares.assign_free(topic);
    }
    for _ in 0..PASSES_MAX {
        let moves: usize = topics.iter().map(|topic| shares.balance(topic)).sum();
        if moves == 0 {
            break;
        }
    }
    shares.assignments
}

struct Topic {
    id: TopicId,
    partitions: i32,
    /// By their index.
    subscribers: Vec<usize>,
}

fn topics(subscribers: &[Subscriber<'_>]) -> Vec<Topic> {
    let mut topics: BTreeMap<TopicId, Topic> = BTreeMap::new();
    for (index, subscriber) in subscribers.iter().enumerate() {
        for (&id, &partitions) in subscriber.topics.iter() {
            let topic = topics.entry(id).or_insert(Topic { id, partitions, subscribers: Vec::new() });
            topic.subscribers.push(index);
        }
    }
    let mut topics: Vec<Topic> = topics.into_values().collect();
    topics.sort_by(|a, b| {
        // a.partitions / a.subscribers against b's, without a division.
        let left = u64::from(b.partitions.unsigned_abs()) * a.subscribers.len() as u64;
        let right = u64::from(a.partitions.unsigned_abs()) * b.subscribers.len() as u64;
        left.cmp(&right).then_with(|| a.subscribers.len().cmp(&b.subscribers.len()))
    });
    topics
}

struct Shares {
    assignments: Vec<Assignment>,
    /// How many partitions each member has, of all topics.
    loads: Vec<usize>,
}

impl Shares {
    fn new(assignments: Vec<Assignment>) -> Self {
        let load = |assignment: &Assignment| assignment.values().map(BTreeSet::len).sum();
        Self { loads: assignments.iter().map(load).collect(), assignments }
    }

    fn load(&self, member: usize) -> usize {
        self.loads.get(member).copied().unwrap_or(0)
    }

    fn partitions(&self, member: usize, topic: &Topic) -> Option<&BTreeSet<i32>> {
        self.assignments.get(member)?.get(&topic.id)
    }

    /// The members by load, the least loaded first.
    fn by_load(&self, members: impl Iterator<Item = usize>) -> BTreeSet<(usize, usize)> {
        members.map(|member| (self.load(member), member)).collect()
    }

    fn assign_free(&mut self, topic: &Topic) {
        let owned: BTreeSet<i32> = topic
            .subscribers
            .iter()
            .flat_map(|&member| self.partitions(member, topic).into_iter().flatten().copied())
            .collect();
        let mut by_load = self.by_load(topic.subscribers.iter().copied());
        for partition in (0..topic.partitions).filter(|partition| !owned.contains(partition)) {
            let Some((load, member)) = by_load.pop_first() else { return };
            self.give(topic, partition, member);
            by_load.insert((load + 1, member));
        }
    }

    /// How many partitions of a topic were moved.
    fn balance(&mut self, topic: &Topic) -> usize {
        let mut moves = 0;
        let mut by_load = self.by_load(topic.subscribers.iter().copied());
        let owners = topic.subscribers.iter().copied();
        let mut givers = self.by_load(owners.filter(|&member| self.partitions(member, topic).is_some()));
        while let (Some(&(least, taker)), Some(&(most, giver))) = (by_load.first(), givers.last())
            && most > least + 1
        {
            let Some(&partition) = self.partitions(giver, topic).and_then(BTreeSet::last) else { break };
            for (member, load) in [(taker, least), (giver, most)] {
                by_load.remove(&(load, member));
                givers.remove(&(load, member));
            }
            self.take(topic, partition, giver);
            self.give(topic, partition, taker);
            for member in [taker, giver] {
                by_load.insert((self.load(member), member));
                if self.partitions(member, topic).is_some() {
                    givers.insert((self.load(member), member));
                }
            }
            moves += 1;
        }
        moves
    }

    fn give(&mut self, topic: &Topic, partition: i32, member: usize) {
        if let (Some(assignment), Some(load)) = (self.assignments.get_mut(member), self.loads.get_mut(member))
        {
            assignment.entry(topic.id).or_default().insert(partition);
            *load += 1;
        }
    }

    fn take(&mut self, topic: &Topic, partition: i32, member: usize) {
        if let (Some(assignment), Some(load)) = (self.assignments.get_mut(member), self.loads.get_mut(member))
        {
            remove(assignment, topic.id, partition);
            *load -= 1;
        }
    }
}
