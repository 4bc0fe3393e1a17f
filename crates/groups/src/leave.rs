//! LeaveGroup (key 13, versions 0-5): members leave, or an operator removes them.
//!
//! Version 3 and later: several members, by member id or by `group.instance.id` (KIP-345), with an error each.
//! Version 5: why (KIP-800), which is not kept.

use dohle_protocol::messages::leave_group_request::MemberIdentity;
use dohle_protocol::messages::leave_group_response::MemberResponse;
use dohle_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use dohle_types::{ErrorCode, Str};

use crate::effects::Context;
use crate::group::{Group, MemberError, Phase};
use crate::{Caller, GroupLedger, RebalanceCause, Turn};

impl GroupLedger {
    /// Members leave.
    pub fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        request: &LeaveGroupRequest,
    ) -> LeaveGroupResponse {
        if request.group_id.is_empty() {
            return LeaveGroupResponse {
                error_code: ErrorCode::InvalidGroupId.code(),
                ..LeaveGroupResponse::default()
            };
        }
        let one_member = caller.api_version < 3;
        let members = if one_member {
            vec![MemberIdentity { member_id: request.member_id.clone(), ..MemberIdentity::default() }]
        } else {
            request.members.clone()
        };
        let errors = if self.has_consumer_members(&request.group_id) {
            self.leave_consumer_group(turn, &request.group_id, &members)
        } else {
            self.with_group(turn.now, &request.group_id, turn.effects, |group, context| {
                group.leave(&members, context)
            })
            .unwrap_or_else(|| vec![ErrorCode::UnknownMemberId; members.len()])
        };
        if one_member {
            let error_code = errors.first().map_or(0, |error| error.code());
            return LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() };
        }
        let members = members.into_iter().zip(errors).map(|(member, error)| MemberResponse {
            member_id: member.member_id,
            group_instance_id: member.group_instance_id,
            error_code: error.code(),
        });
        LeaveGroupResponse { members: members.collect(), ..LeaveGroupResponse::default() }
    }
}

impl Group {
    /// Removes those that can be removed, then rebalances once. Returns an error for each.
    fn leave(&mut self, members: &[MemberIdentity], context: &mut Context<'_>) -> Vec<ErrorCode> {
        let mut left = Vec::new();
        let mut errors = Vec::with_capacity(members.len());
        for identity in members {
            let leaving = self.leaving_member(identity);
            errors.push(leaving.as_ref().map_or_else(|error| error.code(), |_| ErrorCode::None));
            if let Ok(member_id) = leaving {
                self.remove_member(&member_id, context.effects);
                left.push(member_id);
            }
        }
        if !left.is_empty() && self.phase != Phase::Empty {
            self.rebalance(RebalanceCause::Left(left), context);
        }
        errors
    }

    fn leaving_member(&self, identity: &MemberIdentity) -> Result<Str, MemberError> {
        let instance_id = identity.group_instance_id.as_ref();
        if identity.member_id.is_empty() {
            // An operator knows the instance id only.
            return instance_id
                .and_then(|instance_id| self.static_member(instance_id))
                .cloned()
                .ok_or(MemberError::Unknown);
        }
        if !self.pending.contains_key(&identity.member_id) {
            self.validate_member(&identity.member_id, instance_id)?;
        }
        Ok(identity.member_id.clone())
    }
}
