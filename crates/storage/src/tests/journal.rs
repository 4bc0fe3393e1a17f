//! The commit journal with logs around it, on a disk that may lose what is not synced.

use std::collections::BTreeMap;

use bytes::Bytes;
use dohle_records::{BatchBuilder, BatchOptions, Batches, Compressor, Decompressor};
use dohle_types::{LeaderEpoch, Offset, PartitionIndex, Rng, Timestamp, TopicId};
use uuid::Uuid;

use super::log::small_segments;
use super::node::now;
use crate::checkpoint::parse_partition_metadata;
use crate::disk::{DiskError, FilePath, Job, LogDir, Op, Progress, Step};
use crate::journal::{
    CommitCycle, Done, EraseJournal, Erased, GivenBack, JournalConfig, JournalFound, ReadJournal,
    ReplayJournal, Round, SyncRequest, Task,
};
use crate::memory_disk::MemoryDisk;
use crate::{Codecs, Log, LogId, LogKey, OpenLog, Opening, Origin, Read};

const LOGS: usize = 6;
const META: &str = "meta.properties";

/// The process ended, perhaps with the power.
#[derive(Debug)]
struct Crash;

/// One log, and what is known of it outside.
struct Kept {
    log: Log,
    /// What was appended, record by record.
    appended: Vec<u64>,
    /// How many of them were acknowledged.
    acknowledged: usize,
    /// What the recovery point checkpoint says.
    checkpointed: Offset,
}

struct World {
    rng: Rng,
    disk: MemoryDisk,
    cycle: CommitCycle,
    config: JournalConfig,
    logs: Vec<Kept>,
    codecs: Codecs,
    next: u64,
    /// A task under way.
    task: Option<Task>,
    /// The journal of the process before is being erased.
    erasing: Option<(EraseJournal, Progress<Erased>)>,
    /// Changes and syncs until it ends.
    fuel: u64,
    journaled: usize,
    given_back: usize,
    /// How often the power went before the journal was erased.
    replayed_again: usize,
}

fn log_id(index: usize) -> LogId {
    LogId { topic_id: TopicId(Uuid::from_u128(100 + index as u128)), partition: PartitionIndex(0) }
}

