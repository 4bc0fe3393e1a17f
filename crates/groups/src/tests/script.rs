//! Runs the scripts in `testdata`: unindented lines are what happens, indented ones what follows from it.
//!
//! What happens (`key=value` at the end changes defaults; times are `200ms`, `3s` or `2h`):
//!
//! - `A joins [protocols=range,sticky] [topics=t,u] [owns=t-0] [static=NAME] [session=45s] [rebalance=60s] [v=9] [id=ID]
//!   [type=consumer] [group=g]`; what a client said once it says again
//! - `A syncs [A=x B=t-0,t-1] [v=5] [protocol=range]` with what the leader assigns, `A heartbeats`, `A leaves`
//! - `A commits t-0@5 ...`, `tool commits t-0@5 ...` (no member), with `[generation=N] [metadata=TEXT] [topic-id=N]`
//! - `transaction 1 commits t-0@5 ...` within the one of producer 1; `transaction 1 is committed`, or `aborted`
//! - `A forgets its id`: its process was restarted
//! - `operator removes NAME ...` by instance ids; `operator resets t-0@5 ...` under the members
//! - members join and leave, and are removed, with `[reason=WORDS_LIKE_THIS]`
//! - `fetch [t-0 ...] [member=A epoch=2]`, `list [states=..] [types=..]`, `describe [v=6]`, `delete group`, `delete offsets t-0 ...`
//! - `clock +3s`, `expire offsets`, `topic t is deleted [topic-id=N]`
//! - what concerns the consumer protocol, see `consumer_script.rs`
//! - `broker restarts`: from the log; `broker resigns`
//! - `show journal`: from now on what the journal tells, without the time; `show statistics` of what it has told
//! - `config size=2 delay=0s ...`: before the first event
//!
//! A member id is shown as the name it begins with and the number of ids of that name so far: `A#1`.
//! `UPDATE_EXPECT=1 cargo test -p dohle-groups` writes what follows into the scripts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use dohle_protocol::Message;
use dohle_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use dohle_protocol::messages::consumer_protocol_assignment::TopicPartition;
use dohle_protocol::messages::consumer_protocol_subscription::TopicPartition as OwnedTopicPartition;
use dohle_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use dohle_protocol::messages::leave_group_request::MemberIdentity;
use dohle_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use dohle_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use dohle_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use dohle_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use dohle_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, GroupMetadataKey, GroupMetadataValue,
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, OffsetCommitKey,
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitValue, OffsetDeleteRequest, SyncGroupRequest,
};
use dohle_types::{ErrorCode, Offset, ProducerId, Str, TopicId};
use expect_test::{ExpectFile, expect_file};

use super::host::{Host, START};
use crate::consumer::MigrationPolicy;
use crate::journal::cause::Cause;
use crate::journal::entry::Entry;
use crate::journal::stats::{Histogram, JournalStats};
use crate::{Caller, Cluster, Effects, GroupLedger, GroupsConfig, Progress, Record, Reply, Token};

#[test]
fn first_rebalance() {
    run(&expect_file!["../../testdata/first_rebalance.txt"]);
}

#[test]
fn rebalances() {
    run(&expect_file!["../../testdata/rebalances.txt"]);
}

#[test]
fn timeouts() {
    run(&expect_file!["../../testdata/timeouts.txt"]);
}

#[test]
fn static_members() {
    run(&expect_file!["../../testdata/static_members.txt"]);
}

#[test]
fn refusals() {
    run(&expect_file!["../../testdata/refusals.txt"]);
}

#[test]
fn old_clients() {
    run(&expect_file!["../../testdata/old_clients.txt"]);
}

#[test]
fn restarts() {
    run(&expect_file!["../../testdata/restarts.txt"]);
}

#[test]
fn offsets() {
    run(&expect_file!["../../testdata/offsets.txt"]);
}

#[test]
fn offset_resets() {
    run(&expect_file!["../../testdata/offset_resets.txt"]);
}

#[test]
fn offset_retention() {
    run(&expect_file!["../../testdata/offset_retention.txt"]);
}

#[test]
fn offsets_of_transactions() {
    run(&expect_file!["../../testdata/offsets_of_transactions.txt"]);
}

#[test]
fn administration() {
    run(&expect_file!["../../testdata/administration.txt"]);
}

