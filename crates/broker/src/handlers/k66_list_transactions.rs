//! ListTransactions (key 66, versions 0-2): the transactional ids of this broker (KIP-664).
//!
//! - 1: those that have been open for longer than so long (KIP-994). 2: those whose name a pattern matches (KIP-1152).

use std::ops::RangeInclusive;

use dohle_protocol::messages::{ListTransactionsRequest, ListTransactionsResponse};
use dohle_transactions::ListFilter;
use dohle_types::ErrorCode;

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=2;

pub(super) fn handle(node: &mut Node, call: Call, request: ListTransactionsRequest) {
    let failed = |error: ErrorCode| ListTransactionsResponse { error_code: error.code(), ..Default::default() };
    if node.txns.is_loading() {
        return node.reply(&call, &failed(ErrorCode::CoordinatorLoadInProgress));
    }
    let Ok(filter) = ListFilter::new(&request) else {
        return node.reply(&call, &failed(ErrorCode::InvalidRegularExpression));
    };
    let loaded = node.txns.loaded();
    let transaction_states = loaded.flat_map(|(_, ledger)| ledger.list(node.now, &filter)).collect();
    let asked: Vec<i32> = node.txns.loaded().map(|(index, _)| index).collect();
    let response = ListTransactionsResponse {
        transaction_states,
        unknown_state_filters: filter.unknown_states.clone(),
        ..ListTransactionsResponse::default()
    };
    node.answer_from_txns(&asked, call, &response);
}
