//! How far groups are behind, as `dohle group lag` tells it: through stops, kills and deleted records, and of logs that are
//! closed.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dohle_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use dohle_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use dohle_protocol::messages::{DeleteRecordsRequest, OffsetCommitRequest};
use dohle_records::{BatchBuilder, BatchOptions, Compressor};
use dohle_types::{ErrorCode, Timestamp, TopicId};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::client::{Client, PRODUCE_VERSION, produce_request};
use crate::metrics::{scrape, value};
use crate::process::{Broker, Directory, dohle, until};

fn seconds_ago(seconds: i64) -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    Timestamp(i64::try_from(now).unwrap() - seconds * 1_000)
}

/// A batch whose records are an hour old.
fn old_batch(values: &[&[u8]]) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for value in values {
        builder.append(seconds_ago(3_600), None, Some(value), &[]).unwrap();
    }
    builder.build(&mut Compressor::default()).unwrap()
}

fn produce_old(client: &mut Client, topic: TopicId, partition: i32, values: &[&[u8]]) {
    let response = client.call(&produce_request(topic, partition, old_batch(values)), PRODUCE_VERSION);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

/// Commits as tools do, that are no members.
fn commit(client: &mut Client, group: &str, topic: &str, offsets: &[(i32, i64)]) {
    let partitions =
        offsets.iter().map(|&(partition_index, committed_offset)| OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            ..OffsetCommitRequestPartition::default()
        });
    let request = OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: partitions.collect(),
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    };
    until("the offsets are committed", || {
        let error = client.call(&request, 9).topics[0].partitions[0].error_code;
        let waits = [ErrorCode::CoordinatorNotAvailable, ErrorCode::CoordinatorLoadInProgress];
        if ErrorCode::from_code(error).is_some_and(|error| waits.contains(&error)) {
            let find = dohle_protocol::messages::FindCoordinatorRequest {
                coordinator_keys: vec![group.into()],
                ..Default::default()
            };
            client.call(&find, 6);
            return None;
        }
        assert_eq!(error, 0);
        Some(())
    });
}

