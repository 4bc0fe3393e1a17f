//! The soft side of a group: who is a member now, who waits for what, and until when.
//!
//! | state | meaning | goes on when |
//! |---|---|---|
//! | `Empty` | no members; perhaps some that were given an id and have not joined yet | one joins |
//! | `PreparingRebalance` | members are to join again; those that did wait | all joined, or the time is up |
//! | `CompletingRebalance` | all know the new generation; followers wait for the leader's assignment | the leader syncs |
//! | `Stable` | all have their assignment, and it is in the log | someone joins, leaves or falls silent |
//!
//! Kafka's fifth state, `Dead`, is what is said of a group that does not exist. What it does between these
//! states is in [`crate::rebalance`]; here are the members and the bookkeeping about them.

mod member;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dohle_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use dohle_protocol::messages::{
    ConsumerProtocolSubscription, JoinGroupRequest, JoinGroupResponse, SyncGroupResponse,
};
use dohle_protocol::{Message, Reader};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Now, Str, Timestamp};

use crate::consumer::state::ConsumerGroup;
use crate::state::{DurableGroup, GroupMetadata, MemberMetadata};
use crate::{Effects, Reply, Token};
pub(crate) use member::{Member, MemberError, ParkedJoin, protocols_of, rebalance_timeout_ms};

/// The protocol type of consumers, the only one whose subscriptions the coordinator can read.
pub(crate) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

const REBALANCE_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// Where a group stands; see the table above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Empty,
    PreparingRebalance { deadline: Instant, initial: Option<InitialDelay> },
    CompletingRebalance,
    Stable,
}

/// A group's first rebalance waits for more members, as long as they keep coming (KIP-134).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InitialDelay {
    /// How long this round of waiting is.
    pub(crate) round: Duration,
    /// How much more waiting the rebalance timeout allows after this round.
    pub(crate) remaining: Duration,
    /// Whether someone joined in this round.
    pub(crate) member_added: bool,
}

/// A group that has members or expects some.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) group_id: Str,
    pub(crate) phase: Phase,
    /// When `phase` began.
    pub(crate) phase_since: Timestamp,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<Str>,
    /// The protocol of this generation.
    pub(crate) protocol: Option<Str>,
    pub(crate) leader: Option<Str>,
    /// Members were given an id and asked to join with it (KIP-394), and are forgotten at this time.
    pub(crate) pending: BTreeMap<Str, Instant>,
    /// Members that have not asked for the assignment of this generation, and are removed at this time.
    pub(crate) pending_sync: BTreeSet<Str>,
    pub(crate) sync_deadline: Option<Instant>,
    /// No member, nor one that is pending, has a deadline before this one (`timers.rs`).
    pub(crate) soonest: Option<Instant>,
    /// What the members of this generation subscribe to, if it can be told.
    pub(crate) subscribed_topics: Option<BTreeSet<Str>>,
    members: BTreeMap<Str, Member>,
    /// Member id by `group.instance.id`.
    static_members: BTreeMap<Str, Str>,
    /// How many members support each protocol.
    supported: BTreeMap<Str, usize>,
    /// How many members wait for the end of the rebalance.
    joined: usize,
    /// Bytes of what the members said about themselves.
    protocol_bytes: usize,
}

impl Group {
    /// A group without members, which goes on counting generations where the log left off.
    pub(crate) fn new(group_id: &Str, durable: Option<&DurableGroup>) -> Self {
        let metadata = durable.and_then(|durable| durable.metadata.as_ref());
        let mut group = Self {
            group_id: group_id.clone(),
            phase: Phase::Empty,
            phase_since: metadata.and_then(|metadata| metadata.state_timestamp).unwrap_or(Timestamp::NONE),
            generation: metadata.map_or(0, |metadata| metadata.generation),
            protocol_type: metadata.and_then(|metadata| metadata.protocol_type.clone()),
            protocol: None,
            leader: None,
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            sync_deadline: None,
            soonest: None,
            subscribed_topics: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            supported: BTreeMap::new(),
            joined: 0,
            protocol_bytes: 0,
        };
        group.subscribed_topics = group.read_subscribed_topics();
        group
    }

