//! A member of a group that does nothing else: one connection, and what its group's protocol asks of it. Thousands of
//! them are cheap.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dohle_client::group::GroupProtocol;
use dohle_client::group::assignor::{Assignor, Member as Subscriber};
use dohle_client::group::protocol::{
    decode_assignment, decode_subscription, encode_assignment, encode_subscription,
};
use dohle_client::metadata::check;
use dohle_client::{Effect, Effects, Endpoint, Input, Machine, Peer};
use dohle_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use dohle_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use dohle_protocol::messages::leave_group_request::MemberIdentity;
use dohle_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use dohle_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use dohle_protocol::messages::{
    ApiVersionsRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest, SyncGroupRequest,
};
use dohle_protocol::{Message, Request, encode_request};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Now, Str, TopicId};

/// The one connection.
const PEER: Peer = Peer(0);
/// How long a member waits before it asks again for what cannot be had yet.
const RETRY: Duration = Duration::from_millis(100);
const SESSION_TIMEOUT_MS: i32 = 45_000;
const REBALANCE_TIMEOUT_MS: i32 = 300_000;

/// The topic that all members subscribe to.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Str,
    pub(super) id: TopicId,
    pub(super) partitions: usize,
}

/// What was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Hello,
    Join,
    Sync,
    Heartbeat,
    Beat,
    Commit,
    Leave,
}

/// What took how long.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timed {
    /// A heartbeat.
    Heartbeat(Duration),
    /// A commit.
    Commit(Duration),
}

/// The member; see the module.
pub(super) struct Member {
    endpoint: Endpoint,
    group: Str,
    protocol: GroupProtocol,
    topic: Arc<Topic>,
    /// The broker has taken the connection, and not only its system, which refuses others while too many wait.
    connected: bool,
    connecting: bool,
    /// It does not join before it is told to.
    begun: bool,
    member_id: Str,
    /// Or the member epoch.
    generation: i32,
    joined: bool,
    leaving: bool,
    /// What it owns, by the numbers of partitions.
    owned: BTreeSet<i32>,
    /// Whether the coordinator is to be told what it owns.
    untold: bool,
    heartbeat_interval: Duration,
    /// When it next says something.
    due: Option<Instant>,
    next_correlation: i32,
    in_flight: VecDeque<(i32, Asked, Instant)>,
    /// Takes heartbeats and commits.
    pub(super) timed: Vec<Timed>,
    /// Why it cannot go on.
    pub(super) failure: Option<String>,
}

impl Member {
    pub(super) fn new(
        endpoint: Endpoint,
        group: Str,
        protocol: GroupProtocol,
        topic: Arc<Topic>,
        member_id: Str,
    ) -> Self {
        Self {
            endpoint,
            group,
            protocol,
            topic,
            connected: false,
            connecting: false,
            begun: false,
            // By the classic protocol the coordinator gives the id.
            member_id: if protocol == GroupProtocol::Consumer { member_id } else { Str::default() },
            generation: -1,
            joined: false,
            leaving: false,
            owned: BTreeSet::new(),
            untold: false,
            heartbeat_interval: Duration::from_secs(3),
            due: None,
            next_correlation: 0,
            in_flight: VecDeque::new(),
            timed: Vec::new(),
            failure: None,
        }
    }

    pub(super) const fn is_connected(&self) -> bool {
        self.connected
    }

    /// Joins its group.
    pub(super) fn begin(&mut self, now: Now) {
        self.begun = true;
        self.due = Some(now.instant);
    }

    /// How many partitions it has, once it is a member in good standing.
    pub(super) fn owned(&self) -> Option<usize> {
        self.joined.then_some(self.owned.len())
    }

