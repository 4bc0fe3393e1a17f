//! OffsetForLeaderEpoch (key 23, versions 2-4): where a leader epoch ended (KIP-101), by which a consumer notices
//! that its position was cut off (KIP-320).

use std::ops::RangeInclusive;

use dohle_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use dohle_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use dohle_types::{ErrorCode, LeaderEpoch, Offset, Str, TopicId};

use super::k01_fetch::leading_partition;
use crate::connection::Call;
use crate::fetch_session::FetchKey;
use crate::node::Node;
use crate::partition::PartitionKey;

pub(super) const VERSIONS: RangeInclusive<i16> = 2..=4;

/// The partitions it names whose logs are not open.
pub(super) fn unopened(node: &Node, request: &OffsetForLeaderEpochRequest) -> Vec<PartitionKey> {
    let named = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|wanted| (TopicId::ZERO, &*topic.topic, wanted.partition))
    });
    node.unopened(named)
}

pub(super) fn handle(node: &mut Node, call: Call, request: OffsetForLeaderEpochRequest) {
    let topics = request
        .topics
        .into_iter()
        .map(|topic| {
            let partitions = topic
                .partitions
                .iter()
                .map(|wanted| {
                    let epoch = LeaderEpoch(wanted.leader_epoch);
                    let end = end_offset(node, &topic.topic, wanted.partition, wanted.current_leader_epoch, epoch);
                    let (leader_epoch, offset) = end.unwrap_or((LeaderEpoch::NONE, Offset(-1)));
                    EpochEndOffset {
                        error_code: end.err().unwrap_or_default().code(),
                        partition: wanted.partition,
                        leader_epoch: leader_epoch.0,
                        end_offset: offset.0,
                    }
                })
                .collect();
            OffsetForLeaderTopicResult {
                topic: topic.topic,
                partitions,
            }
        })
        .collect();
    node.reply(&call, &OffsetForLeaderEpochResponse { topics, ..OffsetForLeaderEpochResponse::default() });
}

fn end_offset(
    node: &Node,
    topic: &Str,
    partition: i32,
    current_leader_epoch: i32,
    epoch: LeaderEpoch,
) -> Result<(LeaderEpoch, Offset), ErrorCode> {
    let key = FetchKey { topic_id: TopicId::ZERO, topic: topic.clone(), partition };
    let partition = leading_partition(node, &key, current_leader_epoch)?;
    let log = partition.log().ok_or(partition.unavailable())?;
    Ok(log.epoch_end_offset(epoch))
}
