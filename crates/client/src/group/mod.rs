//! Membership in a consumer group, and the offsets that the group commits. By the classic protocol:
//!
//! ```text
//! Unjoined ─JoinGroup─> Joining ─leader: assign, all: SyncGroup─> Syncing ─> Stable ─Heartbeat…
//!    ^                                                                         │
//!    └──────── rebalance, fenced, coordinator lost ────────────────────────────┘
//! ```
//!
//! Rebalances are eager: a member gives up all partitions before it joins again. By the consumer protocol a member goes
//! from Unjoined through Joining to Stable by heartbeats alone (`incremental.rs`). All requests take the coordination
//! lane, so that what is sent in order is handled in order: a commit before the join that follows it.

pub mod assignor;
pub(crate) mod coordinator;
mod incremental;
pub mod offsets;
pub mod protocol;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use dohle_protocol::Request;
use dohle_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use dohle_protocol::messages::join_group_response::JoinGroupResponseMember;
use dohle_protocol::messages::leave_group_request::MemberIdentity;
use dohle_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use dohle_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
    SyncGroupResponse,
};
use dohle_types::time::Instant;
use dohle_types::{BrokerId, ErrorCode, Now, Offset, Str, TopicPartition};

use crate::cluster::{Reply, Route};
use crate::metadata::check;
use crate::{Cluster, Effects, Failure, Metadata};
use assignor::{Assignor, Member};
use incremental::Owned;

/// How members and coordinator speak (`group.protocol`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum GroupProtocol {
    /// Members join, and their leader assigns.
    #[default]
    Classic,
    /// The coordinator assigns (KIP-848).
    Consumer,
}

/// What a member of a group can be told.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The group's name (`group.id`).
    pub group_id: Str,
    /// How it speaks with the coordinator.
    pub protocol: GroupProtocol,
    /// The name of a static member (`group.instance.id`, KIP-345).
    pub instance_id: Option<Str>,
    /// After what silence the coordinator takes the member for dead (`session.timeout.ms`). By the consumer protocol
    /// the coordinator decides.
    pub session_timeout: Duration,
    /// How long members have for joining again (`max.poll.interval.ms`).
    pub rebalance_timeout: Duration,
    /// How often the member shows that it lives (`heartbeat.interval.ms`). Likewise.
    pub heartbeat_interval: Duration,
    /// How partitions are shared out (`partition.assignment.strategy`), the preferred way first. Likewise.
    pub assignors: Vec<Assignor>,
}

impl GroupConfig {
    /// Kafka's defaults for the group of this name.
    #[must_use]
    pub fn new(group_id: impl Into<Str>) -> Self {
        Self {
            group_id: group_id.into(),
            protocol: GroupProtocol::default(),
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(300),
            heartbeat_interval: Duration::from_secs(3),
            assignors: vec![Assignor::Range, Assignor::RoundRobin],
        }
    }
}

/// What a reply belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GroupToken {
    FindCoordinator,
    Join,
    Sync,
    Heartbeat,
    /// Of the consumer protocol, by which a member also joins.
    Beat {
        joins: bool,
    },
    Leave,
    Commit(BTreeMap<TopicPartition, Offset>),
    FetchOffsets(BTreeSet<TopicPartition>),
}

/// What membership tells the consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GroupEvent {
    /// The member gives up all partitions; with `commit` it may still commit for them.
    Revoked {
        /// Whether the coordinator still takes commits from it.
        commit: bool,
    },
    /// The member has exactly these partitions, and begins with each where the group left off.
    Assigned(Vec<TopicPartition>),
    /// The member has exactly these partitions, and goes on with those that it had.
    Reconciled(Vec<TopicPartition>),
    /// What the group committed; `None` where it did not.
    Offsets(BTreeMap<TopicPartition, Option<Offset>>),
    /// The offsets could not be had; they are to be asked for again.
    OffsetsFailed(BTreeSet<TopicPartition>),
    /// A commit ended.
    Committed(Result<BTreeMap<TopicPartition, Offset>, ErrorCode>),
    /// The member cannot go on.
    Failed(GroupError),
}

/// Why a member cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The coordinator refuses the member.
    #[error("the group refuses this member: {0}")]
    Refused(ErrorCode),
    /// The group does what this client does not know.
    #[error("the group uses protocol {0}, which this client does not know")]
    UnknownProtocol(Str),
    /// The coordinator cannot be spoken to.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// How far the member has come.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// It will join at the given instant.
    Unjoined { at: Instant },
    /// It waits for all others to join.
    Joining,
    /// It will say what it decided; a leader waits for metadata of all topics, the others have no members and
    /// decide nothing.
    Assigning { protocol: Str, members: Vec<Member> },
    /// It waits for its partitions.
    Syncing,
    /// It has its partitions.
    Stable { heartbeat_at: Instant, heartbeat_in_flight: bool },
    /// It leaves, or has left.
    Leaving { done: bool },
    /// It cannot go on.
    Failed,
}

