//! CreateTopics (key 19, versions 2-7): creates topics, which exist when the answer comes.
//!
//! What is done by version stands in `dohle_controller`'s `topics_create.rs`.

use std::ops::RangeInclusive;

use dohle_protocol::messages::CreateTopicsRequest;

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 2..=7;

pub(super) fn handle(node: &mut Node, call: Call, request: CreateTopicsRequest) {
    let outcome = node.metadata.controller().handle_create_topics(&node.config, &mut node.rng, &request);
    node.commit_metadata(call, outcome);
}
