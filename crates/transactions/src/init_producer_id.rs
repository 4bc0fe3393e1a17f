//! InitProducerId with a transactional id: gives a producer its id and epoch, and fences the one before it (KIP-98,
//! KIP-360).
//!
//! A transaction that is open is aborted first, under an epoch that no client gets; the client is told to ask again.
//! A producer that names its present id and epoch goes on after an error, without fencing anybody; if it does not
//! hear the answer and asks again, it is given the same epoch again.

use dohle_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use dohle_types::{ErrorCode, ProducerEpoch, ProducerId, Str};

use crate::state::{self, Status, Transaction, TxnResult, next_epoch};
use crate::{Bump, TransactionLedger, Turn};

/// Why a producer gets no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum InitError {
    #[error("a transactional id is empty, or only one of producer id and epoch is given")]
    InvalidRequest,
    #[error("transaction.timeout.ms is not between 1 and transaction.max.timeout.ms")]
    InvalidTimeout,
    #[error("another producer was given the transactional id since")]
    ProducerFenced,
    #[error("the last transaction is still being ended: ask again")]
    ConcurrentTransactions,
    #[error("the broker has no producer id left and is reserving more: ask again")]
    NoProducerId,
    #[error("there are too many transactional ids in this partition of __transaction_state: use fewer")]
    TooManyTransactionalIds,
}

impl InitError {
    const fn code(self, api_version: i16) -> ErrorCode {
        match self {
            Self::InvalidRequest => ErrorCode::InvalidRequest,
            Self::InvalidTimeout => ErrorCode::InvalidTransactionTimeout,
            // Clients learned of PRODUCER_FENCED with version 4 (KIP-588).
            Self::ProducerFenced if api_version < 4 => ErrorCode::InvalidProducerEpoch,
            Self::ProducerFenced => ErrorCode::ProducerFenced,
            Self::ConcurrentTransactions => ErrorCode::ConcurrentTransactions,
            Self::NoProducerId => ErrorCode::CoordinatorLoadInProgress,
            Self::TooManyTransactionalIds => ErrorCode::PolicyViolation,
        }
    }
}

/// The id and epoch that a producer says it has.
type Expected = Option<(ProducerId, ProducerEpoch)>;

impl TransactionLedger {
    /// Gives a producer its id and epoch.
    pub fn init_producer_id(
        &mut self,
        turn: &mut Turn<'_>,
        api_version: i16,
        request: &InitProducerIdRequest,
    ) -> InitProducerIdResponse {
        match self.try_init(turn, request) {
            Ok((producer_id, epoch)) => InitProducerIdResponse {
                producer_id: producer_id.0,
                producer_epoch: epoch.0,
                ..InitProducerIdResponse::default()
            },
            Err(error) => InitProducerIdResponse {
                error_code: error.code(api_version).code(),
                producer_id: ProducerId::NONE.0,
                producer_epoch: ProducerEpoch::NONE.0,
                ..InitProducerIdResponse::default()
            },
        }
    }

    fn try_init(
        &mut self,
        turn: &mut Turn<'_>,
        request: &InitProducerIdRequest,
    ) -> Result<(ProducerId, ProducerEpoch), InitError> {
        let transactional_id = request.transactional_id.clone().unwrap_or_default();
        let expected = expected(request).filter(|_| !transactional_id.is_empty());
        let expected = expected.ok_or(InitError::InvalidRequest)?;
        let timeout_ms = request.transaction_timeout_ms;
        if timeout_ms <= 0 || timeout_ms > self.config.timeout_ms_max {
            return Err(InitError::InvalidTimeout);
        }
        let now = turn.now.wall;
        let Some(present) = self.state.transaction(&transactional_id).cloned() else {
            if self.state.len() >= self.config.transactional_ids_max
                || self.state.bytes() >= self.config.state_bytes_max
            {
                return Err(InitError::TooManyTransactionalIds);
            }
            let producer_id = (turn.take_producer_id)().ok_or(InitError::NoProducerId)?;
            let first = Transaction::empty(producer_id, ProducerEpoch(0), timeout_ms, now);
            return Ok(self.initialize(&transactional_id, first, None, turn));
        };
        let is_its_own = |(producer_id, epoch): (ProducerId, ProducerEpoch)| {
            producer_id == present.producer_id
                || producer_id == present.previous_producer_id && state::is_exhausted(epoch)
        };
        if !expected.is_none_or(is_its_own) {
            return Err(InitError::ProducerFenced);
        }
        match present.status {
            Status::Prepare(_) => Err(InitError::ConcurrentTransactions),
            Status::Ongoing => {
                self.fence(&transactional_id, &present, turn);
                Err(InitError::ConcurrentTransactions)
            }
            Status::Empty | Status::Complete(_) => {
                let (producer_id, epoch, previous) =
                    self.next_identity(&transactional_id, &present, expected, turn)?;
                let next = Transaction {
                    previous_producer_id: previous,
                    ..Transaction::empty(producer_id, epoch, timeout_ms, now)
                };
                Ok(self.initialize(&transactional_id, next, expected, turn))
            }
        }
    }

