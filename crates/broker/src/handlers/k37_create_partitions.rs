//! CreatePartitions (key 37, versions 0-3): adds partitions to topics.
//!
//! What is done by version stands in `dohle_controller`'s `partitions_create.rs`.

use std::ops::RangeInclusive;

use dohle_protocol::messages::CreatePartitionsRequest;

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=3;

pub(super) fn handle(node: &mut Node, call: Call, request: CreatePartitionsRequest) {
    let outcome = node.metadata.controller().handle_create_partitions(&mut node.rng, &request);
    node.commit_metadata(call, outcome);
}
