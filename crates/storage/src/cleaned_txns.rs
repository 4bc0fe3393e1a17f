//! What compaction knows of the transactions in the part of the log that it walks over (Kafka's
//! `CleanedTransactionMetadata`): records of aborted ones go, and so does a marker once its transaction has no
//! records left.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dohle_records::{Batch, Decompressor};
use dohle_types::{FastMap, FastSet, Offset, ProducerId};

use crate::append::marker;
use crate::txn_index::AbortedTxn;

#[derive(Debug, Default)]
pub(crate) struct CleanedTxns {
    /// Aborted transactions that begin further on, the first one first.
    ahead: BinaryHeap<Reverse<ByFirstOffset>>,
    /// Aborted ones that the walk is in, and whether it has seen a batch of them.
    aborted: FastMap<ProducerId, (AbortedTxn, bool)>,
    /// Producers of others that the walk is in.
    committed: FastSet<ProducerId>,
    /// Those whose marker stays, for the index of the segment that is being written.
    pub(crate) kept: Vec<AbortedTxn>,
}

#[derive(Debug, PartialEq, Eq)]
struct ByFirstOffset(AbortedTxn);

impl Ord for ByFirstOffset {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |txn: &AbortedTxn| (txn.first_offset, txn.last_offset);
        key(&self.0).cmp(&key(&other.0))
    }
}

impl PartialOrd for ByFirstOffset {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl CleanedTxns {
    /// Adds aborted transactions of the part that comes next. One that is known already does no harm.
    pub(crate) fn expect(&mut self, aborted: Vec<AbortedTxn>) {
        self.ahead.extend(aborted.into_iter().map(|txn| Reverse(ByFirstOffset(txn))));
    }

    /// Takes note of the next batch; whether its records are of no use: those of an aborted transaction, or a marker
    /// of a transaction without records.
    pub(crate) fn pass(&mut self, batch: &Batch, decompressor: &mut Decompressor) -> bool {
        let header = batch.header();
        self.enter(header.last_offset());
        let producer_id = header.producer_id;
        if header.attributes.is_control() {
            if header.record_count == 0 {
                return true;
            }
            return match marker(batch, decompressor) {
                Ok(Some(marker)) if marker.is_abort => match self.aborted.remove(&producer_id) {
                    Some((txn, true)) => {
                        self.kept.push(txn);
                        false
                    }
                    Some((_, false)) | None => true,
                },
                Ok(Some(_)) => !self.committed.remove(&producer_id),
                Ok(None) | Err(_) => false,
            };
        }
        if !header.attributes.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&producer_id) {
            Some((_, seen)) => {
                *seen = true;
                true
            }
            None => {
                self.committed.insert(producer_id);
                false
            }
        }
    }

    fn enter(&mut self, last_offset: Offset) {
        while let Some(Reverse(ByFirstOffset(txn))) = self.ahead.peek() {
            if txn.first_offset > last_offset {
                break;
            }
            self.aborted.entry(txn.producer_id).or_insert((*txn, false));
            self.ahead.pop();
        }
    }
}
