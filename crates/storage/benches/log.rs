//! What the parts of one partition's log cost, on a disk in memory: no file system, no thread and no clock take part, and
//! the data are the same in every run. `cargo bench -p dohle-storage`, and `-- read` for those with a name like that.

#![expect(clippy::unwrap_used, reason = "a benchmark that stumbles is of no use")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use dohle_configs::{CleanupPolicy, TopicConfig};
use dohle_records::{BatchBuilder, BatchOptions, Compressor};
use dohle_storage::disk::Op;
use dohle_storage::memory_disk::MemoryDisk;
use dohle_storage::{CleanNext, CleanerLimits, Codecs, HashSecret, Log, OpenLog, Opening, Origin, Read};
use dohle_types::{LeaderEpoch, Now, Offset, Timestamp, TopicId};

const DIR: &str = "orders-0";
const RECORD_BYTES: usize = 100;
/// Bytes of records in the logs that are read, recovered and compacted.
const LOG_BYTES: usize = 16 << 20;

fn main() {
    divan::main();
}

/// Appends batches of so many records; what is to be written is given up.
#[divan::bench(args = [1, 10, 100, 1000])]
fn append(bencher: Bencher, records: usize) {
    let batch = batch(0, records);
    let mut log = Log::create(DIR.into(), topic_id(), Arc::default());
    let (mut codecs, mut ops) = (Codecs::default(), Vec::new());
    bencher
        .counter(BytesCount::new(batch.len()))
        .counter(ItemsCount::new(records))
        .with_inputs(|| Bytes::copy_from_slice(&batch))
        .bench_local_values(|batch| {
            append_to(&mut log, batch, &mut codecs, &mut ops);
            ops.clear();
            log.evict_oldest();
        });
}

/// Reads 64 KiB of the newest batches, of 16 KiB each, which are in memory.
#[divan::bench]
fn read_hot(bencher: Bencher) {
    let (log, _) = filled(160, TopicConfig::default());
    let from = Offset(log.end_offset().0 - 4 * 160);
    bencher.bench(|| read(&log, black_box(from), 65_536, &mut MemoryDisk::default()));
}

/// Reads 1 MiB from the middle of the log out of files.
#[divan::bench]
fn read_cold(bencher: Bencher) {
    let (log, mut disk) = filled_cold(160);
    let middle = Offset(log.end_offset().0 / 2);
    let bytes = read(&log, middle, 1 << 20, &mut disk);
    bencher.counter(BytesCount::new(bytes)).bench_local(|| read(&log, black_box(middle), 1 << 20, &mut disk));
}

/// Finds one small batch anywhere in the log by its offset.
#[divan::bench]
fn find_offset(bencher: Bencher) {
    let (log, mut disk) = filled_cold(1);
    let mut offset = 0;
    bencher.bench_local(|| {
        offset = (offset + 7919) % log.end_offset().0;
        read(&log, Offset(offset), 1, &mut disk)
    });
}

/// Finds a record anywhere in the log by its timestamp.
#[divan::bench]
fn find_timestamp(bencher: Bencher) {
    let (log, mut disk) = filled_cold(1);
    let (end, mut timestamp) = (log.end_offset(), 0);
    bencher.bench_local(|| {
        timestamp = (timestamp + 7919) % end.0;
        let job = log.find_by_timestamp(Timestamp(timestamp), end).unwrap();
        disk.run(job).unwrap().unwrap()
    });
}

/// Opens a log after a crash that left no recovery point: all of it is read and checked, and its indexes are made anew.
#[divan::bench(args = [10, 160])]
fn recover(bencher: Bencher, records: usize) {
    let (log, disk) = filled(records, TopicConfig::default());
    bencher
        .counter(BytesCount::new(log.size_in_bytes()))
        .with_inputs(|| disk.clone())
        .bench_local_values(|mut disk| open(&mut disk, false).end_offset());
}

/// Opens a log after a clean stop.
#[divan::bench]
fn open_clean(bencher: Bencher) {
    let (mut log, mut disk) = filled(160, TopicConfig::default());
    let mut ops = Vec::new();
    log.close(&mut ops);
    ops.iter().for_each(|op| disk.apply(op).unwrap());
    bencher.with_inputs(|| disk.clone()).bench_local_values(|mut disk| open(&mut disk, true).end_offset());
}

/// Compacts a log in which every tenth record is the last of its key.
#[divan::bench]
fn compact(bencher: Bencher) {
    let compact = CleanupPolicy { delete: false, compact: true };
    // One segment is sealed, and a small one is appended to.
    let segment_bytes = u32::try_from(LOG_BYTES).unwrap();
    let config = TopicConfig { cleanup_policy: compact, segment_bytes, ..TopicConfig::default() };
    let (log, disk) = filled(160, config);
    bencher
        .counter(BytesCount::new(log.size_in_bytes()))
        .with_inputs(|| {
            let mut disk = disk.clone();
            (open(&mut disk, false), disk)
        })
        .bench_local_values(|(mut log, mut disk)| clean(&mut log, &mut disk));
}

