//! DeleteGroups (key 42, versions 0-2): deletes groups without members, and their offsets.

use std::ops::RangeInclusive;

use dohle_protocol::messages::delete_groups_response::DeletableGroupResult;
use dohle_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use dohle_types::ErrorCode;

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=2;

pub(super) fn handle(node: &mut Node, call: Call, request: DeleteGroupsRequest) {
    let mut indexes = Vec::new();
    let results = request
        .groups_names
        .into_iter()
        .map(|group_id| {
            let deleted = node.coordinator_of(&group_id).and_then(|index| {
                let deleted =
                    node.run_groups(index, |ledger, turn| ledger.delete_group(&group_id, turn.effects));
                indexes.push(index);
                deleted.ok_or(ErrorCode::NotCoordinator)
            });
            deleted.unwrap_or_else(|error| DeletableGroupResult {
                group_id,
                error_code: error.code(),
            })
        })
        .collect();
    indexes.sort_unstable();
    indexes.dedup();
    let response = DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() };
    node.answer_from_groups(&indexes, call, &response);
}
