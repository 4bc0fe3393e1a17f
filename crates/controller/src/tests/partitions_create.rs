use dohle_protocol::messages::CreatePartitionsRequest;
use dohle_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use expect_test::expect;

use super::{Cluster, describe, error, ids};

/// `name count` or `name count 1,2 2,1` with an assignment per new partition.
fn add(cluster: &mut Cluster, validate_only: bool, topics: &[&str]) -> String {
    let parse = |text: &&str| {
        let words: Vec<&str> = text.split(' ').collect();
        let assignment = |brokers: &&str| CreatePartitionsAssignment { broker_ids: ids(brokers) };
        CreatePartitionsTopic {
            name: words[0].into(),
            count: words[1].parse().unwrap(),
            assignments: (words.len() > 2).then(|| words[2..].iter().map(assignment).collect()),
        }
    };
    let request = CreatePartitionsRequest {
        topics: topics.iter().map(parse).collect(),
        validate_only,
        ..Default::default()
    };
    let outcome = cluster.controller.handle_create_partitions(&mut cluster.rng, &request);
    let results = cluster.run(outcome).results;
    let line = |topic: &dohle_protocol::messages::create_partitions_response::CreatePartitionsTopicResult| {
        format!("{}: {}\n", topic.name, error(topic.error_code, topic.error_message.as_ref()))
    };
    results.iter().map(line).collect()
}

#[test]
fn partitions_are_added_behind_those_there_are() {
    let mut cluster = Cluster::with("", 2);
    cluster.create(&["placed partitions=1 rf=1", "assigned 0:1,2"]);
    let answer = add(&mut cluster, false, &["placed 2", "assigned 3 2,1 1,2"]);
    expect![[r#"
        placed: NONE
        assigned: NONE
        broker 1 epoch 3 active at localhost:9092
        broker 2 epoch 5 active at localhost:9093
        topic assigned
          0: leader 1 epoch 0, replicas [1, 2], isr [1, 2]
          1: leader 2 epoch 0, replicas [2, 1], isr [2, 1]
          2: leader 1 epoch 0, replicas [1, 2], isr [1, 2]
        topic placed
          0: leader 2 epoch 0, replicas [2], isr [2]
          1: leader 2 epoch 0, replicas [2], isr [2]
    "#]]
    .assert_eq(&format!("{answer}{}", describe(cluster.image())));
}

#[test]
fn each_topic_gets_its_own_error() {
    let mut cluster = Cluster::with("", 2);
    cluster.create(&["a partitions=2 rf=1", "b partitions=2 rf=1", "c partitions=2 rf=2"]);
    let before = cluster.image().clone();
    let answer = add(&mut cluster, false, &["unknown 3", "a 2", "b 3", "b 4", "c 1"]);
    let answer = answer + &add(&mut cluster, false, &["a 4 1", "b 3 1,2", "c 3 1,9"]);
    let answer = answer + &add(&mut cluster, false, &["a 2147483647", "b -1"]);
    expect![[r#"
        unknown: UNKNOWN_TOPIC_OR_PARTITION: The topic 'unknown' does not exist.
        a: INVALID_PARTITIONS: Topic already has 2 partition(s).
        b: INVALID_REQUEST: Duplicate topic name: the request names 'b' more than once
        c: INVALID_PARTITIONS: The topic c currently has 2 partition(s); 1 would not be an increase.
        a: INVALID_REPLICA_ASSIGNMENT: Attempted to add 2 additional partition(s), but 1 assignment(s) were specified.
        b: INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes a partition with 2 replica(s), but the partitions before it have 1
        c: INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes broker 9, but no such broker is registered.
        a: POLICY_VIOLATION: A request may add 10000 partitions; use several requests
        b: INVALID_PARTITIONS: The topic b currently has 2 partition(s); -1 would not be an increase.
    "#]].assert_eq(&answer);
    assert_eq!(cluster.image(), &before);
}

#[test]
fn validate_only_changes_nothing() {
    let mut cluster = Cluster::new();
    cluster.create(&["t"]);
    assert_eq!(add(&mut cluster, true, &["t 2"]), "t: NONE\n");
    assert_eq!(cluster.image().partition_count(), 1);
}
