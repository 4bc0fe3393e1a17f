//! What the journal is told of groups of the classic protocol.

use std::collections::{BTreeMap, BTreeSet};

use dohle_protocol::messages::JoinGroupRequest;
use dohle_types::Str;

use super::cause::{Cause, CauseKind, Who};
use super::{Owner, Place};
use crate::consumer::{read_assignment, read_subscription};
use crate::effects::Context;
use crate::group::{Group, Member, Phase};

impl Group {
    /// Who a member is.
    pub(crate) fn who(&self, member_id: &str) -> Who {
        match self.member(member_id) {
            Some(member) => {
                Who::new(member_id, member.instance_id.as_ref(), &member.client_id, &member.client_host)
            }
            None => Who::new(member_id, None, "", ""),
        }
    }

    /// Tells what the members have, before the first of them gives up anything.
    pub(crate) fn tell_owners(&self, context: &mut Context<'_>) {
        if self.phase == Phase::Stable && context.journal.wants_owners(&self.group_id) {
            context.journal.take_up(context.now, &self.group_id, self.owned());
        }
    }

    /// Removes a member for good or, if it only was given an id, that id.
    pub(crate) fn lose_member(&mut self, member_id: &str, context: &mut Context<'_>) -> Who {
        self.tell_owners(context);
        let who = self.who(member_id);
        if let Some(member) = self.member(member_id) {
            let owner = owner(member_id, member);
            context.journal.keep_only(context.now, &self.group_id, &owner, &[]);
        }
        self.remove_member(member_id, context.effects);
        who
    }

    /// A member joins again, and has given up what it does not say that it has.
    pub(crate) fn tell_given_up(&self, member_id: &str, context: &mut Context<'_>) {
        let Some(member) = self.member(member_id) else { return };
        let subscription = member.protocols.first().and_then(|(_, bytes)| read_subscription(bytes));
        let owned = subscription.map(|(_, subscription)| subscription.owned_partitions).unwrap_or_default();
        let kept: Vec<Place> = owned
            .into_iter()
            .flat_map(|topic| topic.partitions.into_iter().map(move |index| (topic.topic.clone(), index)))
            .collect();
        context.journal.keep_only(context.now, &self.group_id, &owner(member_id, member), &kept);
    }

    /// What each member has been assigned; none if that cannot be read.
    pub(crate) fn owned(&self) -> Option<BTreeMap<Owner, Vec<Place>>> {
        if !self.is_consumer_group() {
            return None;
        }
        let mut owned = BTreeMap::new();
        for (member_id, member) in self.members().iter().filter(|(_, member)| !member.assignment.is_empty()) {
            let topics = read_assignment(&member.assignment)?.assigned_partitions.into_iter();
            let places = topics.flat_map(|topic| {
                topic.partitions.into_iter().map(move |index| (topic.topic.clone(), index))
            });
            owned.insert(owner(member_id, member), places.collect());
        }
        Some(owned)
    }

    /// What a member that joins again has changed, or why else it does so.
    pub(crate) fn cause_of_rejoining(&self, who: Who, member: &Member, request: &JoinGroupRequest) -> Cause {
        let reason = request.reason.as_ref();
        let offers = |name: &Str| request.protocols.iter().any(|protocol| protocol.name == *name);
        let kind = if !self.is_same_choice(member, request) {
            CauseKind::AssignorChanged
        } else if member.protocols.iter().any(|(name, _)| offers(name) && self.differs(member, name, request))
        {
            CauseKind::SubscriptionChanged
        } else {
            CauseKind::of_rejoining(self.is_leader(&who.member_id), reason.map(Str::as_str))
        };
        Cause::of(kind, who).because(reason)
    }

    /// Whether a member offers the protocols that it offered. Of those that the log told of only one is known.
    fn is_same_choice(&self, member: &Member, request: &JoinGroupRequest) -> bool {
        match member.protocols.as_slice() {
            [(only, _)] if Some(only) == self.protocol.as_ref() => {
                request.protocols.iter().any(|protocol| protocol.name == *only)
            }
            known => known.iter().map(|(name, _)| name).eq(request.protocols.iter().map(|it| &it.name)),
        }
    }

    /// Whether a member subscribes to something else than before. What consumers own, and what their assignors add,
    /// changes with each generation.
    fn differs(&self, member: &Member, protocol: &Str, request: &JoinGroupRequest) -> bool {
        let former = member.subscription(Some(protocol));
        let Some(new) = request.protocols.iter().find(|it| it.name == *protocol) else { return false };
        let topics = |bytes| -> Option<BTreeSet<Str>> {
            Some(read_subscription(bytes)?.1.topics.into_iter().collect())
        };
        match (topics(&former), topics(&new.metadata)) {
            (Some(former), Some(new)) if self.is_consumer_group() => former != new,
            _ => former != new.metadata,
        }
    }
}

fn owner(member_id: &str, member: &Member) -> Owner {
    member.instance_id.clone().unwrap_or_else(|| Str::from(member_id))
}
