//! The producer against a broker in memory.

use std::time::Duration;

use dohle_types::Rng;
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

mod transactions;

use super::*;
use crate::fake::{Faults, TOPIC, World, endpoint, shown};

fn world(config: ProducerConfig, partitions: usize, seed: u64) -> World<Producer> {
    let producer = Producer::new(config, vec![endpoint()], Rng::from_seed(seed));
    World::new(producer, partitions, seed)
}

/// Sends `records`, each with its number as value and tag, until all are delivered or given up.
fn send_all(world: &mut World<Producer>, records: u64, partitions: u64) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    let mut next = 0;
    for step in 0.. {
        assert!(step < 200_000, "the producer does not come to an end:\n{}", tail(&world.trace));
        while next < records {
            let value = format!("{next}");
            let record = ProducerRecord {
                partition: Some(PartitionIndex(i32::try_from(next % partitions).unwrap())),
                value: Some(value.as_bytes()),
                tag: next,
                ..ProducerRecord::default()
            };
            match world.machine.send(world.now(), TOPIC, &record) {
                Ok(()) => next += 1,
                Err(error) => {
                    assert!(error.is_transient(), "{error}");
                    break;
                }
            }
        }
        assert!(world.step());
        while let Some(delivery) = world.machine.next_delivery() {
            deliveries.push(delivery);
        }
        if next == records && world.machine.is_idle() {
            return deliveries;
        }
    }
    deliveries
}

fn tail(trace: &str) -> String {
    let lines: Vec<&str> = trace.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// A small batch holds about four of the records that the tests send.
fn small_batches() -> ProducerConfig {
    ProducerConfig {
        batch_size: 110,
        delivery_timeout: Duration::from_secs(100_000),
        ..ProducerConfig::default()
    }
}

#[test]
fn records_are_delivered_at_the_offsets_that_are_reported() {
    let mut world = world(small_batches(), 2, 1);
    let deliveries = send_all(&mut world, 20, 2);
    for delivery in deliveries {
        let log = &world.logs[usize::try_from(delivery.partition.0).unwrap()];
        let from = usize::try_from(delivery.result.unwrap().unwrap().0).unwrap();
        let written = &log.values()[from..from + delivery.tags.len()];
        assert_eq!(written, delivery.tags.iter().map(u64::to_string).collect::<Vec<_>>());
    }
    assert_eq!(world.logs[1].values(), (0..10).map(|at| (2 * at + 1).to_string()).collect::<Vec<_>>());
}

#[test]
fn a_full_buffer_says_so() {
    let config = ProducerConfig { buffer_memory: 1000, ..ProducerConfig::default() };
    let mut world = world(config, 1, 1);
    send_all(&mut world, 1, 1);
    let record = ProducerRecord { value: Some(&[b'x'; 300]), ..ProducerRecord::default() };
    let results: Vec<_> = (0..4).map(|_| world.machine.send(world.now(), TOPIC, &record)).collect();
    assert_eq!(results, [Ok(()), Ok(()), Err(SendError::Full), Err(SendError::Full)]);
    while !world.machine.is_idle() {
        world.step();
    }
    assert_eq!(world.machine.send(world.now(), TOPIC, &record), Ok(()));
}

#[test]
fn what_cannot_be_sent_is_refused_at_once() {
    let mut world = world(ProducerConfig::default(), 2, 1);
    send_all(&mut world, 1, 1);
    let large = vec![0; 2 << 20];
    let record = ProducerRecord { value: Some(&large), ..ProducerRecord::default() };
    assert!(matches!(world.machine.send(world.now(), TOPIC, &record), Err(SendError::TooLarge { .. })));
    let record = ProducerRecord { partition: Some(PartitionIndex(2)), ..ProducerRecord::default() };
    let refused = world.machine.send(world.now(), TOPIC, &record);
    assert!(matches!(refused, Err(SendError::NoPartition { partitions: 2, .. })), "{refused:?}");
}

#[test]
fn records_that_never_arrive_expire() {
    let config = ProducerConfig { delivery_timeout: Duration::from_secs(120), ..small_batches() };
    let mut world = world(config, 1, 1);
    send_all(&mut world, 1, 1);
    world.faults.retriable_error = 100;
    let deliveries = send_all(&mut world, 30, 1);
    let lost = deliveries.iter().filter(|delivery| delivery.result.is_err()).flat_map(|it| &it.tags).count();
    assert_eq!(lost, 30);
    assert_eq!(world.machine.buffered_bytes(), 0);
}

#[test]
fn without_acks_records_count_as_delivered_when_sent() {
    let mut world = world(ProducerConfig { acks: Acks::None, ..small_batches() }, 1, 1);
    let deliveries = send_all(&mut world, 10, 1);
    assert!(deliveries.iter().all(|delivery| delivery.result == Ok(None)));
    assert_eq!(world.logs[0].values().len(), 10);
}

#[test]
fn records_without_a_key_stay_together_for_a_batch() {
    let mut world = world(ProducerConfig { batch_size: 4096, ..ProducerConfig::default() }, 8, 3);
    send_all(&mut world, 8, 8);
    let value = [b'x'; 100];
    for _ in 0..300 {
        let record = ProducerRecord { value: Some(&value), ..ProducerRecord::default() };
        world.machine.send(world.now(), TOPIC, &record).unwrap();
    }
    let mut batches = 0;
    while !world.machine.is_idle() {
        world.step();
        while world.machine.next_delivery().is_some() {
            batches += 1;
        }
    }
    assert!((8..=20).contains(&batches), "{batches} batches for 8 full ones");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Invariant 3: whatever fails, each partition's records are there in order, each once.
    #[test]
    fn an_idempotent_producer_never_loses_duplicates_or_reorders(seed: u64) {
        let mut draw = Rng::from_seed(seed);
        let mut world = world(small_batches(), 3, seed);
        world.faults = Faults {
            refuse_connection: draw.below(30),
            break_connection: draw.below(15),
            retriable_error: draw.below(40),
            slow_answer: draw.below(50),
        };
        let deliveries = send_all(&mut world, 300, 3);
        prop_assert!(deliveries.iter().all(|delivery| delivery.result.is_ok()));
        for (partition, log) in world.logs.iter().enumerate() {
            let sent: Vec<String> = (0..100).map(|at| (3 * at + partition).to_string()).collect();
            prop_assert_eq!(log.values(), sent, "{:?}", shown(log));
        }
        prop_assert_eq!(world.machine.buffered_bytes(), 0);
    }

    /// Without idempotence what was written but not acknowledged is written again, but nothing is overtaken.
    #[test]
    fn a_producer_without_idempotence_never_reorders(seed: u64) {
        let mut draw = Rng::from_seed(seed);
        let mut world = world(ProducerConfig { idempotent: false, ..small_batches() }, 1, seed);
        world.faults = Faults {
            refuse_connection: draw.below(30),
            break_connection: draw.below(15),
            retriable_error: draw.below(40),
            slow_answer: draw.below(50),
        };
        send_all(&mut world, 100, 1);
        let mut values = Vec::new();
        for value in world.logs[0].values().iter().map(|value| value.parse::<u64>().unwrap()) {
            // A batch that is written again begins with a record that is there already.
            if values.last().is_none_or(|last| value > *last) {
                values.push(value);
            }
        }
        prop_assert_eq!(values, (0..100).collect::<Vec<_>>());
    }
}
