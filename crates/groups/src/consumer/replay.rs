//! Records of consumer groups to state.

use bytes::Bytes;
use dohle_protocol::messages::consumer_group_current_member_assignment_value::TopicPartitions;
use dohle_protocol::messages::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue, ConsumerGroupPartitionMetadataKey, ConsumerGroupPartitionMetadataValue,
    ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue,
};
use dohle_types::{Str, Timestamp, TopicId};

use super::records;
use super::state::{
    ClassicMember, ConsumerGroup, ConsumerMember, MemberState, OwnedPartitions, ResolvedRegex,
};
use crate::replay::{ReplayError, decode_key, decode_value};
use crate::state::State;

/// The epoch that a member is left in between the tombstones that remove it.
const LEFT: i32 = -1;

/// Takes in a record of a consumer group; `None` if it is none.
pub(crate) fn replay(
    state: &mut State,
    record_type: i16,
    key: &Bytes,
    value: Option<&Bytes>,
) -> Option<Result<(), ReplayError>> {
    let replay = match record_type {
        records::GROUP_METADATA => group_metadata,
        records::PARTITION_METADATA => partition_metadata,
        records::MEMBER_METADATA => member_metadata,
        records::TARGET_METADATA => target_metadata,
        records::TARGET_MEMBER => target_member,
        records::CURRENT_ASSIGNMENT => current_assignment,
        records::REGULAR_EXPRESSION => regular_expression,
        _ => return None,
    };
    Some(replay(state, record_type, key, value))
}

type Replay = Result<(), ReplayError>;

fn group_metadata(state: &mut State, number: i16, key: &Bytes, value: Option<&Bytes>) -> Replay {
    let key: ConsumerGroupMetadataKey = decode_key(number, key)?;
    let value: Option<ConsumerGroupMetadataValue> = decode_value(number, value)?;
    match value {
        Some(value) => state.replay_consumer_group(key.group_id, |group| {
            group.epoch = value.epoch;
            group.metadata_hash = value.metadata_hash;
        }),
        None => state.replay_consumer_group_removed(key.group_id),
    }
    Ok(())
}

fn partition_metadata(state: &mut State, number: i16, key: &Bytes, value: Option<&Bytes>) -> Replay {
    let key: ConsumerGroupPartitionMetadataKey = decode_key(number, key)?;
    let value: Option<ConsumerGroupPartitionMetadataValue> = decode_value(number, value)?;
    let has_value = value.is_some();
    change(state, key.group_id, has_value, |group| group.has_partition_metadata = has_value);
    Ok(())
}

fn member_metadata(state: &mut State, number: i16, key: &Bytes, value: Option<&Bytes>) -> Replay {
    let key: ConsumerGroupMemberMetadataKey = decode_key(number, key)?;
    let value: Option<ConsumerGroupMemberMetadataValue> = decode_value(number, value)?;
    change(state, key.group_id, value.is_some(), |group| match value {
        Some(value) => group.replay_member(&key.member_id, |member| update_metadata(member, value)),
        None => {
            group.take_member(&key.member_id);
        }
    });
    Ok(())
}

fn update_metadata(member: &mut ConsumerMember, value: ConsumerGroupMemberMetadataValue) {
    member.instance_id = value.instance_id;
    member.rack_id = value.rack_id;
    member.client_id = value.client_id;
    member.client_host = value.client_host;
    member.topic_names = value.subscribed_topic_names.into_iter().collect();
    member.topic_regex = value.subscribed_topic_regex.unwrap_or_default();
    member.rebalance_timeout_ms = value.rebalance_timeout_ms;
    member.assignor = value.server_assignor;
    member.classic = value.classic_member_metadata.map(|classic| ClassicMember {
        session_timeout_ms: classic.session_timeout_ms,
        protocols: classic
            .supported_protocols
            .into_iter()
            // Copies: slices would keep the buffer alive that the log was read into.
            .map(|protocol| (protocol.name, Bytes::copy_from_slice(&protocol.metadata)))
            .collect(),
    });
}

