//! EndTxn: decides that a transaction is committed or aborted. The answer leaves when the decision is durable; the
//! markers follow.
//!
//! With transactions v2 (version 5, KIP-890) the answer has the epoch, or the id, that the producer goes on with. A
//! request that is repeated or late has the epoch before it and cannot be taken for one of the next transaction
//! (KAFKA-17754):
//!
//! ```text
//!                   abort with the               commit with the
//!                   last epoch  present epoch    last epoch  present epoch
//! Empty             fenced      a new epoch      fenced      INVALID_TXN_STATE
//! CompleteAbort     as before   a new epoch      INVALID_TXN_STATE
//! CompleteCommit    INVALID_..  a new epoch      as before   INVALID_TXN_STATE
//! ```
//!
//! The producer may abort what it has not begun: a write of its may be on its way still.

use dohle_protocol::messages::{EndTxnRequest, EndTxnResponse};
use dohle_types::{ErrorCode, ProducerEpoch, ProducerId, Str};

use crate::state::{Status, Transaction, TransactionVersion, TxnResult, next_epoch};
use crate::{Bump, TransactionLedger, Turn, records};

/// Why a transaction is not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum EndError {
    #[error("the transactional id is empty")]
    InvalidRequest,
    #[error("the transactional id has no producer of this id")]
    InvalidProducerIdMapping,
    #[error("the producer has another epoch")]
    ProducerFenced,
    #[error("the transaction is being ended: ask again")]
    ConcurrentTransactions,
    #[error("no transaction is open that could end so")]
    InvalidTxnState,
    #[error("the broker has no producer id left and is reserving more: ask again")]
    NoProducerId,
}

impl EndError {
    const fn code(self, api_version: i16) -> ErrorCode {
        match self {
            Self::InvalidRequest => ErrorCode::InvalidRequest,
            Self::InvalidProducerIdMapping => ErrorCode::InvalidProducerIdMapping,
            // Clients learned of PRODUCER_FENCED with version 2 (KIP-588).
            Self::ProducerFenced if api_version < 2 => ErrorCode::InvalidProducerEpoch,
            Self::ProducerFenced => ErrorCode::ProducerFenced,
            Self::ConcurrentTransactions => ErrorCode::ConcurrentTransactions,
            Self::InvalidTxnState => ErrorCode::InvalidTxnState,
            Self::NoProducerId => ErrorCode::CoordinatorLoadInProgress,
        }
    }
}

impl TransactionLedger {
    /// Ends a transaction.
    pub fn end_txn(
        &mut self,
        turn: &mut Turn<'_>,
        api_version: i16,
        request: &EndTxnRequest,
    ) -> EndTxnResponse {
        // A log without transactions v2 has no place for what they need to remember.
        let client = if api_version < 5 { TransactionVersion::V0 } else { turn.version };
        match self.try_end(turn, client, request) {
            Ok((producer_id, epoch)) => EndTxnResponse {
                producer_id: producer_id.0,
                producer_epoch: epoch.0,
                ..EndTxnResponse::default()
            },
            Err(error) => {
                EndTxnResponse { error_code: error.code(api_version).code(), ..EndTxnResponse::default() }
            }
        }
    }

    /// The id and epoch that the producer goes on with.
    fn try_end(
        &mut self,
        turn: &mut Turn<'_>,
        client: TransactionVersion,
        request: &EndTxnRequest,
    ) -> Result<(ProducerId, ProducerEpoch), EndError> {
        let transactional_id = &request.transactional_id;
        if transactional_id.is_empty() {
            return Err(EndError::InvalidRequest);
        }
        let present = self.state.transaction(transactional_id).cloned();
        let present = present.ok_or(EndError::InvalidProducerIdMapping)?;
        // First of all: the producer may have been told the id already that it goes on with.
        if present.status.is_prepared() {
            return Err(EndError::ConcurrentTransactions);
        }
        let result = if request.committed { TxnResult::Commit } else { TxnResult::Abort };
        let producer = (ProducerId(request.producer_id), ProducerEpoch(request.producer_epoch));
        let (epoch, next_producer_id) = if client.bumps_epochs() {
            match judge_v2(&present, producer, result)? {
                Verdict::AsBefore => return Ok((present.producer_id, present.epoch)),
                Verdict::End if present.is_epoch_exhausted() => {
                    let fresh = (turn.take_producer_id)().ok_or(EndError::NoProducerId)?;
                    (next_epoch(present.epoch), fresh)
                }
                Verdict::End => (next_epoch(present.epoch), ProducerId::NONE),
            }
        } else {
            match judge(&present, producer, result)? {
                Verdict::AsBefore => return Ok((present.producer_id, present.epoch)),
                Verdict::End => (present.epoch, ProducerId::NONE),
            }
        };
        let prepared = present.prepared(result, epoch, next_producer_id, client, turn.now.wall);
        let identity = self.end(transactional_id, &prepared, result, turn);
        if client.bumps_epochs() {
            self.bumps.insert(transactional_id.clone(), Bump { from: present.epoch, to: identity });
        }
        Ok(identity)
    }

