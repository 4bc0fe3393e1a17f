//! A small cluster to ask, and images and answers as text.

mod brokers;
mod configs_alter;
mod features_update;
mod image;
mod log_dirs;
mod partitions_create;
mod partitions_reassign;
mod producer_ids;
mod property;
mod record;
mod topic_name;
mod topics_create;
mod topics_delete;

use std::fmt::{Debug, Write as _};

use bytes::Bytes;
use dohle_configs::BrokerConfig;
use dohle_protocol::messages::CreateTopicsRequest;
use dohle_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use dohle_types::{BrokerId, ErrorCode, LeaderEpoch, Rng, Str};
use uuid::Uuid;

use crate::{
    BrokerEndpoint, BrokerRegistration, Controller, MetadataImage, MetadataRecord, Outcome,
    activation_records,
};

/// A controller with its log.
struct Cluster {
    controller: Controller,
    config: BrokerConfig,
    rng: Rng,
    log: Vec<MetadataRecord>,
}

impl Cluster {
    /// A new cluster with these properties and brokers 1 to `brokers`, all alive, in racks a, b, a, b, ...
    fn with(properties: &str, brokers: i32) -> Self {
        let (config, _) = BrokerConfig::parse(properties, &[]).unwrap();
        let controller = Controller::default();
        let mut cluster = Self { controller, config, rng: Rng::from_seed(1), log: Vec::new() };
        cluster.run(Outcome { records: activation_records(cluster.image(), Vec::new()), reply: () });
        for id in 1..=brokers {
            cluster.register(id);
        }
        cluster
    }

    /// A new cluster of one broker.
    fn new() -> Self {
        Self::with("", 1)
    }

    fn image(&self) -> &MetadataImage {
        self.controller.image()
    }

    /// Appends the records as bytes, replays what these say, and gives the reply.
    fn run<Reply>(&mut self, outcome: Outcome<MetadataRecord, Reply>) -> Reply {
        for record in outcome.records {
            assert_eq!(MetadataRecord::decode(&record.encode().unwrap()).as_ref(), Ok(&record));
            let offset = self.image().end_offset();
            self.controller.replay(&record, offset, LeaderEpoch(1)).unwrap();
            self.log.push(record);
        }
        outcome.reply
    }

    fn register(&mut self, id: i32) {
        self.register_with(id, &[1000 + u128::try_from(id).unwrap()]);
    }

    fn register_with(&mut self, id: i32, log_dirs: &[u128]) {
        let registration = BrokerRegistration {
            id: BrokerId(id),
            incarnation_id: self.rng.uuid(),
            endpoints: vec![BrokerEndpoint {
                listener: "PLAINTEXT".into(),
                host: "localhost".into(),
                port: 9091 + u16::try_from(id).unwrap(),
                security_protocol: 0,
            }],
            rack: Some(if id % 2 == 1 { "a" } else { "b" }.into()),
            log_dirs: log_dirs.iter().map(|&id| Uuid::from_u128(id)).collect(),
        };
        let end = self.image().end_offset();
        self.run(self.controller.handle_register_broker(registration, end));
    }

    /// Creates topics, each told as [`topic`] understands it, and tells what came of each.
    fn create(&mut self, topics: &[&str]) -> String {
        let request = CreateTopicsRequest {
            topics: topics.iter().map(|text| topic(text)).collect(),
            ..Default::default()
        };
        let outcome = self.controller.handle_create_topics(&self.config, &mut self.rng, &request);
        let mut text = String::new();
        for topic in self.run(outcome).topics {
            let name = &topic.name;
            match ErrorCode::from_code(topic.error_code) {
                Some(ErrorCode::None) => {
                    let (partitions, replicas) = (topic.num_partitions, topic.replication_factor);
                    writeln!(text, "{name}: created, {partitions} partitions, {replicas} replicas")
                }
                _ => writeln!(text, "{name}: {}", error(topic.error_code, topic.error_message.as_ref())),
            }
            .unwrap();
        }
        text
    }
}

/// `name partitions=3 rf=1 retention.ms=1000 0:1,2 1:2,1`: what is not told is -1, `0:1,2` is an assignment.
fn topic(text: &str) -> CreatableTopic {
    let mut words = text.split(' ');
    let mut topic = CreatableTopic {
        name: words.next().unwrap().into(),
        num_partitions: -1,
        replication_factor: -1,
        ..Default::default()
    };
    for word in words {
        match word.split_once(['=', ':']).unwrap() {
            ("partitions", count) => topic.num_partitions = count.parse().unwrap(),
            ("rf", factor) => topic.replication_factor = factor.parse().unwrap(),
            (index, brokers) if word.contains(':') => topic.assignments.push(CreatableReplicaAssignment {
                partition_index: index.parse().unwrap(),
                broker_ids: ids(brokers),
            }),
            (name, value) => {
                let value = (value != "null").then(|| value.into());
                topic.configs.push(CreatableTopicConfig { name: name.into(), value });
            }
        }
    }
    topic
}

/// `1,2`
fn ids(text: &str) -> Vec<i32> {
    text.split(',').filter(|id| !id.is_empty()).map(|id| id.parse().unwrap()).collect()
}

fn error(code: i16, message: Option<&Str>) -> String {
    let error = ErrorCode::from_code(code).unwrap();
    message.map_or_else(|| error.to_string(), |message| format!("{error}: {message}"))
}

/// The image as text.
fn describe(image: &MetadataImage) -> String {
    let mut text = String::new();
    for broker in image.brokers() {
        let state = if broker.is_active() { "active" } else { "inactive" };
        let address = broker.endpoint("plaintext").map(|endpoint| (&endpoint.host, endpoint.port));
        let (host, port) = address.unwrap();
        writeln!(text, "broker {} epoch {} {state} at {host}:{port}", broker.id, broker.epoch).unwrap();
    }
    for topic in image.topics() {
        writeln!(text, "topic {}", topic.name).unwrap();
        for (index, partition) in &topic.partitions {
            write!(text, "  {index}: leader {} epoch {}", partition.leader, partition.leader_epoch).unwrap();
            for (name, brokers) in [
                ("replicas", &partition.replicas),
                ("isr", &partition.isr),
                ("elr", &partition.elr),
                ("last known elr", &partition.last_known_elr),
            ] {
                let ids: Vec<i32> = brokers.iter().map(|broker| broker.0).collect();
                if !ids.is_empty() {
                    write!(text, ", {name} {ids:?}").unwrap();
                }
            }
            text.push_str(if partition.leader_is_recovering { ", recovering\n" } else { "\n" });
        }
    }
    for resource in image.config_resources() {
        let configs: Vec<String> =
            image.config_overrides(resource).map(|(name, value)| format!("{name}={value}")).collect();
        writeln!(text, "configs of {resource}: {}", configs.join(", ")).unwrap();
    }
    text
}

fn debug(values: impl IntoIterator<Item = impl Debug>) -> String {
    values.into_iter().map(|value| format!("{value:?}\n")).collect()
}

/// Bytes from hexadecimal digits; what is between these counts for nothing.
fn bytes(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
