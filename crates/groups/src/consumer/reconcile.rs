//! The next step of one member from what it owns towards its target.
//!
//! It is asked to give up first what its target lacks, and stays in its epoch until it no longer reports it. Then
//! it enters the target's epoch and gets what is free; the rest follows as others give it up. So a partition never
//! has two owners, however late anyone hears of anything.

use std::collections::BTreeMap;

use dohle_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use dohle_types::TopicId;

use super::state::{Assignment, ConsumerGroup, ConsumerMember, MemberState, OwnedPartitions};

/// What a member's next step depends on.
pub(crate) struct Reconciliation<'a> {
    pub(crate) group: &'a ConsumerGroup,
    pub(crate) target: &'a Assignment,
    pub(crate) target_epoch: i32,
    /// The topics that the member subscribes to.
    pub(crate) subscribed: &'a BTreeMap<TopicId, i32>,
    pub(crate) subscription_changed: bool,
    /// What the member says that it owns, if it says so this time.
    pub(crate) reported: Option<&'a [TopicPartitions]>,
}

/// The member is in a state that this software does not know: it has to start again without partitions.
pub(crate) struct UnknownState;

/// A member's partitions of its subscriptions and its target, and what becomes of them.
#[derive(Default)]
struct Split {
    kept: OwnedPartitions,
    to_revoke: OwnedPartitions,
    to_assign: Assignment,
    /// Whether parts of the target belong to others.
    is_unreleased: bool,
}

impl Reconciliation<'_> {
    /// The member after its next step.
    pub(crate) fn next(&self, member: &ConsumerMember) -> Result<ConsumerMember, UnknownState> {
        let is_revoked = !self.reports_any(&member.revoking);
        match member.state {
            MemberState::Stable if member.epoch != self.target_epoch => Ok(self.step(member)),
            MemberState::UnrevokedPartitions if is_revoked => Ok(self.step(member)),
            MemberState::UnreleasedPartitions => Ok(self.step(member)),
            MemberState::Stable | MemberState::UnrevokedPartitions if self.subscription_changed => {
                Ok(self.drop_unsubscribed(member))
            }
            MemberState::Stable | MemberState::UnrevokedPartitions => Ok(member.clone()),
            MemberState::Unknown if self.reported.is_some_and(<[_]>::is_empty) => {
                Ok(self.step(&ConsumerMember { epoch: self.target_epoch, ..member.clone() }))
            }
            MemberState::Unknown => Err(UnknownState),
        }
    }

    fn step(&self, member: &ConsumerMember) -> ConsumerMember {
        let mut split = self.split(member);
        if self.reports_any(&split.to_revoke) {
            return ConsumerMember {
                state: MemberState::UnrevokedPartitions,
                previous_epoch: member.epoch,
                assigned: split.kept,
                revoking: split.to_revoke,
                ..member.clone()
            };
        }
        for (topic_id, partitions) in split.to_assign {
            let owned = split.kept.entry(topic_id).or_default();
            owned.extend(partitions.into_iter().map(|partition| (partition, self.target_epoch)));
        }
        let state = if split.is_unreleased { MemberState::UnreleasedPartitions } else { MemberState::Stable };
        ConsumerMember {
            state,
            previous_epoch: member.epoch,
            epoch: self.target_epoch,
            assigned: split.kept,
            revoking: OwnedPartitions::new(),
            ..member.clone()
        }
    }

    fn split(&self, member: &ConsumerMember) -> Split {
        let mut split = Split::default();
        let is_target = |topic_id: &TopicId, partition: &i32| {
            self.subscribed.contains_key(topic_id)
                && self.target.get(topic_id).is_some_and(|target| target.contains(partition))
        };
        for (&topic_id, partitions) in &member.assigned {
            for (&partition, &epoch) in partitions {
                let is_kept = is_target(&topic_id, &partition);
                let part = if is_kept { &mut split.kept } else { &mut split.to_revoke };
                part.entry(topic_id).or_default().insert(partition, epoch);
            }
        }
        let has = |owned: &OwnedPartitions, topic_id, partition| {
            owned.get(&topic_id).is_some_and(|partitions| partitions.contains_key(&partition))
        };
        for (&topic_id, partitions) in self.target.iter().filter(|(id, _)| self.subscribed.contains_key(id)) {
            for &partition in partitions.iter().filter(|&&partition| !has(&split.kept, topic_id, partition)) {
                let is_free = self.group.owner(topic_id, partition).is_none()
                    // What it gives up itself, and has given up by now.
                    || has(&member.revoking, topic_id, partition);
                if is_free {
                    split.to_assign.entry(topic_id).or_default().insert(partition);
                } else {
                    split.is_unreleased = true;
                }
            }
        }
        split
    }

    /// The target is not computed for its new subscription yet, but it shall not read any longer what it does not
    /// subscribe to.
    fn drop_unsubscribed(&self, member: &ConsumerMember) -> ConsumerMember {
        let mut next = member.clone();
        next.assigned.retain(|topic_id, _| self.subscribed.contains_key(topic_id));
        if next.assigned == member.assigned {
            return next;
        }
        for (topic_id, partitions) in &member.assigned {
            if !next.assigned.contains_key(topic_id) {
                next.revoking.entry(*topic_id).or_default().extend(partitions);
            }
        }
        next.previous_epoch = member.epoch;
        if self.reports_any(&next.revoking) {
            next.state = MemberState::UnrevokedPartitions;
        } else {
            next.revoking.clone_from(&member.revoking);
        }
        next
    }

    /// Whether the member still owns any of these partitions, for all that it says. If there are none, it does not.
    fn reports_any(&self, partitions: &OwnedPartitions) -> bool {
        if partitions.is_empty() {
            return false;
        }
        let Some(reported) = self.reported else { return true };
        reported.iter().any(|topic| {
            partitions
                .get(&TopicId(topic.topic_id))
                .is_some_and(|pending| topic.partitions.iter().any(|index| pending.contains_key(index)))
        })
    }
}
