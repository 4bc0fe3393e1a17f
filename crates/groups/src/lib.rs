//! The group coordinator's ledger over one partition of `__consumer_offsets`: members, rebalances and
//! committed offsets of the classic protocol (JoinGroup, SyncGroup, Heartbeat, LeaveGroup, Offset*, *Groups) and
//! of the consumer protocol (KIP-848: ConsumerGroupHeartbeat, ConsumerGroupDescribe).
//!
//! What it is not: it knows no log, no sockets and no authorization. Its host, `dohle-broker`, tells it of topics
//! ([`Cluster`]), checks those in requests, and answers while a partition is loading. It knows nothing yet of
//! transactions (their records are not given to it) nor of the share and streams protocols (it skips their
//! records).
//!
//! Inputs: a request of the wire, a timeout, a record of the log. Effects: [`Effects`]. The contract is that
//! of `dohle-ledger`. For each call that takes `&mut Effects` the host
//!
//! 1. gives each of [`Effects::records`] to [`GroupLedger::replay`] at once, before any other call,
//! 2. appends them in their order, now or with those of later calls: those of one call as one batch, or as several if
//!    they are more than fits in one,
//! 3. holds [`Effects::replies`], and the response that the call returned, until the log is committed up to
//!    its end (`dohle_ledger::CommitQueue`), also where the call wrote nothing: they may speak of records
//!    that are still on their way,
//! 4. sets its timer to [`GroupLedger::next_timeout`],
//! 5. stores what [`GroupLedger::take_journal`] tells, as well as it can.
//!
//! If the append fails, the ledger has promised what is not in the log: the host drops it, after
//! [`GroupLedger::resign`].
//!
//! Life of a ledger: [`GroupLedger::new`], [`GroupLedger::replay`] for each record of the log,
//! [`GroupLedger::on_loaded`], requests and timeouts, [`GroupLedger::resign`].
//!
//! Invariants:
//! 1. Durable state ([`State`]) changes only in `replay`: after a restart it is what it was.
//! 2. A group with members has a soft side (`group::Group`); one without members that waits for no member
//!    has none.
//! 3. A generation has one leader, one protocol and one list of members.
//! 4. Each JoinGroup and SyncGroup is answered exactly once: now, on a later call, or by `resign`.
//! 5. A group that is Stable is, up to the commit, what the log says it is.
//!
//! 6. A group is of one protocol: it has either classic metadata or a [`consumer`] group.
//! 7. In a consumer group no partition has two owners.
//!
//! Start reading at `group.rs` (the soft side of classic groups, with the table of their states), then
//! `rebalance.rs`, the only place where such a group changes its state; each request has a file of its own.
//! Groups of the consumer protocol are in [`consumer`]; whether consumers keep up is told by [`lag`].

mod admin;
mod cluster;
mod config;
pub mod consumer;
mod effects;
mod expiry;
mod group;
mod heartbeat;
mod join;
pub mod journal;
pub mod lag;
mod leave;
mod offsets_commit;
mod offsets_delete;
mod offsets_fetch;
mod offsets_reset;
mod offsets_restore;
mod offsets_txn;
mod pending;
mod rebalance;
mod records;
mod replay;
pub mod state;
mod sync;
mod timers;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use dohle_types::{ErrorCode, Now, Str};

pub use cluster::{Cluster, ConsumerGroupSettings, Topic, Turn};
pub use config::{GROUP_SIZE_CAP, GroupsConfig};
pub use effects::{Effects, Progress, Rebalance, Record, Reply, Token};
pub use offsets_reset::ResetError;
pub use replay::{ReplayError, Replayed, record_type_name};
pub use state::State;

use consumer::sessions::Sessions;
use effects::Context;
use group::Group;
use journal::Journal;
use journal::entry::Entry;
use timers::Timers;

/// What the host knows of who sent a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The client id of the request's header, empty where it is null.
    pub client_id: Str,
    /// The client's address as Kafka shows it: `/127.0.0.1`.
    pub client_host: Str,
    /// The version of the request.
    pub api_version: i16,
}

/// The groups of one partition of `__consumer_offsets`. The crate's documentation tells how to drive it.
#[derive(Debug)]
pub struct GroupLedger {
    config: GroupsConfig,
    state: State,
    /// The soft sides of classic groups.
    groups: BTreeMap<Str, Group>,
    /// The soft sides of consumer groups.
    sessions: BTreeMap<Str, Sessions>,
    timers: Timers,
    journal: Journal,
    /// Bytes that all members of classic groups take up, about.
    members_bytes: usize,
}

impl GroupLedger {
    /// A ledger that knows no group yet.
    #[must_use]
    pub fn new(config: GroupsConfig) -> Self {
        Self {
            config,
            state: State::default(),
            groups: BTreeMap::new(),
            sessions: BTreeMap::new(),
            timers: Timers::default(),
            journal: Journal::default(),
            members_bytes: 0,
        }
    }

    /// What survives a restart, to be read.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Takes up the members that the log told of: each has one session timeout to be heard of.
    pub fn on_loaded(&mut self, turn: &mut Turn<'_>) {
        self.groups = self
            .state
            .groups_with_members()
            .map(|(group_id, metadata)| (group_id.clone(), Group::loaded(group_id, metadata)))
            .collect();
        self.members_bytes = self.groups.values().map(Group::bytes).sum();
        let group_ids: Vec<Str> = self.groups.keys().cloned().collect();
        for group_id in &group_ids {
            self.with_group(turn.now, group_id, turn.effects, Group::on_loaded);
        }
        self.on_consumer_groups_loaded(turn);
    }

    /// Gives up the partition: who waits is told to look for another coordinator.
    pub fn resign(&mut self, effects: &mut Effects) {
        for group in self.groups.values_mut() {
            group.refuse_waiting(ErrorCode::NotCoordinator, effects);
        }
        self.groups.clear();
        self.sessions.clear();
        self.timers = Timers::default();
        self.journal = Journal::default();
        self.members_bytes = 0;
    }

    /// What happened to the groups since the last time: to be asked for when the records of a call are replayed, so that
    /// nothing is told that is not in the log.
    pub fn take_journal(&mut self, now: Now) -> Vec<Entry> {
        self.journal.take(now, &self.state)
    }

    /// Lets `act` change a group that has a soft side, and brings the timers and invariant 2 up to date.
    fn with_group<T>(
        &mut self,
        now: Now,
        group_id: &str,
        effects: &mut Effects,
        act: impl FnOnce(&mut Group, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(group_id)?;
        self.members_bytes -= group.bytes();
        let result =
            act(group, &mut Context { now, config: &self.config, journal: &mut self.journal, effects });
        self.members_bytes += group.bytes();
        if let Some(next) = group.next_deadline() {
            self.timers.arm(&group.group_id, next);
        }
        if group.is_idle() {
            self.forget(group_id);
        }
        Some(result)
    }

    /// Drops the soft side of a classic group, with all that it waits for.
    fn forget(&mut self, group_id: &str) -> Option<Group> {
        let group = self.groups.remove(group_id)?;
        self.members_bytes -= group.bytes();
        self.timers.disarm(&group.group_id);
        Some(group)
    }
}
