//! What is left of a log after a crash: everything that was synced, and of the rest a beginning. Chosen cases; drawn
//! ones are in `model`.

use dohle_configs::TopicConfig;
use dohle_records::Batch;
use dohle_types::{ErrorCode, LeaderEpoch, Offset, Rng};

use super::disk::Disk;
use super::node::{DIR, Node, Producer, batch, batch_of, now};
use crate::disk::FilePath;
use crate::{Opening, Origin};

fn config() -> TopicConfig {
    TopicConfig { segment_bytes: 2000, index_interval_bytes: 300, ..TopicConfig::default() }
}

/// Checks that the log on `disk` has everything below `durable`, and else a beginning of what `node` appended;
/// then that it can be appended to, and opened again.
fn check_recovered(
    node: &Node,
    expected: &[Batch],
    disk: Disk,
    opening: Opening,
    durable: Offset,
    case: &str,
) {
    let mut again = node.reopen(disk, opening).unwrap_or_else(|error| panic!("{case}: {error}"));
    let end = again.log.end_offset();
    assert!(end >= durable, "{case}: ends at {end}, but {durable} was durable");
    assert_eq!(again.log.durable_offset(), end);
    let read = again.read_all(again.log.start_offset());
    assert_eq!(read, expected[..read.len()], "{case}");
    let producers =
        |log: &crate::Log| log.producers().map(|(id, state)| (id, state.epoch)).collect::<Vec<_>>();
    let last_epoch = read.last().map_or(LeaderEpoch::NONE, |batch| batch.header().partition_leader_epoch);
    assert_eq!(again.log.latest_epoch(), last_epoch, "{case}");
    // A producer's next batch follows; its last one is recognised.
    let last_of_producer = read.iter().rev().find(|batch| batch.header().has_producer_id());
    if let Some(last) = last_of_producer {
        let header = last.header();
        let (id, epoch) = (header.producer_id.0, header.producer_epoch.0);
        let sequence = header.last_sequence().plus(1).0;
        let next = batch_of(Producer { id, epoch, sequence }, &[5], 20);
        let duplicate = again.append(as_sent(last)).unwrap();
        assert!(duplicate.duplicate && duplicate.first_offset == header.base_offset, "{case}");
        assert_eq!(again.append(next).unwrap().first_offset, end, "{case}");
    } else {
        assert_eq!(again.append(batch(&[5], 20)).unwrap().first_offset, end, "{case}");
    }
    again.sync();
    let after = again.log.end_offset();
    let opening = Opening { recovery_point: Some(after), ..again.opening() };
    let twice =
        again.reopen(again.disk.crash_after(0, 0), opening).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(twice.log.end_offset(), after, "{case}");
    assert_eq!(producers(&twice.log), producers(&again.log), "{case}");
}

/// The batch as its producer sent it.
fn as_sent(batch: &Batch) -> bytes::Bytes {
    let mut bytes = batch.bytes().to_vec();
    dohle_records::patch::assign_offset(&mut bytes, Offset(0), LeaderEpoch(-1)).unwrap();
    bytes.into()
}

/// A log with some history: producers, epochs, rolls, and syncs of which the last is not the end.
fn random_node(rng: &mut Rng) -> Node {
    let mut node = Node::new(config());
    let mut sequences = [0_i32; 3];
    for _ in 0..rng.below(40) + 1 {
        let count = rng.below(4) + 1;
        let timestamps: Vec<i64> =
            (0..count).map(|_| 1_000_000 + i64::try_from(rng.below(1000)).unwrap()).collect();
        let padding =
            usize::try_from(if rng.chance(1, 8) { rng.below(1200) } else { rng.below(120) }).unwrap();
        let padding = padding / timestamps.len();
        let id = usize::try_from(rng.below(4)).unwrap();
        let bytes = match sequences.get_mut(id) {
            Some(sequence) => {
                let producer = Producer { id: i64::try_from(id).unwrap(), epoch: 0, sequence: *sequence };
                *sequence += i32::try_from(count).unwrap();
                batch_of(producer, &timestamps, padding)
            }
            None => batch(&timestamps, padding),
        };
        if rng.chance(1, 10) {
            node.epoch = LeaderEpoch(node.epoch.0 + 1);
        }
        node.append_at(now(0), bytes, Origin::Client { zstd_allowed: true }).unwrap();
        if rng.chance(1, 5) {
            node.sync();
        }
    }
    node
}

