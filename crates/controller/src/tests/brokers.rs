use dohle_protocol::messages::{FenceBrokerRecord, PartitionChangeRecord, UnregisterBrokerRecord};
use dohle_types::{LeaderEpoch, Offset};
use expect_test::{Expect, expect};

use super::{Cluster, describe};
use crate::{MetadataRecord, Outcome, ReplayError};

#[test]
fn a_restart_registers_anew_and_begins_new_leader_epochs() {
    let mut cluster = Cluster::new();
    cluster.create(&["t partitions=2"]);
    cluster.register(1);
    expect![[r#"
        broker 1 epoch 8 active at localhost:9092
        topic t
          0: leader 1 epoch 1, replicas [1], isr [1]
          1: leader 1 epoch 1, replicas [1], isr [1]
    "#]]
    .assert_eq(&describe(cluster.image()));
}

/// What a partition becomes when broker 1 of 2 starts, after a change that Apache Kafka could have left in the log.
fn check(before: PartitionChangeRecord, expected: Expect) {
    let mut cluster = Cluster::with("", 2);
    cluster.create(&["t 0:1,2"]);
    let topic_id = cluster.image().topic("t").unwrap().id.0;
    let change = PartitionChangeRecord { partition_id: 0, topic_id, ..before };
    cluster.run(Outcome { records: vec![change.into()], reply: () });
    cluster.register(1);
    let image = describe(cluster.image());
    expected.assert_eq(image.lines().last().unwrap().trim());
}

#[test]
fn a_broker_leads_again_where_it_has_all_committed_records() {
    let change = PartitionChangeRecord::default;
    check(
        PartitionChangeRecord { leader: -1, ..change() },
        expect!["0: leader 1 epoch 2, replicas [1, 2], isr [1, 2]"],
    );
    let stopped = PartitionChangeRecord {
        leader: -1,
        isr: Some(vec![]),
        eligible_leader_replicas: Some(vec![1, 2]),
        ..change()
    };
    check(stopped, expect!["0: leader 1 epoch 2, replicas [1, 2], isr [1], elr [2]"]);
    let crashed =
        PartitionChangeRecord { leader: -1, isr: Some(vec![]), last_known_elr: Some(vec![1]), ..change() };
    check(crashed, expect!["0: leader 1 epoch 2, replicas [1, 2], isr [1]"]);
}

#[test]
fn a_broker_does_not_lead_where_others_have_more() {
    let change = PartitionChangeRecord::default;
    check(
        PartitionChangeRecord { leader: 2, ..change() },
        expect!["0: leader 2 epoch 1, replicas [1, 2], isr [1, 2]"],
    );
    check(
        PartitionChangeRecord { leader: -1, isr: Some(vec![2]), ..change() },
        expect!["0: leader -1 epoch 1, replicas [1, 2], isr [2]"],
    );
    let elr = PartitionChangeRecord {
        leader: -1,
        isr: Some(vec![]),
        eligible_leader_replicas: Some(vec![2]),
        last_known_elr: Some(vec![1]),
        ..change()
    };
    check(elr, expect!["0: leader -1 epoch 1, replicas [1, 2], elr [2], last known elr [1]"]);
}

#[test]
fn what_is_said_of_an_old_registration_is_refused() {
    let mut cluster = Cluster::new();
    cluster.register(1);
    let epoch = cluster.image().broker(dohle_types::BrokerId(1)).unwrap().epoch;
    let mut image = cluster.image().clone();
    let mut replay = |record: MetadataRecord| image.replay(&record, Offset(100), LeaderEpoch(1));
    let stale = replay(FenceBrokerRecord { id: 1, epoch: epoch - 2 }.into());
    assert!(matches!(stale, Err(ReplayError::UnknownBroker { .. })), "{stale:?}");
    assert_eq!(replay(FenceBrokerRecord { id: 1, epoch }.into()), Ok(()));
    assert_eq!(image.alive_brokers().count(), 0);
    let gone = UnregisterBrokerRecord { broker_id: 1, broker_epoch: epoch };
    assert_eq!(image.replay(&gone.into(), Offset(101), LeaderEpoch(1)), Ok(()));
    assert_eq!(image.brokers().count(), 0);
}

#[test]
fn fenced_brokers_follow_only_where_others_do_not_suffice() {
    let mut cluster = Cluster::with("", 3);
    let epoch = cluster.image().broker(dohle_types::BrokerId(2)).unwrap().epoch;
    cluster.run(Outcome { records: vec![FenceBrokerRecord { id: 2, epoch }.into()], reply: () });
    cluster.create(&["two partitions=2 rf=2", "three rf=3"]);
    let image = describe(cluster.image());
    let partitions: Vec<&str> = image.lines().filter(|line| line.starts_with("  ")).map(str::trim).collect();
    expect![[r#"
        0: leader 3 epoch 0, replicas [3, 1, 2], isr [3, 1]
        0: leader 1 epoch 0, replicas [1, 3], isr [1, 3]
        1: leader 3 epoch 0, replicas [3, 1], isr [3, 1]"#]]
    .assert_eq(&partitions.join("\n"));
}
