//! DeleteTopics (key 20, versions 1-6): deletes topics and their records.
//!
//! What is done by version stands in `dohle_controller`'s `topics_delete.rs`.

use std::ops::RangeInclusive;

use dohle_protocol::messages::DeleteTopicsRequest;

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 1..=6;

pub(super) fn handle(node: &mut Node, call: Call, request: DeleteTopicsRequest) {
    let outcome = node.metadata.controller().handle_delete_topics(&node.config, call.version, &request);
    node.commit_metadata(call, outcome);
}
