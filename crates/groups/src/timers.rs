//! Timeouts: sessions, rebalances, members that do not come.
//!
//! One entry per group is queued, at its earliest deadline or before: a heartbeat only moves a deadline away, so
//! that it need not touch the queue. An entry that comes too early finds nothing due and is queued anew.

use std::collections::{BTreeMap, BTreeSet};

use dohle_types::time::Instant;
use dohle_types::{Now, Str};

use crate::GroupLedger;
use crate::cluster::Turn;
use crate::effects::Context;
use crate::group::{Group, Member, Phase};
use crate::journal::cause::{Cause, CauseKind, Who};

/// When to look at which group.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(Instant, Str)>,
    /// What is queued, by group.
    armed: BTreeMap<Str, Instant>,
}

impl Timers {
    /// Sees to it that a group is looked at no later than its next deadline.
    pub(crate) fn arm(&mut self, group_id: &Str, at: Instant) {
        if self.armed.get(group_id).is_none_or(|&armed| at < armed) {
            self.disarm(group_id);
            self.queue.insert((at, group_id.clone()));
            self.armed.insert(group_id.clone(), at);
        }
    }

    pub(crate) fn disarm(&mut self, group_id: &Str) {
        if let Some(armed) = self.armed.remove(group_id) {
            self.queue.remove(&(armed, group_id.clone()));
        }
    }

    fn pop_due(&mut self, now: Now) -> Option<Str> {
        self.queue.first().filter(|(at, _)| *at <= now.instant)?;
        let (_, group_id) = self.queue.pop_first()?;
        self.armed.remove(&group_id);
        Some(group_id)
    }
}

impl GroupLedger {
    /// When to call [`Self::on_timeout`]: at the next deadline, or before it. May be now.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.queue.first().map(|&(at, _)| at)
    }

    /// A member was heard of. Takes the same time however many members there are.
    pub(crate) fn restart_session(&mut self, now: Now, group_id: &Str, member_id: &str) {
        if let Some(group) = self.groups.get_mut(group_id)
            && let Some(deadline) = group.restart_session(member_id, now)
        {
            self.timers.arm(group_id, deadline);
        }
    }

    /// Does what is due by now.
    pub fn on_timeout(&mut self, turn: &mut Turn<'_>) {
        while let Some(group_id) = self.timers.pop_due(turn.now) {
            if self.groups.contains_key(&group_id) {
                self.with_group(turn.now, &group_id, turn.effects, Group::on_timeout);
            } else {
                self.on_consumer_group_timeout(&group_id, turn);
            }
        }
    }
}

/// What is due, in the order in which it is done if due at the same instant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Pending(Str),
    Session(Str),
    Rebalance,
    Sync,
}

