//! A consumer group's state to records, in the versions that Apache Kafka 4.3.1 writes.

use dohle_protocol::Message;
use dohle_protocol::messages::consumer_group_current_member_assignment_value::TopicPartitions;
use dohle_protocol::messages::consumer_group_member_metadata_value::{
    ClassicMemberMetadata, ClassicProtocol,
};
use dohle_protocol::messages::consumer_group_target_assignment_member_value::TopicPartition;
use dohle_protocol::messages::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue, ConsumerGroupPartitionMetadataKey, ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue, ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue,
};
use dohle_types::{Str, Timestamp};

use super::state::{Assignment, ConsumerGroup, ConsumerMember, OwnedPartitions, ResolvedRegex};
use crate::Record;
use crate::records::{DECODED, with_number};

pub(crate) const GROUP_METADATA: i16 = 3;
pub(crate) const PARTITION_METADATA: i16 = 4;
pub(crate) const MEMBER_METADATA: i16 = 5;
pub(crate) const TARGET_METADATA: i16 = 6;
pub(crate) const TARGET_MEMBER: i16 = 7;
pub(crate) const CURRENT_ASSIGNMENT: i16 = 8;
pub(crate) const REGULAR_EXPRESSION: i16 = 16;

/// Every value has only this version.
const VALUE_VERSION: i16 = 0;

fn record<V: Message>(number: i16, key: &impl Message, value: &V) -> Record {
    let value = with_number(VALUE_VERSION, &value.to_bytes(VALUE_VERSION).expect(DECODED));
    Record { value: Some(value), ..tombstone(number, key) }
}

fn tombstone(number: i16, key: &impl Message) -> Record {
    Record { key: with_number(number, &key.to_bytes(0).expect(DECODED)), value: None }
}

pub(crate) fn group_metadata(group_id: &Str, epoch: i32, metadata_hash: i64) -> Record {
    let key = ConsumerGroupMetadataKey { group_id: group_id.clone() };
    record(GROUP_METADATA, &key, &ConsumerGroupMetadataValue { epoch, metadata_hash })
}

pub(crate) fn partition_metadata_tombstone(group_id: &Str) -> Record {
    tombstone(PARTITION_METADATA, &ConsumerGroupPartitionMetadataKey { group_id: group_id.clone() })
}

pub(crate) fn member_metadata(group_id: &Str, member_id: &Str, member: &ConsumerMember) -> Record {
    let classic = member.classic.as_ref().map(|classic| ClassicMemberMetadata {
        session_timeout_ms: classic.session_timeout_ms,
        supported_protocols: classic
            .protocols
            .iter()
            .map(|(name, metadata)| ClassicProtocol { name: name.clone(), metadata: metadata.clone() })
            .collect(),
    });
    let value = ConsumerGroupMemberMetadataValue {
        instance_id: member.instance_id.clone(),
        rack_id: member.rack_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        subscribed_topic_names: member.topic_names.iter().cloned().collect(),
        subscribed_topic_regex: Some(member.topic_regex.clone()),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        server_assignor: member.assignor.clone(),
        classic_member_metadata: classic,
    };
    record(MEMBER_METADATA, &member_key(group_id, member_id), &value)
}

fn member_key(group_id: &Str, member_id: &Str) -> ConsumerGroupMemberMetadataKey {
    ConsumerGroupMemberMetadataKey { group_id: group_id.clone(), member_id: member_id.clone() }
}

pub(crate) fn target_metadata(group_id: &Str, assignment_epoch: i32, at: Timestamp) -> Record {
    let key = ConsumerGroupTargetAssignmentMetadataKey { group_id: group_id.clone() };
    let value = ConsumerGroupTargetAssignmentMetadataValue { assignment_epoch, assignment_timestamp: at.0 };
    record(TARGET_METADATA, &key, &value)
}

pub(crate) fn target(group_id: &Str, member_id: &Str, target: &Assignment) -> Record {
    let topic_partitions = target.iter().map(|(topic_id, partitions)| TopicPartition {
        topic_id: topic_id.0,
        partitions: partitions.iter().copied().collect(),
    });
    let value = ConsumerGroupTargetAssignmentMemberValue { topic_partitions: topic_partitions.collect() };
    record(TARGET_MEMBER, &target_key(group_id, member_id), &value)
}

fn target_key(group_id: &Str, member_id: &Str) -> ConsumerGroupTargetAssignmentMemberKey {
    ConsumerGroupTargetAssignmentMemberKey { group_id: group_id.clone(), member_id: member_id.clone() }
}

pub(crate) fn current_assignment(group_id: &Str, member_id: &Str, member: &ConsumerMember) -> Record {
    let value = ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: member.epoch,
        previous_member_epoch: member.previous_epoch,
        state: member.state.code(),
        assigned_partitions: topic_partitions(&member.assigned),
        partitions_pending_revocation: topic_partitions(&member.revoking),
    };
    record(CURRENT_ASSIGNMENT, &current_key(group_id, member_id), &value)
}

fn current_key(group_id: &Str, member_id: &Str) -> ConsumerGroupCurrentMemberAssignmentKey {
    ConsumerGroupCurrentMemberAssignmentKey { group_id: group_id.clone(), member_id: member_id.clone() }
}

fn topic_partitions(owned: &OwnedPartitions) -> Vec<TopicPartitions> {
    let topics = owned.iter().map(|(topic_id, partitions)| TopicPartitions {
        topic_id: topic_id.0,
        partitions: partitions.keys().copied().collect(),
        assignment_epochs: Some(partitions.values().copied().collect()),
    });
    topics.collect()
}

pub(crate) fn regular_expression(group_id: &Str, regex: &Str, resolved: &ResolvedRegex) -> Record {
    let value = ConsumerGroupRegularExpressionValue {
        topics: resolved.topics.iter().cloned().collect(),
        version: resolved.version,
        timestamp: resolved.at.0,
    };
    record(REGULAR_EXPRESSION, &regex_key(group_id, regex), &value)
}

pub(crate) fn regular_expression_tombstone(group_id: &Str, regex: &Str) -> Record {
    tombstone(REGULAR_EXPRESSION, &regex_key(group_id, regex))
}

fn regex_key(group_id: &Str, regex: &Str) -> ConsumerGroupRegularExpressionKey {
    ConsumerGroupRegularExpressionKey { group_id: group_id.clone(), regular_expression: regex.clone() }
}

/// Tombstones for all that the log has of a member.
pub(crate) fn member_tombstones(group_id: &Str, member_id: &Str) -> [Record; 3] {
    [
        tombstone(CURRENT_ASSIGNMENT, &current_key(group_id, member_id)),
        tombstone(TARGET_MEMBER, &target_key(group_id, member_id)),
        tombstone(MEMBER_METADATA, &member_key(group_id, member_id)),
    ]
}

/// Tombstones for all that the log has of a group, but its offsets.
pub(crate) fn group_tombstones(group_id: &Str, group: &ConsumerGroup, records: &mut Vec<Record>) {
    for member_id in group.members().keys() {
        records.extend(member_tombstones(group_id, member_id));
    }
    let key = ConsumerGroupTargetAssignmentMetadataKey { group_id: group_id.clone() };
    records.push(tombstone(TARGET_METADATA, &key));
    records.extend(group.regexes.keys().map(|regex| regular_expression_tombstone(group_id, regex)));
    records.push(partition_metadata_tombstone(group_id));
    records.push(tombstone(GROUP_METADATA, &ConsumerGroupMetadataKey { group_id: group_id.clone() }));
}
