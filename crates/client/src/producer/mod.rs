//! The producer: records in, batches out, deliveries back.
//!
//! ```text
//! send ─> partitioner ─> partition: open batch ─full, lingered, flush─> sealed queue ─> request per broker
//!                                                                        ^ retriable error │ response
//!                                                                        └─────────────────┴─> Delivery
//! ```
//!
//! [`Producer::send`] only copies the record into its partition's open batch; what became due leaves with the
//! next [`Machine::handle`]. `partition.rs` holds the rules of order, `sender.rs` makes requests.

mod coordinator;
mod offsets;
mod partition;
pub mod partitioner;
mod sender;
#[cfg(test)]
mod tests;
mod transaction;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use dohle_records::{BatchBuilder, BatchOptions, CompressionTarget, Compressor};
use dohle_types::time::Instant;
use dohle_types::{
    ErrorCode, FastMap, Now, Offset, PartitionIndex, ProducerEpoch, ProducerId, Rng, Str, Timestamp,
};

use crate::{Cluster, ClusterConfig, Effects, Endpoint, Failure, Input, Machine, Unreachable};
use partition::{BatchRef, Partition};
use partitioner::partition_for_key;
use sender::Token;
pub use transaction::TransactionError;
use transaction::Transactions;

/// Whose acknowledgement a producer waits for (`acks`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// Nobody's: a record counts as delivered when it is sent.
    None,
    /// The leader's.
    Leader,
    /// That of all replicas in sync.
    All,
}

/// What a producer can be told.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// What all clients can be told.
    pub cluster: ClusterConfig,
    /// Whose acknowledgement it waits for.
    pub acks: Acks,
    /// Whether brokers recognise what is sent twice (`enable.idempotence`, KIP-98); takes `acks` of all.
    pub idempotent: bool,
    /// By what the coordinator of transactions knows it again after a restart (`transactional.id`); takes idempotence.
    pub transactional_id: Option<Str>,
    /// After what time the coordinator aborts a transaction by itself (`transaction.timeout.ms`).
    pub transaction_timeout: Duration,
    /// How long a batch waits for more records (`linger.ms`).
    pub linger: Duration,
    /// The size at which a batch waits for no more (`batch.size`).
    pub batch_size: usize,
    /// The bytes of records that may wait (`buffer.memory`).
    pub buffer_memory: usize,
    /// The largest request, and so the largest record (`max.request.size`).
    pub request_size_max: usize,
    /// How batches are compressed.
    pub compression: CompressionTarget,
    /// After what time a record that was not acknowledged is given up (`delivery.timeout.ms`).
    pub delivery_timeout: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            cluster: ClusterConfig::default(),
            acks: Acks::All,
            idempotent: true,
            transactional_id: None,
            transaction_timeout: Duration::from_secs(60),
            linger: Duration::from_millis(5),
            batch_size: 16 * 1024,
            buffer_memory: 32 * 1024 * 1024,
            request_size_max: 1024 * 1024,
            compression: CompressionTarget::default(),
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// No batch becomes larger, whatever the configuration says: the format's limit is 2 GiB.
const BATCH_SIZE_MAX: usize = 1 << 30;

/// A header of a record: key and value.
pub type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// A record to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProducerRecord<'a> {
    /// Where to; `None` leaves it to the key, or without one to the producer.
    pub partition: Option<PartitionIndex>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a [Header<'a>],
    /// The record's time; `None` is now.
    pub timestamp: Option<Timestamp>,
    /// By what the caller recognises the record in [`Delivery::tags`].
    pub tag: u64,
}

/// Why a record was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The buffer is full: drive the machine and try again after a delivery.
    #[error("the producer's buffer is full")]
    Full,
    /// The topic's partitions or the producer's id are not known yet: drive the machine and try again.
    #[error("waiting for the cluster's metadata")]
    NotReady,
    /// A producer of transactions takes records only in one, and none once another one of it was given up.
    #[error("no transaction is open, or it can only be aborted")]
    NoTransaction,
    /// The topic cannot be written to.
    #[error("topic {topic} cannot be written to: {error}")]
    Topic {
        /// The topic.
        topic: Str,
        /// What the broker says.
        error: ErrorCode,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has no partition {partition}; it has {partitions}")]
    NoPartition {
        /// The topic.
        topic: Str,
        /// The partition asked for.
        partition: PartitionIndex,
        /// How many there are.
        partitions: usize,
    },
    /// The record is larger than a request may be.
    #[error("a record of {size} bytes is more than the {max} of max.request.size")]
    TooLarge {
        /// The record's size, as a batch of its own.
        size: usize,
        /// The largest that is sent.
        max: usize,
    },
    /// The brokers give out no producer id.
    #[error("no producer id can be had: {0}")]
    NoProducerId(DeliveryError),
}

