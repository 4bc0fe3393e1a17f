//! Transactions: what is open holds `read_committed` consumers back, and WriteTxnMarkers ends it.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use dohle_protocol::Message;
use dohle_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use dohle_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use dohle_protocol::messages::{
    DescribeProducersRequest, FindCoordinatorRequest, OffsetCommitKey, OffsetCommitValue, OffsetFetchRequest,
    WriteTxnMarkersRequest, describe_producers_request, describe_producers_response, fetch_response,
};
use dohle_records::{BatchBuilder, BatchOptions, Compressor};
use dohle_types::{ErrorCode, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId};

use crate::client::{Client, FETCH_VERSION, PRODUCE_VERSION, batch, fetch_request, produce_request};
use crate::process::{Broker, Directory, until};

pub(crate) const PRODUCER: i64 = 4711;

pub(crate) fn options(epoch: i16, sequence: i32) -> BatchOptions {
    BatchOptions {
        producer_id: ProducerId(PRODUCER),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(sequence),
        transactional: true,
        ..BatchOptions::default()
    }
}

/// Puts a batch at the end of a log whose broker is dead, as another one would have written it.
pub(crate) fn append_to_file(data: &Path, partition: &str, batch: &Bytes, offset: i64) {
    let path = data.join(partition).join("00000000000000000000.log");
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    let batch = [&offset.to_be_bytes()[..], &batch[8..]].concat();
    file.write_all(&batch).unwrap();
}

/// The marker of a transaction of [`PRODUCER`].
fn marker(version: i8, epoch: i16, coordinator_epoch: i32, commits: bool) -> WritableTxnMarker {
    WritableTxnMarker {
        producer_id: PRODUCER,
        producer_epoch: epoch,
        transaction_result: commits,
        coordinator_epoch,
        transaction_version: version,
        ..Default::default()
    }
}

/// Writes a marker into partition 0 of a topic; the error.
fn write(client: &mut Client, topic: &str, marker: WritableTxnMarker) -> i16 {
    let topics = vec![WritableTxnMarkerTopic { name: topic.into(), partition_indexes: vec![0] }];
    let request = WriteTxnMarkersRequest { markers: vec![WritableTxnMarker { topics, ..marker }] };
    let answered = client.call(&request, 2).markers.remove(0);
    assert_eq!(answered.producer_id, PRODUCER);
    answered.topics[0].partitions[0].error_code
}

/// What `read_committed` consumers are told from an offset on.
pub(crate) fn fetch_committed(
    client: &mut Client,
    topic: TopicId,
    offset: i64,
) -> fetch_response::PartitionData {
    let request = dohle_protocol::messages::FetchRequest {
        isolation_level: 1,
        ..fetch_request(topic, 0, offset, 10_000)
    };
    client.call(&request, FETCH_VERSION).responses.remove(0).partitions.remove(0)
}

fn describe(client: &mut Client, topic: &str) -> Vec<describe_producers_response::ProducerState> {
    let topic = describe_producers_request::TopicRequest { name: topic.into(), partition_indexes: vec![0] };
    let response = client.call(&DescribeProducersRequest { topics: vec![topic] }, 0);
    response
        .topics
        .into_iter()
        .flat_map(|topic| topic.partitions)
        .flat_map(|it| it.active_producers)
        .collect()
}

#[test]
fn a_transaction_that_nobody_ends_is_aborted_by_a_marker_and_late_markers_are_refused() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[]);
    assert_eq!(client.produce(topic, 0, &[b"before"]), 0);
    broker.kill();
    append_to_file(&data.0, "orders-0", &batch(options(3, 0), &[b"hangs"]), 1);

    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    assert_eq!(client.produce(topic, 0, &[b"after"]), 0);
    let held_back = fetch_committed(&mut client, topic, 0);
    assert_eq!((held_back.last_stable_offset, held_back.high_watermark), (1, 3));
    let [producer] = &describe(&mut client, "orders")[..] else { panic!("one producer is known") };
    assert_eq!((producer.producer_id, producer.current_txn_start_offset), (PRODUCER, 1));

    // As kafka-transactions does: with the epoch that the log knows, of any coordinator.
    assert_eq!(write(&mut client, "orders", marker(0, 3, 7, false)), 0);
    let aborted = fetch_committed(&mut client, topic, 0);
    assert_eq!((aborted.last_stable_offset, aborted.high_watermark), (4, 4));
    let aborted = aborted.aborted_transactions.unwrap();
    assert_eq!(
        aborted.iter().map(|it| (it.producer_id, it.first_offset)).collect::<Vec<_>>(),
        [(PRODUCER, 1)]
    );
    let [producer] = &describe(&mut client, "orders")[..] else { panic!("one producer is known") };
    assert_eq!((producer.current_txn_start_offset, producer.coordinator_epoch), (-1, 7));

    let mut check = |topic, marker, expected: ErrorCode| {
        assert_eq!(write(&mut client, topic, marker), expected.code());
    };
    check("orders", marker(0, 3, 6, false), ErrorCode::TransactionCoordinatorFenced);
    check("orders", marker(0, 2, 7, false), ErrorCode::InvalidProducerEpoch);
    check("no such topic", marker(0, 3, 7, false), ErrorCode::UnknownTopicOrPartition);
    // Of transactions v2: the answer was lost, so that it comes again, and is there already.
    check("orders", marker(2, 4, 7, true), ErrorCode::None);
    check("orders", marker(2, 4, 8, true), ErrorCode::None);
    assert_eq!(fetch_committed(&mut client, topic, 0).high_watermark, 5);
    broker.kill();

    // It comes again when the next transaction is open, which it must not end.
    append_to_file(&data.0, "orders-0", &batch(options(4, 0), &[b"the next one"]), 5);
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    assert_eq!(write(&mut client, "orders", marker(2, 4, 8, true)), ErrorCode::InvalidProducerEpoch.code());
    assert_eq!(fetch_committed(&mut client, topic, 0).last_stable_offset, 5);
    assert_eq!(write(&mut client, "orders", marker(2, 5, 8, true)), 0);
    assert_eq!(fetch_committed(&mut client, topic, 0).last_stable_offset, 7);
    broker.stop();
}

