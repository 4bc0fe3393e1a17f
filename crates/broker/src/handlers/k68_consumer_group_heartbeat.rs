//! ConsumerGroupHeartbeat (key 68, versions 0-1): a member of the consumer protocol joins its group, lives in it,
//! learns what it is to own, and leaves (KIP-848).
//!
//! - 1: the member brings its id (KIP-1082), and may subscribe by a regular expression.
//!
//! What is done by version stands in `dohle_groups`' `consumer/heartbeat.rs`. Where `group.coordinator.rebalance.protocols`
//! lacks `consumer`, or the feature `group.version` is at 0, it is refused with UNSUPPORTED_VERSION.

use std::ops::RangeInclusive;

use dohle_configs::broker;
use dohle_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use dohle_types::{ErrorCode, Str};

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=1;

pub(super) fn handle(node: &mut Node, call: Call, request: ConsumerGroupHeartbeatRequest) {
    if !is_enabled(node) {
        return node.reply(&call, &refusal(ErrorCode::UnsupportedVersion));
    }
    let caller = node.caller(&call);
    node.ask_group(call, &request.group_id, refusal, |ledger, turn| {
        ledger.consumer_group_heartbeat(turn, &caller, &request)
    });
}

fn refusal(error: ErrorCode) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code: error.code(),
        error_message: Some(Str::from(error.name())),
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

/// Whether groups may use the consumer protocol.
pub(super) fn is_enabled(node: &Node) -> bool {
    let protocols = node.config.value(broker::GROUP_COORDINATOR_REBALANCE_PROTOCOLS);
    let level = node.image().finalized_features().find(|(name, _)| *name == "group.version");
    protocols.iter().any(|protocol| protocol == "consumer") && level.is_some_and(|(_, level)| level >= 1)
}
