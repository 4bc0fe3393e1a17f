//! DescribeTransactions (key 65, version 0): all that the coordinator knows of transactional ids (KIP-664).

use std::ops::RangeInclusive;

use dohle_protocol::messages::describe_transactions_response::TransactionState;
use dohle_protocol::messages::{DescribeTransactionsRequest, DescribeTransactionsResponse};

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=0;

pub(super) fn handle(node: &mut Node, call: Call, request: DescribeTransactionsRequest) {
    let mut asked = Vec::new();
    let states = request.transactional_ids.iter().map(|id| match node.txn_coordinator_of(id) {
        Ok(index) => {
            asked.push(index);
            let host = node.txns.loaded().find(|&(loaded, _)| loaded == index);
            host.map(|(_, ledger)| ledger.describe(id)).unwrap_or_default()
        }
        Err(error) => TransactionState {
            error_code: error.code(),
            transactional_id: id.clone(),
            ..TransactionState::default()
        },
    });
    let transaction_states = states.collect();
    asked.sort_unstable();
    asked.dedup();
    let response = DescribeTransactionsResponse { transaction_states, ..Default::default() };
    node.answer_from_txns(&asked, call, &response);
}
