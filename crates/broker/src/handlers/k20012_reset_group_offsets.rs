//! ResetGroupOffsets (key 20012, versions 0-0): has a group go on from other offsets while its members run. Dohle's own.
//!
//! All offsets are set, or none: UNKNOWN_TOPIC_OR_PARTITION for what does not exist, REBALANCE_IN_PROGRESS while the
//! group rebalances, GROUP_ID_NOT_FOUND where there is none. How it is done stands in `dohle_groups`'
//! `offsets_reset.rs`. An offset beyond the log's ends is taken as it is: `auto.offset.reset` of the client decides.

use std::ops::RangeInclusive;

use dohle_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use dohle_protocol::messages::{OffsetCommitRequest, ResetGroupOffsetsRequest, ResetGroupOffsetsResponse};
use dohle_types::{ErrorCode, LeaderEpoch, PartitionIndex};

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=0;

pub(super) fn handle(node: &mut Node, call: Call, request: ResetGroupOffsetsRequest) {
    let commit = match as_commit(node, request) {
        Ok(commit) => commit,
        Err(message) => {
            return node.reply(&call, &refusal(ErrorCode::UnknownTopicOrPartition, Some(message)));
        }
    };
    node.ask_group(
        call,
        &commit.group_id,
        |error| refusal(error, None),
        |ledger, turn| match ledger.reset_offsets(turn, &commit) {
            Ok(members) => ResetGroupOffsetsResponse {
                member_count: i32::try_from(members).unwrap_or(i32::MAX),
                ..ResetGroupOffsetsResponse::default()
            },
            Err(error) => refusal(error.code(), Some(error.to_string())),
        },
    );
}

/// The request as a commit, its topics with their ids; what does not exist, if anything.
fn as_commit(node: &Node, request: ResetGroupOffsetsRequest) -> Result<OffsetCommitRequest, String> {
    let topics = request.topics.into_iter().map(|topic| {
        let known = node.image().topic(&topic.name);
        let known = known.ok_or_else(|| format!("there is no topic {}", topic.name))?;
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            if known.partitions.contains_key(&PartitionIndex(index)) {
                Ok(OffsetCommitRequestPartition {
                    partition_index: index,
                    committed_offset: partition.offset,
                    committed_leader_epoch: LeaderEpoch::NONE.0,
                    committed_metadata: None,
                })
            } else {
                Err(format!("topic {} has no partition {index}", topic.name))
            }
        });
        Ok::<_, String>(OffsetCommitRequestTopic {
            topic_id: known.id.0,
            partitions: partitions.collect::<Result<_, _>>()?,
            name: topic.name,
        })
    });
    Ok(OffsetCommitRequest {
        topics: topics.collect::<Result<_, _>>()?,
        group_id: request.group_id,
        ..OffsetCommitRequest::default()
    })
}

fn refusal(error: ErrorCode, message: Option<String>) -> ResetGroupOffsetsResponse {
    ResetGroupOffsetsResponse {
        error_code: error.code(),
        error_message: message.map(Into::into),
        ..ResetGroupOffsetsResponse::default()
    }
}
