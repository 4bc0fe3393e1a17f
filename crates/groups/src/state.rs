//! What survives a restart: group metadata and committed offsets, as the records of the log say.
//!
//! Only `replay.rs` changes it (invariant 1).

use std::collections::BTreeMap;

use bytes::Bytes;
use dohle_types::{LeaderEpoch, Offset, ProducerId, Str, Timestamp, TopicId};

use crate::consumer::state::ConsumerGroup;
use crate::pending::{Pending, Place};

/// All groups of a partition of `__consumer_offsets`, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    groups: BTreeMap<Str, DurableGroup>,
    /// Bytes that the members of consumer groups take up, about.
    consumer_bytes: usize,
    pub(crate) pending: Pending,
}

/// A group as the log knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DurableGroup {
    /// None if no member ever joined: a simple consumer, which only stores its offsets here.
    pub metadata: Option<GroupMetadata>,
    /// Set if the group's protocol is that of KIP-848; then `metadata` is not.
    pub consumer: Option<ConsumerGroup>,
    /// Committed offsets by topic and partition.
    pub offsets: BTreeMap<Str, BTreeMap<i32, CommittedOffset>>,
    /// How many `offsets` there are.
    pub offset_count: usize,
}

/// The last generation that was stored: one whose leader gave an assignment, or an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    /// `consumer`, `connect` or what else the members call themselves.
    pub protocol_type: Option<Str>,
    /// The generation.
    pub generation: i32,
    /// The protocol (to consumers: the assignor) that was chosen for it.
    pub protocol: Option<Str>,
    /// Its leader's member id.
    pub leader: Option<Str>,
    /// When the group came into this state; none in records of Kafka before 2.1.
    pub state_timestamp: Option<Timestamp>,
    /// Its members by member id.
    pub members: BTreeMap<Str, MemberMetadata>,
}

/// A member of a stored generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMetadata {
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<Str>,
    /// `client.id`
    pub client_id: Str,
    /// Where it connected from.
    pub client_host: Str,
    /// How long the group waits for it in a rebalance.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// What it said about itself under the generation's protocol.
    pub subscription: Bytes,
    /// What the leader assigned to it.
    pub assignment: Bytes,
}

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset of the next record to read.
    pub offset: Offset,
    /// The leader epoch of the last record that was read, or [`LeaderEpoch::NONE`].
    pub leader_epoch: LeaderEpoch,
    /// What the client wants to remember with it.
    pub metadata: Str,
    /// When it was committed.
    pub committed_at: Timestamp,
    /// When it expires, if the client said so (OffsetCommit before version 5).
    pub expires_at: Option<Timestamp>,
    /// The topic's id, zero in records of Kafka before 4.2.
    pub topic_id: TopicId,
}

impl State {
    /// The group of this id.
    #[must_use]
    pub fn group(&self, group_id: &str) -> Option<&DurableGroup> {
        self.groups.get(group_id)
    }

    /// All groups in the order of their ids.
    pub fn groups(&self) -> impl Iterator<Item = (&Str, &DurableGroup)> {
        self.groups.iter()
    }

    /// How many groups there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(crate) fn groups_with_members(&self) -> impl Iterator<Item = (&Str, &GroupMetadata)> {
        self.groups.iter().filter_map(|(group_id, group)| {
            let metadata = group.metadata.as_ref().filter(|metadata| !metadata.members.is_empty())?;
            Some((group_id, metadata))
        })
    }

    /// Bytes that the members of consumer groups take up, about.
    pub(crate) const fn consumer_bytes(&self) -> usize {
        self.consumer_bytes
    }

    pub(crate) fn replay_consumer_group(&mut self, group_id: Str, act: impl FnOnce(&mut ConsumerGroup)) {
        let mut bytes = (0, 0);
        self.change(group_id, |group| {
            let consumer = group.consumer.get_or_insert_default();
            bytes.0 = consumer.bytes();
            act(consumer);
            bytes.1 = consumer.bytes();
        });
        self.consumer_bytes = self.consumer_bytes + bytes.1 - bytes.0;
    }

    pub(crate) fn replay_consumer_group_removed(&mut self, group_id: Str) {
        let consumer = self.group(&group_id).and_then(|group| group.consumer.as_ref());
        let Some(bytes) = consumer.map(ConsumerGroup::bytes) else { return };
        self.consumer_bytes -= bytes;
        self.change(group_id, |group| group.consumer = None);
    }

    pub(crate) fn consumer_groups(&self) -> impl Iterator<Item = (&Str, &ConsumerGroup)> {
        self.groups.iter().filter_map(|(group_id, group)| Some((group_id, group.consumer.as_ref()?)))
    }

    pub(crate) fn consumer_group(&self, group_id: &str) -> Option<&ConsumerGroup> {
        self.group(group_id)?.consumer.as_ref()
    }

    pub(crate) fn replay_group_metadata(&mut self, group_id: Str, metadata: Option<GroupMetadata>) {
        self.change(group_id, |group| group.metadata = metadata);
    }

    /// What was committed for a partition by the record at `at`; nothing where the partition's offset was deleted.
    pub(crate) fn commit(&mut self, at: Offset, place: Place, committed: Option<CommittedOffset>) {
        self.pending.supersede(at, &place);
        let (group_id, topic, partition) = place;
        self.replay_offset(group_id, topic, partition, committed);
    }

    /// What a producer's transaction wants to commit for a partition, by the record at `at`. The group is there from now
    /// on, as with Kafka.
    pub(crate) fn commit_pending(
        &mut self,
        producer: ProducerId,
        at: Offset,
        place: Place,
        committed: CommittedOffset,
    ) {
        if !self.groups.contains_key(&place.0) {
            self.groups.insert(place.0.clone(), DurableGroup::default());
        }
        self.pending.add(producer, at, place, committed);
    }

    pub(crate) fn replay_offset(
        &mut self,
        group_id: Str,
        topic: Str,
        partition: i32,
        committed: Option<CommittedOffset>,
    ) {
        let Some(committed) = committed else {
            if let Some(group) = self.groups.get_mut(&group_id) {
                group.forget_offset(&topic, partition);
            }
            return;
        };
        let group = self.groups.entry(group_id).or_default();
        let former = group.offsets.entry(topic).or_default().insert(partition, committed);
        group.offset_count += usize::from(former.is_none());
    }

    /// Changes what a group is, and forgets one that is nothing any more and has no offsets. One that only lost its offsets
    /// is still a group: it is deleted when it expires, or by somebody.
    fn change(&mut self, group_id: Str, change: impl FnOnce(&mut DurableGroup)) {
        let group = self.groups.entry(group_id.clone()).or_default();
        change(group);
        if group.metadata.is_none() && group.consumer.is_none() && group.offset_count == 0 {
            self.groups.remove(&group_id);
        }
    }
}

impl DurableGroup {
    fn forget_offset(&mut self, topic: &str, partition: i32) {
        let Some(partitions) = self.offsets.get_mut(topic) else { return };
        self.offset_count -= usize::from(partitions.remove(&partition).is_some());
        if partitions.is_empty() {
            self.offsets.remove(topic);
        }
    }

    /// The offset committed for a partition.
    #[must_use]
    pub fn offset(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.offsets.get(topic)?.get(&partition)
    }

    /// `consumer`, `connect` or what else; none for a simple consumer.
    #[must_use]
    pub fn protocol_type(&self) -> Option<&Str> {
        self.metadata.as_ref()?.protocol_type.as_ref()
    }
}