    /// Writes down that a transaction ends, and sees to its markers. The id and epoch that its producer goes on with.
    pub(crate) fn end(
        &mut self,
        transactional_id: &Str,
        prepared: &Transaction,
        result: TxnResult,
        turn: &mut Turn<'_>,
    ) -> (ProducerId, ProducerEpoch) {
        Self::write(transactional_id, prepared, turn);
        let completed = prepared.completed(result, turn.now.wall);
        if prepared.partitions.is_empty() {
            Self::write(transactional_id, &completed, turn);
        } else {
            self.write_markers(transactional_id, prepared, turn);
        }
        (completed.producer_id, completed.epoch)
    }

    /// Writes what has become of a transaction, without more partitions than it had.
    pub(crate) fn write(transactional_id: &Str, transaction: &Transaction, turn: &mut Turn<'_>) {
        match records::transaction(transactional_id, transaction, turn.version) {
            Ok(record) => turn.effects.records.push(record),
            Err(error) => unreachable!("what was in a record fits in one: {error}"),
        }
    }
}

/// What an EndTxn comes to.
enum Verdict {
    End,
    /// It was done already.
    AsBefore,
}

/// Of a client whose epoch stays what it is.
fn judge(
    present: &Transaction,
    (producer_id, epoch): (ProducerId, ProducerEpoch),
    result: TxnResult,
) -> Result<Verdict, EndError> {
    if present.producer_id != producer_id {
        return Err(EndError::InvalidProducerIdMapping);
    }
    if present.epoch != epoch {
        return Err(EndError::ProducerFenced);
    }
    match present.status {
        Status::Ongoing => Ok(Verdict::End),
        Status::Complete(ended) if ended == result => Ok(Verdict::AsBefore),
        Status::Empty | Status::Complete(_) => Err(EndError::InvalidTxnState),
        Status::Prepare(_) => Err(EndError::ConcurrentTransactions),
    }
}

/// Of a client of transactions v2; the module's documentation has the table.
fn judge_v2(
    present: &Transaction,
    (producer_id, epoch): (ProducerId, ProducerEpoch),
    result: TxnResult,
) -> Result<Verdict, EndError> {
    let is_late = is_of_last_transaction(present, producer_id, epoch);
    if present.producer_id != producer_id && !is_late {
        return Err(EndError::InvalidProducerIdMapping);
    }
    if present.epoch != epoch && !is_late {
        return Err(EndError::ProducerFenced);
    }
    match (present.status, result) {
        (Status::Complete(ended), _) if is_late => {
            if ended == result {
                Ok(Verdict::AsBefore)
            } else {
                Err(EndError::InvalidTxnState)
            }
        }
        (Status::Ongoing, _) | (Status::Empty | Status::Complete(_), TxnResult::Abort) => Ok(Verdict::End),
        (Status::Empty | Status::Complete(_), TxnResult::Commit) => Err(EndError::InvalidTxnState),
        (Status::Prepare(_), _) => Err(EndError::ConcurrentTransactions),
    }
}

/// Whether the producer speaks of the transaction that has ended, with the epoch that it had.
fn is_of_last_transaction(present: &Transaction, producer_id: ProducerId, epoch: ProducerEpoch) -> bool {
    if !matches!(present.status, Status::Complete(_)) || !present.client_version.bumps_epochs() {
        return false;
    }
    let kept_its_id =
        present.producer_id == producer_id && epoch < present.epoch && next_epoch(epoch) == present.epoch;
    let got_another = present.previous_producer_id == producer_id
        && producer_id != ProducerId::NONE
        && present.epoch == ProducerEpoch(0)
        && epoch == ProducerEpoch(i16::MAX - 1);
    kept_its_id || got_another
}
