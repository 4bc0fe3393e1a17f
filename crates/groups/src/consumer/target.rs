//! The target assignment: what each member of a group is to own in the end.

use std::collections::BTreeMap;
use std::rc::Rc;

use dohle_types::{Now, Str, Timestamp, TopicId};

use super::assignor::{Assignor, Subscriber};
use super::records;
use super::state::{Assignment, ConsumerMember, ResolvedRegex};
use super::subscription::NextGroup;
use crate::Record;
use crate::cluster::Cluster;

/// A new target assignment.
pub(crate) struct NewTarget {
    /// What is to be written: the targets that changed, and the epoch last, so that a part of it is as good as none.
    pub(crate) records: Vec<Record>,
    /// What the member that joined or changed is to own.
    pub(crate) of_member: Assignment,
}

/// Computes the target of a group epoch. A static member that takes another one's place has its target so far.
pub(crate) fn compute(
    group_id: &Str,
    next: &NextGroup<'_>,
    assignor: Assignor,
    epoch: i32,
    now: Now,
    cluster: &dyn Cluster,
) -> NewTarget {
    let mut subscriptions = Subscriptions { cluster, regexes: &next.regexes, known: BTreeMap::new() };
    let subscribers: Vec<Subscriber<'_>> = next
        .members()
        .map(|(member_id, member)| Subscriber {
            member_id,
            instance_id: member.instance_id.as_ref(),
            topics: subscriptions.topics_of(member),
            current: next.former_target(member_id),
        })
        .collect();
    let targets = assignor.assign(&subscribers);
    let mut new = NewTarget { records: Vec::new(), of_member: Assignment::new() };
    for (subscriber, target) in subscribers.iter().zip(targets) {
        let member_id = subscriber.member_id;
        if next.group.target(member_id) != Some(&target) {
            new.records.push(records::target(group_id, member_id, &target));
        }
        if next.member.is_some_and(|(changed, _)| changed == member_id) {
            new.of_member = target;
        }
    }
    new.records.push(records::target_metadata(group_id, epoch, now.wall));
    new
}

/// Whether the time has come for a new target, `group.consumer.assignment.interval.ms` after the last one: when
/// many members join, they are assigned to together.
pub(crate) fn is_due(assigned_at: Option<Timestamp>, interval_ms: i32, now: Now) -> bool {
    // Without an interval at once, also where the clock went back.
    interval_ms == 0 || assigned_at.is_none_or(|at| now.wall.0 >= at.0.saturating_add(i64::from(interval_ms)))
}

/// The assignor that most members prefer, the first of the broker's where there are several of those, or where
/// nobody prefers any.
pub(crate) fn preferred_assignor<'a>(
    members: impl Iterator<Item = &'a ConsumerMember>,
    assignors: &[Assignor],
) -> Assignor {
    let mut votes: Vec<(Assignor, usize)> = assignors.iter().map(|&assignor| (assignor, 0)).collect();
    for preferred in members.filter_map(|member| Assignor::from_name(member.assignor.as_deref()?)) {
        if let Some((_, count)) = votes.iter_mut().find(|(assignor, _)| *assignor == preferred) {
            *count += 1;
        }
    }
    votes
        .into_iter()
        .rev()
        .max_by_key(|&(_, count)| count)
        .map_or(Assignor::Uniform, |(assignor, _)| assignor)
}

impl<'a> NextGroup<'a> {
    /// What a member, or the static member whose place it takes, was to own so far.
    pub(crate) fn former_target(&self, member_id: &str) -> Option<&'a Assignment> {
        let replaced = self
            .member
            .filter(|(changed, _)| *changed == member_id)
            .and_then(|(_, member)| self.group.static_member(member.instance_id.as_ref()?));
        self.group.target(replaced.map_or(member_id, Str::as_str))
    }
}

/// The numbers of partitions of the topics that a member subscribes to.
pub(crate) fn subscribed_topics(
    member: &ConsumerMember,
    regexes: &BTreeMap<Str, ResolvedRegex>,
    cluster: &dyn Cluster,
) -> BTreeMap<TopicId, i32> {
    let matched = regexes.get(&member.topic_regex).map(|resolved| &resolved.topics);
    let names = member.topic_names.iter().chain(matched.into_iter().flatten());
    let topics = names.filter_map(|name| cluster.topic(name));
    topics.map(|topic| (topic.id, topic.partitions)).collect()
}

/// One value for all members that subscribe to the same.
struct Subscriptions<'a> {
    cluster: &'a dyn Cluster,
    regexes: &'a BTreeMap<Str, ResolvedRegex>,
    known: BTreeMap<Subscription<'a>, Rc<BTreeMap<TopicId, i32>>>,
}

/// Names, and a regular expression.
type Subscription<'a> = (Vec<&'a Str>, &'a Str);

impl<'a> Subscriptions<'a> {
    fn topics_of(&mut self, member: &'a ConsumerMember) -> Rc<BTreeMap<TopicId, i32>> {
        let key = (member.topic_names.iter().collect(), &member.topic_regex);
        let topics = self
            .known
            .entry(key)
            .or_insert_with(|| Rc::new(subscribed_topics(member, self.regexes, self.cluster)));
        Rc::clone(topics)
    }
}
