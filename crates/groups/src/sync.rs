//! SyncGroup (key 14, versions 0-5): the leader gives the assignment, the others ask for theirs.
//!
//! Version 3: static members (KIP-345). Version 5: protocol type and name, which must be there and be the
//! group's (KIP-559).

use std::collections::BTreeMap;

use bytes::Bytes;
use dohle_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use dohle_types::{ErrorCode, Str};

use crate::effects::Context;
use crate::group::{Group, MemberError, Phase, sync_error};
use crate::{Caller, GroupLedger, Token, Turn};

/// Why a SyncGroup is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SyncError {
    #[error("the group id is empty: set group.id")]
    InvalidGroupId,
    #[error(transparent)]
    Member(#[from] MemberError),
    #[error("the generation is over: join again")]
    IllegalGeneration,
    #[error("the generation has another protocol: join again")]
    InconsistentProtocol,
    #[error("the group rebalances: join again")]
    RebalanceInProgress,
}

impl SyncError {
    const fn code(self) -> ErrorCode {
        match self {
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::Member(error) => error.code(),
            Self::IllegalGeneration => ErrorCode::IllegalGeneration,
            Self::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
            Self::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        }
    }
}

impl GroupLedger {
    /// A member asks for its assignment; followers are answered once the leader has given it.
    pub fn sync(&mut self, turn: &mut Turn<'_>, token: Token, caller: &Caller, request: &SyncGroupRequest) {
        let Turn { now, effects, cluster, .. } = turn;
        let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
        let result = if caller.api_version >= 5 && !names_protocol {
            Err(SyncError::InconsistentProtocol)
        } else if request.group_id.is_empty() {
            Err(SyncError::InvalidGroupId)
        } else if self.has_consumer_members(&request.group_id) {
            self.sync_consumer_group(*now, *cluster, request)
                .map(|response| effects.reply_sync(token, response))
        } else {
            self.with_group(*now, &request.group_id, effects, |group, context| {
                group.sync(token, request, context)
            })
            .unwrap_or(Err(MemberError::Unknown.into()))
        };
        if let Err(error) = result {
            effects.reply_sync(token, sync_error(error.code()));
        }
    }
}

impl Group {
    fn sync(
        &mut self,
        token: Token,
        request: &SyncGroupRequest,
        context: &mut Context<'_>,
    ) -> Result<(), SyncError> {
        let member = self.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation {
            return Err(SyncError::IllegalGeneration);
        }
        if differs(request.protocol_type.as_ref(), self.protocol_type.as_ref())
            || differs(request.protocol_name.as_ref(), self.protocol.as_ref())
        {
            return Err(SyncError::InconsistentProtocol);
        }
        match self.phase {
            Phase::Empty => return Err(MemberError::Unknown.into()),
            Phase::PreparingRebalance { .. } => return Err(SyncError::RebalanceInProgress),
            Phase::CompletingRebalance => {
                self.park_sync(&request.member_id, token, context.effects);
                self.pending_sync.remove(&request.member_id);
                if self.is_leader(&request.member_id) {
                    self.assign(request, context);
                }
            }
            Phase::Stable => {
                let response = SyncGroupResponse {
                    protocol_type: self.protocol_type.clone(),
                    protocol_name: self.protocol.clone(),
                    assignment: member.assignment.clone(),
                    ..SyncGroupResponse::default()
                };
                context.effects.reply_sync(token, response);
                self.pending_sync.remove(&request.member_id);
            }
        }
        Ok(())
    }

    /// Takes the leader's assignment. Members that it forgot get an empty one.
    fn assign(&mut self, request: &SyncGroupRequest, context: &mut Context<'_>) {
        let assignments: BTreeMap<&Str, &Bytes> = request
            .assignments
            .iter()
            .map(|assignment| (&assignment.member_id, &assignment.assignment))
            .collect();
        // Copies: slices would keep the receive buffer alive.
        let assignment = |member_id: &Str| {
            assignments.get(member_id).map_or_else(Bytes::new, |bytes| Bytes::copy_from_slice(bytes))
        };
        self.complete_sync(assignment, context);
    }
}

/// Clients before version 5 do not say what they take the protocol for.
fn differs(claimed: Option<&Str>, actual: Option<&Str>) -> bool {
    claimed.is_some_and(|claimed| actual.is_some_and(|actual| claimed != actual))
}
