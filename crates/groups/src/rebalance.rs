//! Rebalances: the only place where a group changes its state.
//!
//! `Empty -> PreparingRebalance` when the first member joins; `PreparingRebalance -> CompletingRebalance` when
//! all have joined or the time is up (`-> Empty` if nobody has); `CompletingRebalance -> Stable` with the
//! leader's assignment; `Stable | CompletingRebalance -> PreparingRebalance` for each [`Cause`].

use bytes::Bytes;
use dohle_protocol::messages::join_group_response::JoinGroupResponseMember;
use dohle_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use dohle_types::{ErrorCode, Str};

use crate::effects::Context;
use crate::group::{Group, InitialDelay, Phase, sync_error};
use crate::journal::cause::{Cause, CauseKind, Who};
use crate::journal::entry::Protocol;
use crate::{Record, records};

impl Group {
    /// A member came, went or changed: rebalances, or goes on with the rebalance that is under way.
    pub(crate) fn rebalance(&mut self, cause: Cause, context: &mut Context<'_>) {
        match self.phase {
            Phase::PreparingRebalance { .. } => {
                context.journal.add(&self.group_id, cause);
                self.complete_join_if_all_joined(context);
            }
            Phase::Empty | Phase::CompletingRebalance | Phase::Stable => {
                self.prepare_rebalance(cause, context)
            }
        }
    }

    /// Asks all members to join again, by the answers to their SyncGroups and heartbeats.
    pub(crate) fn prepare_rebalance(&mut self, cause: Cause, context: &mut Context<'_>) {
        self.tell_owners(context);
        if self.phase == Phase::CompletingRebalance {
            self.fail_syncs(ErrorCode::RebalanceInProgress, context);
        }
        self.pending_sync.clear();
        self.sync_deadline = None;
        let (from, members) = (self.generation, self.members().len());
        context.journal.begin(
            context.now,
            &self.group_id,
            Protocol::Classic,
            (from, members),
            cause,
            context.effects,
        );
        let timeout = self.rebalance_timeout();
        if self.phase == Phase::Empty {
            let round = context.config.initial_rebalance_delay;
            let remaining = timeout.saturating_sub(round);
            let initial = Some(InitialDelay { round, remaining, member_added: false });
            self.enter(Phase::PreparingRebalance { deadline: context.now.after(round), initial }, context);
        } else {
            let deadline = context.now.after(timeout);
            self.enter(Phase::PreparingRebalance { deadline, initial: None }, context);
            self.complete_join_if_all_joined(context);
        }
    }

    /// Ends the generation of a stable group by itself: its members are not asked to join again as what they are, but
    /// told that they are none any more. It stands in the log, so that a restart does not bring the generation back.
    pub(crate) fn end_generation(&mut self, cause: Cause, context: &mut Context<'_>) {
        self.prepare_rebalance(cause, context);
        self.generation = next_generation(self.generation);
        context.effects.records.extend(self.storable_record(context));
    }

    /// Ends the waiting for members when there is none left to wait for. The first rebalance of a group waits
    /// on, since nobody knows how many there will be.
    pub(crate) fn complete_join_if_all_joined(&mut self, context: &mut Context<'_>) {
        if matches!(self.phase, Phase::PreparingRebalance { initial: None, .. }) && self.all_joined() {
            self.complete_join(context);
        }
    }

    /// A member that the rebalance may have waited for is gone.
    pub(crate) fn complete_join_without(&mut self, context: &mut Context<'_>) {
        if matches!(self.phase, Phase::PreparingRebalance { .. }) && self.all_joined() {
            self.complete_join(context);
        }
    }

    /// The time to wait for members is up, unless it is the first rebalance and they keep coming.
    pub(crate) fn on_rebalance_timeout(&mut self, context: &mut Context<'_>) {
        let Phase::PreparingRebalance { initial, .. } = self.phase else { return };
        match initial {
            Some(InitialDelay { round, remaining, member_added: true }) if !remaining.is_zero() => {
                let next_round = context.config.initial_rebalance_delay.min(remaining);
                self.phase = Phase::PreparingRebalance {
                    deadline: context.now.after(next_round),
                    initial: Some(InitialDelay {
                        round: next_round,
                        remaining: remaining.saturating_sub(round),
                        member_added: false,
                    }),
                };
            }
            _ => self.complete_join(context),
        }
    }

    /// Begins the next generation with the members that joined. Static members stay even if they did not.
    fn complete_join(&mut self, context: &mut Context<'_>) {
        let absent: Vec<Str> = self
            .members()
            .iter()
            .filter(|(_, member)| !member.is_joined() && member.instance_id.is_none())
            .map(|(member_id, _)| member_id.clone())
            .collect();
        let absent: Vec<Who> = absent.iter().map(|member_id| self.lose_member(member_id, context)).collect();
        if !absent.is_empty() {
            let cause = Cause::of_all(CauseKind::PollIntervalExceeded, absent);
            context.journal.add(&self.group_id, cause);
        }
        if self.members().is_empty() {
            return self.become_empty(context);
        }
        if !self.elect_leader() {
            // Only static members are left and none has joined: their sessions decide.
            let deadline = context.now.after(self.rebalance_timeout());
            self.phase = Phase::PreparingRebalance { deadline, initial: None };
            return;
        }
        self.begin_generation(context);
    }

