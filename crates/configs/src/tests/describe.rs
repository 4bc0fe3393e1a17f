//! DescribeConfigs against what a running Apache Kafka 4.3.1 answers.

use crate::{
    BrokerConfig, ConfigEntry, ConfigSource, describe_broker, describe_cluster_default, describe_topic,
};

const BROKER_FACTS: &str = include_str!("../../testdata/kafka-broker-configs.tsv");
const TOPIC_FACTS: &str = include_str!("../../testdata/kafka-topic-configs.tsv");

/// What was in the properties file of the broker that gave the facts.
const STATIC: &[&str] = &[
    "advertised.listeners=PLAINTEXT://localhost:9092",
    "controller.listener.names=CONTROLLER",
    "controller.quorum.voters=",
    "group.initial.rebalance.delay.ms=3000",
    "listeners=PLAINTEXT://:9092",
    "log.dirs=data",
    "node.id=1",
    "num.partitions=1",
    "offsets.topic.replication.factor=3",
    "process.roles=broker,controller",
    "share.coordinator.state.topic.min.isr=2",
    "share.coordinator.state.topic.replication.factor=3",
    "transaction.state.log.min.isr=2",
    "transaction.state.log.replication.factor=3",
];

/// These have a default in Dohle and none in Kafka, which demands that the file sets them.
const DEFAULT_IS_OURS: &[&str] = &["node.id", "process.roles", "controller.listener.names"];

fn broker() -> BrokerConfig {
    let (config, _) = BrokerConfig::parse(&STATIC.join("\n"), &[]).unwrap();
    config.with_dynamic([("min.insync.replicas", "1")], [])
}

fn synonyms(entry: &ConfigEntry) -> String {
    let texts = entry.synonyms.iter().map(|synonym| format!("{}@{}", synonym.name, synonym.source.name()));
    texts.collect::<Vec<_>>().join(",")
}

fn check_against(entries: &[ConfigEntry], facts: &str) {
    for fact in facts.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>()) {
        let name = fact[0];
        let entry = entries.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(entry.kind.unwrap().name(), fact[1], "type of {name}");
        if fact[2] != "(set per server)" && name != "broker.id" {
            assert_eq!(entry.value.as_deref().unwrap_or("null"), fact[2], "value of {name}");
        }
        assert_eq!(entry.read_only.to_string(), fact[3], "read_only of {name}");
        assert_eq!(entry.is_sensitive.to_string(), fact[4], "sensitive of {name}");
        let mut found = synonyms(entry);
        if DEFAULT_IS_OURS.contains(&name) {
            found = found.replace(&format!(",{name}@DEFAULT_CONFIG"), "");
        }
        assert_eq!(found, fact[5], "synonyms of {name}");
    }
}

#[test]
fn a_broker_is_described_as_kafka_describes_it() {
    check_against(&describe_broker(&broker()), BROKER_FACTS);
}

#[test]
fn a_topic_is_described_as_kafka_describes_it() {
    check_against(&describe_topic(&broker(), []), TOPIC_FACTS);
}

fn find<'a>(entries: &'a [ConfigEntry], name: &str) -> &'a ConfigEntry {
    entries.iter().find(|entry| entry.name == name).unwrap()
}

#[test]
fn what_a_topic_sets_comes_first() {
    let entries = describe_topic(&broker(), [("retention.ms", " 5 "), ("segment.bytes", "2000000")]);
    let segment_bytes = find(&entries, "segment.bytes");
    assert_eq!(segment_bytes.source, ConfigSource::Topic);
    assert_eq!(synonyms(segment_bytes), "segment.bytes@TOPIC_CONFIG,log.segment.bytes@DEFAULT_CONFIG");
    let retention_ms = find(&entries, "retention.ms");
    assert_eq!(retention_ms.value.as_deref(), Some("5"));
    assert_eq!(synonyms(retention_ms), "retention.ms@TOPIC_CONFIG");
    assert!(find(&entries, "max.message.bytes").is_default());
}

#[test]
fn every_layer_is_told_the_strongest_first() {
    let (fixed, _) = BrokerConfig::parse("log.retention.hours=2\nlog.retention.ms=3", &[]).unwrap();
    let broker = fixed.with_dynamic([("log.retention.ms", "4")], [("log.retention.ms", "5")]);
    let entries = describe_broker(&broker);
    let entry = find(&entries, "log.retention.ms");
    assert_eq!(entry.value.as_deref(), Some("5"));
    assert_eq!(
        synonyms(entry),
        "log.retention.ms@DYNAMIC_BROKER_CONFIG,log.retention.ms@DYNAMIC_DEFAULT_BROKER_CONFIG,\
         log.retention.ms@STATIC_BROKER_CONFIG,log.retention.hours@STATIC_BROKER_CONFIG,\
         log.retention.hours@DEFAULT_CONFIG"
    );
    assert_eq!(find(&describe_topic(&broker, []), "retention.ms").source, ConfigSource::DynamicBroker);
    let defaults = describe_cluster_default(&broker);
    assert_eq!(defaults.len(), 1);
    assert_eq!(defaults[0].value.as_deref(), Some("4"));
    assert_eq!(synonyms(&defaults[0]), "log.retention.ms@DYNAMIC_DEFAULT_BROKER_CONFIG");
}

#[test]
fn a_secret_is_not_described() {
    let file = "ssl.key.password=geheim\nlistener.name.x.ssl.key.password=geheim\nlistener.name.x.plain.sasl.jaas.config=geheim\n\
                listener.name.x.made.up=geheim";
    let (broker, _) = BrokerConfig::parse(file, &[]).unwrap();
    let entries = describe_broker(&broker);
    assert!(!format!("{entries:?}").contains("geheim"));
    assert!(find(&entries, "ssl.key.password").is_sensitive);
    assert!(find(&entries, "listener.name.x.made.up").is_sensitive, "what is not known may be a secret");
}
