//! Transactions of a producer (KIP-98), in the second version of their protocol (KIP-890).
//!
//! ```text
//!          begin            end                  idle: EndTxn           answer
//! Idle ───────────> Open ────────> Ending ───────────────────> Asked ──────────> Idle, with the next epoch
//!                    ^                └─ commit, and a record was given up ─┐
//!                    └──────────────────────────────────────────────────────┘
//! ```
//!
//! The coordinator gives each transaction an epoch of its own, so that nothing of an earlier one, whatever delays or
//! repeats it, is ever taken for part of a later one. Partitions need not be announced: their leaders ask the
//! coordinator. When a record of a transaction is given up, the transaction can only be aborted. `offsets.rs` has the
//! offsets that a transaction commits.

use std::time::Duration;

use dohle_protocol::Request;
use dohle_protocol::messages::{EndTxnRequest, InitProducerIdRequest};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Now, ProducerEpoch, ProducerId, Str};

use super::coordinator::Coordinator;
use super::offsets::OffsetCommits;
use super::sender::Token;
use super::{DeliveryError, Identification, Identity, Producer};
use crate::cluster::{Reply, Route};
use crate::group::coordinator::Kind;
use crate::metadata::error_of;
use crate::{Effects, Failure};

/// The version of EndTxn from which on the coordinator gives out the next epoch.
const VERSION_2: i16 = 5;

/// Why a transaction was not begun or did not end as it was to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The coordinator has not told the producer's id yet: drive the machine and try again.
    #[error("waiting for the transaction coordinator")]
    NotReady,
    /// There is no transaction to be ended, or one that has to end before another begins.
    #[error("transactions begin and end by turns, and only with a transactional id")]
    OutOfTurn,
    /// A record was given up, or the coordinator wants it so: the transaction can only be aborted.
    #[error("the transaction can only be aborted: {0}")]
    Abort(DeliveryError),
    /// Another producer with the same transactional id has taken over. Nothing goes on with this one.
    #[error("another producer with the same transactional.id has taken over; end this one")]
    Fenced,
    /// The coordinator refused, and nothing is known of the transaction. Nothing goes on with this producer.
    #[error("the transaction coordinator refused, and a new producer has to go on: {0}")]
    Lost(DeliveryError),
}

#[derive(Debug)]
enum Phase {
    Idle,
    Open,
    /// To be ended once nothing of it is under way, and not before that instant.
    Ending {
        commit: bool,
        at: Instant,
        failures: u32,
    },
    /// The coordinator was asked to end it.
    Asked {
        commit: bool,
        failures: u32,
    },
    Over(TransactionError),
}

/// The transactions of one producer.
#[derive(Debug)]
pub(super) struct Transactions {
    id: Str,
    timeout: Duration,
    coordinator: Coordinator,
    phase: Phase,
    /// Whether nothing was sent in the one that is open.
    is_empty: bool,
    /// What was given up of the one that is open.
    given_up: Option<DeliveryError>,
    pub(super) offsets: OffsetCommits,
    ended: Option<Result<(), TransactionError>>,
}

impl Transactions {
    pub(super) const fn new(id: Str, timeout: Duration) -> Self {
        Self {
            id,
            timeout,
            coordinator: Coordinator::wanted(),
            phase: Phase::Idle,
            is_empty: true,
            given_up: None,
            offsets: OffsetCommits::new(),
            ended: None,
        }
    }

    pub(super) const fn id(&self) -> &Str {
        &self.id
    }

    /// Whether records are taken, and offsets.
    pub(super) const fn takes_records(&self) -> bool {
        matches!(self.phase, Phase::Open) && self.given_up.is_none()
    }

    /// Whether one is open that can be committed, or why not.
    pub(super) fn check_open(&self) -> Result<(), TransactionError> {
        match (&self.phase, &self.given_up) {
            (Phase::Open, None) => Ok(()),
            (Phase::Open, Some(reason)) => Err(TransactionError::Abort(reason.clone())),
            (Phase::Over(error), _) => Err(error.clone()),
            (Phase::Idle | Phase::Ending { .. } | Phase::Asked { .. }, _) => Err(TransactionError::OutOfTurn),
        }
    }

    /// Whether what has not been sent is not to be sent any more.
    pub(super) const fn is_aborting(&self) -> bool {
        matches!(self.phase, Phase::Ending { commit: false, .. } | Phase::Asked { commit: false, .. })
    }

