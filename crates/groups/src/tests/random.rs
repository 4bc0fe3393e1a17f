//! Random histories of members, time, crashes and lost appends, and what must be true of all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use dohle_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use dohle_protocol::messages::leave_group_request::MemberIdentity;
use dohle_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use dohle_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use dohle_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use dohle_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    OffsetCommitRequest, OffsetCommitResponse, SyncGroupRequest, SyncGroupResponse,
};
use dohle_types::{ErrorCode, Str};
use proptest::prelude::*;

use super::host::{Host, assert_same_when_compacted, replayed};
use super::journal::Chain;
use crate::group::{Group, Phase};
use crate::{Caller, Effects, GroupsConfig, Reply, Token};

const CLIENTS: usize = 5;
const GROUP: &str = "g";

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A client does what its state asks for: join, sync, heartbeat.
    Step(usize),
    /// A client joins, whatever it was doing.
    Join(usize),
    /// A client joins with other protocols.
    ChangeProtocols(usize, u8),
    /// A client's process starts anew.
    Forget(usize),
    Leave(usize),
    Commit(usize),
    /// An operator resets the group's offsets.
    Reset,
    Clock(u16),
    /// What was appended becomes durable, and the answers go out.
    CommitLog,
    /// The coordinator loses what was not committed, and all who wait.
    Crash,
    /// The coordinator moves away in order, and back.
    Resign,
}

fn event() -> impl Strategy<Value = Event> {
    let client = 0..CLIENTS;
    prop_oneof![
        20 => client.clone().prop_map(Event::Step),
        2 => client.clone().prop_map(Event::Join),
        1 => (client.clone(), 0_u8..3).prop_map(|(client, choice)| Event::ChangeProtocols(client, choice)),
        1 => client.clone().prop_map(Event::Forget),
        1 => client.clone().prop_map(Event::Leave),
        2 => client.prop_map(Event::Commit),
        1 => Just(Event::Reset),
        4 => (0_u16..4_000).prop_map(Event::Clock),
        1 => (0_u16..40_000).prop_map(Event::Clock),
        12 => Just(Event::CommitLog),
        1 => Just(Event::Crash),
        1 => Just(Event::Resign),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_history_is_consistent(events in prop::collection::vec(event(), 0..250)) {
        let mut world = World::new();
        for event in events {
            world.step(event);
            world.check_ledger();
        }
        world.settle();
        world.finish();
    }
}

/// Where a client stands in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Joining,
    Syncing,
    Member,
    /// It sent a request that waits.
    Waiting(Token),
}

#[derive(Debug)]
struct Client {
    stage: Stage,
    member_id: Str,
    instance_id: Option<Str>,
    generation: i32,
    protocols: u8,
    /// The members that it has to assign to.
    to_assign: Vec<Str>,
}

#[derive(Debug)]
enum Answer {
    Parked(Token, Reply),
    Heartbeat(usize, HeartbeatResponse),
    Commit(i64, OffsetCommitResponse),
}

struct World {
    host: Host<Answer>,
    clients: Vec<Client>,
    /// Who waits for an answer, until it went out or was lost in a crash.
    waiting: BTreeMap<Token, usize>,
    /// Whom the ledger has not answered yet.
    unanswered: BTreeSet<Token>,
    next_token: u64,
    next_offset: i64,
    /// The generation that the last reset ended.
    reset_generation: Option<i32>,
    /// The last offset whose commit was answered.
    committed_offset: Option<i64>,
    /// Leader and protocol by generation, since the coordinator started.
    generations: BTreeMap<i32, (Str, Option<Str>)>,
    /// The stamp on the assignments of a generation, ever.
    stamps: BTreeMap<i32, Bytes>,
    next_stamp: u64,
    /// Records of the log up to which the state was compared with it.
    compared: usize,
    journal: Chain,
}

impl World {
    fn new() -> Self {
        let clients = (0..CLIENTS).map(|index| Client {
            stage: Stage::Joining,
            member_id: Str::default(),
            instance_id: (index >= 3).then(|| Str::from(format!("static-{index}"))),
            generation: -1,
            protocols: 0,
            to_assign: Vec::new(),
        });
        Self {
            host: Host::new(GroupsConfig::default()),
            clients: clients.collect(),
            waiting: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            next_token: 0,
            next_offset: 0,
            reset_generation: None,
            committed_offset: None,
            generations: BTreeMap::new(),
            stamps: BTreeMap::new(),
            next_stamp: 0,
            compared: 0,
            journal: Chain::new(),
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Step(index) => self.client_step(index),
            Event::Join(index) => self.join(index),
            Event::ChangeProtocols(index, choice) => {
                self.clients[index].protocols = choice;
                self.join(index);
            }
            Event::Forget(index) => self.clients[index].forget(),
            Event::Leave(index) => self.leave(index),
            Event::Commit(index) => self.commit(index),
            Event::Reset => self.reset(),
            Event::Clock(ms) => self.advance(Duration::from_millis(ms.into())),
            Event::CommitLog => self.commit_log(),
            Event::Crash => {
                self.host.crash();
                // The reset may be among what is lost.
                self.reset_generation = None;
                self.lose_connections();
                self.load();
            }
            Event::Resign => {
                let mut effects = Effects::default();
                self.host.ledger.resign(&mut effects);
                self.take(effects, None);
                assert!(self.unanswered.is_empty(), "all who wait are answered when the coordinator resigns");
                self.commit_log();
                self.host.crash();
                self.load();
            }
        }
    }