/// A recovery point as the checkpoint may have it: it lags behind what is durable.
fn recovery_point(rng: &mut Rng, durable: Offset) -> Option<Offset> {
    if rng.chance(1, 4) {
        None
    } else {
        Some(Offset(i64::try_from(rng.below(durable.0.unsigned_abs() + 1)).unwrap()))
    }
}

#[test]
fn a_kill_at_any_byte_leaves_a_beginning_with_everything_that_was_synced() {
    let mut node = Node::new(TopicConfig { segment_bytes: 400, ..config() });
    for sequence in 0..3 {
        node.append(batch_of(Producer { id: 1, epoch: 0, sequence }, &[5], 10)).unwrap();
    }
    node.sync();
    for sequence in 3..9 {
        node.epoch = LeaderEpoch(sequence);
        node.append(batch_of(Producer { id: 1, epoch: 0, sequence }, &[5], 10)).unwrap();
    }
    let expected = node.read_all(Offset(0));
    let durable = node.log.durable_offset();
    for count in 0..=node.disk.pending().len() {
        let bytes = match node.disk.pending().get(count) {
            Some(crate::disk::Op::Write { data, .. }) => data.len(),
            _ => 0,
        };
        for bytes in 0..=bytes {
            let disk = node.disk.crash_after(count, bytes);
            let opening = Opening { recovery_point: Some(Offset(2)), ..node.opening() };
            check_recovered(
                &node,
                &expected,
                disk,
                opening,
                durable,
                &format!("after {count} and {bytes} bytes"),
            );
        }
    }
}

/// A log of ten batches in three segments, all of it durable, and its disk.
fn durable_node() -> Node {
    let mut node = Node::new(TopicConfig { segment_bytes: 800, ..config() });
    for sequence in 0..10 {
        node.append(batch_of(Producer { id: 1, epoch: 0, sequence }, &[5], 100)).unwrap();
    }
    node.sync();
    node
}

fn logs(disk: &Disk) -> Vec<FilePath> {
    disk.files.keys().filter(|path| path.ends_with(".log")).cloned().collect()
}

#[test]
fn a_flipped_bit_takes_its_own_batch_and_no_other_and_is_never_repaired_by_truncation() {
    let node = durable_node();
    let end = node.log.end_offset();
    let logs = logs(&node.disk);
    let last = logs.last().unwrap();
    let (mut refused, mut cut, mut first_in_segment) = (0, 0, Offset(0));
    for path in &logs {
        let file = &node.disk.files[path];
        for at in (0..file.len()).step_by(3) {
            let mut disk = node.disk.clone();
            disk.files.get_mut(path).unwrap()[at] ^= 1 << (at % 8);
            let hit = first_in_segment.plus(i64::try_from(at / size_of_batch()).unwrap());
            for recovery_point in [Offset(0), end] {
                let opening = Opening { recovery_point: Some(recovery_point), ..node.opening() };
                let mut again = node.reopen(disk.clone(), opening).unwrap();
                // No CRC covers leader epochs.
                if (12..16).contains(&(at % size_of_batch())) {
                    assert_eq!(
                        (again.log.end_offset(), again.log.damage()),
                        (end, &[][..]),
                        "{path} byte {at}"
                    );
                    continue;
                }
                if again.log.end_offset() < end {
                    assert_eq!((hit, again.log.end_offset()), (Offset(end.0 - 1), hit), "{path} byte {at}");
                    assert_eq!((path, recovery_point), (last, Offset(0)), "{path} byte {at}");
                    cut += 1;
                    continue;
                }
                refused += 1;
                let kept = again.disk.files[path].len();
                assert_eq!((again.log.end_offset(), kept), (end, file.len()), "{path} byte {at}");
                for offset in (0..end.0).map(Offset) {
                    let read = again.read_or_damage(offset);
                    assert_eq!(
                        read.is_none(),
                        offset == hit,
                        "{path} byte {at}, which is of {hit}: {offset}"
                    );
                    assert!(read.is_none_or(|batches| batches[0].header().base_offset == offset));
                }
                assert!(!again.log.is_end_lost() || hit.plus(1) == end, "{path} byte {at}");
                let appended = again.append(batch(&[5], 20));
                match appended {
                    Ok(appended) => assert_eq!(appended.first_offset, end),
                    Err(error) => {
                        assert!(again.log.is_end_lost());
                        assert_eq!(error.error_code(), ErrorCode::KafkaStorageError);
                    }
                }
            }
        }
        first_in_segment = first_in_segment.plus(i64::try_from(file.len() / size_of_batch()).unwrap());
    }
    assert!(refused > 300 && cut > 10, "{refused} refused, {cut} cut");
}

