//! The range assignor: the subscribers of a topic, in order, get contiguous ranges of its partitions, and the first
//! ones get one more where they do not come out even. Static members come first, by their instance ids, so that
//! they keep their ranges when they come back under other member ids.

use std::collections::BTreeMap;

use dohle_types::TopicId;

use super::Subscriber;
use crate::consumer::state::Assignment;

pub(super) fn assign(subscribers: &[Subscriber<'_>]) -> Vec<Assignment> {
    let mut order: Vec<(usize, &Subscriber<'_>)> = subscribers.iter().enumerate().collect();
    order.sort_by_key(|(_, member)| (member.instance_id.is_none(), member.instance_id, member.member_id));
    let mut topics: BTreeMap<TopicId, Topic> = BTreeMap::new();
    for (&topic_id, &partitions) in subscribers.iter().flat_map(|member| member.topics.iter()) {
        topics.entry(topic_id).or_insert(Topic { partitions, subscribers: 0, next: 0 }).subscribers += 1;
    }
    let mut assignments = vec![Assignment::new(); subscribers.len()];
    for (index, member) in order {
        let Some(assignment) = assignments.get_mut(index) else { continue };
        for topic_id in member.topics.keys() {
            let Some(topic) = topics.get_mut(topic_id) else { continue };
            let range = topic.next_range();
            if !range.is_empty() {
                assignment.insert(*topic_id, range.collect());
            }
        }
    }
    assignments
}

struct Topic {
    partitions: i32,
    /// Those that have no range yet.
    subscribers: i32,
    /// The first partition that nobody has yet.
    next: i32,
}

impl Topic {
    /// An equal share of what is left, rounded up.
    const fn next_range(&mut self) -> std::ops::Range<i32> {
        let left = self.partitions - self.next;
        let share = left / self.subscribers + (left % self.subscribers != 0) as i32;
        self.subscribers -= 1;
        self.next += share;
        self.next - share..self.next
    }
}