#[test]
fn limits() {
    run(&expect_file!["../../testdata/limits.txt"]);
}

pub(super) fn run(file: &ExpectFile) {
    let mut world = World::new();
    for line in file.data().lines().filter(|line| !line.starts_with("    ")) {
        writeln!(world.out, "{line}").unwrap();
        if !line.is_empty() && !line.starts_with('#') {
            world.step(line);
        }
    }
    file.assert_eq(&world.out);
}

/// What a client says in its requests.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) group_id: Str,
    pub(super) member_id: Str,
    pub(super) instance_id: Option<Str>,
    pub(super) generation: i32,
    protocol_type: Str,
    protocols: Vec<Str>,
    /// The one that was chosen for its generation.
    protocol: Option<Str>,
    pub(super) topics: Vec<Str>,
    session_ms: i32,
    pub(super) rebalance_ms: i32,
    pub(super) api_version: i16,
}

pub(super) struct World {
    pub(super) host: Host<(String, String)>,
    /// What members of the consumer protocol own, for all that they know.
    pub(super) owned: BTreeMap<String, Vec<TopicPartitions>>,
    clients: BTreeMap<String, Client>,
    /// Who waits for the answer to what.
    tokens: BTreeMap<Token, String>,
    next_token: u64,
    shown_ids: BTreeMap<Str, String>,
    shows_journal: bool,
    stats: JournalStats,
    out: String,
}

/// The words of a line, and its `key=value` pairs.
pub(super) struct Line<'a> {
    pub(super) words: Vec<&'a str>,
    pub(super) settings: Vec<(&'a str, &'a str)>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let mut this = Self { words: Vec::new(), settings: Vec::new() };
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some(setting) => this.settings.push(setting),
                None => this.words.push(word),
            }
        }
        this
    }

    pub(super) fn setting(&self, key: &str) -> Option<&'a str> {
        self.settings.iter().find(|(name, _)| *name == key).map(|&(_, value)| value)
    }

    pub(super) fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.setting(key).map(|value| value.parse().ok().unwrap_or_else(|| panic!("{key}={value}")))
    }

    pub(super) fn list(&self, key: &str) -> Vec<Str> {
        self.setting(key)
            .into_iter()
            .flat_map(|list| list.split(','))
            .filter(|item| !item.is_empty())
            .map(Str::from)
            .collect()
    }
}

impl World {
    fn new() -> Self {
        Self {
            host: Host::new(GroupsConfig::default()),
            owned: BTreeMap::new(),
            clients: BTreeMap::new(),
            tokens: BTreeMap::new(),
            next_token: 0,
            shown_ids: BTreeMap::new(),
            shows_journal: false,
            stats: JournalStats::default(),
            out: String::new(),
        }
    }

