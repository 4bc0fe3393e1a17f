//! What a call needs to know of the host, and what it asks of it.

use std::fmt;

use bytes::Bytes;
use dohle_types::{ErrorCode, Now, ProducerEpoch, ProducerId, Str};

use crate::state::{Partitions, TransactionVersion, TxnResult};

/// What a call needs to know, and where it puts its effects.
pub struct Turn<'a> {
    /// The clocks.
    pub now: Now,
    /// The cluster's `transaction.version`.
    pub version: TransactionVersion,
    /// Takes a producer id that was never given to anybody; none if the broker has to reserve more of them first.
    pub take_producer_id: &'a mut dyn FnMut() -> Option<ProducerId>,
    /// What the call asks for.
    pub effects: &'a mut Effects,
}

impl fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("now", &self.now).field("version", &self.version).finish_non_exhaustive()
    }
}

/// A record for `__transaction_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key, with its version before it.
    pub key: Bytes,
    /// The value, with its version before it; none to delete what the key names.
    pub value: Option<Bytes>,
}

/// What a call asks of the host; see the crate's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// To be appended together.
    pub records: Vec<Record>,
    /// To be written once everything appended so far is committed.
    pub markers: Vec<Marker>,
}

/// The end of a transaction, to be told to the partitions that it has touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Whose transaction.
    pub transactional_id: Str,
    /// The producer that wrote it.
    pub producer_id: ProducerId,
    /// The epoch of the marker: that of the transaction, or with transactions v2 the next one.
    pub producer_epoch: ProducerEpoch,
    /// How it ended.
    pub result: TxnResult,
    /// The term of this coordinator.
    pub coordinator_epoch: i32,
    /// With version 2 the marker's epoch has to be greater than that of what it ends (KIP-1228).
    pub transaction_version: TransactionVersion,
    /// Where it goes.
    pub partitions: Partitions,
}

/// What became of a marker in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerOutcome {
    /// The partition has it, or has no need of it: it is gone, or has seen a later epoch of the producer.
    Done,
    /// The partition cannot take it now.
    Refused,
    /// The partition knows of a newer coordinator.
    Fenced,
}

impl MarkerOutcome {
    /// What an answer to WriteTxnMarkers means.
    ///
    /// Differs from Kafka: a partition that has seen a later epoch of the producer counts as done; Kafka leaves the
    /// transaction as it is until the coordinator starts anew.
    #[must_use]
    pub const fn from_error(error: ErrorCode) -> Self {
        let needs_none = matches!(
            error,
            ErrorCode::None
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::InvalidProducerEpoch
                | ErrorCode::UnsupportedForMessageFormat
        );
        if needs_none {
            Self::Done
        } else if matches!(error, ErrorCode::TransactionCoordinatorFenced) {
            Self::Fenced
        } else {
            Self::Refused
        }
    }
}

/// Whether a long piece of work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Nothing is left to do.
    Done,
    /// A batch is full: call again once its records are replayed.
    More,
}