impl SendError {
    /// Whether the same record may be taken later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Full | Self::NotReady => true,
            Self::Topic { error, .. } => error.is_retriable(),
            Self::NoPartition { .. }
            | Self::TooLarge { .. }
            | Self::NoProducerId(_)
            | Self::NoTransaction => false,
        }
    }
}

/// Why a batch was given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The broker refused it.
    #[error("the broker says {error}{}", message.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Refused {
        /// The error.
        error: ErrorCode,
        /// What the broker adds.
        message: Option<Str>,
    },
    /// It was not acknowledged in time. It may or may not have been written.
    #[error("not acknowledged in time{}", last.map(|error| format!(" (last error: {error})")).unwrap_or_default())]
    Expired {
        /// What the broker last said.
        last: Option<ErrorCode>,
    },
    /// The batch could not be compressed.
    #[error("the batch cannot be built: {reason}")]
    NotBuilt {
        /// What the compression says.
        reason: String,
    },
    /// Its transaction was aborted before it was sent.
    #[error("the transaction was aborted before this was sent")]
    Aborted,
    /// It could not be sent.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The topic.
    pub topic: Str,
    /// The partition.
    pub partition: PartitionIndex,
    /// The offset of the first record, or why there is none. The offset is `None` where the broker did not say:
    /// with `acks` of none, and for a batch that it recognised as one it has had.
    pub result: Result<Option<Offset>, DeliveryError>,
    /// The records' tags, in order.
    pub tags: Vec<u64>,
}

/// Who the producer is to brokers (KIP-98).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    id: ProducerId,
    epoch: ProducerEpoch,
}

/// The way to an [`Identity`].
#[derive(Debug)]
enum Identification {
    /// To be asked for, at the given instant.
    Wanted { at: Instant, failures: u32 },
    /// Asked for.
    Asked { failures: u32 },
    /// Known; batches of producers that are not idempotent carry `None`.
    Known(Option<Identity>),
    /// The broker refused.
    Refused(DeliveryError),
}

/// A topic that records were sent to.
#[derive(Debug)]
struct TopicState {
    name: Str,
    /// The metadata that the rest is from.
    metadata_version: u64,
    /// Which of [`Producer::partitions`] its partitions are, by number.
    slots: Vec<usize>,
    /// The partitions with a leader, for records without a key.
    available: Vec<usize>,
    /// The partition of records without a key, and how many bytes more it gets (KIP-794).
    sticky: Option<(usize, usize)>,
}

/// The producer; see the module.
pub struct Producer {
    config: ProducerConfig,
    cluster: Cluster<Token>,
    identification: Identification,
    transactions: Option<Transactions>,
    compressor: Compressor,
    topics: FastMap<Str, TopicState>,
    partitions: Vec<Partition>,
    /// Partitions with something to send, each once.
    ready: VecDeque<usize>,
    /// When open batches have waited long enough; in order, as all wait equally long.
    lingering: VecDeque<(Instant, BatchRef)>,
    /// When partitions may be sent to again after an error.
    backing_off: BTreeSet<(Instant, usize)>,
    deliveries: VecDeque<Delivery>,
    buffered_bytes: usize,
    buffered_batches: usize,
    next_batch: u64,
    expiry_check_at: Instant,
}

impl Producer {
    /// A producer that knows only where to begin.
    #[must_use]
    pub fn new(mut config: ProducerConfig, bootstrap: Vec<Endpoint>, rng: Rng) -> Self {
        config.idempotent |= config.transactional_id.is_some();
        config.idempotent &= config.acks == Acks::All;
        config.request_size_max = config.request_size_max.min(BATCH_SIZE_MAX);
        config.batch_size = config.batch_size.min(config.request_size_max);
        let identification = if config.idempotent {
            Identification::Wanted { at: Instant::ZERO, failures: 0 }
        } else {
            Identification::Known(None)
        };
        Self {
            cluster: Cluster::new(config.cluster.clone(), bootstrap, rng),
            transactions: config
                .transactional_id
                .clone()
                .filter(|_| config.idempotent)
                .map(|id| Transactions::new(id, config.transaction_timeout)),
            config,
            identification,
            compressor: Compressor::default(),
            topics: FastMap::default(),
            partitions: Vec::new(),
            ready: VecDeque::new(),
            lingering: VecDeque::new(),
            backing_off: BTreeSet::new(),
            deliveries: VecDeque::new(),
            buffered_bytes: 0,
            buffered_batches: 0,
            next_batch: 0,
            expiry_check_at: Instant::ZERO,
        }
    }