    pub(super) const fn on_taken(&mut self) {
        self.is_empty = false;
    }

    pub(super) fn on_given_up(&mut self, reason: &DeliveryError) {
        if !self.is_aborting() {
            self.given_up.get_or_insert_with(|| reason.clone());
        }
    }

    /// When something is to be done that no input brings about, after what was done already.
    pub(super) fn next_timeout(&self, polled_at: Instant) -> Option<Instant> {
        let offsets = self.offsets.next_timeout();
        let end = match self.phase {
            Phase::Ending { at, .. } => Some(at),
            Phase::Idle | Phase::Open | Phase::Asked { .. } | Phase::Over(_) => None,
        };
        let own = [self.coordinator.next_timeout(), offsets, end];
        own.into_iter().flatten().filter(|&at| at > polled_at).min()
    }

    fn request(&self) -> InitProducerIdRequest {
        InitProducerIdRequest {
            transactional_id: Some(self.id.clone()),
            transaction_timeout_ms: i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX),
            producer_id: ProducerId::NONE.0,
            producer_epoch: ProducerEpoch::NONE.0,
            ..InitProducerIdRequest::default()
        }
    }
}

impl Producer {
    /// Begins a transaction: what is sent from now on is in it.
    pub fn begin_transaction(&mut self) -> Result<(), TransactionError> {
        let Some(transactions) = &mut self.transactions else { return Err(TransactionError::OutOfTurn) };
        match (&transactions.phase, &self.identification) {
            (Phase::Over(error), _) => Err(error.clone()),
            (_, Identification::Refused(error)) => Err(refusal(error.clone())),
            (Phase::Idle, Identification::Known(_)) => {
                transactions.phase = Phase::Open;
                transactions.is_empty = true;
                transactions.given_up = None;
                Ok(())
            }
            (Phase::Idle, Identification::Wanted { .. } | Identification::Asked { .. }) => {
                Err(TransactionError::NotReady)
            }
            (Phase::Open | Phase::Ending { .. } | Phase::Asked { .. }, _) => Err(TransactionError::OutOfTurn),
        }
    }

    /// Ends the transaction once all that was sent in it is delivered; what has not been sent yet is dropped if it is
    /// not to be committed. [`Self::next_transaction_end`] tells what came of it.
    pub fn end_transaction(&mut self, commit: bool) -> Result<(), TransactionError> {
        let Some(transactions) = &mut self.transactions else { return Err(TransactionError::OutOfTurn) };
        match transactions.check_open() {
            Err(TransactionError::Abort(_)) if !commit => {}
            checked => checked?,
        }
        transactions.phase = Phase::Ending { commit, at: Instant::ZERO, failures: 0 };
        if commit {
            self.flush();
        } else {
            transactions.offsets.drop_unsent();
            self.drop_unsent();
        }
        Ok(())
    }

    /// What came of [`Self::end_transaction`]. After [`TransactionError::Abort`] the transaction is still open.
    pub fn next_transaction_end(&mut self) -> Option<Result<(), TransactionError>> {
        self.transactions.as_mut()?.ended.take()
    }

    /// A route to the coordinator; `None` while it is looked for or connected to.
    pub(super) fn coordinator_route(&mut self, now: Now, effects: &mut Effects) -> Option<Route> {
        let transactions = self.transactions.as_mut()?;
        let Transactions { coordinator, id, .. } = transactions;
        coordinator.route(now, &mut self.cluster, Kind::Transaction, id, effects)
    }

    pub(super) fn on_coordinator_found(&mut self, now: Now, reply: &Reply<Token>) {
        let Some(transactions) = &mut self.transactions else { return };
        if let Err(error) = transactions.coordinator.on_found(now, &mut self.cluster, reply) {
            self.identification = Identification::Refused(error);
        }
    }

    /// The request for the producer's id, and where it goes.
    pub(super) fn identification_request(
        &mut self,
        now: Now,
        effects: &mut Effects,
    ) -> Option<Result<(Route, InitProducerIdRequest), DeliveryError>> {
        let route = self.coordinator_route(now, effects)?;
        let versions = self.cluster.api_versions(route)?;
        if versions.range(EndTxnRequest::KEY.code()).is_none_or(|(_, newest)| newest < VERSION_2) {
            let api = "EndTxn of version 5, transactions as of Apache Kafka 4.0";
            return Some(Err(Failure::Unsupported { api }.into()));
        }
        let transactions = self.transactions.as_ref()?;
        Some(Ok((route, transactions.request())))
    }

