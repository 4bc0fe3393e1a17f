//! The coordinator of one producer's transactions, as of KIP-890: each has an epoch of its own.

use std::collections::BTreeMap;

use bytes::Bytes;
use dohle_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use dohle_protocol::messages::{
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
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
    /// The offsets of each epoch's transaction, by group and partition.
    offsets: BTreeMap<i16, BTreeMap<(String, i32), i64>>,
}

/// The generation of a group's members that may commit.
pub(crate) const GENERATION: i32 = 3;

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

    /// As the coordinator of any group.
    pub(super) fn commit_offsets(
        &mut self,
        request: &TxnOffsetCommitRequest,
        refused: Option<ErrorCode>,
    ) -> TxnOffsetCommitResponse {
        let error = if let Some(refused) = refused {
            refused
        } else if request.producer_epoch != self.epoch {
            ErrorCode::InvalidProducerEpoch
        } else if request.generation_id != GENERATION {
            ErrorCode::IllegalGeneration
        } else {
            ErrorCode::None
        };
        let mut topics = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for partition in &topic.partitions {
                let partition_index = partition.partition_index;
                if error.is_none() {
                    let key = (request.group_id.to_string(), partition_index);
                    self.offsets.entry(self.epoch).or_default().insert(key, partition.committed_offset);
                }
                partitions
                    .push(TxnOffsetCommitResponsePartition { partition_index, error_code: error.code() });
            }
            topics.push(TxnOffsetCommitResponseTopic { name: topic.name.clone(), partitions });
        }
        TxnOffsetCommitResponse { topics, ..Default::default() }
    }

    /// The offset that a group has committed for a partition.
    pub(crate) fn committed_offset(&self, group: &str, partition: i32) -> Option<i64> {
        let committed = self.offsets.iter().filter(|(epoch, _)| self.ended.get(epoch) == Some(&true));
        committed.filter_map(|(_, offsets)| offsets.get(&(group.to_owned(), partition))).copied().last()
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