fn size_of_batch() -> usize {
    batch_of(Producer { id: 1, epoch: 0, sequence: 1 }, &[5], 100).len()
}

#[test]
fn lost_records_below_the_recovery_point_are_refused_and_nothing_follows_a_lost_end() {
    let node = durable_node();
    let check = |change: fn(&mut Disk), recovery_point: i64, end: i64, lost: &[(i64, i64)]| {
        let mut disk = node.disk.clone();
        change(&mut disk);
        let opening = Opening { recovery_point: Some(Offset(recovery_point)), ..node.opening() };
        let mut again = node.reopen(disk, opening).unwrap();
        assert_eq!(again.log.end_offset(), Offset(end));
        let damage: Vec<_> = again.log.damage().iter().map(|damage| (damage.from.0, damage.to.0)).collect();
        assert_eq!(damage, lost);
        let is_end_lost = lost.iter().any(|&(_, to)| to == end);
        assert_eq!(again.append(batch(&[5], 10)).is_err(), is_end_lost);
        for offset in 0..end {
            let is_lost = lost.iter().any(|&(from, to)| (from..to).contains(&offset));
            assert_eq!(again.read_or_damage(Offset(offset)).is_none(), is_lost, "{offset} of {end}");
        }
    };
    let cut_last: fn(&mut Disk) = |disk| {
        let path = logs(disk).pop().unwrap();
        disk.files.get_mut(&path).unwrap().pop();
    };
    let remove_last: fn(&mut Disk) = |disk| {
        let path = logs(disk).pop().unwrap();
        disk.files.remove(&path);
    };
    let cut_first: fn(&mut Disk) = |disk| {
        let path = logs(disk).remove(0);
        disk.files.get_mut(&path).unwrap().pop();
    };
    let remove_middle: fn(&mut Disk) = |disk| {
        let path = logs(disk).remove(1);
        disk.files.remove(&path);
    };
    check(|_| (), 10, 10, &[]);
    check(cut_last, 9, 9, &[]);
    check(cut_last, 10, 10, &[(9, 10)]);
    check(remove_last, 8, 8, &[]);
    check(remove_last, 9, 9, &[(8, 9)]);
    check(cut_first, 3, 3, &[]);
    check(cut_first, 4, 10, &[(3, 4)]);
    check(remove_middle, 3, 4, &[]);
    check(remove_middle, 5, 10, &[(4, 8)]);
}

