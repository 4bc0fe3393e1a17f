//! What the journal is told of groups of the consumer protocol.

use dohle_types::{Now, Str};

use super::cause::Who;
use super::entry::Protocol;
use super::owners::Owner;
use super::{Journal, places};
use crate::consumer::state::{ConsumerGroup, ConsumerMember, OwnedPartitions};
use crate::consumer::update::Updated;
use crate::{Cluster, Effects};

impl ConsumerMember {
    /// Who it is.
    pub(crate) fn who(&self, member_id: &str) -> Who {
        Who::new(member_id, self.instance_id.as_ref(), &self.client_id, &self.client_host)
    }

    fn owner(&self, member_id: &Str) -> Owner {
        self.instance_id.clone().unwrap_or_else(|| member_id.clone())
    }
}

impl Journal {
    /// A member joined, changed, or went a step.
    pub(crate) fn on_updated(
        &mut self,
        now: Now,
        (group_id, group): (&Str, &ConsumerGroup),
        (member_id, before): (&Str, &ConsumerMember),
        updated: &Updated,
        cluster: &dyn Cluster,
        effects: &mut Effects,
    ) {
        if updated.records.is_empty() {
            return;
        }
        self.touch(group_id);
        let is_new = group.member(member_id).is_none() && !updated.replaces;
        let members = group.members().len() + usize::from(is_new);
        match (&updated.cause, &updated.note) {
            (Some(cause), _) => {
                self.begin(now, group_id, Protocol::Consumer, (group.epoch, members), cause.clone(), effects);
            }
            (None, note) => {
                self.move_to_consumer(group_id);
                note.iter().for_each(|note| self.note(now, group_id, group.epoch, note.clone()));
            }
        }
        if let Some(epoch) = updated.assigned_epoch {
            self.end_first_phase(now, group_id, epoch, members);
        }
        let after = &updated.member;
        if before.assigned == after.assigned && before.revoking == after.revoking {
            return;
        }
        let owner = after.owner(member_id);
        self.follow(now, group_id, |followed, _| {
            let (has, had) = ([&after.assigned, &after.revoking], [&before.assigned, &before.revoking]);
            followed.owners.release(now.instant, &owner, places(had, has, cluster));
            followed.owners.acquire(now.instant, &owner, places(has, had, cluster));
        });
    }

    /// A static member of the consumer protocol took a place in a classic group, which goes on with its generation as
    /// a consumer group's epoch: a rebalance that is under way ends as one of that.
    fn move_to_consumer(&mut self, group_id: &str) {
        if let Some(followed) = self.groups.get_mut(group_id)
            && let Some(open) = followed.open.as_mut().filter(|open| open.protocol == Protocol::Classic)
        {
            open.protocol = Protocol::Consumer;
            self.partitions -= followed.owners.len();
            followed.owners.let_go();
            self.partitions += followed.owners.len();
        }
    }

    /// A member is gone, and with it what it had.
    pub(crate) fn on_gone(
        &mut self,
        now: Now,
        group_id: &Str,
        (member_id, member): (&Str, &ConsumerMember),
        cluster: &dyn Cluster,
    ) {
        let none = OwnedPartitions::new();
        self.follow(now, group_id, |followed, _| {
            let had = places([&member.assigned, &member.revoking], [&none, &none], cluster);
            followed.owners.release(now.instant, &member.owner(member_id), had);
        });
    }
}
