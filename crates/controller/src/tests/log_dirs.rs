//! Where the replicas of a broker with several log dirs go.

use dohle_types::{BrokerId, PartitionIndex};
use expect_test::expect;
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

#[test]
fn new_replicas_go_to_no_cordoned_log_dir() {
    let mut cluster = Cluster::new();
    cluster.register_with(1, &[1001, 1002, 1003]);
    let cordon = |cluster: &mut Cluster, cordoned: &[u128]| {
        let [all, cordoned] = [&[1001, 1002, 1003], cordoned]
            .map(|ids| ids.iter().map(|&id| Uuid::from_u128(id)).collect::<Vec<_>>());
        let records = cluster.controller.change_log_dirs(BrokerId(1), all, cordoned);
        let count = records.len();
        cluster.run(Outcome { records, reply: () });
        count
    };
    assert_eq!(cordon(&mut cluster, &[]), 0);
    assert_eq!(cordon(&mut cluster, &[1002]), 1);
    assert_eq!(cordon(&mut cluster, &[1002]), 0);
    cluster.create(&["some partitions=4"]);
    assert_eq!(places(&cluster, "some"), [1001, 1003, 1001, 1003]);
    cordon(&mut cluster, &[1001, 1002, 1003]);
    expect![[r"
        none: INVALID_REPLICATION_FACTOR: Unable to replicate the partition 1 time(s): All brokers are currently fenced, or have all their log directories cordoned.
        named: created, 1 partitions, 1 replicas
    "]]
    .assert_eq(&cluster.create(&["none partitions=1", "named 0:1"]));
    assert_eq!(places(&cluster, "named"), [1002]);
    cordon(&mut cluster, &[]);
    cluster.create(&["more partitions=3"]);
    assert_eq!(places(&cluster, "more"), [1002, 1001, 1002]);
}
