//! A fork has what its source had, shares its files, and each goes on alone: over restarts, and after the other is gone.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use dohle_protocol::messages::{DeleteRecordsRequest, DescribeLogDirsRequest, delete_records_request};
use dohle_types::TopicId;

use crate::client::Client;
use crate::process::{Broker, Directory, until};
use crate::trash::{directories, end_and_start, write_to_each};

/// A record as large as that leaves a segment room for one.
const LARGE: usize = 600_000;

fn produce(client: &mut Client, topic: TopicId, values: &[&str]) {
    for value in values {
        let mut record = value.as_bytes().to_vec();
        record.resize(LARGE, b'.');
        assert_eq!(client.produce(topic, 0, &[&record]), 0);
    }
}

/// The first letters of the values of partition 0.
fn values(client: &mut Client, topic: TopicId, start: i64) -> String {
    let values = client.consume_from(topic, 0, start);
    values.iter().map(|value| char::from(value[0])).collect()
}

/// How many names the `.log` files of a partition have, in their order.
fn names(data: &Path, directory: &str) -> Vec<u64> {
    let entries = std::fs::read_dir(data.join(directory)).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = entries.filter(|path| path.extension().is_some_and(|it| it == "log")).collect();
    logs.sort();
    logs.iter().map(|path| path.metadata().unwrap().nlink()).collect()
}

/// Forks, and tells the first offset and the end of each partition.
fn ends(broker: &Broker, arguments: &[&str]) -> String {
    let printed = broker.succeed(&[&["topic", "fork"], arguments].concat(), "");
    let offsets = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        format!("{}-{}", columns[2], columns[3])
    };
    printed.lines().skip(1).map(offsets).collect::<Vec<_>>().join(" ")
}

#[test]
fn source_and_fork_have_the_same_records_and_go_on_without_each_other() {
    let data = Directory::new();
    let mut broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let configs = [("segment.bytes", "1048576"), ("retention.ms", "86400000")];
    let source = client.create_topic("orders", 2, &configs);
    produce(&mut client, source, &["a", "b", "c"]);
    let partition = delete_records_request::DeleteRecordsPartition { partition_index: 0, offset: 1 };
    let topic =
        delete_records_request::DeleteRecordsTopic { name: "orders".into(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 10_000 };
    assert_eq!(client.call(&request, 2).topics[0].partitions[0].low_watermark, 1);

    assert_eq!(ends(&broker, &["orders", "copy"]), "1-3 0-0");
    let fork = client.topic_id("copy");
    assert_ne!(fork, source);
    assert_eq!(names(&data.0, "copy-0"), [2, 2, 1]);
    assert_eq!(directories(&data.0), ["copy-0", "orders-0"]);
    let described = broker.succeed(&["topic", "describe", "copy"], "");
    assert!(described.contains("retention.ms") && described.contains("1048576"), "{described}");
    let request = DescribeLogDirsRequest { topics: None };
    let sizes = client.call(&request, 4).results[0].topics.clone();
    let size = |name: &str| {
        let topic = sizes.iter().find(|topic| topic.name == name).unwrap();
        topic.partitions.iter().map(|partition| partition.partition_size).sum::<i64>()
    };
    assert!(size("copy") >= 2 * i64::try_from(LARGE).unwrap() && size("orders") >= size("copy"));

    let (mut in_source, mut in_fork) = ("bc".to_owned(), "bc".to_owned());
    for (end, one, other) in [("none", "d", "1"), ("stop", "e", "2"), ("kill", "f", "3")] {
        broker = end_and_start(broker, &data.0, end);
        let mut client = Client::connect(&broker.address);
        assert_eq!(values(&mut client, source, 1), in_source, "{end}");
        assert_eq!(values(&mut client, fork, 1), in_fork, "{end}");
        produce(&mut client, source, &[one]);
        produce(&mut client, fork, &[other]);
        (in_source, in_fork) = (in_source + one, in_fork + other);
    }

    // Of a fork there may be forks.
    assert_eq!(ends(&broker, &["copy", "copy.of.copy", "--at", "4"]), "1-4 0-0");
    broker.succeed(&["topic", "delete", "orders"], "");
    broker = end_and_start(broker, &data.0, "kill");
    let mut client = Client::connect(&broker.address);
    assert_eq!(values(&mut client, fork, 1), "bc123");
    broker.succeed(&["topic", "undelete", "orders"], "");
    assert_eq!(values(&mut client, source, 1), "bcdef");
    broker.succeed(&["topic", "delete", "copy"], "");
    assert_eq!(values(&mut client, source, 1), "bcdef");
    let second = client.topic_id("copy.of.copy");
    assert_eq!(values(&mut client, second, 1), "bc1");
    produce(&mut client, second, &["x"]);
    assert_eq!(values(&mut client, second, 1), "bc1x");
}

#[test]
fn what_a_journal_has_of_the_source_is_not_written_to_what_a_fork_shares() {
    const PARTITIONS: i32 = 6;
    let data = Directory::new();
    let overrides = ["dohle.journal.bytes=1048576", "dohle.journal.partitions.min=1"];
    let broker = Broker::start(&data.0, &overrides);
    let mut client = Client::connect(&broker.address);
    let source = client.create_topic("orders", PARTITIONS, &[]);
    let write = |broker: &Broker, topic: TopicId, value: &str| {
        write_to_each(broker, topic, PARTITIONS, value);
    };
    write(&broker, source, "a");
    until("there is a journal", || data.0.join("dohle-journal-0").exists().then_some(()));
    write(&broker, source, "b");
    broker.succeed(&["topic", "fork", "orders", "copy"], "");
    let fork = client.topic_id("copy");
    let shared = || -> Vec<_> {
        let first = |partition: i32| data.0.join(format!("copy-{partition}/{:020}.log", 0));
        let metadata = (0..PARTITIONS).map(|partition| first(partition).metadata().unwrap());
        metadata.map(|file| (file.ino(), file.nlink(), file.mtime(), file.mtime_nsec())).collect()
    };
    let before = shared();
    assert!(before.iter().all(|&(_, names, ..)| names == 2), "{before:?}");
    write(&broker, source, "c");
    write(&broker, fork, "1");
    broker.kill();
    let broker = Broker::start(&data.0, &overrides);
    let mut client = Client::connect(&broker.address);
    for partition in 0..PARTITIONS {
        assert_eq!(client.consume(source, partition), ["a", "b", "c"]);
        assert_eq!(client.consume(fork, partition), ["a", "b", "1"]);
    }
    assert_eq!(shared(), before, "nobody has written to them");
}

#[test]
fn a_fork_leaves_its_source_at_an_offset_or_a_time() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let source = client.create_topic("orders", 1, &[]);
    assert_eq!(client.produce(source, 0, &[b"a", b"b"]), 0);
    assert_eq!(client.produce(source, 0, &[b"c"]), 0);
    for (at, expected) in [
        ("end", "abc"),
        ("0", ""),
        ("1", ""),
        ("2", "ab"),
        ("-1", "ab"),
        ("100", "abc"),
        ("beginning", ""),
        ("PT1H", ""),
        ("PT0S", "abc"),
        ("2001-01-01", ""),
        ("2201-01-01", "abc"),
    ] {
        let name = format!("at.{}", at.trim_start_matches('-'));
        let name = if at == "-1" { "before.the.end" } else { &name };
        broker.succeed(&["topic", "fork", "orders", name, "--at", at], "");
        let fork = client.topic_id(name);
        assert_eq!(values(&mut client, fork, 0), expected, "at {at}");
        assert_eq!(client.produce(fork, 0, &[b"z"]), 0);
        assert_eq!(values(&mut client, fork, 0), format!("{expected}z"), "at {at}");
    }
    assert_eq!(values(&mut client, source, 0), "abc");
}

