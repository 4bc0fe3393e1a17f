//! ListTransactions: transactional ids by state, producer, duration and name (KIP-664, KIP-994, KIP-1152).

use dohle_protocol::messages::ListTransactionsRequest;
use dohle_protocol::messages::list_transactions_response::TransactionState;
use dohle_types::{Now, Str};
use regex::{Regex, RegexBuilder};

use crate::TransactionLedger;
use crate::state::Transaction;

/// Kafka's names of states that can be asked for; the last two are never seen.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];
/// Bytes that a pattern may have, and its compiled form.
const PATTERN_LEN_MAX: usize = 1024;
const PATTERN_COMPILED_BYTES_MAX: usize = 256 * 1024;

/// What transactions are asked for.
#[derive(Debug)]
pub struct ListFilter {
    states: Vec<Str>,
    producer_ids: Vec<i64>,
    duration_ms: Option<i64>,
    pattern: Option<Regex>,
    /// States that Kafka does not have.
    pub unknown_states: Vec<Str>,
}

/// The pattern of transactional ids cannot be used: `INVALID_REGULAR_EXPRESSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern of transactional ids is not a regular expression, or too long")]
pub struct InvalidPattern;

impl ListFilter {
    /// What a request asks for.
    pub fn new(request: &ListTransactionsRequest) -> Result<Self, InvalidPattern> {
        let (states, unknown_states) =
            request.state_filters.iter().cloned().partition(|state| STATES.contains(&state.as_str()));
        let pattern = request.transactional_id_pattern.as_ref().filter(|pattern| !pattern.is_empty());
        Ok(Self {
            states,
            producer_ids: request.producer_id_filters.clone(),
            duration_ms: (request.duration_filter >= 0).then_some(request.duration_filter),
            pattern: pattern.map(|pattern| compile(pattern)).transpose()?,
            unknown_states,
        })
    }

    fn admits(&self, now: Now, transactional_id: &str, transaction: &Transaction) -> bool {
        let state = transaction.status.name();
        let asks_for_states = !self.states.is_empty() || !self.unknown_states.is_empty();
        (!asks_for_states || self.states.iter().any(|asked| asked == state))
            && (self.producer_ids.is_empty() || self.producer_ids.contains(&transaction.producer_id.0))
            // As with Kafka, what has never begun counts as begun long ago.
            && self.duration_ms.is_none_or(|ms| now.wall.0.saturating_sub(transaction.started.0) > ms)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(transactional_id))
    }
}

impl TransactionLedger {
    /// The transactional ids that a filter admits, in their order.
    pub fn list(&self, now: Now, filter: &ListFilter) -> impl Iterator<Item = TransactionState> {
        let admitted =
            self.state.transactions().filter(move |(id, transaction)| filter.admits(now, id, transaction));
        admitted.map(|(transactional_id, transaction)| TransactionState {
            transactional_id: transactional_id.clone(),
            producer_id: transaction.producer_id.0,
            transaction_state: Str::from(transaction.status.name()),
        })
    }
}

/// A pattern that a whole transactional id has to match.
fn compile(pattern: &str) -> Result<Regex, InvalidPattern> {
    let build = |pattern: &str| {
        RegexBuilder::new(pattern).size_limit(PATTERN_COMPILED_BYTES_MAX).build().map_err(|_| InvalidPattern)
    };
    if pattern.len() > PATTERN_LEN_MAX {
        return Err(InvalidPattern);
    }
    // On its own first, so that it cannot reach out of the group that is put around it.
    build(pattern)?;
    build(&format!(r"\A(?:{pattern})\z"))
}
