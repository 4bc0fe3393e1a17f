//! Recovery from within a segment: what lies below the recovery point is not read again, and what follows from it is
//! there all the same.

use std::collections::BTreeMap;

use dohle_configs::TopicConfig;
use dohle_types::{Offset, Rng, Timestamp};

use super::disk::Disk;
use super::node::{DIR, Node, Producer, batch, batch_of, now};
use super::transactions::script;
use crate::disk::{FilePath, Op, Step, drive};
use crate::memory_disk::MemoryDisk;
use crate::{Codecs, OpenLog, Opening, Origin, ProducerState};

/// Opens the log on the node's disk after a crash with this recovery point; and what was read of `.log` files, by
/// position and length.
fn recover(node: &Node, recovery_point: Offset) -> (Node, Vec<(usize, usize)>) {
    let mut disk = node.disk.clone();
    let mut reads = Vec::new();
    let opening = Opening { recovery_point: Some(recovery_point), ..node.opening() };
    let log = drive(&mut OpenLog::new(opening), |step| {
        if let Step::Read { path, position, length } = &step
            && path.ends_with(".log")
        {
            let position = usize::try_from(*position).unwrap();
            let rest = disk.files.get(path).map_or(0, |content| content.len() - position);
            reads.push((position, rest.min(*length)));
        }
        Ok(disk.perform(step))
    });
    let log = log.unwrap().unwrap();
    (Node { log, disk, codecs: Codecs::default(), epoch: node.epoch }, reads)
}

#[test]
fn recovery_reads_the_headers_behind_the_last_index_entry_and_what_lies_above_the_recovery_point() {
    let mut node = Node::new(TopicConfig { segment_bytes: 64 << 20, ..TopicConfig::default() });
    let size = batch(&[1], 1000).len();
    let mut durable = 0;
    for index in 0..20_000 {
        let id = i64::from(index % 7);
        let producer = Producer { id, epoch: 0, sequence: index / 7 };
        node.append(batch_of(producer, &[1_000_000 + i64::from(index)], 1000)).unwrap();
        if index % 5000 == 4990 {
            let mut ops = Vec::new();
            node.log.snapshot_producers(1 << 20, &mut ops);
            ops.into_iter().for_each(|op| node.disk.apply(op));
        }
        if index == 15_000 {
            node.sync();
            durable = size * usize::try_from(index + 1).unwrap();
        }
    }
    let recovery_point = node.log.recovery_point();
    let (again, reads) = recover(&node, recovery_point);
    let (below, above): (Vec<_>, Vec<_>) = reads.into_iter().partition(|&(position, _)| position < durable);
    let sum = |reads: Vec<(usize, usize)>| reads.into_iter().map(|(_, length)| length).sum::<usize>();
    let (below, above) = (sum(below), sum(above));
    // 128 entries that are some 4 KiB apart are written at a time; of the batches some hundred bytes are headers.
    assert!(below < 700_000, "{below} of {durable} bytes below the recovery point were read");
    // Once to be checked, and once to be written again.
    assert!(above <= 2 * 5000 * size, "{above} bytes above it");
    assert_eq!((again.log.end_offset(), known(&again)), (Offset(20_000), known(&node)));
}

#[test]
fn what_was_written_when_a_segment_was_closed_survives_the_failed_sync_that_it_was_in() {
    for seed in 0..20 {
        let rng = &mut Rng::from_seed(seed);
        let mut node = Node::new(TopicConfig { index_interval_bytes: 100, ..TopicConfig::default() });
        for sequence in 0..10 {
            let producer = Producer { id: 7, epoch: 0, sequence };
            node.append(batch_of(producer, &[1_000_000 + i64::from(sequence)], 100)).unwrap();
        }
        node.sync();
        let recovery_point = node.log.recovery_point();
        let mut disk = MemoryDisk::default();
        for (path, content) in &node.disk.files {
            let data = content.clone().into();
            disk.apply(&Op::Write { path: path.clone(), position: 0, data }).unwrap();
            disk.sync(path);
        }
        let mut ops = Vec::new();
        node.log.roll(now(1).wall, &mut ops);
        ops.iter().for_each(|op| disk.apply(op).unwrap());
        let paths: Vec<String> = disk.files().into_keys().collect();
        for path in paths {
            let sync = disk.begin_sync(&path).unwrap();
            disk.fail_sync(sync, rng);
        }
        let seen = |disk: &MemoryDisk| -> BTreeMap<String, Vec<u8>> {
            disk.files().into_iter().map(|(path, content)| (path, content.to_vec())).collect()
        };
        let opening = Opening { recovery_point: Some(recovery_point), ..node.opening() };
        disk.run(OpenLog::new(opening)).unwrap().unwrap();
        let before = seen(&disk);
        assert!(before.keys().any(|path| path.ends_with(".timeindex")));
        assert!(before.keys().any(|path| path.ends_with(".snapshot")));
        disk.lose_power(rng);
        assert_eq!(seen(&disk), before, "seed {seed}");
    }
}

/// What the log knows of its producers.
fn known(node: &Node) -> BTreeMap<i64, ProducerState> {
    node.log.producers().map(|(id, state)| (id.0, state.clone())).collect()
}

