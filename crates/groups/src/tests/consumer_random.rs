//! Random histories of members of the consumer protocol and of the classic one beside them, topics, time, crashes and
//! lost answers, and what must be true of all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dohle_protocol::Message;
use dohle_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use dohle_protocol::messages::consumer_protocol_assignment::TopicPartition;
use dohle_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use dohle_protocol::messages::leave_group_request::MemberIdentity;
use dohle_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use dohle_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use dohle_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use dohle_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, ConsumerProtocolAssignment,
    ConsumerProtocolSubscription, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, LeaveGroupRequest,
    OffsetCommitRequest, SyncGroupRequest,
};
use dohle_types::{ErrorCode, Str, TopicId};
use proptest::prelude::*;

use super::host::{Host, assert_same_when_compacted};
use super::journal::Chain;
use crate::consumer::member::AWAY;
use crate::consumer::state::{ConsumerGroup, ConsumerMember};
use crate::{Caller, Cluster, Effects, GroupsConfig, Reply, Token};

const CLIENTS: usize = 4;
const GROUP: &str = "g";
const TOPICS: [&str; 3] = ["t", "tea", "x"];

/// What tells a member to give up all partitions and join again.
const FENCED: [ErrorCode; 5] = [
    ErrorCode::FencedMemberEpoch,
    ErrorCode::UnknownMemberId,
    ErrorCode::GroupIdNotFound,
    ErrorCode::FencedInstanceId,
    ErrorCode::UnreleasedInstanceId,
];

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A client sends a heartbeat; with all that it has to say, or only that it lives.
    Beat(usize, bool),
    /// The answer to the client's last heartbeat arrives, or is lost.
    Answer(usize, bool),
    Subscribe(usize, u8),
    Quit(usize),
    /// A static member goes away, and will be back.
    Away(usize),
    /// A client's process starts anew.
    Forget(usize),
    /// It does so with the other protocol.
    Switch(usize),
    Commit(usize),
    Topic(usize, i32),
    Clock(u16),
    CommitLog,
    Crash,
}

