//! OffsetDelete (key 47, version 0): forgets offsets of topics that the group does not subscribe to (KIP-496), also those
//! that open transactions want to commit.

use dohle_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use dohle_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use dohle_types::ErrorCode;

use crate::group::Phase;
use crate::{Effects, GroupLedger, records};

/// Why a deletion of offsets is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum OffsetDeleteError {
    #[error("the group id is empty")]
    InvalidGroupId,
    #[error("there is no such group")]
    GroupIdNotFound,
    #[error("the group has members, and what they subscribe to cannot be told: stop them first")]
    NonEmptyGroup,
}

impl OffsetDeleteError {
    const fn code(self) -> ErrorCode {
        match self {
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::GroupIdNotFound => ErrorCode::GroupIdNotFound,
            Self::NonEmptyGroup => ErrorCode::NonEmptyGroup,
        }
    }
}

impl GroupLedger {
    /// Forgets offsets of a group. Offsets that are not there are deleted without complaint.
    pub fn delete_offsets(
        &self,
        request: &OffsetDeleteRequest,
        effects: &mut Effects,
    ) -> OffsetDeleteResponse {
        if let Err(error) = self.validate_offset_delete(request) {
            return OffsetDeleteResponse {
                error_code: error.code().code(),
                ..OffsetDeleteResponse::default()
            };
        }
        let durable = self.state.group(&request.group_id);
        let topics = request.topics.iter().map(|topic| {
            let group = self.groups.get(&request.group_id);
            let consumer = self.state.consumer_group(&request.group_id);
            let is_subscribed = group.is_some_and(|group| group.is_subscribed_to(&topic.name))
                || consumer.is_some_and(|group| group.is_subscribed_to(&topic.name));
            let partitions = topic.partitions.iter().map(|partition| {
                let index = partition.partition_index;
                let is_there = durable.is_some_and(|durable| durable.offset(&topic.name, index).is_some())
                    || self.state.pending.contains(&request.group_id, &topic.name, index);
                if !is_subscribed && is_there {
                    let record = records::offset_commit_tombstone(&request.group_id, &topic.name, index);
                    effects.records.push(record);
                }
                let error_code =
                    if is_subscribed { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None };
                OffsetDeleteResponsePartition { partition_index: index, error_code: error_code.code() }
            });
            OffsetDeleteResponseTopic { name: topic.name.clone(), partitions: partitions.collect() }
        });
        OffsetDeleteResponse { topics: topics.collect(), ..OffsetDeleteResponse::default() }
    }

    fn validate_offset_delete(&self, request: &OffsetDeleteRequest) -> Result<(), OffsetDeleteError> {
        if request.group_id.is_empty() {
            return Err(OffsetDeleteError::InvalidGroupId);
        }
        match self.groups.get(&request.group_id) {
            Some(group) if group.phase != Phase::Empty && !group.is_consumer_group() => {
                Err(OffsetDeleteError::NonEmptyGroup)
            }
            Some(_) => Ok(()),
            None if self.state.group(&request.group_id).is_some() => Ok(()),
            None => Err(OffsetDeleteError::GroupIdNotFound),
        }
    }
}
