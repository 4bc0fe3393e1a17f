//! The consumer against a broker in memory.

use bytes::Bytes;
use dohle_protocol::messages::fetch_response::AbortedTransaction;
use dohle_records::control::control_batch;
use dohle_records::{BatchBuilder, BatchOptions, Compressor, ControlRecordType, Decompressor};
use dohle_types::Rng;
use dohle_types::{PartitionIndex, ProducerId};
use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

use super::*;
use crate::fake::{Faults, TOPIC, World, endpoint};

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, PartitionIndex(index))
}

fn world(config: ConsumerConfig, counts: &[i64], seed: u64) -> World<Consumer> {
    let consumer = Consumer::new(config, vec![endpoint()], Rng::from_seed(seed));
    let mut world = World::new(consumer, counts.len(), seed);
    world.fill(counts);
    world
}

/// Reads until each of `partitions` reported its end, or failed; the values in the order they came.
fn read(world: &mut World<Consumer>, partitions: usize) -> Vec<String> {
    let mut decompressor = Decompressor::default();
    let mut values = Vec::new();
    let mut done = 0;
    for step in 0.. {
        assert!(step < 100_000, "the consumer does not come to an end");
        assert!(world.step());
        while let Some(event) = world.machine.next_event() {
            match event {
                ConsumerEvent::Records(fetched) => {
                    for record in fetched.records(&mut decompressor).unwrap() {
                        let record = record.unwrap();
                        values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                    }
                }
                ConsumerEvent::End { partition, offset } => {
                    assert_eq!(world.machine.position(&partition), Some(offset));
                    done += 1;
                }
                ConsumerEvent::PartitionFailed { partition, error } => {
                    values.push(format!("{partition}: {error}"));
                    done += 1;
                }
                ConsumerEvent::Assigned(_)
                | ConsumerEvent::Revoked(_)
                | ConsumerEvent::Committed(_)
                | ConsumerEvent::GroupFailed(_) => panic!("there is no group"),
            }
        }
        if done == partitions {
            return values;
        }
    }
    values
}

#[test]
fn reading_begins_where_it_is_said() {
    for (start, first) in
        [(StartAt::Earliest, Some("0/0")), (StartAt::Offset(Offset(4)), Some("0/4")), (StartAt::Latest, None)]
    {
        let mut world = world(ConsumerConfig::default(), &[10], 1);
        world.machine.assign(world.now(), [(partition(0), start)]);
        assert_eq!(read(&mut world, 1).first().map(String::as_str), first, "{start:?}");
    }
}

#[test]
fn an_offset_that_is_not_there_is_reported_or_reset() {
    let start = StartAt::Offset(Offset(99));
    let mut strict = world(ConsumerConfig { reset: None, ..ConsumerConfig::default() }, &[2], 1);
    strict.machine.assign(strict.now(), [(partition(0), start)]);
    assert_eq!(read(&mut strict, 1), ["orders-0: offset 99 is not in the log"]);

    let reset = Some(StartAt::Earliest);
    let mut lenient = world(ConsumerConfig { reset, ..ConsumerConfig::default() }, &[2], 1);
    lenient.machine.assign(lenient.now(), [(partition(0), start)]);
    assert_eq!(read(&mut lenient, 1), ["0/0", "0/1"]);
}

#[test]
fn a_partition_that_there_is_not_is_reported() {
    let mut world = world(ConsumerConfig::default(), &[1], 1);
    world.machine.assign(world.now(), [(partition(5), StartAt::Earliest)]);
    assert_eq!(read(&mut world, 1), ["orders-5: there is no such partition"]);
}

#[test]
fn nothing_more_is_fetched_than_the_buffer_holds() {
    let config = ConsumerConfig { buffer_max: 1, partition_max_bytes: 1, ..ConsumerConfig::default() };
    let mut world = world(config, &[30], 1);
    world.machine.assign(world.now(), [(partition(0), StartAt::Earliest)]);
    for _ in 0..100 {
        world.step();
    }
    assert_eq!(world.trace.matches("Fetch").count(), 1, "a second fetch waits until the first was consumed");
    assert_eq!(read(&mut world, 1).len(), 30);
}

#[test]
fn what_is_taken_back_is_not_committed() {
    let mut world = world(ConsumerConfig::default(), &[3], 1);
    world.machine.assign(world.now(), [(partition(0), StartAt::Earliest)]);
    read(&mut world, 1);
    assert_eq!(world.machine.position(&partition(0)), Some(Offset(3)));
    world.machine.unconsume(&partition(0), Offset(1));
    assert_eq!(world.machine.position(&partition(0)), Some(Offset(1)));
}

