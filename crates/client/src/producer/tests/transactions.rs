//! A producer of transactions against a coordinator and a log in memory.

use std::collections::BTreeMap;

use dohle_types::{Rng, TopicPartition};
use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

use super::*;
use crate::ConsumerGroupMetadata;
use crate::fake::transactions::GENERATION;
use crate::group::offsets::Committer;
use crate::producer::TransactionError;

fn transactional() -> ProducerConfig {
    ProducerConfig { transactional_id: Some("teller".into()), ..small_batches() }
}

/// Begins a transaction as soon as that is possible.
fn begin(world: &mut World<Producer>) -> Result<(), TransactionError> {
    for _ in 0..10_000 {
        match world.machine.begin_transaction() {
            Err(TransactionError::NotReady) => assert!(world.step()),
            result => return result,
        }
    }
    panic!("no transaction begins:\n{}", tail(&world.trace))
}

/// Sends a record to each of two partitions, as soon as they are taken.
fn send(world: &mut World<Producer>, value: &str) -> Result<(), SendError> {
    for partition in 0..2 {
        loop {
            let record = ProducerRecord {
                partition: Some(PartitionIndex(partition)),
                value: Some(value.as_bytes()),
                ..ProducerRecord::default()
            };
            match world.machine.send(world.now(), TOPIC, &record) {
                Ok(()) => break,
                Err(error) if error.is_transient() => assert!(world.step()),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn end(world: &mut World<Producer>, commit: bool) -> Result<(), TransactionError> {
    world.machine.end_transaction(commit)?;
    for _ in 0..100_000 {
        if let Some(ended) = world.machine.next_transaction_end() {
            return ended;
        }
        assert!(world.step());
    }
    panic!("the transaction does not end:\n{}", tail(&world.trace))
}

fn committed(world: &World<Producer>) -> Vec<Vec<String>> {
    world.logs.iter().map(|log| world.transactions.committed(log)).collect()
}

#[test]
fn what_is_aborted_is_not_committed() {
    let mut world = world(transactional(), 2, 1);
    for (value, commit) in [("a", true), ("b", false), ("c", true)] {
        assert_eq!(begin(&mut world), Ok(()));
        assert_eq!(send(&mut world, value), Ok(()));
        if value == "b" {
            // So that there is something to be aborted.
            world.machine.flush();
            while !world.machine.is_idle() {
                world.step();
            }
        }
        assert_eq!(end(&mut world, commit), Ok(()));
    }
    assert_eq!(committed(&world), [["a", "c"], ["a", "c"]]);
    assert_eq!(world.logs[0].values(), ["a", "b", "c"]);
}

#[test]
fn an_empty_transaction_asks_nobody() {
    let mut world = world(transactional(), 2, 1);
    for commit in [true, false] {
        assert_eq!(begin(&mut world), Ok(()));
        assert_eq!(end(&mut world, commit), Ok(()));
    }
    assert!(!world.trace.contains("EndTxn"), "{}", world.trace);
}

#[test]
fn transactions_begin_and_end_by_turns() {
    let mut world = world(transactional(), 2, 1);
    assert_eq!(world.machine.end_transaction(true), Err(TransactionError::OutOfTurn));
    assert_eq!(begin(&mut world), Ok(()));
    assert_eq!(world.machine.begin_transaction(), Err(TransactionError::OutOfTurn));
    assert_eq!(end(&mut world, true), Ok(()));
    assert_eq!(send(&mut world, "outside"), Err(SendError::NoTransaction));
    let mut other = super::world(ProducerConfig::default(), 2, 1);
    assert_eq!(other.machine.begin_transaction(), Err(TransactionError::OutOfTurn));
}

#[test]
fn a_transaction_that_lost_a_record_can_only_be_aborted() {
    let mut world = world(transactional(), 2, 1);
    assert_eq!(begin(&mut world), Ok(()));
    assert_eq!(send(&mut world, "a"), Ok(()));
    // What is in the log is of another epoch now: the leaders refuse.
    let large = vec![b'x'; 100];
    world.transactions.fence();
    let error = end(&mut world, true).unwrap_err();
    assert!(
        matches!(&error, TransactionError::Abort(DeliveryError::Refused { error, .. }) if *error == ErrorCode::InvalidProducerEpoch),
        "{error}"
    );
    let record = ProducerRecord { value: Some(&large), ..ProducerRecord::default() };
    assert_eq!(world.machine.send(world.now(), TOPIC, &record), Err(SendError::NoTransaction));
    assert!(matches!(world.machine.end_transaction(true), Err(TransactionError::Abort(_))));
    // Then the coordinator tells that it was no accident, and nothing goes on.
    assert_eq!(end(&mut world, false), Err(TransactionError::Fenced));
    assert_eq!(world.machine.begin_transaction(), Err(TransactionError::Fenced));
    assert_eq!(committed(&world), [[""; 0], [""; 0]]);
}

#[test]
fn a_transaction_ends_soon_after_connections_to_its_coordinator_broke() {
    for seed in 0..50 {
        let mut world = world(transactional(), 2, seed);
        assert_eq!(begin(&mut world), Ok(()));
        assert_eq!(send(&mut world, "a"), Ok(()));
        world.faults.break_connection = 50;
        let begun = world.now().instant;
        assert_eq!(end(&mut world, true), Ok(()));
        // Long before metadata is asked for again anyway, or the transaction's time is over.
        let took = world.now().instant - begun;
        assert!(took < Duration::from_secs(30), "seed {seed}: {took:?}");
    }
}

/// A member of a group, in a generation of it.
fn member(group: &str, generation: i32) -> ConsumerGroupMetadata {
    let member = Committer { generation, member_id: "member".into(), instance_id: None };
    ConsumerGroupMetadata { group_id: group.into(), member }
}

fn offset(partition: i32, offset: i64) -> BTreeMap<TopicPartition, Offset> {
    BTreeMap::from([(TopicPartition::new("input", partition), Offset(offset))])
}

#[test]
fn offsets_count_if_their_transaction_is_committed() {
    let mut world = world(transactional(), 2, 1);
    let (one, other) = (member("one", GENERATION), member("other", GENERATION));
    assert_eq!(
        world.machine.send_offsets_to_transaction(&one, offset(0, 1)),
        Err(TransactionError::OutOfTurn)
    );
    for (next, commit) in [(5, true), (7, false), (9, true)] {
        assert_eq!(begin(&mut world), Ok(()));
        // Also of several groups, and the last one counts.
        for (group, offsets) in [
            (&one, offset(0, 1)),
            (&other, offset(0, next + 1)),
            (&one, offset(0, next)),
            (&one, offset(1, next)),
        ] {
            assert_eq!(world.machine.send_offsets_to_transaction(group, offsets), Ok(()));
        }
        assert_eq!(end(&mut world, commit), Ok(()));
        let counts = if commit { next } else { 5 };
        let committed = [("one", 0), ("one", 1), ("other", 0)]
            .map(|(group, partition)| world.transactions.committed_offset(group, partition));
        assert_eq!(committed, [counts, counts, counts + 1].map(Some));
    }
}

#[test]
fn a_transaction_of_who_is_no_member_any_more_can_only_be_aborted() {
    let mut world = world(transactional(), 2, 1);
    assert_eq!(begin(&mut world), Ok(()));
    assert_eq!(send(&mut world, "a"), Ok(()));
    let late = member("one", GENERATION - 1);
    assert_eq!(world.machine.send_offsets_to_transaction(&late, offset(0, 5)), Ok(()));
    let error = end(&mut world, true).unwrap_err();
    assert!(
        matches!(&error, TransactionError::Abort(DeliveryError::Refused { error, .. }) if *error == ErrorCode::IllegalGeneration),
        "{error}"
    );
    assert!(matches!(
        world.machine.send_offsets_to_transaction(&late, offset(0, 5)),
        Err(TransactionError::Abort(_))
    ));
    assert_eq!(end(&mut world, false), Ok(()));
    // It goes on, as the producer is still the one of its transactional id.
    assert_eq!(begin(&mut world), Ok(()));
    assert_eq!(send(&mut world, "b"), Ok(()));
    assert_eq!(world.machine.send_offsets_to_transaction(&member("one", GENERATION), offset(0, 6)), Ok(()));
    assert_eq!(end(&mut world, true), Ok(()));
    assert_eq!(
        (committed(&world), world.transactions.committed_offset("one", 0)),
        (vec![vec!["b".to_owned()]; 2], Some(6))
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever fails: of a transaction all is committed, in order and once, its offsets too, or nothing.
    #[test]
    fn transactions_are_whole(seed: u64) {
        let mut draw = Rng::from_seed(seed);
        let mut world = world(transactional(), 2, seed);
        world.faults = Faults {
            refuse_connection: draw.below(30),
            break_connection: draw.below(15),
            retriable_error: draw.below(40),
            slow_answer: draw.below(50),
        };
        let group = member("one", GENERATION);
        let (mut expected, mut offsets) = (Vec::new(), None);
        for number in 0..30 {
            prop_assert_eq!(begin(&mut world), Ok(()));
            let commit = draw.chance(2, 3);
            for record in 0..draw.below(12) {
                let value = format!("{number}.{record}");
                prop_assert_eq!(send(&mut world, &value), Ok(()));
                if commit {
                    expected.push(value);
                    offsets = Some(number);
                }
                let sent = world.machine.send_offsets_to_transaction(&group, offset(0, number));
                prop_assert_eq!(sent, Ok(()));
            }
            prop_assert_eq!(end(&mut world, commit), Ok(()));
            prop_assert_eq!(&committed(&world), &[expected.clone(), expected.clone()]);
            prop_assert_eq!(world.transactions.committed_offset("one", 0), offsets);
        }
    }
}
