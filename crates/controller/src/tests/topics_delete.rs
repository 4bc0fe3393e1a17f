use dohle_protocol::messages::DeleteTopicsRequest;
use dohle_protocol::messages::delete_topics_request::DeleteTopicState;
use dohle_types::Str;
use expect_test::expect;
use uuid::Uuid;

use super::{Cluster, describe, error};

fn delete(cluster: &mut Cluster, version: i16, request: &DeleteTopicsRequest) -> String {
    let outcome = cluster.controller.handle_delete_topics(&cluster.config, version, request);
    let responses = cluster.run(outcome).responses;
    let line = |name: &Option<Str>, text| format!("{}: {text}\n", name.as_deref().unwrap_or("no name"));
    responses
        .iter()
        .map(|topic| line(&topic.name, error(topic.error_code, topic.error_message.as_ref())))
        .collect()
}

#[test]
fn topics_are_deleted_by_name_with_their_configs() {
    let mut cluster = Cluster::new();
    cluster.create(&["a.b retention.ms=1 partitions=2", "kept retention.ms=2"]);
    let request = DeleteTopicsRequest {
        topic_names: ["a.b", "unknown", "kept", "kept"].map(Str::from).into(),
        ..Default::default()
    };
    expect![[r#"
        a.b: NONE
        unknown: UNKNOWN_TOPIC_OR_PARTITION: The topic 'unknown' does not exist.
        kept: INVALID_REQUEST: Duplicate topic name or id: name each topic once
    "#]]
    .assert_eq(&delete(&mut cluster, 5, &request));
    expect![[r#"
        broker 1 epoch 3 active at localhost:9092
        topic kept
          0: leader 1 epoch 0, replicas [1], isr [1]
        configs of topic kept: retention.ms=2
    "#]]
    .assert_eq(&describe(cluster.image()));
    assert_eq!(cluster.image().partition_count(), 1);
    assert_eq!(cluster.create(&["a_b"]), "a_b: created, 1 partitions, 1 replicas\n");
}

#[test]
fn topics_are_deleted_by_name_or_id() {
    let mut cluster = Cluster::new();
    cluster.create(&["by-id", "by-name", "by-both", "twice"]);
    let id = |name: &str| cluster.image().topic(name).unwrap().id.0;
    let state = |name: Option<&str>, topic_id| DeleteTopicState { name: name.map(Str::from), topic_id };
    let topics = vec![
        state(None, id("by-id")),
        state(Some("by-name"), Uuid::nil()),
        state(Some("by-both"), id("by-both")),
        state(None, Uuid::nil()),
        state(None, Uuid::from_u128(7)),
        state(Some("twice"), Uuid::nil()),
        state(None, id("twice")),
    ];
    let request = DeleteTopicsRequest { topics, ..Default::default() };
    expect![[r#"
        by-id: NONE
        by-name: NONE
        by-both: INVALID_REQUEST: You may not specify both topic name and topic id.
        no name: INVALID_REQUEST: Neither topic name nor id were specified.
        no name: UNKNOWN_TOPIC_ID: There is no topic with id AAAAAAAAAAAAAAAAAAAABw.
        twice: NONE
        no name: INVALID_REQUEST: Duplicate topic name or id: name each topic once
    "#]]
    .assert_eq(&delete(&mut cluster, 6, &request));
    assert_eq!(cluster.image().topics().map(|topic| &*topic.name).collect::<Vec<_>>(), ["by-both"]);
}

#[test]
fn deletion_can_be_disabled() {
    let mut cluster = Cluster::with("delete.topic.enable=false", 1);
    cluster.create(&["t"]);
    let request = DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() };
    expect![[r#"
        t: INVALID_REQUEST: Topic deletion is disabled; set delete.topic.enable=true and restart the broker
    "#]]
    .assert_eq(&delete(&mut cluster, 2, &request));
    expect![[r#"
        t: TOPIC_DELETION_DISABLED: Topic deletion is disabled; set delete.topic.enable=true and restart the broker
    "#]].assert_eq(&delete(&mut cluster, 3, &request));
    assert!(cluster.image().topic("t").is_some());
}
