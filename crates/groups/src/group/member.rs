//! A member of a classic group: what it said about itself, what was assigned to it, and what it waits for.

use std::time::Duration;

use bytes::Bytes;
use dohle_protocol::messages::JoinGroupRequest;
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Str};

use super::millis;
use crate::state::MemberMetadata;
use crate::{Caller, Token};

/// A member of a group.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<Str>,
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    /// The protocols it supports, in the order in which it would like them, and its subscription under each.
    pub(crate) protocols: Vec<(Str, Bytes)>,
    pub(crate) assignment: Bytes,
    /// When it counts as failed; none while it waits and so cannot send heartbeats.
    pub(crate) deadline: Option<Instant>,
    /// It has not yet been told its id and so may be gone while it waits.
    pub(crate) is_new: bool,
    pub(super) join: Option<ParkedJoin>,
    pub(super) sync: Option<Token>,
}

/// A JoinGroup that waits for the end of the rebalance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParkedJoin {
    pub(crate) token: Token,
    pub(crate) api_version: i16,
}

/// Why a request does not speak for a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MemberError {
    #[error("the group has no such member: it expired, left, or never joined; join again")]
    Unknown,
    #[error("another process took over this group.instance.id: stop, or give each process its own")]
    Fenced,
}

impl MemberError {
    pub(crate) const fn code(self) -> ErrorCode {
        match self {
            Self::Unknown => ErrorCode::UnknownMemberId,
            Self::Fenced => ErrorCode::FencedInstanceId,
        }
    }
}

impl Member {
    /// A member of a stored generation, with its protocols as far as they are known.
    pub(crate) fn stored(stored: &MemberMetadata, protocols: Vec<(Str, Bytes)>) -> Self {
        Self {
            instance_id: stored.instance_id.clone(),
            client_id: stored.client_id.clone(),
            client_host: stored.client_host.clone(),
            rebalance_timeout_ms: stored.rebalance_timeout_ms,
            session_timeout_ms: stored.session_timeout_ms,
            protocols,
            assignment: stored.assignment.clone(),
            deadline: None,
            is_new: false,
            join: None,
            sync: None,
        }
    }

    /// A member that waits for its first generation.
    pub(crate) fn new(caller: &Caller, request: &JoinGroupRequest, join: ParkedJoin) -> Self {
        Self {
            instance_id: request.group_instance_id.clone(),
            client_id: caller.client_id.clone(),
            client_host: caller.client_host.clone(),
            rebalance_timeout_ms: rebalance_timeout_ms(request),
            session_timeout_ms: request.session_timeout_ms,
            protocols: protocols_of(request),
            assignment: Bytes::new(),
            deadline: None,
            is_new: true,
            join: Some(join),
            sync: None,
        }
    }

    pub(crate) const fn is_joined(&self) -> bool {
        self.join.is_some()
    }

    /// Whether it cannot be expected to send heartbeats.
    pub(crate) const fn is_waiting(&self) -> bool {
        // A new member does not know its id yet. It may give up waiting and come back under another one; it
        // has a deadline so that its former selves do not pile up.
        !self.is_new && (self.join.is_some() || self.sync.is_some())
    }

    /// Whether it says about itself what it said before.
    pub(crate) fn matches(&self, request: &JoinGroupRequest) -> bool {
        self.protocols.len() == request.protocols.len()
            && self
                .protocols
                .iter()
                .zip(&request.protocols)
                .all(|((name, metadata), other)| *name == other.name && *metadata == other.metadata)
    }

    /// What it said about itself under a protocol.
    pub(crate) fn subscription(&self, protocol: Option<&str>) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| Some(name.as_str()) == protocol)
            .map_or_else(Bytes::new, |(_, subscription)| subscription.clone())
    }

    pub(crate) const fn session_timeout(&self) -> Duration {
        millis(self.session_timeout_ms)
    }

    pub(crate) const fn take_sync(&mut self) -> Option<Token> {
        self.sync.take()
    }
}

/// The rebalance timeout that a member asks for. Version 0 has none and means the session timeout.
pub(crate) fn rebalance_timeout_ms(request: &JoinGroupRequest) -> i32 {
    if request.rebalance_timeout_ms > 0 { request.rebalance_timeout_ms } else { request.session_timeout_ms }
}

/// A request's protocols, each name once, as copies: slices would keep the receive buffer alive.
pub(crate) fn protocols_of(request: &JoinGroupRequest) -> Vec<(Str, Bytes)> {
    let mut protocols: Vec<(Str, Bytes)> = Vec::with_capacity(request.protocols.len());
    for protocol in &request.protocols {
        if protocols.iter().all(|(name, _)| *name != protocol.name) {
            protocols.push((protocol.name.clone(), Bytes::copy_from_slice(&protocol.metadata)));
        }
    }
    protocols
}
