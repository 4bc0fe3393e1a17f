//! AddOffsetsToTxn (key 25, versions 0-4): a transaction is going to commit offsets of a group.
//!
//! The topic of offsets is created if it is not there, and the request is answered when it is. Clients of transactions v2
//! do without this request (KIP-890).
//!
//! - 2: PRODUCER_FENCED (KIP-588). 3: flexible. 4: of clients that know TRANSACTION_ABORTABLE (KIP-890).

use std::ops::RangeInclusive;

use dohle_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use dohle_types::{ErrorCode, Str};

use crate::connection::Call;
use crate::group_hosts::OFFSETS_TOPIC;
use crate::ledger_hosts::Held;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=4;

pub(crate) fn handle(node: &mut Node, call: Call, request: AddOffsetsToTxnRequest) {
    if node.image().topic(OFFSETS_TOPIC).is_none()
        && let Ok(records) = node.auto_create(&[Str::from(OFFSETS_TOPIC)])
    {
        return node.hold_metadata(records, Held::AddOffsets(call, request));
    }
    let version = call.version;
    match node.coordinator_of(&request.group_id) {
        Ok(index) => node.ask_txns(call, &request.transactional_id, refusal, |ledger, turn| {
            ledger.add_offsets(turn, version, &request, (OFFSETS_TOPIC, index))
        }),
        Err(error) => node.reply(&call, &refusal(error)),
    }
}

fn refusal(error: ErrorCode) -> AddOffsetsToTxnResponse {
    AddOffsetsToTxnResponse { error_code: error.code(), ..AddOffsetsToTxnResponse::default() }
}
