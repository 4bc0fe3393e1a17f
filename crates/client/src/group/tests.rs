//! A consumer as a member of a group, against a coordinator in memory.

use std::collections::BTreeSet;
use std::time::Duration;

use dohle_records::Decompressor;
use dohle_types::Rng;
use expect_test::expect;
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

use super::GroupConfig;
use crate::fake::{Faults, TOPIC, World, endpoint};
use crate::{Consumer, ConsumerConfig, ConsumerEvent, Effects, StartAt};

fn member(seed: u64) -> Consumer {
    let config = ConsumerConfig {
        reset: Some(StartAt::Earliest),
        auto_commit: Some(Duration::from_millis(500)),
        partition_max_bytes: 100,
        buffer_max: 1,
        group: Some(GroupConfig::new("billing")),
        ..ConsumerConfig::default()
    };
    Consumer::new(config, vec![endpoint()], Rng::from_seed(seed))
}

fn world(counts: &[i64], seed: u64) -> World<Consumer> {
    let mut world = World::new(member(seed), counts.len(), seed);
    world.fill(counts);
    subscribe(&mut world);
    world
}

fn subscribe(world: &mut World<Consumer>) {
    let now = world.now();
    world.machine.subscribe(now, BTreeSet::from([TOPIC.into()]));
}

/// Goes on until an event is like `wanted`; the values read on the way.
fn until(world: &mut World<Consumer>, mut wanted: impl FnMut(&ConsumerEvent) -> bool) -> Vec<String> {
    let mut values = Vec::new();
    for _ in 0..50_000 {
        while let Some(event) = world.machine.next_event() {
            if let ConsumerEvent::Records(fetched) = &event {
                let records = fetched.records(&mut Decompressor::default()).unwrap();
                let text = records.map(|it| String::from_utf8(it.unwrap().value.unwrap().to_vec()).unwrap());
                values.extend(text);
            }
            if wanted(&event) {
                return values;
            }
        }
        assert!(world.step());
    }
    panic!("it does not happen");
}

/// Commits and leaves.
fn close(world: &mut World<Consumer>) {
    let mut effects = Effects::new();
    let now = world.now();
    world.machine.commit(now, &mut effects);
    world.machine.close(now, &mut effects);
    world.carry_out(effects);
    while !world.machine.is_closed() {
        assert!(world.step());
    }
}

#[test]
fn a_member_joins_reads_commits_and_leaves() {
    let mut world = world(&[2], 1);
    let values = until(&mut world, |event| matches!(event, ConsumerEvent::End { .. }));
    assert_eq!(values, ["0/0", "0/1"]);
    close(&mut world);
    assert_eq!(world.group.committed.get(&0), Some(&2));
    assert_eq!(world.group.member, None);
    let group_calls =
        ["FindCoordinator", "JoinGroup", "SyncGroup", "OffsetFetch", "OffsetCommit", "LeaveGroup"];
    let calls = world.trace.lines().filter(|line| group_calls.iter().any(|call| line.starts_with(call)));
    expect![[r#"
        FindCoordinator v6
        JoinGroup v9
        JoinGroup v9
        SyncGroup v5
        OffsetFetch v10
        OffsetCommit v10
        LeaveGroup v5
    "#]]
    .assert_eq(&calls.map(|call| format!("{call}\n")).collect::<String>());
}

#[test]
fn what_was_read_is_committed_before_joining_again() {
    let mut world = world(&[9], 1);
    let mut count = 0;
    // The first batch of three.
    until(&mut world, |event| {
        count += usize::from(matches!(event, ConsumerEvent::Records(_)));
        count == 1
    });
    world.group.rebalance = true;
    let begun = world.group.generation;
    let mut rest = until(&mut world, |event| matches!(event, ConsumerEvent::Assigned(_)));
    assert_eq!(world.group.generation, begun + 1);
    rest.extend(until(&mut world, |event| matches!(event, ConsumerEvent::End { .. })));
    assert_eq!(rest, ["0/3", "0/4", "0/5", "0/6", "0/7", "0/8"], "nothing is read twice");
}

#[test]
fn a_member_that_was_forgotten_joins_anew() {
    let mut world = world(&[3], 1);
    until(&mut world, |event| matches!(event, ConsumerEvent::End { .. }));
    world.group.member = None;
    until(&mut world, |event| matches!(event, ConsumerEvent::Assigned(_)));
    assert_eq!(world.group.member.as_deref(), Some("member-2"));
}

#[test]
fn more_partitions_have_the_leader_share_out_again() {
    let mut world = world(&[1], 1);
    until(&mut world, |event| matches!(event, ConsumerEvent::End { .. }));
    world.logs.push(Default::default());
    world.logs[1].end = 0;
    let mut shares = Vec::new();
    until(&mut world, |event| {
        if let ConsumerEvent::Assigned(partitions) = event {
            shares.clone_from(partitions);
        }
        shares.len() == 2
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever fails, every record is read, and what was committed was read before.
    #[test]
    fn members_that_come_and_go_read_everything(seed: u64) {
        let mut draw = Rng::from_seed(seed);
        let mut world = world(&[30, 20], seed);
        let mut read = BTreeSet::new();
        for _ in 0..4 {
            world.faults = Faults {
                refuse_connection: draw.below(20),
                break_connection: draw.below(8),
                retriable_error: draw.below(20),
                slow_answer: draw.below(30),
            };
            let mut batches = 0;
            let rebalance_at = draw.below(6);
            let mut ended = BTreeSet::new();
            for stop in [rebalance_at, rebalance_at + draw.below(6)] {
                read.extend(until(&mut world, |event| {
                    batches += u64::from(matches!(event, ConsumerEvent::Records(_)));
                    if let ConsumerEvent::End { partition, .. } = event {
                        ended.insert(partition.clone());
                    }
                    batches >= stop || ended.len() == 2
                }));
                world.group.rebalance = true;
            }
            world.faults = Faults::default();
            close(&mut world);
            for (partition, committed) in &world.group.committed {
                for offset in 0..*committed {
                    prop_assert!(read.contains(&format!("{partition}/{offset}")), "{partition}/{offset}");
                }
            }
            world.replace(member(draw.next_u64()));
            subscribe(&mut world);
        }
        let mut ended = BTreeSet::new();
        read.extend(until(&mut world, |event| {
            if let ConsumerEvent::End { partition, .. } = event {
                ended.insert(partition.clone());
            }
            ended.len() == 2
        }));
        prop_assert_eq!(read.len(), 50);
    }
}
