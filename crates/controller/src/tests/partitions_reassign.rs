use dohle_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use dohle_protocol::messages::{AlterPartitionReassignmentsRequest, PartitionChangeRecord};
use dohle_types::BrokerId;
use expect_test::expect;

use super::{Cluster, Outcome, error, ids};
use crate::Controller;

/// `topic 0:2,1`: these replicas for a partition; `topic 0:cancel`.
fn reassign(cluster: &mut Cluster, asked: &str, allow_replication_factor_change: bool) -> String {
    let (topic, rest) = asked.split_once(' ').unwrap();
    let (index, replicas) = rest.split_once(':').unwrap();
    let replicas = (replicas != "cancel").then(|| ids(replicas));
    let partition = ReassignablePartition { partition_index: index.parse().unwrap(), replicas };
    let request = AlterPartitionReassignmentsRequest {
        topics: vec![ReassignableTopic { name: topic.into(), partitions: vec![partition] }],
        allow_replication_factor_change,
        ..Default::default()
    };
    let outcome = Controller::handle_alter_partition_reassignments(&cluster.controller, &request);
    let records = outcome.records.len();
    let answer = cluster.run(outcome).responses.remove(0).partitions.remove(0);
    format!("{asked}: {}, {records} records\n", error(answer.error_code, answer.error_message.as_ref()))
}

#[test]
fn replicas_are_taken_away_and_put_in_another_order_and_no_others_are_made() {
    let mut cluster = Cluster::with("", 3);
    cluster.create(&["t 0:1,2", "u 0:1,2"]);
    let answers: String = ["t 0:1,2", "t 0:2,1", "t 0:1", "t 0:1"]
        .into_iter()
        .chain(["t 0:2", "t 0:1,3", "t 0:1,1", "t 0:1,9", "t 0:", "t 0:cancel", "t 7:1", "x 0:1"])
        .map(|asked| reassign(&mut cluster, asked, true))
        .collect();
    expect![[r#"
        t 0:1,2: NONE, 0 records
        t 0:2,1: NONE, 1 records
        t 0:1: NONE, 1 records
        t 0:1: NONE, 0 records
        t 0:2: INVALID_REPLICA_ASSIGNMENT: Broker 2 has no replica of the partition, and none can be made: nothing is replicated yet, 0 records
        t 0:1,3: INVALID_REPLICA_ASSIGNMENT: Broker 3 has no replica of the partition, and none can be made: nothing is replicated yet, 0 records
        t 0:1,1: INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes the broker 1 more than once., 0 records
        t 0:1,9: INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes broker 9, but no such broker is registered., 0 records
        t 0:: INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes an empty replica list., 0 records
        t 0:cancel: NO_REASSIGNMENT_IN_PROGRESS: No partition reassignment in progress., 0 records
        t 7:1: UNKNOWN_TOPIC_OR_PARTITION: Unable to find partition t:7., 0 records
        x 0:1: UNKNOWN_TOPIC_OR_PARTITION: Unable to find a topic named x., 0 records
    "#]]
    .assert_eq(&answers);
    expect![[r#"
        u 0:1: INVALID_REPLICATION_FACTOR: The replication factor is changed from 2 to 1, 0 records
    "#]]
    .assert_eq(&reassign(&mut cluster, "u 0:1", false));
    let partition = cluster.image().topic("t").unwrap().partitions.values().next().unwrap();
    let one = [BrokerId(1)];
    assert_eq!((&*partition.replicas, &*partition.isr, partition.leader), (&one[..], &one[..], BrokerId(1)));
    assert_eq!(partition.directories.len(), 1);
}

#[test]
fn replicas_of_brokers_that_are_gone_for_good_are_taken_away() {
    let mut cluster = Cluster::new();
    cluster.create(&["t 0:1"]);
    let topic_id = cluster.image().topic("t").unwrap().id.0;
    let of_three = PartitionChangeRecord {
        partition_id: 0,
        topic_id,
        replicas: Some(vec![7, 1, 8]),
        isr: Some(vec![1]),
        directories: Some(vec![uuid::Uuid::nil(), uuid::Uuid::from_u128(1001), uuid::Uuid::nil()]),
        ..Default::default()
    };
    cluster.run(Outcome { records: vec![of_three.into()], reply: () });
    assert_eq!(reassign(&mut cluster, "t 0:1", true), "t 0:1: NONE, 1 records\n");
    let partition = cluster.image().topic("t").unwrap().partitions.values().next().unwrap();
    assert_eq!((&*partition.replicas, partition.directories[0].as_u128()), (&[BrokerId(1)][..], 1001));
}
