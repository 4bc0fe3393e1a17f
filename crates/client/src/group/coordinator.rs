//! Which broker coordinates a group, or the transactions of a producer (FindCoordinator).

use dohle_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use dohle_types::{BrokerId, ErrorCode, Str};

use crate::Failure;
use crate::cluster::Reply;
use crate::metadata::check;

/// What is coordinated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    /// A group, by its id.
    Group = 0,
    /// Transactions, by the transactional id.
    Transaction = 1,
}

/// The question, in the form of every version: one key up to version 3, a list since (KIP-699).
pub(crate) fn request(kind: Kind, key: &Str) -> FindCoordinatorRequest {
    FindCoordinatorRequest { key: key.clone(), key_type: kind as i8, coordinator_keys: vec![key.clone()] }
}

/// The broker, or why there is none.
pub(crate) fn parse<T>(reply: &Reply<T>) -> Result<Result<BrokerId, ErrorCode>, Failure> {
    let response: FindCoordinatorResponse = reply.decode::<FindCoordinatorRequest>()?;
    let (error, broker) = response
        .coordinators
        .first()
        .map_or((response.error_code, response.node_id), |found| (found.error_code, found.node_id));
    Ok(check(error).map(|()| BrokerId(broker)))
}