    /// A group with the members that the log tells of.
    pub(crate) fn loaded(group_id: &Str, metadata: &GroupMetadata) -> Self {
        let mut group = Self::new(group_id, None);
        group.phase = Phase::Stable;
        group.phase_since = metadata.state_timestamp.unwrap_or(Timestamp::NONE);
        group.generation = metadata.generation;
        group.protocol_type.clone_from(&metadata.protocol_type);
        group.protocol.clone_from(&metadata.protocol);
        for (member_id, member) in &metadata.members {
            let protocol = metadata.protocol.clone().unwrap_or_default();
            let protocols = vec![(protocol, member.subscription.clone())];
            group.add_member(member_id.clone(), Member::stored(member, protocols));
        }
        group.leader.clone_from(&metadata.leader);
        group.subscribed_topics = group.read_subscribed_topics();
        group
    }

    /// A stable group that was one of the consumer protocol, to which its members are to be added.
    pub(crate) fn downgraded(group_id: &Str, generation: i32, now: Now) -> Self {
        let mut group = Self::new(group_id, None);
        group.phase = Phase::Stable;
        group.phase_since = now.wall;
        group.generation = generation;
        group
    }

    /// Takes the place of a consumer group without members, whose epochs its generations go on from.
    pub(crate) fn take_over(&mut self, former: &ConsumerGroup, now: Now) {
        self.generation = former.epoch;
        self.protocol_type = Some(Str::const_new(CONSUMER_PROTOCOL_TYPE));
        self.phase_since = now.wall;
        self.subscribed_topics = self.read_subscribed_topics();
    }

    /// What the log has to say of this generation.
    pub(crate) fn to_metadata(&self) -> GroupMetadata {
        let members = self.members.iter().map(|(member_id, member)| {
            let metadata = MemberMetadata {
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                subscription: member.subscription(self.protocol.as_deref()),
                assignment: member.assignment.clone(),
            };
            (member_id.clone(), metadata)
        });
        GroupMetadata {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp: Some(self.phase_since),
            members: members.collect(),
        }
    }

    /// The name of its state, as Kafka's tools show it.
    pub(crate) const fn state_name(&self) -> &'static str {
        match self.phase {
            Phase::Empty => "Empty",
            Phase::PreparingRebalance { .. } => "PreparingRebalance",
            Phase::CompletingRebalance => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }

