//! Partitions that move between log dirs, and what may happen to them on the way.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use dohle_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use dohle_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use dohle_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use dohle_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use dohle_protocol::messages::{
    AlterReplicaLogDirsRequest, DeleteRecordsRequest, DescribeLogDirsRequest, IncrementalAlterConfigsRequest,
    ListOffsetsRequest,
};
use dohle_types::TopicId;

use crate::client::Client;
use crate::log_dirs::{log_dirs, partitions};
use crate::process::{Broker, Directory, until};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const LOG_DIR_NOT_FOUND: i16 = 57;
/// A broker with two log dirs.
struct Two {
    root: Directory,
    first: PathBuf,
    second: PathBuf,
}

impl Two {
    fn new() -> Self {
        let root = Directory::new();
        let (first, second) = (root.0.join("a"), root.0.join("b"));
        Self { root, first, second }
    }

    fn start(&self, overrides: &[&str]) -> (Broker, Client) {
        let dirs = log_dirs(&self.root.0, &["a", "b"]);
        let broker = Broker::start_without_data(&[&[&*dirs], overrides].concat());
        let client = Client::connect(&broker.address);
        (broker, client)
    }

    /// Waits until the directories of partitions in both are these.
    fn wait_for(&self, first: &[&str], second: &[&str]) {
        let first = [&["__cluster_metadata-0"], first].concat();
        until(&format!("{first:?} and {second:?} are there"), || {
            (partitions(&self.first) == first && partitions(&self.second) == second).then_some(())
        });
    }
}

/// How many bytes a second are copied: with 1 the first piece is, and then nothing for hours.
fn set_rate(client: &mut Client, bytes_per_second: Option<i64>) {
    let rate = bytes_per_second.map(|rate| rate.to_string());
    set_config(client, "replica.alter.log.dirs.io.max.bytes.per.second", rate.as_deref());
}

/// Sets a config of the broker, or goes back to what it is by default.
fn set_config(client: &mut Client, name: &str, value: Option<&str>) {
    let config = AlterableConfig {
        name: name.into(),
        config_operation: i8::from(value.is_none()),
        value: value.map(Into::into),
    };
    let resources =
        vec![AlterConfigsResource { resource_type: 4, resource_name: "1".into(), configs: vec![config] }];
    let response = client.call(&IncrementalAlterConfigsRequest { resources, validate_only: false }, 1);
    assert_eq!(response.responses[0].error_code, 0);
}

/// Asks for a partition to be moved; the error code.
fn ask_to_move(client: &mut Client, topic: &str, to: &Path) -> i16 {
    let topics = vec![AlterReplicaLogDirTopic { name: topic.into(), partitions: vec![0] }];
    let dirs = vec![AlterReplicaLogDir { path: to.display().to_string().into(), topics }];
    client.call(&AlterReplicaLogDirsRequest { dirs }, 2).results[0].partitions[0].error_code
}

/// The partitions in each log dir as they are described: name, size, and whether it is a future replica.
fn described(client: &mut Client) -> Vec<Vec<(String, i64, bool)>> {
    let described = client.call(&DescribeLogDirsRequest { topics: None }, 4);
    let of = |result: &dohle_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult| {
        let partitions = result.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|it| (topic.name.to_string(), it.partition_size, it.is_future_key))
        });
        partitions.collect()
    };
    described.results.iter().map(of).collect()
}

fn earliest(client: &mut Client, topic: &str) -> i64 {
    let partition = ListOffsetsPartition { timestamp: -2, current_leader_epoch: -1, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: topic.into(), partitions: vec![partition] }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    client.call(&request, 7).topics[0].partitions[0].offset
}

/// Produces values of a megabyte, which all are `name` with a number.
fn fill(client: &mut Client, topic: TopicId, name: &str, count: usize) -> Vec<Bytes> {
    let padding = ".".repeat(1_000_000);
    let values: Vec<Bytes> = (0..count).map(|number| format!("{name} {number}{padding}").into()).collect();
    for value in &values {
        assert_eq!(client.produce(topic, 0, &[value]), 0);
    }
    values
}