    /// Makes a member lead that has joined, preferably the leader that there is.
    fn elect_leader(&mut self) -> bool {
        let leader_joined = self
            .leader
            .as_ref()
            .and_then(|leader| self.member(leader))
            .is_some_and(|leader| leader.is_joined());
        if leader_joined {
            return true;
        }
        let joined = self.members().iter().find(|(_, member)| member.is_joined());
        let Some(leader) = joined.map(|(member_id, _)| member_id.clone()) else { return false };
        self.leader = Some(leader);
        true
    }

    fn begin_generation(&mut self, context: &mut Context<'_>) {
        self.generation = next_generation(self.generation);
        self.protocol = self.select_protocol();
        self.subscribed_topics = self.read_subscribed_topics();
        self.enter(Phase::CompletingRebalance, context);
        let members = self.members().len();
        context.journal.end_first_phase(context.now, &self.group_id, self.generation, members);
        let member_ids: Vec<Str> = self.members().keys().cloned().collect();
        for member_id in &member_ids {
            if let Some(join) = self.take_join(member_id) {
                context.effects.reply_join(join, self.join_response(member_id));
            }
        }
        self.restart_sessions(context.now, |member| {
            member.is_new = false;
            true
        });
        self.pending_sync = member_ids.into_iter().collect();
        self.sync_deadline = Some(context.now.after(self.rebalance_timeout()));
    }

    fn become_empty(&mut self, context: &mut Context<'_>) {
        self.generation = next_generation(self.generation);
        self.protocol = None;
        self.leader = None;
        self.subscribed_topics = self.read_subscribed_topics();
        self.enter(Phase::Empty, context);
        context.journal.become_empty(context.now, &self.group_id, self.generation);
        context.effects.records.push(self.empty_record());
    }

    /// The record of a group without members.
    pub(crate) fn empty_record(&self) -> Record {
        let record = records::group_metadata(&self.group_id, &self.to_metadata());
        record.expect("nothing is large in a group without members")
    }

    /// The leader's assignment: stores it, and gives everyone his part.
    pub(crate) fn complete_sync(
        &mut self,
        mut assignment: impl FnMut(&Str) -> Bytes,
        context: &mut Context<'_>,
    ) {
        let member_ids: Vec<Str> = self.members().keys().cloned().collect();
        for (member_id, member) in member_ids.iter().zip(self.members_mut()) {
            member.assignment = assignment(member_id);
        }
        let Some(record) = self.storable_record(context) else {
            self.fail_syncs(ErrorCode::UnknownServerError, context);
            return self.prepare_rebalance(Cause::of_nobody(CauseKind::AssignmentTooLarge), context);
        };
        context.effects.records.push(record);
        self.enter(Phase::Stable, context);
        let (group, subscribed) = ((&self.group_id, self.members().len()), self.subscribed_topics.as_ref());
        context.journal.complete(context.now, group, subscribed, self.owned());
        let (protocol_type, protocol_name) = (self.protocol_type.clone(), self.protocol.clone());
        self.restart_sessions(context.now, |member| {
            let Some(token) = member.take_sync() else { return false };
            let response = SyncGroupResponse {
                protocol_type: protocol_type.clone(),
                protocol_name: protocol_name.clone(),
                assignment: member.assignment.clone(),
                ..SyncGroupResponse::default()
            };
            context.effects.reply_sync(token, response);
            true
        });
    }

    /// The record of this generation, if it fits in a batch.
    pub(crate) fn storable_record(&self, context: &Context<'_>) -> Option<Record> {
        records::group_metadata(&self.group_id, &self.to_metadata())
            .ok()
            .filter(|record| record.size() <= context.config.batch_bytes_max)
    }

    /// Takes back the assignments of this generation.
    fn fail_syncs(&mut self, error: ErrorCode, context: &mut Context<'_>) {
        self.restart_sessions(context.now, |member| {
            member.assignment = Bytes::new();
            let token = member.take_sync();
            token.inspect(|&token| context.effects.reply_sync(token, sync_error(error))).is_some()
        });
    }

    /// What a member learns of this generation; the leader learns of the others, for it assigns.
    pub(crate) fn join_response(&self, member_id: &Str) -> JoinGroupResponse {
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member_id.clone(),
            members: if self.is_leader(member_id) { self.members_for_leader() } else { Vec::new() },
            ..JoinGroupResponse::default()
        }
    }

    fn members_for_leader(&self) -> Vec<JoinGroupResponseMember> {
        let members = self.members().iter().map(|(member_id, member)| JoinGroupResponseMember {
            member_id: member_id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.subscription(self.protocol.as_deref()),
        });
        members.collect()
    }

    fn enter(&mut self, phase: Phase, context: &Context<'_>) {
        self.phase = phase;
        self.phase_since = context.now.wall;
    }
}

/// Negative generations mean "not a member": after the last one comes the first.
const fn next_generation(generation: i32) -> i32 {
    match generation.checked_add(1) {
        Some(next) => next,
        None => 1,
    }
}