/// What a group has committed for partition 0 of a topic; -1 for nothing.
fn committed(client: &mut Client, group: &str) -> i64 {
    let group = OffsetFetchRequestGroup { group_id: group.into(), topics: None, ..Default::default() };
    until("the coordinator serves", || {
        let request = OffsetFetchRequest { groups: vec![group.clone()], ..Default::default() };
        let group = client.call(&request, 9).groups.remove(0);
        let offset = || group.topics.first().map_or(-1, |topic| topic.partitions[0].committed_offset);
        (group.error_code == 0).then(offset)
    })
}

/// A transaction that commits an offset of group `g`.
fn offset_commit(sequence: i32, offset: i64) -> Bytes {
    let key = OffsetCommitKey { group: "g".into(), topic: "orders".into(), partition: 0 };
    let value = OffsetCommitValue { offset, leader_epoch: -1, commit_timestamp: 1, ..Default::default() };
    let prefixed = |number: i16, message: Vec<u8>| {
        let mut bytes = BytesMut::new();
        bytes.put_i16(number);
        bytes.put_slice(&message);
        bytes.freeze()
    };
    let key = prefixed(1, key.to_bytes(0).unwrap().to_vec());
    let value = prefixed(3, value.to_bytes(3).unwrap().to_vec());
    let mut builder = BatchBuilder::new(options(0, sequence));
    builder.append(Timestamp(1), Some(&key), Some(&value), &[]).unwrap();
    builder.build(&mut Compressor::default()).unwrap()
}

#[test]
fn offsets_of_a_transaction_count_when_its_marker_comes_and_not_before() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &["offsets.topic.num.partitions=1"]);
    let mut client = Client::connect(&broker.address);
    client.create_topic("orders", 1, &[]);
    let request = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
    until("groups have a coordinator", || {
        (client.call(&request, 6).coordinators[0].error_code == 0).then_some(())
    });
    assert_eq!(committed(&mut client, "g"), -1);
    // A marker of nobody, so that there is a file.
    assert_eq!(write(&mut client, "__consumer_offsets", marker(0, 0, 0, false)), 0);
    broker.kill();
    let mut end = 1;
    for (sequence, (offset, commits, expected)) in (0..).zip([(5, true, 5), (6, false, 5), (7, true, 7)]) {
        append_to_file(&data.0, "__consumer_offsets-0", &offset_commit(sequence, offset), end);
        let broker = Broker::start(&data.0, &["offsets.topic.num.partitions=1"]);
        let mut client = Client::connect(&broker.address);
        assert_ne!(committed(&mut client, "g"), offset, "its transaction is open");
        assert_eq!(write(&mut client, "__consumer_offsets", marker(0, 0, 0, commits)), 0);
        assert_eq!(committed(&mut client, "g"), expected);
        broker.kill();
        end += 2;
    }
}

#[test]
fn a_transactional_batch_needs_a_transactional_id() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[]);
    assert_eq!(client.produce(topic, 0, &[b"opens the log"]), 0);
    let request = produce_request(topic, 0, batch(options(0, 0), &[b"of a transaction"]));
    let response = client.call(&request, PRODUCE_VERSION);
    let error = response.responses[0].partition_responses[0].error_code;
    assert_eq!(error, ErrorCode::TransactionalIdAuthorizationFailed.code());
    assert_eq!(describe(&mut client, "orders"), []);
}

/// Every batch that is committed wakes the fetches of its partition: one whose files are being read is to go on waiting
/// for them, and for the aborted transactions among them.
#[test]
fn a_fetch_from_files_is_answered_while_others_write_to_its_partition() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[]);
    assert_eq!(client.produce(topic, 0, &[b"before"]), 0);
    broker.kill();
    append_to_file(&data.0, "orders-0", &batch(options(3, 0), &[b"aborted"]), 1);
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    assert_eq!(client.produce(topic, 0, &[b"after"]), 0);
    assert_eq!(write(&mut client, "orders", marker(0, 3, 7, false)), 0);
    broker.stop();

    // What was written before a start is in files only.
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let is_over = AtomicBool::new(false);
    let mut writer = Client::connect(&broker.address);
    assert_eq!(writer.produce(topic, 0, &[b"meanwhile"]), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(writer.produce(topic, 0, &[b"meanwhile"]), 0);
            }
        });
        let empty = (0..200).filter(|_| {
            let found = fetch_committed(&mut client, topic, 0);
            found.records.is_none_or(|records| records.is_empty())
        });
        let first = empty.take(1).count();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(first, 0, "it waited in vain for what was there");
    });
}
