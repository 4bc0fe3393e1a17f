//! DescribeProducers (key 61, version 0): the producers that a partition's log knows (KIP-664).

use std::ops::RangeInclusive;

use dohle_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use dohle_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};
use dohle_types::{ErrorCode, Str, TopicId};

use super::k01_fetch::leading_partition;
use crate::connection::Call;
use crate::fetch_session::FetchKey;
use crate::node::Node;
use crate::partition::PartitionKey;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=0;

/// The partitions it names whose logs are not open.
pub(super) fn unopened(node: &Node, request: &DescribeProducersRequest) -> Vec<PartitionKey> {
    let named = request.topics.iter().flat_map(|topic| {
        topic.partition_indexes.iter().map(|&index| (TopicId::ZERO, &*topic.name, index))
    });
    node.unopened(named)
}

pub(super) fn handle(node: &mut Node, call: Call, request: DescribeProducersRequest) {
    let topics = request
        .topics
        .into_iter()
        .map(|topic| TopicResponse {
            partitions: topic
                .partition_indexes
                .iter()
                .map(|&partition_index| {
                    let producers = producers(node, &topic.name, partition_index);
                    PartitionResponse {
                        partition_index,
                        error_code: producers.as_ref().err().copied().unwrap_or_default().code(),
                        active_producers: producers.unwrap_or_default(),
                        ..PartitionResponse::default()
                    }
                })
                .collect(),
            name: topic.name,
        })
        .collect();
    node.reply(&call, &DescribeProducersResponse { topics, ..DescribeProducersResponse::default() });
}

fn producers(node: &Node, topic: &Str, partition: i32) -> Result<Vec<ProducerState>, ErrorCode> {
    let key = FetchKey { topic_id: TopicId::ZERO, topic: topic.clone(), partition };
    let partition = leading_partition(node, &key, -1)?;
    let log = partition.log().ok_or(partition.unavailable())?;
    let producers = log.producers().map(|(id, state)| ProducerState {
        producer_id: id.0,
        producer_epoch: i32::from(state.epoch.0),
        last_sequence: state.last_batch().map_or(-1, |batch| batch.last_sequence.0),
        last_timestamp: state.last_timestamp.0,
        coordinator_epoch: state.coordinator_epoch,
        current_txn_start_offset: state.transaction_start.map_or(-1, |offset| offset.0),
    });
    Ok(producers.collect())
}