    /// The ledger after a restart, whose state must be what the log says, compacted or not.
    fn load(&mut self) {
        assert_same_when_compacted(&self.host.config, &self.host.log, self.host.ledger.state());
        self.generations.clear();
        self.journal.restart();
        let mut effects = Effects::default();
        self.host.call(&mut effects, |ledger, turn| ledger.on_loaded(turn));
        self.take(effects, None);
    }

    fn lose_connections(&mut self) {
        self.waiting.clear();
        self.unanswered.clear();
        for client in &mut self.clients {
            if matches!(client.stage, Stage::Waiting(_)) {
                client.stage = Stage::Joining;
            }
        }
    }

    fn client_step(&mut self, index: usize) {
        match self.clients[index].stage {
            Stage::Joining => self.join(index),
            Stage::Syncing => self.sync(index),
            Stage::Member => self.heartbeat(index),
            Stage::Waiting(_) => {}
        }
    }

    fn join(&mut self, index: usize) {
        let token = self.token(index);
        let client = &mut self.clients[index];
        client.stage = Stage::Waiting(token);
        let names: &[&str] = match client.protocols {
            0 => &["range"],
            1 => &["range", "sticky"],
            _ => &["sticky", "range"],
        };
        let request = JoinGroupRequest {
            group_id: Str::from(GROUP),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 20_000,
            member_id: client.member_id.clone(),
            group_instance_id: client.instance_id.clone(),
            protocol_type: Str::from("consumer"),
            protocols: names
                .iter()
                .map(|name| JoinGroupRequestProtocol {
                    name: Str::from(*name),
                    metadata: Bytes::from_static(&[0, 0, 0, 0, 0, 0, 255, 255, 255, 255]),
                })
                .collect(),
            reason: None,
        };
        let mut effects = Effects::default();
        self.host.call(&mut effects, |ledger, turn| ledger.join(turn, token, &caller(9), &request));
        self.take(effects, None);
    }

    fn sync(&mut self, index: usize) {
        let token = self.token(index);
        self.next_stamp += 1;
        let stamp = self.next_stamp;
        let client = &mut self.clients[index];
        client.stage = Stage::Waiting(token);
        let assignments = client.to_assign.iter().map(|member_id| SyncGroupRequestAssignment {
            member_id: member_id.clone(),
            assignment: Bytes::from(stamp.to_be_bytes().to_vec()),
        });
        let request = SyncGroupRequest {
            group_id: Str::from(GROUP),
            generation_id: client.generation,
            member_id: client.member_id.clone(),
            group_instance_id: client.instance_id.clone(),
            protocol_type: Some(Str::from("consumer")),
            protocol_name: None,
            assignments: assignments.collect(),
        };
        let mut effects = Effects::default();
        self.host.call(&mut effects, |ledger, turn| ledger.sync(turn, token, &caller(4), &request));
        self.take(effects, None);
    }

    fn heartbeat(&mut self, index: usize) {
        let client = &self.clients[index];
        let request = HeartbeatRequest {
            group_id: Str::from(GROUP),
            generation_id: client.generation,
            member_id: client.member_id.clone(),
            group_instance_id: client.instance_id.clone(),
        };
        let mut effects = Effects::default();
        let response = self.host.call(&mut effects, |ledger, turn| ledger.heartbeat(turn, &request));
        self.take(effects, Some(Answer::Heartbeat(index, response)));
    }

    fn leave(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let request = LeaveGroupRequest {
            group_id: Str::from(GROUP),
            members: vec![MemberIdentity {
                member_id: client.member_id.clone(),
                group_instance_id: client.instance_id.clone(),
                reason: None,
            }],
            ..LeaveGroupRequest::default()
        };
        client.forget();
        let mut effects = Effects::default();
        let _ = self.host.call(&mut effects, |ledger, turn| ledger.leave(turn, &caller(5), &request));
        self.take(effects, None);
    }

