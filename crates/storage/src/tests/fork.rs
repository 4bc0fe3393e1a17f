//! Forks: what they have, what becomes of them and of their sources, and what a crash leaves of either.

use std::sync::Arc;

use bytes::Bytes;
use dohle_configs::TopicConfig;
use dohle_records::{Batch, Batches};
use dohle_types::{LeaderEpoch, Offset, PartitionIndex, Rng, TopicId};

use super::node::{DIR, Node, Producer, batch, batch_of, now, topic_id};
use super::transactions::script;
use crate::disk::{Answer, FilePath, Job, Op, Progress, Step};
use crate::journal::{GivenBack, Piece, ReplayJournal};
use crate::memory_disk::MemoryDisk;
use crate::script::Script;
use crate::{
    AbortedTxn, Codecs, ForkError, ForkLog, ForkTo, ForkedLog, Log, LogId, OpenError, OpenLog, Opening,
    Origin, Read,
};

const FORK: &str = "copy-0";

fn fork_id() -> TopicId {
    "FJRWeJCrze8P7cuph2VDIQ".parse().unwrap()
}

/// A source and its fork on one disk.
struct World {
    source: Log,
    disk: MemoryDisk,
    codecs: Codecs,
}

impl World {
    /// A source to which this happened; the words are those of `transactions.rs`.
    fn new(events: &str) -> Self {
        Self::with(TopicConfig { index_interval_bytes: 100, ..TopicConfig::default() }, events)
    }

    fn with(config: TopicConfig, events: &str) -> Self {
        let mut node = Node::new(config);
        script(&mut node, events);
        node.sync();
        let mut disk = MemoryDisk::default();
        for (path, content) in &node.disk.files {
            disk.apply(&Op::Write { path: path.clone(), position: 0, data: content.clone().into() }).unwrap();
            disk.sync(path);
        }
        Self { source: node.log, disk, codecs: Codecs::default() }
    }

    fn begin(&mut self, at: Option<i64>) -> Option<ForkLog> {
        let to = ForkTo {
            dir: FORK.into(),
            topic_id: fork_id(),
            config: self.source.config().clone(),
            leader_epoch: LeaderEpoch(5),
            at: at.map(Offset),
        };
        let mut ops = Vec::new();
        let fork = self.source.begin_fork(now(0), to, &mut ops);
        ops.iter().for_each(|op| self.disk.apply(op).unwrap());
        fork
    }

    fn fork(&mut self, at: Option<i64>) -> Result<ForkedLog, ForkError> {
        let fork = self.begin(at).unwrap();
        self.disk.run(job(fork)).unwrap()
    }

    fn append(&mut self, log: Option<&mut Log>, records: Bytes) -> Offset {
        let mut ops = Vec::new();
        let origin = Origin::Client { zstd_allowed: true };
        let (log, epoch) = match log {
            Some(log) => (log, 5),
            None => (&mut self.source, 0),
        };
        let appended = log.append(now(0), records, origin, LeaderEpoch(epoch), &mut self.codecs, &mut ops);
        ops.iter().for_each(|op| self.disk.apply(op).unwrap());
        let appended = appended.unwrap();
        if let Some(work) = log.begin_sync() {
            work.paths().for_each(|path| self.disk.sync(path));
            log.flushed(work.point);
        }
        appended.first_offset
    }

    fn open(&mut self, dir: &str, known: Known) -> Result<Log, OpenError> {
        let opening = Opening {
            dir: dir.into(),
            topic_id: if dir == FORK { fork_id() } else { topic_id() },
            config: self.source.config().clone(),
            clean: known.clean,
            recovery_point: known.recovery_point,
            start_offset: known.start,
            cleaned: None,
            durable_to: None,
            now: now(0),
        };
        self.disk.run(OpenLog::new(opening)).unwrap()
    }

    fn read(&mut self, log: &mut Log) -> Vec<Batch> {
        for _ in 0..1000 {
            log.evict_oldest();
        }
        let mut batches: Vec<Batch> = Vec::new();
        let mut next = log.start_offset();
        while next < log.end_offset() {
            let slices = match log.read(next, log.end_offset(), 1 << 20, true).unwrap() {
                Read::Hot(slices) => slices,
                Read::Cold(job) => self.disk.run(job).unwrap().unwrap(),
            };
            assert!(!slices.is_empty(), "nothing at {next} though the log ends at {}", log.end_offset());
            batches.extend(slices.into_iter().flat_map(Batches::new).map(Result::unwrap));
            next = batches.last().unwrap().header().next_offset();
        }
        batches
    }