    fn step(&mut self, text: &str) {
        let line = Line::parse(text);
        let now = self.host.now;
        let mut effects = Effects::default();
        let mut answer = None;
        match line.words[..] {
            ["config"] => self.configure(&line),
            ["show", "journal"] => self.shows_journal = true,
            ["show", "statistics"] => answer = Some(("journal", self.show_stats())),
            ["clock", by] => return self.advance(duration(by.strip_prefix('+').unwrap())),
            ["broker", "restarts"] => {
                self.host.crash();
                self.tokens.clear();
                self.host.call(&mut effects, |ledger, turn| ledger.on_loaded(turn));
            }
            ["broker", "resigns"] => self.host.ledger.resign(&mut effects),
            [name, "forgets", "its", "id"] => self.client(name).member_id = Str::default(),
            [name, "joins"] => self.join(name, &line, &mut effects),
            [name, "syncs"] => self.sync(name, &line, &mut effects),
            [name, "heartbeats"] => {
                let client = self.speaking_client(name, &line);
                let request = HeartbeatRequest {
                    group_id: client.group_id,
                    generation_id: client.generation,
                    member_id: client.member_id,
                    group_instance_id: client.instance_id,
                };
                let response = self.host.call(&mut effects, |ledger, turn| ledger.heartbeat(turn, &request));
                answer = Some((name, error_name(response.error_code)));
            }
            [name, "leaves"] => answer = Some((name, self.leave(name, &line, &mut effects))),
            ["operator", "removes", ..] => {
                answer = Some(("operator", self.remove(&line.words[2..], &line, &mut effects)));
            }
            ["operator", "resets", ..] => {
                let request = self.commit_request("operator", &line);
                let reset = self.host.call(&mut effects, |ledger, turn| ledger.reset_offsets(turn, &request));
                let told = reset.map_or_else(
                    |error| format!("{} ({error})", error_name(error.code().code())),
                    |members| format!("NONE, {members} members"),
                );
                answer = Some(("operator", told));
            }
            ["transaction", producer, "commits", ..] => {
                answer = Some((producer, self.commit_in_transaction(producer, &line)));
            }
            ["transaction", producer, "is", end @ ("committed" | "aborted")] => {
                let producer = ProducerId(producer.parse().unwrap());
                self.host.ledger.replay_marker(producer, end == "committed");
            }
            [name, "commits", ..] => answer = Some((name, self.commit(name, &line, &mut effects))),
            ["fetch", ..] => answer = Some(("offsets", self.fetch(&line))),
            ["list"] => answer = Some(("groups", self.list(&line))),
            ["describe"] => answer = Some(("group", self.describe(&line))),
            ["delete", "group"] => {
                let result = self.host.ledger.delete_group(&group_id(&line), &mut effects);
                answer = Some(("operator", error_name(result.error_code)));
            }
            ["delete", "offsets", ..] => {
                answer = Some(("operator", self.delete_offsets(&line, &mut effects)));
            }
            ["expire", "offsets"] => {
                return self.in_batches(|ledger, effects| ledger.expire_offsets(now, effects));
            }
            ["topic", topic, "is", "deleted"] => {
                let topics = [(Str::from(topic), topic_id(&line))];
                return self.in_batches(|ledger, effects| ledger.on_topics_deleted(&topics, effects));
            }
            _ => match self.consumer_step(&line, &mut effects) {
                Ok(told) => answer = told,
                Err(()) => panic!("what does this mean: {text}"),
            },
        }
        let answer = answer.map(|(name, answer)| (name.to_owned(), answer));
        self.finish(effects, answer, "");
    }

    fn configure(&mut self, line: &Line<'_>) {
        let mut config = GroupsConfig::default();
        for &(key, value) in &line.settings {
            match key {
                "migration" => config.migration = MigrationPolicy::from_name(value).unwrap(),
                "consumer-size" => config.consumer_group_size_max = value.parse().unwrap(),
                "size" => config.group_size_max = value.parse().unwrap(),
                "delay" => config.initial_rebalance_delay = duration(value),
                "groups" => config.groups_max = value.parse().unwrap(),
                "offsets" => config.offsets_per_group_max = value.parse().unwrap(),
                "metadata" => config.offset_metadata_len_max = value.parse().unwrap(),
                "subscription-bytes" => config.subscription_bytes_max = value.parse().unwrap(),
                "members-bytes" => config.members_bytes_max = value.parse().unwrap(),
                "retention" => config.offsets_retention = duration(value),
                "batch-bytes" => config.batch_bytes_max = value.parse().unwrap(),
                _ => panic!("config {key}"),
            }
        }
        self.host.config = config.clone();
        let log = std::mem::take(&mut self.host.log);
        self.host.ledger = super::host::replayed(&config, &log);
        self.host.log = log;
    }

    /// Runs the timeouts up to a later moment, each at its time.
    fn advance(&mut self, by: Duration) {
        let end = self.host.now.instant + by;
        while let Some(at) = self.host.ledger.next_timeout().filter(|&at| at <= end) {
            self.host.advance(at.saturating_sub(self.host.now.instant));
            let mut effects = Effects::default();
            self.host.call(&mut effects, |ledger, turn| ledger.on_timeout(turn));
            let moment = self.host.now.instant - START.instant;
            self.finish(effects, None, &format!("at {moment:?}: "));
        }
        self.host.advance(end - self.host.now.instant);
    }

    fn in_batches(&mut self, mut work: impl FnMut(&GroupLedger, &mut Effects) -> Progress) {
        loop {
            let mut effects = Effects::default();
            let progress = work(&self.host.ledger, &mut effects);
            self.finish(effects, None, "");
            if progress == Progress::Done {
                return;
            }
            writeln!(self.out, "    more").unwrap();
        }
    }

