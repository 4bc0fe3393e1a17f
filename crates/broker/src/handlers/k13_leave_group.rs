//! LeaveGroup (key 13, versions 0-5): members leave their group, one or, from version 3 on, many (KIP-345).
//!
//! What is done by version stands in `dohle_groups`' `leave.rs`.

use std::ops::RangeInclusive;

use dohle_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=5;

pub(super) fn handle(node: &mut Node, call: Call, request: LeaveGroupRequest) {
    let caller = node.caller(&call);
    node.ask_group(
        call,
        &request.group_id,
        |error| LeaveGroupResponse { error_code: error.code(), ..LeaveGroupResponse::default() },
        |ledger, turn| ledger.leave(turn, &caller, &request),
    );
}
