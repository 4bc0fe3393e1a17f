//! What a commit cycle decides, and what follows behind it.

use std::collections::BTreeSet;

use dohle_types::{Offset, PartitionIndex, Rng, TopicId};
use uuid::Uuid;

use crate::disk::LogDir;
use crate::journal::{CommitCycle, Done, JournalConfig, SyncRequest, Task};
use crate::{LogId, LogKey, LogRange, SyncPoint, SyncWork};

const MIB: u64 = 1 << 20;

fn cycle(bytes: u64) -> CommitCycle {
    let mut cycle = CommitCycle::new(LogDir::FIRST, JournalConfig { bytes, files_min: 4 }, Rng::from_seed(1));
    cycle.use_journal();
    cycle
}

/// The `number`th wish of a log.
fn wish(log: u32, number: u64, length: u64) -> SyncRequest {
    let dir = format!("t-{log}");
    let end = Offset(i64::try_from(number).unwrap());
    let range = LogRange {
        path: format!("{dir}/0.log").into(),
        base: Offset::ZERO,
        position: 0,
        length: u32::try_from(length).unwrap(),
        end,
    };
    let point = SyncPoint { number, end };
    let work = SyncWork { point, dir: dir.into(), ranges: vec![range], files: Vec::new(), in_files: false };
    let id = LogId {
        topic_id: TopicId(Uuid::from_u128(7)),
        partition: PartitionIndex(i32::try_from(log).unwrap()),
    };
    SyncRequest { key: LogKey(log), id, work }
}

fn wishes(logs: u32, number: u64, length: u64) -> Vec<SyncRequest> {
    (0..logs).map(|log| wish(log, number, length)).collect()
}

fn into_files(mut wish: SyncRequest) -> SyncRequest {
    (wish.work.in_files, wish.work.ranges) = (true, Vec::new());
    wish
}

/// Carries a round out; how many files were synced, whether the journal was written, and what became of whom.
fn round(cycle: &mut CommitCycle, requests: Vec<SyncRequest>) -> (usize, bool, Vec<Done>) {
    let round = cycle.begin(requests);
    let (files, written) = (round.paths.len(), round.write.is_some());
    (files, written, cycle.finish(round))
}

/// Carries out all that follows; how many parts were made ready, and what was flushed.
fn catch_up(cycle: &mut CommitCycle) -> (usize, Vec<Done>) {
    let (mut prepared, mut done) = (0, Vec::new());
    while let Some(task) = cycle.next_task() {
        prepared += usize::from(matches!(task, Task::Prepare { .. }));
        done.extend(cycle.on_task_done());
    }
    (prepared, done)
}

/// A cycle with a journal that is ready.
fn ready(bytes: u64) -> CommitCycle {
    let mut cycle = cycle(bytes);
    assert!(!round(&mut cycle, wishes(4, 1, 100)).1, "there is no journal yet");
    assert_eq!(catch_up(&mut cycle).0, 1);
    cycle
}

#[test]
fn few_files_are_synced_and_many_small_writes_go_to_the_journal() {
    // Logs, bytes of each, whether the journal takes them.
    let table = [
        (1, 100, false),
        (3, 100, false),
        (4, 100, true),
        (4, 90 << 10, true),
        (4, 100 << 10, false),
        (1000, 100, true),
        (100, 120 << 10, true),
        (100, 140 << 10, false),
        // It would not fit into a part.
        (200, 120 << 10, false),
    ];
    for (logs, length, expected) in table {
        let mut cycle = ready(64 * MIB);
        let (files, written, done) = round(&mut cycle, wishes(logs, 2, length));
        assert_eq!(written, expected, "{logs} logs with {length} bytes each");
        assert_eq!(files, if expected { 0 } else { logs as usize });
        assert_eq!(done.iter().all(|done| matches!(done, Done::Synced(..))), expected);
        assert_eq!(done.len(), logs as usize);
    }
    let mut none = cycle(0);
    assert_eq!(round(&mut none, wishes(1000, 1, 100)).0, 1000);
    assert_eq!(none.next_task(), None, "without a journal nothing is made");
}