    /// Commits an offset for each of its partitions.
    pub(super) fn commit(&mut self, now: Now, offset: i64, effects: &mut Effects) {
        let partition = |&partition_index: &i32| OffsetCommitRequestPartition {
            partition_index,
            committed_offset: offset,
            committed_metadata: Some(Str::default()),
            ..OffsetCommitRequestPartition::default()
        };
        let topic = OffsetCommitRequestTopic {
            name: self.topic.name.clone(),
            partitions: self.owned.iter().map(partition).collect(),
            ..OffsetCommitRequestTopic::default()
        };
        let request = OffsetCommitRequest {
            group_id: self.group.clone(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.member_id.clone(),
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        self.send(now, Asked::Commit, &request, 9, effects);
    }

    /// Leaves its group.
    pub(super) fn leave(&mut self, now: Now, effects: &mut Effects) {
        (self.joined, self.due) = (false, None);
        match self.protocol {
            GroupProtocol::Classic => {
                let member_id = self.member_id.clone();
                let members = vec![MemberIdentity { member_id, ..MemberIdentity::default() }];
                let group_id = self.group.clone();
                let request = LeaveGroupRequest { group_id, members, ..LeaveGroupRequest::default() };
                self.send(now, Asked::Leave, &request, 5, effects);
            }
            GroupProtocol::Consumer => {
                let request = ConsumerGroupHeartbeatRequest {
                    group_id: self.group.clone(),
                    member_id: self.member_id.clone(),
                    member_epoch: -1,
                    ..ConsumerGroupHeartbeatRequest::default()
                };
                self.send(now, Asked::Leave, &request, 1, effects);
            }
        }
        self.leaving = true;
    }

    /// Whether everything that it asked was answered.
    pub(super) fn is_answered(&self) -> bool {
        self.in_flight.is_empty()
    }

    fn send<R: Request>(&mut self, now: Now, asked: Asked, request: &R, version: i16, effects: &mut Effects) {
        let correlation = self.next_correlation;
        self.next_correlation = correlation.wrapping_add(1);
        match encode_request(correlation, Some("dohle-bench"), request, version) {
            Ok(frame) => {
                self.in_flight.push_back((correlation, asked, now.instant));
                effects.push(Effect::Send { peer: PEER, frame });
            }
            Err(error) => self.failure = Some(error.to_string()),
        }
    }

    /// Says what is due.
    fn speak(&mut self, now: Now, effects: &mut Effects) {
        if !self.connected || self.due.is_none_or(|due| due > now.instant) {
            return;
        }
        self.due = None;
        match (self.protocol, self.joined) {
            (GroupProtocol::Classic, false) => self.join(now, effects),
            (GroupProtocol::Classic, true) => {
                let request = HeartbeatRequest {
                    group_id: self.group.clone(),
                    generation_id: self.generation,
                    member_id: self.member_id.clone(),
                    group_instance_id: None,
                };
                self.send(now, Asked::Heartbeat, &request, 4, effects);
            }
            (GroupProtocol::Consumer, joined) => self.beat(now, joined, effects),
        }
    }

    fn join(&mut self, now: Now, effects: &mut Effects) {
        let metadata = encode_subscription(&BTreeSet::from([self.topic.name.clone()])).unwrap_or_default();
        let request = JoinGroupRequest {
            group_id: self.group.clone(),
            session_timeout_ms: SESSION_TIMEOUT_MS,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            member_id: self.member_id.clone(),
            group_instance_id: None,
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol { name: Assignor::Range.name().into(), metadata }],
            reason: None,
        };
        self.send(now, Asked::Join, &request, 9, effects);
    }

    fn beat(&mut self, now: Now, joined: bool, effects: &mut Effects) {
        let owned =
            TopicPartitions { topic_id: self.topic.id.0, partitions: self.owned.iter().copied().collect() };
        let owned = if self.owned.is_empty() { Vec::new() } else { vec![owned] };
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.group.clone(),
            member_id: self.member_id.clone(),
            member_epoch: if joined { self.generation } else { 0 },
            rebalance_timeout_ms: if joined { -1 } else { REBALANCE_TIMEOUT_MS },
            subscribed_topic_names: (!joined).then(|| vec![self.topic.name.clone()]),
            topic_partitions: (!joined || self.untold).then_some(owned),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        self.untold = false;
        self.send(now, Asked::Beat, &request, 1, effects);
    }

    fn on_received(&mut self, now: Now, frame: &Bytes, effects: &mut Effects) {
        let Some((correlation, asked, at)) = self.in_flight.pop_front() else { return };
        if asked == Asked::Hello {
            self.connected = true;
            return;
        }
        let (Some(head), Some(body)) = (frame.first_chunk(), frame.get(5..)) else {
            return self.failure = Some("a response without a header".to_owned());
        };
        if i32::from_be_bytes(*head) != correlation {
            return self.failure = Some("responses came out of order".to_owned());
        }
        let body = frame.slice_ref(body);
        let took = now.instant.saturating_sub(at);
        // What is answered to one that leaves does not concern it any more.
        if self.leaving {
            return;
        }
        let done = match asked {
            Asked::Hello | Asked::Leave => Ok(()),
            Asked::Join => decode::<JoinGroupRequest>(&body, 9).map(|it| self.on_joined(now, it, effects)),
            Asked::Sync => decode::<SyncGroupRequest>(&body, 5).map(|it| match check(it.error_code) {
                Ok(()) => {
                    let assigned = decode_assignment(&it.assignment).unwrap_or_default();
                    self.owned = assigned.iter().map(|partition| partition.partition.0).collect();
                    self.joined = true;
                    self.due = Some(now.after(self.heartbeat_interval));
                }
                Err(error) => self.on_error(now, error),
            }),
            Asked::Heartbeat => decode::<HeartbeatRequest>(&body, 4).map(|it| match check(it.error_code) {
                Ok(()) => {
                    self.timed.push(Timed::Heartbeat(took));
                    self.due = Some(now.after(self.heartbeat_interval));
                }
                Err(error) => self.on_error(now, error),
            }),
            Asked::Beat => decode::<ConsumerGroupHeartbeatRequest>(&body, 1).map(|it| {
                if self.joined {
                    self.timed.push(Timed::Heartbeat(took));
                }
                self.on_beat(now, it);
            }),
            Asked::Commit => decode::<OffsetCommitRequest>(&body, 9).map(|it| {
                let partitions = it.topics.iter().flat_map(|topic| &topic.partitions);
                let refused = partitions.filter_map(|it| check(it.error_code).err()).next();
                match refused {
                    None => self.timed.push(Timed::Commit(took)),
                    Some(error) => self.failure = Some(format!("a commit was refused: {error}")),
                }
            }),
        };
        if let Err(error) = done {
            self.failure = Some(error);
        }
    }

    fn on_joined(&mut self, now: Now, response: JoinGroupResponse, effects: &mut Effects) {
        match check(response.error_code) {
            Ok(()) => {}
            Err(ErrorCode::MemberIdRequired) => {
                self.member_id = response.member_id;
                self.due = Some(now.instant);
                return;
            }
            Err(error) => return self.on_error(now, error),
        }
        self.generation = response.generation_id;
        let members = response.members.into_iter().map(|member| Subscriber {
            id: member.member_id,
            instance_id: member.group_instance_id,
            topics: decode_subscription(&member.metadata).unwrap_or_default(),
        });
        let counts = BTreeMap::from([(self.topic.name.clone(), self.topic.partitions)]);
        let assignment = Assignor::Range.assign(members.collect(), &counts);
        let assignments = assignment.into_iter().map(|(member_id, partitions)| SyncGroupRequestAssignment {
            member_id,
            assignment: encode_assignment(&partitions).unwrap_or_default(),
        });
        let request = SyncGroupRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: None,
            protocol_type: Some("consumer".into()),
            protocol_name: Some(Assignor::Range.name().into()),
            assignments: assignments.collect(),
        };
        self.send(now, Asked::Sync, &request, 5, effects);
    }