/// Drives the job as the broker does.
fn clean(log: &mut Log, disk: &mut MemoryDisk) -> Offset {
    let limits = CleanerLimits {
        dedupe_bytes: 1 << 27,
        load_factor: 0.9,
        io_buffer_bytes: 1 << 19,
        secret: HashSecret(1, 2),
    };
    let (cleanable, is_due) = log.cleanable(now(), log.end_offset(), None);
    assert!(is_due);
    let mut job = log.begin_cleaning(now(), &cleanable, limits);
    loop {
        let mut ops: Vec<Op> = Vec::new();
        job = match disk.run(job).unwrap().next {
            CleanNext::Continue(rest) => rest,
            CleanNext::Apply(changes, rest) => {
                ops = changes;
                rest
            }
            CleanNext::Replace(segment, rest) => {
                log.replace(now(), &segment, &mut ops);
                rest
            }
            CleanNext::Done(clean_to) => return clean_to,
            CleanNext::Failed(error) => unreachable!("{error}"),
        };
        ops.iter().for_each(|op| disk.apply(op).unwrap());
    }
}

/// A log of [`LOG_BYTES`] in batches of so many records, all of it in files and durable, its end in memory as well.
fn filled(records: usize, config: TopicConfig) -> (Log, MemoryDisk) {
    let mut log = Log::create(DIR.into(), topic_id(), Arc::new(config));
    let (mut disk, mut codecs) = (MemoryDisk::default(), Codecs::default());
    while usize::try_from(log.size_in_bytes()).unwrap() < LOG_BYTES + (1 << 16) {
        let (batch, mut ops) = (batch(log.end_offset().0, records), Vec::new());
        append_to(&mut log, batch, &mut codecs, &mut ops);
        ops.iter().for_each(|op| disk.apply(op).unwrap());
    }
    let work = log.begin_sync().unwrap();
    work.paths().for_each(|path| disk.sync(path));
    log.flushed(work.point);
    (log, disk)
}

/// As [`filled`], with nothing in memory.
fn filled_cold(records: usize) -> (Log, MemoryDisk) {
    let (mut log, mut disk) = filled(records, TopicConfig::default());
    let mut ops = Vec::new();
    log.close(&mut ops);
    ops.iter().for_each(|op| disk.apply(op).unwrap());
    let log = open(&mut disk, true);
    (log, disk)
}

fn append_to(log: &mut Log, batch: Bytes, codecs: &mut Codecs, ops: &mut Vec<Op>) {
    log.append(now(), batch, Origin::Client { zstd_allowed: true }, LeaderEpoch(0), codecs, ops).unwrap();
}

fn open(disk: &mut MemoryDisk, clean: bool) -> Log {
    let compact = CleanupPolicy { delete: false, compact: true };
    let opening = Opening {
        dir: DIR.into(),
        topic_id: topic_id(),
        config: Arc::new(TopicConfig { cleanup_policy: compact, ..TopicConfig::default() }),
        clean,
        recovery_point: None,
        start_offset: None,
        durable_to: None,
        cleaned: None,
        now: now(),
    };
    disk.run(OpenLog::new(opening)).unwrap().unwrap()
}

/// How many bytes were read.
fn read(log: &Log, from: Offset, max_bytes: usize, disk: &mut MemoryDisk) -> usize {
    let slices = match log.read(from, log.end_offset(), max_bytes, true).unwrap() {
        Read::Hot(slices) => slices,
        Read::Cold(job) => disk.run(job).unwrap().unwrap(),
    };
    slices.iter().map(Bytes::len).sum()
}

/// A batch of records whose timestamps are their offsets. A tenth of the keys in a log are told apart.
fn batch(first: i64, records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for offset in (first..).take(records) {
        let key = format!("key-{}", offset % (LOG_BYTES / RECORD_BYTES / 10).cast_signed() as i64);
        let value: Vec<u8> =
            (0..RECORD_BYTES - key.len()).map(|at| b'a' + (at % 26).to_le_bytes()[0]).collect();
        builder.append(Timestamp(offset), Some(key.as_bytes()), Some(&value), &[]).unwrap();
    }
    builder.build(&mut Compressor::default()).unwrap()
}

fn topic_id() -> TopicId {
    "EjRWeJCrze8P7cuph2VDIQ".parse().unwrap()
}

fn now() -> Now {
    Now { instant: Duration::ZERO, wall: Timestamp(0) }
}
