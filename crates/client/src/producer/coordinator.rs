//! The way to a coordinator: that of the producer's transactions, or of a group.

use dohle_types::time::Instant;
use dohle_types::{BrokerId, ErrorCode, Now, Str};

use super::DeliveryError;
use super::sender::Token;
use crate::cluster::{Reply, Route};
use crate::group::coordinator::{self, Kind};
use crate::{Cluster, Effects};

/// What is known of a coordinator.
#[derive(Debug)]
pub(super) enum Coordinator {
    /// To be asked for, at the given instant.
    Wanted { at: Instant, failures: u32 },
    /// Asked for.
    Asked { failures: u32 },
    /// It is this broker.
    Known(BrokerId),
}

impl Coordinator {
    /// One that nobody has asked for yet.
    pub(super) const fn wanted() -> Self {
        Self::Wanted { at: Instant::ZERO, failures: 0 }
    }

    /// When it is to be asked for.
    pub(super) const fn next_timeout(&self) -> Option<Instant> {
        match self {
            Self::Wanted { at, .. } => Some(*at),
            Self::Asked { .. } | Self::Known(_) => None,
        }
    }

    /// A route to it; `None` while it is looked for or connected to.
    pub(super) fn route(
        &mut self,
        now: Now,
        cluster: &mut Cluster<Token>,
        kind: Kind,
        key: &Str,
        effects: &mut Effects,
    ) -> Option<Route> {
        match *self {
            Self::Known(broker) => {
                let route = Route::coordination(broker);
                (cluster.slots(now, route, effects) > 0).then_some(route)
            }
            Self::Asked { .. } => None,
            Self::Wanted { at, failures } => {
                if at > now.instant {
                    return None;
                }
                let request = coordinator::request(kind, key);
                let route = cluster.any_route(now, effects)?;
                let sent = cluster.send(now, route, &request, Token::FindCoordinator(kind), effects);
                if sent.is_ok() {
                    *self = Self::Asked { failures };
                }
                None
            }
        }
    }

    /// Takes in who it is; an error that asking again does not mend.
    pub(super) fn on_found(
        &mut self,
        now: Now,
        cluster: &mut Cluster<Token>,
        reply: &Reply<Token>,
    ) -> Result<(), DeliveryError> {
        let found = coordinator::parse(reply);
        let Self::Asked { failures } = *self else { return Ok(()) };
        match found {
            Ok(Ok(broker)) => *self = Self::Known(broker),
            Ok(Err(error)) if !error.is_retriable() => {
                return Err(DeliveryError::Refused { error, message: None });
            }
            Err(failure) if !failure.is_retriable() => return Err(failure.into()),
            Ok(Err(_)) | Err(_) => {
                let failures = failures + 1;
                let backoff = cluster.config().retry_backoff;
                let at = now.after(backoff.after(failures, cluster.rng()));
                *self = Self::Wanted { at, failures };
                cluster.refresh_metadata(now);
            }
        }
        Ok(())
    }

    /// What it said, or that it said nothing, may mean that it is another one by now.
    pub(super) fn on_error(&mut self, now: Now, error: Option<ErrorCode>) {
        if matches!(error, None | Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable)) {
            *self = Self::Wanted { at: now.instant, failures: 0 };
        }
    }
}
