//! What follows from a member that joins or changes: the records of one heartbeat.

use std::borrow::Cow;

use dohle_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use dohle_types::{ErrorCode, Str};

use super::reconcile::Reconciliation;
use super::sessions::{Reads, Sessions};
use super::state::{Assignment, ConsumerGroup, ConsumerMember};
use super::subscription::{NextGroup, RegexError, resolve};
use super::{records, target};
use crate::cluster::Turn;
use crate::journal::cause::{Cause, CauseKind};
use crate::{GroupsConfig, Record};

/// A member that joins or changes.
pub(crate) struct Update<'a> {
    pub(crate) group_id: &'a Str,
    pub(crate) group: &'a ConsumerGroup,
    pub(crate) member_id: &'a Str,
    /// The static member whose place it takes, if any.
    pub(crate) replaces: &'a [Str],
    pub(crate) before: &'a ConsumerMember,
    pub(crate) after: ConsumerMember,
    /// Whether it makes a consumer group of a classic one.
    pub(crate) upgrades: bool,
    /// Why it joins, if it says so.
    pub(crate) reason: Option<&'a Str>,
    /// What it says that it owns.
    pub(crate) reported: Option<&'a [TopicPartitions]>,
}

/// What follows from an [`Update`].
pub(crate) struct Updated {
    /// The member after its step.
    pub(crate) member: ConsumerMember,
    pub(crate) records: Vec<Record>,
    /// The group epoch.
    pub(crate) epoch: i32,
    /// Why it grew, if it did.
    pub(crate) cause: Option<Cause>,
    /// What else is to be told of the membership, if it did not.
    pub(crate) note: Option<Cause>,
    /// The group epoch, if there is a new target for it.
    pub(crate) assigned_epoch: Option<i32>,
    /// Whether the member took the place of another one.
    pub(crate) replaces: bool,
    pub(crate) reads: Reads,
}

/// Why nothing follows from an [`Update`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpdateError {
    #[error(transparent)]
    Regex(#[from] RegexError),
    #[error(
        "The member was in a state that this version does not know: give up all partitions and join again"
    )]
    UnknownState,
}

impl UpdateError {
    pub(crate) const fn code(&self) -> ErrorCode {
        match self {
            Self::Regex(error) => error.code(),
            Self::UnknownState => ErrorCode::FencedMemberEpoch,
        }
    }
}

