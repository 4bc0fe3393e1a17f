//! The way from the classic protocol to the consumer protocol and back, with members (KIP-848): the first member of
//! the consumer protocol makes a consumer group of a classic one, whose members go on as they are; when the last
//! one is gone, those that are left are a classic group again.
//!
//! Differs from Kafka: where a static member of the classic protocol takes the place of the last one of the consumer
//! protocol, the group rebalances also if its target is up to date. And the classic group that comes of a consumer
//! group is told what its members own, not what they were to own: so nothing gets two owners if it becomes a consumer
//! group again before they have joined anew. It has no leader, by which a broker that is restarted sees that they have to:
//! what those had that are gone is nobody's.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use dohle_protocol::messages::consumer_protocol_assignment::TopicPartition;
use dohle_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use dohle_protocol::{Message, Reader};
use dohle_types::{ErrorCode, Str, Timestamp, TopicId};

use super::describe::responsible_for;
use super::records;
use super::replay::replay;
use super::state::{Assignment, ClassicMember, ConsumerGroup, ConsumerMember, MemberState, OwnedPartitions};
use super::subscription::NextGroup;
use crate::cluster::{Cluster, Turn};
use crate::effects::Context;
use crate::group::{CONSUMER_PROTOCOL_TYPE, Group, Member};
use crate::journal::cause::{Cause, CauseKind};
use crate::state::{MemberMetadata, State};
use crate::{GroupLedger, Record};

/// The versions of the consumers' own messages, which begin with their version.
const EMBEDDED_VERSION_MAX: i16 = 3;

/// `group.consumer.migration.policy`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Groups with members stay what they are, and members of the classic protocol do not join consumer groups.
    Disabled,
    /// Classic groups become consumer groups.
    Upgrade,
    /// Consumer groups become classic groups.
    Downgrade,
    /// Both.
    Bidirectional,
}

impl MigrationPolicy {
    /// The policy of this name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let known = [
            ("disabled", Self::Disabled),
            ("upgrade", Self::Upgrade),
            ("downgrade", Self::Downgrade),
            ("bidirectional", Self::Bidirectional),
        ];
        known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|&(_, policy)| policy)
    }

    const fn can_upgrade(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    const fn can_downgrade(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }
}

/// Why a classic group does not become a consumer group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpgradeError {
    #[error("Group {0} is not a consumer group, and group.consumer.migration.policy forbids to make it one")]
    Disabled(Str),
    #[error("Group {0} is not a consumer group, and its members are no consumers")]
    NoConsumers(Str),
    #[error("Group {0} is not a consumer group, and has more than group.consumer.max.size members")]
    TooLarge(Str),
    #[error(
        "Group {0} is not a consumer group, and what its members or their assignor say cannot be understood"
    )]
    NotUnderstood(Str),
}

impl UpgradeError {
    pub(crate) const fn code(&self) -> ErrorCode {
        match self {
            Self::Disabled(_) | Self::NoConsumers(_) | Self::TooLarge(_) | Self::NotUnderstood(_) => {
                ErrorCode::GroupIdNotFound
            }
        }
    }
}