    /// Takes a record, or says why not. What is taken leaves with the next [`Machine::handle`].
    pub fn send(&mut self, now: Now, topic: &str, record: &ProducerRecord<'_>) -> Result<(), SendError> {
        let size_bound = BatchBuilder::record_size_bound(record.key, record.value, record.headers);
        let size = size_bound + dohle_records::HEADER_SIZE;
        if size > self.config.request_size_max {
            return Err(SendError::TooLarge { size, max: self.config.request_size_max });
        }
        if self.buffered_bytes > 0 && self.buffered_bytes + size > self.config.buffer_memory {
            return Err(SendError::Full);
        }
        let identity = match &self.identification {
            Identification::Known(identity) => *identity,
            Identification::Refused(error) => return Err(SendError::NoProducerId(error.clone())),
            Identification::Wanted { .. } | Identification::Asked { .. } => {
                self.cluster.watch_topic(now, topic);
                return Err(SendError::NotReady);
            }
        };
        if self.transactions.as_ref().is_some_and(|it| !it.takes_records()) {
            return Err(SendError::NoTransaction);
        }
        let slot = self.partition_of(now, topic, record, size_bound)?;
        if let Some(transactions) = &mut self.transactions {
            transactions.on_taken();
        }
        self.append(now, slot, identity, record, size_bound)
    }

    /// Makes all that is buffered leave without waiting for more.
    pub fn flush(&mut self) {
        for slot in 0..self.partitions.len() {
            if let Some(partition) = self.partitions.get_mut(slot) {
                partition.open_is_due = true;
                self.list(slot);
            }
        }
    }

