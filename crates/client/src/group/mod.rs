//! Membership in a consumer group, and the offsets that the group commits. By the classic protocol:
//!
//! ```text
//! Unjoined ─JoinGroup─> Joining ─leader: assign, all: SyncGroup─> Syncing ─> Stable ─Heartbeat…
//!    ^                                                                         │
//!    └──────── rebalance, fenced, coordinator lost ────────────────────────────┘
//! ```
//!
//! Rebalances are eager (`classic.rs`). By the consumer protocol a member goes from Unjoined through Joining to Stable by
//! heartbeats alone (`incremental.rs`). All requests take the coordination
//! lane, so that what is sent in order is handled in order: a commit before the join that follows it.

pub mod assignor;
mod classic;
pub(crate) mod coordinator;
mod incremental;
pub mod offsets;
pub mod protocol;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dohle_protocol::Request;
use dohle_types::time::Instant;
use dohle_types::{BrokerId, ErrorCode, Now, Offset, Str, TopicPartition};

use crate::cluster::{Reply, Route};
use crate::{Cluster, Effects, Failure};
use assignor::{Assignor, Member};
use incremental::Owned;

/// How members and coordinator speak (`group.protocol`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum GroupProtocol {
    /// Members join, and their leader assigns.
    #[default]
    Classic,
    /// The coordinator assigns (KIP-848).
    Consumer,
}

/// What a member of a group can be told.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The group's name (`group.id`).
    pub group_id: Str,
    /// How it speaks with the coordinator.
    pub protocol: GroupProtocol,
    /// The name of a static member (`group.instance.id`, KIP-345).
    pub instance_id: Option<Str>,
    /// After what silence the coordinator takes the member for dead (`session.timeout.ms`). By the consumer protocol
    /// the coordinator decides.
    pub session_timeout: Duration,
    /// How long members have for joining again (`max.poll.interval.ms`).
    pub rebalance_timeout: Duration,
    /// How often the member shows that it lives (`heartbeat.interval.ms`). Likewise.
    pub heartbeat_interval: Duration,
    /// How partitions are shared out (`partition.assignment.strategy`), the preferred way first. Likewise.
    pub assignors: Vec<Assignor>,
}

impl GroupConfig {
    /// Kafka's defaults for the group of this name.
    #[must_use]
    pub fn new(group_id: impl Into<Str>) -> Self {
        Self {
            group_id: group_id.into(),
            protocol: GroupProtocol::default(),
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(300),
            heartbeat_interval: Duration::from_secs(3),
            assignors: vec![Assignor::Range, Assignor::RoundRobin],
        }
    }
}

/// What a reply belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GroupToken {
    FindCoordinator,
    Join,
    Sync,
    Heartbeat,
    /// Of the consumer protocol, by which a member also joins.
    Beat {
        joins: bool,
    },
    Leave,
    Commit(BTreeMap<TopicPartition, Offset>),
    FetchOffsets(BTreeSet<TopicPartition>),
}

/// What membership tells the consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GroupEvent {
    /// The member gives up all partitions; with `commit` it may still commit for them.
    Revoked {
        /// Whether the coordinator still takes commits from it.
        commit: bool,
    },
    /// The member has exactly these partitions, and begins with each where the group left off.
    Assigned(Vec<TopicPartition>),
    /// The member has exactly these partitions, and goes on with those that it had.
    Reconciled(Vec<TopicPartition>),
    /// What the group committed; `None` where it did not.
    Offsets(BTreeMap<TopicPartition, Option<Offset>>),
    /// The offsets could not be had; they are to be asked for again.
    OffsetsFailed(BTreeSet<TopicPartition>),
    /// A commit ended.
    Committed(Result<BTreeMap<TopicPartition, Offset>, ErrorCode>),
    /// The member cannot go on.
    Failed(GroupError),
}

/// Why a member cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The coordinator refuses the member.
    #[error("the group refuses this member: {0}")]
    Refused(ErrorCode),
    /// The group does what this client does not know.
    #[error("the group uses protocol {0}, which this client does not know")]
    UnknownProtocol(Str),
    /// The coordinator cannot be spoken to.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// How far the member has come.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// It will join at the given instant.
    Unjoined { at: Instant },
    /// It waits for all others to join.
    Joining,
    /// It will say what it decided; a leader waits for metadata of all topics, the others have no members and
    /// decide nothing.
    Assigning { protocol: Str, members: Vec<Member> },
    /// It waits for its partitions.
    Syncing,
    /// It has its partitions.
    Stable { heartbeat_at: Instant, heartbeat_in_flight: bool },
    /// It leaves, or has left.
    Leaving { done: bool },
    /// It cannot go on.
    Failed,
}

/// A member of a group.
#[derive(Debug)]
pub(crate) struct Membership {
    config: GroupConfig,
    topics: BTreeSet<Str>,
    coordinator: Option<BrokerId>,
    finding: bool,
    retry_at: Instant,
    failures: u32,
    member_id: Str,
    /// Or the member epoch.
    generation: i32,
    owned: Owned,
    phase: Phase,
    /// What the leader shared out, to notice when there is more.
    shared_out: Option<BTreeMap<Str, usize>>,
    events: Vec<GroupEvent>,
}

