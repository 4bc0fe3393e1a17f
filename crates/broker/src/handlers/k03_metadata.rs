//! Metadata (key 3, versions 0-13): the brokers, and topics with their leaders.
//!
//! - 0: no topics means all of them; 1: null does, and none means none.
//! - 4: the client says whether topics may be created; they are created and the request answered when they exist
//!   (Kafka answers UNKNOWN_TOPIC_OR_PARTITION or LEADER_NOT_AVAILABLE and has the client ask again).
//! - 5: offline replicas. 7: leader epochs. 8: authorized operations (KIP-430). 9: flexible.
//! - 10: topic ids (KIP-516). 12: topics by id alone. 13: a top-level error.

use std::ops::RangeInclusive;
use std::sync::Arc;

use dohle_configs::broker;
use dohle_controller::{PartitionImage, TopicImage, is_internal_topic, validate_topic_name};
use dohle_protocol::messages::metadata_request::MetadataRequestTopic;
use dohle_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use dohle_protocol::messages::{MetadataRequest, MetadataResponse};
use dohle_types::{BrokerId, ErrorCode, PartitionIndex, Str, TopicId};

use super::authorized_operations;
use crate::connection::Call;
use crate::ledger_hosts::Held;
use crate::node::Node;
use crate::partition::Partition;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=13;

pub(crate) fn handle(node: &mut Node, call: Call, mut request: MetadataRequest) {
    let missing = missing_topics(node, &request);
    if !missing.is_empty() {
        // The second time round what is missing cannot be created.
        request.allow_auto_topic_creation = false;
        let records = node.auto_create(&missing).unwrap_or_default();
        return node.hold_metadata(records, Held::Metadata(call, request));
    }
    let wants_all = request.topics.as_ref().is_none_or(|topics| call.version == 0 && topics.is_empty());
    let topics = match &request.topics {
        Some(topics) if !wants_all => {
            topics.iter().map(|wanted| answer_topic(node, wanted, &request)).collect()
        }
        _ => node.image().topics().map(|topic| describe(node, topic, &request)).collect(),
    };
    let (host, port) = node.endpoint_for(&call);
    let node_id = node.config.node_id();
    let rack = node.image().broker(node_id).and_then(|registered| registered.rack.clone());
    let this = MetadataResponseBroker { node_id: node_id.0, host, port, rack };
    let cluster_operations = request.include_cluster_authorized_operations;
    let response = MetadataResponse {
        brokers: vec![this],
        cluster_id: Some(Str::from(&*node.metadata.identity().cluster_id)),
        controller_id: node_id.0,
        topics,
        cluster_authorized_operations: if cluster_operations { authorized_operations::CLUSTER } else { i32::MIN },
        ..MetadataResponse::default()
    };
    node.reply(&call, &response);
}

/// The topics that are to be created for this request.
fn missing_topics(node: &Node, request: &MetadataRequest) -> Vec<Str> {
    if !request.allow_auto_topic_creation || !node.config.value(broker::AUTO_CREATE_TOPICS_ENABLE) {
        return Vec::new();
    }
    let names = request.topics.iter().flatten().filter(|topic| topic.topic_id.is_nil());
    names
        .filter_map(|topic| topic.name.as_ref())
        .filter(|name| node.image().topic(name).is_none() && validate_topic_name(name).is_ok())
        .cloned()
        .collect()
}

fn answer_topic(node: &Node, wanted: &MetadataRequestTopic, request: &MetadataRequest) -> MetadataResponseTopic {
    match node.topic_asked_for(TopicId(wanted.topic_id), wanted.name.as_deref()) {
        Ok(topic) => describe(node, &topic, request),
        Err(error) => {
            let invalid = wanted.name.as_deref().is_some_and(|name| validate_topic_name(name).is_err());
            let error = if invalid { ErrorCode::InvalidTopicException } else { error };
            MetadataResponseTopic {
                error_code: error.code(),
                name: wanted.name.clone(),
                topic_id: wanted.topic_id,
                is_internal: wanted.name.as_deref().is_some_and(is_internal_topic),
                ..MetadataResponseTopic::default()
            }
        }
    }
}

fn describe(node: &Node, topic: &Arc<TopicImage>, request: &MetadataRequest) -> MetadataResponseTopic {
    let operations = request.include_topic_authorized_operations;
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id.0,
        is_internal: is_internal_topic(&topic.name),
        partitions: topic
            .partitions
            .iter()
            .map(|(&index, image)| partition(node, topic.id, index, image))
            .collect(),
        topic_authorized_operations: if operations { authorized_operations::TOPIC } else { i32::MIN },
        ..MetadataResponseTopic::default()
    }
}

fn partition(
    node: &Node,
    topic_id: TopicId,
    index: PartitionIndex,
    image: &PartitionImage,
) -> MetadataResponsePartition {
    let (error, leader) = leader(node, topic_id, index, image);
    MetadataResponsePartition {
        error_code: error.code(),
        partition_index: index.0,
        leader_id: leader.0,
        leader_epoch: image.leader_epoch.0,
        replica_nodes: ids(&image.replicas),
        isr_nodes: ids(&image.isr),
        offline_replicas: offline_replicas(node, topic_id, index, image),
    }
}

/// Broker ids as responses carry them.
pub(super) fn ids(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|broker| broker.0).collect()
}

/// Who leads a partition; nobody where it is offline on this node, the only one that could.
pub(super) fn leader(
    node: &Node,
    topic_id: TopicId,
    index: PartitionIndex,
    image: &PartitionImage,
) -> (ErrorCode, BrokerId) {
    let leads_offline = image.leader == node.config.node_id() && is_offline_here(node, topic_id, index);
    match if leads_offline { BrokerId::NONE } else { image.leader } {
        BrokerId::NONE => (ErrorCode::LeaderNotAvailable, BrokerId::NONE),
        leader => (ErrorCode::None, leader),
    }
}

/// The replicas whose brokers are not there, or whose logs cannot be used.
pub(super) fn offline_replicas(
    node: &Node,
    topic_id: TopicId,
    index: PartitionIndex,
    image: &PartitionImage,
) -> Vec<i32> {
    let this = node.config.node_id();
    let is_alive = |id: &BrokerId| {
        node.image().broker(*id).is_some_and(|broker| !broker.fenced)
            && !(*id == this && is_offline_here(node, topic_id, index))
    };
    image.replicas.iter().filter(|id| !is_alive(id)).map(|id| id.0).collect()
}

fn is_offline_here(node: &Node, topic_id: TopicId, index: PartitionIndex) -> bool {
    let partition = node.partitions.key(topic_id, index.0).and_then(|key| node.partitions.by_key(key));
    partition.is_some_and(Partition::is_offline)
}
