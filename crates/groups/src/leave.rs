//! LeaveGroup (key 13, versions 0-5): members leave, or an operator removes them.
//!
//! Version 3 and later: several members, by member id or by `group.instance.id` (KIP-345), with an error each.
//! Version 5: why (KIP-800), which the journal tells.

use std::collections::BTreeMap;

use dohle_protocol::messages::leave_group_request::MemberIdentity;
use dohle_protocol::messages::leave_group_response::MemberResponse;
use dohle_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use dohle_types::{ErrorCode, Str};

use crate::effects::Context;
use crate::group::{Group, MemberError, Phase};
use crate::journal::cause::{Cause, CauseKind, Who};
use crate::{Caller, GroupLedger, Turn};

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
            self.leave_consumer_group(turn, caller, &request.group_id, &members)
        } else {
            self.with_group(turn.now, &request.group_id, turn.effects, |group, context| {
                group.leave(caller, &members, context)
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
    fn leave(
        &mut self,
        caller: &Caller,
        members: &[MemberIdentity],
        context: &mut Context<'_>,
    ) -> Vec<ErrorCode> {
        let mut left = Departures::default();
        let mut errors = Vec::with_capacity(members.len());
        for identity in members {
            let leaving = self.leaving_member(identity);
            errors.push(leaving.as_ref().map_or_else(|error| error.code(), |_| ErrorCode::None));
            if let Ok(member_id) = leaving {
                left.add(caller, identity, self.lose_member(&member_id, context));
            }
        }
        if self.phase != Phase::Empty {
            for cause in left.into_causes() {
                self.rebalance(cause, context);
            }
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

/// Members that are gone by one request, by the kind of the cause.
#[derive(Default)]
pub(crate) struct Departures(BTreeMap<(CauseKind, Option<Str>), Vec<Who>>);

impl Departures {
    /// A member is gone as the request says. Of one that was removed it is told by whom.
    pub(crate) fn add(&mut self, caller: &Caller, identity: &MemberIdentity, who: Who) {
        let said = identity.reason.as_ref();
        let kind = CauseKind::of_leaving(!identity.member_id.is_empty(), said.map(Str::as_str));
        let reason = if kind == CauseKind::RemovedByAdministrator {
            let by = Who::new("", None, &caller.client_id, &caller.client_host);
            Some(Str::from(match said.filter(|said| !said.is_empty()) {
                Some(said) => format!("{said}, by {by}"),
                None => format!("by {by}"),
            }))
        } else {
            said.cloned()
        };
        self.0.entry((kind, reason)).or_default().push(who);
    }

    /// The causes of the rebalance that follows.
    pub(crate) fn into_causes(self) -> impl Iterator<Item = Cause> {
        let causes = self.0.into_iter();
        causes.map(|((kind, reason), members)| Cause::of_all(kind, members).because(reason.as_ref()))
    }
}
