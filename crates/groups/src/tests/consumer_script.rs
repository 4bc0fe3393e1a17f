//! What scripts say about the consumer protocol:
//!
//! - `topics t=4 u=2`: creates topics, or gives them more partitions; `t=0` deletes one
//! - `settings session=45s interval=1s`: `group.consumer.session.timeout.ms` and `...assignment.interval.ms`
//! - `A enters [topics=t,u] [regex=t.*] [assignor=range] [static=NAME] [rack=R] [rebalance=60s] [v=1]`: its first heartbeat
//! - `A beats [epoch=N] [owns=t-0,t-1] [topics=..] [regex=..] ...`: says no more than that it lives, and what is there
//! - `A reports`: beats with what it owns; `A repeats`: and with all that it said, since it heard no answer
//! - `A quits`; `A goes away`: a static member that will be back
//! - `show group`: its epochs, and of each member its epoch, state, partitions and, if it differs, its target
//!
//! Member ids of version 1 are the members' names. Partitions are shown as `t[0 1]`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bytes::Bytes;
use dohle_protocol::Message;
use dohle_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use dohle_protocol::messages::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupHeartbeatRequest, ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue,
    ConsumerGroupMetadataKey, ConsumerGroupMetadataValue, ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue, ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue,
};
use dohle_types::{Str, TopicId};
use expect_test::expect_file;

use super::script::{Line, World, caller, error_name, group_id, millis, run};
use crate::consumer::state::MemberState;
use crate::{Cluster, Effects, Record};

#[test]
fn consumer_members() {
    run(&expect_file!["../../testdata/consumer_members.txt"]);
}

#[test]
fn consumer_reconciliation() {
    run(&expect_file!["../../testdata/consumer_reconciliation.txt"]);
}

#[test]
fn consumer_refusals() {
    run(&expect_file!["../../testdata/consumer_refusals.txt"]);
}

#[test]
fn consumer_static_members() {
    run(&expect_file!["../../testdata/consumer_static_members.txt"]);
}

#[test]
fn consumer_migration() {
    run(&expect_file!["../../testdata/consumer_migration.txt"]);
}

#[test]
fn consumer_migration_policy() {
    run(&expect_file!["../../testdata/consumer_migration_policy.txt"]);
}

#[test]
fn consumer_topics_and_patterns() {
    run(&expect_file!["../../testdata/consumer_topics.txt"]);
}

#[test]
fn consumer_offsets_and_administration() {
    run(&expect_file!["../../testdata/consumer_administration.txt"]);
}

#[test]
fn consumer_offset_resets() {
    run(&expect_file!["../../testdata/consumer_offset_resets.txt"]);
}

