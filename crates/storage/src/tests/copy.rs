//! A log that moves to another directory while it is written to: the copy is the log, and at each moment, also of power
//! loss, one of the two that is whole bears its name.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dohle_configs::TopicConfig;
use dohle_types::{LeaderEpoch, Offset, Rng};

use super::node::{Producer, batch, batch_of, now, topic_id};
use crate::disk::{FilePath, Job, LogDir, Op, Progress};
use crate::memory_disk::MemoryDisk;
use crate::{Codecs, Copied, CopyLog, Log, OpenLog, Opening, Origin, Swap};

const FUTURE: &str = "orders-0.0123-future";
const OLD: &str = "orders-0.4567-delete";

struct Moving {
    log: Log,
    disk: MemoryDisk,
    codecs: Codecs,
    rng: Rng,
    at_ms: u64,
    sequence: i32,
}

impl Moving {
    fn new(seed: u64) -> Self {
        let config = TopicConfig {
            segment_bytes: 2000,
            index_interval_bytes: 200,
            retention_bytes: Some(9000),
            file_delete_delay_ms: 0,
            ..TopicConfig::default()
        };
        let mut disk = MemoryDisk::default();
        for log_dir in [LogDir(0), LogDir(1)] {
            let path = log_dir.path("meta.properties");
            disk.apply(&Op::Write { path: path.clone(), position: 0, data: Bytes::from("x") }).unwrap();
            disk.sync(&path);
        }
        Self {
            log: Log::create(name(LogDir(0)), topic_id(), Arc::new(config)),
            disk,
            codecs: Codecs::default(),
            rng: Rng::from_seed(seed),
            at_ms: 0,
            sequence: 0,
        }
    }

    fn apply(&mut self, ops: Vec<Op>) {
        ops.iter().for_each(|op| self.disk.apply(op).unwrap());
    }

    /// Something happens to the log.
    fn happen(&mut self) {
        self.at_ms += 1;
        let now = now(self.at_ms);
        let mut ops = Vec::new();
        match self.rng.below(8) {
            0..5 => {
                let padding = usize::try_from(self.rng.below(500)).unwrap();
                let batch = if self.rng.chance(1, 2) {
                    let producer = Producer { id: 7, epoch: 0, sequence: self.sequence };
                    self.sequence += 1;
                    batch_of(producer, &[now.wall.0], padding)
                } else {
                    batch(&[now.wall.0], padding)
                };
                let origin = Origin::Client { zstd_allowed: true };
                let epoch = LeaderEpoch(i32::try_from(self.at_ms / 64).unwrap());
                self.log.append(now, batch, origin, epoch, &mut self.codecs, &mut ops).unwrap();
            }
            5 => self.sync(),
            6 => {
                let (start, end) = (self.log.start_offset(), self.log.recovery_point());
                let room = u64::try_from(end.0 - start.0).unwrap_or_default();
                let to = start.plus(i64::try_from(self.rng.below(room + 1)).unwrap());
                if self.rng.chance(1, 4) {
                    self.log.delete_records_before(now, to.max(start));
                }
            }
            _ => {
                let (durable, start) = (self.log.recovery_point(), self.log.start_offset());
                self.log.retain(now, durable, start, &mut ops);
            }
        }
        self.apply(ops);
    }

    fn sync(&mut self) {
        if let Some(work) = self.log.begin_sync() {
            work.paths().for_each(|path| self.disk.sync(path));
            self.log.flushed(work.point);
        }
    }

    /// Does so many steps of a job, and lets things happen to the log in between.
    fn run(&mut self, mut job: CopyLog, steps: u64, is_served: bool) -> Option<Copied> {
        let mut progress = job.start();
        for _ in 0..steps {
            match progress {
                Progress::Done(copied) => return Some(copied),
                Progress::Next(step) => {
                    if is_served && self.rng.chance(1, 8) {
                        self.happen();
                    }
                    progress = job.resume(self.disk.perform(&step).unwrap());
                }
            }
        }
        None
    }

    fn files_below(&self, directory: &str) -> BTreeMap<String, Vec<u8>> {
        let prefix = format!("{directory}/");
        let files = self.disk.files().into_iter();
        files
            .filter_map(|(path, data)| Some((path.strip_prefix(&prefix)?.to_owned(), data.to_vec())))
            .collect()
    }

    fn open(&mut self, dir: FilePath, clean: bool, recovery_point: Offset) -> Log {
        let opening = Opening {
            dir,
            topic_id: topic_id(),
            config: Arc::clone(self.log.config()),
            clean,
            recovery_point: Some(recovery_point),
            start_offset: Some(self.log.start_offset()),
            durable_to: None,
            cleaned: None,
            now: now(self.at_ms),
        };
        self.disk.run(OpenLog::new(opening)).unwrap().unwrap()
    }
}

fn name(log_dir: LogDir) -> FilePath {
    log_dir.path("orders-0")
}

