//! What a call asks of the host.

use bytes::Bytes;
use dohle_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use dohle_types::{Now, Str};

use crate::GroupsConfig;
use crate::journal::Journal;
use crate::journal::cause::Cause;

/// The host's name for a request that may be answered later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A record for `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key, with the number of its type before it.
    pub key: Bytes,
    /// The value, with its version before it; none to delete what the key names.
    pub value: Option<Bytes>,
}

/// The answer to a request that was given a token.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To a JoinGroup.
    JoinGroup(JoinGroupResponse),
    /// To a SyncGroup.
    SyncGroup(SyncGroupResponse),
}

/// What a call asks of the host; see the crate's documentation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// To be appended as one batch.
    pub records: Vec<Record>,
    /// To be given once everything appended so far is committed.
    pub replies: Vec<(Token, Reply)>,
    /// Rebalances that began, for those who want to know why.
    pub rebalances: Vec<Rebalance>,
}

/// A rebalance that began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// The group.
    pub group_id: Str,
    /// The generation that ended; in a group of the consumer protocol, the group epoch.
    pub generation: i32,
    /// Why.
    pub cause: Cause,
}

/// Whether a long piece of work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Nothing is left to do.
    Done,
    /// A batch is full: call again once its records are replayed.
    More,
}

/// What a transition of a group needs to know, and where it puts its effects.
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a GroupsConfig,
    pub(crate) journal: &'a mut Journal,
    pub(crate) effects: &'a mut Effects,
}
