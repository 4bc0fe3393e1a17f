//! The transaction coordinator's ledger over one partition of `__transaction_state` (KIP-98, KIP-890): who writes
//! under a transactional id, what its transaction has touched, and how it ended.
//!
//! What it is not: it knows no log, no sockets and no authorization, and writes no markers itself. Its host tells it
//! which partition of `__consumer_offsets` a group's offsets are in, checks that the partitions in requests exist,
//! and answers while a partition is loading.
//!
//! Inputs: a request of the wire, what became of markers, a timeout, a record of the log. Effects: [`Effects`]. The
//! contract is that of `dohle-ledger`. For each call that takes a [`Turn`] the host
//!
//! 1. appends [`Effects::records`], if any, as one batch, or as several in their order if they are more than fits in
//!    one,
//! 2. gives each of them to [`TransactionLedger::replay`] at once, before any other call,
//! 3. holds the response that the call returned, and [`Effects::markers`], until the log is committed up to its end
//!    (`dohle_ledger::CommitQueue`), also where the call wrote nothing: they may speak of records that are still on
//!    their way,
//! 4. sets its timer to [`TransactionLedger::next_timeout`],
//! 5. has each marker written to its partitions, and tells what became of it by [`TransactionLedger::on_markers`].
//!
//! If the append fails, the ledger has promised what is not in the log: the host drops it.
//!
//! Life of a ledger: [`TransactionLedger::new`], [`TransactionLedger::replay`] for each record of the log,
//! [`TransactionLedger::on_loaded`], which takes up the transactions that were being ended, then all else.
//!
//! # A transaction
//!
//! ```text
//!            AddPartitions           EndTxn, timeout,               all markers
//!            AddOffsets              another InitProducerId         are written
//!   Empty ───────────────▶ Ongoing ──────────────────▶ PrepareCommit ─────────▶ CompleteCommit
//!     ▲                      ▲                         PrepareAbort             CompleteAbort
//!     │ InitProducerId       └─────────────────────────────────────────────────────┘  │
//!     └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Clients of transactions v2 (KIP-890) get a new epoch with every end of a transaction: what was sent before is told
//! apart from what comes after it, in the partitions by the marker's epoch and here by the request's.
//!
//! Invariants:
//! 1. Durable state ([`State`]) changes only in `replay`: after a restart it is what it was.
//! 2. A transaction's end is decided once: from `Prepare…` it goes on to the `Complete…` of the same name.
//! 3. `Complete…` is written when each partition has its marker, and no partition gets one before `Prepare…` is
//!    committed.
//! 4. A producer id and epoch that a client was given are never given to another one.
//! 5. The epoch of a producer id never goes back, and the one that a client writes with is never the greatest: there
//!    is always one left to fence it with.
//!
//! Start reading at `state.rs`, then `end_txn.rs`; each request has a file of its own.

mod add_partitions;
mod config;
mod describe;
mod effects;
mod end_txn;
mod init_producer_id;
mod list;
mod markers;
mod records;
mod replay;
pub mod state;
mod timers;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use dohle_types::time::Instant;
use dohle_types::{ProducerEpoch, ProducerId, Str};

pub use config::TransactionsConfig;
pub use effects::{Effects, Marker, MarkerOutcome, Progress, Record, Turn};
pub use list::{InvalidPattern, ListFilter};
pub use replay::{ReplayError, Replayed};
pub use state::State;

use markers::Unwritten;

/// The transactional ids of one partition of `__transaction_state`. The crate's documentation tells how to drive it.
#[derive(Debug)]
pub struct TransactionLedger {
    config: TransactionsConfig,
    /// The leader epoch of the partition, by which a deposed coordinator's markers are told.
    coordinator_epoch: i32,
    state: State,
    /// Epochs that a producer was given in place of an older one of its own.
    bumps: BTreeMap<Str, Bump>,
    /// What transactions that are being ended wait for.
    unwritten: BTreeMap<Str, Unwritten>,
    /// When to have markers written again.
    retries: BTreeSet<(Instant, Str)>,
    stats: TxnStats,
}

/// What became of transactions since the ledger was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxnStats {
    /// Those that were committed,
    pub committed: u64,
    /// and aborted, whoever asked for it;
    pub aborted: u64,
    /// of these, because their time was over.
    pub timed_out: u64,
}

/// An InitProducerId or EndTxn that gave a producer its next epoch (KIP-360, KIP-890). If the answer was lost, the
/// producer asks for an epoch with the one that it still knows. As with Kafka, a coordinator that starts anew does
/// not remember it.
#[derive(Clone, Copy, Debug)]
struct Bump {
    from: ProducerEpoch,
    to: (ProducerId, ProducerEpoch),
}

impl TransactionLedger {
    /// A ledger that knows no transactional id yet.
    #[must_use]
    pub fn new(config: TransactionsConfig, coordinator_epoch: i32) -> Self {
        Self {
            config,
            coordinator_epoch,
            state: State::default(),
            bumps: BTreeMap::new(),
            unwritten: BTreeMap::new(),
            retries: BTreeSet::new(),
            stats: TxnStats::default(),
        }
    }

    /// What became of transactions.
    #[must_use]
    pub const fn stats(&self) -> TxnStats {
        self.stats
    }

    /// What survives a restart, to be read.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Takes up the transactions whose end was decided: their markers are written, for some a second time.
    pub fn on_loaded(&mut self, turn: &mut Turn<'_>) {
        self.stats = TxnStats::default();
        let decided: Vec<Str> = self
            .state
            .transactions()
            .filter(|(_, transaction)| transaction.status.is_prepared())
            .map(|(transactional_id, _)| transactional_id.clone())
            .collect();
        for transactional_id in decided {
            let Some(transaction) = self.state.transaction(&transactional_id).cloned() else { continue };
            self.write_markers(&transactional_id, &transaction, turn);
        }
    }
}
