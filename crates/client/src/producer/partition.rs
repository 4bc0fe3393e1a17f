//! One partition's batches, and the rules that keep them in order.
//!
//! Sealed batches stand in a queue in the order of their sequences and leave it when they are delivered or given
//! up. Several may be in flight. When one has failed and can be tried again, nothing behind it is sent first:
//!
//! 1. A batch is sent only if all before it are in flight.
//! 2. A batch that was sent before is sent again only from the front of the queue.
//! 3. While a batch that is sent again is in flight, nothing else is sent.
//!
//! 4. Until the first batch under an epoch is acknowledged, it is in flight alone.
//!
//! Brokers refuse what does not follow in sequence, so that what was in flight behind a failed batch fails too
//! and comes again in order. (A broker that knows nothing of the producer takes any sequence, hence rule 4.)
//! When the broker lacks what stood before the front, because it was given up or lost, the front can never
//! follow: once nothing is in flight any more, the queue gets new sequences under a new epoch (KIP-360).

use std::collections::VecDeque;

use bytes::Bytes;
use dohle_protocol::Records;
use dohle_records::{BatchBuilder, BatchHeader, BatchOptions, BuildError, Compressor, HEADER_SIZE};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Now, PartitionIndex, Sequence, Str, Timestamp};

use super::{Identity, ProducerRecord};

/// A batch, whether or not its partition still has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BatchRef {
    /// Which partition.
    pub(super) slot: usize,
    /// Which batch, by a number that is never used again.
    pub(super) serial: u64,
}

/// A partition that records were sent to.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) topic: Str,
    pub(super) index: PartitionIndex,
    /// Whether the producer's list of ready partitions has this one.
    pub(super) listed: bool,
    /// Whether the open batch waits for no more records.
    pub(super) open_is_due: bool,
    /// Nothing is sent before this.
    pub(super) retry_at: Instant,
    open: Option<Open>,
    queue: VecDeque<Batch>,
    /// What the producer was given, for all of its partitions.
    given: Option<Identity>,
    /// The same, or with an epoch of this partition's own after a gap.
    identity: Option<Identity>,
    next_sequence: Sequence,
    /// Whether the broker acknowledged a batch under the identity's epoch.
    is_confirmed: bool,
    /// Whether the broker lacks what stood before the front of the queue.
    has_gap: bool,
}

/// The batch that takes records.
#[derive(Debug)]
struct Open {
    serial: u64,
    created: Instant,
    builder: BatchBuilder,
    tags: Vec<u64>,
}

/// A batch that was closed.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) serial: u64,
    pub(super) created: Instant,
    pub(super) tags: Vec<u64>,
    /// What it counts for in the producer's buffer.
    pub(super) buffered: usize,
    pub(super) attempts: u32,
    pub(super) last_error: Option<ErrorCode>,
    header: BatchHeader,
    body: Bytes,
    in_flight: bool,
}

/// A batch could not be closed.
pub(super) struct Unsealed {
    pub(super) tags: Vec<u64>,
    pub(super) buffered: usize,
    pub(super) error: BuildError,
}

impl Partition {
    pub(super) const fn new(topic: Str, index: PartitionIndex) -> Self {
        Self {
            topic,
            index,
            listed: false,
            open_is_due: false,
            retry_at: Instant::ZERO,
            open: None,
            queue: VecDeque::new(),
            given: None,
            identity: None,
            next_sequence: Sequence(0),
            is_confirmed: false,
            has_gap: false,
        }
    }

    /// The size of the open batch, if there is one.
    pub(super) fn open_size(&self) -> Option<usize> {
        self.open.as_ref().map(|open| open.builder.size_in_bytes())
    }

