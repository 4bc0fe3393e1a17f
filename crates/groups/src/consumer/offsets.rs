//! Who may commit and fetch offsets of a consumer group.
//!
//! A member's epoch must be its current one. It may be an older one for partitions that it has owned since then: an
//! epoch grows while the member is still busy with the former one's records (KIP-1251).

use dohle_types::{ErrorCode, Str, TopicId};

use super::state::{ConsumerGroup, ConsumerMember};

/// Why offsets of a consumer group are not committed or told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OffsetsError {
    #[error("the group has no such member: it was removed, left, or never joined; join again")]
    UnknownMember,
    #[error("members of the consumer protocol commit with version 9 or later")]
    UnsupportedVersion,
    #[error("the member epoch is not the current one: send a heartbeat, and commit again with its answer's")]
    StaleMemberEpoch,
    #[error("the generation is over: join again")]
    IllegalGeneration,
}

impl OffsetsError {
    pub(crate) const fn code(self) -> ErrorCode {
        match self {
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::UnsupportedVersion => ErrorCode::UnsupportedVersion,
            Self::StaleMemberEpoch => ErrorCode::StaleMemberEpoch,
            Self::IllegalGeneration => ErrorCode::IllegalGeneration,
        }
    }

    const fn stale(member: &ConsumerMember) -> Self {
        if member.classic.is_some() { Self::IllegalGeneration } else { Self::StaleMemberEpoch }
    }
}

impl ConsumerGroup {
    /// Whether a commit is that of a member, or of a tool while there are none.
    pub(crate) fn validate_commit(
        &self,
        member_id: &str,
        member_epoch: i32,
        api_version: i16,
        partitions: impl Iterator<Item = (TopicId, i32)>,
    ) -> Result<(), OffsetsError> {
        if member_epoch < 0 && self.members().is_empty() {
            return Ok(());
        }
        let member = self.member(member_id).ok_or(OffsetsError::UnknownMember)?;
        if member.classic.is_none() && api_version < 9 {
            return Err(OffsetsError::UnsupportedVersion);
        }
        if member_epoch == member.epoch {
            return Ok(());
        }
        let is_owned_since = |(topic_id, partition)| {
            member.partition_epoch(topic_id, partition).is_some_and(|since| since <= member_epoch)
        };
        let mut partitions = partitions;
        if member_epoch < member.epoch && partitions.all(is_owned_since) {
            Ok(())
        } else {
            Err(OffsetsError::stale(member))
        }
    }

    /// Whether offsets are fetched by a member, or by someone who does not claim to be one.
    pub(crate) fn validate_fetch(
        &self,
        member_id: Option<&Str>,
        member_epoch: i32,
    ) -> Result<(), OffsetsError> {
        let Some(member_id) = member_id else {
            return if member_epoch < 0 { Ok(()) } else { Err(OffsetsError::UnknownMember) };
        };
        let member = self.member(member_id).ok_or(OffsetsError::UnknownMember)?;
        if member_epoch == member.epoch { Ok(()) } else { Err(OffsetsError::stale(member)) }
    }
}
