//! Members leave a consumer group, or are removed from it.

use dohle_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use dohle_types::Str;

use super::heartbeat::HeartbeatError;
use super::member::{AWAY, MemberError};
use super::records;
use super::state::{ConsumerMember, OwnedPartitions};
use super::subscription::NextGroup;
use crate::GroupLedger;
use crate::cluster::Turn;
use crate::journal::cause::{Cause, CauseKind};
use crate::journal::entry::Protocol;

impl GroupLedger {
    /// A member says that it leaves; a static one may say that it will be back.
    pub(crate) fn consumer_leave(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, HeartbeatError> {
        let (group_id, member_id) = (&request.group_id, &request.member_id);
        let group = self.state.consumer_group(group_id).ok_or_else(|| {
            let is_other = self.state.group(group_id).is_some() || self.groups.contains_key(group_id);
            if is_other {
                HeartbeatError::NotAConsumerGroup(group_id.clone())
            } else {
                HeartbeatError::GroupIdNotFound(group_id.clone())
            }
        })?;
        let member = match &request.instance_id {
            Some(instance_id) => group.static_speaker(member_id, instance_id)?,
            None => group.member(member_id).ok_or_else(|| MemberError::Unknown(member_id.clone()))?,
        };
        if request.instance_id.is_some() && request.member_epoch == AWAY {
            // Its session goes on: it has that long to come back.
            let away = away(member);
            turn.effects.records.push(records::current_assignment(group_id, member_id, &away));
            let cause = Cause::of(CauseKind::StaticMemberAway, member.who(member_id));
            self.journal.note(turn.now, group_id, group.epoch, cause);
            self.journal.touch(group_id);
        } else {
            let left = Cause::of(CauseKind::Left, member.who(member_id));
            self.fence(group_id, std::slice::from_ref(member_id), vec![left], turn);
        }
        Ok(ConsumerGroupHeartbeatResponse {
            member_id: Some(member_id.clone()),
            member_epoch: request.member_epoch,
            ..ConsumerGroupHeartbeatResponse::default()
        })
    }

    /// Removes members, which makes a new group epoch; their partitions are free at once, and go to the others as
    /// these are heard of.
    pub(crate) fn fence(&mut self, group_id: &Str, gone: &[Str], causes: Vec<Cause>, turn: &mut Turn<'_>) {
        let Some(group) = self.state.consumer_group(group_id).filter(|_| !gone.is_empty()) else { return };
        let next = NextGroup::without(group, gone);
        let begin = turn.effects.records.len();
        let written = &mut turn.effects.records;
        for member_id in gone {
            written.extend(records::member_tombstones(group_id, member_id));
        }
        for regex in group.regexes.keys().filter(|regex| !next.regexes.contains_key(*regex)) {
            written.push(records::regular_expression_tombstone(group_id, regex));
        }
        let epoch = group.epoch.saturating_add(1);
        written.push(records::group_metadata(group_id, epoch, next.metadata_hash(turn.cluster)));
        let members = group.members().len() - gone.len();
        let mut causes = causes.into_iter();
        if let Some(cause) = causes.next() {
            let from = (group.epoch, members);
            self.journal.begin(turn.now, group_id, Protocol::Consumer, from, cause, turn.effects);
        }
        causes.for_each(|cause| self.journal.add(group_id, cause));
        for member_id in gone {
            if let Some(member) = group.member(member_id) {
                self.journal.on_gone(turn.now, group_id, (member_id, member), turn.cluster);
            }
        }
        if let Some(sessions) = self.sessions.get_mut(group_id) {
            for member_id in gone {
                sessions.forget(member_id);
            }
            if sessions.is_idle() {
                self.sessions.remove(group_id);
                self.timers.disarm(group_id);
            }
        }
        self.downgrade_if_classic(group_id, gone, begin, turn);
    }
}

/// A static member that will be back: what it has is kept for it, whatever its next member id and epoch.
fn away(member: &ConsumerMember) -> ConsumerMember {
    let mut away = ConsumerMember { epoch: AWAY, revoking: OwnedPartitions::new(), ..member.clone() };
    for epoch in away.assigned.values_mut().flat_map(|partitions| partitions.values_mut()) {
        *epoch = 0;
    }
    away
}