    /// Whether nothing would be lost by forgetting the soft side.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Empty && self.pending.is_empty()
    }

    pub(crate) fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// Whether a topic's offsets are still needed. Where that cannot be told, a group of consumers is taken to
    /// subscribe to everything.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer_group(),
        }
    }

    pub(crate) const fn members(&self) -> &BTreeMap<Str, Member> {
        &self.members
    }

    pub(crate) fn member(&self, member_id: &str) -> Option<&Member> {
        self.members.get(member_id)
    }

    pub(crate) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.members.values_mut()
    }

    /// A member was heard of.
    pub(crate) fn restart_session(&mut self, member_id: &str, now: Now) -> Option<Instant> {
        let member = self.members.get_mut(member_id)?;
        let deadline = now.after(member.session_timeout());
        member.deadline = Some(deadline);
        self.watch(deadline);
        Some(deadline)
    }

    /// A member waits, so that nothing is to be heard of it.
    pub(crate) fn suspend_session(&mut self, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.deadline = None;
        }
    }

    pub(crate) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// The member id that goes by a `group.instance.id`.
    pub(crate) fn static_member(&self, instance_id: &str) -> Option<&Str> {
        self.static_members.get(instance_id)
    }

    /// How many members wait for the end of the rebalance.
    pub(crate) const fn joined(&self) -> usize {
        self.joined
    }

    /// Whether nobody else is expected to join.
    pub(crate) fn all_joined(&self) -> bool {
        self.joined == self.members.len() && self.pending.is_empty()
    }

    /// The longest that any member asks the group to wait for it, but long enough for the wait to end later
    /// than it began, whatever a client or the log says.
    pub(crate) fn rebalance_timeout(&self) -> Duration {
        let longest = self.members.values().map(|member| millis(member.rebalance_timeout_ms)).max();
        longest.unwrap_or_default().max(REBALANCE_TIMEOUT_MIN)
    }

    /// The member a request speaks for, unless it is fenced or unknown.
    pub(crate) fn validate_member(
        &self,
        member_id: &str,
        instance_id: Option<&Str>,
    ) -> Result<&Member, MemberError> {
        if let Some(instance_id) = instance_id {
            let current = self.static_members.get(instance_id).ok_or(MemberError::Unknown)?;
            if current != member_id {
                return Err(MemberError::Fenced);
            }
        }
        self.members.get(member_id).ok_or(MemberError::Unknown)
    }

    /// Whether someone who supports these protocols can be a member beside those that there are.
    pub(crate) fn supports(&self, protocol_type: &str, protocols: &[JoinGroupRequestProtocol]) -> bool {
        if self.phase == Phase::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.supporters(&protocol.name) == self.members.len())
    }

    /// The protocol that most members would like best among those that all support. Equal votes go to the
    /// first by name.
    pub(crate) fn select_protocol(&self) -> Option<Str> {
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice =
                member.protocols.iter().find(|(name, _)| self.supporters(name) == self.members.len());
            if let Some((name, _)) = choice {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().rev().max_by_key(|&(_, votes)| votes).map(|(name, _)| name.clone())
    }

    fn supporters(&self, protocol: &str) -> usize {
        self.supported.get(protocol).copied().unwrap_or(0)
    }

    /// Adds a member, whose static id and id must be free; the first one leads.
    pub(crate) fn add_member(&mut self, member_id: Str, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member_id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member_id.clone());
        }
        self.pending.remove(&member_id);
        self.joined += usize::from(member.join.is_some());
        self.count_protocols(&member, true);
        if let Some(deadline) = member.deadline {
            self.watch(deadline);
        }
        let former = self.members.insert(member_id, member);
        assert!(former.is_none(), "a member is added once");
    }

    /// Removes a member and, if it led, makes another one lead. Who waits in its name is told that it is gone.
    pub(crate) fn remove_member(&mut self, member_id: &str, effects: &mut Effects) -> Option<Member> {
        self.pending.remove(member_id);
        self.pending_sync.remove(member_id);
        let mut member = self.members.remove(member_id)?;
        self.count_protocols(&member, false);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        if let Some(join) = member.join.take() {
            self.joined -= 1;
            effects.reply_join(join, join_error("", ErrorCode::UnknownMemberId));
        }
        // Differs from Kafka: it leaves a SyncGroup unanswered whose member leaves.
        if let Some(token) = member.sync.take() {
            effects.reply_sync(token, sync_error(ErrorCode::UnknownMemberId));
        }
        Some(member)
    }

    /// Gives the place of a static member to another process (KIP-345). Who waits in the old one's name is
    /// fenced.
    pub(crate) fn replace_static_member(
        &mut self,
        instance_id: &Str,
        old: &Str,
        new: &Str,
        effects: &mut Effects,
    ) {
        let Some(mut member) = self.members.remove(old) else { return };
        if let Some(join) = member.join.take() {
            self.joined -= 1;
            effects.reply_join(join, join_error(old, ErrorCode::FencedInstanceId));
        }
        if let Some(token) = member.sync.take() {
            effects.reply_sync(token, sync_error(ErrorCode::FencedInstanceId));
        }
        member.is_new = false;
        self.pending_sync.remove(old);
        self.members.insert(new.clone(), member);
        self.static_members.insert(instance_id.clone(), new.clone());
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
    }

    /// What a member says about itself when it joins again, and its place to wait.
    pub(crate) fn update_member(
        &mut self,
        member_id: &str,
        request: &JoinGroupRequest,
        join: ParkedJoin,
        effects: &mut Effects,
    ) {
        let Some(mut member) = self.members.remove(member_id) else { return };
        self.count_protocols(&member, false);
        member.protocols = protocols_of(request);
        member.rebalance_timeout_ms = rebalance_timeout_ms(request);
        member.session_timeout_ms = request.session_timeout_ms;
        match member.join.replace(join) {
            // Differs from Kafka: it leaves the first JoinGroup unanswered if a member sends another one.
            Some(former) => {
                effects.reply_join(former, join_error(member_id, ErrorCode::RebalanceInProgress));
            }
            None => self.joined += 1,
        }
        self.count_protocols(&member, true);
        self.members.insert(Str::from(member_id), member);
    }

    /// Bytes that its members take up, about.
    pub(crate) fn bytes(&self) -> usize {
        /// A member, its ids and names, without what it said about itself.
        const MEMBER: usize = 1024;
        (self.members.len() + self.pending.len()) * MEMBER + self.protocol_bytes
    }

    fn count_protocols(&mut self, member: &Member, added: bool) {
        let bytes: usize =
            member.protocols.iter().map(|(name, subscription)| name.len() + subscription.len()).sum();
        if added {
            self.protocol_bytes += bytes;
        } else {
            self.protocol_bytes -= bytes;
        }
        for (name, _) in &member.protocols {
            let count = self.supported.entry(name.clone()).or_default();
            if added {
                *count += 1;
            } else if *count > 1 {
                *count -= 1;
            } else {
                self.supported.remove(name);
            }
        }
    }

    /// Takes the JoinGroup of a member that waits.
    pub(crate) fn take_join(&mut self, member_id: &str) -> Option<ParkedJoin> {
        let join = self.members.get_mut(member_id)?.join.take()?;
        self.joined -= 1;
        Some(join)
    }

    /// Lets a member wait for its assignment.
    pub(crate) fn park_sync(&mut self, member_id: &str, token: Token, effects: &mut Effects) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        if let Some(former) = member.sync.replace(token) {
            // Differs from Kafka: it leaves the first SyncGroup unanswered if a member sends another one.
            effects.reply_sync(former, sync_error(ErrorCode::RebalanceInProgress));
        }
    }

    /// Answers everyone who waits with an error.
    pub(crate) fn refuse_waiting(&mut self, error: ErrorCode, effects: &mut Effects) {
        for (member_id, member) in &mut self.members {
            if let Some(join) = member.join.take() {
                effects.reply_join(join, join_error(member_id, error));
            }
            if let Some(token) = member.sync.take() {
                effects.reply_sync(token, sync_error(error));
            }
        }
        self.joined = 0;
    }

    /// The topics that consumers say they subscribe to; none for other members, or if they cannot be understood.
    pub(crate) fn read_subscribed_topics(&self) -> Option<BTreeSet<Str>> {
        if !self.is_consumer_group() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let subscription = member.subscription(self.protocol.as_deref());
            // Every version begins as version 0 does, after two bytes of version.
            let subscription = subscription.get(2..).map(|rest| subscription.slice_ref(rest))?;
            let mut reader = Reader::new(&subscription);
            topics.extend(ConsumerProtocolSubscription::decode(&mut reader, 0).ok()?.topics);
        }
        Some(topics)
    }
}

impl Effects {
    /// Answers a JoinGroup that waited.
    pub(crate) fn reply_join(&mut self, join: ParkedJoin, mut response: JoinGroupResponse) {
        if join.api_version < 7 && response.protocol_name.is_none() {
            // Before version 7 the name could not be null.
            response.protocol_name = Some(Str::default());
        }
        self.replies.push((join.token, Reply::JoinGroup(response)));
    }

    /// Answers a SyncGroup.
    pub(crate) fn reply_sync(&mut self, token: Token, response: SyncGroupResponse) {
        self.replies.push((token, Reply::SyncGroup(response)));
    }
}

/// A JoinGroup's answer that says only what is wrong.
pub(crate) fn join_error(member_id: &str, error: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse {
        member_id: Str::from(member_id),
        error_code: error.code(),
        ..JoinGroupResponse::default()
    }
}

/// A SyncGroup's answer that says only what is wrong.
pub(crate) fn sync_error(error: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse { error_code: error.code(), ..SyncGroupResponse::default() }
}

/// The time that a number of milliseconds from a client means; negative ones mean none.
pub(crate) const fn millis(ms: i32) -> Duration {
    Duration::from_millis(if ms < 0 { 0 } else { ms.unsigned_abs() as u64 })
}