    /// Writes down what a call did, and gives the answers to the clients.
    fn finish(&mut self, effects: Effects, answer: Option<(String, String)>, prefix: &str) {
        for rebalance in &effects.rebalances {
            let cause = self.show_cause(&rebalance.cause);
            let (group_id, generation) = (&rebalance.group_id, rebalance.generation);
            writeln!(self.out, "    {prefix}{group_id} rebalances after generation {generation}: {cause}")
                .unwrap();
        }
        for record in &effects.records {
            let record = self.show_record(record);
            writeln!(self.out, "    {prefix}log: {record}").unwrap();
        }
        let mut replies = Vec::new();
        for (token, reply) in &effects.replies {
            let name = self.tokens.remove(token).expect("a request is answered once");
            let reply = self.learn_reply(&name, reply);
            replies.push((name, reply));
        }
        replies.extend(answer);
        let entries = self.host.take(effects, replies);
        self.show_entries(&entries, prefix);
        for (name, answer) in self.host.commit() {
            writeln!(self.out, "    {prefix}{name} <- {answer}").unwrap();
        }
    }

    pub(super) fn client(&mut self, name: &str) -> &mut Client {
        self.clients.entry(name.to_owned()).or_insert_with(|| Client {
            group_id: Str::from("g"),
            member_id: Str::default(),
            instance_id: None,
            generation: -1,
            protocol_type: Str::from("consumer"),
            protocols: vec![Str::from("range")],
            protocol: None,
            topics: vec![Str::from("t")],
            session_ms: 45_000,
            rebalance_ms: 60_000,
            api_version: 9,
        })
    }

    /// A client that says for once something else about itself.
    pub(super) fn speaking_client(&mut self, name: &str, line: &Line<'_>) -> Client {
        let id = line.setting("id").map(|id| self.member_id(id));
        let mut client = self.client(name).clone();
        client.member_id = id.unwrap_or(client.member_id);
        client.generation = line.number("generation").unwrap_or(client.generation);
        client.instance_id = line.setting("static").map(Str::from).or(client.instance_id);
        client.group_id = line.setting("group").map_or(client.group_id, Str::from);
        client
    }

    fn join(&mut self, name: &str, line: &Line<'_>, effects: &mut Effects) {
        let client = self.client(name);
        client.group_id = line.setting("group").map_or(client.group_id.clone(), Str::from);
        client.instance_id = line.setting("static").map(Str::from).or(client.instance_id.take());
        client.protocol_type = line.setting("type").map_or(client.protocol_type.clone(), Str::from);
        if line.setting("protocols").is_some() {
            client.protocols = line.list("protocols");
        }
        if line.setting("topics").is_some() {
            client.topics = line.list("topics");
        }
        client.session_ms = line.setting("session").map_or(client.session_ms, millis);
        client.rebalance_ms = line.setting("rebalance").map_or(client.rebalance_ms, millis);
        client.api_version = line.number("v").unwrap_or(client.api_version);
        let client = self.speaking_client(name, line);
        let request = JoinGroupRequest {
            group_id: client.group_id,
            session_timeout_ms: client.session_ms,
            rebalance_timeout_ms: if client.api_version == 0 { -1 } else { client.rebalance_ms },
            member_id: client.member_id,
            group_instance_id: client.instance_id,
            protocol_type: client.protocol_type,
            protocols: client
                .protocols
                .iter()
                .map(|protocol| JoinGroupRequestProtocol {
                    name: protocol.clone(),
                    metadata: subscription(&client.topics, line.setting("owns")),
                })
                .collect(),
            reason: reason(line),
        };
        let (token, caller) = (self.token(name), caller(name, client.api_version));
        self.host.call(effects, |ledger, turn| ledger.join(turn, token, &caller, &request));
    }

