//! AddPartitionsToTxn (key 24, versions 0-5): what a transaction is going to write to, or the question whether it does.
//!
//! - 2: PRODUCER_FENCED (KIP-588). 3: flexible. 4: many transactional ids at once, and the question (KIP-890); brokers
//!   send it. 5: TRANSACTION_ABORTABLE.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use dohle_controller::is_internal_topic;
use dohle_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use dohle_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use dohle_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use dohle_types::ErrorCode;

use crate::connection::Call;
use crate::group_hosts::OFFSETS_TOPIC;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=5;

pub(super) fn handle(node: &mut Node, call: Call, request: AddPartitionsToTxnRequest) {
    let transactions = if call.version >= 4 {
        request.transactions
    } else {
        vec![AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
        }]
    };
    let mut asked = BTreeSet::new();
    let mut results = Vec::with_capacity(transactions.len());
    for transaction in &transactions {
        results.push(match add(node, &call, transaction) {
            Ok((index, result)) => {
                asked.insert(index);
                result
            }
            Err(error) => refused(transaction, |topic, partition| {
                error.unwrap_or_else(|| {
                    let refused = refusal(node, call.version, topic, partition);
                    refused.unwrap_or(ErrorCode::OperationNotAttempted)
                })
            }),
        });
    }
    let asked: Vec<i32> = asked.into_iter().collect();
    let mut response = AddPartitionsToTxnResponse::default();
    if call.version >= 4 {
        response.results_by_transaction = results;
    } else {
        response.results_by_topic_v3_and_below =
            results.into_iter().next().map(|result| result.topic_results).unwrap_or_default();
    }
    node.answer_from_txns(&asked, call, &response);
}

/// The ledger that was asked, and what it says; `None` instead of an error where a partition cannot be added, and so
/// none is.
fn add(
    node: &mut Node,
    call: &Call,
    transaction: &AddPartitionsToTxnTransaction,
) -> Result<(i32, AddPartitionsToTxnResult), Option<ErrorCode>> {
    let version = call.version;
    let is_refused = |topic: &AddPartitionsToTxnTopic| {
        topic.partitions.iter().any(|&partition| refusal(node, version, topic, partition).is_some())
    };
    if transaction.topics.iter().any(is_refused) {
        return Err(None);
    }
    let index = node.txn_coordinator_of(&transaction.transactional_id)?;
    let result = node.run_txns(index, |ledger, turn| ledger.add_partitions(turn, version, transaction));
    Ok((index, result.ok_or(ErrorCode::NotCoordinator)?))
}

/// Why a partition cannot be added. Clients add none of the internal topics; of those, brokers add that of offsets.
fn refusal(
    node: &Node,
    version: i16,
    topic: &AddPartitionsToTxnTopic,
    partition: i32,
) -> Option<ErrorCode> {
    if is_internal_topic(&topic.name) && (version < 4 || topic.name != OFFSETS_TOPIC) {
        return Some(ErrorCode::TopicAuthorizationFailed);
    }
    let partitions = node.image().topic(&topic.name).map_or(0, |topic| topic.partitions.len());
    let is_known = usize::try_from(partition).is_ok_and(|partition| partition < partitions);
    (!is_known).then_some(ErrorCode::UnknownTopicOrPartition)
}

fn refused(
    transaction: &AddPartitionsToTxnTransaction,
    error: impl Fn(&AddPartitionsToTxnTopic, i32) -> ErrorCode,
) -> AddPartitionsToTxnResult {
    AddPartitionsToTxnResult {
        transactional_id: transaction.transactional_id.clone(),
        topic_results: transaction
            .topics
            .iter()
            .map(|topic| AddPartitionsToTxnTopicResult {
                name: topic.name.clone(),
                results_by_partition: topic
                    .partitions
                    .iter()
                    .map(|&partition_index| AddPartitionsToTxnPartitionResult {
                        partition_index,
                        partition_error_code: error(topic, partition_index).code(),
                    })
                    .collect(),
            })
            .collect(),
    }
}
