//! ListPartitionReassignments (key 46, version 0): which partitions get other replicas (KIP-455).
//!
//! None does, for what is asked of AlterPartitionReassignments is done at once. Those are named that a data directory
//! of another origin says to be under way.

use std::ops::RangeInclusive;

use dohle_controller::{PartitionImage, TopicImage};
use dohle_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use dohle_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};
use dohle_types::{BrokerId, PartitionIndex};

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=0;

pub(super) fn handle(node: &mut Node, call: Call, request: ListPartitionReassignmentsRequest) {
    let is_wanted = |topic: &TopicImage, index: PartitionIndex| {
        request.topics.as_ref().is_none_or(|topics| {
            topics
                .iter()
                .any(|wanted| wanted.name == topic.name && wanted.partition_indexes.contains(&index.0))
        })
    };
    let topics = node.image().topics().filter_map(|topic| {
        let wanted = topic.partitions.iter().filter(|&(&index, _)| is_wanted(topic, index));
        let partitions: Vec<_> = wanted.filter_map(|(&index, partition)| ongoing(index, partition)).collect();
        (!partitions.is_empty())
            .then(|| OngoingTopicReassignment { name: topic.name.clone(), partitions })
    });
    let topics = topics.collect();
    node.reply(&call, &ListPartitionReassignmentsResponse { topics, ..Default::default() });
}

fn ongoing(index: PartitionIndex, partition: &PartitionImage) -> Option<OngoingPartitionReassignment> {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|id| id.0).collect::<Vec<_>>();
    let is_ongoing = !partition.adding_replicas.is_empty() || !partition.removing_replicas.is_empty();
    is_ongoing.then(|| OngoingPartitionReassignment {
        partition_index: index.0,
        replicas: ids(&partition.replicas),
        adding_replicas: ids(&partition.adding_replicas),
        removing_replicas: ids(&partition.removing_replicas),
    })
}