#[test]
fn a_partition_moves_while_it_is_written_to_and_keeps_what_is_known_of_it() {
    let two = Two::new();
    let (broker, mut client) = two.start(&[]);
    let topic = client.create_topic("orders", 1, &[("segment.bytes", "3000000")]);
    let mut values = fill(&mut client, topic, "before", 10);
    assert_eq!(ask_to_move(&mut client, "orders", &two.root.0.join("c")), LOG_DIR_NOT_FOUND);
    assert_eq!(ask_to_move(&mut client, "other", &two.second), UNKNOWN_TOPIC_OR_PARTITION);
    // It is not to end before records were deleted: its checkpoint tells of that.
    set_rate(&mut client, Some(1));
    assert_eq!(ask_to_move(&mut client, "orders", &two.second), 0);
    values.extend(fill(&mut client, topic, "meanwhile", 10));
    let partition = DeleteRecordsPartition { partition_index: 0, offset: 7 };
    let topics = vec![DeleteRecordsTopic { name: "orders".into(), partitions: vec![partition] }];
    client.call(&DeleteRecordsRequest { topics, timeout_ms: 30_000 }, 2);
    set_rate(&mut client, None);
    two.wait_for(&[], &["orders-0"]);
    values.extend(fill(&mut client, topic, "after", 3));
    assert_eq!(client.consume_from(topic, 0, 7), values[7..]);
    let places = described(&mut client);
    assert!(places[0].is_empty() && places[1].len() == 1, "{places:?}");
    broker.kill();

    let (broker, mut client) = two.start(&[]);
    assert_eq!(earliest(&mut client, "orders"), 7);
    assert_eq!(client.consume_from(topic, 0, 7), values[7..]);
    broker.stop();

    // Also when its log is closed, or was never written to.
    let (_broker, mut client) = two.start(&[]);
    assert_eq!(ask_to_move(&mut client, "orders", &two.first), 0);
    client.create_topic("new", 1, &[]);
    assert_eq!(ask_to_move(&mut client, "new", &two.first), 0);
    two.wait_for(&["orders-0"], &[]);
    let places = described(&mut client);
    assert!(places[0].len() == 2 && places[1].is_empty(), "{places:?}");
    assert_eq!(client.consume_from(topic, 0, 7), values[7..]);
}

#[test]
fn a_move_is_given_up_changed_and_ended_by_the_deletion_of_its_topic() {
    let two = Two::new();
    let (_broker, mut client) = two.start(&["dohle.topic.trash.ms=0"]);
    set_rate(&mut client, Some(1));
    let topic = client.create_topic("orders", 1, &[]);
    let values = fill(&mut client, topic, "before", 5);
    assert_eq!(ask_to_move(&mut client, "orders", &two.second), 0);
    let copied = until("all that was there is copied", || {
        let places = described(&mut client);
        places[1].first().filter(|(_, size, _)| *size > 5_000_000).cloned()
    });
    assert!(copied.2, "{copied:?}");
    assert_eq!(partitions(&two.first), ["__cluster_metadata-0", "orders-0"]);
    assert_eq!(ask_to_move(&mut client, "orders", &two.second), 0);
    assert_eq!(described(&mut client)[1], [copied]);
    // It is to stay where it is.
    assert_eq!(ask_to_move(&mut client, "orders", &two.first), 0);
    two.wait_for(&["orders-0"], &[]);
    assert_eq!(described(&mut client)[1], []);
    assert_eq!(client.consume(topic, 0), values);

    assert_eq!(ask_to_move(&mut client, "orders", &two.second), 0);
    client.delete_topic("orders");
    let again = client.create_topic("orders", 1, &[]);
    assert_eq!(client.produce(again, 0, &[b"another"]), 0);
    until("what was copied of the deleted one is gone", || {
        let all = [partitions(&two.first), partitions(&two.second)].concat();
        (all == ["__cluster_metadata-0", "orders-0"]).then_some(())
    });
    assert_eq!(client.consume(again, 0), ["another"]);
}

#[test]
fn a_move_that_did_not_end_begins_anew_and_of_two_logs_the_known_one_counts() {
    let two = Two::new();
    let (broker, mut client) = two.start(&[]);
    set_rate(&mut client, Some(1));
    let topic = client.create_topic("orders", 1, &[]);
    let values = fill(&mut client, topic, "before", 5);
    assert_eq!(ask_to_move(&mut client, "orders", &two.second), 0);
    until("it is on its way", || partitions(&two.second).first().map(|_| ()));
    broker.kill();
    let (broker, mut client) = two.start(&[]);
    until("it is on its way again", || described(&mut client)[1].first().map(|_| ()));
    set_rate(&mut client, None);
    two.wait_for(&[], &["orders-0"]);
    assert_eq!(client.consume(topic, 0), values);
    broker.kill();

    // The node ended while names were being changed: the other one is older from now on.
    std::fs::create_dir(two.first.join("orders-0")).unwrap();
    let (broker, mut client) = two.start(&[]);
    assert_eq!(client.consume(topic, 0), values);
    assert_eq!(client.produce(topic, 0, &[b"goes on"]), 0);
    let strays = partitions(&two.first);
    assert!(strays.len() == 2 && strays[1].ends_with("-stray"), "{strays:?}");
    drop(broker);
}