    fn sync(&mut self, name: &str, line: &Line<'_>, effects: &mut Effects) {
        let client = self.speaking_client(name, &Line { words: Vec::new(), settings: Vec::new() });
        let is_member = |key: &str| key.starts_with(|first: char| first.is_uppercase());
        let assignments =
            line.settings.iter().filter(|(key, _)| is_member(key)).map(|(member, assignment)| {
                SyncGroupRequestAssignment {
                    member_id: self.clients.get(*member).unwrap().member_id.clone(),
                    assignment: assignment_bytes(assignment),
                }
            });
        let request = SyncGroupRequest {
            group_id: client.group_id,
            generation_id: line.number("generation").unwrap_or(client.generation),
            member_id: client.member_id,
            group_instance_id: client.instance_id,
            protocol_type: Some(client.protocol_type),
            protocol_name: line.setting("protocol").map(Str::from).or(client.protocol),
            assignments: assignments.collect(),
        };
        let (token, caller) = (self.token(name), caller(name, line.number("v").unwrap_or(5)));
        self.host.call(effects, |ledger, turn| ledger.sync(turn, token, &caller, &request));
    }

    fn leave(&mut self, name: &str, line: &Line<'_>, effects: &mut Effects) -> String {
        let client = self.speaking_client(name, line);
        let request = LeaveGroupRequest {
            group_id: client.group_id,
            member_id: client.member_id.clone(),
            members: vec![MemberIdentity {
                member_id: client.member_id,
                group_instance_id: client.instance_id,
                reason: reason(line),
            }],
        };
        let caller = caller(name, line.number("v").unwrap_or(5));
        let response = self.host.call(effects, |ledger, turn| ledger.leave(turn, &caller, &request));
        let each: Vec<String> = response.members.iter().map(|member| error_name(member.error_code)).collect();
        format!("{} {}", error_name(response.error_code), each.join(" ")).trim_end().to_owned()
    }

    fn remove(&mut self, instances: &[&str], line: &Line<'_>, effects: &mut Effects) -> String {
        let members = instances
            .iter()
            .map(|&instance| MemberIdentity {
                group_instance_id: Some(Str::from(instance)),
                reason: reason(line),
                ..MemberIdentity::default()
            })
            .collect();
        let request = LeaveGroupRequest { group_id: Str::from("g"), members, ..LeaveGroupRequest::default() };
        let caller = caller("operator", 5);
        let response = self.host.call(effects, |ledger, turn| ledger.leave(turn, &caller, &request));
        let each = response.members.iter().map(|member| {
            format!("{}={}", member.group_instance_id.as_deref().unwrap(), error_name(member.error_code))
        });
        each.collect::<Vec<_>>().join(" ")
    }