impl Membership {
    pub(crate) fn new(config: GroupConfig, topics: BTreeSet<Str>) -> Self {
        Self {
            config,
            topics,
            coordinator: None,
            finding: false,
            retry_at: Instant::ZERO,
            failures: 0,
            member_id: Str::default(),
            generation: -1,
            owned: Owned::default(),
            phase: Phase::Unjoined { at: Instant::ZERO },
            shared_out: None,
            events: Vec::new(),
        }
    }

    /// What is to be told, in order.
    pub(crate) fn take_events(&mut self) -> Vec<GroupEvent> {
        std::mem::take(&mut self.events)
    }

    /// Whether the coordinator can be asked for offsets now.
    pub(crate) const fn is_stable(&self) -> bool {
        matches!(self.phase, Phase::Stable { .. })
    }

    /// Whether leaving is over.
    pub(crate) const fn has_left(&self) -> bool {
        matches!(self.phase, Phase::Leaving { done: true } | Phase::Failed)
    }

    /// When to be called again if nothing happens.
    pub(crate) fn next_timeout(&self, polled_at: Instant) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Unjoined { at } => Some(at),
            Phase::Stable { heartbeat_at, heartbeat_in_flight: false } => Some(heartbeat_at),
            Phase::Stable { .. }
            | Phase::Joining
            | Phase::Assigning { .. }
            | Phase::Syncing
            | Phase::Leaving { .. }
            | Phase::Failed => None,
        };
        let coordinator = (self.coordinator.is_none() && !self.finding).then_some(self.retry_at);
        phase.into_iter().chain(coordinator).filter(|&at| at > polled_at).min()
    }

    /// Leaves the group, or is done at once if it is no member.
    pub(crate) fn leave<T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        effects: &mut Effects,
    ) {
        if matches!(self.phase, Phase::Leaving { .. }) {
            return;
        }
        let is_member = !self.member_id.is_empty() && self.phase != Phase::Failed;
        // A static member stays in the group until its session times out, to come back to its partitions.
        let leaves = is_member && self.config.instance_id.is_none();
        let sent = leaves
            && match self.config.protocol {
                GroupProtocol::Classic => self.send_leave(now, cluster, effects),
                GroupProtocol::Consumer => self.beat_last(now, cluster, effects),
            };
        self.phase = Phase::Leaving { done: !sent };
    }

    /// Does what is due.
    pub(crate) fn advance<T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        effects: &mut Effects,
    ) {
        if matches!(self.phase, Phase::Failed) {
            return;
        }
        if self.coordinator.is_none() {
            self.find_coordinator(now, cluster, effects);
        }
        self.take_up(now, cluster);
        match &mut self.phase {
            Phase::Unjoined { at } if *at <= now.instant => match self.config.protocol {
                GroupProtocol::Classic => self.join(now, cluster, effects),
                GroupProtocol::Consumer => self.beat(now, cluster, effects),
            },
            Phase::Assigning { .. } => self.assign(now, cluster, effects),
            Phase::Stable { heartbeat_at, heartbeat_in_flight: false } if *heartbeat_at <= now.instant => {
                match self.config.protocol {
                    GroupProtocol::Classic => self.heartbeat(now, cluster, effects),
                    GroupProtocol::Consumer => self.beat(now, cluster, effects),
                }
            }
            Phase::Unjoined { .. }
            | Phase::Joining
            | Phase::Syncing
            | Phase::Stable { .. }
            | Phase::Leaving { .. }
            | Phase::Failed => {}
        }
        self.watch_shared_out(now, cluster);
    }

    /// Takes in an answer.
    pub(crate) fn on_reply<T>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        token: GroupToken,
        reply: &Reply<T>,
    ) {
        match &reply.result {
            Err(failure) if failure.is_retriable() => self.lose_coordinator(now, cluster),
            Err(failure) => return self.fail(failure.clone().into()),
            Ok(_) => {}
        }
        match token {
            GroupToken::FindCoordinator => self.on_coordinator(now, cluster, reply),
            GroupToken::Join => self.on_joined(now, cluster, reply),
            GroupToken::Sync => self.on_synced(now, cluster, reply),
            GroupToken::Heartbeat => self.on_heartbeat(now, cluster, reply),
            GroupToken::Beat { joins } => self.on_beat(now, cluster, joins, reply),
            GroupToken::Leave => self.phase = Phase::Leaving { done: true },
            GroupToken::Commit(offsets) => self.on_committed(now, cluster, offsets, reply),
            GroupToken::FetchOffsets(partitions) => self.on_offsets(now, cluster, partitions, reply),
        }
    }

    /// Sends to the coordinator, if its connection is ready; whether it was sent.
    fn send<R: Request, T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        request: &R,
        token: GroupToken,
        effects: &mut Effects,
    ) -> bool {
        let Some(broker) = self.coordinator else { return false };
        if cluster.metadata().broker(broker).is_none() {
            self.lose_coordinator(now, cluster);
            return false;
        }
        let route = Route::coordination(broker);
        if cluster.slots(now, route, effects) == 0 {
            return false;
        }
        // The coordinator answers a join when all have joined, or their time is up.
        let patience = match token {
            GroupToken::Join => self.config.rebalance_timeout + Duration::from_secs(5),
            GroupToken::FindCoordinator
            | GroupToken::Sync
            | GroupToken::Heartbeat
            | GroupToken::Beat { .. }
            | GroupToken::Leave
            | GroupToken::Commit(_)
            | GroupToken::FetchOffsets(_) => Duration::ZERO,
        };
        let timeout = patience.max(cluster.config().request_timeout);
        match cluster.send_with_timeout(now, route, request, timeout, T::from(token), effects) {
            Ok(()) => true,
            Err(failure) => {
                self.fail(failure.into());
                false
            }
        }
    }

    fn find_coordinator<T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        effects: &mut Effects,
    ) {
        if self.finding || self.retry_at > now.instant {
            return;
        }
        let Some(route) = cluster.any_route(now, effects) else { return };
        let request = coordinator::request(coordinator::Kind::Group, &self.config.group_id);
        self.finding =
            cluster.send(now, route, &request, T::from(GroupToken::FindCoordinator), effects).is_ok();
    }

    fn on_coordinator<T>(&mut self, now: Now, cluster: &mut Cluster<T>, reply: &Reply<T>) {
        self.finding = false;
        match coordinator::parse(reply) {
            Ok(Ok(broker)) => {
                self.coordinator = Some(broker);
                self.failures = 0;
            }
            Ok(Err(error)) if !error.is_retriable() => self.fail(GroupError::Refused(error)),
            Err(failure) if !failure.is_retriable() => self.fail(failure.into()),
            Ok(Err(_)) | Err(_) => self.back_off(now, cluster),
        }
    }

    fn back_off<T>(&mut self, now: Now, cluster: &mut Cluster<T>) {
        self.failures += 1;
        let backoff = cluster.config().retry_backoff;
        self.retry_at = now.after(backoff.after(self.failures, cluster.rng()));
    }

    fn lose_coordinator<T>(&mut self, now: Now, cluster: &mut Cluster<T>) {
        self.coordinator = None;
        self.finding = false;
        cluster.refresh_metadata(now);
        self.back_off(now, cluster);
    }

    /// What an error in an answer of the coordinator means for the membership.
    fn on_error<T>(&mut self, now: Now, cluster: &mut Cluster<T>, error: ErrorCode) {
        if error == ErrorCode::RebalanceInProgress {
            self.rejoin(now, true);
        } else if matches!(
            error,
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration | ErrorCode::FencedMemberEpoch
        ) || error == ErrorCode::GroupIdNotFound && self.is_stable()
        {
            // By the consumer protocol a member keeps the id that it gave itself.
            if error == ErrorCode::UnknownMemberId && self.config.protocol == GroupProtocol::Classic {
                self.member_id = Str::default();
            }
            self.generation = -1;
            self.rejoin(now, false);
        } else if matches!(error, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) {
            self.lose_coordinator(now, cluster);
            self.try_again(now);
        } else if error.is_retriable() {
            self.back_off(now, cluster);
            self.try_again(now);
        } else {
            self.fail(GroupError::Refused(error));
        }
    }

    fn on_failure(&mut self, now: Now, failure: Failure) {
        if failure.is_retriable() {
            self.try_again(now);
        } else {
            self.fail(failure.into());
        }
    }

    /// Joins once more if that was interrupted; a stable member only goes on.
    fn try_again(&mut self, now: Now) {
        match self.phase {
            Phase::Joining | Phase::Syncing | Phase::Assigning { .. } => {
                self.phase = Phase::Unjoined { at: self.retry_at.max(now.instant) };
            }
            Phase::Unjoined { .. } | Phase::Stable { .. } | Phase::Leaving { .. } | Phase::Failed => {}
        }
    }

    /// Gives up all partitions and joins again.
    fn rejoin(&mut self, now: Now, commit: bool) {
        match self.phase {
            Phase::Stable { .. } => self.events.push(GroupEvent::Revoked { commit }),
            Phase::Leaving { .. } | Phase::Failed => return,
            Phase::Unjoined { .. } | Phase::Joining | Phase::Assigning { .. } | Phase::Syncing => {}
        }
        self.phase = Phase::Unjoined { at: now.instant };
        self.owned = Owned::default();
    }

    fn fail(&mut self, error: GroupError) {
        match self.phase {
            Phase::Leaving { .. } => self.phase = Phase::Leaving { done: true },
            Phase::Failed => {}
            Phase::Unjoined { .. }
            | Phase::Joining
            | Phase::Assigning { .. }
            | Phase::Syncing
            | Phase::Stable { .. } => {
                self.phase = Phase::Failed;
                self.events.push(GroupEvent::Failed(error));
            }
        }
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
