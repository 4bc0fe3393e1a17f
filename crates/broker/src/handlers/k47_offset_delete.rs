//! OffsetDelete (key 47, versions 0-0): forgets committed offsets of a group (KIP-496).
//!
//! What is done by version stands in `dohle_groups`' `offsets_delete.rs`.

use std::ops::RangeInclusive;

use dohle_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=0;

pub(super) fn handle(node: &mut Node, call: Call, request: OffsetDeleteRequest) {
    node.ask_group(
        call,
        &request.group_id,
        |error| OffsetDeleteResponse { error_code: error.code(), ..OffsetDeleteResponse::default() },
        |ledger, turn| ledger.delete_offsets(&request, turn.effects),
    );
}