    fn commit_request(&mut self, name: &str, line: &Line<'_>) -> OffsetCommitRequest {
        let client = self.speaking_client(name, line);
        let topics = line.words[2..].iter().map(|word| {
            let (partition, offset) = word.split_once('@').unwrap();
            let (topic, partition) = partition.split_once('-').unwrap();
            let known = self.host.cluster.topic(topic).map(|topic| topic.id);
            OffsetCommitRequestTopic {
                name: Str::from(topic),
                topic_id: known.unwrap_or_else(|| topic_id(line)).0,
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: partition.parse().unwrap(),
                    committed_offset: offset.parse().unwrap(),
                    committed_leader_epoch: -1,
                    committed_metadata: line.setting("metadata").map(Str::from),
                }],
            }
        });
        OffsetCommitRequest {
            group_id: client.group_id,
            generation_id_or_member_epoch: client.generation,
            member_id: client.member_id,
            group_instance_id: client.instance_id,
            retention_time_ms: line.setting("retention").map_or(-1, |retention| millis(retention).into()),
            topics: topics.collect(),
        }
    }

    fn commit(&mut self, name: &str, line: &Line<'_>, effects: &mut Effects) -> String {
        let request = self.commit_request(name, line);
        let caller = caller(name, line.number("v").unwrap_or(10));
        each_partition(&self.host.ledger.commit_offsets(self.host.now, &caller, &request, effects))
    }

    /// Its records are not in the log that the broker restarts from.
    fn commit_in_transaction(&mut self, producer: &str, line: &Line<'_>) -> String {
        let words = line.words[1..].to_vec();
        let request = self.commit_request("tool", &Line { words, settings: line.settings.clone() });
        let (records, response) = self.host.ledger.commit_offsets_in_transaction(self.host.now, &request);
        for record in &records {
            let producer = Some(ProducerId(producer.parse().unwrap()));
            let at = Offset(i64::try_from(self.host.log.len()).unwrap());
            self.host.ledger.replay_at(at, producer, &record.key, record.value.as_ref()).unwrap();
        }
        each_partition(&response)
    }

    fn fetch(&self, line: &Line<'_>) -> String {
        let member = line.setting("member");
        let topics = partitions(&line.words[1..]).map(|(topic, partition)| OffsetFetchRequestTopics {
            name: topic,
            topic_id: topic_id(line).0,
            partition_indexes: vec![partition],
        });
        let request = OffsetFetchRequestGroup {
            group_id: group_id(line),
            topics: Some(topics.collect()).filter(|topics: &Vec<_>| !topics.is_empty()),
            member_id: member.map(Str::from),
            member_epoch: line.number("epoch").unwrap_or(-1),
        };
        let response = self.host.ledger.fetch_offsets(&request, false);
        if response.error_code != 0 {
            return error_name(response.error_code);
        }
        let each = response.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| {
                let metadata = partition.metadata.as_deref().unwrap_or("null");
                let shown =
                    format!("{}-{}@{}", topic.name, partition.partition_index, partition.committed_offset);
                if metadata.is_empty() { shown } else { format!("{shown} ({metadata})") }
            })
        });
        let each = each.collect::<Vec<_>>().join(" ");
        if each.is_empty() { "none".to_owned() } else { each }
    }

    fn list(&self, line: &Line<'_>) -> String {
        let request =
            ListGroupsRequest { states_filter: line.list("states"), types_filter: line.list("types") };
        let groups = self.host.ledger.list(&request);
        let each = groups.iter().map(|group| {
            format!("{}:{}:{}:{}", group.group_id, group.protocol_type, group.group_state, group.group_type)
        });
        each.collect::<Vec<_>>().join(" ")
    }

    fn describe(&mut self, line: &Line<'_>) -> String {
        let group = self.host.ledger.describe(&group_id(line), line.number("v").unwrap_or(6));
        let mut out = format!(
            "{} {} type={} protocol={}",
            error_name(group.error_code),
            group.group_state,
            group.protocol_type,
            group.protocol_data
        );
        if let Some(message) = &group.error_message {
            write!(out, " ({message})").unwrap();
        }
        for member in &group.members {
            let id = self.show_id(&member.member_id);
            let subscription = if member.member_metadata.is_empty() { "" } else { ", subscribed" };
            let instance =
                member.group_instance_id.as_ref().map(|id| format!(", static {id}")).unwrap_or_default();
            write!(
                out,
                "\n        {id} client {} at {}{instance}{subscription}, assigned '{}'",
                member.client_id,
                member.client_host,
                show_assignment(&member.member_assignment)
            )
            .unwrap();
        }
        out
    }

    fn delete_offsets(&self, line: &Line<'_>, effects: &mut Effects) -> String {
        let topics = partitions(&line.words[2..]).map(|(topic, partition_index)| OffsetDeleteRequestTopic {
            name: topic,
            partitions: vec![OffsetDeleteRequestPartition { partition_index }],
        });
        let request = OffsetDeleteRequest { group_id: group_id(line), topics: topics.collect() };
        let response = self.host.ledger.delete_offsets(&request, effects);
        let each = response.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| {
                format!("{}-{}={}", topic.name, partition.partition_index, error_name(partition.error_code))
            })
        });
        format!("{} {}", error_name(response.error_code), each.collect::<Vec<_>>().join(" "))
            .trim_end()
            .to_owned()
    }

    fn token(&mut self, name: &str) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.tokens.insert(token, name.to_owned());
        token
    }

    /// What a client takes from an answer, and how it is shown.
    fn learn_reply(&mut self, name: &str, reply: &Reply) -> String {
        match reply {
            Reply::JoinGroup(response) => {
                let error = error_name(response.error_code);
                let mut out = format!("join {error} member={}", self.show_id(&response.member_id));
                let client = self.client(name);
                if response.error_code == 0 || response.error_code == ErrorCode::MemberIdRequired.code() {
                    client.member_id = response.member_id.clone();
                }
                if response.error_code == 0 {
                    client.generation = response.generation_id;
                    client.protocol = response.protocol_name.clone();
                    let leader = self.show_id(&response.leader);
                    let protocol = response.protocol_name.as_deref().unwrap_or("null");
                    write!(out, " generation={} protocol={protocol} leader={leader}", response.generation_id)
                        .unwrap();
                    let members: Vec<String> =
                        response.members.iter().map(|member| self.show_id(&member.member_id)).collect();
                    if !members.is_empty() {
                        write!(out, " members={}", members.join(",")).unwrap();
                    }
                    if response.skip_assignment {
                        out.push_str(" skip-assignment");
                    }
                } else if response.protocol_name.is_some() {
                    write!(out, " protocol='{}'", response.protocol_name.as_deref().unwrap()).unwrap();
                }
                out
            }
            Reply::SyncGroup(response) => {
                let error = error_name(response.error_code);
                if response.error_code == 0 {
                    format!("sync {error} '{}'", show_assignment(&response.assignment))
                } else {
                    format!("sync {error}")
                }
            }
        }
    }

    pub(super) fn show_id(&mut self, member_id: &Str) -> String {
        if member_id.is_empty() {
            return "''".to_owned();
        }
        if let Some(shown) = self.shown_ids.get(member_id) {
            return shown.clone();
        }
        let Some(prefix) = member_id.len().checked_sub(37).map(|end| &member_id[..end]) else {
            return member_id.to_string();
        };
        let same = self.shown_ids.values().filter(|shown| shown.split('#').next() == Some(prefix)).count();
        let shown = format!("{prefix}#{}", same + 1);
        self.shown_ids.insert(member_id.clone(), shown.clone());
        shown
    }

    /// The member id that is shown like this.
    fn member_id(&self, shown: &str) -> Str {
        let known = self.shown_ids.iter().find(|(_, known)| known.as_str() == shown);
        known.map_or_else(|| Str::from(shown), |(member_id, _)| member_id.clone())
    }

    /// What the journal tells, if the script asks for it, and that it can be read again.
    fn show_entries(&mut self, entries: &[Entry], prefix: &str) {
        for entry in entries {
            let json = entry.to_json().to_string();
            assert_eq!(&Entry::from_json(json.as_bytes()).unwrap(), entry, "{json}");
            self.stats.note(entry);
            if self.shows_journal {
                writeln!(self.out, "    {prefix}{}: {}", entry.group_id, entry.event).unwrap();
            }
        }
    }

    fn show_stats(&self) -> String {
        let stats = self.stats.by_cause.iter().map(|(kind, stats)| {
            let Histogram { buckets, sum_ms, max_ms } = &stats.duration;
            format!(
                "\n        {}: {} rebalances ({} interrupted), {} memberships, {} moved, {buckets:?} sum {sum_ms} max {max_ms}, \
                 without owner max {}",
                kind.name(),
                stats.rebalances,
                stats.superseded,
                stats.memberships,
                stats.moved,
                stats.without_owner.max_ms
            )
        });
        format!("{} storms{}", self.stats.storms, stats.collect::<String>())
    }

    fn show_cause(&mut self, cause: &Cause) -> String {
        let ids: Vec<String> = cause.members.iter().map(|who| self.show_id(&who.member_id)).collect();
        if ids.is_empty() {
            return cause.kind.text().to_owned();
        }
        format!("{}: {}", cause.kind.text(), ids.join(" and "))
    }

    fn show_record(&mut self, record: &Record) -> String {
        let version = |bytes: &Bytes| i16::from_be_bytes([bytes[0], bytes[1]]);
        let value = record.value.as_ref().map(|value| (version(value), value.slice(2..)));
        if version(&record.key) == 1 {
            let key = OffsetCommitKey::from_bytes(&record.key.slice(2..), 0).unwrap();
            let place = format!("{} {}-{}", key.group, key.topic, key.partition);
            let Some((version, value)) = value else { return format!("{place} deleted") };
            let value = OffsetCommitValue::from_bytes(&value, version).unwrap();
            let metadata =
                if value.metadata.is_empty() { String::new() } else { format!(" ({})", value.metadata) };
            format!("{place} @{}{metadata}", value.offset)
        } else if version(&record.key) > 2 {
            self.show_consumer_record(record)
        } else {
            let key = GroupMetadataKey::from_bytes(&record.key.slice(2..), 0).unwrap();
            let Some((version, value)) = value else { return format!("{} deleted", key.group) };
            let value = GroupMetadataValue::from_bytes(&value, version).unwrap();
            let members: Vec<String> = value
                .members
                .iter()
                .map(|member| {
                    let assignment = show_assignment(&member.assignment);
                    format!("{}='{assignment}'", self.show_id(&member.member_id))
                })
                .collect();
            let members = if members.is_empty() { "no members".to_owned() } else { members.join(" ") };
            format!("{} generation {} has {members}", key.group, value.generation)
        }
    }
}