impl GroupLedger {
    /// The consumer group that a classic group with members becomes, and the records of that. Everybody has what he
    /// had, in the epoch of the last generation.
    pub(super) fn upgrade(
        &self,
        classic: &Group,
        cluster: &dyn Cluster,
        written: &mut Vec<Record>,
    ) -> Result<ConsumerGroup, UpgradeError> {
        let group_id = &classic.group_id;
        if !self.config.migration.can_upgrade() {
            return Err(UpgradeError::Disabled(group_id.clone()));
        }
        if !classic.is_consumer_group() {
            return Err(UpgradeError::NoConsumers(group_id.clone()));
        }
        if classic.members().len() > self.config.consumer_group_size_max() {
            return Err(UpgradeError::TooLarge(group_id.clone()));
        }
        let not_understood = || UpgradeError::NotUnderstood(group_id.clone());
        if self.state.group(group_id).is_some_and(|durable| durable.metadata.is_some()) {
            written.push(crate::records::group_metadata_tombstone(group_id));
        }
        let begin = written.len();
        let mut taken = BTreeSet::new();
        let mut members = Vec::new();
        for (member_id, member) in classic.members() {
            let upgraded =
                upgraded_member(classic, member, &mut taken, cluster).ok_or_else(not_understood)?;
            written.push(records::member_metadata(group_id, member_id, &upgraded));
            members.push((member_id, upgraded));
        }
        let subscribed = replayed(&ConsumerGroup::default(), group_id, from(written, begin));
        let hash = NextGroup::without(&subscribed, &[]).metadata_hash(cluster);
        written.push(records::group_metadata(group_id, classic.generation, hash));
        for (member_id, member) in &members {
            written.push(records::target(group_id, member_id, &partitions_of(&member.assigned)));
        }
        written.push(records::target_metadata(group_id, classic.generation, Timestamp(0)));
        for (member_id, member) in &members {
            written.push(records::current_assignment(group_id, member_id, member));
        }
        Ok(replayed(&ConsumerGroup::default(), group_id, from(written, begin)))
    }

    /// Makes a classic group of a consumer group that has only members of the classic protocol left, now that some
    /// are gone. `begin` is where the records of that begin in this call's effects.
    pub(super) fn downgrade_if_classic(
        &mut self,
        group_id: &Str,
        gone: &[Str],
        begin: usize,
        turn: &mut Turn<'_>,
    ) {
        let Some(group) = self.state.consumer_group(group_id).filter(|_| !gone.is_empty()) else { return };
        let stays = |(member_id, member): (&Str, &ConsumerMember)| {
            member.classic.is_none() && !gone.contains(member_id)
        };
        if group.members().iter().any(stays) {
            return;
        }
        // Who is up to date is asked to join again, and not told that its generation is over.
        let generation = group.epoch;
        let group = replayed(group, group_id, from(&turn.effects.records, begin));
        if group.members().is_empty()
            || !self.config.migration.can_downgrade()
            || group.members().len() > self.config.group_size_max()
        {
            return;
        }
        records::group_tombstones(group_id, &group, &mut turn.effects.records);
        self.sessions.remove(group_id);
        self.timers.disarm(group_id);
        let classic = downgraded(group_id, &group, generation, turn);
        self.members_bytes += classic.bytes();
        self.groups.insert(group_id.clone(), classic);
        self.with_group(turn.now, group_id, turn.effects, |classic, context: &mut Context<'_>| {
            context.effects.records.extend(classic.storable_record(context));
            classic.restart_sessions(context.now, |_| true);
            classic.prepare_rebalance(Cause::of_nobody(CauseKind::Downgraded), context);
        });
    }
}

fn from(written: &[Record], begin: usize) -> &[Record] {
    written.get(begin..).unwrap_or_default()
}

/// A group as it is when records are replayed.
fn replayed(group: &ConsumerGroup, group_id: &Str, written: &[Record]) -> ConsumerGroup {
    let mut state = State::default();
    state.replay_consumer_group(group_id.clone(), |fresh| fresh.clone_from(group));
    for record in written {
        let Some((number, key)) = record.key.split_first_chunk::<2>() else { continue };
        let key = record.key.slice_ref(key);
        if let Some(Err(error)) = replay(&mut state, i16::from_be_bytes(*number), &key, record.value.as_ref())
        {
            unreachable!("a ledger reads what it wrote: {error}");
        }
    }
    state.consumer_group(group_id).cloned().unwrap_or_default()
}