    fn read_source(&mut self) -> Vec<Batch> {
        let mut source = std::mem::replace(
            &mut self.source,
            Log::create(DIR.into(), topic_id(), Arc::new(TopicConfig::default())),
        );
        let batches = self.read(&mut source);
        self.source = source;
        batches
    }

    fn aborted(&mut self, log: &Log) -> Vec<AbortedTxn> {
        let job = log.find_aborted(log.start_offset(), log.end_offset());
        job.map(|job| self.disk.run(job).unwrap()).unwrap_or_default()
    }

    fn remove(&mut self, dir: &str) {
        self.disk.apply(&Op::Remove { path: dir.into() }).unwrap();
    }
}

/// What the checkpoints say of a log.
#[derive(Clone, Copy)]
struct Known {
    clean: bool,
    recovery_point: Option<Offset>,
    start: Option<Offset>,
}

const UNKNOWN: Known = Known { clean: false, recovery_point: None, start: None };

fn job(fork: ForkLog) -> Script<Result<ForkedLog, ForkError>> {
    Script::new(|disk| async move { fork.run(&disk).await })
}

/// Whose transactions markers end.
fn markers(batches: &[Batch]) -> String {
    let is_marker = |batch: &&Batch| batch.header().attributes.is_control();
    let producer = |batch: &Batch| u32::try_from(batch.header().producer_id.0).ok().and_then(char::from_u32);
    batches.iter().filter(is_marker).filter_map(producer).collect()
}

/// Checks a fork of `events` at an offset: where it leaves its source, and whose transactions it aborts there.
fn check(events: &str, at: impl Into<Option<i64>>, leaves_at: i64, aborts: &str) {
    let at = at.into();
    let case = format!("{events} at {at:?}");
    let mut world = World::new(events);
    let source = world.read_source();
    let aborted_before = world.source.end_offset();
    let forked = world.fork(at).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(forked.end.0, leaves_at + i64::try_from(aborts.len()).unwrap(), "{case}");
    assert_eq!(world.source.end_offset(), aborted_before, "{case}: the source is as it was");
    let below: Vec<Batch> =
        source.iter().take_while(|batch| batch.header().next_offset().0 <= leaves_at).cloned().collect();
    let settled = Known { clean: true, recovery_point: Some(forked.end), start: Some(forked.start) };
    let recovered = Known { clean: false, ..settled };
    for (how, known) in [("placed", settled), ("killed", recovered), ("forgotten", UNKNOWN)] {
        let mut fork = world.open(FORK, known).unwrap_or_else(|error| panic!("{case}, {how}: {error}"));
        let batches = world.read(&mut fork);
        let (shared, own) = batches.split_at(below.len().min(batches.len()));
        assert_eq!(shared, below, "{case}, {how}");
        assert_eq!(markers(own), aborts, "{case}, {how}");
        assert_eq!((own.len(), fork.end_offset()), (aborts.len(), forked.end), "{case}, {how}");
        assert_eq!(fork.last_stable_offset(fork.end_offset()), fork.end_offset(), "{case}, {how}");
        for txn in world.aborted(&fork).iter().filter(|txn| txn.last_offset.0 >= leaves_at) {
            let first = source.iter().find(|batch| {
                batch.header().producer_id == txn.producer_id
                    && batch.header().base_offset == txn.first_offset
            });
            assert!(first.is_some_and(|first| !first.header().attributes.is_control()), "{case}, {how}");
        }
    }
    assert_eq!(world.read_source(), source, "{case}: the source is as it was");
}