pub(super) fn caller(name: &str, api_version: i16) -> Caller {
    Caller { client_id: Str::from(name), client_host: Str::from("/127.0.0.1"), api_version }
}

/// What became of each partition of a commit.
fn each_partition(response: &OffsetCommitResponse) -> String {
    let each = response.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| {
            format!("{}-{}={}", topic.name, partition.partition_index, error_name(partition.error_code))
        })
    });
    each.collect::<Vec<_>>().join(" ")
}

/// Words that stand together in the script.
fn reason(line: &Line<'_>) -> Option<Str> {
    line.setting("reason").map(|words| Str::from(words.replace('_', " ")))
}

fn subscription(topics: &[Str], owns: Option<&str>) -> Bytes {
    let words: Vec<&str> = owns.into_iter().flat_map(|owns| owns.split(',')).collect();
    let owned_partitions = partitions(&words)
        .map(|(topic, partition)| OwnedTopicPartition { topic, partitions: vec![partition] })
        .collect();
    let topics = topics.to_vec();
    let subscription =
        ConsumerProtocolSubscription { topics, owned_partitions, ..ConsumerProtocolSubscription::default() };
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    bytes.put_slice(&subscription.to_bytes(1).unwrap());
    bytes.freeze()
}

/// What a leader assigns: `t-0,t-1` as consumers say it, and anything else as it is.
fn assignment_bytes(text: &str) -> Bytes {
    if !text.contains('-') {
        return Bytes::copy_from_slice(text.as_bytes());
    }
    let words: Vec<&str> = text.split(',').collect();
    let assigned_partitions = partitions(&words)
        .map(|(topic, partition)| TopicPartition { topic, partitions: vec![partition] })
        .collect();
    let assignment = ConsumerProtocolAssignment { assigned_partitions, user_data: None };
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_slice(&assignment.to_bytes(0).unwrap());
    bytes.freeze()
}

