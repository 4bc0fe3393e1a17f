//! ListGroups (key 16, versions 0-5): the groups that this broker coordinates.
//!
//! - 3: flexible. 4: filter by state (KIP-518). 5: filter by type (KIP-848).

use std::ops::RangeInclusive;

use dohle_protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use dohle_types::ErrorCode;

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=5;

pub(super) fn handle(node: &mut Node, call: Call, request: ListGroupsRequest) {
    // An incomplete list would read as if groups were gone.
    if node.groups.is_loading() {
        let error_code = ErrorCode::CoordinatorLoadInProgress.code();
        return node.reply(&call, &ListGroupsResponse { error_code, ..ListGroupsResponse::default() });
    }
    let indexes = node.groups.loaded();
    let groups = indexes
        .iter()
        .filter_map(|&index| node.run_groups(index, |ledger, _| ledger.list(&request)))
        .flatten()
        .collect();
    let response = ListGroupsResponse { groups, ..ListGroupsResponse::default() };
    node.answer_from_groups(&indexes, call, &response);
}