#[test]
fn a_fork_of_a_compacted_topic_is_compacted_on() {
    let data = Directory::new();
    let mut broker = Broker::start(&data.0, &["log.cleaner.backoff.ms=1"]);
    let mut client = Client::connect(&broker.address);
    let configs = [("cleanup.policy", "compact"), ("segment.ms", "1"), ("min.cleanable.dirty.ratio", "0")];
    client.create_topic("orders", 1, &configs);
    let put = |broker: &Broker, topic: &str, records: &str| {
        for record in records.split(' ') {
            broker.succeed(&["produce", topic, "-k", "="], &format!("{record}\n"));
        }
    };
    let show = |broker: &Broker, topic: &str| {
        broker.succeed(&["consume", topic, "-e", "-f", "%o:%k=%v "], "").trim_end().to_owned()
    };
    put(&broker, "orders", "a=1 b=1 a=2 a=3 c=1");
    until("it is compacted", || (show(&broker, "orders") == "1:b=1 3:a=3 4:c=1").then_some(()));
    broker.succeed(&["topic", "fork", "orders", "copy"], "");
    assert_eq!(show(&broker, "copy"), "1:b=1 3:a=3 4:c=1");
    broker = end_and_start(broker, &data.0, "kill");
    assert_eq!(show(&broker, "copy"), "1:b=1 3:a=3 4:c=1");
    put(&broker, "copy", "b=2 d=1 e=1");
    until("it is compacted", || (show(&broker, "copy") == "3:a=3 4:c=1 5:b=2 6:d=1 7:e=1").then_some(()));
    assert_eq!(show(&broker, "orders"), "1:b=1 3:a=3 4:c=1");
}

#[test]
fn what_cannot_be_forked_is_refused_and_leaves_nothing() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let source = client.create_topic("orders", 1, &[]);
    assert_eq!(client.produce(source, 0, &[b"a"]), 0);
    for (arguments, expected) in [
        (["orders", "orders"], "already exists"),
        (["nothing", "copy"], "no topic nothing"),
        (["orders", "no/name"], "Topic name is invalid"),
        (["__consumer_offsets", "copy"], "internal topic"),
        (["orders", "__consumer_offsets"], "internal topic"),
        (["orders", "__cluster_metadata"], "prohibited"),
    ] {
        let refused = broker.run(&[&["topic", "fork"], &arguments[..]].concat(), "");
        assert!(refused.code == 1 && refused.stderr.contains(expected), "{arguments:?}: {}", refused.stderr);
    }
    assert_eq!(directories(&data.0), ["orders-0"]);
    let left = std::fs::read_dir(&data.0).unwrap().map(|entry| entry.unwrap().path());
    assert!(!left.into_iter().any(|path| path.extension().is_some_and(|it| it == "trash")));
}
