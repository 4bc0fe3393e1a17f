//! IncrementalAlterConfigs (key 44, versions 0-1): changes single configs of topics and brokers (KIP-339).
//!
//! What is done by version stands in `dohle_controller`'s `configs_alter.rs`.

use std::ops::RangeInclusive;

use dohle_protocol::messages::IncrementalAlterConfigsRequest;

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=1;

pub(super) fn handle(node: &mut Node, call: Call, request: IncrementalAlterConfigsRequest) {
    let outcome = node.metadata.controller().handle_incremental_alter_configs(&node.config, &request);
    node.commit_metadata(call, outcome);
}
