//! The uniform assignor where all members subscribe to the same topics: shares that differ by one at most. Members
//! keep what they have, up to their share; who has most gets the larger shares.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use dohle_types::TopicId;

use super::{Subscriber, kept, remove};
use crate::consumer::state::Assignment;

pub(super) fn assign(topics: &BTreeMap<TopicId, i32>, subscribers: &[Subscriber<'_>]) -> Vec<Assignment> {
    let mut assignments = kept(subscribers);
    let all = topics.iter().flat_map(|(&topic_id, &count)| (0..count).map(move |index| (topic_id, index)));
    let mut free: BTreeSet<(TopicId, i32)> = all.collect();
    for (&topic_id, partitions) in assignments.iter().flatten() {
        for &partition in partitions {
            free.remove(&(topic_id, partition));
        }
    }
    let total = free.len() + assignments.iter().map(size).sum::<usize>();
    let (share, larger) = (total / subscribers.len(), total % subscribers.len());

    let mut order: Vec<&mut Assignment> = assignments.iter_mut().collect();
    order.sort_by_key(|assignment| Reverse(size(assignment)));
    for (place, assignment) in order.iter_mut().enumerate() {
        let share = share + usize::from(place < larger);
        while size(assignment) > share {
            let Some((topic_id, partition)) = last(assignment) else { break };
            remove(assignment, topic_id, partition);
            free.insert((topic_id, partition));
        }
    }
    for (place, assignment) in order.into_iter().enumerate() {
        let share = share + usize::from(place < larger);
        for _ in size(assignment)..share {
            let Some((topic_id, partition)) = free.pop_first() else { break };
            assignment.entry(topic_id).or_default().insert(partition);
        }
    }
    assignments
}

fn size(assignment: &Assignment) -> usize {
    assignment.values().map(BTreeSet::len).sum()
}

fn last(assignment: &Assignment) -> Option<(TopicId, i32)> {
    let (&topic_id, partitions) = assignment.last_key_value()?;
    Some((topic_id, *partitions.last()?))
}
