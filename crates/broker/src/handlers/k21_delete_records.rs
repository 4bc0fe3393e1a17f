//! DeleteRecords (key 21, versions 0-2): moves the start of a log forward. Offset -1 is the high watermark.

use std::ops::RangeInclusive;

use dohle_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use dohle_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use dohle_types::{ErrorCode, Offset, Str, TopicId};

use crate::connection::Call;
use crate::node::Node;
use crate::partition::{PartitionKey, Tenant};

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=2;

const HIGH_WATERMARK: i64 = -1;

/// The partitions it names whose logs are not open.
pub(super) fn unopened(node: &Node, request: &DeleteRecordsRequest) -> Vec<PartitionKey> {
    let named = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|wanted| (TopicId::ZERO, &*topic.name, wanted.partition_index))
    });
    node.unopened(named)
}

pub(super) fn handle(node: &mut Node, call: Call, request: DeleteRecordsRequest) {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partitions = topic
            .partitions
            .into_iter()
            .map(|wanted| {
                let deleted = delete(node, &topic.name, wanted.partition_index, wanted.offset);
                DeleteRecordsPartitionResult {
                    partition_index: wanted.partition_index,
                    low_watermark: deleted.map_or(-1, |start| start.0),
                    error_code: deleted.err().unwrap_or_default().code(),
                }
            })
            .collect();
        topics.push(DeleteRecordsTopicResult {
            name: topic.name,
            partitions,
        });
    }
    node.reply(&call, &DeleteRecordsResponse { topics, ..DeleteRecordsResponse::default() });
}

fn delete(node: &mut Node, topic: &Str, index: i32, offset: i64) -> Result<Offset, ErrorCode> {
    let now = node.now;
    let topic_id = node.topic_id(TopicId::ZERO, topic)?;
    let key = node.partitions.key(topic_id, index);
    let partition = key.and_then(|key| node.partitions.by_key_mut(key));
    let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if partition.tenant != Tenant::None {
        return Err(ErrorCode::InvalidTopicException);
    }
    let high_watermark = partition.high_watermark();
    let unavailable = partition.unavailable();
    let log = partition.log_mut().ok_or(unavailable)?;
    // Kafka refuses this for topics that are only compacted: a consumer relies on finding the last value of a key.
    if !log.config().cleanup_policy.delete && log.config().cleanup_policy.compact {
        return Err(ErrorCode::PolicyViolation);
    }
    let to = if offset == HIGH_WATERMARK { high_watermark } else { Offset(offset) };
    if to.0 < 0 || to > high_watermark || to < log.start_offset() {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    log.delete_records_before(now, to);
    Ok(log.start_offset())
}
