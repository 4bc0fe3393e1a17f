//! OffsetFetch (key 9, versions 1-10): how far groups have come.
//!
//! What is done by version stands in `dohle_groups`' `offsets_fetch.rs`. Here topic ids (version 10) are resolved,
//! the one group of versions 1-7 is brought into the form of several (KIP-709), and answers of several ledgers
//! are gathered.

use std::ops::RangeInclusive;

use dohle_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use dohle_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use dohle_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use dohle_types::{ErrorCode, TopicId};

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 1..=10;

pub(super) fn handle(node: &mut Node, call: Call, request: OffsetFetchRequest) {
    let require_stable = request.require_stable;
    let groups = if call.version >= 8 { request.groups } else { vec![one_group(request)] };
    let mut indexes = Vec::new();
    let groups = groups
        .into_iter()
        .map(|group| {
            let group_id = group.group_id.clone();
            fetch(node, group, call.version, require_stable, &mut indexes).unwrap_or_else(|error| OffsetFetchResponseGroup {
                group_id,
                error_code: error.code(),
                ..OffsetFetchResponseGroup::default()
            })
        })
        .collect();
    let response = if call.version >= 8 {
        OffsetFetchResponse { groups, ..OffsetFetchResponse::default() }
    } else {
        of_one_group(groups)
    };
    indexes.sort_unstable();
    indexes.dedup();
    node.answer_from_groups(&indexes, call, &response);
}

fn fetch(
    node: &mut Node,
    mut group: OffsetFetchRequestGroup,
    version: i16,
    require_stable: bool,
    indexes: &mut Vec<i32>,
) -> Result<OffsetFetchResponseGroup, ErrorCode> {
    let index = node.coordinator_of(&group.group_id)?;
    let mut unknown = Vec::new();
    if version >= 10 {
        for topic in group.topics.iter_mut().flatten() {
            match node.image().topic_by_id(TopicId(topic.topic_id)) {
                Some(known) => topic.name = known.name.clone(),
                None => unknown.push(refuse(topic)),
            }
        }
        if let Some(topics) = &mut group.topics {
            topics.retain(|topic| !topic.name.is_empty());
        }
    }
    let fetched = node.run_groups(index, |ledger, _| ledger.fetch_offsets(&group, require_stable));
    let mut response = fetched.ok_or(ErrorCode::NotCoordinator)?;
    indexes.push(index);
    if version >= 10 {
        for topic in &mut response.topics {
            if let Some(known) = node.image().topic(&topic.name) {
                topic.topic_id = known.id.0;
            }
        }
        // Offsets of topics that are gone have no id to be told by.
        response.topics.retain(|topic| !topic.topic_id.is_nil());
    }
    response.topics.extend(unknown);
    Ok(response)
}

fn refuse(topic: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let partitions = topic
        .partition_indexes
        .iter()
        .map(|&partition_index| OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: -1,
            committed_leader_epoch: -1,
            error_code: ErrorCode::UnknownTopicId.code(),
            ..OffsetFetchResponsePartitions::default()
        })
        .collect();
    OffsetFetchResponseTopics {
        topic_id: topic.topic_id,
        partitions,
        ..OffsetFetchResponseTopics::default()
    }
}

fn one_group(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.map(|topics| {
        let topic = |topic: dohle_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic| {
            OffsetFetchRequestTopics {
                name: topic.name,
                partition_indexes: topic.partition_indexes,
                ..OffsetFetchRequestTopics::default()
            }
        };
        topics.into_iter().map(topic).collect()
    });
    OffsetFetchRequestGroup { group_id: request.group_id, topics, ..OffsetFetchRequestGroup::default() }
}

fn of_one_group(groups: Vec<OffsetFetchResponseGroup>) -> OffsetFetchResponse {
    let Some(group) = groups.into_iter().next() else { return OffsetFetchResponse::default() };
    let partition = |partition: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    };
    let topic = |topic: OffsetFetchResponseTopics| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    };
    OffsetFetchResponse {
        topics: group.topics.into_iter().map(topic).collect(),
        error_code: group.error_code,
        ..OffsetFetchResponse::default()
    }
}