#[test]
fn a_fork_has_what_its_source_has_below_an_offset_in_whole_batches() {
    check("-1 -2 -3", None, 6, "");
    check("-1 -2 -3", 100, 6, "");
    check("-1 -2 / -3", None, 6, "");
    check("-1 -2 / -3 /", None, 6, "");
    check("-1 -2 / -3 -1", 3, 3, "");
    check("-1 -2 / -3 -1", 4, 3, "");
    check("-1 -2 / -3 -1", 6, 6, "");
    check("-1 -2 / -3 -1", 1, 1, "");
    check("-1 -2 / -3 -1", 2, 1, "");
    check("-1 -1 -1 / -1 -1 -1 / -1 -1 -1", 5, 5, "");
    // More than the copy's index has entries for.
    let many = "-1 ".repeat(50);
    check(&format!("-1 / {many}"), 37, 37, "");
}

#[test]
fn a_transaction_that_is_open_where_the_fork_leaves_is_aborted_there() {
    check("a1 a. a2", None, 4, "a");
    check("a1 / -1 / b1 -1", None, 4, "ab");
    check("a1 / b1 a! / b1 b.", None, 5, "");
    check("a1 / b1 a! / b1 b.", 4, 4, "b");
    check("a1 / b1 a! / b1 b.", 1, 1, "a");
    check("a1 a2 b2 a. b. -1", 5, 5, "ab");
    check("a1 a2 b2 a. b. -1", 4, 3, "a");
    check("a1 a. a1 / a1 / a. -2 a2", None, 9, "a");
}

#[test]
fn a_log_that_nobody_wrote_to_has_no_fork_and_one_of_nothing_begins_where_its_source_does() {
    assert!(World::new("").begin(None).is_none());
    assert!(World::new("-2").begin(Some(0)).is_none());
    for (at, leaves_at) in [(3, 3), (4, 3), (5, 5)] {
        let mut world = World::new("-1 / -4 -1 / -1");
        world.source.delete_records_before(now(0), Offset(3));
        let forked = world.fork(Some(at)).unwrap();
        assert_eq!((forked.start.0, forked.end.0), (3, leaves_at), "at {at}");
        let known = Known { clean: true, recovery_point: Some(forked.end), start: Some(forked.start) };
        let mut fork = world.open(FORK, known).unwrap();
        assert_eq!(world.append(Some(&mut fork), batch(&[1], 10)).0, leaves_at);
        assert_eq!(world.read(&mut fork).last().unwrap().header().base_offset.0, leaves_at);
    }
}

#[test]
fn a_producer_begins_in_a_fork_as_in_any_other_partition() {
    let sent = |sequence| batch_of(Producer { id: 7, epoch: 0, sequence }, &[1], 10);
    let mut world = World::new("-1");
    for sequence in 0..3 {
        world.append(None, sent(sequence));
    }
    let forked = world.fork(None).unwrap();
    for clean in [false, true] {
        let known = Known { clean, recovery_point: Some(forked.end), start: Some(forked.start) };
        let mut fork = world.open(FORK, known).unwrap();
        assert_eq!(fork.producers().count(), 0, "clean: {clean}");
        assert_eq!(world.append(Some(&mut fork), sent(0)).0, 4);
        // The epoch of its leader is later than those of what it shares.
        assert_eq!((fork.epoch_at(Offset(3)), fork.epoch_at(Offset(4))), (LeaderEpoch(0), LeaderEpoch(5)));
        world.disk.apply(&Op::Truncate { path: format!("{FORK}/{:020}.log", 4).into(), length: 0 }).unwrap();
    }
    assert_eq!(world.append(None, sent(3)).0, 4);
}

#[test]
fn source_and_fork_go_on_without_each_other() {
    for removed in [DIR, FORK, ""] {
        let mut world = World::new("-1 -2 / -3 / a1");
        let before = world.read_source();
        let forked = world.fork(None).unwrap();
        let known = Known { clean: true, recovery_point: Some(forked.end), start: Some(forked.start) };
        let mut fork = world.open(FORK, known).unwrap();
        world.append(None, batch(&[1], 30));
        world.append(Some(&mut fork), batch(&[2, 2], 40));
        if !removed.is_empty() {
            world.remove(removed);
        }
        if removed != DIR {
            let source = world.read_source();
            assert_eq!(source[..before.len()], before);
            assert_eq!(source.len(), before.len() + 1);
            let end = world.source.end_offset();
            world.source = world.open(DIR, Known { recovery_point: Some(Offset(6)), ..UNKNOWN }).unwrap();
            assert_eq!(world.source.end_offset(), end);
            assert_eq!(world.read_source(), source);
        }
        if removed != FORK {
            let batches = world.read(&mut fork);
            assert_eq!(batches[..before.len()], before);
            assert_eq!(batches.len(), before.len() + 2, "the marker and the batch");
            let mut again = world.open(FORK, Known { clean: false, ..known }).unwrap();
            assert_eq!(world.read(&mut again), batches);
        }
    }
}

