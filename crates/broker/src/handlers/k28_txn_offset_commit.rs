//! TxnOffsetCommit (key 28, versions 0-5): a transaction commits offsets of a group; they count when it is committed.
//!
//! What is done with groups and members stands in `dohle_groups`' `offsets_txn.rs`. The first commit of a transaction in a
//! partition of `__consumer_offsets` waits until the transaction's coordinator knows of it, as batches do
//! (`txn_produce.rs`).
//!
//! - 2: leader epochs (KIP-320). 3: flexible; the member that has read them (KIP-447). 4: TRANSACTION_ABORTABLE may be
//!   answered. 5: of clients of transactions v2, for which the partition is added to the transaction (KIP-890).

use std::ops::RangeInclusive;

use dohle_configs::broker;
use dohle_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use dohle_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use dohle_protocol::messages::offset_commit_response::OffsetCommitResponseTopic;
use dohle_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use dohle_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use dohle_protocol::messages::{OffsetCommitRequest, TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use dohle_types::{ErrorCode, ProducerEpoch, ProducerId, Str};

use crate::connection::Call;
use crate::group_hosts::OFFSETS_TOPIC;
use crate::handlers::k08_offset_commit;
use crate::ledger_hosts::Held;
use crate::node::{Node, Phase};

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=5;

pub(super) fn handle(node: &mut Node, call: Call, request: TxnOffsetCommitRequest) {
    match admit(node, &call, &request) {
        Ok(None) => commit(node, call, request),
        Ok(Some(coordinator)) => {
            node.hold_in_txns(coordinator, Held::TxnOffsetCommit(call, Box::new(request)));
        }
        Err(error) => refuse_all(node, &call, &request, error),
    }
}

/// The transaction's coordinator, if it has to be waited for.
fn admit(node: &mut Node, call: &Call, request: &TxnOffsetCommitRequest) -> Result<Option<i32>, ErrorCode> {
    let index = node.coordinator_of(&request.group_id)?;
    let producer = (ProducerId(request.producer_id), ProducerEpoch(request.producer_epoch));
    let log = node.partition_of(&Str::const_new(OFFSETS_TOPIC), index)?.log();
    let is_begun = log.is_some_and(|log| log.has_open_transaction(producer.0, producer.1));
    let adds = call.version >= 5;
    if is_begun || !(adds || node.config.value(broker::TRANSACTION_PARTITION_VERIFICATION_ENABLE)) {
        return Ok(None);
    }
    let id = &request.transactional_id;
    let coordinator = node.txn_coordinator_of(id).map_err(|_| ErrorCode::CoordinatorNotAvailable)?;
    let question = AddPartitionsToTxnTransaction {
        transactional_id: id.clone(),
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
        verify_only: !adds,
        topics: vec![AddPartitionsToTxnTopic { name: OFFSETS_TOPIC.into(), partitions: vec![index] }],
    };
    let version = if call.version >= 4 { 5 } else { 4 };
    let answer = node.run_txns(coordinator, |ledger, turn| ledger.add_partitions(turn, version, &question));
    let code = answer.and_then(|answer| {
        let partition = answer.topic_results.first()?.results_by_partition.first()?;
        ErrorCode::from_code(partition.partition_error_code)
    });
    let code = code.unwrap_or(ErrorCode::CoordinatorNotAvailable);
    if code == ErrorCode::ConcurrentTransactions {
        Err(ErrorCode::CoordinatorNotAvailable)
    } else if code == ErrorCode::ProducerFenced {
        Err(ErrorCode::InvalidProducerEpoch)
    } else if code.is_none() {
        Ok(Some(coordinator))
    } else {
        Err(code)
    }
}

/// The transaction's coordinator knows of it.
pub(crate) fn commit(node: &mut Node, call: Call, request: TxnOffsetCommitRequest) {
    if !matches!(node.phase, Phase::Serving) {
        return node.close(&call, "the node stops");
    }
    let index = match node.coordinator_of(&request.group_id) {
        Ok(index) => index,
        Err(error) => return refuse_all(node, &call, &request, error),
    };
    let mut refused = Vec::new();
    let topics = request.topics.iter().map(plain_topic).collect::<Vec<_>>();
    let topics = topics.into_iter().filter_map(|topic| k08_offset_commit::resolve(node, topic, &mut refused));
    let plain = OffsetCommitRequest {
        topics: topics.collect(),
        group_id: request.group_id.clone(),
        generation_id_or_member_epoch: request.generation_id,
        member_id: request.member_id.clone(),
        group_instance_id: request.group_instance_id.clone(),
        retention_time_ms: -1,
    };
    let producer = (ProducerId(request.producer_id), ProducerEpoch(request.producer_epoch));
    match node.commit_in_transaction(index, producer, &plain) {
        Ok(response) => {
            let topics = response.topics.into_iter().chain(refused).map(topic_response).collect();
            let response = TxnOffsetCommitResponse { topics, ..TxnOffsetCommitResponse::default() };
            node.answer_from_group(index, call, &response);
        }
        Err(error) => refuse_all(node, &call, &request, error),
    }
}

fn plain_topic(topic: &TxnOffsetCommitRequestTopic) -> OffsetCommitRequestTopic {
    let partitions = topic.partitions.iter().map(|partition| OffsetCommitRequestPartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        committed_metadata: partition.committed_metadata.clone(),
    });
    OffsetCommitRequestTopic {
        name: topic.name.clone(),
        partitions: partitions.collect(),
        ..OffsetCommitRequestTopic::default()
    }
}

fn topic_response(topic: OffsetCommitResponseTopic) -> TxnOffsetCommitResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| TxnOffsetCommitResponsePartition {
        partition_index: partition.partition_index,
        error_code: partition.error_code,
    });
    TxnOffsetCommitResponseTopic { name: topic.name, partitions: partitions.collect() }
}

fn refuse_all(node: &mut Node, call: &Call, request: &TxnOffsetCommitRequest, error: ErrorCode) {
    // Clients of before version 2 stop at a coordinator that loads (KAFKA-7296).
    let loads = error == ErrorCode::CoordinatorLoadInProgress && call.version < 2;
    let error = if loads { ErrorCode::CoordinatorNotAvailable } else { error };
    let topics = request.topics.iter().map(|topic| TxnOffsetCommitResponseTopic {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| TxnOffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: error.code(),
            })
            .collect(),
    });
    let response = TxnOffsetCommitResponse { topics: topics.collect(), ..Default::default() };
    node.reply(call, &response);
}
