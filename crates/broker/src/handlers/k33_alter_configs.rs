//! AlterConfigs (key 33, versions 0-2): replaces the configs of topics and brokers.
//!
//! What is done by version stands in `dohle_controller`'s `configs_alter.rs`.

use std::ops::RangeInclusive;

use dohle_protocol::messages::AlterConfigsRequest;

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=2;

pub(super) fn handle(node: &mut Node, call: Call, request: AlterConfigsRequest) {
    let outcome = node.metadata.controller().handle_alter_configs(&node.config, &request);
    node.commit_metadata(call, outcome);
}
