//! ResetGroupOffsets (key 20012, Dohle's own): a group goes on from other offsets, its members running.
//!
//! Kafka's tools refuse this for a group with members, since these would go on from where they are and commit over
//! what was set. Here the same batch that sets the offsets ends the members' generation: what they commit for it from
//! then on is refused, and at their next heartbeat they drop their partitions, as they do after having been away, join
//! again, and ask where to go on. Members of the classic protocol are told ILLEGAL_GENERATION. Those of the consumer
//! protocol are removed and told UNKNOWN_MEMBER_ID, to which clients know the same answer.
//!
//! It needs a group that does not rebalance: a member that has joined again and waits may still own partitions, and
//! would not ask for their offsets.

use dohle_protocol::messages::OffsetCommitRequest;
use dohle_types::{ErrorCode, Str};

use crate::group::Phase;
use crate::journal::cause::{Cause, CauseKind};
use crate::{GroupLedger, Record, Turn};

/// Why offsets are not reset; none of them is then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResetError {
    /// There is no such group.
    #[error("there is no such group; its first commit makes it")]
    GroupIdNotFound,
    /// The group is between two generations.
    #[error("the group rebalances; try again when it is stable")]
    Rebalancing,
    /// An offset is refused.
    #[error("the offset of {topic}-{partition} is refused: {error}")]
    Partition {
        /// The topic.
        topic: Str,
        /// The partition's index.
        partition: i32,
        /// Why.
        error: ErrorCode,
    },
    /// The batch has a limit.
    #[error("the offsets do not fit in one batch; reset fewer at a time")]
    TooLarge,
}

impl ResetError {
    /// The code on the wire.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::GroupIdNotFound => ErrorCode::GroupIdNotFound,
            Self::Rebalancing => ErrorCode::RebalanceInProgress,
            Self::Partition { error, .. } => *error,
            Self::TooLarge => ErrorCode::InvalidCommitOffsetSize,
        }
    }
}

impl GroupLedger {
    /// Sets all offsets of the request, or none, and has the members go on from there; how many there are.
    ///
    /// The request's topics have both names and ids, as those of [`GroupLedger::commit_offsets`] have.
    pub fn reset_offsets(
        &mut self,
        turn: &mut Turn<'_>,
        request: &OffsetCommitRequest,
    ) -> Result<usize, ResetError> {
        let group_id = &request.group_id;
        let classic = self.groups.get(group_id);
        if classic.is_none() && self.state.group(group_id).is_none() {
            return Err(ResetError::GroupIdNotFound);
        }
        if classic.is_some_and(|group| !matches!(group.phase, Phase::Empty | Phase::Stable)) {
            return Err(ResetError::Rebalancing);
        }
        let (records, topics) = self.commit_records(turn.now, request);
        for topic in topics {
            let refused = topic.partitions.into_iter().find(|partition| partition.error_code != 0);
            if let Some(refused) = refused {
                let error = ErrorCode::from_code(refused.error_code).unwrap_or(ErrorCode::UnknownServerError);
                return Err(ResetError::Partition {
                    topic: topic.name,
                    partition: refused.partition_index,
                    error,
                });
            }
        }
        if records.iter().map(Record::size).sum::<usize>() > self.config.batch_bytes_max {
            return Err(ResetError::TooLarge);
        }
        let of_consumers = self.state.consumer_group(group_id);
        let members: Option<Vec<Str>> = of_consumers.map(|group| group.members().keys().cloned().collect());
        turn.effects.records.extend(records);
        if let Some(members) = members {
            self.fence(group_id, &members, vec![Cause::of_nobody(CauseKind::OffsetsReset)], turn);
            return Ok(members.len());
        }
        let members = self.with_group(turn.now, group_id, turn.effects, |group, context| {
            let members = group.members().len();
            if members > 0 {
                group.end_generation(Cause::of_nobody(CauseKind::OffsetsReset), context);
            }
            members
        });
        Ok(members.unwrap_or(0))
    }
}
