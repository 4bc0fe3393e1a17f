//! What can come of a request other than its response.

use dohle_protocol::{DecodeError, EncodeError};
use dohle_types::ErrorCode;

use crate::Endpoint;

/// Why a request has no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The connection went away first. Whether the broker did what was asked is not known.
    #[error("the connection was lost before the answer came")]
    Disconnected,
    /// The broker took longer than the request timeout; the connection was given up.
    #[error("the broker did not answer in time")]
    TimedOut,
    /// The broker and this client have no version of the request in common.
    #[error("the broker does not serve {api}; `dohle api-versions` lists what it serves")]
    Unsupported {
        /// The request's name.
        api: &'static str,
    },
    /// No broker coordinates the group, or the transactional id.
    #[error("there is no coordinator: {error}")]
    NoCoordinator {
        /// What the broker that was asked says.
        error: ErrorCode,
    },
    /// The request cannot be expressed in the version that the broker speaks.
    #[error("the request cannot be sent: {0}")]
    Encode(#[from] EncodeError),
    /// The broker answered something else than what was asked first.
    #[error("the broker does not answer in order")]
    OutOfOrder,
    /// The response is not what the protocol says.
    #[error("the broker's answer cannot be read: {0}")]
    Decode(#[from] DecodeError),
}

impl Failure {
    /// Whether the same request may fare better on a new connection.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        match self {
            Self::Disconnected | Self::TimedOut | Self::OutOfOrder => true,
            Self::Unsupported { .. } | Self::NoCoordinator { .. } | Self::Encode(_) | Self::Decode(_) => {
                false
            }
        }
    }
}

/// No connection could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no broker answers at {endpoint} ({reason})")]
pub struct Unreachable {
    /// Where it was last tried.
    pub endpoint: Endpoint,
    /// What the system said.
    pub reason: String,
}
