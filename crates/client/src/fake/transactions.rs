//! The coordinator of one producer's transactions, as of KIP-890: each has an epoch of its own.

use std::collections::BTreeMap;

use bytes::Bytes;
use dohle_protocol::messages::{
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse,
};
use dohle_records::BatchHeader;
use dohle_types::ErrorCode;

use super::Log;

const PRODUCER_ID: i64 = 7;

/// What the coordinator knows.
#[derive(Default)]
pub(crate) struct Coordinator {
    epoch: i16,
    /// Whether the transaction of an epoch was committed.
    pub(crate) ended: BTreeMap<i16, bool>,
}

impl Coordinator {
    /// Gives out the producer id; with a transactional id, a new epoch, which aborts what is open.
    pub(super) fn init(&mut self, request: &InitProducerIdRequest, works: bool) -> InitProducerIdResponse {
        if request.transactional_id.is_some() && works {
            self.fence();
        }
        InitProducerIdResponse { producer_id: PRODUCER_ID, producer_epoch: self.epoch, ..Default::default() }
    }

    /// Another producer with the same transactional id begins.
    pub(crate) fn fence(&mut self) {
        self.ended.insert(self.epoch, false);
        // One more than after an abort that was asked for, which may be asked for again.
        self.epoch += 2;
    }

    pub(super) fn end(&mut self, request: &EndTxnRequest) -> EndTxnResponse {
        let is_repeated = request.producer_epoch + 1 == self.epoch
            && self.ended.get(&request.producer_epoch) == Some(&request.committed);
        if request.producer_epoch == self.epoch {
            self.ended.insert(self.epoch, request.committed);
            self.epoch += 1;
        } else if !is_repeated {
            return EndTxnResponse { error_code: ErrorCode::ProducerFenced.code(), ..Default::default() };
        }
        EndTxnResponse { producer_id: PRODUCER_ID, producer_epoch: self.epoch, ..Default::default() }
    }

    pub(super) fn is_current(&self, header: &BatchHeader) -> bool {
        header.producer_id.0 == PRODUCER_ID && header.producer_epoch.0 == self.epoch
    }

    /// The values of a log's records that are committed, in order.
    pub(crate) fn committed(&self, log: &Log) -> Vec<String> {
        let is_committed = |batch: &&Bytes| {
            let header = BatchHeader::parse(batch).unwrap();
            !header.attributes.is_transactional() || self.ended.get(&header.producer_epoch.0) == Some(&true)
        };
        let batches = log.batches.iter().filter(is_committed).cloned().collect();
        Log { batches, ..Log::default() }.values()
    }
}