#[test]
fn a_move_that_begins_anew_ends_though_its_log_has_lost_everything() {
    let two = Two::new();
    let (broker, mut client) = two.start(&[]);
    set_rate(&mut client, Some(1));
    let topic = client.create_topic("orders", 1, &[]);
    fill(&mut client, topic, "before", 5);
    assert_eq!(ask_to_move(&mut client, "orders", &two.second), 0);
    until("it is on its way", || partitions(&two.second).first().map(|_| ()));
    broker.kill();
    std::fs::remove_dir_all(two.first.join("orders-0")).unwrap();
    std::fs::create_dir(two.first.join("orders-0")).unwrap();

    let (_broker, mut client) = two.start(&[]);
    set_rate(&mut client, None);
    until("it is served", || (client.produce(topic, 0, &[b"goes on"]) == 0).then_some(()));
    assert_eq!(client.consume(topic, 0), ["goes on"]);
    two.wait_for(&[], &["orders-0"]);
    assert_eq!(client.consume(topic, 0), ["goes on"]);
}

#[test]
fn a_move_to_a_log_dir_that_fails_leaves_the_partition_where_it_is() {
    const KAFKA_STORAGE_ERROR: i16 = 56;
    let two = Two::new();
    let (_broker, mut client) = two.start(&[]);
    let topic = client.create_topic("orders", 1, &[]);
    let values = fill(&mut client, topic, "before", 5);
    // Something else is where the second log dir was: no directory can be made in it.
    std::fs::rename(&two.second, two.root.0.join("gone")).unwrap();
    std::fs::write(&two.second, "in the way").unwrap();
    assert_eq!(ask_to_move(&mut client, "orders", &two.second), 0);
    until("the log dir is known to have failed", || {
        (ask_to_move(&mut client, "orders", &two.second) == KAFKA_STORAGE_ERROR).then_some(())
    });
    assert_eq!(client.produce(topic, 0, &[b"goes on"]), 0);
    assert_eq!(client.consume(topic, 0).len(), values.len() + 1);
    assert_eq!(ask_to_move(&mut client, "orders", &two.first), 0);
}

#[test]
fn cordoned_log_dirs_take_no_partitions_and_keep_what_they_have() {
    const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
    const NAME: &str = "cordoned.log.dirs";
    let two = Two::new();
    let (broker, mut client) = two.start(&[]);
    let topic = client.create_topic("orders", 2, &[]);
    assert_eq!((client.produce(topic, 0, &[b"in a"]), client.produce(topic, 1, &[b"in b"])), (0, 0));
    let is_cordoned = |client: &mut Client| {
        let described = client.call(&DescribeLogDirsRequest { topics: None }, 5);
        described.results.iter().map(|result| result.is_cordoned).collect::<Vec<_>>()
    };
    set_config(&mut client, NAME, Some(&two.second.display().to_string()));
    until("it is cordoned", || (is_cordoned(&mut client) == [false, true]).then_some(()));
    assert_eq!(ask_to_move(&mut client, "orders", &two.second), INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(ask_to_move(&mut client, "nothing", &two.second), INVALID_REPLICA_ASSIGNMENT);
    broker.kill();

    let (_broker, mut client) = two.start(&[]);
    assert_eq!(is_cordoned(&mut client), [false, true]);
    let all_in_one = client.create_topic("new", 3, &[]);
    for partition in 0..3 {
        assert_eq!(client.produce(all_in_one, partition, &[b"x"]), 0);
    }
    two.wait_for(&["new-0", "new-1", "new-2", "orders-0"], &["orders-1"]);
    assert_eq!(client.produce(topic, 1, &[b"more"]), 0);
    set_config(&mut client, NAME, Some("*"));
    until("both are cordoned", || (is_cordoned(&mut client) == [true, true]).then_some(()));
    assert_eq!(ask_to_move(&mut client, "orders", &two.first), INVALID_REPLICA_ASSIGNMENT);
    set_config(&mut client, NAME, None);
    until("none is cordoned", || (is_cordoned(&mut client) == [false, false]).then_some(()));
    assert_eq!(ask_to_move(&mut client, "orders", &two.second), 0);
    two.wait_for(&["new-0", "new-1", "new-2"], &["orders-0", "orders-1"]);
}