#[test]
fn whatever_the_files_hold_opening_them_ends_and_what_opens_can_be_used() {
    let mut opened = 0;
    for seed in 0..400 {
        let mut rng = Rng::from_seed(seed);
        let mut node = random_node(&mut rng);
        if rng.chance(1, 2) {
            node.close();
        }
        let mut disk = node.disk.clone();
        let paths: Vec<FilePath> = disk.files.keys().cloned().collect();
        for _ in 0..=rng.below(3) {
            let path = &paths[usize::try_from(rng.below(paths.len() as u64)).unwrap()];
            let Some(content) = disk.files.get_mut(path) else { continue };
            let at = usize::try_from(rng.below(content.len() as u64 + 1)).unwrap();
            match rng.below(6) {
                0 => content.truncate(at),
                1 => content.extend((0..rng.below(3000)).map(|_| rng.next_u64().to_be_bytes()[0])),
                2 => content.iter_mut().skip(at).take(20).for_each(|byte| *byte = 0xff),
                3 => content.iter_mut().skip(at).take(700).for_each(|byte| *byte = 0),
                4 => content.iter_mut().skip(at).for_each(|byte| *byte = rng.next_u64().to_be_bytes()[0]),
                _ => drop(disk.files.remove(path)),
            }
        }
        let clean = rng.chance(1, 2);
        let recovery_point = recovery_point(&mut rng, node.log.end_offset());
        let Ok(mut again) = node.reopen(disk, Opening { clean, recovery_point, ..node.opening() }) else {
            continue;
        };
        opened += 1;
        for offset in again.log.start_offset().0..again.log.end_offset().0 {
            again.read_or_damage(Offset(offset));
        }
        if again.log.is_end_lost() {
            assert!(again.append(batch(&[1_000_500], 200)).is_err(), "seed {seed}");
        } else {
            for _ in 0..40 {
                again.append(batch(&[1_000_500], 200)).unwrap();
            }
            let last = again.log.end_offset().plus(-1);
            assert_eq!(again.read(last, 1).len(), 1, "seed {seed}");
        }
        again.close();
        let clean = Opening { clean: true, ..again.opening() };
        assert!(again.reopen(again.disk.clone(), clean).is_ok(), "seed {seed}");
    }
    assert!(opened > 100, "{opened}");
}

#[test]
fn zeros_behind_the_end_are_cut_off() {
    let node = durable_node();
    let mut disk = node.disk.clone();
    let path = logs(&disk).pop().unwrap();
    let length = disk.files[&path].len();
    disk.files.get_mut(&path).unwrap().resize(length + 3_000_000, 0);
    let opening = Opening { recovery_point: Some(Offset(10)), ..node.opening() };
    let again = node.reopen(disk, opening).unwrap();
    assert_eq!((again.log.end_offset(), again.disk.files[&path].len()), (Offset(10), length));
}

#[test]
fn the_epochs_are_read_from_the_batches_where_their_file_is_spoiled() {
    let mut node = Node::new(config());
    for epoch in [0, 0, 2, 2, 5] {
        node.epoch = LeaderEpoch(epoch);
        node.append(batch(&[5], 900)).unwrap();
    }
    node.sync();
    for (clean, content) in [(false, None), (false, Some("")), (true, Some("0\n1\n")), (true, None)] {
        let mut disk = node.disk.clone();
        let path: FilePath = format!("{DIR}/leader-epoch-checkpoint").into();
        match content {
            Some(content) => disk.files.insert(path, content.into()),
            None => disk.files.remove(&path),
        };
        let opening = Opening { clean, recovery_point: Some(Offset(5)), ..node.opening() };
        let again = node.reopen(disk, opening).unwrap();
        assert_eq!(again.log.epoch_end_offset(LeaderEpoch(0)), (LeaderEpoch(0), Offset(2)));
        assert_eq!(again.log.epoch_end_offset(LeaderEpoch(2)), (LeaderEpoch(2), Offset(4)));
    }
}

