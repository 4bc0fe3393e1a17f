//! EndTxn (key 26, versions 0-5): commits or aborts a transaction.
//!
//! Answered when the decision is committed; the markers follow, and the next request of the producer is told
//! CONCURRENT_TRANSACTIONS until all of them are written.
//!
//! - 2: PRODUCER_FENCED (KIP-588). 3: flexible. 4: TRANSACTION_ABORTABLE may be answered. 5: of clients of transactions
//!   v2, which are told the epoch that they go on with (KIP-890).

use std::ops::RangeInclusive;

use dohle_protocol::messages::{EndTxnRequest, EndTxnResponse};

use crate::connection::Call;
use crate::ledger_hosts::Held;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=5;

pub(crate) fn handle(node: &mut Node, call: Call, request: EndTxnRequest) {
    let version = call.version;
    // Its epochs may be used up.
    if version >= 5
        && let Ok(Some(records)) = node.reserve_producer_ids()
    {
        return node.hold_metadata(records, Held::EndTxn(call, request));
    }
    node.ask_txns(
        call,
        &request.transactional_id,
        |error| EndTxnResponse { error_code: error.code(), ..EndTxnResponse::default() },
        |ledger, turn| ledger.end_txn(turn, version, &request),
    );
}