    fn on_beat(&mut self, now: Now, response: ConsumerGroupHeartbeatResponse) {
        if let Err(error) = check(response.error_code) {
            return self.on_error(now, error);
        }
        self.joined = true;
        self.generation = response.member_epoch;
        let interval_ms = u64::try_from(response.heartbeat_interval_ms).unwrap_or_default();
        self.heartbeat_interval = Duration::from_millis(interval_ms);
        self.due = Some(now.after(self.heartbeat_interval));
        let Some(assignment) = response.assignment else { return };
        let owned = assignment.topic_partitions.into_iter().flat_map(|topic| topic.partitions).collect();
        if self.owned != owned {
            self.owned = owned;
            self.untold = true;
            self.due = Some(now.instant);
        }
    }

    fn on_error(&mut self, now: Now, error: ErrorCode) {
        self.joined = false;
        self.due = Some(now.instant);
        if error == ErrorCode::RebalanceInProgress {
            return;
        }
        self.owned.clear();
        let is_fenced =
            [ErrorCode::UnknownMemberId, ErrorCode::IllegalGeneration, ErrorCode::FencedMemberEpoch]
                .contains(&error);
        if is_fenced {
            if self.protocol == GroupProtocol::Classic {
                self.member_id = Str::default();
            }
        } else if error.is_retriable() {
            self.due = Some(now.after(RETRY));
        } else {
            self.failure = Some(format!("group {} refuses a member: {error}", self.group));
        }
    }
}

impl Machine for Member {
    fn handle(&mut self, now: Now, input: Input, effects: &mut Effects) {
        match input {
            Input::Wake => {
                if !self.connecting {
                    self.connecting = true;
                    effects.push(Effect::Connect { peer: PEER, endpoint: self.endpoint.clone() });
                }
            }
            Input::Connected { .. } => {
                self.send(now, Asked::Hello, &ApiVersionsRequest::default(), 0, effects);
            }
            Input::Received { frame, .. } => self.on_received(now, &frame, effects),
            Input::Closed { reason, .. } => {
                self.connected = false;
                self.failure = Some(format!("a member lost its connection: {reason}"));
            }
        }
        self.speak(now, effects);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.due.filter(|_| self.connected)
    }
}

/// A response.
fn decode<R: Request>(body: &Bytes, version: i16) -> Result<R::Response, String> {
    R::Response::from_bytes(body, version).map_err(|error| format!("{}: {error}", R::KEY.name()))
}
