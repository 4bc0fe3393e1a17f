//! The soft side of a consumer group: until when each member is to be heard of, and to have given up what it was
//! asked for.

use std::collections::BTreeMap;

use dohle_types::time::Instant;
use dohle_types::{Now, Str};

use super::state::{ConsumerGroup, ConsumerMember, MemberState};
use super::subscription::REGEX_REFRESH_INTERVAL_MIN;
use crate::GroupLedger;
use crate::cluster::{Cluster, Turn};
use crate::group::millis;
use crate::journal::cause::{Cause, CauseKind};

/// The deadlines of a consumer group's members.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    sessions: BTreeMap<Str, Instant>,
    /// Members that have to give up partitions, with the epoch that they are in.
    revocations: BTreeMap<Str, (i32, Instant)>,
    /// Members of the classic protocol that have to join again, or to ask for what they own.
    rejoins: BTreeMap<Str, Instant>,
    /// The version of the cluster by which the subscribed topics were looked at.
    topics_version: Option<i64>,
    /// The version by which the regular expressions were, and when.
    regexes_version: Option<i64>,
    regexes_at: Option<Instant>,
}

/// What a change of a member has looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reads {
    /// The topics that the group subscribes to.
    pub(crate) topics: bool,
    /// All topics, for the group's regular expressions.
    pub(crate) regexes: bool,
}

impl Sessions {
    /// Whether nobody is waited for.
    pub(crate) fn is_idle(&self) -> bool {
        self.sessions.is_empty()
    }

    /// A member was heard of.
    pub(crate) fn restart(&mut self, member_id: &Str, deadline: Instant) {
        match self.sessions.get_mut(member_id) {
            Some(current) => *current = deadline,
            None => {
                self.sessions.insert(member_id.clone(), deadline);
            }
        }
    }

    /// A member went a step: it has its rebalance timeout to give up what it was asked for. Says until when.
    pub(crate) fn watch_revocation(
        &mut self,
        now: Now,
        member_id: &Str,
        member: &ConsumerMember,
    ) -> Option<Instant> {
        if member.state != MemberState::UnrevokedPartitions {
            self.revocations.remove(member_id);
            return None;
        }
        let deadline = now.after(millis(member.rebalance_timeout_ms));
        self.revocations.insert(member_id.clone(), (member.epoch, deadline));
        Some(deadline)
    }

    /// A member is gone.
    pub(crate) fn forget(&mut self, member_id: &str) {
        self.sessions.remove(member_id);
        self.revocations.remove(member_id);
        self.rejoins.remove(member_id);
    }

    /// A member of the classic protocol is asked to join again; it has from the first time on.
    pub(crate) fn watch_rejoin(&mut self, member_id: &Str, deadline: Instant) {
        self.rejoins.entry(member_id.clone()).or_insert(deadline);
    }

    /// A member of the classic protocol has joined, and has yet to ask for what it owns.
    pub(crate) fn watch_sync(&mut self, member_id: &Str, deadline: Instant) {
        self.rejoins.insert(member_id.clone(), deadline);
    }

    /// A member of the classic protocol knows what it owns.
    pub(crate) fn on_synced(&mut self, member_id: &str) {
        self.rejoins.remove(member_id);
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.sessions.values().copied().min();
        let revocations = self.revocations.values().map(|&(_, at)| at).min();
        let rejoins = self.rejoins.values().copied().min();
        [sessions, revocations, rejoins].into_iter().flatten().min()
    }

    /// Whether the topics may have changed since they were last looked at.
    pub(crate) fn are_topics_stale(&self, cluster: &dyn Cluster) -> bool {
        self.topics_version != Some(cluster.version())
    }

    /// Whether the regular expressions may match something else by now. One look at all topics serves for a while.
    pub(crate) fn are_regexes_stale(&self, now: Now, cluster: &dyn Cluster) -> bool {
        self.regexes_version != Some(cluster.version())
            && self.regexes_at.is_none_or(|at| now.instant >= at + REGEX_REFRESH_INTERVAL_MIN)
    }

    /// A change of a member has looked at the cluster.
    pub(crate) fn on_reads(&mut self, reads: Reads, now: Now, cluster: &dyn Cluster) {
        if reads.topics {
            self.topics_version = Some(cluster.version());
        }
        if reads.regexes {
            self.regexes_version = Some(cluster.version());
            self.regexes_at = Some(now.instant);
        }
    }

    fn expired(&self, now: Instant) -> Vec<Str> {
        self.sessions.iter().filter(|&(_, &at)| at <= now).map(|(member_id, _)| member_id.clone()).collect()
    }

    /// Takes out the members that are still in the epoch in which they were asked to give up partitions, and
    /// those that did not join again.
    fn overdue(&mut self, group: &ConsumerGroup, now: Instant) -> Vec<Str> {
        let due = self.revocations.extract_if(.., |_, (_, at)| *at <= now);
        let is_still_there =
            |member_id: &Str, epoch: i32| group.member(member_id).is_some_and(|member| member.epoch == epoch);
        due.filter(|(member_id, (epoch, _))| is_still_there(member_id, *epoch))
            .map(|(member_id, _)| member_id)
            .chain(self.rejoins.extract_if(.., |_, at| *at <= now).map(|(member_id, _)| member_id))
            .collect()
    }
}

impl GroupLedger {
    /// Gives the members that the log told of one session timeout to be heard of.
    pub(crate) fn on_consumer_groups_loaded(&mut self, turn: &Turn<'_>) {
        for (group_id, group) in self.state.consumer_groups() {
            if !group.members().is_empty() {
                self.journal.on_loaded(turn.now, group_id, group);
            }
            let mut sessions = Sessions::default();
            let settings = turn.cluster.consumer_group_settings(group_id);
            for (member_id, member) in group.members() {
                let of_classic = member.classic.as_ref().map(|classic| classic.session_timeout_ms);
                let timeout = millis(of_classic.unwrap_or(settings.session_timeout_ms));
                sessions.restart(member_id, turn.now.after(timeout));
                sessions.watch_revocation(turn.now, member_id, member);
            }
            if let Some(next) = sessions.next_deadline() {
                self.timers.arm(group_id, next);
                self.sessions.insert(group_id.clone(), sessions);
            }
        }
    }

    /// Removes the members of a consumer group that were not heard of, or kept what they were to give up.
    pub(crate) fn on_consumer_group_timeout(&mut self, group_id: &Str, turn: &mut Turn<'_>) {
        let Some(sessions) = self.sessions.get_mut(group_id) else { return };
        let Some(group) = self.state.consumer_group(group_id) else {
            self.sessions.remove(group_id);
            return;
        };
        let expired = sessions.expired(turn.now.instant);
        let mut overdue = sessions.overdue(group, turn.now.instant);
        overdue.retain(|member_id| !expired.contains(member_id));
        let cause = |kind: CauseKind, member_ids: &[Str]| {
            let members = member_ids.iter().filter_map(|id| Some(group.member(id)?.who(id)));
            (!member_ids.is_empty()).then(|| Cause::of_all(kind, members))
        };
        let causes =
            [cause(CauseKind::SessionExpired, &expired), cause(CauseKind::PollIntervalExceeded, &overdue)];
        let causes: Vec<Cause> = causes.into_iter().flatten().collect();
        // All at once: the group is changed once until the records are replayed.
        let gone: Vec<Str> = expired.into_iter().chain(overdue).collect();
        self.fence(group_id, &gone, causes, turn);
        if let Some(next) = self.sessions.get(group_id).and_then(Sessions::next_deadline) {
            self.timers.arm(group_id, next);
        }
    }
}