    /// What the coordinator said makes another one likely.
    pub(super) fn on_coordinator_error(&mut self, now: Now, error: Option<ErrorCode>) {
        if let Some(transactions) = &mut self.transactions {
            transactions.coordinator.on_error(now, error);
        }
    }

    /// Gives up everything that is not in flight.
    fn drop_unsent(&mut self) {
        for slot in 0..self.partitions.len() {
            self.seal(slot);
            self.give_up_waiting(slot, Instant::MAX, Some(&DeliveryError::Aborted));
        }
    }

    /// Asks the coordinator to end the transaction when it is time.
    pub(super) fn drive_transaction(&mut self, now: Now, effects: &mut Effects) {
        let is_idle = self.is_idle();
        let Some(transactions) = &mut self.transactions else { return };
        let Phase::Ending { commit, at, failures } = transactions.phase else { return };
        if !is_idle || !transactions.offsets.is_idle() || at > now.instant {
            return;
        }
        if commit && let Some(reason) = &transactions.given_up {
            transactions.ended = Some(Err(TransactionError::Abort(reason.clone())));
            transactions.phase = Phase::Open;
            return;
        }
        if transactions.is_empty {
            transactions.ended = Some(Ok(()));
            transactions.phase = Phase::Idle;
            return;
        }
        let Identification::Known(Some(Identity { id, epoch })) = self.identification else { return };
        let request = EndTxnRequest {
            transactional_id: transactions.id.clone(),
            producer_id: id.0,
            producer_epoch: epoch.0,
            committed: commit,
        };
        let Some(route) = self.coordinator_route(now, effects) else { return };
        let sent = self.cluster.send(now, route, &request, Token::EndTransaction, effects);
        let Some(transactions) = &mut self.transactions else { return };
        match sent {
            Ok(()) => transactions.phase = Phase::Asked { commit, failures },
            Err(failure) => self.end_over(TransactionError::Lost(failure.into())),
        }
    }

    pub(super) fn on_ended(&mut self, now: Now, reply: &Reply<Token>) {
        let Some(transactions) = &mut self.transactions else { return };
        let Phase::Asked { commit, failures } = transactions.phase else { return };
        let response = match reply.decode::<EndTxnRequest>() {
            Ok(response) => response,
            Err(failure) if failure.is_retriable() => {
                return self.end_again(now, commit, failures, None);
            }
            Err(failure) => return self.end_over(TransactionError::Lost(failure.into())),
        };
        let error = error_of(response.error_code);
        if error.is_none() {
            let id = ProducerId(response.producer_id);
            let identity = Identity { id, epoch: ProducerEpoch(response.producer_epoch) };
            self.identification = Identification::Known(Some(identity));
            transactions.ended = Some(Ok(()));
            transactions.phase = Phase::Idle;
        } else if matches!(error, ErrorCode::ProducerFenced | ErrorCode::InvalidProducerEpoch) {
            self.end_over(TransactionError::Fenced);
        } else if commit && error == ErrorCode::TransactionAbortable {
            transactions.given_up = Some(refused(error));
            transactions.ended = Some(Err(TransactionError::Abort(refused(error))));
            transactions.phase = Phase::Open;
        } else if error.is_retriable() {
            self.end_again(now, commit, failures, Some(error));
        } else {
            self.end_over(TransactionError::Lost(refused(error)));
        }
    }

    fn end_again(&mut self, now: Now, commit: bool, failures: u32, error: Option<ErrorCode>) {
        self.on_coordinator_error(now, error);
        let failures = failures + 1;
        let at = now.after(self.config.cluster.retry_backoff.after(failures, self.cluster.rng()));
        if let Some(transactions) = &mut self.transactions {
            transactions.phase = Phase::Ending { commit, at, failures };
        }
    }

    fn end_over(&mut self, error: TransactionError) {
        if let Some(transactions) = &mut self.transactions {
            transactions.ended = Some(Err(error.clone()));
            transactions.phase = Phase::Over(error);
        }
    }
}

fn refused(error: ErrorCode) -> DeliveryError {
    DeliveryError::Refused { error, message: None }
}

fn refusal(error: DeliveryError) -> TransactionError {
    if matches!(error, DeliveryError::Refused { error: ErrorCode::ProducerFenced, .. }) {
        TransactionError::Fenced
    } else {
        TransactionError::Lost(error)
    }
}
