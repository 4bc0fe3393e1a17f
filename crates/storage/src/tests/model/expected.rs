//! What the log must hold: a vector of batches, how far they are acknowledged, and what follows from them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use dohle_records::{Batch, BatchHeader, Decompressor, Record};
use dohle_types::{ErrorCode, Offset, Timestamp};

use crate::ProducerState;

/// A batch that was appended.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) header: BatchHeader,
    pub(super) bytes: Bytes,
    pub(super) records: Vec<Record>,
    /// The coordinator's epoch, where it is a transaction marker.
    pub(super) coordinator_epoch: Option<i32>,
}

impl Stored {
    pub(super) fn base(&self) -> Offset {
        self.header.base_offset
    }

    pub(super) fn next(&self) -> Offset {
        self.header.next_offset()
    }
}

/// What the log must hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    /// Everything that was appended and may still be there, the deleted records too.
    pub(super) batches: Vec<Stored>,
    pub(super) start: Offset,
    pub(super) end: Offset,
    /// Everything below is in the files: the end of the process does not take it.
    pub(super) written: Offset,
    /// Everything below is acknowledged as durable: nothing takes it.
    pub(super) durable: Offset,
    pub(super) producers: Producers,
    /// Producers that were silent for too long once, and the end of the log then.
    pub(super) forgotten: BTreeMap<i64, Offset>,
    /// The offsets of markers that the log has seen in this life, and where their transactions began.
    pub(super) ended: Vec<(Offset, Offset)>,
}

impl Expected {
    pub(super) fn push(&mut self, stored: Stored) {
        if let Some(ended) = note(&mut self.producers, &stored) {
            self.ended.push((stored.base(), ended));
        }
        self.end = stored.next();
        self.batches.push(stored);
    }

    /// The batches of which a record lies in `from..to`.
    pub(super) fn between(&self, from: Offset, to: Offset) -> &[Stored] {
        let first = self.batches.partition_point(|batch| batch.next() <= from);
        let end = self.batches.partition_point(|batch| batch.base() < to);
        self.batches.get(first..end).unwrap_or_default()
    }

    /// The records that may be read.
    pub(super) fn visible(&self) -> impl Iterator<Item = &Record> {
        let records = self.between(self.start, self.end).iter().flat_map(|batch| &batch.records);
        records.filter(|record| record.offset >= self.start)
    }

    /// The first record of `timestamp` or later, as ListOffsets wants it.
    pub(super) fn find(&self, timestamp: Timestamp, upper: Offset) -> Option<&Record> {
        self.visible().find(|record| record.timestamp >= timestamp).filter(|record| record.offset < upper)
    }

    /// The log was cut at `end`.
    pub(super) fn truncate(&mut self, end: Offset) {
        self.batches.retain(|batch| batch.next() <= end);
        self.end = end;
    }

    /// The last stable offset at `high_watermark`.
    pub(super) fn last_stable(&self, high_watermark: Offset) -> Offset {
        let open = self.producers.values().filter_map(|known| known.transaction);
        let ended =
            self.ended.iter().filter(|(marker, _)| *marker >= high_watermark).map(|&(_, start)| start);
        open.chain(ended).chain([high_watermark]).min().unwrap()
    }
}

/// Producers by id.
pub(super) type Producers = BTreeMap<i64, Known>;

/// What a log knows of a producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) epoch: i16,
    pub(super) coordinator_epoch: i32,
    pub(super) last_timestamp: Timestamp,
    pub(super) transaction: Option<Offset>,
    /// First and last sequence, and first offset, of its last five batches.
    pub(super) batches: VecDeque<(i32, i32, Offset)>,
}

impl Known {
    pub(super) fn of(state: &ProducerState) -> Self {
        let batches = state.earlier_batches().chain(state.last_batch());
        Self {
            epoch: state.epoch.0,
            coordinator_epoch: state.coordinator_epoch,
            last_timestamp: state.last_timestamp,
            transaction: state.transaction_start,
            batches: batches
                .map(|batch| (batch.first_sequence().0, batch.last_sequence.0, batch.first_offset()))
                .collect(),
        }
    }

