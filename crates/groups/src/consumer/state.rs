//! What survives a restart of a consumer group. Only [`super::replay`] changes it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dohle_types::{Str, Timestamp, TopicId};

use super::member::AWAY;

/// Partitions by topic.
pub type Assignment = BTreeMap<TopicId, BTreeSet<i32>>;

/// Partitions by topic, each with the member epoch in which the member got it.
pub type OwnedPartitions = BTreeMap<TopicId, BTreeMap<i32, i32>>;

/// The epoch that new groups begin before: the first member's is 2, as in Kafka since 4.2.
const EPOCH_INITIAL: i32 = 1;

/// A group of the consumer protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroup {
    /// Grows when something changes that the assignment depends on.
    pub epoch: i32,
    /// The subscribed topics as they were in this epoch, as a number; see [`super::subscription`].
    pub metadata_hash: i64,
    /// The epoch that the target assignment is for.
    pub assignment_epoch: i32,
    /// When the target assignment was computed; none before the first.
    pub assigned_at: Option<Timestamp>,
    /// What the regular expressions of the members match.
    pub regexes: BTreeMap<Str, ResolvedRegex>,
    /// Kafka before 4.1 left a record here that is to be deleted.
    pub has_partition_metadata: bool,
    members: BTreeMap<Str, ConsumerMember>,
    targets: BTreeMap<Str, Assignment>,
    // What follows is derived from the members.
    static_members: BTreeMap<Str, Str>,
    owners: BTreeMap<TopicId, BTreeMap<i32, Str>>,
    subscribers: BTreeMap<Str, usize>,
    regex_subscribers: BTreeMap<Str, usize>,
    /// How many have all of the target of an epoch, by that epoch; those that are away by [`AWAY`].
    arrived: BTreeMap<i32, usize>,
    bytes: usize,
}

/// A member of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMember {
    /// The epoch that it has reached; -2 for a static member that is away (KIP-848).
    pub epoch: i32,
    /// The epoch before: it may not have heard of the new one.
    pub previous_epoch: i32,
    /// Where it stands on the way to its target.
    pub state: MemberState,
    /// What it owns.
    pub assigned: OwnedPartitions,
    /// What it was asked to give up.
    pub revoking: OwnedPartitions,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Str>,
    /// `client.rack`
    pub rack_id: Option<Str>,
    /// `client.id`
    pub client_id: Str,
    /// Where it connected from.
    pub client_host: Str,
    /// How long it may take to give up partitions.
    pub rebalance_timeout_ms: i32,
    /// The topics it subscribes to by name.
    pub topic_names: BTreeSet<Str>,
    /// The topics it subscribes to by a regular expression; empty for none.
    pub topic_regex: Str,
    /// The assignor that it prefers.
    pub assignor: Option<Str>,
    /// Set for a member that speaks the classic protocol in this group.
    pub classic: Option<ClassicMember>,
}

/// What a member of the classic protocol said when it joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicMember {
    /// Its session timeout.
    pub session_timeout_ms: i32,
    /// Its protocols, and its subscription under each.
    pub protocols: Vec<(Str, Bytes)>,
}

/// Where a member stands on the way to its target; the numbers are those of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It has reached its target.
    Stable = 0,
    /// It has to give up partitions first.
    UnrevokedPartitions = 1,
    /// It waits for partitions that others have not given up.
    UnreleasedPartitions = 2,
    /// A state of a newer software.
    Unknown = 127,
}

/// What a regular expression matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedRegex {
    /// The names of the topics.
    pub topics: BTreeSet<Str>,
    /// The version of the cluster's metadata.
    pub version: i64,
    /// When.
    pub at: Timestamp,
}

impl Default for ConsumerMember {
    fn default() -> Self {
        Self {
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: OwnedPartitions::new(),
            revoking: OwnedPartitions::new(),
            instance_id: None,
            rack_id: None,
            client_id: Str::default(),
            client_host: Str::default(),
            rebalance_timeout_ms: -1,
            topic_names: BTreeSet::new(),
            topic_regex: Str::default(),
            assignor: None,
            classic: None,
        }
    }
}

impl ConsumerMember {
    /// Whether it has all of the target of this epoch.
    pub(crate) fn is_reconciled_to(&self, assignment_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == assignment_epoch
    }

    /// The epoch whose target it has, or [`AWAY`].
    fn arrived_in(&self) -> Option<i32> {
        (self.epoch == AWAY || self.state == MemberState::Stable).then_some(self.epoch)
    }

    /// The epoch in which it got a partition that it owns or is giving up.
    pub(crate) fn partition_epoch(&self, topic_id: TopicId, partition: i32) -> Option<i32> {
        let of = |owned: &OwnedPartitions| owned.get(&topic_id)?.get(&partition).copied();
        of(&self.assigned).or_else(|| of(&self.revoking))
    }

    /// Its partitions, with those that it is giving up.
    fn owned(&self) -> impl Iterator<Item = (TopicId, i32)> + '_ {
        partitions_of(&self.assigned).chain(partitions_of(&self.revoking))
    }

    /// Bytes that it takes up, about.
    fn bytes(&self) -> usize {
        /// A member, its ids and names, without what it said about itself.
        const MEMBER: usize = 1024;
        let names: usize = self.topic_names.iter().map(|name| name.len() + 64).sum();
        let protocols = self.classic.iter().flat_map(|classic| &classic.protocols);
        let classic: usize = protocols.map(|(name, subscription)| name.len() + subscription.len()).sum();
        MEMBER + names + self.topic_regex.len() + classic
    }
}