impl Group {
    /// When something is due, or before that. Takes the same time however many members there are.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.rebalance_deadline(), self.sync_deadline, self.soonest].into_iter().flatten().min()
    }

    /// A member has this deadline now.
    pub(crate) fn watch(&mut self, deadline: Instant) {
        self.soonest = Some(self.soonest.map_or(deadline, |soonest| soonest.min(deadline)));
    }

    /// The session of each member for which `begins` says so begins anew.
    pub(crate) fn restart_sessions(&mut self, now: Now, mut begins: impl FnMut(&mut Member) -> bool) {
        let mut soonest = self.soonest;
        for member in self.members_mut() {
            if begins(member) {
                let deadline = now.after(member.session_timeout());
                member.deadline = Some(deadline);
                soonest = Some(soonest.map_or(deadline, |soonest| soonest.min(deadline)));
            }
        }
        self.soonest = soonest;
    }

    fn look_for_soonest(&mut self) {
        let sessions = self.members().values().filter_map(|member| member.deadline);
        #[cfg(test)]
        let sessions = sessions.inspect(|_| tests::LOOKED_AT.with(|count| count.update(|count| count + 1)));
        self.soonest = sessions.chain(self.pending.values().copied()).min();
    }

    fn due(&self, now: Instant) -> Vec<(Instant, Due)> {
        let rebalance = self.rebalance_deadline().map(|at| (at, Due::Rebalance));
        let sync = self.sync_deadline.map(|at| (at, Due::Sync));
        let pending = self.pending.iter().map(|(member_id, &at)| (at, Due::Pending(member_id.clone())));
        let sessions = self.members().iter().filter_map(|(member_id, member)| {
            let at = member.deadline.filter(|&at| at <= now)?;
            Some((at, Due::Session(member_id.clone())))
        });
        let mut due: Vec<_> = rebalance.into_iter().chain(sync).chain(pending).chain(sessions).collect();
        due.retain(|&(at, _)| at <= now);
        due.sort();
        due
    }

    fn on_timeout(&mut self, context: &mut Context<'_>) {
        let now = context.now.instant;
        loop {
            let due = self.due(now);
            if due.is_empty() {
                return self.look_for_soonest();
            }
            for (at, due) in due {
                // What came before may have moved or lifted this deadline.
                match due {
                    Due::Pending(member_id) if self.pending.get(&member_id) == Some(&at) => {
                        self.remove_member(&member_id, context.effects);
                        self.complete_join_without(context);
                    }
                    Due::Session(member_id) => self.on_session_timeout(&member_id, at, context),
                    Due::Rebalance if self.rebalance_deadline() == Some(at) => {
                        self.on_rebalance_timeout(context);
                    }
                    Due::Sync if self.sync_deadline == Some(at) => self.on_sync_timeout(context),
                    Due::Pending(_) | Due::Rebalance | Due::Sync => {}
                }
            }
        }
    }

    fn on_session_timeout(&mut self, member_id: &Str, at: Instant, context: &mut Context<'_>) {
        match self.member(member_id) {
            Some(member) if member.deadline == Some(at) => {
                if member.is_waiting() {
                    // Its session goes on when it is answered.
                    return self.suspend_session(member_id);
                }
            }
            _ => return,
        }
        let cause = Cause::of(CauseKind::SessionExpired, self.lose_member(member_id, context));
        match self.phase {
            Phase::PreparingRebalance { .. } => {
                context.journal.add(&self.group_id, cause);
                self.complete_join_without(context);
            }
            Phase::Empty | Phase::CompletingRebalance | Phase::Stable => self.rebalance(cause, context),
        }
    }

    /// Removes the members that did not ask for their assignment: they would never take it up.
    fn on_sync_timeout(&mut self, context: &mut Context<'_>) {
        let absent: Vec<Str> = std::mem::take(&mut self.pending_sync).into_iter().collect();
        self.sync_deadline = None;
        if absent.is_empty() {
            return;
        }
        let absent: Vec<Who> = absent.iter().map(|member_id| self.lose_member(member_id, context)).collect();
        self.prepare_rebalance(Cause::of_all(CauseKind::SyncExpired, absent), context);
    }

    /// Takes up the members that the log told of.
    pub(crate) fn on_loaded(&mut self, context: &mut Context<'_>) {
        self.restart_sessions(context.now, |_| true);
        let restarted = Cause::of_nobody(CauseKind::CoordinatorRestarted);
        context.journal.note(context.now, &self.group_id, self.generation, restarted);
        if self.members().len() > context.config.group_size_max() {
            self.prepare_rebalance(Cause::of_nobody(CauseKind::GroupTooLarge), context);
        } else if self.leader.is_none() {
            // Nobody has assigned what they have; see `consumer/migrate.rs`.
            self.prepare_rebalance(Cause::of_nobody(CauseKind::Downgraded), context);
        }
    }

    fn rebalance_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::PreparingRebalance { deadline, .. } => Some(deadline),
            Phase::Empty | Phase::CompletingRebalance | Phase::Stable => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::time::Duration;

    use bytes::Bytes;
    use dohle_protocol::messages::join_group_request::JoinGroupRequestProtocol;
    use dohle_protocol::messages::{HeartbeatRequest, JoinGroupRequest};
    use dohle_types::{Rng, Timestamp};

    use super::*;
    use crate::state::{GroupMetadata, MemberMetadata};
    use crate::tests::host::TestCluster;
    use crate::{Caller, Effects, GroupsConfig, Reply, Token, records};

    thread_local! {
        /// How many members were looked at for their deadlines.
        pub(super) static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
    }

    /// What a request costs does not depend on how many members there are.
    #[test]
    fn members_are_not_looked_through_for_each_that_joins_and_each_heartbeat() {
        const MEMBERS: usize = 1_000;
        let caller = Caller { client_id: Str::default(), client_host: Str::default(), api_version: 3 };
        let group_id = Str::from("g");
        let mut ledger = GroupLedger::new(GroupsConfig::default());
        let (mut rng, cluster) = (Rng::from_seed(1), TestCluster::default());
        let mut now = Now { instant: Instant::ZERO, wall: Timestamp(0) };
        LOOKED_AT.set(0);
        let mut joined = Vec::new();
        for token in 0..MEMBERS {
            let request = JoinGroupRequest {
                group_id: group_id.clone(),
                session_timeout_ms: 30_000,
                rebalance_timeout_ms: 60_000,
                protocol_type: "consumer".into(),
                protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::new() }],
                ..JoinGroupRequest::default()
            };
            let mut effects = Effects::default();
            let turn = &mut Turn { now, rng: &mut rng, cluster: &cluster, effects: &mut effects };
            ledger.join(turn, Token(token as u64), &caller, &request);
            now.instant += Duration::from_millis(1);
        }
        while joined.len() < MEMBERS {
            now.instant = ledger.next_timeout().expect("the first rebalance ends").max(now.instant);
            let mut effects = Effects::default();
            ledger.on_timeout(&mut Turn { now, rng: &mut rng, cluster: &cluster, effects: &mut effects });
            joined.extend(effects.replies.into_iter().filter_map(|(_, reply)| match reply {
                Reply::JoinGroup(response) => Some((response.member_id, response.generation_id)),
                Reply::SyncGroup(_) => None,
            }));
        }
        for _ in 0..15 {
            now.instant += Duration::from_secs(3);
            for (member_id, generation_id) in &joined {
                let request = HeartbeatRequest {
                    group_id: group_id.clone(),
                    generation_id: *generation_id,
                    member_id: member_id.clone(),
                    group_instance_id: None,
                };
                let mut effects = Effects::default();
                let turn = &mut Turn { now, rng: &mut rng, cluster: &cluster, effects: &mut effects };
                assert_eq!(ledger.heartbeat(turn, &request).error_code, 0);
            }
            if ledger.next_timeout().is_some_and(|at| at <= now.instant) {
                let mut effects = Effects::default();
                ledger.on_timeout(&mut Turn { now, rng: &mut rng, cluster: &cluster, effects: &mut effects });
            }
        }
        let looked_at = LOOKED_AT.get();
        assert!(
            looked_at < 10 * MEMBERS,
            "{looked_at} looks at {MEMBERS} members that joined and sent 15 heartbeats"
        );
    }

    /// Timeouts that no client can ask for, but a log could tell of.
    #[test]
    fn timeouts_come_to_an_end_whatever_the_log_says() {
        for timeout_ms in [i32::MIN, 0, 1, i32::MAX] {
            let member = |instance_id: &str, session_timeout_ms| MemberMetadata {
                instance_id: Some(Str::from(instance_id)),
                client_id: Str::default(),
                client_host: Str::default(),
                rebalance_timeout_ms: timeout_ms,
                session_timeout_ms,
                subscription: Bytes::new(),
                assignment: Bytes::new(),
            };
            let metadata = GroupMetadata {
                protocol_type: Some(Str::from("consumer")),
                generation: i32::MAX,
                protocol: Some(Str::from("range")),
                leader: None,
                state_timestamp: None,
                members: BTreeMap::from([
                    (Str::from("A"), member("a", timeout_ms)),
                    (Str::from("B"), member("b", 10_000)),
                ]),
            };
            let record = records::group_metadata(&Str::from("g"), &metadata).unwrap();
            let mut ledger = GroupLedger::new(GroupsConfig::default());
            ledger.replay(&record.key, record.value.as_ref()).unwrap();
            let mut now = Now { instant: Instant::ZERO, wall: Timestamp(0) };
            let mut effects = Effects::default();
            let (mut rng, cluster) = (Rng::from_seed(1), TestCluster::default());
            ledger.on_loaded(&mut Turn { now, rng: &mut rng, cluster: &cluster, effects: &mut effects });
            let mut calls = 0;
            while let Some(at) = ledger.next_timeout() {
                now.instant = now.instant.max(at);
                ledger.on_timeout(&mut Turn { now, rng: &mut rng, cluster: &cluster, effects: &mut effects });
                calls += 1;
            }
            assert!(calls < 1_000, "{calls} calls for {timeout_ms} ms");
            assert_eq!(effects.records.len(), 1, "the group is empty in the end");
        }
    }
}
