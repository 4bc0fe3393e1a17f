//! AlterPartitionReassignments (key 45, versions 0-1): other replicas for partitions (KIP-455).
//!
//! What is done by version stands in `dohle_controller`'s `partitions_reassign.rs`. `kafka-reassign-partitions` asks
//! for it also where it only moves partitions between log dirs, with the replicas that there are.

use std::ops::RangeInclusive;

use dohle_protocol::messages::AlterPartitionReassignmentsRequest;

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=1;

pub(super) fn handle(node: &mut Node, call: Call, request: AlterPartitionReassignmentsRequest) {
    let outcome = node.metadata.controller().handle_alter_partition_reassignments(&request);
    node.commit_metadata(call, outcome);
}
