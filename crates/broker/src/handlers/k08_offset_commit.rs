//! OffsetCommit (key 8, versions 2-10): a group remembers how far it has come.
//!
//! What is done by version stands in `dohle_groups`' `offsets_commit.rs`. Here topics are resolved (version 10
//! names them by id) and partitions that do not exist are refused: UNKNOWN_TOPIC_ID by id,
//! UNKNOWN_TOPIC_OR_PARTITION otherwise.

use std::ops::RangeInclusive;

use dohle_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use dohle_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use dohle_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use dohle_types::{ErrorCode, Offset, PartitionIndex, Str, TopicId};

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 2..=10;

pub(super) fn handle(node: &mut Node, call: Call, mut request: OffsetCommitRequest) {
    let mut refused = Vec::new();
    let topics = std::mem::take(&mut request.topics);
    request.topics = topics.into_iter().filter_map(|topic| resolve(node, topic, &mut refused)).collect();
    let caller = node.caller(&call);
    let answer_all = |topics: &[OffsetCommitRequestTopic], error: ErrorCode| {
        topics.iter().map(|topic| refuse(topic, error)).collect::<Vec<_>>()
    };
    // What cannot be committed anyway needs no coordinator.
    if request.topics.is_empty() && !refused.is_empty() {
        return node.reply(&call, &OffsetCommitResponse { topics: refused, ..OffsetCommitResponse::default() });
    }
    let mut committed = Vec::new();
    let when_not_here = (answer_all, request.topics.clone(), refused.clone());
    node.ask_group(
        call,
        &request.group_id,
        |error| {
            let (answer_all, topics, refused) = when_not_here;
            let topics = answer_all(&topics, error).into_iter().chain(refused).collect();
            OffsetCommitResponse { topics, ..OffsetCommitResponse::default() }
        },
        |ledger, turn| {
            let mut response = ledger.commit_offsets(turn.now, &caller, &request, turn.effects);
            committed = accepted(&request, &response);
            response.topics.extend(refused);
            response
        },
    );
    node.note_commits(&request.group_id, committed);
}

/// What was committed of all that was asked for; the response has it in the same order.
fn accepted(request: &OffsetCommitRequest, response: &OffsetCommitResponse) -> Vec<(Str, i32, Offset)> {
    let answers = response.topics.iter().flat_map(|topic| &topic.partitions);
    let asked = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |it| (topic, it)));
    asked
        .zip(answers)
        .filter(|(_, answer)| answer.error_code == 0)
        .map(|((topic, it), _)| (topic.name.clone(), it.partition_index, Offset(it.committed_offset)))
        .collect()
}

/// Gives a topic its name and its id, and takes out what does not exist.
pub(super) fn resolve(
    node: &Node,
    mut topic: OffsetCommitRequestTopic,
    refused: &mut Vec<OffsetCommitResponseTopic>,
) -> Option<OffsetCommitRequestTopic> {
    let image = node.image();
    let by_id = !topic.topic_id.is_nil();
    let known = if by_id { image.topic_by_id(TopicId(topic.topic_id)) } else { image.topic(&topic.name) };
    let Some(known) = known else {
        let error = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
        refused.push(refuse(&topic, error));
        return None;
    };
    topic.name = known.name.clone();
    topic.topic_id = known.id.0;
    let (there, gone) = std::mem::take(&mut topic.partitions)
        .into_iter()
        .partition(|partition| known.partitions.contains_key(&PartitionIndex(partition.partition_index)));
    let missing = OffsetCommitRequestTopic { partitions: gone, ..topic.clone() };
    if !missing.partitions.is_empty() {
        refused.push(refuse(&missing, ErrorCode::UnknownTopicOrPartition));
    }
    topic.partitions = there;
    (!topic.partitions.is_empty()).then_some(topic)
}

fn refuse(topic: &OffsetCommitRequestTopic, error: ErrorCode) -> OffsetCommitResponseTopic {
    let partitions = topic
        .partitions
        .iter()
        .map(|partition| OffsetCommitResponsePartition {
            partition_index: partition.partition_index,
            error_code: error.code(),
        })
        .collect();
    OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions,
    }
}
