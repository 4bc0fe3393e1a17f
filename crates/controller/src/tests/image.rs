use dohle_protocol::messages::{
    AbortTransactionRecord, BeginTransactionRecord, ClearElrRecord, ConfigRecord, EndTransactionRecord,
    FeatureLevelRecord, NoOpRecord, PartitionChangeRecord, PartitionRecord, RemoveTopicRecord, TopicRecord,
};
use dohle_types::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use expect_test::expect;
use uuid::Uuid;

use super::{Cluster, bytes, debug, describe};
use crate::{MetadataImage, MetadataRecord, activation_records};

fn replayed(records: &[MetadataRecord]) -> MetadataImage {
    let mut image = MetadataImage::default();
    for (offset, record) in (0..).zip(records) {
        image.replay(record, Offset(offset), LeaderEpoch(1)).unwrap();
    }
    image
}

fn topic(name: &str, id: u128) -> MetadataRecord {
    TopicRecord { name: name.into(), topic_id: Uuid::from_u128(id) }.into()
}

#[test]
fn topics_and_partitions_are_found() {
    let mut cluster = Cluster::new();
    cluster.create(&["b partitions=2", "a", "c"]);
    let image = cluster.image();
    let b = image.topic("b").unwrap();
    assert_eq!(image.topic_by_id(b.id), Some(b));
    assert_eq!(image.topic_by_id(TopicId::ZERO), None);
    assert!(image.partition("b", PartitionIndex(1)).is_some());
    assert!(image.partition("b", PartitionIndex(2)).is_none());
    let names = |first| image.topics_from(first).map(|topic| topic.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(""), ["a", "b", "c"]);
    assert_eq!(names("b"), ["b", "c"]);
    assert_eq!(names("bb"), ["c"]);
    assert_eq!(image.partition_count(), 4);
    assert_eq!(
        image.finalized_features().collect::<Vec<_>>(),
        [("group.version", 1), ("metadata.version", 30), ("transaction.version", 2)]
    );
}

#[test]
fn a_clone_is_not_changed_with_its_original() {
    let mut cluster = Cluster::new();
    cluster.create(&["a"]);
    let before = cluster.image().clone();
    cluster.create(&["b"]);
    assert_eq!(before.topics().len(), 1);
    assert_eq!(cluster.image().topics().len(), 2);
}

#[test]
fn a_transaction_is_taken_in_as_a_whole_or_not_at_all() {
    let begin = || MetadataRecord::from(BeginTransactionRecord::default());
    let committed = replayed(&[begin(), topic("a", 100), EndTransactionRecord {}.into()]);
    assert!(committed.topic("a").is_some() && !committed.is_in_transaction());
    let aborted = replayed(&[begin(), topic("a", 100), AbortTransactionRecord::default().into()]);
    assert!(aborted.topic("a").is_none() && !aborted.is_in_transaction());
    assert_eq!(aborted.end_offset(), Offset(3));
    let mut open = replayed(&[begin(), topic("a", 100)]);
    assert!(open.is_in_transaction());
    for record in activation_records(&open.clone(), Vec::new()) {
        open.replay(&record, open.end_offset(), LeaderEpoch(2)).unwrap();
    }
    assert!(open.topic("a").is_none() && !open.is_in_transaction());
    assert_eq!(open.last_epoch(), LeaderEpoch(2));
    assert_eq!(activation_records(&open, Vec::new()), []);
}