    /// The open batch's number, if there is one.
    pub(super) fn open_serial(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.serial)
    }

    /// Whether anything waits to be sent that waits for no more records.
    pub(super) fn has_due(&self) -> bool {
        self.open_is_due && self.open.is_some() || self.queue.iter().any(|batch| !batch.in_flight)
    }

    /// When the oldest batch was begun.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.queue.front().map(|batch| batch.created).or_else(|| self.open.as_ref().map(|open| open.created))
    }

    /// Begins a batch.
    pub(super) fn open(&mut self, now: Now, serial: u64, identity: Option<Identity>, options: BatchOptions) {
        if self.given != identity {
            self.given = identity;
            self.identity = identity;
            self.is_confirmed = false;
            self.next_sequence = Sequence(0);
        }
        self.open = Some(Open {
            serial,
            created: now.instant,
            builder: BatchBuilder::new(options),
            tags: Vec::new(),
        });
        self.open_is_due = false;
    }

    /// Adds a record to the open batch; by how many bytes it grew.
    pub(super) fn append(
        &mut self,
        timestamp: Timestamp,
        record: &ProducerRecord<'_>,
    ) -> Result<usize, BuildError> {
        let Some(open) = &mut self.open else { return Err(BuildError::Full) };
        let before = open.builder.size_in_bytes();
        open.builder.append(timestamp, record.key, record.value, record.headers)?;
        open.tags.push(record.tag);
        Ok(open.builder.size_in_bytes() - before)
    }

    /// Closes the open batch; how many bytes that saved.
    pub(super) fn seal(&mut self, compressor: &mut Compressor) -> Result<usize, Unsealed> {
        let Some(Open { serial, created, builder, tags }) = self.open.take() else { return Ok(0) };
        self.open_is_due = false;
        let open_size = builder.size_in_bytes();
        let built = builder.build(compressor).and_then(|bytes| {
            let header = BatchHeader::parse(&bytes).map_err(|_| BuildError::Full)?;
            Ok((header, bytes))
        });
        let (header, bytes) = match built {
            Ok(built) => built,
            Err(error) => return Err(Unsealed { tags, buffered: open_size, error }),
        };
        let buffered = bytes.len().min(open_size);
        let mut batch = Batch {
            serial,
            created,
            tags,
            buffered,
            attempts: 0,
            last_error: None,
            header,
            body: bytes.slice(HEADER_SIZE..),
            in_flight: false,
        };
        self.number(&mut batch);
        self.queue.push_back(batch);
        Ok(open_size - buffered)
    }

    /// Gives a batch the next sequences.
    fn number(&mut self, batch: &mut Batch) {
        let Some(Identity { id, epoch }) = self.identity else { return };
        batch.header.producer_id = id;
        batch.header.producer_epoch = epoch;
        batch.header.base_sequence = self.next_sequence;
        batch.header.crc = batch.header.computed_crc(&batch.body);
        self.next_sequence = self.next_sequence.plus(batch.header.record_count);
    }

    /// Which batch of the queue may be sent now, by the rules above.
    pub(super) fn next_to_send(&self, now: Now, in_flight_max: usize) -> Option<usize> {
        if self.has_gap || self.retry_at > now.instant {
            return None;
        }
        for (position, batch) in self.queue.iter().take(self.in_flight_max(in_flight_max)).enumerate() {
            match (batch.in_flight, batch.attempts) {
                (true, 0 | 1) => {}
                (true, _) => return None,
                (false, 0) => return Some(position),
                (false, _) => return (position == 0).then_some(position),
            }
        }
        None
    }

    /// Whether closing the open batch would give something to send.
    pub(super) fn should_seal(&self, now: Now, in_flight_max: usize) -> bool {
        self.open_is_due
            && self.open.is_some()
            && !self.has_gap
            && self.retry_at <= now.instant
            && self.queue.len() < self.in_flight_max(in_flight_max)
            && self.queue.iter().all(|batch| batch.in_flight && batch.attempts <= 1)
    }

    fn in_flight_max(&self, in_flight_max: usize) -> usize {
        if self.is_confirmed || self.identity.is_none() { in_flight_max } else { 1 }
    }

    /// The size of a batch that [`Self::next_to_send`] found.
    pub(super) fn size_of(&self, position: usize) -> usize {
        self.queue.get(position).map_or(0, |batch| HEADER_SIZE + batch.body.len())
    }

    /// Puts a batch that [`Self::next_to_send`] found in flight; its number and its bytes.
    pub(super) fn launch(&mut self, position: usize) -> Option<(u64, Records)> {
        let batch = self.queue.get_mut(position)?;
        batch.in_flight = true;
        batch.attempts += 1;
        let mut records = Records::new();
        records.push(Bytes::copy_from_slice(&batch.header.to_bytes()));
        records.push(batch.body.clone());
        Some((batch.serial, records))
    }

    /// Takes out a batch that was delivered.
    pub(super) fn complete(&mut self, serial: u64) -> Option<Batch> {
        let batch = self.remove(serial)?;
        self.is_confirmed |= self.identity.is_some_and(|known| known.epoch == batch.header.producer_epoch);
        Some(batch)
    }

    /// Takes out a batch.
    pub(super) fn remove(&mut self, serial: u64) -> Option<Batch> {
        let position = self.queue.iter().position(|batch| batch.serial == serial)?;
        let batch = self.queue.remove(position);
        self.close_gap();
        batch
    }

    /// Puts a batch back for another attempt. `gap` says that the broker lacks sequences before it: those of a
    /// batch that failed just before and comes first, or, before the front of the queue, lost ones.
    pub(super) fn put_back(&mut self, serial: u64, error: Option<ErrorCode>, gap: bool) {
        let Some(position) = self.queue.iter().position(|batch| batch.serial == serial) else { return };
        if let Some(batch) = self.queue.get_mut(position) {
            batch.in_flight = false;
            batch.last_error = error.or(batch.last_error);
        }
        self.has_gap |= gap && position == 0;
        self.close_gap();
    }

    /// Settles a gap once nothing is in flight.
    fn close_gap(&mut self) {
        if !self.has_gap || self.queue.iter().any(|batch| batch.in_flight) {
            return;
        }
        self.has_gap = false;
        let Some(Identity { epoch, .. }) = &mut self.identity else { return };
        // After 32,767 gaps the epoch stays and the broker refuses; the batches then end in an error.
        epoch.0 = epoch.0.saturating_add(1);
        self.is_confirmed = false;
        self.next_sequence = Sequence(0);
        let mut queue = std::mem::take(&mut self.queue);
        for batch in &mut queue {
            self.number(batch);
        }
        self.queue = queue;
    }

    /// The batches that were begun before `created` and are not in flight.
    pub(super) fn waiting_since(&self, created: Instant) -> Vec<u64> {
        let old = self.queue.iter().filter(|batch| !batch.in_flight && batch.created <= created);
        old.map(|batch| batch.serial).collect()
    }

    /// Whether a batch is the first of the queue.
    pub(super) fn is_first(&self, serial: u64) -> bool {
        self.queue.front().is_some_and(|batch| batch.serial == serial)
    }

    /// A batch of the queue.
    pub(super) fn batch(&self, serial: u64) -> Option<&Batch> {
        self.queue.iter().find(|batch| batch.serial == serial)
    }
}
