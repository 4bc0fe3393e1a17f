//! What a call asks of the host.

use bytes::Bytes;
use dohle_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use dohle_types::{Now, Str};

use crate::GroupsConfig;

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
    pub cause: RebalanceCause,
}

/// Why a group rebalances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RebalanceCause {
    /// A member joined.
    Joined(Str),
    /// A member joined again with other subscriptions.
    SubscriptionChanged(Str),
    /// The leader joined again, which it does when partitions were added or it wants a new assignment.
    LeaderRejoined(Str),
    /// A static member was replaced by another process of the same `group.instance.id`.
    StaticMemberReplaced(Str),
    /// These members left.
    Left(Vec<Str>),
    /// A member was not heard of for its session timeout.
    SessionExpired(Str),
    /// These members took part in the rebalance but did not ask for their assignment in time.
    SyncExpired(Vec<Str>),
    /// The leader's assignment does not fit in a record.
    AssignmentTooLarge,
    /// A member of a consumer group did not do its part within its rebalance timeout, such as giving up
    /// partitions: `max.poll.interval.ms` is over, and it does not poll.
    RebalanceExpired(Str),
    /// A topic that the group subscribes to was created, deleted, or given more partitions.
    TopicsChanged,
    /// The last member of the consumer protocol is gone, and the others go on by themselves as a classic group.
    Downgraded,
    /// An operator set other offsets for the members to go on from.
    OffsetsReset,
    /// The group has more members than `group.max.size` allows since the broker started.
    GroupTooLarge,
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
    pub(crate) effects: &'a mut Effects,
}