    /// The id and epoch that the producer goes on with, and the id that it had, if that is another.
    fn next_identity(
        &self,
        transactional_id: &Str,
        present: &Transaction,
        expected: Expected,
        turn: &mut Turn<'_>,
    ) -> Result<(ProducerId, ProducerEpoch, ProducerId), InitError> {
        let (producer_id, epoch) = (present.producer_id, present.epoch);
        let is_present = expected.is_none_or(|(expected, at)| expected == producer_id && at == epoch);
        match expected {
            _ if is_present && present.is_epoch_exhausted() => {
                let fresh = (turn.take_producer_id)().ok_or(InitError::NoProducerId)?;
                Ok((fresh, ProducerEpoch(0), producer_id))
            }
            _ if is_present => Ok((producer_id, next_epoch(epoch), ProducerId::NONE)),
            // It had asked before, or had ended its transaction, and did not hear the answer.
            Some((_, last)) if self.epoch_before(transactional_id, present) == Some(last) => {
                Ok((producer_id, epoch, present.previous_producer_id))
            }
            _ => Err(InitError::ProducerFenced),
        }
    }

    /// The epoch that the present producer had before this one.
    fn epoch_before(&self, transactional_id: &str, present: &Transaction) -> Option<ProducerEpoch> {
        let bump = self.bumps.get(transactional_id)?;
        (bump.to == (present.producer_id, present.epoch)).then_some(bump.from)
    }

    fn initialize(
        &mut self,
        transactional_id: &Str,
        next: Transaction,
        expected: Expected,
        turn: &mut Turn<'_>,
    ) -> (ProducerId, ProducerEpoch) {
        let identity = (next.producer_id, next.epoch);
        if let Some((_, from)) = expected {
            self.bumps.insert(transactional_id.clone(), Bump { from, to: identity });
        }
        Self::write(transactional_id, &next, turn);
        identity
    }

    /// Aborts an open transaction under an epoch that its producer does not have.
    ///
    /// With transactions v2 the producer takes up that epoch if it aborts the transaction itself. As in Kafka since
    /// 4.1 the epoch grows by one, not by two (KAFKA-19367).
    ///
    /// Differs from Kafka: the last epoch is fenced by the greatest one, and not by a new producer id, which the
    /// broker may not have at the moment. Its producer is fenced then also where another may go on.
    pub(crate) fn fence(&mut self, transactional_id: &Str, present: &Transaction, turn: &mut Turn<'_>) {
        let version = if present.is_epoch_exhausted() { state::TransactionVersion::V0 } else { turn.version };
        let aborted = present.prepared(
            TxnResult::Abort,
            next_epoch(present.epoch),
            ProducerId::NONE,
            version,
            turn.now.wall,
        );
        self.end(transactional_id, &aborted, TxnResult::Abort, turn);
    }
}

/// `None` where a client gives half of its identity.
fn expected(request: &InitProducerIdRequest) -> Option<Expected> {
    match (ProducerId(request.producer_id), ProducerEpoch(request.producer_epoch)) {
        (ProducerId::NONE, ProducerEpoch::NONE) => Some(None),
        (ProducerId::NONE, _) | (_, ProducerEpoch::NONE) => None,
        (producer_id, epoch) => Some(Some((producer_id, epoch))),
    }
}