fn lag(broker: &Broker, arguments: &[&str]) -> Vec<Value> {
    let told = broker.run(&[&["group", "lag", "--json"], arguments].concat(), "");
    assert_eq!(told.code, 0, "{}", told.stderr);
    told.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Some columns of each partition, as text.
fn columns(rows: &[Value], names: &[&str]) -> Vec<String> {
    let row = |row: &Value| names.iter().map(|name| row[name].to_string()).collect::<Vec<_>>().join(" ");
    rows.iter().map(row).collect()
}

#[test]
fn the_lag_is_told_in_records_and_seconds_through_stops_and_deleted_records() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &["dohle.metrics.listeners=127.0.0.1:0"]);
    let none = broker.run(&["group", "lag", "billing"], "");
    assert_eq!(none.code, 1, "{}", none.stderr);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 3, &[]);
    produce_old(&mut client, topic, 0, &[b"a", b"b", b"c", b"d"]);
    assert_eq!(client.produce(topic, 0, &[b"e", b"f", b"g", b"h"]), 0);
    assert_eq!(client.produce(topic, 1, &[b"a"]), 0);
    commit(&mut client, "billing", "orders", &[(0, 2), (1, 1), (2, 0)]);
    let none = broker.run(&["group", "lag", "nobody"], "");
    assert!(none.stderr.contains("there is no group nobody"), "{}", none.stderr);

    let figures = ["partition", "current_offset", "log_end_offset", "lag", "lost", "state"];
    let rows = lag(&broker, &["billing"]);
    let told = columns(&rows, &figures);
    assert_eq!(told, [r#"0 2 8 6 0 "ok""#, r#"1 1 1 0 0 "ok""#, r#"2 0 0 0 0 "ok""#]);
    assert_eq!(columns(&rows, &["commits_seen"]), ["1", "1", "1"]);
    let seconds = |row: &Value| row["lag_seconds"].as_f64().unwrap();
    assert!((3_600.0..4_000.0).contains(&seconds(&rows[0])), "the third record is an hour old: {rows:?}");
    assert_eq!((seconds(&rows[1]), seconds(&rows[2])), (0.0, 0.0), "nothing is left");
    let page = scrape(&broker);
    let metric = |name: &str, partition: i32| {
        value(&page, &format!("{name}{{group=\"billing\",topic=\"orders\",partition=\"{partition}\"}}"))
    };
    assert_eq!(
        [0, 1, 2].map(|partition| metric("dohle_group_lag", partition)),
        [Some(6.0), Some(0.0), Some(0.0)]
    );
    assert!((3_600.0..4_000.0).contains(&metric("dohle_group_lag_seconds", 0).unwrap()), "{page}");
    assert_eq!(metric("dohle_group_lag_seconds", 1), Some(0.0));
    assert_eq!(metric("dohle_group_lag_state", 0), Some(0.0));
    assert_eq!(value(&page, "dohle_groups{type=\"classic\",state=\"Empty\"}"), Some(1.0));
    assert_eq!(value(&page, "dohle_group_members{group=\"billing\"}"), Some(0.0));
    let described = broker.succeed(&["group", "describe", "billing", "--json"], "");
    let described: Vec<Value> = described.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(columns(&rows, &["partition", "lag"]), columns(&described, &["partition", "lag"]));
    let table = broker.succeed(&["group", "lag"], "");
    assert!(table.contains("billing  orders  0          2               8               6    36"), "{table}");

    // What retention or DeleteRecords took is not to be read any more.
    let delete = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "orders".into(),
            partitions: vec![DeleteRecordsPartition { partition_index: 0, offset: 5 }],
        }],
        timeout_ms: 10_000,
    };
    assert_eq!(client.call(&delete, 2).topics[0].partitions[0].error_code, 0);
    let expected = [r#"0 2 8 3 3 "ok""#, r#"1 1 1 0 0 "ok""#, r#"2 0 0 0 0 "ok""#];
    let check = |broker: &Broker| {
        let rows = lag(broker, &["billing"]);
        // Of a log that stays closed, since all of it is read, the start is not told.
        assert_eq!(columns(&rows, &figures[..4]), expected.map(|row| row.rsplitn(3, ' ').nth(2).unwrap()));
        assert_eq!((&rows[0]["lost"], &rows[0]["state"]), (&3.into(), &"ok".into()));
        assert!(seconds(&rows[0]) < 600.0, "the first record that is left is new: {rows:?}");
    };
    assert_eq!(columns(&lag(&broker, &["billing"]), &figures), expected);
    check(&broker);
    broker.stop();
    let broker = Broker::start(&data.0, &[]);
    check(&broker);
    broker.kill();
    let broker = Broker::start(&data.0, &[]);
    check(&broker);

    // Consumers that are gone have stopped, as soon as there is something to read.
    let mut client = Client::connect(&broker.address);
    broker.succeed(&["consume", "orders", "-g", "readers", "-e"], "");
    let states = |broker: &Broker| columns(&lag(broker, &["readers"]), &["partition", "lag", "state"]);
    assert_eq!(states(&broker), [r#"0 0 "ok""#, r#"1 0 "ok""#, r#"2 0 "ok""#]);
    assert_eq!(client.produce(topic, 1, &[b"b", b"c"]), 0);
    assert_eq!(states(&broker), [r#"0 0 "ok""#, r#"1 2 "stopped""#, r#"2 0 "ok""#]);

    // The topic is created anew; what was committed to the former one is forgotten with it.
    client.delete_topic("orders");
    client.create_topic("orders", 1, &[]);
    assert_eq!(lag(&broker, &["billing"]), Vec::<Value>::new());
    assert_eq!(lag(&broker, &[]), Vec::<Value>::new());
}

#[test]
fn a_request_opens_no_more_than_a_hundred_closed_logs() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 120, &[("retention.ms", "-1")]);
    for partition in 0..120 {
        produce_old(&mut client, topic, partition, &[b"a", b"b"]);
    }
    // The first fifteen are read to the end.
    let offsets: Vec<(i32, i64)> =
        (0..120).map(|partition| (partition, if partition < 15 { 2 } else { 1 })).collect();
    commit(&mut client, "billing", "orders", &offsets);
    broker.stop();
    let broker = Broker::start(&data.0, &[]);
    for _ in 0..2 {
        let told = broker.run(&["group", "lag", "billing", "--json"], "");
        assert!(told.stderr.contains("not looked up in 5 partitions"), "{}", told.stderr);
        let rows: Vec<Value> = told.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let lags: Vec<i64> = rows.iter().map(|row| row["lag"].as_i64().unwrap()).collect();
        assert_eq!((rows.len(), lags.iter().sum::<i64>()), (120, 105));
        let aged =
            rows.iter().filter(|row| row["lag_seconds"].as_f64().is_some_and(|age| age > 3_600.0)).count();
        assert_eq!(aged, 100);
        assert_eq!(rows.iter().filter(|row| row["log_start_offset"].is_null()).count(), 20, "stay closed");
    }
}

#[test]
fn the_lag_in_a_compacted_log_is_in_offsets_and_as_old_as_the_first_record_that_is_left() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &["log.cleaner.backoff.ms=1"]);
    let mut client = Client::connect(&broker.address);
    let configs = [("cleanup.policy", "compact"), ("segment.ms", "1"), ("min.cleanable.dirty.ratio", "0")];
    let topic = client.create_topic("prices", 1, &configs);
    // Each is a batch and a segment of its own; the last one is appended to.
    for round in 0..10 {
        let at = seconds_ago(if round < 8 { 7_200 - round } else { 600 - round });
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(at, Some(b"apples"), Some(b"1"), &[]).unwrap();
        let records = builder.build(&mut Compressor::default()).unwrap();
        let response = client.call(&produce_request(topic, 0, records), PRODUCE_VERSION);
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }
    commit(&mut client, "billing", "prices", &[(0, 2)]);
    let age = until("the log is compacted", || {
        let rows = lag(&broker, &["billing"]);
        let figures = columns(&rows, &["current_offset", "log_end_offset", "lag", "lost", "state"]);
        assert_eq!(figures, [r#"2 10 8 0 "ok""#]);
        rows[0]["lag_seconds"].as_f64().filter(|age| *age < 7_000.0)
    });
    assert!((590.0..700.0).contains(&age), "that of the record at offset 8: {age} s");
}

#[test]
fn who_watches_is_told_again_and_again_until_it_is_interrupted() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[]);
    assert_eq!(client.produce(topic, 0, &[b"a", b"b", b"c"]), 0);
    commit(&mut client, "billing", "orders", &[(0, 1)]);
    let watch = ["group", "lag", "billing", "--json", "--watch", "--interval", "1s"];
    let mut watcher = dohle(&[&watch[..], &["--bootstrap-server", &broker.address]].concat())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    let mut told = |lag: i64| {
        let is_told = |line: std::io::Result<String>| {
            serde_json::from_str::<Value>(&line.unwrap()).unwrap()["lag"] == lag
        };
        assert!(lines.any(is_told), "lag {lag}");
    };
    told(2);
    commit(&mut client, "billing", "orders", &[(0, 3)]);
    told(0);
    kill_process(Pid::from_child(&watcher), Signal::INT).unwrap();
    for _ in lines {}
    assert!(watcher.wait().unwrap().success());
}
