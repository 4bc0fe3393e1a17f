//! SyncGroup (key 14, versions 0-5): a member of the classic protocol asks for its assignment; the leader brings
//! everybody's.
//!
//! What is done by version stands in `dohle_groups`' `sync.rs`.

use std::ops::RangeInclusive;

use dohle_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=5;

pub(super) fn handle(node: &mut Node, call: Call, request: SyncGroupRequest) {
    match node.coordinator_of(&request.group_id) {
        Ok(index) => {
            let caller = node.caller(&call);
            let token = node.group_token(call);
            node.run_groups(index, |ledger, turn| {
                ledger.sync(turn, token, &caller, &request);
            });
        }
        Err(error) => {
            let response = SyncGroupResponse { error_code: error.code(), ..SyncGroupResponse::default() };
            node.reply(&call, &response);
        }
    }
}
