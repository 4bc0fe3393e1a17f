//! A deleted topic comes back whole: after a stop in good order, after kill -9, and under another name.

use std::path::Path;
use std::thread;

use dohle_protocol::messages::{DeleteRecordsRequest, FindCoordinatorRequest, delete_records_request};
use dohle_types::TopicId;

use crate::client::Client;
use crate::durable::{commit, committed};
use crate::process::{Broker, Directory, until};

fn produce(client: &mut Client, topic: TopicId, values: &[&str]) {
    let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
    assert_eq!(client.produce(topic, 0, &values), 0);
}

fn values(client: &mut Client, topic: TopicId, start: i64) -> Vec<String> {
    let values = client.consume_from(topic, 0, start);
    values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

pub(crate) fn directories(data: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap());
    let names = entries.filter(|entry| entry.file_name() != "__cluster_metadata-0").map(|entry| entry.path());
    let mut names: Vec<String> = names
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_deleted_topic_comes_back_with_id_records_offsets_configs_and_group_offsets() {
    let data = Directory::new();
    let mut broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let id = client.create_topic("orders", 2, &[("retention.ms", "86400000")]);
    produce(&mut client, id, &["a", "b", "c"]);
    let partition = delete_records_request::DeleteRecordsPartition { partition_index: 0, offset: 1 };
    let topic =
        delete_records_request::DeleteRecordsTopic { name: "orders".into(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 10_000 };
    assert_eq!(client.call(&request, 2).topics[0].partitions[0].low_watermark, 1);
    until("the group has a coordinator", || {
        let coordinator_keys = vec!["billing".into()];
        let request = FindCoordinatorRequest { coordinator_keys, ..Default::default() };
        (client.call(&request, 6).coordinators[0].error_code == 0).then_some(())
    });
    until("the group is loaded", || (commit(&mut client, id, 2) == 0).then_some(()));

    for end in ["none", "stop", "kill"] {
        broker.succeed(&["topic", "delete", "orders"], "");
        let trash = broker.succeed(&["topic", "trash", "--json"], "");
        assert!(trash.contains("\"topic\":\"orders\"") && trash.contains(&id.to_string()), "{trash}");
        broker = end_and_start(broker, &data.0, end);
        broker.succeed(&["topic", "undelete", "orders"], "");
        broker = end_and_start(broker, &data.0, end);

        let mut client = Client::connect(&broker.address);
        assert_eq!(client.topic_id("orders"), id);
        assert_eq!(values(&mut client, id, 1), ["b", "c"]);
        let offset = until("the group is loaded", || committed(&mut client, id));
        assert_eq!(offset, 2);
        let described = broker.succeed(&["topic", "describe", "orders"], "");
        assert!(described.contains("retention.ms") && described.contains("86400000"), "{described}");
        assert_eq!(broker.succeed(&["topic", "trash", "--json"], ""), "");
    }
    produce(&mut Client::connect(&broker.address), id, &["d"]);
    assert_eq!(values(&mut Client::connect(&broker.address), id, 1), ["b", "c", "d"]);
}

pub(crate) fn end_and_start(broker: Broker, data: &Path, end: &str) -> Broker {
    match end {
        "stop" => broker.stop(),
        "kill" => broker.kill(),
        _ => return broker,
    }
    Broker::start(data, &[])
}

/// Writes a record to each partition of a topic, all at once.
pub(crate) fn write_to_each(broker: &Broker, topic: TopicId, partitions: i32, value: &str) {
    let produce = |partition: i32| {
        assert_eq!(Client::connect(&broker.address).produce(topic, partition, &[value.as_bytes()]), 0);
    };
    thread::scope(|scope| {
        (0..partitions).for_each(|partition| drop(scope.spawn(move || produce(partition))))
    });
}

#[test]
fn a_topic_that_is_deleted_while_only_the_journal_has_its_records_keeps_no_journal_over_a_clean_stop() {
    const PARTITIONS: i32 = 6;
    let data = Directory::new();
    let overrides = ["dohle.journal.bytes=1048576", "dohle.journal.partitions.min=1"];
    let broker = Broker::start(&data.0, &overrides);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", PARTITIONS, &[]);
    write_to_each(&broker, topic, PARTITIONS, "a");
    until("there is a journal", || data.0.join("dohle-journal-0").exists().then_some(()));
    write_to_each(&broker, topic, PARTITIONS, "b");
    client.delete_topic("orders");
    broker.stop();
    assert!(data.0.join(".kafka_cleanshutdown").exists());
    assert!(!data.0.join("dohle-journal-0").exists());
    let broker = Broker::start(&data.0, &overrides);
    broker.succeed(&["topic", "undelete", "orders"], "");
    let mut client = Client::connect(&broker.address);
    for partition in 0..PARTITIONS {
        assert_eq!(client.consume(topic, partition), ["a", "b"]);
    }
}

#[test]
fn a_name_that_is_in_use_again_comes_back_as_another_and_the_last_deleted_is_meant() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let mut ids = Vec::new();
    for value in ["first", "second", "third"] {
        let id = client.create_topic("orders", 1, &[]);
        produce(&mut client, id, &[value]);
        ids.push(id);
        if value != "third" {
            client.delete_topic("orders");
        }
    }
    let refused = broker.run(&["topic", "undelete", "orders"], "");
    assert!(refused.stderr.contains("already exists"), "{}", refused.stderr);
    broker.succeed(&["topic", "undelete", "orders", "--as", "orders.old"], "");
    assert_eq!(values(&mut client, ids[1], 0), ["second"]);
    broker.succeed(&["topic", "undelete", "orders", "--as", "older", "--id", &ids[0].to_string()], "");
    assert_eq!(values(&mut client, ids[0], 0), ["first"]);
    assert_eq!(values(&mut client, ids[2], 0), ["third"]);
    assert_eq!(directories(&data.0), ["older-0", "orders-0", "orders.old-0"]);
    let refused = broker.run(&["topic", "undelete", "orders"], "");
    assert!(refused.stderr.contains("no such topic in the trash"), "{}", refused.stderr);
}

#[test]
fn the_trash_is_emptied_in_time_and_can_be_switched_off() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &["log.retention.check.interval.ms=20", "dohle.topic.trash.ms=100"]);
    let mut client = Client::connect(&broker.address);
    let longest = "x".repeat(249);
    for name in ["orders", &longest] {
        let id = client.create_topic(name, 1, &[]);
        produce(&mut client, id, &["a"]);
        client.delete_topic(name);
    }
    until("the trash is empty", || directories(&data.0).is_empty().then_some(()));
    assert_eq!(broker.succeed(&["topic", "trash"], "").lines().count(), 1);
    broker.stop();
    assert!(
        !std::fs::read_dir(&data.0)
            .unwrap()
            .any(|entry| { entry.unwrap().path().extension().is_some_and(|extension| extension == "trash") })
    );

    let broker = Broker::start(&data.0, &["dohle.topic.trash.ms=0"]);
    let mut client = Client::connect(&broker.address);
    let id = client.create_topic(&longest, 1, &[]);
    produce(&mut client, id, &["a"]);
    client.delete_topic(&longest);
    until("the directory is gone", || directories(&data.0).is_empty().then_some(()));
    let refused = broker.run(&["topic", "undelete", &longest], "");
    assert!(refused.stderr.contains("no such topic in the trash"), "{}", refused.stderr);
}
