//! Where the replicas of a broker with several log dirs go.

use dohle_types::{BrokerId, PartitionIndex};
use uuid::Uuid;

use super::Cluster;
use crate::Outcome;

fn places(cluster: &Cluster, topic: &str) -> Vec<u128> {
    let topic = cluster.image().topic(topic).unwrap();
    let of = |partition: &crate::PartitionImage| partition.directory_of(BrokerId(1)).unwrap().as_u128();
    topic.partitions.values().map(of).collect()
}

#[test]
fn new_replicas_go_where_the_fewest_are() {
    let mut cluster = Cluster::new();
    cluster.create(&["old partitions=2"]);
    assert_eq!(places(&cluster, "old"), [1001, 1001]);
    cluster.register_with(1, &[1001, 1002, 1003]);
    cluster.create(&["first partitions=3", "second partitions=3"]);
    assert_eq!(places(&cluster, "first"), [1002, 1003, 1002]);
    assert_eq!(places(&cluster, "second"), [1003, 1001, 1002]);
}

#[test]
fn what_a_broker_tells_of_its_replicas_is_written_where_it_is_news() {
    let mut cluster = Cluster::new();
    cluster.create(&["t partitions=2"]);
    let id = cluster.image().topic("t").unwrap().id;
    let told = [(0, 1001), (1, 1002), (2, 1002)]
        .map(|(index, directory)| (id, PartitionIndex(index), Uuid::from_u128(directory)));
    let records = cluster.controller.assign_log_dirs(BrokerId(1), told);
    assert_eq!(records.len(), 1);
    cluster.run(Outcome { records, reply: () });
    assert_eq!(places(&cluster, "t"), [1001, 1002]);
}