/// A member of a group.
#[derive(Debug)]
pub(crate) struct Membership {
    config: GroupConfig,
    topics: BTreeSet<Str>,
    coordinator: Option<BrokerId>,
    finding: bool,
    retry_at: Instant,
    failures: u32,
    member_id: Str,
    /// Or the member epoch.
    generation: i32,
    owned: Owned,
    phase: Phase,
    /// What the leader shared out, to notice when there is more.
    shared_out: Option<BTreeMap<Str, usize>>,
    events: Vec<GroupEvent>,
}

impl Membership {
    pub(crate) fn new(config: GroupConfig, topics: BTreeSet<Str>) -> Self {
        Self {
            config,
            topics,
            coordinator: None,
            finding: false,
            retry_at: Instant::ZERO,
            failures: 0,
            member_id: Str::default(),
            generation: -1,
            owned: Owned::default(),
            phase: Phase::Unjoined { at: Instant::ZERO },
            shared_out: None,
            events: Vec::new(),
        }
    }

    /// What is to be told, in order.
    pub(crate) fn take_events(&mut self) -> Vec<GroupEvent> {
        std::mem::take(&mut self.events)
    }

    /// Whether the coordinator can be asked for offsets now.
    pub(crate) const fn is_stable(&self) -> bool {
        matches!(self.phase, Phase::Stable { .. })
    }

    /// Whether leaving is over.
    pub(crate) const fn has_left(&self) -> bool {
        matches!(self.phase, Phase::Leaving { done: true } | Phase::Failed)
    }

