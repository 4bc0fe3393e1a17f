//! A log with its disk, and batches to append to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dohle_configs::TopicConfig;
use dohle_records::{Batch, BatchBuilder, BatchOptions, Batches, Compression, Compressor, Decompressor};
use dohle_types::{LeaderEpoch, Now, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId};

use super::disk::Disk;
use crate::{AppendError, Appended, Codecs, Log, OpenError, OpenLog, Opening, Origin, Read, ReadError};

pub(super) const DIR: &str = "orders-0";

/// A log and the disk it is on, driven as a broker drives it.
pub(super) struct Node {
    pub(super) log: Log,
    pub(super) disk: Disk,
    pub(super) codecs: Codecs,
    pub(super) epoch: LeaderEpoch,
}

impl Node {
    pub(super) fn new(config: TopicConfig) -> Self {
        Self {
            log: Log::create(DIR.into(), topic_id(), Arc::new(config)),
            disk: Disk::default(),
            codecs: Codecs::default(),
            epoch: LeaderEpoch(0),
        }
    }

    pub(super) fn append(&mut self, batch: Bytes) -> Result<Appended, AppendError> {
        self.append_at(now(0), batch, Origin::Client { zstd_allowed: true })
    }

    pub(super) fn append_at(
        &mut self,
        now: Now,
        batch: Bytes,
        origin: Origin,
    ) -> Result<Appended, AppendError> {
        let mut ops = Vec::new();
        let appended = self.log.append(now, batch, origin, self.epoch, &mut self.codecs, &mut ops);
        assert!(appended.is_ok() || ops.is_empty(), "a refused append writes nothing");
        ops.into_iter().for_each(|op| self.disk.apply(op));
        appended
    }

    pub(super) fn sync(&mut self) {
        if let Some(work) = self.log.begin_sync() {
            work.paths().for_each(|path| self.disk.sync(path));
            self.log.flushed(work.point);
        }
    }

    pub(super) fn close(&mut self) {
        let mut ops = Vec::new();
        self.log.close(&mut ops);
        ops.into_iter().for_each(|op| self.disk.apply(op));
        self.sync();
    }

    pub(super) fn retain(&mut self, now: Now, checkpointed_start: Offset) {
        let mut ops = Vec::new();
        let high_watermark = self.log.durable_offset();
        self.log.retain(now, high_watermark, checkpointed_start, &mut ops);
        ops.into_iter().for_each(|op| self.disk.apply(op));
    }

    /// Everything from `from` on, by as many reads as it takes, checked to be consecutive.
    pub(super) fn read_all(&mut self, from: Offset) -> Vec<Batch> {
        let mut batches: Vec<Batch> = Vec::new();
        let mut next = from;
        while next < self.log.end_offset() {
            let more = self.read(next, 1 << 20);
            assert!(!more.is_empty(), "nothing at {next} though the log ends at {}", self.log.end_offset());
            next = more.last().unwrap().header().next_offset();
            batches.extend(more);
        }
        for pair in batches.windows(2) {
            assert_eq!(pair[0].header().next_offset(), pair[1].header().base_offset);
        }
        assert!(batches.iter().all(Batch::crc_is_valid));
        batches
    }

    pub(super) fn read(&mut self, from: Offset, max_bytes: usize) -> Vec<Batch> {
        self.read_below(from, self.log.end_offset(), max_bytes, true)
    }

    pub(super) fn read_below(
        &mut self,
        from: Offset,
        upper: Offset,
        max_bytes: usize,
        one: bool,
    ) -> Vec<Batch> {
        let slices = match self.log.read(from, upper, max_bytes, one).unwrap() {
            Read::Hot(slices) => slices,
            Read::Cold(job) => self.disk.run(job).unwrap(),
        };
        slices.into_iter().flat_map(Batches::new).map(Result::unwrap).collect()
    }

    /// Reads from `offset` as a broker does; `None` where the record is refused.
    pub(super) fn read_or_damage(&mut self, offset: Offset) -> Option<Vec<Batch>> {
        loop {
            if self.log.damage_at(offset).is_some() {
                return None;
            }
            let slices = match self.log.read(offset, self.log.end_offset(), 1 << 20, true).unwrap() {
                Read::Hot(slices) => slices,
                Read::Cold(job) => match self.disk.run(job) {
                    Ok(slices) => slices,
                    Err(ReadError::Damaged(damage)) if self.log.note_damage(damage.clone()) => continue,
                    Err(ReadError::Damaged(_)) => return None,
                    Err(error) => panic!("{error}"),
                },
            };
            return Some(slices.into_iter().flat_map(Batches::new).map(Result::unwrap).collect());
        }
    }

    /// Forgets the hot tail.
    pub(super) fn cool(&mut self) {
        for _ in 0..10_000 {
            self.log.evict_oldest();
        }
    }

    pub(super) fn opening(&self) -> Opening {
        Opening {
            dir: DIR.into(),
            topic_id: topic_id(),
            config: self.log.config().clone(),
            clean: false,
            recovery_point: Some(Offset(0)),
            start_offset: None,
            cleaned: None,
            durable_to: None,
            now: now(0),
        }
    }

    /// The log as it is found on `disk`.
    pub(super) fn reopen(&self, mut disk: Disk, opening: Opening) -> Result<Self, OpenError> {
        let log = disk.run(OpenLog::new(opening))?;
        Ok(Self { log, disk, codecs: Codecs::default(), epoch: self.epoch })
    }
}

pub(super) fn topic_id() -> TopicId {
    "EjRWeJCrze8P7cuph2VDIQ".parse().unwrap()
}

pub(super) fn now(ms: u64) -> Now {
    Now { instant: Duration::from_millis(ms), wall: Timestamp(1_000_000 + i64::try_from(ms).unwrap()) }
}

/// A producer, of which a batch may be.
#[derive(Clone, Copy)]
pub(super) struct Producer {
    pub(super) id: i64,
    pub(super) epoch: i16,
    pub(super) sequence: i32,
}

/// A batch of records with these timestamps, each with `padding` bytes as value.
pub(super) fn batch(timestamps: &[i64], padding: usize) -> Bytes {
    build(BatchOptions::default(), timestamps, padding)
}

pub(super) fn batch_of(producer: Producer, timestamps: &[i64], padding: usize) -> Bytes {
    let options = BatchOptions {
        producer_id: ProducerId(producer.id),
        producer_epoch: ProducerEpoch(producer.epoch),
        base_sequence: Sequence(producer.sequence),
        ..BatchOptions::default()
    };
    build(options, timestamps, padding)
}

pub(super) fn build(options: BatchOptions, timestamps: &[i64], padding: usize) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for (index, &timestamp) in timestamps.iter().enumerate() {
        let value: Vec<u8> = (0..padding).map(|at| (at * 31 + index * 7 + 1).to_le_bytes()[0] | 1).collect();
        builder.append(Timestamp(timestamp), Some(b"key"), Some(&value), &[]).unwrap();
    }
    builder.build(&mut Compressor::default()).unwrap()
}

pub(super) fn compressed(compression: Compression) -> BatchOptions {
    BatchOptions { compression: compression.into(), ..BatchOptions::default() }
}

/// What the records of batches say, offset by offset.
pub(super) fn records(batches: &[Batch]) -> Vec<(i64, i64, Bytes)> {
    let mut decompressor = Decompressor::default();
    let of = |batch: &Batch, decompressor: &mut Decompressor| {
        batch.records(decompressor).unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    batches
        .iter()
        .flat_map(|batch| of(batch, &mut decompressor))
        .map(|record| (record.offset.0, record.timestamp.0, record.value.unwrap_or_default()))
        .collect()
}