fn event() -> impl Strategy<Value = Event> {
    let client = 0..CLIENTS;
    prop_oneof![
        20 => (client.clone(), any::<bool>()).prop_map(|(client, full)| Event::Beat(client, full)),
        20 => (client.clone(), 0..10).prop_map(|(client, luck)| Event::Answer(client, luck > 0)),
        2 => (client.clone(), 0_u8..4).prop_map(|(client, choice)| Event::Subscribe(client, choice)),
        1 => client.clone().prop_map(Event::Quit),
        1 => client.clone().prop_map(Event::Away),
        1 => client.clone().prop_map(Event::Forget),
        1 => (1..CLIENTS).prop_map(Event::Switch),
        3 => client.prop_map(Event::Commit),
        2 => (0..TOPICS.len(), 0..6).prop_map(|(topic, partitions)| Event::Topic(topic, partitions)),
        4 => (0_u16..4_000).prop_map(Event::Clock),
        1 => (0_u16..40_000).prop_map(Event::Clock),
        12 => Just(Event::CommitLog),
        1 => Just(Event::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_history_of_consumers_is_consistent(
        interval_ms in prop_oneof![Just(0), Just(1_000)],
        events in prop::collection::vec(event(), 0..250),
    ) {
        let mut world = World::new(interval_ms);
        for event in events {
            world.step(event);
            world.check();
        }
        world.settle();
    }
}

fn caller() -> Caller {
    Caller { client_id: Str::from("c"), client_host: Str::from("/127.0.0.1"), api_version: 9 }
}

struct Client {
    member_id: Str,
    instance_id: Option<Str>,
    epoch: i32,
    subscription: u8,
    /// Set while it speaks the classic protocol: what it has to do next.
    classic: Option<Stage>,
    /// The topics that there were when it asked what it owns, by name.
    topics: BTreeMap<Str, TopicId>,
    owned: BTreeSet<(TopicId, i32)>,
    /// A heartbeat whose answer is not there.
    waits: bool,
    /// The number of its last heartbeat: whatever answers an older one came too late.
    asked: u64,
    /// What the coordinator has answered, once it is committed.
    answer: Option<ConsumerGroupHeartbeatResponse>,
    lives: u32,
}

/// What a member of the classic protocol has to do next. It gives up everything before it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Join,
    /// The members that it has to assign to, if it leads.
    Sync(Vec<Str>),
    Live,
    Wait(Token),
}

enum Answer {
    Beat(usize, u64, ConsumerGroupHeartbeatResponse),
    Classic(usize, Token, Reply),
    Heartbeat(usize, HeartbeatResponse),
}

struct World {
    host: Host<Answer>,
    next_token: u64,
    tokens: BTreeMap<Token, usize>,
    clients: Vec<Client>,
    /// The last offset of each partition of the first topic whose commit was accepted.
    next_offset: i64,
    accepted: BTreeMap<i32, i64>,
    compared: usize,
    journal: Chain,
}

impl World {
    fn new(interval_ms: i32) -> Self {
        let mut host = Host::new(GroupsConfig::default());
        host.cluster.settings.assignment_interval_ms = interval_ms;
        host.cluster.set_topic("t", 4);
        let clients = (0..CLIENTS).map(|index| Client {
            member_id: Str::from(format!("{index}-0")),
            instance_id: (index == 3).then(|| Str::from("static")),
            epoch: 0,
            subscription: 0,
            classic: None,
            topics: BTreeMap::new(),
            owned: BTreeSet::new(),
            waits: false,
            asked: 0,
            answer: None,
            lives: 0,
        });
        Self {
            host,
            next_token: 0,
            tokens: BTreeMap::new(),
            clients: clients.collect(),
            next_offset: 0,
            accepted: BTreeMap::new(),
            compared: 0,
            journal: Chain::new(),
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Beat(index, full) => self.beat(index, full),
            Event::Answer(index, arrives) => self.answer(index, arrives),
            Event::Subscribe(index, _) if self.clients[index].classic.is_some() => self.beat(index, true),
            Event::Subscribe(index, choice) => {
                self.clients[index].subscription = choice;
                self.beat(index, true);
            }
            Event::Quit(index) => self.leave(index, -1),
            Event::Away(index) if self.clients[index].instance_id.is_some() => self.leave(index, -2),
            Event::Switch(index) => {
                let client = &mut self.clients[index];
                client.classic = if client.classic.is_none() { Some(Stage::Join) } else { None };
                self.forget(index);
            }
            Event::Forget(index) | Event::Away(index) => self.forget(index),
            Event::Commit(index) => self.commit(index),
            Event::Topic(topic, partitions) => {
                let known = self.host.cluster.topic(TOPICS[topic]).map_or(0, |topic| topic.partitions);
                let partitions = if partitions == 0 { 0 } else { partitions.max(known) };
                self.host.cluster.set_topic(TOPICS[topic], partitions);
            }
            Event::Clock(ms) => self.advance(Duration::from_millis(ms.into())),
            Event::CommitLog => self.commit_log(),
            Event::Crash => {
                // A commit that was not durable was not acknowledged either.
                self.host.crash();
                assert_same_when_compacted(&self.host.config, &self.host.log, self.host.ledger.state());
                self.accepted = self.committed_offsets();
                self.tokens.clear();
                self.journal.restart();
                for client in &mut self.clients {
                    if matches!(client.classic, Some(Stage::Wait(_))) {
                        client.classic = Some(Stage::Join);
                        client.owned.clear();
                    }
                }
                let mut effects = Effects::default();
                self.host.call(&mut effects, |ledger, turn| ledger.on_loaded(turn));
                self.take(effects, None);
            }
        }
    }

    fn request(&self, index: usize, epoch: i32, full: bool) -> ConsumerGroupHeartbeatRequest {
        let client = &self.clients[index];
        let full = full || epoch == 0;
        let (names, regex): (&[&str], &str) = match client.subscription {
            0 => (&["t"], ""),
            1 => (&["t", "x"], ""),
            2 => (&[], "t.*"),
            _ => (&["x"], "tea"),
        };
        let mut owned: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        for &(topic_id, partition) in &client.owned {
            owned.entry(topic_id).or_default().push(partition);
        }
        let owned = owned.into_iter().map(|(id, partitions)| TopicPartitions { topic_id: id.0, partitions });
        ConsumerGroupHeartbeatRequest {
            group_id: Str::from(GROUP),
            member_id: client.member_id.clone(),
            member_epoch: epoch,
            instance_id: client.instance_id.clone(),
            rebalance_timeout_ms: if full { 20_000 } else { -1 },
            subscribed_topic_names: full.then(|| names.iter().map(|name| Str::from(*name)).collect()),
            subscribed_topic_regex: full.then(|| Str::from(regex)),
            topic_partitions: full.then(|| owned.collect()),
            ..ConsumerGroupHeartbeatRequest::default()
        }
    }

    /// Takes what a call did; `answer` is what it returned.
    fn take(&mut self, mut effects: Effects, answer: Option<Answer>) {
        let tokens = &mut self.tokens;
        let parked = std::mem::take(&mut effects.replies)
            .into_iter()
            .filter_map(|(token, reply)| Some(Answer::Classic(tokens.remove(&token)?, token, reply)));
        let answers: Vec<Answer> = parked.chain(answer).collect();
        let entries = self.host.take(effects, answers);
        self.journal.take(&entries);
    }

    fn token(&mut self, index: usize) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.tokens.insert(token, index);
        self.clients[index].classic = Some(Stage::Wait(token));
        token
    }

    /// A member of the classic protocol does what it has to do next.
    fn step_classic(&mut self, index: usize, stage: Stage) {
        let mut effects = Effects::default();
        let instance_id = self.clients[index].instance_id.clone();
        let member_id = self.clients[index].member_id.clone();
        match stage {
            Stage::Wait(_) => return,
            Stage::Join => {
                self.clients[index].owned.clear();
                let token = self.token(index);
                let names: &[&str] = if self.clients[index].subscription == 1 { &["t", "x"] } else { &["t"] };
                let subscription = ConsumerProtocolSubscription {
                    topics: names.iter().map(|name| Str::from(*name)).collect(),
                    ..ConsumerProtocolSubscription::default()
                };
                let metadata = [&[0, 0][..], &subscription.to_bytes(0).unwrap()].concat().into();
                let request = JoinGroupRequest {
                    group_id: Str::from(GROUP),
                    session_timeout_ms: 45_000,
                    rebalance_timeout_ms: 20_000,
                    member_id,
                    group_instance_id: instance_id,
                    protocol_type: Str::from("consumer"),
                    protocols: vec![JoinGroupRequestProtocol { name: Str::from("range"), metadata }],
                    reason: None,
                };
                self.host.call(&mut effects, |ledger, turn| ledger.join(turn, token, &caller(), &request));
            }
            Stage::Sync(members) => {
                let token = self.token(index);
                let known = TOPICS.iter().filter_map(|name| self.host.cluster.topic(name));
                self.clients[index].topics = known.map(|topic| (topic.name, topic.id)).collect();
                let topic = self.host.cluster.topic("t");
                let partitions = topic.map_or(0, |topic| topic.partitions);
                let assignments = (0..).zip(&members).map(|(place, member_id)| {
                    let mine =
                        (0..partitions).filter(|at| at % i32::try_from(members.len()).unwrap() == place);
                    let assignment = ConsumerProtocolAssignment {
                        assigned_partitions: vec![TopicPartition {
                            topic: Str::from("t"),
                            partitions: mine.collect(),
                        }],
                        user_data: None,
                    };
                    SyncGroupRequestAssignment {
                        member_id: member_id.clone(),
                        assignment: [&[0, 0][..], &assignment.to_bytes(0).unwrap()].concat().into(),
                    }
                });
                let request = SyncGroupRequest {
                    group_id: Str::from(GROUP),
                    generation_id: self.clients[index].epoch,
                    member_id,
                    group_instance_id: instance_id,
                    protocol_type: Some(Str::from("consumer")),
                    protocol_name: Some(Str::from("range")),
                    assignments: assignments.collect(),
                };
                self.host.call(&mut effects, |ledger, turn| ledger.sync(turn, token, &caller(), &request));
            }
            Stage::Live => {
                let request = HeartbeatRequest {
                    group_id: Str::from(GROUP),
                    generation_id: self.clients[index].epoch,
                    member_id,
                    group_instance_id: instance_id,
                };
                let response = self.host.call(&mut effects, |ledger, turn| ledger.heartbeat(turn, &request));
                return self.take(effects, Some(Answer::Heartbeat(index, response)));
            }
        }
        self.take(effects, None);
    }

    fn learn_classic(&mut self, index: usize, reply: Reply) {
        let client = &mut self.clients[index];
        let error = match reply {
            Reply::JoinGroup(response) => {
                if response.error_code == ErrorCode::MemberIdRequired.code() {
                    client.member_id = response.member_id;
                    client.classic = Some(Stage::Join);
                    return;
                }
                client.epoch = response.generation_id;
                if response.error_code == 0 {
                    client.member_id = response.member_id;
                }
                let members = response.members.into_iter().map(|member| member.member_id);
                client.classic = Some(Stage::Sync(members.collect()));
                response.error_code
            }
            Reply::SyncGroup(response) => {
                client.classic = Some(Stage::Live);
                if response.error_code == 0 && response.assignment.len() > 2 {
                    let body = response.assignment.slice(2..);
                    let assignment = ConsumerProtocolAssignment::from_bytes(&body, 0).unwrap();
                    for topic in assignment.assigned_partitions {
                        // It may be gone meanwhile, and there may be another one of its name.
                        let Some(&id) = client.topics.get(&topic.topic) else { continue };
                        client.owned.extend(topic.partitions.into_iter().map(|at| (id, at)));
                    }
                }
                response.error_code
            }
        };
        self.on_classic_error(index, error);
    }

    fn on_classic_error(&mut self, index: usize, error: i16) {
        let client = &mut self.clients[index];
        let error = ErrorCode::from_code(error).unwrap();
        if error == ErrorCode::None {
            return;
        }
        client.classic = Some(Stage::Join);
        if error != ErrorCode::RebalanceInProgress {
            let known =
                [ErrorCode::UnknownMemberId, ErrorCode::FencedInstanceId, ErrorCode::IllegalGeneration];
            assert!(known.contains(&error), "{error:?}");
            client.owned.clear();
        }
        if [ErrorCode::UnknownMemberId, ErrorCode::FencedInstanceId].contains(&error) {
            client.member_id = Str::default();
        }
    }

    fn beat(&mut self, index: usize, full: bool) {
        if let Some(stage) = self.clients[index].classic.clone() {
            return self.step_classic(index, stage);
        }
        if std::mem::replace(&mut self.clients[index].waits, true) {
            return;
        }
        self.clients[index].asked += 1;
        let request = self.request(index, self.clients[index].epoch, full);
        self.send(index, &request);
    }

    fn send(&mut self, index: usize, request: &ConsumerGroupHeartbeatRequest) {
        let caller = Caller { api_version: 1, ..caller() };
        let mut effects = Effects::default();
        let response = self
            .host
            .call(&mut effects, |ledger, turn| ledger.consumer_group_heartbeat(turn, &caller, request));
        let asked = self.clients[index].asked;
        self.take(effects, Some(Answer::Beat(index, asked, response)));
    }

    fn commit_log(&mut self) {
        for answer in self.host.commit() {
            match answer {
                Answer::Beat(index, asked, response) => {
                    let client = &mut self.clients[index];
                    if client.waits && client.asked == asked {
                        client.answer = Some(response);
                    }
                }
                Answer::Classic(index, token, reply) => {
                    if self.clients[index].classic == Some(Stage::Wait(token)) {
                        self.learn_classic(index, reply);
                    }
                }
                Answer::Heartbeat(index, response) => {
                    if self.clients[index].classic == Some(Stage::Live) {
                        self.on_classic_error(index, response.error_code);
                    }
                }
            }
        }
    }

    fn answer(&mut self, index: usize, arrives: bool) {
        if self.clients[index].classic.is_some() {
            return;
        }
        let client = &mut self.clients[index];
        let answer = client.answer.take();
        client.waits = false;
        let Some(answer) = answer.filter(|_| arrives) else {
            // Whoever heard nothing says everything again.
            return self.beat(index, true);
        };
        if answer.error_code != 0 {
            let error = ErrorCode::from_code(answer.error_code).unwrap();
            assert!(FENCED.contains(&error), "{error:?} {:?}", answer.error_message);
            client.owned.clear();
            client.epoch = 0;
            return;
        }
        client.epoch = answer.member_epoch;
        if let Some(assignment) = answer.assignment {
            let topics = assignment.topic_partitions.into_iter();
            client.owned = topics
                .flat_map(|topic| {
                    let id = TopicId(topic.topic_id);
                    topic.partitions.into_iter().map(move |partition| (id, partition))
                })
                .collect();
        }
    }

    fn leave(&mut self, index: usize, epoch: i32) {
        if self.clients[index].classic.is_some() {
            let client = &self.clients[index];
            let identity = MemberIdentity {
                member_id: client.member_id.clone(),
                group_instance_id: client.instance_id.clone(),
                reason: None,
            };
            let request = LeaveGroupRequest {
                group_id: Str::from(GROUP),
                members: vec![identity],
                ..LeaveGroupRequest::default()
            };
            let mut effects = Effects::default();
            let _ = self.host.call(&mut effects, |ledger, turn| ledger.leave(turn, &caller(), &request));
            self.take(effects, None);
            return self.forget(index);
        }
        let request = self.request(index, epoch, false);
        self.send(index, &request);
        self.forget(index);
    }

    fn forget(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.lives += 1;
        client.member_id = Str::from(format!("{index}-{}", client.lives));
        client.epoch = 0;
        client.owned.clear();
        client.asked += 1;
        client.waits = false;
        client.answer = None;
        if client.classic.is_some() {
            client.classic = Some(Stage::Join);
            client.member_id = Str::default();
        }
    }

    fn commit(&mut self, index: usize) {
        let Some(topic) = self.host.cluster.topic("t") else { return };
        let client = &self.clients[index];
        if client.classic.is_some() {
            return;
        }
        let Some(&(_, partition)) = client.owned.iter().find(|(id, _)| *id == topic.id) else { return };
        self.next_offset += 1;
        let request = OffsetCommitRequest {
            group_id: Str::from(GROUP),
            generation_id_or_member_epoch: client.epoch,
            member_id: client.member_id.clone(),
            retention_time_ms: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: Str::from("t"),
                topic_id: topic.id.0,
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: partition,
                    committed_offset: self.next_offset,
                    ..OffsetCommitRequestPartition::default()
                }],
            }],
            ..OffsetCommitRequest::default()
        };
        let caller = Caller { client_id: Str::default(), client_host: Str::default(), api_version: 9 };
        let mut effects = Effects::default();
        let response = self.host.ledger.commit_offsets(self.host.now, &caller, &request, &mut effects);
        self.host.take(effects, None);
        let client = &self.clients[index];
        let is_member = self.group().is_some_and(|group| group.member(&client.member_id).is_some());
        let error = ErrorCode::from_code(response.topics[0].partitions[0].error_code).unwrap();
        if error == ErrorCode::None {
            assert!(is_member, "only members commit");
            self.accepted.insert(partition, self.next_offset);
        } else {
            assert!(!is_member, "a member may commit what it owns: {error:?}");
        }
    }

    fn committed_offsets(&self) -> BTreeMap<i32, i64> {
        let request = OffsetFetchRequestGroup {
            group_id: Str::from(GROUP),
            topics: None,
            ..OffsetFetchRequestGroup::default()
        };
        let fetched = self.host.ledger.fetch_offsets(&request, false);
        fetched
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| (partition.partition_index, partition.committed_offset))
            .collect()
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

    fn group(&self) -> Option<&ConsumerGroup> {
        self.host.ledger.state().group(GROUP)?.consumer.as_ref()
    }

    /// Nobody owns what another one has not given up, and members know of no more than they own.
    fn check(&mut self) {
        assert_eq!(self.committed_offsets(), self.accepted, "offsets never go back");
        let Some(group) = self.group() else { return };
        let is_there =
            |member: &ConsumerMember| member.epoch == AWAY || member.is_reconciled_to(group.assignment_epoch);
        let all_are_there = group.members().values().all(is_there);
        assert_eq!(group.is_reconciled(), group.epoch == group.assignment_epoch && all_are_there);
        if group.is_reconciled() {
            self.journal.check_rest(group.epoch);
        }
        let mut owners: BTreeMap<(TopicId, i32), &Str> = BTreeMap::new();
        for (member_id, member) in group.members() {
            for (&topic_id, partitions) in member.assigned.iter().chain(&member.revoking) {
                for &partition in partitions.keys() {
                    let other = owners.insert((topic_id, partition), member_id);
                    assert_eq!(other, None, "{topic_id} {partition} has two owners, {member_id} is one");
                    assert_eq!(group.owner(topic_id, partition), Some(member_id));
                }
            }
        }
        for client in &self.clients {
            if client.epoch > 0
                && client.classic.as_ref().is_none_or(|stage| *stage == Stage::Live)
                && group.member(&client.member_id).is_some_and(|member| member.epoch > 0)
            {
                // A deleted topic cannot be told of by name to those of the classic protocol.
                for place in
                    client.owned.iter().filter(|place| self.host.cluster.topic_by_id(place.0).is_some())
                {
                    assert_eq!(owners.get(place).copied(), Some(&client.member_id), "{place:?}");
                }
            }
        }
        if self.host.log.len() > self.compared + 200 {
            self.compared = self.host.log.len();
            assert_same_when_compacted(&self.host.config, &self.host.log, self.host.ledger.state());
        }
    }

    /// When nothing happens any more, each partition gets the owner that it is to have, and shares are equal.
    fn settle(&mut self) {
        self.commit_log();
        for _ in 0..24 {
            for index in 0..CLIENTS {
                self.answer(index, true);
                self.beat(index, true);
                self.commit_log();
                self.check();
            }
            self.advance(Duration::from_secs(6));
        }
        let group = self.group().expect("all have joined");
        assert_eq!(group.members().len(), CLIENTS);
        assert_eq!(group.epoch, group.assignment_epoch);
        let mut sizes = Vec::new();
        for client in &self.clients {
            let member = group.member(&client.member_id).expect("a client that lives is a member");
            assert!(member.is_reconciled_to(group.epoch), "{member:?}");
            assert_eq!(member.epoch, client.epoch);
            let owned: BTreeSet<(TopicId, i32)> =
                member.assigned.iter().flat_map(|(&id, of)| of.keys().map(move |&at| (id, at))).collect();
            assert_eq!(owned, client.owned);
            sizes.push(owned.len());
        }
        let subscribed = |name: &str| {
            self.clients.iter().any(|client| match client.subscription {
                _ if client.classic.is_some() => name == "t" || client.subscription == 1 && name == "x",
                0 => name == "t",
                1 => name != "tea",
                2 => name != "x",
                _ => name != "t",
            })
        };
        for topic in TOPICS.iter().filter_map(|name| self.host.cluster.topic(name)) {
            for partition in 0..topic.partitions {
                let owned = group.owner(topic.id, partition).is_some();
                assert_eq!(owned, subscribed(&topic.name), "{} {partition}", topic.name);
            }
        }
        let as_the_first =
            |client: &Client| client.classic.is_none() && client.subscription == self.clients[0].subscription;
        if self.clients.iter().all(as_the_first) {
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            assert!(most - least <= 1, "{sizes:?}");
        }
    }
}