/// Consecutive batches of one record each: `7:a` of producer 7's transaction, `7!` its abort, `7.` its commit,
/// `:a` of none.
fn transactions(script: &str) -> Bytes {
    let mut bytes = Vec::new();
    for (offset, word) in (0..).zip(script.split_whitespace()) {
        let (producer, rest) = word.split_at(word.find([':', '!', '.']).unwrap());
        let options = BatchOptions {
            base_offset: Offset(offset),
            producer_id: ProducerId(producer.parse().unwrap_or(-1)),
            transactional: !producer.is_empty(),
            ..BatchOptions::default()
        };
        let end = |record_type| control_batch(options, Timestamp(0), &[(record_type, &[0; 6])]).unwrap();
        bytes.extend(match rest {
            "!" => end(ControlRecordType::Abort),
            "." => end(ControlRecordType::Commit),
            value => {
                let mut batch = BatchBuilder::new(options);
                batch.append(Timestamp(0), None, Some(&value.as_bytes()[1..]), &[]).unwrap();
                batch.build(&mut Compressor::default()).unwrap()
            }
        });
    }
    bytes.into()
}

#[test]
fn records_of_aborted_transactions_are_passed_over() {
    let aborted = |producer_id, first_offset| AbortedTransaction { producer_id, first_offset };
    for (script, aborted, expected) in [
        ("7:a :b 7! 7:c 7.", vec![aborted(7, 0)], "b@1 c@3 next 5"),
        ("7:a 8:b 7! 8. 8:c 8!", vec![aborted(7, 0), aborted(8, 4)], "b@1 next 6"),
        ("7:a 7. :b", vec![], "a@0 b@2 next 3"),
    ] {
        let mut consumer = Consumer::new(ConsumerConfig::default(), vec![endpoint()], Rng::from_seed(1));
        let now = Now { instant: Duration::ZERO, wall: Timestamp(0) };
        consumer.assign(now, [(partition(0), StartAt::Offset(Offset::ZERO))]);
        let next = consumer.on_batches(&partition(0), Offset::ZERO, transactions(script), aborted).unwrap();
        let mut seen = String::new();
        while let Some(event) = consumer.next_event() {
            let ConsumerEvent::Records(fetched) = event else { panic!("only records: {event:?}") };
            for record in fetched.records(&mut Decompressor::default()).unwrap() {
                let record = record.unwrap();
                seen +=
                    &format!("{}@{} ", std::str::from_utf8(&record.value.unwrap()).unwrap(), record.offset);
            }
        }
        assert_eq!(format!("{seen}next {next}"), expected, "{script}");
    }
}

#[test]
fn a_damaged_batch_is_reported_with_its_offset() {
    let mut bytes = transactions(":a :b").to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let mut consumer = Consumer::new(ConsumerConfig::default(), vec![endpoint()], Rng::from_seed(1));
    let now = Now { instant: Duration::ZERO, wall: Timestamp(0) };
    consumer.assign(now, [(partition(0), StartAt::Offset(Offset::ZERO))]);
    let result = consumer.on_batches(&partition(0), Offset::ZERO, bytes.into(), Vec::new());
    assert!(matches!(result, Err(ConsumerError::Unreadable { offset: Offset(1), .. })), "{result:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Invariant 4: whatever fails, each partition's records come in order, each once.
    #[test]
    fn records_come_in_order_each_once(seed: u64, max_bytes in 1_i32..500) {
        let mut draw = Rng::from_seed(seed);
        let config = ConsumerConfig { partition_max_bytes: max_bytes, ..ConsumerConfig::default() };
        let mut world = world(config, &[40, 0, 25], seed);
        world.faults = Faults {
            refuse_connection: draw.below(30),
            break_connection: draw.below(15),
            retriable_error: draw.below(30),
            slow_answer: draw.below(50),
        };
        world.machine.assign(world.now(), (0..3).map(|index| (partition(index), StartAt::Earliest)));
        let values = read(&mut world, 3);
        for (index, count) in [(0, 40), (1, 0), (2, 25)] {
            let prefix = format!("{index}/");
            let own: Vec<&String> = values.iter().filter(|value| value.starts_with(&prefix)).collect();
            let there: Vec<String> = (0..count).map(|offset| format!("{index}/{offset}")).collect();
            prop_assert_eq!(own, there.iter().collect::<Vec<_>>());
        }
    }
}