#[test]
fn a_copy_is_the_log_and_power_loss_leaves_one_of_them() {
    let (mut whole, mut both, mut before) = (0, 0, 0);
    for seed in 0..400 {
        let mut moving = Moving::new(seed);
        let future = LogDir(1).path(FUTURE);
        (0..30).for_each(|_| moving.happen());
        for _ in 0..moving.rng.below(6) {
            let copied = moving.run(CopyLog::piece(&moving.log, future.clone()), u64::MAX, true);
            assert!(copied.is_some_and(|copied| copied.is_complete));
            (0..5).for_each(|_| moving.happen());
        }
        let mut ops = Vec::new();
        moving.log.close(&mut ops);
        moving.apply(ops);
        let copied = moving.run(CopyLog::rest(&moving.log, future.clone()), u64::MAX, false);
        assert!(copied.is_some_and(|copied| copied.is_complete));
        assert_eq!(moving.files_below(&name(LogDir(0))), moving.files_below(&future), "seed {seed}");

        let swap = Swap {
            from: name(LogDir(0)),
            old: LogDir(0).path(OLD),
            copy: future,
            to: name(LogDir(1)),
            beside: [LogDir(0).path("meta.properties"), LogDir(1).path("meta.properties")],
        };
        let steps = moving.rng.below(6);
        moving.run(CopyLog::swap(swap), steps, false);
        let mut rng = Rng::from_seed(seed);
        moving.disk.lose_power(&mut rng);
        let (end, start) = (moving.log.end_offset(), moving.log.start_offset());
        let is_there = |log_dir| !moving.files_below(&name(log_dir)).is_empty();
        let (is_here, has_moved) = (is_there(LogDir(0)), is_there(LogDir(1)));
        assert!(is_here || has_moved || end == Offset::ZERO, "seed {seed}");
        if has_moved {
            let log = moving.open(name(LogDir(1)), true, end);
            assert_eq!((log.start_offset(), log.end_offset()), (start, end), "seed {seed}");
        }
        if is_here {
            let durable = moving.log.recovery_point();
            let log = moving.open(name(LogDir(0)), false, durable);
            assert!(log.start_offset() == start && log.end_offset() >= durable, "seed {seed}");
        }
        whole += u32::from(has_moved && !is_here);
        both += u32::from(has_moved && is_here);
        before += u32::from(!has_moved);
    }
    assert!(whole > 20 && both > 20 && before > 20, "{whole} {both} {before}");
}

#[test]
fn a_piece_ends_after_some_megabytes_and_the_next_goes_on_there() {
    let config = TopicConfig { segment_bytes: 6 << 20, ..TopicConfig::default() };
    let mut moving = Moving::new(0);
    moving.log = Log::create(name(LogDir(0)), topic_id(), Arc::new(config));
    for _ in 0..20 {
        let (mut ops, origin) = (Vec::new(), Origin::Client { zstd_allowed: true });
        let big = batch(&[1], 1_000_000);
        moving.log.append(now(0), big, origin, LeaderEpoch(0), &mut moving.codecs, &mut ops).unwrap();
        moving.apply(ops);
    }
    let future = LogDir(1).path(FUTURE);
    let mut pieces = Vec::new();
    while pieces.last().is_none_or(|piece: &Copied| !piece.is_complete) {
        pieces.extend(moving.run(CopyLog::piece(&moving.log, future.clone()), u64::MAX, false));
    }
    let again = moving.run(CopyLog::piece(&moving.log, future.clone()), u64::MAX, false).unwrap();
    assert_eq!(pieces.iter().map(|piece| piece.bytes >> 20).collect::<Vec<_>>(), [16, 2]);
    assert!(again.is_complete && again.bytes < 1000, "{again:?}");
    assert_eq!(moving.files_below(&name(LogDir(0))), moving.files_below(&future));
}

#[test]
fn a_log_of_which_only_the_directory_is_left_moves_too() {
    let mut world = Moving::new(1);
    let (from, to) = (name(LogDir(0)), name(LogDir(1)));
    world.log = Log::create(from.clone(), topic_id(), Arc::new(TopicConfig::default()));
    let passing = FilePath::from(format!("{from}/passing"));
    let made = Op::Write { path: passing.clone(), position: 0, data: Bytes::new() };
    world.apply(vec![made, Op::Remove { path: passing }]);
    let rest = CopyLog::rest(&world.log, FUTURE.into());
    world.disk.run(rest).unwrap();
    let beside = [LogDir(0), LogDir(1)].map(|log_dir| log_dir.path("meta.properties"));
    world.disk.run(CopyLog::swap(Swap { from, old: OLD.into(), copy: FUTURE.into(), to, beside })).unwrap();
    let files: Vec<String> = world.disk.files().into_keys().collect();
    assert!(files.iter().any(|path| path.starts_with("@1/orders-0/")), "{files:?}");
}
