//! In an epoch, or a generation, of a group no partition has two owners, whichever protocol they speak.

use std::collections::{BTreeMap, BTreeSet};

use dohle_broker::Node;
use dohle_client::group::protocol::decode_assignment;
use dohle_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, SyncGroupRequest, SyncGroupResponse,
};
use dohle_types::{Str, TopicId};

use crate::marks::{Mark, Marks};

type Partitions = BTreeSet<(TopicId, i32)>;

/// Who was told of which partitions, and when.
#[derive(Debug, Default)]
pub(super) struct OneOwner {
    /// The member by group, epoch and partition.
    owners: BTreeMap<(Str, i32, TopicId, i32), Str>,
    /// What a member of the consumer protocol was told last, by group and member.
    told: BTreeMap<(Str, Str), Partitions>,
    /// Epochs of groups in which members of the classic protocol, or of the consumer protocol, own anything.
    classic: BTreeSet<(Str, i32)>,
    consumer: BTreeSet<(Str, i32)>,
}

impl OneOwner {
    pub(super) fn on_beat(
        &mut self,
        node: &Node,
        asked: &ConsumerGroupHeartbeatRequest,
        response: &ConsumerGroupHeartbeatResponse,
        marks: &mut Marks,
    ) -> Result<(), String> {
        let (group, member) = (&asked.group_id, &asked.member_id);
        if response.error_code != 0 || response.member_epoch < 0 {
            return Ok(());
        }
        let told = self.told.entry((group.clone(), member.clone())).or_default();
        if let Some(assignment) = &response.assignment {
            let topics = assignment.topic_partitions.iter();
            *told = topics
                .flat_map(|topic| topic.partitions.iter().map(|&index| (TopicId(topic.topic_id), index)))
                .collect();
        }
        let told = told.clone();
        let epoch = (group.clone(), response.member_epoch);
        marks.sometimes(Mark::ProtocolsMixed, !told.is_empty() && self.classic.contains(&epoch));
        if !told.is_empty() {
            self.consumer.insert(epoch);
        }
        self.own(node, (group, response.member_epoch), member, told)
    }

    pub(super) fn on_synced(
        &mut self,
        node: &Node,
        asked: &SyncGroupRequest,
        response: &SyncGroupResponse,
        marks: &mut Marks,
    ) -> Result<(), String> {
        let (group, generation) = (&asked.group_id, asked.generation_id);
        if response.error_code != 0 {
            return Ok(());
        }
        let assigned = decode_assignment(&response.assignment)
            .map_err(|error| format!("group {group}: an assignment cannot be read: {error}"))?;
        let by_id = assigned
            .iter()
            .filter_map(|partition| Some((node.image().topic(&partition.topic)?.id, partition.partition.0)));
        let assigned: Partitions = by_id.collect();
        let epoch = (group.clone(), generation);
        marks.sometimes(Mark::ProtocolsMixed, !assigned.is_empty() && self.consumer.contains(&epoch));
        if !assigned.is_empty() {
            self.classic.insert(epoch);
        }
        self.own(node, (group, generation), &asked.member_id, assigned)
    }

    fn own(
        &mut self,
        node: &Node,
        (group, epoch): (&Str, i32),
        member: &Str,
        partitions: Partitions,
    ) -> Result<(), String> {
        for (topic_id, partition) in partitions {
            let place = (group.clone(), epoch, topic_id, partition);
            let owner = self.owners.entry(place).or_insert_with(|| member.clone());
            if owner != member {
                let topic = node.image().topic_by_id(topic_id).map(|topic| topic.name.clone());
                return Err(format!(
                    "group {group} epoch {epoch}: {}-{partition} has two owners, {owner} and {member}",
                    topic.unwrap_or_default()
                ));
            }
        }
        Ok(())
    }
}
