//! Who is to own which partitions: the assignors of the broker (`group.consumer.assignors`).
//!
//! Neither looks at racks, as in Kafka 4.3.1.

mod mixed;
mod range;
mod uniform;

use std::collections::BTreeMap;
use std::rc::Rc;

use dohle_types::{Str, TopicId};

use super::state::Assignment;

/// An assignor of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// As equal shares of all partitions as can be, and as few moves.
    Uniform,
    /// Of each topic a contiguous range to each member, so that partitions of the same number go together.
    Range,
}

/// A member, as the assignors see it.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber<'a> {
    pub(crate) member_id: &'a Str,
    pub(crate) instance_id: Option<&'a Str>,
    /// The number of partitions of each topic that it subscribes to. Subscribers of the same topics share it.
    pub(crate) topics: Rc<BTreeMap<TopicId, i32>>,
    /// What it was to own so far.
    pub(crate) current: Option<&'a Assignment>,
}

impl Assignor {
    /// The assignor of this name, which may be that of Kafka's class.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "uniform" | "org.apache.kafka.coordinator.group.assignor.UniformAssignor" => Some(Self::Uniform),
            "range" | "org.apache.kafka.coordinator.group.assignor.RangeAssignor" => Some(Self::Range),
            _ => None,
        }
    }

    /// The name that members know it by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// What each of the subscribers is to own, in their order.
    pub(crate) fn assign(self, subscribers: &[Subscriber<'_>]) -> Vec<Assignment> {
        let Some((first, others)) = subscribers.split_first() else { return Vec::new() };
        match self {
            Self::Range => range::assign(subscribers),
            Self::Uniform if others.iter().all(|other| Rc::ptr_eq(&other.topics, &first.topics)) => {
                uniform::assign(&first.topics, subscribers)
            }
            Self::Uniform => mixed::assign(subscribers),
        }
    }
}

/// Takes a partition out of an assignment.
fn remove(assignment: &mut Assignment, topic_id: TopicId, partition: i32) {
    if let Some(partitions) = assignment.get_mut(&topic_id) {
        partitions.remove(&partition);
        if partitions.is_empty() {
            assignment.remove(&topic_id);
        }
    }
}

/// What each subscriber can keep: of what it was to own, the partitions of topics that it subscribes to and that
/// no one before it keeps.
fn kept(subscribers: &[Subscriber<'_>]) -> Vec<Assignment> {
    let mut taken = std::collections::BTreeSet::new();
    let kept = subscribers.iter().map(|subscriber| {
        let mut kept = Assignment::new();
        for (&topic_id, partitions) in subscriber.current.into_iter().flatten() {
            let count = subscriber.topics.get(&topic_id).copied().unwrap_or(0);
            let mine = partitions.iter().copied().filter(|&partition| partition < count);
            let mine: std::collections::BTreeSet<i32> =
                mine.filter(|&partition| taken.insert((topic_id, partition))).collect();
            if !mine.is_empty() {
                kept.insert(topic_id, mine);
            }
        }
        kept
    });
    kept.collect()
}