#[test]
fn leftovers_are_tidied_away_and_completed_swaps_put_in_place() {
    let mut node = durable_node();
    let expected = node.read_all(Offset(0));
    let mut disk = node.disk.clone();
    let logs = logs(&disk);
    for name in ["00000000000000000004.log.deleted", "x.cleaned", "00000000000000000099.index", "y.tmp"] {
        disk.files.insert(format!("{DIR}/{name}").into(), b"leftover".to_vec());
    }
    // Compaction made one segment of the first two.
    let merged = [disk.files[&logs[0]].clone(), disk.files[&logs[1]].clone()].concat();
    disk.files.insert(format!("{}.swap", logs[0]).into(), merged);
    let mut again = node.reopen(disk, node.opening()).unwrap();
    assert_eq!(again.read_all(Offset(0)), expected);
    assert_eq!(again.log.segments().count(), logs.len() - 1);
    let names: Vec<&FilePath> = again.disk.files.keys().filter(|path| path.len() != DIR.len() + 25).collect();
    assert!(!names.iter().any(|name| name.ends_with("tmp") || name.contains(".log.")), "{names:?}");
}

#[test]
fn a_compacted_log_has_gaps_and_is_read_across_them() {
    let node = durable_node();
    let mut disk = node.disk.clone();
    let logs = logs(&disk);
    let size = batch_of(Producer { id: 1, epoch: 0, sequence: 1 }, &[5], 100).len();
    // Compaction has removed the second batch of the first segment, and the last of the second.
    disk.files.get_mut(&logs[0]).unwrap().drain(size..2 * size);
    let second = disk.files.get_mut(&logs[1]).unwrap();
    second.truncate(second.len() - size);
    let opening = Opening { recovery_point: Some(Offset(10)), ..node.opening() };
    let mut kept = disk.clone();
    let mut config = TopicConfig::clone(&opening.config);
    config.cleanup_policy.compact = true;
    let config = std::sync::Arc::new(config);
    for recovery_point in [None, Some(Offset(8)), Some(Offset(10))] {
        let opening = Opening { config: config.clone(), recovery_point, ..opening.clone() };
        let mut again = node.reopen(kept.clone(), opening).unwrap();
        assert_eq!(again.log.end_offset(), Offset(10));
        for (offset, found) in [(0, 0), (1, 2), (2, 2), (6, 6), (7, 8), (9, 9)] {
            assert_eq!(again.read(Offset(offset), 1)[0].header().base_offset, Offset(found), "at {offset}");
        }
        again.close();
        kept = again.disk.clone();
    }
    // In a log that is not compacted that is damage.
    let opening = Opening { recovery_point: Some(Offset(3)), ..opening };
    let again = node.reopen(disk, opening).unwrap();
    let damage: Vec<_> = again.log.damage().iter().map(|damage| (damage.from.0, damage.to.0)).collect();
    assert_eq!(damage, [(1, 2)]);
}

#[test]
fn offsets_that_were_deleted_and_then_lost_are_not_given_out_again() {
    let node = durable_node();
    let opening = Opening { start_offset: Some(Offset(25)), ..node.opening() };
    let mut again = node.reopen(node.disk.clone(), opening).unwrap();
    assert_eq!((again.log.start_offset(), again.log.end_offset()), (Offset(25), Offset(25)));
    assert_eq!(again.append(batch(&[5], 10)).unwrap().first_offset, Offset(25));
    again.sync();
    let again = again.reopen(again.disk.clone(), again.opening()).unwrap();
    assert_eq!((again.log.start_offset(), again.log.end_offset()), (Offset(25), Offset(26)));
}

#[test]
fn a_leader_epoch_that_has_changed_in_a_batch_is_not_believed_where_the_checkpoint_knows_it() {
    let mut node = Node::new(config());
    for epoch in [1, 2] {
        node.epoch = LeaderEpoch(epoch);
        node.append(batch(&[1], 20)).unwrap();
    }
    node.sync();
    let mut disk = node.disk.clone();
    let path: FilePath = format!("{DIR}/00000000000000000000.log").into();
    disk.files.get_mut(&path).unwrap()[15] ^= 8;
    let opening = Opening { recovery_point: Some(Offset(2)), ..node.opening() };
    let again = node.reopen(disk, opening).unwrap();
    assert_eq!([0, 1].map(|offset| again.log.epoch_at(Offset(offset)).0), [1, 2]);
}