    /// When to be called again if nothing happens.
    pub(crate) fn next_timeout(&self, polled_at: Instant) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Unjoined { at } => Some(at),
            Phase::Stable { heartbeat_at, heartbeat_in_flight: false } => Some(heartbeat_at),
            Phase::Stable { .. }
            | Phase::Joining
            | Phase::Assigning { .. }
            | Phase::Syncing
            | Phase::Leaving { .. }
            | Phase::Failed => None,
        };
        let coordinator = (self.coordinator.is_none() && !self.finding).then_some(self.retry_at);
        phase.into_iter().chain(coordinator).filter(|&at| at > polled_at).min()
    }

    /// Leaves the group, or is done at once if it is no member.
    pub(crate) fn leave<T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        effects: &mut Effects,
    ) {
        if matches!(self.phase, Phase::Leaving { .. }) {
            return;
        }
        let is_member = !self.member_id.is_empty() && self.phase != Phase::Failed;
        // A static member stays in the group until its session times out, to come back to its partitions.
        let leaves = is_member && self.config.instance_id.is_none();
        let sent = leaves
            && match self.config.protocol {
                GroupProtocol::Classic => self.send_leave(now, cluster, effects),
                GroupProtocol::Consumer => self.beat_last(now, cluster, effects),
            };
        self.phase = Phase::Leaving { done: !sent };
    }

    fn send_leave<T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        effects: &mut Effects,
    ) -> bool {
        let request = LeaveGroupRequest {
            group_id: self.config.group_id.clone(),
            member_id: self.member_id.clone(),
            members: vec![MemberIdentity {
                member_id: self.member_id.clone(),
                group_instance_id: None,
                reason: Some("the consumer was closed".into()),
            }],
        };
        self.send(now, cluster, &request, GroupToken::Leave, effects)
    }

    /// Does what is due.
    pub(crate) fn advance<T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        effects: &mut Effects,
    ) {
        if matches!(self.phase, Phase::Failed) {
            return;
        }
        if self.coordinator.is_none() {
            self.find_coordinator(now, cluster, effects);
        }
        self.take_up(now, cluster);
        match &mut self.phase {
            Phase::Unjoined { at } if *at <= now.instant => match self.config.protocol {
                GroupProtocol::Classic => self.join(now, cluster, effects),
                GroupProtocol::Consumer => self.beat(now, cluster, effects),
            },
            Phase::Assigning { .. } => self.assign(now, cluster, effects),
            Phase::Stable { heartbeat_at, heartbeat_in_flight: false } if *heartbeat_at <= now.instant => {
                match self.config.protocol {
                    GroupProtocol::Classic => self.heartbeat(now, cluster, effects),
                    GroupProtocol::Consumer => self.beat(now, cluster, effects),
                }
            }
            Phase::Unjoined { .. }
            | Phase::Joining
            | Phase::Syncing
            | Phase::Stable { .. }
            | Phase::Leaving { .. }
            | Phase::Failed => {}
        }
        self.watch_shared_out(now, cluster);
    }

    /// Takes in an answer.
    pub(crate) fn on_reply<T>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        token: GroupToken,
        reply: &Reply<T>,
    ) {
        match &reply.result {
            Err(failure) if failure.is_retriable() => self.lose_coordinator(now, cluster),
            Err(failure) => return self.fail(failure.clone().into()),
            Ok(_) => {}
        }
        match token {
            GroupToken::FindCoordinator => self.on_coordinator(now, cluster, reply),
            GroupToken::Join => self.on_joined(now, cluster, reply),
            GroupToken::Sync => self.on_synced(now, cluster, reply),
            GroupToken::Heartbeat => self.on_heartbeat(now, cluster, reply),
            GroupToken::Beat { joins } => self.on_beat(now, cluster, joins, reply),
            GroupToken::Leave => self.phase = Phase::Leaving { done: true },
            GroupToken::Commit(offsets) => self.on_committed(now, cluster, offsets, reply),
            GroupToken::FetchOffsets(partitions) => self.on_offsets(now, cluster, partitions, reply),
        }
    }

    /// Sends to the coordinator, if its connection is ready; whether it was sent.
    fn send<R: Request, T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        request: &R,
        token: GroupToken,
        effects: &mut Effects,
    ) -> bool {
        let Some(broker) = self.coordinator else { return false };
        if cluster.metadata().broker(broker).is_none() {
            self.lose_coordinator(now, cluster);
            return false;
        }
        let route = Route::coordination(broker);
        if cluster.slots(now, route, effects) == 0 {
            return false;
        }
        // The coordinator answers a join when all have joined, or their time is up.
        let patience = match token {
            GroupToken::Join => self.config.rebalance_timeout + Duration::from_secs(5),
            GroupToken::FindCoordinator
            | GroupToken::Sync
            | GroupToken::Heartbeat
            | GroupToken::Beat { .. }
            | GroupToken::Leave
            | GroupToken::Commit(_)
            | GroupToken::FetchOffsets(_) => Duration::ZERO,
        };
        let timeout = patience.max(cluster.config().request_timeout);
        match cluster.send_with_timeout(now, route, request, timeout, T::from(token), effects) {
            Ok(()) => true,
            Err(failure) => {
                self.fail(failure.into());
                false
            }
        }
    }

    fn find_coordinator<T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        effects: &mut Effects,
    ) {
        if self.finding || self.retry_at > now.instant {
            return;
        }
        let Some(route) = cluster.any_route(now, effects) else { return };
        let request = coordinator::request(coordinator::Kind::Group, &self.config.group_id);
        self.finding =
            cluster.send(now, route, &request, T::from(GroupToken::FindCoordinator), effects).is_ok();
    }

    fn on_coordinator<T>(&mut self, now: Now, cluster: &mut Cluster<T>, reply: &Reply<T>) {
        self.finding = false;
        match coordinator::parse(reply) {
            Ok(Ok(broker)) => {
                self.coordinator = Some(broker);
                self.failures = 0;
            }
            Ok(Err(error)) if !error.is_retriable() => self.fail(GroupError::Refused(error)),
            Err(failure) if !failure.is_retriable() => self.fail(failure.into()),
            Ok(Err(_)) | Err(_) => self.back_off(now, cluster),
        }
    }

    fn back_off<T>(&mut self, now: Now, cluster: &mut Cluster<T>) {
        self.failures += 1;
        let backoff = cluster.config().retry_backoff;
        self.retry_at = now.after(backoff.after(self.failures, cluster.rng()));
    }

    fn lose_coordinator<T>(&mut self, now: Now, cluster: &mut Cluster<T>) {
        self.coordinator = None;
        self.finding = false;
        cluster.refresh_metadata(now);
        self.back_off(now, cluster);
    }

    fn join<T: From<GroupToken>>(&mut self, now: Now, cluster: &mut Cluster<T>, effects: &mut Effects) {
        let metadata = match protocol::encode_subscription(&self.topics) {
            Ok(metadata) => metadata,
            Err(error) => return self.fail(Failure::from(error).into()),
        };
        let protocols = self.config.assignors.iter().map(|assignor| JoinGroupRequestProtocol {
            name: assignor.name().into(),
            metadata: metadata.clone(),
        });
        let request = JoinGroupRequest {
            group_id: self.config.group_id.clone(),
            session_timeout_ms: millis(self.config.session_timeout),
            rebalance_timeout_ms: millis(self.config.rebalance_timeout),
            member_id: self.member_id.clone(),
            group_instance_id: self.config.instance_id.clone(),
            protocol_type: "consumer".into(),
            protocols: protocols.collect(),
            reason: None,
        };
        if self.send(now, cluster, &request, GroupToken::Join, effects) {
            self.phase = Phase::Joining;
        }
    }

    fn on_joined<T>(&mut self, now: Now, cluster: &mut Cluster<T>, reply: &Reply<T>) {
        if self.phase != Phase::Joining {
            return;
        }
        let response = match reply.decode::<JoinGroupRequest>() {
            Ok(response) => response,
            Err(failure) => return self.on_failure(now, failure),
        };
        match check(response.error_code) {
            Ok(()) => self.on_generation(now, cluster, response),
            Err(ErrorCode::MemberIdRequired) => {
                self.member_id = response.member_id;
                self.phase = Phase::Unjoined { at: now.instant };
            }
            Err(error) => self.on_error(now, cluster, error),
        }
    }

    fn on_generation<T>(&mut self, now: Now, cluster: &mut Cluster<T>, response: JoinGroupResponse) {
        self.failures = 0;
        self.generation = response.generation_id;
        self.member_id = response.member_id.clone();
        self.shared_out = None;
        let protocol = response.protocol_name.unwrap_or_default();
        // Only the leader is told who the members are.
        let members: Result<Vec<Member>, _> = response.members.into_iter().map(parse_member).collect();
        match members {
            Ok(members) => {
                let all = members
                    .iter()
                    .flat_map(|member| member.topics.iter().cloned())
                    .chain(self.topics.clone());
                cluster.watch_topics(now, all.collect());
                self.phase = Phase::Assigning { protocol, members };
            }
            Err(failure) => self.fail(failure.into()),
        }
    }

    /// Sends what the leader decided, once it knows the topics; the others only ask.
    fn assign<T: From<GroupToken>>(&mut self, now: Now, cluster: &mut Cluster<T>, effects: &mut Effects) {
        let Phase::Assigning { protocol, members } = &self.phase else { return };
        let Some(assignor) = Assignor::from_name(protocol) else {
            return self.fail(GroupError::UnknownProtocol(protocol.clone()));
        };
        let wanted: BTreeSet<&Str> = members.iter().flat_map(|member| &member.topics).collect();
        if wanted.iter().any(|topic| cluster.metadata().topic(topic).is_none()) {
            return;
        }
        let counts = partition_counts(cluster.metadata(), wanted.into_iter());
        let assignment = assignor.assign(members.clone(), &counts);
        let leads = !members.is_empty();
        let mut assignments = Vec::new();
        for (member_id, partitions) in assignment {
            match protocol::encode_assignment(&partitions) {
                Ok(assignment) => assignments.push(SyncGroupRequestAssignment { member_id, assignment }),
                Err(error) => return self.fail(Failure::from(error).into()),
            }
        }
        let request = SyncGroupRequest {
            group_id: self.config.group_id.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.config.instance_id.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some(assignor.name().into()),
            assignments,
        };
        if self.send(now, cluster, &request, GroupToken::Sync, effects) {
            self.phase = Phase::Syncing;
            self.shared_out = leads.then_some(counts);
        }
    }

    fn on_synced<T>(&mut self, now: Now, cluster: &mut Cluster<T>, reply: &Reply<T>) {
        if self.phase != Phase::Syncing {
            return;
        }
        let response: SyncGroupResponse = match reply.decode::<SyncGroupRequest>() {
            Ok(response) => response,
            Err(failure) => return self.on_failure(now, failure),
        };
        match check(response.error_code) {
            Ok(()) => match decode_own(&response.assignment) {
                Ok(partitions) => {
                    self.failures = 0;
                    let heartbeat_at = now.after(self.config.heartbeat_interval);
                    self.phase = Phase::Stable { heartbeat_at, heartbeat_in_flight: false };
                    self.events.push(GroupEvent::Assigned(partitions));
                }
                Err(failure) => self.fail(failure.into()),
            },
            Err(error) => self.on_error(now, cluster, error),
        }
    }

    fn heartbeat<T: From<GroupToken>>(&mut self, now: Now, cluster: &mut Cluster<T>, effects: &mut Effects) {
        let request = HeartbeatRequest {
            group_id: self.config.group_id.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.config.instance_id.clone(),
        };
        if self.send(now, cluster, &request, GroupToken::Heartbeat, effects) {
            let heartbeat_at = now.after(self.config.heartbeat_interval);
            self.phase = Phase::Stable { heartbeat_at, heartbeat_in_flight: true };
        }
    }

    fn on_heartbeat<T>(&mut self, now: Now, cluster: &mut Cluster<T>, reply: &Reply<T>) {
        let Phase::Stable { heartbeat_in_flight, .. } = &mut self.phase else { return };
        *heartbeat_in_flight = false;
        match reply.decode::<HeartbeatRequest>() {
            Ok(response) => match check(response.error_code) {
                Ok(()) => self.failures = 0,
                Err(error) => self.on_error(now, cluster, error),
            },
            // The member is still one; it looks for its coordinator and goes on.
            Err(failure) if failure.is_retriable() => {}
            Err(failure) => self.fail(failure.into()),
        }
    }

    /// What an error in an answer of the coordinator means for the membership.
    fn on_error<T>(&mut self, now: Now, cluster: &mut Cluster<T>, error: ErrorCode) {
        if error == ErrorCode::RebalanceInProgress {
            self.rejoin(now, true);
        } else if matches!(
            error,
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration | ErrorCode::FencedMemberEpoch
        ) || error == ErrorCode::GroupIdNotFound && self.is_stable()
        {
            // By the consumer protocol a member keeps the id that it gave itself.
            if error == ErrorCode::UnknownMemberId && self.config.protocol == GroupProtocol::Classic {
                self.member_id = Str::default();
            }
            self.generation = -1;
            self.rejoin(now, false);
        } else if matches!(error, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) {
            self.lose_coordinator(now, cluster);
            self.try_again(now);
        } else if error.is_retriable() {
            self.back_off(now, cluster);
            self.try_again(now);
        } else {
            self.fail(GroupError::Refused(error));
        }
    }

    fn on_failure(&mut self, now: Now, failure: Failure) {
        if failure.is_retriable() {
            self.try_again(now);
        } else {
            self.fail(failure.into());
        }
    }

    /// Joins once more if that was interrupted; a stable member only goes on.
    fn try_again(&mut self, now: Now) {
        match self.phase {
            Phase::Joining | Phase::Syncing | Phase::Assigning { .. } => {
                self.phase = Phase::Unjoined { at: self.retry_at.max(now.instant) };
            }
            Phase::Unjoined { .. } | Phase::Stable { .. } | Phase::Leaving { .. } | Phase::Failed => {}
        }
    }

    /// Gives up all partitions and joins again.
    fn rejoin(&mut self, now: Now, commit: bool) {
        match self.phase {
            Phase::Stable { .. } => self.events.push(GroupEvent::Revoked { commit }),
            Phase::Leaving { .. } | Phase::Failed => return,
            Phase::Unjoined { .. } | Phase::Joining | Phase::Assigning { .. } | Phase::Syncing => {}
        }
        self.phase = Phase::Unjoined { at: now.instant };
        self.owned = Owned::default();
    }

    fn fail(&mut self, error: GroupError) {
        match self.phase {
            Phase::Leaving { .. } => self.phase = Phase::Leaving { done: true },
            Phase::Failed => {}
            Phase::Unjoined { .. }
            | Phase::Joining
            | Phase::Assigning { .. }
            | Phase::Syncing
            | Phase::Stable { .. } => {
                self.phase = Phase::Failed;
                self.events.push(GroupEvent::Failed(error));
            }
        }
    }

    /// Has the leader share out again when a topic gets more partitions, or appears.
    fn watch_shared_out<T>(&mut self, now: Now, cluster: &Cluster<T>) {
        if let (Some(shared_out), Phase::Stable { .. }) = (&self.shared_out, &self.phase)
            && *shared_out != partition_counts(cluster.metadata(), shared_out.keys())
        {
            self.rejoin(now, true);
        }
    }
}

fn parse_member(member: JoinGroupResponseMember) -> Result<Member, Failure> {
    Ok(Member {
        id: member.member_id,
        instance_id: member.group_instance_id,
        topics: protocol::decode_subscription(&member.metadata)?,
    })
}

fn decode_own(assignment: &Bytes) -> Result<Vec<TopicPartition>, Failure> {
    Ok(protocol::decode_assignment(assignment)?)
}

/// How many partitions each topic has; 0 for those there are not.
fn partition_counts<'a>(metadata: &Metadata, topics: impl Iterator<Item = &'a Str>) -> BTreeMap<Str, usize> {
    let count = |name: &Str| metadata.topic(name).map_or(0, |topic| topic.partitions.len());
    topics.map(|name| (name.clone(), count(name))).collect()
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
