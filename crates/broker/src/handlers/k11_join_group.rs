//! JoinGroup (key 11, versions 0-9): a member of the classic protocol joins its group, and learns of the others
//! when the rebalance is complete.
//!
//! What is done by version stands in `dohle_groups`' `join.rs`.

use std::ops::RangeInclusive;

use dohle_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=9;

pub(super) fn handle(node: &mut Node, call: Call, request: JoinGroupRequest) {
    match node.coordinator_of(&request.group_id) {
        Ok(index) => {
            let caller = node.caller(&call);
            let token = node.group_token(call);
            node.run_groups(index, |ledger, turn| {
                ledger.join(turn, token, &caller, &request);
            });
        }
        Err(error) => {
            let response = JoinGroupResponse { error_code: error.code(), ..JoinGroupResponse::default() };
            node.reply(&call, &response);
        }
    }
}
