//! A consumer as a member of a group, against a coordinator in memory.

use std::collections::BTreeSet;
use std::time::Duration;

use dohle_records::Decompressor;
use dohle_types::Rng;
use expect_test::expect;
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

use super::{GroupConfig, GroupProtocol};
use crate::fake::{Faults, TOPIC, World, endpoint};
use crate::{Consumer, ConsumerConfig, ConsumerEvent, Effects, StartAt};

fn member(seed: u64) -> Consumer {
    member_of(GroupProtocol::Classic, seed)
}

fn member_of(protocol: GroupProtocol, seed: u64) -> Consumer {
    let config = ConsumerConfig {
        reset: Some(StartAt::Earliest),
        auto_commit: Some(Duration::from_millis(500)),
        partition_max_bytes: 100,
        buffer_max: 1,
        group: Some(GroupConfig { protocol, ..GroupConfig::new("billing") }),
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
fn what_was_consumed_in_an_aborted_transaction_is_read_again() {
    let mut world = world(&[3, 3], 1);
    let mut ends = 0;
    until(&mut world, |event| {
        ends += usize::from(matches!(event, ConsumerEvent::End { .. }));
        ends == 2
    });
    let member = world.machine.group_metadata().map(|group| group.member.member_id);
    assert_eq!(member, world.group.member);
    world.group.committed = [(0, 2), (1, 3)].into();
    world.machine.seek_to_committed();
    let again = until(
        &mut world,
        |event| matches!(event, ConsumerEvent::End { partition, .. } if partition.partition.0 == 1),
    );
    assert_eq!(again, ["0/2"]);
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

/// A group of the consumer protocol, in which the member is to own these partitions.
fn incremental(counts: &[i64], target: &[i32]) -> World<Consumer> {
    let mut world = World::new(member_of(GroupProtocol::Consumer, 1), counts.len(), 1);
    world.fill(counts);
    world.group.target = target.to_vec();
    subscribe(&mut world);
    world
}

fn partitions(event: &ConsumerEvent) -> Option<(&'static str, Vec<i32>)> {
    let indexes = |them: &[dohle_types::TopicPartition]| them.iter().map(|it| it.partition.0).collect();
    match event {
        ConsumerEvent::Assigned(assigned) => Some(("assigned", indexes(assigned))),
        ConsumerEvent::Revoked(revoked) => Some(("revoked", indexes(revoked))),
        ConsumerEvent::Records(_)
        | ConsumerEvent::End { .. }
        | ConsumerEvent::Committed(_)
        | ConsumerEvent::PartitionFailed { .. }
        | ConsumerEvent::GroupFailed(_) => None,
    }
}

#[test]
fn a_member_of_the_consumer_protocol_joins_reads_commits_and_leaves() {
    let mut world = incremental(&[2], &[0]);
    let values = until(&mut world, |event| matches!(event, ConsumerEvent::End { .. }));
    assert_eq!(values, ["0/0", "0/1"]);
    assert_eq!(world.group.reported, [0]);
    close(&mut world);
    assert_eq!(world.group.committed.get(&0), Some(&2));
    assert_eq!(world.group.member, None);
    let group_calls =
        ["FindCoordinator", "ConsumerGroup", "JoinGroup", "OffsetFetch", "OffsetCommit", "Leave"];
    let calls = world.trace.lines().filter(|line| group_calls.iter().any(|call| line.starts_with(call)));
    expect![[r#"
        FindCoordinator v6
        ConsumerGroupHeartbeat v1
        ConsumerGroupHeartbeat v1
        OffsetFetch v10
        OffsetCommit v10
        ConsumerGroupHeartbeat v1
    "#]]
    .assert_eq(&calls.map(|call| format!("{call}\n")).collect::<String>());
}

#[test]
fn a_member_gives_up_what_is_taken_from_it_and_reads_on_with_the_rest() {
    let mut world = incremental(&[9, 9, 9], &[0, 1]);
    let mut read = until(&mut world, |event| matches!(event, ConsumerEvent::Records(_)));
    world.group.target = vec![1];
    let (mut told, mut ended) = (Vec::new(), BTreeSet::new());
    let mut note_end = |event: &ConsumerEvent| {
        if let ConsumerEvent::End { partition, .. } = event {
            ended.insert(partition.partition.0);
        }
        ended.contains(&1) && ended.contains(&2)
    };
    read.extend(until(&mut world, |event| {
        note_end(event);
        told.extend(partitions(event));
        told.len() == 2
    }));
    assert_eq!(told, [("revoked", vec![0]), ("assigned", vec![1])]);
    let given_up = read.iter().filter(|value| value.starts_with("0/")).count();
    assert_eq!(world.group.committed.get(&0).copied().unwrap_or(0), i64::try_from(given_up).unwrap());
    world.group.target = vec![1, 2];
    read.extend(until(&mut world, note_end));
    assert_eq!(world.group.reported, [1, 2], "the coordinator is told");
    read.retain(|value| !value.starts_with("0/"));
    read.sort();
    let all: Vec<String> = [1, 2].iter().flat_map(|it| (0..9).map(move |at| format!("{it}/{at}"))).collect();
    assert_eq!(read, all, "nothing is read twice");
}

#[test]
fn a_member_that_was_fenced_gives_up_everything_and_joins_again() {
    let mut world = incremental(&[3], &[0]);
    until(&mut world, |event| matches!(event, ConsumerEvent::End { .. }));
    let id = world.group.member.clone();
    world.group.generation += 1;
    let mut told = Vec::new();
    until(&mut world, |event| {
        told.extend(partitions(event));
        told.len() == 2
    });
    assert_eq!(told, [("revoked", vec![0]), ("assigned", vec![0])]);
    assert_eq!(world.group.member, id, "it keeps the id that it gave itself");
}

#[test]
fn answers_to_what_a_member_said_before_it_joined_again_are_no_answers_to_that() {
    let mut world = incremental(&[3000], &[0]);
    world.group.is_classic = true;
    world.faults.slow_answer = 10;
    for round in 0..200 {
        until(&mut world, |event| {
            assert!(!matches!(event, ConsumerEvent::GroupFailed(_)), "round {round}: {event:?}");
            matches!(event, ConsumerEvent::Assigned(_))
        });
        for _ in 0..round % 7 {
            world.step();
        }
        world.group.generation += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever fails, every record is read, and what was committed was read before.
    #[test]
    fn members_that_come_and_go_read_everything(seed: u64) {
        let mut draw = Rng::from_seed(seed);
        let mut world = world(&[30, 20], seed);
        world.group.target = vec![0, 1];
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
                // By the consumer protocol nothing happens any more to a member that has read everything.
                if ended.len() == 2 {
                    break;
                }
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
            let protocol = [GroupProtocol::Classic, GroupProtocol::Consumer][usize::from(draw.chance(1, 2))];
            world.replace(member_of(protocol, draw.next_u64()));
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