impl World {
    /// A step of the consumer protocol, and who is answered what; an error if it is none.
    pub(super) fn consumer_step<'a>(
        &mut self,
        line: &Line<'a>,
        effects: &mut Effects,
    ) -> Result<Option<(&'a str, String)>, ()> {
        let told = match line.words[..] {
            ["topics"] => {
                for (name, partitions) in &line.settings {
                    self.host.cluster.set_topic(name, partitions.parse().unwrap());
                }
                return Ok(None);
            }
            ["settings"] => {
                let settings = &mut self.host.cluster.settings;
                settings.session_timeout_ms = line.setting("session").map_or(45_000, millis);
                settings.assignment_interval_ms = line.setting("interval").map_or(0, millis);
                return Ok(None);
            }
            [name, "enters"] => {
                self.owned.insert(name.to_owned(), Vec::new());
                let client = self.client(name);
                client.generation = 0;
                client.group_id = line.setting("group").map_or(client.group_id.clone(), Str::from);
                client.api_version = line.number("v").unwrap_or(1);
                client.member_id = if client.api_version == 0 { Str::default() } else { Str::from(name) };
                client.instance_id = line.setting("static").map(Str::from);
                (name, self.heartbeat(name, line, true, effects))
            }
            [name, "beats"] => (name, self.heartbeat(name, line, false, effects)),
            [name, "reports"] => {
                let mut line = Line { words: line.words.clone(), settings: line.settings.clone() };
                line.settings.push(("owns", "all"));
                (name, self.heartbeat(name, &line, false, effects))
            }
            [name, "repeats"] => (name, self.heartbeat(name, line, true, effects)),
            [name, "quits"] => (name, self.leave_consumer_group(name, -1, effects)),
            [name, "goes", "away"] => (name, self.leave_consumer_group(name, -2, effects)),
            ["show", "group"] => ("group", self.show_consumer_group(line)),
            _ => return Err(()),
        };
        Ok(Some(told))
    }

    fn leave_consumer_group(&mut self, name: &str, epoch: i32, effects: &mut Effects) -> String {
        self.client(name).generation = epoch;
        let line = Line { words: Vec::new(), settings: Vec::new() };
        self.heartbeat(name, &line, false, effects)
    }

    fn heartbeat(&mut self, name: &str, line: &Line<'_>, is_full: bool, effects: &mut Effects) -> String {
        let client = self.speaking_client(name, line);
        let owned = self.owned.get(name).cloned().unwrap_or_default();
        let names = || line.list("topics");
        let request = ConsumerGroupHeartbeatRequest {
            group_id: client.group_id,
            member_id: client.member_id,
            member_epoch: line.number("epoch").unwrap_or(client.generation),
            instance_id: client.instance_id,
            rack_id: line.setting("rack").map(Str::from),
            rebalance_timeout_ms: match line.setting("rebalance") {
                Some(timeout) => millis(timeout),
                None if is_full => 60_000,
                None => -1,
            },
            subscribed_topic_names: match (line.setting("topics"), line.setting("regex")) {
                (Some(_), _) => Some(names()),
                (None, None) if is_full => Some(client.topics.clone()),
                (None, _) => None,
            },
            subscribed_topic_regex: line.setting("regex").map(Str::from),
            server_assignor: line.setting("assignor").map(Str::from),
            topic_partitions: match line.setting("owns") {
                Some("all") => Some(owned),
                Some("null") => None,
                Some(owns) => Some(self.parse_partitions(owns)),
                None => is_full.then_some(owned),
            },
        };
        if let Some(names) = &request.subscribed_topic_names {
            self.client(name).topics.clone_from(names);
        }
        let caller = caller(name, client.api_version);
        let response =
            self.host.call(effects, |ledger, turn| ledger.consumer_group_heartbeat(turn, &caller, &request));
        if response.error_code != 0 {
            let message = response.error_message.unwrap_or_default();
            return format!("{} ({message})", error_name(response.error_code));
        }
        let member_id = response.member_id.unwrap_or_default();
        let client = self.client(name);
        client.generation = response.member_epoch;
        client.member_id = member_id;
        let mut out = format!("epoch {}", response.member_epoch);
        if let Some(assignment) = response.assignment {
            let owned: Vec<TopicPartitions> = assignment
                .topic_partitions
                .into_iter()
                .map(|topic| TopicPartitions { topic_id: topic.topic_id, partitions: topic.partitions })
                .collect();
            let topics = owned.iter().map(|topic| (TopicId(topic.topic_id), &topic.partitions));
            write!(out, " owns {}", self.show_partitions(topics)).unwrap();
            self.owned.insert(name.to_owned(), owned);
        }
        out
    }

    fn parse_partitions(&self, text: &str) -> Vec<TopicPartitions> {
        let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let (topic, partition) = word.split_once('-').unwrap();
            let topic = self.host.cluster.topic(topic).unwrap();
            topics.entry(topic.id).or_default().push(partition.parse().unwrap());
        }
        let topics = topics.into_iter();
        topics.map(|(id, partitions)| TopicPartitions { topic_id: id.0, partitions }).collect()
    }

    fn show_partitions<'p, P: IntoIterator<Item = &'p i32>>(
        &self,
        topics: impl Iterator<Item = (TopicId, P)>,
    ) -> String {
        let shown = topics.map(|(id, partitions)| {
            let name = self.host.cluster.topic_by_id(id).map_or_else(|| "?".into(), |topic| topic.name);
            let partitions: Vec<String> = partitions.into_iter().map(ToString::to_string).collect();
            format!("{name}[{}]", partitions.join(" "))
        });
        let mut shown: Vec<String> = shown.collect();
        shown.sort();
        if shown.is_empty() { "nothing".to_owned() } else { shown.join(" ") }
    }

    fn show_consumer_group(&mut self, line: &Line<'_>) -> String {
        let described = self.host.ledger.describe_consumer_group(&group_id(line), &self.host.cluster);
        if described.error_code != 0 {
            return format!(
                "{} ({})",
                error_name(described.error_code),
                described.error_message.unwrap_or_default()
            );
        }
        let mut out = format!(
            "{} epoch={} assignment={} {}",
            described.group_state, described.group_epoch, described.assignment_epoch, described.assignor_name
        );
        for member in &described.members {
            let show =
                |topics: &[dohle_protocol::messages::consumer_group_describe_response::TopicPartitions]| {
                    self.show_partitions(topics.iter().map(|it| (TopicId(it.topic_id), &it.partitions)))
                };
            let owns = show(&member.assignment.topic_partitions);
            let target = show(&member.target_assignment.topic_partitions);
            let group = self.host.ledger.state().group(&group_id(line)).unwrap().consumer.clone().unwrap();
            let state = match group.member(&member.member_id).unwrap().state {
                MemberState::Stable => "",
                MemberState::UnrevokedPartitions => " unrevoked",
                MemberState::UnreleasedPartitions => " unreleased",
                MemberState::Unknown => " unknown",
            };
            let id = self.show_id(&member.member_id);
            write!(out, "\n        {id} epoch={}{state} owns {owns}", member.member_epoch).unwrap();
            if target != owns {
                write!(out, ", is to own {target}").unwrap();
            }
            if member.member_type == 0 {
                out.push_str(", classic");
            }
        }
        out
    }

    pub(super) fn show_consumer_record(&mut self, record: &Record) -> String {
        let key = record.key.slice(2..);
        let value = record.value.as_ref().map(|value| value.slice(2..));
        let show_ids = |value: &Option<Bytes>| value.is_none();
        match i16::from_be_bytes([record.key[0], record.key[1]]) {
            3 => {
                let key = ConsumerGroupMetadataKey::from_bytes(&key, 0).unwrap();
                match value {
                    None => format!("{} deleted", key.group_id),
                    Some(value) => {
                        let value = ConsumerGroupMetadataValue::from_bytes(&value, 0).unwrap();
                        format!("{} epoch {}", key.group_id, value.epoch)
                    }
                }
            }
            4 => "partition metadata deleted".to_owned(),
            5 => {
                let key = ConsumerGroupMemberMetadataKey::from_bytes(&key, 0).unwrap();
                let id = self.show_id(&key.member_id);
                if show_ids(&value) {
                    return format!("{id} deleted");
                }
                let value = ConsumerGroupMemberMetadataValue::from_bytes(&value.unwrap(), 0).unwrap();
                let names: Vec<&str> = value.subscribed_topic_names.iter().map(Str::as_str).collect();
                let mut out = format!("{id} subscribes to {}", names.join(","));
                if let Some(regex) = value.subscribed_topic_regex.filter(|regex| !regex.is_empty()) {
                    write!(out, "/{regex}/").unwrap();
                }
                if let Some(instance_id) = value.instance_id {
                    write!(out, ", static {instance_id}").unwrap();
                }
                if value.classic_member_metadata.is_some() {
                    out.push_str(", classic");
                }
                out
            }
            6 => {
                let key = ConsumerGroupTargetAssignmentMetadataKey::from_bytes(&key, 0).unwrap();
                let epoch = value.map(|value| {
                    ConsumerGroupTargetAssignmentMetadataValue::from_bytes(&value, 0)
                        .unwrap()
                        .assignment_epoch
                });
                match epoch {
                    Some(epoch) => format!("{} target of epoch {epoch}", key.group_id),
                    None => format!("{} target deleted", key.group_id),
                }
            }
            7 => {
                let key = ConsumerGroupTargetAssignmentMemberKey::from_bytes(&key, 0).unwrap();
                let id = self.show_id(&key.member_id);
                let Some(value) = value else { return format!("{id} target deleted") };
                let value = ConsumerGroupTargetAssignmentMemberValue::from_bytes(&value, 0).unwrap();
                let topics = value.topic_partitions.iter().map(|it| (TopicId(it.topic_id), &it.partitions));
                format!("{id} is to own {}", self.show_partitions(topics))
            }
            8 => {
                let key = ConsumerGroupCurrentMemberAssignmentKey::from_bytes(&key, 0).unwrap();
                let id = self.show_id(&key.member_id);
                let Some(value) = value else { return format!("{id} owns nothing any more") };
                let value = ConsumerGroupCurrentMemberAssignmentValue::from_bytes(&value, 0).unwrap();
                let show = |topics: &[dohle_protocol::messages::consumer_group_current_member_assignment_value::TopicPartitions]| {
                    self.show_partitions(topics.iter().map(|it| (TopicId(it.topic_id), &it.partitions)))
                };
                let mut out =
                    format!("{id} epoch {} owns {}", value.member_epoch, show(&value.assigned_partitions));
                if !value.partitions_pending_revocation.is_empty() {
                    write!(out, ", gives up {}", show(&value.partitions_pending_revocation)).unwrap();
                }
                out
            }
            16 => {
                let key = ConsumerGroupRegularExpressionKey::from_bytes(&key, 0).unwrap();
                let Some(value) = value else { return format!("/{}/ deleted", key.regular_expression) };
                let value = ConsumerGroupRegularExpressionValue::from_bytes(&value, 0).unwrap();
                let topics: BTreeSet<&str> = value.topics.iter().map(Str::as_str).collect();
                format!("/{}/ matches {topics:?}", key.regular_expression)
            }
            other => panic!("record type {other}"),
        }
    }
}