impl Update<'_> {
    /// Brings the member, the group and the target up to date, and takes the member one step on.
    pub(crate) fn run(
        &self,
        config: &GroupsConfig,
        sessions: &Sessions,
        turn: &Turn<'_>,
    ) -> Result<Updated, UpdateError> {
        let Self { group_id, group, member_id, before, after, .. } = self;
        let mut records = self.member_records();
        let mut next = NextGroup {
            group,
            gone: self.replaces,
            member: Some((member_id, after)),
            regexes: Cow::Borrowed(&group.regexes),
        };
        let subscription_changed =
            after.topic_names != before.topic_names || after.topic_regex != before.topic_regex;
        let mut reads = Reads::default();
        let matches_changed =
            self.refresh_regexes(&mut next, config, sessions, turn, &mut reads, &mut records)?;

        let mut epoch = group.epoch;
        let mut cause = None;
        if subscription_changed || matches_changed || sessions.are_topics_stale(turn.cluster) {
            reads.topics = true;
            let hash = next.metadata_hash(turn.cluster);
            if subscription_changed || matches_changed || hash != group.metadata_hash {
                epoch = epoch.saturating_add(1);
                cause = Some(self.cause(subscription_changed));
                records.push(records::group_metadata(group_id, epoch, hash));
                if group.has_partition_metadata {
                    records.push(records::partition_metadata_tombstone(group_id));
                }
            }
        }

        let interval_ms = turn.cluster.consumer_group_settings(group_id).assignment_interval_ms;
        let mut target_epoch = group.assignment_epoch;
        let mut assigned_epoch = None;
        let mut target = Cow::Owned(Assignment::new());
        if group.assignment_epoch < epoch && target::is_due(group.assigned_at, interval_ms, turn.now) {
            let members = next.members().map(|(_, member)| member);
            let assignor = target::preferred_assignor(members, &config.assignors);
            let new = target::compute(group_id, &next, assignor, epoch, turn.now, turn.cluster);
            records.extend(new.records);
            target_epoch = epoch;
            assigned_epoch = Some(epoch);
            target = Cow::Owned(new.of_member);
        } else if let Some(former) = next.former_target(member_id) {
            target = Cow::Borrowed(former);
        }

        let mut member = after.clone();
        if subscription_changed || !member.is_reconciled_to(target_epoch) {
            let subscribed = target::subscribed_topics(after, &next.regexes, turn.cluster);
            let step = Reconciliation {
                group,
                target: &target,
                target_epoch,
                subscribed: &subscribed,
                subscription_changed,
                reported: self.reported,
            };
            member = step.next(after).map_err(|_| UpdateError::UnknownState)?;
            if member != *after {
                records.push(records::current_assignment(group_id, member_id, &member));
            }
        }
        Ok(Updated {
            member,
            records,
            epoch,
            cause,
            note: self.note(),
            assigned_epoch,
            replaces: !self.replaces.is_empty(),
            reads,
        })
    }

    /// The member as it is now, in the place of its former self if that went by another id.
    fn member_records(&self) -> Vec<Record> {
        let Self { group_id, member_id, before, after, .. } = self;
        let mut written = Vec::new();
        if let [former] = self.replaces {
            let none = Assignment::new();
            let target = self.group.target(former).unwrap_or(&none);
            written.extend(records::member_tombstones(group_id, former));
            written.push(records::member_metadata(group_id, member_id, before));
            written.push(records::target(group_id, member_id, target));
            written.push(records::current_assignment(group_id, member_id, before));
        }
        if after != *before {
            written.push(records::member_metadata(group_id, member_id, after));
        }
        written
    }

    /// Evaluates the member's regular expression if it is new, and from time to time all of the group's. Says
    /// whether any matches something else than before.
    fn refresh_regexes(
        &self,
        next: &mut NextGroup<'_>,
        config: &GroupsConfig,
        sessions: &Sessions,
        turn: &Turn<'_>,
        reads: &mut Reads,
        written: &mut Vec<Record>,
    ) -> Result<bool, RegexError> {
        let resolve = |regex: &str| resolve(regex, turn.now, turn.cluster, config.subscription_bytes_max);
        let former = &self.before.topic_regex;
        if next.regexes.contains_key(former) && next.regex_subscribers(former) == 0 {
            next.regexes.to_mut().remove(former);
            written.push(records::regular_expression_tombstone(self.group_id, former));
        }
        let mut changed = false;
        let regex = &self.after.topic_regex;
        if !regex.is_empty() && !next.regexes.contains_key(regex) {
            let resolved = resolve(regex)?;
            written.push(records::regular_expression(self.group_id, regex, &resolved));
            next.regexes.to_mut().insert(regex.clone(), resolved);
            changed = true;
        }
        if next.regexes.is_empty() || !sessions.are_regexes_stale(turn.now, turn.cluster) {
            return Ok(changed);
        }
        reads.regexes = true;
        let version = turn.cluster.version();
        let stale: Vec<Str> = next
            .regexes
            .iter()
            .filter(|(_, resolved)| resolved.version != version)
            .map(|(regex, _)| regex.clone())
            .collect();
        for regex in stale {
            // One that matches too much by now goes on with what it matched before.
            let Ok(resolved) = resolve(&regex) else { continue };
            if next.regexes.get(&regex).is_some_and(|former| former.topics != resolved.topics) {
                written.push(records::regular_expression(self.group_id, &regex, &resolved));
                next.regexes.to_mut().insert(regex, resolved);
                changed = true;
            }
        }
        Ok(changed)
    }

    fn cause(&self, subscription_changed: bool) -> Cause {
        let who = self.after.who(self.member_id);
        let is_new = self.group.member(self.member_id).is_none();
        let kind = if !self.replaces.is_empty() {
            CauseKind::StaticMemberReplaced
        } else if is_new && self.upgrades {
            CauseKind::Upgraded
        } else if is_new {
            CauseKind::Joined
        } else if subscription_changed {
            CauseKind::SubscriptionChanged
        } else {
            return Cause::of_nobody(CauseKind::MetadataChanged);
        };
        Cause::of(kind, who).because(self.reason)
    }

    /// What is told of the member where the group epoch stays.
    fn note(&self) -> Option<Cause> {
        let kind = if !self.replaces.is_empty() {
            CauseKind::StaticMemberReplaced
        } else if self.group.member(self.member_id).is_none() {
            CauseKind::Joined
        } else if self.after.assignor != self.before.assignor {
            CauseKind::AssignorChanged
        } else {
            return None;
        };
        Some(Cause::of(kind, self.after.who(self.member_id)).because(self.reason))
    }
}
