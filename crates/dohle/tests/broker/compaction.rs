//! A compacted topic of a running broker keeps the last record of each key, over restarts too.

use std::collections::BTreeMap;

use dohle_records::{BatchBuilder, BatchOptions, Batches, Compressor, Decompressor};
use dohle_types::{Timestamp, TopicId};

use crate::client::{Client, FETCH_VERSION, PRODUCE_VERSION, fetch_request, produce_request};
use crate::process::{Broker, Directory, until};

/// Produces a record of its own batch; segments of one record each follow from `segment.ms`.
fn produce(client: &mut Client, topic: TopicId, timestamp: i64, key: &str, value: &str) {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(Timestamp(timestamp), Some(key.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
    let records = builder.build(&mut Compressor::default()).unwrap();
    let response = client.call(&produce_request(topic, 0, records), PRODUCE_VERSION);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

/// All records there are, by offset.
fn consume(client: &mut Client, topic: TopicId) -> BTreeMap<i64, String> {
    let (mut records, mut next) = (BTreeMap::new(), 0);
    loop {
        let response = client.call(&fetch_request(topic, 0, next, 0), FETCH_VERSION);
        let answer = &response.responses[0].partitions[0];
        assert_eq!(answer.error_code, 0, "at {next}");
        let bytes = answer.records.clone().map(|records| records.into_bytes()).unwrap_or_default();
        let batches: Vec<_> = Batches::new(bytes).map(Result::unwrap).collect();
        let Some(last) = batches.last() else { return records };
        next = last.header().next_offset().0;
        for batch in batches {
            for record in batch.records(&mut Decompressor::default()).unwrap().map(Result::unwrap) {
                let text = |bytes: Option<bytes::Bytes>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
                records.insert(record.offset.0, format!("{}={}", text(record.key), text(record.value)));
            }
        }
    }
}

#[test]
fn a_compacted_topic_keeps_the_last_record_of_each_key_at_its_offset() {
    compact_and_restart("dohle.journal.bytes=0");
}

#[test]
fn what_the_journal_has_of_a_compacted_topic_does_not_come_back() {
    compact_and_restart("dohle.journal.partitions.min=1");
}

fn compact_and_restart(setting: &str) {
    let data = Directory::new();
    let settings = ["log.cleaner.backoff.ms=1", setting];
    let mut broker = Broker::start(&data.0, &settings);
    let mut client = Client::connect(&broker.address);
    let configs = [("cleanup.policy", "compact"), ("segment.ms", "1"), ("min.cleanable.dirty.ratio", "0")];
    let topic = client.create_topic("prices", 1, &configs);
    for round in 0..10 {
        for key in ["apples", "pears"] {
            produce(&mut client, topic, 1_000_000 + round * 10, key, &round.to_string());
        }
    }
    // The last two are in the segment that is appended to.
    let expected = BTreeMap::from(
        [(16, "apples=8"), (17, "pears=8"), (18, "apples=9"), (19, "pears=9")]
            .map(|(offset, text)| (offset, text.to_owned())),
    );
    until("the log is compacted", || (consume(&mut client, topic) == expected).then_some(()));
    let checkpoint = || std::fs::read_to_string(data.0.join("cleaner-offset-checkpoint")).ok();
    until("the checkpoint says so", || (checkpoint()? == "0\n1\nprices 0 18\n").then_some(()));
    for end in ["kill", "stop"] {
        if end == "kill" {
            broker.kill();
        } else {
            broker.stop();
        }
        broker = Broker::start(&data.0, &settings);
        assert_eq!(consume(&mut Client::connect(&broker.address), topic), expected, "after {end}");
    }
}