#[test]
fn what_must_be_in_the_files_takes_what_the_journal_has_along() {
    let mut cycle = ready(64 * MIB);
    assert!(round(&mut cycle, wishes(5, 2, 100)).1);
    let mut requests = wishes(5, 3, 100);
    requests.push(into_files(wish(9, 3, 100)));
    requests[0] = into_files(wish(0, 3, 100));
    let (files, written, done) = round(&mut cycle, requests);
    assert!(written, "the other four are still enough for the journal");
    assert_eq!(files, 1, "of log 9 there is nothing to sync, of log 0 what the round before journaled");
    let flushed: Vec<LogKey> = done
        .iter()
        .filter_map(|done| if let Done::Flushed(key, _) = done { Some(*key) } else { None })
        .collect();
    assert_eq!(flushed, [LogKey(0), LogKey(9)]);
}

#[test]
fn while_no_part_is_free_files_are_synced_and_nobody_waits() {
    let mut cycle = ready(16 * 4096);
    let mut number = 1;
    let mut written = 0;
    // Nothing is done on the side: three blocks of the first part are filled, and the next one is not there.
    for _ in 0..10 {
        number += 1;
        let (files, is_written, done) = round(&mut cycle, wishes(4, number, 100));
        written += usize::from(is_written);
        assert!(done.len() == 4 && (is_written || files == 4));
    }
    assert_eq!(written, 3);
    // Then the parts go round: each is flushed before it is used again.
    catch_up(&mut cycle);
    let mut flushed = 0;
    for _ in 0..40 {
        number += 1;
        assert!(round(&mut cycle, wishes(4, number, 100)).1, "round {number}");
        let (_, done) = catch_up(&mut cycle);
        flushed += done.len();
        assert!(done.iter().all(|done| matches!(done, Done::Flushed(_, point) if point.number <= number)));
    }
    assert!(flushed >= 40, "{flushed}");
}

#[test]
fn after_a_rename_all_files_are_synced_for_the_files_may_have_other_names() {
    let mut cycle = ready(16 * 4096);
    for number in 2..5 {
        assert!(round(&mut cycle, wishes(4, number, 100)).1);
        while matches!(cycle.next_task(), Some(Task::Prepare { .. })) {
            cycle.on_task_done();
        }
    }
    assert!(round(&mut cycle, wishes(4, 5, 100)).1, "the second part");
    let flush = |all| {
        let paths: BTreeSet<_> = (0..4).map(|log| format!("t-{log}/0.log").into()).collect();
        Some(Task::Flush { paths, all })
    };
    assert_eq!(cycle.next_task(), flush(false));
    // One happens meanwhile.
    cycle.note_renamed();
    assert_eq!(cycle.on_task_done(), []);
    // Who syncs its files now may have synced others.
    round(&mut cycle, vec![into_files(wish(0, 6, 100))]);
    assert_eq!(cycle.next_task(), flush(true));
    cycle.note_renamed();
    assert_eq!(cycle.on_task_done().len(), 4);
    assert!(matches!(cycle.next_task(), Some(Task::Prepare { .. })));
}

#[test]
fn a_round_that_cannot_use_the_journal_after_all_leaves_no_gap_in_it() {
    let mut cycle = ready(64 * MIB);
    let first = cycle.begin(wishes(4, 2, 100));
    let place = first.write.as_ref().map(|write| (write.position, write.sequence));
    let first = cycle.without_journal(first);
    assert_eq!((first.paths.len(), first.write.is_none()), (4, true));
    assert_eq!(cycle.finish(first).len(), 4);
    let second = cycle.begin(wishes(4, 3, 100));
    assert_eq!(second.write.as_ref().map(|write| (write.position, write.sequence)), place);
}