    /// The sequence that its next batch has to begin with.
    pub(super) fn next_sequence(&self) -> i32 {
        self.batches.back().map_or(0, |&(_, last, _)| if last == i32::MAX { 0 } else { last + 1 })
    }
}

/// What follows from the batches alone.
pub(super) fn producers_of<'a>(batches: impl IntoIterator<Item = &'a Stored>) -> Producers {
    let mut producers = Producers::new();
    for batch in batches {
        note(&mut producers, batch);
    }
    producers
}

/// Takes note of a batch; where the transaction began that it ends.
fn note(producers: &mut Producers, stored: &Stored) -> Option<Offset> {
    let header = &stored.header;
    if !header.has_producer_id() {
        return None;
    }
    let unknown = Known {
        epoch: -1,
        coordinator_epoch: -1,
        last_timestamp: Timestamp::NONE,
        transaction: None,
        batches: VecDeque::new(),
    };
    let known = producers.entry(header.producer_id.0).or_insert(unknown);
    if known.epoch != header.producer_epoch.0 {
        known.batches.clear();
        known.epoch = header.producer_epoch.0;
    }
    known.last_timestamp = header.max_timestamp;
    if let Some(coordinator_epoch) = stored.coordinator_epoch {
        known.coordinator_epoch = coordinator_epoch;
        return known.transaction.take();
    }
    if known.batches.len() == 5 {
        known.batches.pop_front();
    }
    known.batches.push_back((header.base_sequence.0, header.last_sequence().0, header.base_offset));
    if header.attributes.is_transactional() {
        known.transaction.get_or_insert(header.base_offset);
    }
    None
}

/// What a producer's batch must be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    New,
    Duplicate(Offset),
    Refused(ErrorCode),
}

/// Judges what a client sends.
pub(super) fn judge(producers: &Producers, header: &BatchHeader) -> Verdict {
    let Some(known) = producers.get(&header.producer_id.0).filter(|_| header.has_producer_id()) else {
        return Verdict::New;
    };
    let epoch = header.producer_epoch.0;
    let same = |&&(first, last, _): &&(i32, i32, Offset)| {
        (first, last) == (header.base_sequence.0, header.last_sequence().0)
    };
    if epoch == known.epoch
        && let Some(&(_, _, offset)) = known.batches.iter().find(same)
    {
        return Verdict::Duplicate(offset);
    }
    if epoch < known.epoch {
        return Verdict::Refused(ErrorCode::InvalidProducerEpoch);
    }
    let due = if epoch == known.epoch { known.next_sequence() } else { 0 };
    if header.base_sequence.0 != due {
        return Verdict::Refused(ErrorCode::OutOfOrderSequenceNumber);
    }
    if known.transaction.is_some() && !header.attributes.is_transactional() {
        return Verdict::Refused(ErrorCode::InvalidTxnState);
    }
    Verdict::New
}

/// Judges a marker that a coordinator writes.
pub(super) fn judge_marker(producers: &Producers, header: &BatchHeader, coordinator_epoch: i32) -> Verdict {
    match producers.get(&header.producer_id.0) {
        Some(known) if coordinator_epoch < known.coordinator_epoch => {
            Verdict::Refused(ErrorCode::TransactionCoordinatorFenced)
        }
        Some(known) if header.producer_epoch.0 < known.epoch => {
            Verdict::Refused(ErrorCode::InvalidProducerEpoch)
        }
        Some(_) | None => Verdict::New,
    }
}

/// The records of a batch.
pub(super) fn records_of(batch: &Batch) -> Result<Vec<Record>, String> {
    let records = batch.records(&mut Decompressor::default()).map_err(|error| error.to_string())?;
    records.map(|record| record.map_err(|error| error.to_string())).collect()
}
