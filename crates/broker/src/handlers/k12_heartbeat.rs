//! Heartbeat (key 12, versions 0-4): a member of the classic protocol lives.
//!
//! What is done by version stands in `dohle_groups`' `heartbeat.rs`.

use std::ops::RangeInclusive;

use dohle_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=4;

pub(super) fn handle(node: &mut Node, call: Call, request: HeartbeatRequest) {
    node.ask_group(
        call,
        &request.group_id,
        |error| HeartbeatResponse { error_code: error.code(), ..HeartbeatResponse::default() },
        |ledger, turn| ledger.heartbeat(turn, &request),
    );
}