fn show_assignment(bytes: &Bytes) -> String {
    let decoded = bytes
        .get(2..)
        .and_then(|rest| ConsumerProtocolAssignment::from_bytes(&bytes.slice_ref(rest), 0).ok());
    let decoded =
        decoded.filter(|assignment| !assignment.assigned_partitions.is_empty() || bytes.len() == 10);
    let Some(assignment) = decoded else { return String::from_utf8_lossy(bytes).into_owned() };
    let topics = assignment.assigned_partitions.iter().flat_map(|topic| {
        topic.partitions.iter().map(move |partition| format!("{}-{partition}", topic.topic))
    });
    topics.collect::<Vec<_>>().join(",")
}

pub(super) fn group_id(line: &Line<'_>) -> Str {
    Str::from(line.setting("group").unwrap_or("g"))
}

fn topic_id(line: &Line<'_>) -> TopicId {
    let mut id = TopicId::ZERO;
    if let Some(number) = line.number::<u8>("topic-id") {
        id = format!("AAAAAAAAAAAAAAAAAAAA{}A", char::from(b'A' + number)).parse().unwrap();
    }
    id
}

fn partitions<'a>(words: &'a [&'a str]) -> impl Iterator<Item = (Str, i32)> + 'a {
    words.iter().map(|word| {
        let (topic, partition) = word.split_once('-').unwrap();
        (Str::from(topic), partition.parse().unwrap())
    })
}

pub(super) fn error_name(code: i16) -> String {
    ErrorCode::from_code(code).map_or_else(|| code.to_string(), |error| error.name().to_owned())
}

fn duration(text: &str) -> Duration {
    Duration::from_millis(u64::try_from(millis(text)).unwrap())
}

pub(super) fn millis(text: &str) -> i32 {
    let units = [("ms", 1), ("s", 1000), ("h", 3_600_000)];
    let (number, factor) = units
        .iter()
        .find_map(|&(unit, factor)| Some((text.strip_suffix(unit)?.parse::<i32>().ok()?, factor)))
        .unwrap();
    number * factor
}
