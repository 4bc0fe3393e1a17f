//! What survives a restart: transactional ids and their last transaction, as the records of the log say.
//!
//! Only `replay.rs` changes it (invariant 1). How a transaction goes over from one status to the next is here as
//! well, as functions from the present one to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dohle_types::{ProducerEpoch, ProducerId, Str, Timestamp};

/// Partitions by topic.
pub type Partitions = BTreeMap<Str, BTreeSet<i32>>;

/// The greatest epoch: no client writes with it, so that the one before it can be fenced.
const EPOCH_MAX: ProducerEpoch = ProducerEpoch(i16::MAX);

/// A level of the feature `transaction.version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionVersion(pub i16);

impl TransactionVersion {
    /// Transactions as they were before KIP-890.
    pub const V0: Self = Self(0);
    /// Transactions v2 (KIP-890).
    pub const V2: Self = Self(2);

    /// Whether a producer gets a new epoch with every end of a transaction.
    #[must_use]
    pub fn bumps_epochs(self) -> bool {
        self >= Self::V2
    }
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnResult {
    /// With all its records.
    Commit,
    /// With none.
    Abort,
}

/// Where a transactional id stands (Kafka's `TransactionState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its producer has an id and an epoch, and has not begun.
    Empty,
    /// A transaction is open.
    Ongoing,
    /// A transaction is being ended.
    Prepare(TxnResult),
    /// A transaction has ended.
    Complete(TxnResult),
}

impl Status {
    /// Kafka's name, as tools show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::Prepare(TxnResult::Commit) => "PrepareCommit",
            Self::Prepare(TxnResult::Abort) => "PrepareAbort",
            Self::Complete(TxnResult::Commit) => "CompleteCommit",
            Self::Complete(TxnResult::Abort) => "CompleteAbort",
        }
    }

    /// Its number in the log.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::Empty => 0,
            Self::Ongoing => 1,
            Self::Prepare(TxnResult::Commit) => 2,
            Self::Prepare(TxnResult::Abort) => 3,
            Self::Complete(TxnResult::Commit) => 4,
            Self::Complete(TxnResult::Abort) => 5,
        }
    }

    /// The status with this number in the log; Kafka has more of them, which are never written.
    #[must_use]
    pub const fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Empty),
            1 => Some(Self::Ongoing),
            2 => Some(Self::Prepare(TxnResult::Commit)),
            3 => Some(Self::Prepare(TxnResult::Abort)),
            4 => Some(Self::Complete(TxnResult::Commit)),
            5 => Some(Self::Complete(TxnResult::Abort)),
            _ => None,
        }
    }

    /// Whether the end is decided and not all markers are written.
    #[must_use]
    pub const fn is_prepared(self) -> bool {
        matches!(self, Self::Prepare(_))
    }
}

/// A transactional id's producer and its last transaction (Kafka's `TransactionMetadata`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The producer that may write.
    pub producer_id: ProducerId,
    /// The producer id that the present one replaced in the last step, if it did.
    pub previous_producer_id: ProducerId,
    /// While a transaction is being ended: the producer id that will replace the present one, whose epochs are used
    /// up.
    pub next_producer_id: ProducerId,
    /// The producer's epoch.
    pub epoch: ProducerEpoch,
    /// How long a transaction may be open.
    pub timeout_ms: i32,
    /// Where it stands.
    pub status: Status,
    /// What the transaction has touched.
    pub partitions: Partitions,
    /// When any of this last changed.
    pub updated: Timestamp,
    /// When the last transaction began, or none since the producer was initialized.
    pub started: Timestamp,
    /// The version of transactions by which the client, or the coordinator on its behalf, last acted.
    pub client_version: TransactionVersion,
}

impl Transaction {
    /// That of a producer that has just been given its id and epoch.
    pub(crate) const fn empty(
        producer_id: ProducerId,
        epoch: ProducerEpoch,
        timeout_ms: i32,
        updated: Timestamp,
    ) -> Self {
        Self {
            producer_id,
            previous_producer_id: ProducerId::NONE,
            next_producer_id: ProducerId::NONE,
            epoch,
            timeout_ms,
            status: Status::Empty,
            partitions: Partitions::new(),
            updated,
            started: Timestamp::NONE,
            client_version: TransactionVersion::V0,
        }
    }

    /// Whether the producer has the last epoch that a client may write with, so that it needs a new id.
    pub(crate) const fn is_epoch_exhausted(&self) -> bool {
        is_exhausted(self.epoch)
    }