fn dir(index: usize) -> FilePath {
    format!("topic{index}-0").into()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::from_seed(seed);
        let config = JournalConfig {
            bytes: [40_000, 100_000, 400_000][usize::try_from(rng.below(3)).unwrap()],
            files_min: usize::try_from(1 + rng.below(3)).unwrap(),
        };
        let mut disk = MemoryDisk::default();
        disk.apply(&Op::Write { path: META.into(), position: 0, data: Bytes::from_static(b"x") }).unwrap();
        disk.sync(META);
        let logs = (0..LOGS).map(|index| Kept {
            log: Log::create(dir(index), log_id(index).topic_id, small_segments().into()),
            appended: Vec::new(),
            acknowledged: 0,
            checkpointed: Offset::ZERO,
        });
        let mut cycle = CommitCycle::new(LogDir::FIRST, config, rng.fork());
        cycle.use_journal();
        Self {
            cycle,
            config,
            logs: logs.collect(),
            disk,
            codecs: Codecs::default(),
            next: 0,
            task: None,
            erasing: None,
            fuel: 0,
            journaled: 0,
            given_back: 0,
            replayed_again: 0,
            rng,
        }
    }

    fn burn(&mut self) -> Result<(), Crash> {
        self.fuel = self.fuel.checked_sub(1).ok_or(Crash)?;
        Ok(())
    }

    fn change(&mut self, op: &Op) -> Result<(), Crash> {
        self.burn()?;
        self.disk.apply(op).unwrap();
        Ok(())
    }

    fn sync(&mut self, path: &FilePath) -> Result<(), Crash> {
        self.burn()?;
        self.disk.sync(path);
        Ok(())
    }

    fn append(&mut self) -> Result<(), Crash> {
        for index in 0..LOGS {
            if !self.rng.chance(1, 2) {
                continue;
            }
            let mut builder = BatchBuilder::new(BatchOptions::default());
            let count = 1 + self.rng.below(3);
            let padding = usize::try_from(self.rng.below(200)).unwrap();
            for number in self.next..self.next + count {
                let mut value = number.to_be_bytes().to_vec();
                value.resize(8 + padding, 7);
                builder.append(Timestamp(1_000_000), Some(b"key"), Some(&value), &[]).unwrap();
            }
            let batch = builder.build(&mut Compressor::default()).unwrap();
            let kept = &mut self.logs[index];
            let mut ops = Vec::new();
            let origin = Origin::Client { zstd_allowed: true };
            kept.log.append(now(0), batch, origin, LeaderEpoch(0), &mut self.codecs, &mut ops).unwrap();
            kept.appended.extend(self.next..self.next + count);
            self.next += count;
            for op in ops {
                self.change(&op)?;
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Crash> {
        let flushes = self.rng.chance(1, 20);
        let mut requests = Vec::new();
        for (index, kept) in self.logs.iter_mut().enumerate() {
            let work = if flushes { kept.log.begin_flush() } else { kept.log.begin_sync() };
            let key = LogKey(u32::try_from(index).unwrap());
            requests.extend(work.map(|work| SyncRequest { key, id: log_id(index), work }));
        }
        if requests.is_empty() {
            return Ok(());
        }
        let round = self.cycle.begin(requests);
        for path in &round.paths {
            self.sync(path)?;
        }
        if let Some((path, position, data)) = record_of(&mut self.disk, &round) {
            self.journaled += 1;
            self.change(&Op::Write { path: path.clone(), position, data })?;
            self.sync(&path)?;
        }
        let done = self.cycle.finish(round);
        self.tell(done);
        Ok(())
    }

    fn tell(&mut self, done: Vec<Done>) {
        for done in done {
            let (Done::Synced(LogKey(key), point) | Done::Flushed(LogKey(key), point)) = done;
            let kept = &mut self.logs[key as usize];
            match done {
                Done::Synced(..) => kept.log.synced(point),
                Done::Flushed(..) => drop(kept.log.flushed(point)),
            }
            kept.acknowledged = usize::try_from(kept.log.durable_offset().0).unwrap();
        }
    }

    /// Goes on with what follows behind the journal, or is left to do of the one before.
    fn step_aside(&mut self) -> Result<(), Crash> {
        match self.erasing.take() {
            Some((mut job, Progress::Next(step))) => {
                self.burn()?;
                let progress = job.resume(self.disk.perform(&step).unwrap());
                self.erasing = Some((job, progress));
                return Ok(());
            }
            Some((_, Progress::Done(Erased))) => {
                assert_eq!(read_journal(&mut self.disk, false), JournalFound::default());
                self.cycle.use_journal();
            }
            None => {}
        }
        let Some(task) = self.task.take() else {
            self.task = self.cycle.next_task();
            return Ok(());
        };
        match task {
            Task::Prepare { path, length, head } => {
                let from = self.disk.length(&path).unwrap_or(0);
                let zeros = vec![0; usize::try_from(length).unwrap().saturating_sub(from)];
                self.change(&Op::Write { path: path.clone(), position: from as u64, data: zeros.into() })?;
                self.sync(&path)?;
                self.change(&Op::Write { path: path.clone(), position: 0, data: head })?;
                self.sync(&path)?;
            }
            Task::Flush { paths, .. } => paths.iter().try_for_each(|path| self.sync(path))?,
        }
        let done = self.cycle.on_task_done();
        self.tell(done);
        Ok(())
    }

    fn live(&mut self) -> Result<(), Crash> {
        loop {
            match self.rng.below(10) {
                0..4 => self.append()?,
                4..7 => self.commit()?,
                7..9 => self.step_aside()?,
                _ => {
                    let kept = &mut self.logs[usize::try_from(self.rng.below(LOGS as u64)).unwrap()];
                    kept.checkpointed = kept.log.recovery_point();
                }
            }
        }
    }

    /// What is in the cache stays, or the power goes, too.
    fn crash(&mut self) {
        if self.rng.chance(3, 4) {
            self.disk.lose_power(&mut self.rng);
        }
    }

    /// The next process: it may end again while it gives logs back what the journal has, and before or after it has
    /// opened them.
    fn start(&mut self) {
        self.crash();
        self.task = None;
        self.replayed_again += usize::from(self.erasing.take().is_some());
        let found = loop {
            let found = read_journal(&mut self.disk, false);
            assert_eq!(found.damage, Vec::<String>::new());
            let given_back = (0..LOGS).filter_map(|index| {
                let pieces = found.logs.get(&log_id(index))?.clone();
                let (id, known) = (log_id(index), self.logs[index].checkpointed);
                let aside = format!("aside-{index}-{}", self.given_back).into();
                Some(GivenBack { dir: dir(index), id, elsewhere: Vec::new(), aside, known, pieces })
            });
            let job = ReplayJournal::new(given_back.collect());
            self.fuel = if self.rng.chance(1, 3) { self.rng.below(40) } else { u64::MAX };
            let opened = if self.rng.chance(1, 3) { self.rng.below(LOGS as u64) } else { LOGS as u64 };
            if self.run(job).is_ok() {
                for index in 0..usize::try_from(opened).unwrap() {
                    self.open(index, &found);
                }
                if opened == LOGS as u64 {
                    break found;
                }
            }
            self.crash();
        };
        self.cycle = CommitCycle::new(LogDir::FIRST, self.config, self.rng.fork());
        let mut job = EraseJournal::new(LogDir::FIRST, found.files, META.into());
        let progress = job.start();
        self.erasing = Some((job, progress));
    }

    /// Runs a job until it is done, or the power goes.
    fn run<J: Job>(&mut self, mut job: J) -> Result<J::Output, Crash> {
        let mut progress = job.start();
        loop {
            progress = match progress {
                Progress::Done(output) => return Ok(output),
                Progress::Next(step) => {
                    let is_write = matches!(step, Step::Apply(Op::Write { .. }));
                    self.given_back += usize::from(is_write);
                    self.burn()?;
                    job.resume(self.disk.perform(&step).unwrap())
                }
            }
        }
    }

    fn opening(&self, index: usize, found: &JournalFound) -> Opening {
        let pieces = found.logs.get(&log_id(index));
        Opening {
            dir: dir(index),
            topic_id: log_id(index).topic_id,
            config: small_segments().into(),
            clean: false,
            recovery_point: Some(self.logs[index].checkpointed),
            start_offset: None,
            cleaned: None,
            durable_to: pieces.and_then(|pieces| pieces.last()).map(|piece| piece.end),
            now: now(0),
        }
    }

    fn open(&mut self, index: usize, found: &JournalFound) {
        let job = OpenLog::new(self.opening(index, found));
        let kept = &mut self.logs[index];
        kept.log = self.disk.run(job).unwrap().unwrap();
        let there = read_all(&mut self.disk, &kept.log);
        assert!(there.len() >= kept.acknowledged, "log {index} lost what was acknowledged");
        assert_eq!(there, kept.appended[..there.len()], "log {index}");
        kept.appended.truncate(there.len());
        kept.acknowledged = there.len();
    }
}

fn record_of(disk: &mut MemoryDisk, round: &Round) -> Option<(FilePath, u64, Bytes)> {
    let write = round.write.as_ref()?;
    let read = |path: &FilePath, position, length| {
        let answer = disk.perform(&Step::Read { path: path.clone(), position, length })?;
        let crate::disk::Answer::Read(bytes) = answer else { unreachable!() };
        Ok::<_, DiskError>(bytes)
    };
    Some((write.path.clone(), write.position, write.encode(read).unwrap()))
}

fn read_journal(disk: &mut MemoryDisk, clean: bool) -> JournalFound {
    let root = Step::List { path: LogDir::FIRST.root() };
    let Ok(crate::disk::Answer::Listed(entries)) = disk.perform(&root) else { unreachable!() };
    disk.run(ReadJournal::new(LogDir::FIRST, clean, &entries)).unwrap()
}

/// The numbers that the records of a log have.
fn read_all(disk: &mut MemoryDisk, log: &Log) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut next = log.start_offset();
    while next < log.end_offset() {
        let slices = match log.read(next, log.end_offset(), 1 << 20, true).unwrap() {
            Read::Hot(slices) => slices,
            Read::Cold(job) => disk.run(job).unwrap().unwrap(),
        };
        for batch in slices.into_iter().flat_map(Batches::new).map(Result::unwrap) {
            next = batch.header().next_offset();
            for record in batch.records(&mut Decompressor::default()).unwrap().map(Result::unwrap) {
                numbers.push(u64::from_be_bytes(record.value.unwrap()[..8].try_into().unwrap()));
            }
        }
    }
    numbers
}

#[test]
fn whatever_a_crash_takes_nothing_acknowledged_is_lost() {
    let (mut journaled, mut given_back, mut replayed_again) = (0, 0, 0);
    for seed in 0..150 {
        let mut world = World::new(seed);
        for _ in 0..6 {
            let fuel_max = if world.rng.chance(1, 3) { 100 } else { 1200 };
            world.fuel = 20 + world.rng.below(fuel_max);
            let Crash = world.live().unwrap_err();
            world.start();
        }
        journaled += world.journaled;
        given_back += world.given_back;
        replayed_again += world.replayed_again;
    }
    assert!(
        journaled > 3000 && given_back > 3000 && replayed_again > 50,
        "{journaled} records written, {given_back} pieces given back, {replayed_again} times the power went before \
         they were durable"
    );
}

/// A world in which three rounds went through the journal and none of it to the files.
fn three_rounds() -> (World, FilePath) {
    let mut world = World::new(1);
    (world.fuel, world.config) = (u64::MAX, JournalConfig { bytes: 400_000, files_min: 1 });
    world.cycle = CommitCycle::new(LogDir::FIRST, world.config, Rng::from_seed(1));
    world.cycle.use_journal();
    while world.journaled < 3 {
        world.append().unwrap();
        world.commit().unwrap();
        world.step_aside().unwrap();
    }
    (world, "dohle-journal-0".into())
}

#[test]
fn damage_in_the_middle_of_the_journal_is_told_and_refused_if_the_files_lack_it() {
    let (mut world, journal) = three_rounds();
    let second = journal_records(&mut world.disk, &journal)[1];
    // Of what one log has in it,
    let mut damaged = world.disk.clone();
    let pieces = usize::from(bytes_of(&mut damaged, &journal)[second + 19]);
    assert!(damaged.flip_bit(&journal, second + 24 + pieces * 48 + 5, 3));
    let found = read_journal(&mut damaged, false);
    assert_eq!(found.damage, ["record 2 of the journal is damaged"]);
    let lost: Vec<_> = found.logs.values().flatten().filter(|piece| piece.bytes_at.is_none()).collect();
    assert_eq!(lost.len(), 1, "only the piece that the bit is in");
    // and of its table of contents.
    let mut damaged = world.disk.clone();
    assert!(damaged.flip_bit(&journal, second + 30, 3));
    let found = read_journal(&mut damaged, false);
    assert_eq!(found.damage, ["records 2 to 2 of the journal cannot be read"]);
    let mut damaged = world.disk.clone();
    assert!(damaged.flip_bit(&journal, 9, 3));
    let found = read_journal(&mut damaged, false);
    assert_eq!(found.damage, ["the first block of dohle-journal-0 is damaged"]);
}

#[test]
fn the_record_that_was_being_written_was_not_durable() {
    let (mut world, journal) = three_rounds();
    let all = read_journal(&mut world.disk, false);
    let third = journal_records(&mut world.disk, &journal)[2];
    for cut in [0, 10, 30, 200, 700] {
        let mut torn = world.disk.clone();
        let zeros = Bytes::from(vec![0; 20_000]);
        torn.apply(&Op::Write { path: journal.clone(), position: (third + cut) as u64, data: zeros })
            .unwrap();
        let found = read_journal(&mut torn, false);
        assert_eq!(found.damage, Vec::<String>::new(), "cut {cut}");
        let count = |found: &JournalFound| found.logs.values().map(Vec::len).sum::<usize>();
        assert!(count(&found) < count(&all));
    }
}

/// Where the records of a part begin.
fn journal_records(disk: &mut MemoryDisk, path: &FilePath) -> Vec<usize> {
    let bytes = bytes_of(disk, path);
    (4096..bytes.len()).step_by(4096).filter(|&at| bytes[at..].starts_with(b"DohR")).collect()
}

fn bytes_of(disk: &mut MemoryDisk, path: &FilePath) -> Bytes {
    let length = disk.length(path).unwrap();
    let step = Step::Read { path: path.clone(), position: 0, length };
    let Ok(crate::disk::Answer::Read(Some(bytes))) = disk.perform(&step) else { unreachable!() };
    bytes
}

#[test]
fn what_is_below_the_checkpoints_is_not_touched_and_anothers_directory_is_put_aside() {
    let (mut world, _) = three_rounds();
    let found = read_journal(&mut world.disk, false);
    let mut give_back = |index: usize, known: Offset, name: &str| {
        let pieces = found.logs[&log_id(index)].clone();
        let (id, elsewhere) = (log_id(index), Vec::new());
        let given = GivenBack { dir: name.into(), id, elsewhere, aside: "old-stray".into(), known, pieces };
        world.disk.run(ReplayJournal::new(vec![given])).unwrap();
    };
    let index = (0..LOGS).find(|&index| found.logs.contains_key(&log_id(index))).unwrap();
    let end = found.logs[&log_id(index)].last().unwrap().end;
    give_back(index, end, "compacted-0");
    give_back(index, Offset::ZERO, "lost-0");
    // A deleted topic's directory, which a power loss brought back.
    let other = (0..LOGS).find(|&other| other != index && found.logs.contains_key(&log_id(other))).unwrap();
    give_back(other, Offset::ZERO, &dir(index));
    let files: Vec<String> = world.disk.files().into_keys().collect();
    let has = |name: &str| files.iter().any(|path| path.starts_with(name));
    assert!(!has("compacted-0/") && has("lost-0/") && has("old-stray/"), "{files:?}");
    assert!(!has(&format!("{}/partition.metadata", dir(index))), "{files:?}");
}

#[test]
fn whose_directory_it_is_survives_the_power_once_a_log_was_recovered() {
    let mut world = World::new(1);
    world.fuel = u64::MAX;
    world.append().unwrap();
    let index = (0..LOGS).find(|&index| !world.logs[index].appended.is_empty()).unwrap();
    // The process was killed; so far everything is in the cache alone.
    world.open(index, &JournalFound::default());
    for seed in 0..20 {
        let mut disk = world.disk.clone();
        disk.lose_power(&mut Rng::from_seed(seed));
        let metadata = bytes_of(&mut disk, &format!("{}/partition.metadata", dir(index)).into());
        assert_eq!(parse_partition_metadata(&metadata), Some(log_id(index).topic_id), "seed {seed}");
    }
}

#[test]
fn offsets_that_were_durable_and_are_nowhere_are_not_given_out_again() {
    let (mut world, _) = three_rounds();
    let mut found = read_journal(&mut world.disk, false);
    let index = (0..LOGS).find(|&index| found.logs.contains_key(&log_id(index))).unwrap();
    let pieces = found.logs.get_mut(&log_id(index)).unwrap();
    pieces.last_mut().unwrap().end = Offset(1000);
    let log = world.disk.run(OpenLog::new(world.opening(index, &found))).unwrap().unwrap();
    assert_eq!((log.end_offset(), log.recovery_point()), (Offset(1000), Offset(1000)));
    assert_eq!(log.damage().len(), 1, "and readers are told");
}

#[test]
fn after_a_clean_stop_nothing_in_the_journal_counts() {
    let (mut world, journal) = three_rounds();
    let found = read_journal(&mut world.disk, true);
    assert!(found.files.contains(&journal) && found.logs == BTreeMap::new());
}

#[test]
fn a_log_that_was_moved_to_another_log_dir_is_given_nothing() {
    let (mut world, _) = three_rounds();
    let found = read_journal(&mut world.disk, false);
    let (&id, pieces) = found.logs.first_key_value().unwrap();
    // The other directory is its own, or one that a deleted topic of that name has left behind.
    for (owner, is_moved) in [(id.topic_id, true), (TopicId(Uuid::from_u128(1)), false)] {
        let data = crate::checkpoint::format_partition_metadata(owner).into();
        let path = "@1/orders-0/partition.metadata".into();
        world.disk.apply(&Op::Write { path, position: 0, data }).unwrap();
        let given = GivenBack {
            dir: "orders-0".into(),
            id,
            elsewhere: vec!["@1/orders-0".into()],
            aside: "orders-stray".into(),
            known: Offset::ZERO,
            pieces: pieces.clone(),
        };
        let replayed = world.disk.run(ReplayJournal::new(vec![given])).unwrap();
        assert_eq!(replayed.moved.contains(&id), is_moved);
        let is_written = world.disk.files().keys().any(|path| path.starts_with("orders-0/"));
        assert_eq!(is_written, !is_moved);
    }
}