fn target_metadata(state: &mut State, number: i16, key: &Bytes, value: Option<&Bytes>) -> Replay {
    let key: ConsumerGroupTargetAssignmentMetadataKey = decode_key(number, key)?;
    let value: Option<ConsumerGroupTargetAssignmentMetadataValue> = decode_value(number, value)?;
    let at = value.as_ref().map(|value| Timestamp(value.assignment_timestamp));
    change(state, key.group_id, value.is_some(), |group| {
        group.assignment_epoch = value.map_or(LEFT, |value| value.assignment_epoch);
        group.assigned_at = at.filter(|at| at.0 != 0);
    });
    Ok(())
}

fn target_member(state: &mut State, number: i16, key: &Bytes, value: Option<&Bytes>) -> Replay {
    let key: ConsumerGroupTargetAssignmentMemberKey = decode_key(number, key)?;
    let value: Option<ConsumerGroupTargetAssignmentMemberValue> = decode_value(number, value)?;
    change(state, key.group_id, value.is_some(), |group| {
        let target = value.map(|value| {
            let topics = value.topic_partitions.into_iter();
            topics.map(|topic| (TopicId(topic.topic_id), topic.partitions.into_iter().collect())).collect()
        });
        group.replay_target(key.member_id, target);
    });
    Ok(())
}

fn current_assignment(state: &mut State, number: i16, key: &Bytes, value: Option<&Bytes>) -> Replay {
    let key: ConsumerGroupCurrentMemberAssignmentKey = decode_key(number, key)?;
    let value: Option<ConsumerGroupCurrentMemberAssignmentValue> = decode_value(number, value)?;
    change(state, key.group_id, value.is_some(), |group| match value {
        Some(value) => group.replay_member(&key.member_id, |member| {
            member.epoch = value.member_epoch;
            member.previous_epoch = value.previous_member_epoch;
            member.state = MemberState::from_code(value.state);
            member.assigned = owned_partitions(value.assigned_partitions, value.member_epoch);
            member.revoking = owned_partitions(value.partitions_pending_revocation, value.member_epoch);
        }),
        None if group.member(&key.member_id).is_some() => group.replay_member(&key.member_id, |member| {
            member.epoch = LEFT;
            member.previous_epoch = LEFT;
            member.assigned.clear();
            member.revoking.clear();
        }),
        None => {}
    });
    Ok(())
}

/// Kafka before 4.3 wrote no epochs with the partitions: they count as assigned in the member's epoch.
fn owned_partitions(topics: Vec<TopicPartitions>, member_epoch: i32) -> OwnedPartitions {
    let topics = topics.into_iter().map(|topic| {
        let epochs = topic.assignment_epochs.filter(|epochs| epochs.len() == topic.partitions.len());
        let epochs = epochs.unwrap_or_else(|| vec![member_epoch.max(0); topic.partitions.len()]);
        (TopicId(topic.topic_id), topic.partitions.into_iter().zip(epochs).collect())
    });
    topics.collect()
}

fn regular_expression(state: &mut State, number: i16, key: &Bytes, value: Option<&Bytes>) -> Replay {
    let key: ConsumerGroupRegularExpressionKey = decode_key(number, key)?;
    let value: Option<ConsumerGroupRegularExpressionValue> = decode_value(number, value)?;
    change(state, key.group_id, value.is_some(), |group| {
        match value {
            Some(value) => {
                let resolved = ResolvedRegex {
                    topics: value.topics.into_iter().collect(),
                    version: value.version,
                    at: Timestamp(value.timestamp),
                };
                group.regexes.insert(key.regular_expression, resolved);
            }
            None => {
                group.regexes.remove(&key.regular_expression);
            }
        };
    });
    Ok(())
}

/// Changes a group. A tombstone for a group that is not there, which compaction may leave behind, means nothing.
fn change(state: &mut State, group_id: Str, has_value: bool, change: impl FnOnce(&mut ConsumerGroup)) {
    if has_value || state.group(&group_id).is_some_and(|group| group.consumer.is_some()) {
        state.replay_consumer_group(group_id, change);
    }
}

impl MemberState {
    pub(crate) const fn code(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown => 127,
        }
    }

    const fn from_code(code: i8) -> Self {
        match code {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            _ => Self::Unknown,
        }
    }
}
