//! DescribeTopicPartitions (key 75, version 0): topics page by page (KIP-966), with at most
//! `max.request.partition.size.limit` partitions a page.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use dohle_configs::broker;
use dohle_controller::{TopicImage, is_internal_topic, validate_topic_name};
use dohle_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use dohle_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use dohle_types::{ErrorCode, PartitionIndex, Str};

use super::authorized_operations;
use super::k03_metadata::{ids, leader, offline_replicas};
use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=0;

pub(super) fn handle(node: &mut Node, call: Call, request: DescribeTopicPartitionsRequest) {
    let (first_topic, first_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.clone(), PartitionIndex(cursor.partition_index)),
        None => (Str::default(), PartitionIndex(0)),
    };
    if first_partition.0 < 0 {
        let why = "a cursor's partition must not be negative";
        return node.close(&call, why);
    }
    let limit = node.config.value(broker::MAX_REQUEST_PARTITION_SIZE_LIMIT);
    let mut room = usize::try_from(request.response_partition_limit.min(limit)).unwrap_or_default().max(1);
    let wanted: Vec<Str> = if request.topics.is_empty() {
        node.image().topics_from(&first_topic).map(|topic| topic.name.clone()).collect()
    } else {
        let names: BTreeSet<Str> = request.topics.into_iter().map(|topic| topic.name).collect();
        names.into_iter().filter(|name| *name >= first_topic).collect()
    };
    let mut topics = Vec::new();
    let mut next_cursor = None;
    for name in wanted {
        let from = if name == first_topic { first_partition } else { PartitionIndex(0) };
        if room == 0 {
            next_cursor = Some(Cursor { topic_name: name, partition_index: 0 });
            break;
        }
        let Some(topic) = node.image().topic(&name).cloned() else {
            topics.push(unknown(name));
            continue;
        };
        let (described, rest) = describe(node, &topic, from, room);
        room -= described.partitions.len();
        topics.push(described);
        if let Some(partition) = rest {
            next_cursor =
                Some(Cursor { topic_name: name, partition_index: partition.0 });
            break;
        }
    }
    let response =
        DescribeTopicPartitionsResponse { topics, next_cursor, ..DescribeTopicPartitionsResponse::default() };
    node.reply(&call, &response);
}

/// At most `room` partitions of a topic, and the partition at which the next page begins.
fn describe(
    node: &Node,
    topic: &Arc<TopicImage>,
    from: PartitionIndex,
    room: usize,
) -> (DescribeTopicPartitionsResponseTopic, Option<PartitionIndex>) {
    let mut rest = topic.partitions.range(from..);
    let partitions = rest
        .by_ref()
        .take(room)
        .map(|(index, image)| {
            let (error, leader) = leader(node, topic.id, *index, image);
            DescribeTopicPartitionsResponsePartition {
                error_code: error.code(),
                partition_index: index.0,
                leader_id: leader.0,
                leader_epoch: image.leader_epoch.0,
                replica_nodes: ids(&image.replicas),
                isr_nodes: ids(&image.isr),
                eligible_leader_replicas: Some(ids(&image.elr)),
                last_known_elr: Some(ids(&image.last_known_elr)),
                offline_replicas: offline_replicas(node, topic.id, *index, image),
            }
        })
        .collect();
    let described = DescribeTopicPartitionsResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id.0,
        is_internal: is_internal_topic(&topic.name),
        partitions,
        topic_authorized_operations: authorized_operations::TOPIC,
        ..DescribeTopicPartitionsResponseTopic::default()
    };
    (described, rest.next().map(|(&index, _)| index))
}

fn unknown(name: Str) -> DescribeTopicPartitionsResponseTopic {
    let invalid = validate_topic_name(&name).is_err();
    let error =
        if invalid { ErrorCode::InvalidTopicException } else { ErrorCode::UnknownTopicOrPartition };
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        is_internal: is_internal_topic(&name),
        name: Some(name),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}