fn partitions_of(owned: &OwnedPartitions) -> impl Iterator<Item = (TopicId, i32)> + '_ {
    owned.iter().flat_map(|(&topic, partitions)| partitions.keys().map(move |&partition| (topic, partition)))
}

impl Default for ConsumerGroup {
    fn default() -> Self {
        Self {
            epoch: EPOCH_INITIAL,
            metadata_hash: 0,
            assignment_epoch: EPOCH_INITIAL,
            assigned_at: None,
            regexes: BTreeMap::new(),
            has_partition_metadata: false,
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            static_members: BTreeMap::new(),
            owners: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            regex_subscribers: BTreeMap::new(),
            arrived: BTreeMap::new(),
            bytes: 0,
        }
    }
}

impl ConsumerGroup {
    /// Its members by member id.
    #[must_use]
    pub const fn members(&self) -> &BTreeMap<Str, ConsumerMember> {
        &self.members
    }

    /// The member of this id.
    #[must_use]
    pub fn member(&self, member_id: &str) -> Option<&ConsumerMember> {
        self.members.get(member_id)
    }

    /// The member id that goes by a `group.instance.id`.
    #[must_use]
    pub fn static_member(&self, instance_id: &str) -> Option<&Str> {
        self.static_members.get(instance_id)
    }

    /// What a member is to own in the end.
    #[must_use]
    pub fn target(&self, member_id: &str) -> Option<&Assignment> {
        self.targets.get(member_id)
    }

    /// The member that owns a partition, or has yet to give it up.
    #[must_use]
    pub fn owner(&self, topic_id: TopicId, partition: i32) -> Option<&Str> {
        self.owners.get(&topic_id)?.get(&partition)
    }

    /// How many members subscribe to a topic by its name.
    pub(crate) fn subscribers(&self) -> &BTreeMap<Str, usize> {
        &self.subscribers
    }

    /// How many members use a regular expression.
    pub(crate) fn regex_subscribers(&self, regex: &str) -> usize {
        self.regex_subscribers.get(regex).copied().unwrap_or(0)
    }

    /// Whether any member subscribes to a topic.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribers.contains_key(topic)
            || self.regexes.values().any(|resolved| resolved.topics.contains(topic))
    }

    /// The name of its state, as Kafka's tools show it.
    pub(crate) fn state_name(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.arrived(self.assignment_epoch) == self.members.len() {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// Whether all members have their target, but for static ones that are away and will be back. Takes the same time however
    /// many members there are.
    pub(crate) fn is_reconciled(&self) -> bool {
        let there = self.arrived(self.assignment_epoch) + self.arrived(AWAY);
        self.epoch == self.assignment_epoch && there == self.members.len()
    }

    fn arrived(&self, epoch: i32) -> usize {
        self.arrived.get(&epoch).copied().unwrap_or(0)
    }

    /// How many partitions its members own.
    pub(crate) fn owned_count(&self) -> usize {
        self.owners.values().map(BTreeMap::len).sum()
    }

    /// Bytes that its members take up, about.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes a member, which may not have been there, and what is derived from it.
    pub(super) fn replay_member(&mut self, member_id: &Str, change: impl FnOnce(&mut ConsumerMember)) {
        let mut member = self.take_member(member_id).unwrap_or_default();
        change(&mut member);
        for topic in &member.topic_names {
            *self.subscribers.entry(topic.clone()).or_default() += 1;
        }
        if !member.topic_regex.is_empty() {
            *self.regex_subscribers.entry(member.topic_regex.clone()).or_default() += 1;
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member_id.clone());
        }
        for (topic_id, partition) in member.owned() {
            self.owners.entry(topic_id).or_default().insert(partition, member_id.clone());
        }
        if let Some(epoch) = member.arrived_in() {
            *self.arrived.entry(epoch).or_default() += 1;
        }
        self.bytes += member.bytes();
        self.members.insert(member_id.clone(), member);
    }

    /// Removes a member, and what is derived from it.
    pub(super) fn take_member(&mut self, member_id: &str) -> Option<ConsumerMember> {
        let member = self.members.remove(member_id)?;
        self.bytes -= member.bytes();
        for topic in &member.topic_names {
            decrement(&mut self.subscribers, topic);
        }
        decrement(&mut self.regex_subscribers, &member.topic_regex);
        if let Some(epoch) = member.arrived_in() {
            decrement(&mut self.arrived, &epoch);
        }
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id).is_some_and(|current| current == member_id)
        {
            self.static_members.remove(instance_id);
        }
        for (topic_id, partition) in member.owned() {
            let Some(owners) = self.owners.get_mut(&topic_id) else { continue };
            if owners.get(&partition).is_some_and(|owner| owner == member_id) {
                owners.remove(&partition);
            }
            if owners.is_empty() {
                self.owners.remove(&topic_id);
            }
        }
        Some(member)
    }

    /// Sets or removes a member's target.
    pub(super) fn replay_target(&mut self, member_id: Str, target: Option<Assignment>) {
        match target {
            Some(target) => self.targets.insert(member_id, target),
            None => self.targets.remove(&member_id),
        };
    }
}

fn decrement<K: Ord>(counts: &mut BTreeMap<K, usize>, name: &K) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}