/// `None` if what it says, or what was assigned to it, cannot be understood. No partition is given to two.
fn upgraded_member(
    classic: &Group,
    member: &Member,
    taken: &mut BTreeSet<(TopicId, i32)>,
    cluster: &dyn Cluster,
) -> Option<ConsumerMember> {
    let protocol = classic.protocol.as_deref().or_else(|| Some(member.protocols.first()?.0.as_str()));
    let (_, subscription) = read_subscription(&member.subscription(protocol))?;
    let mut assigned = OwnedPartitions::new();
    if !member.assignment.is_empty() {
        let assignment = read_assignment(&member.assignment)?;
        if assignment.user_data.is_some_and(|data| !data.is_empty()) {
            // An assignor of the client's own, whose work the broker cannot go on with.
            return None;
        }
        for topic in assignment.assigned_partitions {
            let Some(known) = cluster.topic(&topic.topic) else { continue };
            let free = topic.partitions.into_iter().filter(|&index| taken.insert((known.id, index)));
            assigned.entry(known.id).or_default().extend(free.map(|index| (index, classic.generation)));
        }
        assigned.retain(|_, partitions: &mut std::collections::BTreeMap<i32, i32>| !partitions.is_empty());
    }
    Some(ConsumerMember {
        epoch: classic.generation,
        previous_epoch: classic.generation,
        state: MemberState::Stable,
        assigned,
        revoking: OwnedPartitions::new(),
        instance_id: member.instance_id.clone(),
        rack_id: subscription.rack_id.filter(|rack| !rack.is_empty()),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        topic_names: subscription.topics.into_iter().collect(),
        topic_regex: Str::default(),
        assignor: None,
        classic: Some(ClassicMember {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        }),
    })
}

fn partitions_of(owned: &OwnedPartitions) -> Assignment {
    owned.iter().map(|(&topic_id, partitions)| (topic_id, partitions.keys().copied().collect())).collect()
}

/// The classic group of the members, stable, with what they own as assignments.
fn downgraded(group_id: &Str, group: &ConsumerGroup, generation: i32, turn: &Turn<'_>) -> Group {
    let mut classic = Group::downgraded(group_id, generation, turn.now);
    for (member_id, member) in group.members() {
        let Some(ClassicMember { session_timeout_ms, protocols }) = &member.classic else { continue };
        let stored = MemberMetadata {
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: *session_timeout_ms,
            subscription: Bytes::new(),
            assignment: written_assignment(&responsible_for(member), member, turn.cluster),
        };
        classic.add_member(member_id.clone(), Member::stored(&stored, protocols.clone()));
    }
    classic.leader = None;
    classic.protocol_type = Some(Str::const_new(CONSUMER_PROTOCOL_TYPE));
    classic.protocol = classic.select_protocol();
    classic.subscribed_topics = classic.read_subscribed_topics();
    classic
}

/// What a consumer says when it joins, with its version.
pub(crate) fn read_subscription(bytes: &Bytes) -> Option<(i16, ConsumerProtocolSubscription)> {
    let (version, body) = read_version(bytes)?;
    let subscription = ConsumerProtocolSubscription::decode(&mut Reader::new(&body), version).ok()?;
    Some((version, subscription))
}

pub(crate) fn read_assignment(bytes: &Bytes) -> Option<ConsumerProtocolAssignment> {
    let (version, body) = read_version(bytes)?;
    ConsumerProtocolAssignment::decode(&mut Reader::new(&body), version).ok()
}

/// A newer version begins as the newest known one does.
fn read_version(bytes: &Bytes) -> Option<(i16, Bytes)> {
    let (version, body) = bytes.split_first_chunk::<2>()?;
    let version = i16::from_be_bytes(*version);
    (version >= 0).then(|| (version.min(EMBEDDED_VERSION_MAX), bytes.slice_ref(body)))
}

/// Partitions as a consumer of the classic protocol wants to be told of them, in the version that it speaks itself.
pub(super) fn written_assignment(
    assignment: &Assignment,
    member: &ConsumerMember,
    cluster: &dyn Cluster,
) -> Bytes {
    let first = member.classic.as_ref().and_then(|classic| classic.protocols.first());
    let version =
        first.and_then(|(_, subscription)| read_version(subscription)).map_or(0, |(version, _)| version);
    let topics = assignment.iter().filter_map(|(&topic_id, partitions)| {
        let topic = cluster.topic_by_id(topic_id)?;
        Some(TopicPartition { topic: topic.name, partitions: partitions.iter().copied().collect() })
    });
    let message = ConsumerProtocolAssignment { assigned_partitions: topics.collect(), user_data: None };
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    bytes.put_slice(&message.to_bytes(version).expect("topic names are short enough for it"));
    bytes.freeze()
}