#[test]
fn records_that_do_not_fit_are_refused_and_change_nothing() {
    let id = Uuid::from_u128(100);
    let before = replayed(&[topic("a", 100)]);
    let records: Vec<MetadataRecord> = vec![
        topic("a", 101),
        topic("b", 100),
        RemoveTopicRecord { topic_id: Uuid::from_u128(7) }.into(),
        PartitionRecord { topic_id: Uuid::from_u128(7), ..Default::default() }.into(),
        PartitionChangeRecord { topic_id: id, partition_id: 3, ..Default::default() }.into(),
        ConfigRecord { resource_type: 99, ..Default::default() }.into(),
        EndTransactionRecord {}.into(),
        FeatureLevelRecord { name: "metadata.version".into(), feature_level: 31 }.into(),
    ];
    let mut errors = Vec::new();
    for record in &records {
        let mut image = before.clone();
        errors.push(image.replay(record, Offset(1), LeaderEpoch(1)).unwrap_err().to_string());
        assert_eq!(image, before);
    }
    expect![[r#"
        "topic a is created a second time"
        "topic b is created a second time"
        "a RemoveTopicRecord speaks of topic id AAAAAAAAAAAAAAAAAAAABw, which does not exist"
        "a PartitionRecord speaks of topic id AAAAAAAAAAAAAAAAAAAABw, which does not exist"
        "a PartitionChangeRecord speaks of partition 3 of topic a, which does not exist"
        "a ConfigRecord is about an unknown resource: configs cannot be set for resource type 99; use 2 for a topic, 4 for a broker or 32 for a group"
        "a transaction ends that has not begun"
        "the cluster is at metadata.version 31, and this version of Dohle knows levels 7 to 30"
    "#]].assert_eq(&debug(errors));
}

#[test]
fn records_without_effect_only_move_the_offset() {
    let before = replayed(&[topic("a", 100)]);
    let mut image = before.clone();
    image.replay(&NoOpRecord {}.into(), Offset(7), LeaderEpoch(1)).unwrap();
    assert_eq!(image.end_offset(), Offset(8));
    assert_eq!(image.topic("a"), before.topic("a"));
}

#[test]
fn eligible_leader_replicas_are_cleared() {
    let partition = |id| {
        let elr = Some(vec![1]);
        PartitionRecord {
            partition_id: 0,
            topic_id: Uuid::from_u128(id),
            eligible_leader_replicas: elr,
            ..Default::default()
        }
    };
    let mut image =
        replayed(&[topic("a", 100), topic("b", 101), partition(100).into(), partition(101).into()]);
    let elr_len = |image: &MetadataImage, name| image.partition(name, PartitionIndex(0)).unwrap().elr.len();
    image.replay(&ClearElrRecord { topic_name: "a".into() }.into(), Offset(4), LeaderEpoch(1)).unwrap();
    assert_eq!((elr_len(&image, "a"), elr_len(&image, "b")), (0, 1));
    image.replay(&ClearElrRecord { topic_name: "".into() }.into(), Offset(5), LeaderEpoch(1)).unwrap();
    assert_eq!((elr_len(&image, "a"), elr_len(&image, "b")), (0, 0));
}

#[test]
fn the_log_of_apache_kafka_opens() {
    let mut cluster = Cluster::with("", 0);
    cluster.controller = crate::Controller::default();
    for line in
        include_str!("../../testdata/kafka-4.3.1-metadata.hex").lines().filter(|line| !line.starts_with('#'))
    {
        let (offset, hex) = line.split_once(' ').unwrap();
        let record = MetadataRecord::decode(&bytes(hex)).unwrap();
        cluster.controller.replay(&record, Offset(offset.parse().unwrap()), LeaderEpoch(1)).unwrap();
    }
    assert_eq!(activation_records(cluster.image(), Vec::new()), []);
    let opened = describe(cluster.image());
    cluster.register(1);
    expect![[r#"
        broker 1 epoch 365 active at 127.0.0.1:19192
        topic __consumer_offsets
          0: leader 1 epoch 4, replicas [1], isr [1], recovering
          1: leader 1 epoch 4, replicas [1], isr [1], recovering
          2: leader 1 epoch 4, replicas [1], isr [1], recovering
        topic auto
          0: leader 1 epoch 4, replicas [1], isr [1], recovering
        topic orders
          0: leader 1 epoch 4, replicas [1], isr [1], recovering
          1: leader 1 epoch 4, replicas [1], isr [1], recovering
          2: leader 1 epoch 4, replicas [1], isr [1], recovering
          3: leader 1 epoch 4, replicas [1], isr [1], recovering
        configs of topic __consumer_offsets: cleanup.policy=compact, compression.type=producer, segment.bytes=104857600
        configs of topic orders: cleanup.policy=compact, segment.bytes=1048576
        configs of default broker: log.cleaner.threads=1, min.insync.replicas=1
        configs of broker 1: log.cleaner.backoff.ms=15000
        --- started by Dohle:
        broker 1 epoch 384 active at localhost:9092
        topic __consumer_offsets
          0: leader 1 epoch 5, replicas [1], isr [1]
          1: leader 1 epoch 5, replicas [1], isr [1]
          2: leader 1 epoch 5, replicas [1], isr [1]
        topic auto
          0: leader 1 epoch 5, replicas [1], isr [1]
        topic orders
          0: leader 1 epoch 5, replicas [1], isr [1]
          1: leader 1 epoch 5, replicas [1], isr [1]
          2: leader 1 epoch 5, replicas [1], isr [1]
          3: leader 1 epoch 5, replicas [1], isr [1]
        configs of topic __consumer_offsets: cleanup.policy=compact, compression.type=producer, segment.bytes=104857600
        configs of topic orders: cleanup.policy=compact, segment.bytes=1048576
        configs of default broker: log.cleaner.threads=1, min.insync.replicas=1
        configs of broker 1: log.cleaner.backoff.ms=15000
    "#]].assert_eq(&format!("{opened}--- started by Dohle:\n{}", describe(cluster.image())));
    assert_eq!(cluster.image().next_producer_id(), dohle_types::ProducerId(1000));
}
