//! ConsumerGroupDescribe (key 69, versions 0-1): the epochs and the members of groups of the consumer protocol, what
//! each member owns and what it is to own (KIP-848).
//!
//! - 1: which protocol a member speaks (KIP-1099).
//!
//! Groups of the classic protocol are told of by DescribeGroups; here they are not found.

use std::ops::RangeInclusive;

use dohle_protocol::messages::consumer_group_describe_response::DescribedGroup;
use dohle_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};
use dohle_types::{ErrorCode, Str};

use super::{authorized_operations, k68_consumer_group_heartbeat};
use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=1;

pub(super) fn handle(node: &mut Node, call: Call, request: ConsumerGroupDescribeRequest) {
    let is_enabled = k68_consumer_group_heartbeat::is_enabled(node);
    let mut indexes = Vec::new();
    let groups = request
        .group_ids
        .into_iter()
        .map(|group_id| {
            let index = if group_id.is_empty() {
                Err(ErrorCode::InvalidGroupId)
            } else if is_enabled {
                node.coordinator_of(&group_id)
            } else {
                Err(ErrorCode::UnsupportedVersion)
            };
            let described = index.and_then(|index| {
                indexes.push(index);
                let described = node.run_groups(index, |ledger, turn| {
                    ledger.describe_consumer_group(&group_id, turn.cluster)
                });
                described.ok_or(ErrorCode::NotCoordinator)
            });
            let mut group = described.unwrap_or_else(|error| DescribedGroup {
                group_id,
                error_code: error.code(),
                error_message: Some(Str::from(error.name())),
                ..DescribedGroup::default()
            });
            if request.include_authorized_operations && group.error_code == 0 {
                group.authorized_operations = authorized_operations::GROUP;
            }
            group
        })
        .collect();
    indexes.sort_unstable();
    indexes.dedup();
    let response = ConsumerGroupDescribeResponse { groups, ..ConsumerGroupDescribeResponse::default() };
    node.answer_from_groups(&indexes, call, &response);
}