    fn commit(&mut self, index: usize) {
        let client = &self.clients[index];
        let request = OffsetCommitRequest {
            generation_id_or_member_epoch: client.generation,
            member_id: client.member_id.clone(),
            group_instance_id: client.instance_id.clone(),
            ..self.next_commit()
        };
        let offset = self.next_offset;
        let mut effects = Effects::default();
        let response = self.host.ledger.commit_offsets(self.host.now, &caller(9), &request, &mut effects);
        let is_of_reset = self.reset_generation == Some(request.generation_id_or_member_epoch);
        let is_refused = response.topics[0].partitions[0].error_code != 0;
        assert!(is_refused || !is_of_reset, "what was reset is not committed over");
        self.take(effects, Some(Answer::Commit(offset, response)));
    }

    fn reset(&mut self) {
        let request = self.next_commit();
        let generation = self.host.ledger.groups.get(GROUP).map(|group| group.generation);
        let mut effects = Effects::default();
        let reset = self.host.call(&mut effects, |ledger, turn| ledger.reset_offsets(turn, &request));
        if reset.is_ok_and(|members| members > 0) {
            self.reset_generation = generation;
        }
        self.take(effects, None);
    }

    /// A commit of the next offset, by nobody.
    fn next_commit(&mut self) -> OffsetCommitRequest {
        self.next_offset += 1;
        OffsetCommitRequest {
            group_id: Str::from(GROUP),
            topics: vec![OffsetCommitRequestTopic {
                name: Str::from("t"),
                partitions: vec![OffsetCommitRequestPartition {
                    committed_offset: self.next_offset,
                    ..OffsetCommitRequestPartition::default()
                }],
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        }
    }

    fn advance(&mut self, by: Duration) {
        let end = self.host.now.instant + by;
        while let Some(at) = self.host.ledger.next_timeout().filter(|&at| at <= end) {
            self.host.advance(at.saturating_sub(self.host.now.instant));
            let mut effects = Effects::default();
            self.host.call(&mut effects, |ledger, turn| ledger.on_timeout(turn));
            self.take(effects, None);
        }
        self.host.advance(end - self.host.now.instant);
    }

    fn token(&mut self, index: usize) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.waiting.insert(token, index);
        self.unanswered.insert(token);
        token
    }

    fn take(&mut self, effects: Effects, answer: Option<Answer>) {
        let mut answers = Vec::new();
        for (token, reply) in &effects.replies {
            assert!(self.unanswered.remove(token), "{token:?} is answered once");
            answers.push(Answer::Parked(*token, reply.clone()));
        }
        answers.extend(answer);
        let entries = self.host.take(effects, answers);
        self.journal.take(&entries);
    }

    fn commit_log(&mut self) {
        for answer in self.host.commit() {
            match answer {
                Answer::Commit(offset, response) => {
                    if response.topics[0].partitions[0].error_code == 0 {
                        self.committed_offset = Some(offset);
                    }
                }
                Answer::Heartbeat(index, response) => {
                    let client = &mut self.clients[index];
                    if client.stage == Stage::Member {
                        client.react(ErrorCode::from_code(response.error_code).unwrap());
                    }
                }
                Answer::Parked(token, reply) => {
                    let index = self.waiting.remove(&token).expect("who waits is known");
                    let is_awaited = self.clients[index].stage == Stage::Waiting(token);
                    match reply {
                        Reply::JoinGroup(response) => self.on_join_response(index, is_awaited, response),
                        Reply::SyncGroup(response) => self.on_sync_response(index, is_awaited, &response),
                    }
                }
            }
        }
    }

    fn on_join_response(&mut self, index: usize, is_awaited: bool, response: JoinGroupResponse) {
        let error = ErrorCode::from_code(response.error_code).unwrap();
        if error.is_none() {
            let leads = response.leader == response.member_id && !response.skip_assignment;
            assert_eq!(response.members.is_empty(), response.leader != response.member_id);
            let protocol = response.protocol_name.clone();
            let leader = self
                .generations
                .entry(response.generation_id)
                .or_insert((response.leader.clone(), protocol.clone()));
            assert_eq!(leader.1, protocol, "all members of a generation have one protocol");
            if leads {
                assert_eq!(leader.0, response.member_id, "a generation has one leader");
            }
        }
        if !is_awaited {
            return;
        }
        let client = &mut self.clients[index];
        if error.is_none() || error == ErrorCode::MemberIdRequired {
            client.member_id = response.member_id;
        }
        if error.is_none() {
            client.generation = response.generation_id;
            client.to_assign = if response.skip_assignment {
                Vec::new()
            } else {
                response.members.into_iter().map(|member| member.member_id).collect()
            };
            client.stage = Stage::Syncing;
        } else {
            client.react(error);
        }
    }

    fn on_sync_response(&mut self, index: usize, is_awaited: bool, response: &SyncGroupResponse) {
        let error = ErrorCode::from_code(response.error_code).unwrap();
        if !is_awaited {
            return;
        }
        let client = &mut self.clients[index];
        if !error.is_none() {
            return client.react(error);
        }
        client.stage = Stage::Member;
        let stamp = self.stamps.entry(client.generation).or_insert_with(|| response.assignment.clone());
        assert_eq!(
            *stamp, response.assignment,
            "all members of a generation have their part of one assignment"
        );
    }

    /// What is true of the ledger after each call, once its records are replayed.
    fn check_ledger(&mut self) {
        let ledger = &self.host.ledger;
        if self.compared != self.host.log.len() {
            self.compared = self.host.log.len();
            assert_eq!(replayed(&self.host.config, &self.host.log).state(), ledger.state(), "invariant 1");
        }
        for (group_id, metadata) in ledger.state().groups_with_members() {
            let group = ledger.groups.get(group_id).expect("invariant 2: members have a soft side");
            assert!(group.phase != Phase::Empty);
            if group.phase == Phase::Stable {
                assert_eq!(group.generation, metadata.generation, "invariant 5");
                self.journal.check_rest(group.generation);
                assert_eq!(group.leader, metadata.leader, "invariant 5");
                assert_eq!(group.protocol, metadata.protocol, "invariant 5");
                let assignments = |(id, assignment): (&Str, &Bytes)| (id.clone(), assignment.clone());
                let soft = group.members().iter().map(|(id, member)| assignments((id, &member.assignment)));
                let durable =
                    metadata.members.iter().map(|(id, member)| assignments((id, &member.assignment)));
                assert!(soft.eq(durable), "invariant 5");
            }
        }
        let bytes: usize = ledger.groups.values().map(Group::bytes).sum();
        assert_eq!(ledger.members_bytes, bytes);
        for group in ledger.groups.values() {
            assert!(!group.is_idle(), "invariant 2");
            let joined = group.members().values().filter(|member| member.is_joined()).count();
            assert_eq!(group.joined(), joined);
            if joined > 0 {
                assert!(
                    matches!(group.phase, Phase::PreparingRebalance { .. }),
                    "only then one waits to join"
                );
            }
            if let Some(leader) = &group.leader {
                assert!(group.members().contains_key(leader), "the leader is a member");
            }
            assert_eq!(group.leader.is_none(), group.members().is_empty(), "members have a leader");
        }
    }

    /// If all goes well for a while, all clients become members of one generation.
    fn settle(&mut self) {
        for _ in 0..60 {
            for index in 0..CLIENTS {
                self.client_step(index);
                self.check_ledger();
            }
            self.commit_log();
            self.advance(Duration::from_secs(1));
            self.commit_log();
        }
        let stages: Vec<Stage> = self.clients.iter().map(|client| client.stage).collect();
        assert_eq!(stages, [Stage::Member; CLIENTS], "all are members");
        let generations: BTreeSet<i32> = self.clients.iter().map(|client| client.generation).collect();
        assert_eq!(generations.len(), 1, "of one generation");
    }

    fn finish(&mut self) {
        self.host.crash();
        let request = OffsetFetchRequestGroup {
            group_id: Str::from(GROUP),
            topics: None,
            ..OffsetFetchRequestGroup::default()
        };
        let response = self.host.ledger.fetch_offsets(&request, false);
        let offset = response.topics.first().map(|topic| topic.partitions[0].committed_offset);
        assert!(offset >= self.committed_offset, "an answered commit survives");
    }
}

impl Client {
    fn forget(&mut self) {
        self.member_id = Str::default();
        self.generation = -1;
        self.stage = Stage::Joining;
    }

    /// Does what a consumer does about an error.
    #[expect(clippy::wildcard_enum_match_arm, reason = "any other error is unexpected")]
    fn react(&mut self, error: ErrorCode) {
        match error {
            ErrorCode::None => {}
            ErrorCode::MemberIdRequired
            | ErrorCode::RebalanceInProgress
            | ErrorCode::NotCoordinator
            | ErrorCode::IllegalGeneration
            // Another process with its name: here, its own former request.
            | ErrorCode::FencedInstanceId => self.stage = Stage::Joining,
            ErrorCode::UnknownMemberId => self.forget(),
            ErrorCode::InconsistentGroupProtocol => {
                self.protocols = 1;
                self.stage = Stage::Joining;
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn caller(api_version: i16) -> Caller {
    Caller { client_id: Str::from("client"), client_host: Str::from("/127.0.0.1"), api_version }
}