#[test]
fn nothing_is_appended_to_a_file_that_has_another_name_and_none_of_it_is_cut_off() {
    // As a backup made of links has it: without a segment of the source's own behind it.
    let mut world = World::new("-1 -2");
    let log: FilePath = format!("{DIR}/00000000000000000000.log").into();
    world.disk.apply(&Op::Link { from: log.clone(), to: "backup/0.log".into() }).unwrap();
    let before = world.disk.files()["backup/0.log"].to_vec();
    for clean in [false, true] {
        let known = Known { clean, recovery_point: Some(Offset(3)), start: None };
        let mut again = world.open(DIR, known).unwrap();
        let at = again.end_offset();
        assert_eq!(world.append(Some(&mut again), batch(&[1], 10)), at);
        assert_eq!(world.disk.files()["backup/0.log"], before);
        world.remove(&format!("{DIR}/{:020}.log", at.0));
    }
    // A torn end is cut off the one name and stays under the other.
    let torn = Op::Write { path: log, position: before.len() as u64, data: Bytes::from_static(&[1; 7]) };
    world.disk.apply(&torn).unwrap();
    let mut again = world.open(DIR, Known { recovery_point: Some(Offset(3)), ..UNKNOWN }).unwrap();
    assert_eq!(world.read(&mut again).len(), 2);
    assert_eq!(world.disk.files()["backup/0.log"].len(), before.len() + 7);
    assert_eq!(world.append(Some(&mut again), batch(&[1], 10)).0, 3);
}

/// Gives the source back what a journal has of it, which is all of its records, and tells what was written where.
fn replay(world: &mut World, records: &[(Offset, Bytes)]) -> Vec<(FilePath, bool)> {
    let mut pieces = Vec::new();
    for (base, content) in records {
        let journal: FilePath = format!("journal-{base}").into();
        let write = Op::Write { path: journal.clone(), position: 0, data: content.clone() };
        world.disk.apply(&write).unwrap();
        let length = u32::try_from(content.len()).unwrap();
        let bytes_at = Some((journal, 0));
        pieces.push(Piece { base: *base, position: 0, length, end: Offset(100), bytes_at });
    }
    let source = GivenBack {
        dir: DIR.into(),
        id: LogId { topic_id: topic_id(), partition: PartitionIndex(0) },
        elsewhere: Vec::new(),
        aside: "aside-stray".into(),
        known: Offset::ZERO,
        pieces,
    };
    let mut job = ReplayJournal::new(vec![source]);
    let mut written = Vec::new();
    crate::disk::drive(&mut job, |step| {
        if let Step::Apply(Op::Write { path, .. }) = &step {
            let (dir, name) = path.rsplit_once('/').unwrap();
            let Answer::Listed(entries) = world.disk.perform(&Step::List { path: dir.into() })? else {
                unreachable!()
            };
            let is_shared = entries.iter().any(|entry| entry.name == name && entry.is_shared);
            written.push((path.clone(), is_shared));
        }
        world.disk.perform(&step)
    })
    .unwrap();
    written
}

#[test]
fn what_a_journal_has_of_the_source_is_not_written_to_what_it_shares() {
    let mut world = World::new("-1 -2 / -3 / a1");
    world.fork(None).unwrap();
    world.append(None, batch(&[1], 30));
    let path = |dir: &str, base: Offset| format!("{dir}/{:020}.log", base.0);
    let bases = [0, 3, 6, 7].map(Offset);
    let files = world.disk.files();
    let records = bases.map(|base| (base, Bytes::copy_from_slice(files[&path(DIR, base)])));
    let before = world.read_source();
    let written = replay(&mut world, &records);
    assert_eq!(written, [(path(DIR, Offset(7)).into(), false)], "only what the source does not share");

    // The medium has lost a bit of a shared file since: the source is given its record back, in a file of its own.
    assert!(world.disk.flip_bit(&path(DIR, Offset(3)), 100, 0));
    let damaged = world.disk.files()[&path(FORK, Offset(3))].to_vec();
    let written = replay(&mut world, &records);
    assert!(written.iter().all(|(_, is_shared)| !is_shared), "{written:?}");
    assert_eq!(world.read_source(), before);
    let files = world.disk.files();
    assert_eq!(files[&path(FORK, Offset(3))], damaged, "the other name has what it had");
    assert_ne!(files[&path(DIR, Offset(3))], damaged);
}

