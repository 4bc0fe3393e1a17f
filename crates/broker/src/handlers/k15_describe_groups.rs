//! DescribeGroups (key 15, versions 0-6): the state and the members of groups.
//!
//! - 3: authorized operations. 4: `group.instance.id`. 5: flexible. 6: GROUP_ID_NOT_FOUND for groups that do not
//!   exist (KIP-1043), which earlier versions describe as Dead.

use std::ops::RangeInclusive;

use dohle_protocol::messages::describe_groups_response::DescribedGroup;
use dohle_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use dohle_types::ErrorCode;

use super::authorized_operations;
use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=6;

pub(super) fn handle(node: &mut Node, call: Call, request: DescribeGroupsRequest) {
    let mut indexes = Vec::new();
    let version = call.version;
    let groups = request
        .groups
        .into_iter()
        .map(|group_id| {
            let described = node.coordinator_of(&group_id).and_then(|index| {
                let described = node.run_groups(index, |ledger, _| ledger.describe(&group_id, version));
                indexes.push(index);
                described.ok_or(ErrorCode::NotCoordinator)
            });
            let mut group = described.unwrap_or_else(|error| DescribedGroup {
                group_id,
                error_code: error.code(),
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
    let response = DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() };
    node.answer_from_groups(&indexes, call, &response);
}
