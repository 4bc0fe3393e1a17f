//! Heartbeat (key 12, versions 0-4): a member lives, and learns whether the group rebalances.
//!
//! Version 3: static members (KIP-345).

use dohle_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use dohle_types::{ErrorCode, Now};

use crate::group::{MemberError, Phase};
use crate::{GroupLedger, Turn};

/// Why a heartbeat is not simply taken note of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeartbeatError {
    #[error("the group id is empty: set group.id")]
    InvalidGroupId,
    #[error(transparent)]
    Member(#[from] MemberError),
    #[error("the generation is over: join again")]
    IllegalGeneration,
    #[error("the group rebalances: join again")]
    RebalanceInProgress,
}

impl HeartbeatError {
    const fn code(self) -> ErrorCode {
        match self {
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::Member(error) => error.code(),
            Self::IllegalGeneration => ErrorCode::IllegalGeneration,
            Self::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        }
    }
}

impl GroupLedger {
    /// A member lives. Appends and answers nothing by itself.
    pub fn heartbeat(&mut self, turn: &mut Turn<'_>, request: &HeartbeatRequest) -> HeartbeatResponse {
        let error_code =
            self.try_heartbeat(turn.now, request).map_or_else(HeartbeatError::code, |()| ErrorCode::None);
        HeartbeatResponse { error_code: error_code.code(), ..HeartbeatResponse::default() }
    }

    fn try_heartbeat(&mut self, now: Now, request: &HeartbeatRequest) -> Result<(), HeartbeatError> {
        if request.group_id.is_empty() {
            return Err(HeartbeatError::InvalidGroupId);
        }
        if self.has_consumer_members(&request.group_id) {
            return self.heartbeat_consumer_group(now, request);
        }
        let group = self.groups.get(&request.group_id).ok_or(MemberError::Unknown)?;
        group.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != group.generation {
            return Err(HeartbeatError::IllegalGeneration);
        }
        let is_preparing = matches!(group.phase, Phase::PreparingRebalance { .. });
        self.restart_session(now, &request.group_id, &request.member_id);
        if is_preparing { Err(HeartbeatError::RebalanceInProgress) } else { Ok(()) }
    }
}