#[test]
fn files_that_go_while_they_are_shared_make_no_fork_and_the_next_attempt_does() {
    let events = "-1 -2 / -3 / a1 a! -1 / -1";
    let steps = steps(&mut World::new(events), None);
    for step in 0..steps {
        let mut world = World::new(events);
        let source = world.read_source();
        let mut job = job(world.begin(None).unwrap());
        let mut progress = job.start();
        let mut done = 0;
        let forked = loop {
            if done == step {
                // Retention removes the first segments.
                for base in [0, 3] {
                    for suffix in ["log", "index", "timeindex", "snapshot"] {
                        world.remove(&format!("{DIR}/{base:020}.{suffix}"));
                    }
                }
            }
            done += 1;
            progress = match progress {
                Progress::Next(step) => job.resume(world.disk.perform(&step).unwrap()),
                Progress::Done(forked) => break forked,
            };
        };
        match forked {
            Err(error) => assert_eq!(error, ForkError::Changed { dir: DIR.into() }),
            Ok(forked) => {
                let known =
                    Known { clean: true, recovery_point: Some(forked.end), start: Some(forked.start) };
                let mut fork = world.open(FORK, known).unwrap();
                assert_eq!(world.read(&mut fork), source, "after step {step}");
            }
        }
    }
}

/// How many steps it takes to make a fork.
fn steps(world: &mut World, at: Option<i64>) -> usize {
    let mut steps = 0;
    let mut job = job(world.begin(at).unwrap());
    let forked = crate::disk::drive(&mut job, |step| {
        steps += 1;
        world.disk.perform(&step)
    });
    forked.unwrap().unwrap();
    steps
}

#[test]
fn a_crash_at_any_step_leaves_the_source_and_a_finished_fork_survives_it() {
    let events = "-1 a2 / a1 b1 / b! -2 -1 c1";
    let mut finished = 0;
    for (at, aborted) in [(None, "bac"), (Some(7), "ba"), (Some(3), "a")] {
        let steps = steps(&mut World::new(events), at);
        for step in 0..=steps {
            for seed in 0..4 {
                let mut world = World::new(events);
                let source = world.read_source();
                let mut job = job(world.begin(at).unwrap());
                let mut progress = job.start();
                for _ in 0..step {
                    progress = match progress {
                        Progress::Next(next) => job.resume(world.disk.perform(&next).unwrap()),
                        Progress::Done(_) => break,
                    };
                }
                let case = format!("at {at:?}, after step {step}, seed {seed}");
                if seed > 0 {
                    world.disk.lose_power(&mut Rng::from_seed(seed));
                }
                let known = Known { recovery_point: Some(Offset(9)), ..UNKNOWN };
                world.source = world.open(DIR, known).unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(world.read_source(), source, "{case}");
                if let Progress::Done(Ok(forked)) = progress {
                    let known =
                        Known { clean: true, recovery_point: Some(forked.end), start: Some(forked.start) };
                    let mut fork = world.open(FORK, known).unwrap();
                    assert_eq!(markers(&world.read(&mut fork)), aborted, "{case}");
                    assert_eq!(fork.end_offset(), forked.end, "{case}");
                    finished += 1;
                }
                // What is left is no obstacle to the next attempt.
                let forked = world.fork(at).unwrap_or_else(|error| panic!("{case}: {error}"));
                let again = world.open(FORK, Known { recovery_point: Some(forked.end), ..UNKNOWN }).unwrap();
                assert_eq!(again.end_offset(), forked.end, "{case}");
            }
        }
    }
    assert!(finished >= 12, "{finished}");
}