    /// Whether every record that was taken has been delivered or given up.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.buffered_batches == 0
    }

    /// The bytes of records that wait.
    #[must_use]
    pub const fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// What became of the next batch.
    pub fn next_delivery(&mut self) -> Option<Delivery> {
        self.deliveries.pop_front()
    }

    /// Why no broker can be reached, once each bootstrap endpoint was tried in vain.
    #[must_use]
    pub fn unreachable(&self) -> Option<&Unreachable> {
        self.cluster.unreachable()
    }

    /// How many partitions a topic has, once that is known; asks for it.
    pub fn partition_count(&mut self, now: Now, topic: &str) -> Option<usize> {
        self.cluster.watch_topic(now, topic);
        let topic = self.cluster.metadata().topic(topic)?;
        topic.error.is_none().then_some(topic.partitions.len())
    }

    /// What is wrong with a topic that was sent to, as far as is known.
    #[must_use]
    pub fn topic_error(&self, topic: &str) -> Option<ErrorCode> {
        self.cluster.metadata().topic(topic).map(|topic| topic.error).filter(|error| !error.is_none())
    }

    /// Which of [`Self::partitions`] a record goes to.
    fn partition_of(
        &mut self,
        now: Now,
        topic: &str,
        record: &ProducerRecord<'_>,
        size: usize,
    ) -> Result<usize, SendError> {
        let current = self.topics.get(topic).is_some_and(|known| {
            known.metadata_version == self.cluster.metadata_version() && !known.slots.is_empty()
        });
        if !current {
            self.update_topic(now, topic)?;
        }
        let Some(state) = self.topics.get_mut(topic) else { return Err(SendError::NotReady) };
        let index = match (record.partition, record.key) {
            (Some(partition), _) => usize::try_from(partition.0).unwrap_or(usize::MAX),
            (None, Some(key)) => partition_for_key(key, state.slots.len()),
            (None, None) => state.stick(size, self.config.batch_size, self.cluster.rng()),
        };
        state.slots.get(index).copied().ok_or_else(|| SendError::NoPartition {
            topic: topic.into(),
            partition: record.partition.unwrap_or_default(),
            partitions: state.slots.len(),
        })
    }

    /// Takes over what metadata says of a topic.
    fn update_topic(&mut self, now: Now, topic: &str) -> Result<(), SendError> {
        self.cluster.watch_topic(now, topic);
        let metadata_version = self.cluster.metadata_version();
        let Some(described) = self.cluster.metadata().topic(topic) else { return Err(SendError::NotReady) };
        if !described.error.is_none() {
            return Err(match described.error.is_retriable() {
                true => SendError::NotReady,
                false => SendError::Topic { topic: topic.into(), error: described.error },
            });
        }
        let state = self.topics.entry(topic.into()).or_insert_with(|| TopicState {
            name: topic.into(),
            metadata_version,
            slots: Vec::new(),
            available: Vec::new(),
            sticky: None,
        });
        state.metadata_version = metadata_version;
        for partition in described.partitions.iter().skip(state.slots.len()) {
            state.slots.push(self.partitions.len());
            self.partitions.push(Partition::new(state.name.clone(), partition.index));
        }
        state.available.clear();
        let led = described.partitions.iter().enumerate().filter(|(_, partition)| partition.leader.is_some());
        state.available.extend(led.map(|(index, _)| index));
        Ok(())
    }

    fn append(
        &mut self,
        now: Now,
        slot: usize,
        identity: Option<Identity>,
        record: &ProducerRecord<'_>,
        size_bound: usize,
    ) -> Result<(), SendError> {
        let full = |partition: &Partition| {
            partition.open_size().is_some_and(|size| size + size_bound > self.config.batch_size)
        };
        if self.partitions.get(slot).is_some_and(full) {
            self.seal(slot);
        }
        let Some(partition) = self.partitions.get_mut(slot) else { return Err(SendError::NotReady) };
        if partition.open_size().is_none() {
            let serial = self.next_batch;
            self.next_batch += 1;
            let options = BatchOptions {
                compression: self.config.compression,
                transactional: self.transactions.is_some(),
                ..BatchOptions::default()
            };
            partition.open(now, serial, identity, options);
            self.buffered_batches += 1;
            self.buffered_bytes += dohle_records::HEADER_SIZE;
            let lingered = now.after(self.config.linger);
            self.lingering.push_back((lingered, BatchRef { slot, serial }));
        }
        let added = partition.append(record.timestamp.unwrap_or(now.wall), record);
        self.buffered_bytes +=
            added.map_err(|_| SendError::TooLarge { size: size_bound, max: BATCH_SIZE_MAX })?;
        partition.open_is_due |= partition.open_size().is_some_and(|size| size >= self.config.batch_size);
        self.list(slot);
        Ok(())
    }
}

impl TopicState {
    /// The partition for a record without a key: one that has a leader, for a batch's worth of bytes, then another.
    fn stick(&mut self, size: usize, batch_size: usize, rng: &mut Rng) -> usize {
        if let Some((index, left)) = self.sticky
            && left > 0
        {
            self.sticky = Some((index, left.saturating_sub(size)));
            return index;
        }
        let candidates = if self.available.is_empty() { self.slots.len() } else { self.available.len() };
        let drawn = usize::try_from(rng.below(candidates as u64)).unwrap_or(0);
        let index = self.available.get(drawn).copied().unwrap_or(drawn);
        self.sticky = Some((index, batch_size.saturating_sub(size)));
        index
    }
}

impl Machine for Producer {
    fn handle(&mut self, now: Now, input: Input, effects: &mut Effects) {
        self.cluster.handle(now, input, effects);
        while let Some(reply) = self.cluster.next_reply() {
            self.on_reply(now, reply);
        }
        self.on_timeout(now);
        self.identify(now, effects);
        self.send_ready(now, effects);
        self.commit_offsets(now, effects);
        self.drive_transaction(now, effects);
        self.cluster.poll(now, effects);
    }

    fn next_timeout(&self) -> Option<Instant> {
        let lingering = self.lingering.front().map(|&(at, _)| at);
        let backing_off = self.backing_off.first().map(|&(at, _)| at);
        let identification = match self.identification {
            Identification::Wanted { at, .. } => Some(at).filter(|&at| at > self.cluster.polled_at()),
            Identification::Asked { .. } | Identification::Known(_) | Identification::Refused(_) => None,
        };
        let expiry = (self.buffered_batches > 0).then_some(self.expiry_check_at);
        let transactions = self.transactions.as_ref();
        let transaction = transactions.and_then(|it| it.next_timeout(self.cluster.polled_at()));
        let own = [lingering, backing_off, identification, transaction, expiry].into_iter().flatten();
        own.chain(self.cluster.next_timeout()).min()
    }
}