    /// With more partitions.
    pub(crate) fn with_partitions(
        &self,
        added: &Partitions,
        client_version: TransactionVersion,
        now: Timestamp,
    ) -> Self {
        let mut partitions = self.partitions.clone();
        for (topic, indexes) in added {
            partitions.entry(topic.clone()).or_default().extend(indexes);
        }
        Self {
            previous_producer_id: ProducerId::NONE,
            status: Status::Ongoing,
            partitions,
            started: if self.status == Status::Ongoing { self.started } else { now },
            updated: now,
            client_version,
            ..self.clone()
        }
    }

    /// On the way to its end. `next_producer_id` is that which it goes on with, if its epochs are used up.
    pub(crate) fn prepared(
        &self,
        result: TxnResult,
        epoch: ProducerEpoch,
        next_producer_id: ProducerId,
        client_version: TransactionVersion,
        now: Timestamp,
    ) -> Self {
        Self {
            previous_producer_id: ProducerId::NONE,
            next_producer_id,
            epoch,
            status: Status::Prepare(result),
            started: if self.status == Status::Ongoing { self.started } else { now },
            updated: now,
            client_version,
            ..self.clone()
        }
    }

    /// At its end, when all markers are written.
    pub(crate) fn completed(&self, result: TxnResult, now: Timestamp) -> Self {
        let rolls_over = self.next_producer_id != ProducerId::NONE;
        let (producer_id, epoch, previous_producer_id) = if rolls_over {
            (self.next_producer_id, ProducerEpoch(0), self.producer_id)
        } else {
            (self.producer_id, self.epoch, ProducerId::NONE)
        };
        Self {
            producer_id,
            previous_producer_id,
            next_producer_id: ProducerId::NONE,
            epoch,
            status: Status::Complete(result),
            partitions: Partitions::new(),
            updated: now,
            ..self.clone()
        }
    }

    /// When the coordinator aborts it, if it is open.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let timeout = Duration::from_millis(u64::try_from(self.timeout_ms).unwrap_or_default());
        (self.status == Status::Ongoing).then(|| self.started.plus(timeout))
    }

    /// Bytes that it and its transactional id take up in memory, about.
    pub(crate) fn bytes(&self, transactional_id: &str) -> usize {
        const TRANSACTION: usize = 256;
        TRANSACTION + transactional_id.len() + partitions_bytes(&self.partitions)
    }
}

/// Bytes that partitions take up in memory, about.
pub(crate) fn partitions_bytes(partitions: &Partitions) -> usize {
    const TOPIC: usize = 128;
    const PARTITION: usize = 16;
    partitions.iter().map(|(topic, indexes)| TOPIC + topic.len() + PARTITION * indexes.len()).sum()
}

/// How many there are.
pub(crate) fn partitions_count(partitions: &Partitions) -> usize {
    partitions.values().map(BTreeSet::len).sum()
}

/// Whether no client may write with a later epoch.
pub(crate) const fn is_exhausted(epoch: ProducerEpoch) -> bool {
    epoch.0 >= EPOCH_MAX.0 - 1
}

/// The next epoch; the greatest stays what it is.
pub(crate) const fn next_epoch(epoch: ProducerEpoch) -> ProducerEpoch {
    ProducerEpoch(epoch.0.saturating_add(1))
}

/// All transactional ids of a partition of `__transaction_state`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    transactions: BTreeMap<Str, Transaction>,
    /// Open transactions by their deadline.
    deadlines: BTreeSet<(Timestamp, Str)>,
    bytes: usize,
}

impl State {
    /// What is known of a transactional id.
    #[must_use]
    pub fn transaction(&self, transactional_id: &str) -> Option<&Transaction> {
        self.transactions.get(transactional_id)
    }

    /// All transactional ids in their order.
    pub fn transactions(&self) -> impl Iterator<Item = (&Str, &Transaction)> {
        self.transactions.iter()
    }

    /// How many transactional ids there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// Bytes that all of this takes up, about.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The open transaction that is aborted next.
    pub(crate) fn next_deadline(&self) -> Option<&(Timestamp, Str)> {
        self.deadlines.first()
    }

    /// Open transactions that have passed their deadline, the earliest first.
    pub(crate) fn due(&self, now: Timestamp) -> impl Iterator<Item = &(Timestamp, Str)> {
        self.deadlines.iter().take_while(move |(deadline, _)| *deadline <= now)
    }

    pub(crate) fn replay(&mut self, transactional_id: Str, transaction: Option<Transaction>) {
        if let Some(former) = self.transactions.remove(&transactional_id) {
            self.bytes -= former.bytes(&transactional_id);
            if let Some(deadline) = former.deadline() {
                self.deadlines.remove(&(deadline, transactional_id.clone()));
            }
        }
        let Some(transaction) = transaction else { return };
        self.bytes += transaction.bytes(&transactional_id);
        if let Some(deadline) = transaction.deadline() {
            self.deadlines.insert((deadline, transactional_id.clone()));
        }
        self.transactions.insert(transactional_id, transaction);
    }
}