/// A log of one segment with producers, transactions, and timestamps that go to and fro.
fn random_node(rng: &mut Rng) -> Node {
    let index_interval_bytes = [0, 60, 400][usize::try_from(rng.below(3)).unwrap()];
    let config = TopicConfig { segment_bytes: 1 << 20, index_interval_bytes, ..TopicConfig::default() };
    let mut node = Node::new(config);
    let mut time = 1_000_000;
    for _ in 0..300 + rng.below(300) {
        time += i64::try_from(rng.below(8)).unwrap();
        let back = if rng.chance(1, 4) { i64::try_from(rng.below(30)).unwrap() } else { 0 };
        match rng.below(12) {
            0 => script(&mut node, "a2"),
            1 => script(&mut node, ["a!", "a."][usize::try_from(rng.below(2)).unwrap()]),
            2 => script(&mut node, "b1 b!"),
            3 => {
                let mut ops = Vec::new();
                node.log.snapshot_producers(2000, &mut ops);
                ops.into_iter().for_each(|op| node.disk.apply(op));
            }
            _ => {
                let records = batch(&[time - back], usize::try_from(rng.below(60)).unwrap());
                node.append_at(now(0), records, Origin::Client { zstd_allowed: true }).unwrap();
            }
        }
    }
    node.sync();
    node
}

/// Damages an index: what it has behind an entry is not there, or zeros, or something else.
fn damage(disk: &mut Disk, suffix: &str, entry: usize, rng: &mut Rng) -> &'static str {
    let path: FilePath = format!("{DIR}/{:020}{suffix}", 0).into();
    let Some(content) = disk.files.get_mut(&path).filter(|content| !content.is_empty()) else {
        return "none";
    };
    let entries = content.len() / entry;
    let at = entry * usize::try_from(1 + rng.below(entries as u64)).unwrap();
    match rng.below(7) {
        0 => {
            disk.files.remove(&path);
            "removed"
        }
        1 => {
            content.truncate(at.saturating_sub(3));
            "cut off"
        }
        2 => {
            content.iter_mut().skip(at).take(entry * 40).for_each(|byte| *byte = 0);
            "zeros in between"
        }
        3 => {
            content.iter_mut().skip(at).for_each(|byte| *byte = 0xff);
            "nonsense at its end"
        }
        4 => {
            content.resize(content.len() + 4096, 0);
            "zeros behind its end"
        }
        5 => {
            content.extend([0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 9]);
            "nonsense behind its end"
        }
        _ => "none",
    }
}

#[test]
fn whatever_became_of_the_indexes_they_are_what_they_would_be_without_the_crash() {
    let mut resumed = 0;
    for seed in 0..60 {
        let rng = &mut Rng::from_seed(seed);
        let mut node = random_node(rng);
        let mut crashed = node.reopen(node.disk.clone(), node.opening()).unwrap();
        crashed.disk = node.disk.clone();
        let damaged =
            [damage(&mut crashed.disk, ".index", 8, rng), damage(&mut crashed.disk, ".timeindex", 12, rng)];
        let ends: Vec<Offset> =
            node.read_all(Offset(0)).iter().map(|batch| batch.header().next_offset()).collect();
        let recovery_point = ends[usize::try_from(rng.below(ends.len() as u64)).unwrap()];
        let (mut again, reads) = recover(&crashed, recovery_point);
        let case = format!("seed {seed}, recovery point {recovery_point}, {damaged:?}");
        let whole = usize::try_from(node.log.size_in_bytes()).unwrap();
        resumed += usize::from(!reads.contains(&(0, whole)));
        assert_eq!(again.log.end_offset(), node.log.end_offset(), "{case}");
        assert_eq!(known(&again), known(&node), "{case}");
        assert_eq!(again.read_all(Offset(0)), node.read_all(Offset(0)), "{case}");
        let end = node.log.end_offset();
        for time in (999_980..1_004_000).step_by(97) {
            let find = |node: &mut Node| {
                node.log.find_by_timestamp(Timestamp(time), end).map(|job| node.disk.run(job).unwrap())
            };
            assert_eq!(find(&mut again), find(&mut node), "{case}, time {time}");
        }
        node.close();
        again.close();
        for suffix in [".index", ".timeindex", ".txnindex"] {
            let path: FilePath = format!("{DIR}/{:020}{suffix}", 0).into();
            assert_eq!(again.disk.files.get(&path), node.disk.files.get(&path), "{case}: {suffix}");
        }
    }
    assert!(resumed > 50, "{resumed} recoveries read less than all");
}

#[test]
fn records_below_the_recovery_point_that_are_damaged_where_they_are_read_are_reported() {
    let mut node = Node::new(TopicConfig::default());
    for time in 0..50 {
        node.append(batch(&[time], 100)).unwrap();
    }
    node.sync();
    let size = batch(&[1], 100).len();
    // Its length, so that the next batch is not where it should be.
    let path: FilePath = format!("{DIR}/{:020}.log", 0).into();
    node.disk.files.get_mut(&path).unwrap()[20 * size + 11] ^= 1;
    let opening = Opening { recovery_point: Some(Offset(50)), ..node.opening() };
    let again = node.reopen(node.disk.clone(), opening).unwrap();
    let damage: Vec<_> = again.log.damage().iter().map(|damage| (damage.from.0, damage.to.0)).collect();
    assert_eq!((damage, again.log.end_offset()), (vec![(20, 21)], Offset(50)));
}
