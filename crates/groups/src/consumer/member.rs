//! Which member a heartbeat speaks for, and whether it may.

use dohle_protocol::messages::ConsumerGroupHeartbeatRequest;
use dohle_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use dohle_types::{ErrorCode, Str, TopicId};

use super::state::{ConsumerGroup, ConsumerMember, OwnedPartitions};

/// The member epoch with which a member joins, or starts again.
pub(crate) const JOINING: i32 = 0;
/// The member epoch with which a member leaves.
pub(crate) const LEAVING: i32 = -1;
/// The member epoch with which a static member leaves that will be back.
pub(crate) const AWAY: i32 = -2;

/// Why a heartbeat is not that of a member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MemberError {
    #[error("Member {0} is not in the group: it was removed, left, or never joined; join again")]
    Unknown(Str),
    #[error("No member has the instance id {0}; join again")]
    UnknownInstance(Str),
    #[error("The instance id {instance_id} belongs to member {owner} now: give each process its own")]
    FencedInstance { instance_id: Str, owner: Str },
    #[error("The instance id {instance_id} still belongs to member {owner}, which has not left")]
    UnreleasedInstance { instance_id: Str, owner: Str },
    #[error("Epoch {received} is not the member's, which is {known}: give up all partitions and join again")]
    FencedEpoch { received: i32, known: i32 },
}

impl MemberError {
    pub(crate) const fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(_) | Self::UnknownInstance(_) => ErrorCode::UnknownMemberId,
            Self::FencedInstance { .. } => ErrorCode::FencedInstanceId,
            Self::UnreleasedInstance { .. } => ErrorCode::UnreleasedInstanceId,
            Self::FencedEpoch { .. } => ErrorCode::FencedMemberEpoch,
        }
    }
}

/// The member that a heartbeat is about.
pub(crate) struct Speaker {
    /// As it was before; new ones are in epoch 0 and own nothing.
    pub(crate) member: ConsumerMember,
    /// The member whose place it takes (KIP-345).
    pub(crate) replaces: Option<Str>,
}

impl ConsumerGroup {
    /// The member that speaks, or one to be.
    pub(crate) fn speaker(
        &self,
        member_id: &Str,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<Speaker, MemberError> {
        let is_joining = request.member_epoch == JOINING;
        let known = match &request.instance_id {
            None => self.member(member_id),
            Some(instance_id) if is_joining => match self.static_member(instance_id) {
                None => self.member(member_id),
                // Differs from Kafka: a static member that was fenced may start again under its own member id.
                Some(owner) if owner == member_id => self.member(member_id),
                Some(owner) => return self.take_place(instance_id, owner),
            },
            Some(instance_id) => Some(self.static_speaker(member_id, instance_id)?),
        };
        let Some(member) = known else {
            return if is_joining {
                Ok(Speaker { member: ConsumerMember::default(), replaces: None })
            } else {
                Err(MemberError::Unknown(member_id.clone()))
            };
        };
        validate_epoch(member, request.member_epoch, request.topic_partitions.as_deref())?;
        Ok(Speaker { member: member.clone(), replaces: None })
    }

    /// The member of an instance id, if it is the one that speaks.
    pub(crate) fn static_speaker(
        &self,
        member_id: &Str,
        instance_id: &Str,
    ) -> Result<&ConsumerMember, MemberError> {
        let unknown = || MemberError::UnknownInstance(instance_id.clone());
        let owner = self.static_member(instance_id).ok_or_else(unknown)?;
        if owner != member_id {
            return Err(MemberError::FencedInstance {
                instance_id: instance_id.clone(),
                owner: owner.clone(),
            });
        }
        self.member(owner).ok_or_else(unknown)
    }

    /// A static member comes back, under whatever member id: it has all that it had.
    fn take_place(&self, instance_id: &Str, owner: &Str) -> Result<Speaker, MemberError> {
        let unknown = || MemberError::UnknownInstance(instance_id.clone());
        let former = self.member(owner).ok_or_else(unknown)?;
        if former.epoch != AWAY && former.classic.is_none() {
            return Err(MemberError::UnreleasedInstance {
                instance_id: instance_id.clone(),
                owner: owner.clone(),
            });
        }
        let member = ConsumerMember { epoch: JOINING, previous_epoch: JOINING, ..former.clone() };
        Ok(Speaker { member, replaces: Some(owner.clone()) })
    }
}

/// A member may say its former epoch if it owns nothing that it lacks now: the answer with the new one may be lost.
fn validate_epoch(
    member: &ConsumerMember,
    received: i32,
    reported: Option<&[TopicPartitions]>,
) -> Result<(), MemberError> {
    let is_lost_answer =
        || received == member.previous_epoch && reported.is_some_and(|it| owns_all(&member.assigned, it));
    if received == JOINING || received == member.epoch || (received < member.epoch && is_lost_answer()) {
        Ok(())
    } else {
        Err(MemberError::FencedEpoch { received, known: member.epoch })
    }
}

fn owns_all(owned: &OwnedPartitions, reported: &[TopicPartitions]) -> bool {
    reported.iter().all(|topic| {
        let owned = owned.get(&TopicId(topic.topic_id));
        owned.is_some_and(|owned| topic.partitions.iter().all(|index| owned.contains_key(index)))
    })
}
