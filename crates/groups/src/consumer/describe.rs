//! ConsumerGroupDescribe (key 69, versions 0-1): a consumer group, its members, what they own and what they are to
//! own. Version 1: whether a member speaks the consumer or the classic protocol.

use dohle_protocol::messages::consumer_group_describe_response::{
    Assignment as DescribedAssignment, DescribedGroup, Member, TopicPartitions,
};
use dohle_types::{ErrorCode, Str};

use super::state::{Assignment, ConsumerGroup, ConsumerMember};
use super::target::preferred_assignor;
use crate::GroupLedger;
use crate::cluster::Cluster;

const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

impl GroupLedger {
    /// A consumer group and its members. What each may do is the host's to add.
    #[must_use]
    pub fn describe_consumer_group(&self, group_id: &Str, cluster: &dyn Cluster) -> DescribedGroup {
        let Some(group) = self.state.consumer_group(group_id) else {
            let is_other = self.state.group(group_id).is_some() || self.groups.contains_key(group_id);
            let what = if is_other { "is not a consumer group" } else { "not found" };
            return DescribedGroup {
                group_id: group_id.clone(),
                error_code: ErrorCode::GroupIdNotFound.code(),
                error_message: Some(Str::from(format!("Group {group_id} {what}."))),
                ..DescribedGroup::default()
            };
        };
        let assignor = preferred_assignor(group.members().values(), &self.config.assignors);
        DescribedGroup {
            group_id: group_id.clone(),
            group_state: Str::from(group.state_name()),
            group_epoch: group.epoch,
            assignment_epoch: group.assignment_epoch,
            assignor_name: Str::from(assignor.name()),
            members: described_members(group, cluster),
            ..DescribedGroup::default()
        }
    }
}

fn described_members(group: &ConsumerGroup, cluster: &dyn Cluster) -> Vec<Member> {
    let members = group.members().iter().map(|(member_id, member)| Member {
        member_id: member_id.clone(),
        instance_id: member.instance_id.clone(),
        rack_id: member.rack_id.clone(),
        member_epoch: member.epoch,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        subscribed_topic_names: member.topic_names.iter().cloned().collect(),
        subscribed_topic_regex: Some(member.topic_regex.clone()),
        assignment: described(&responsible_for(member), cluster),
        target_assignment: group
            .target(member_id)
            .map_or_else(DescribedAssignment::default, |target| described(target, cluster)),
        member_type: if member.classic.is_some() { CLASSIC } else { CONSUMER },
    });
    members.collect()
}

/// What a member owns, and what it has not given up yet.
pub(crate) fn responsible_for(member: &ConsumerMember) -> Assignment {
    let mut all = Assignment::new();
    for (&topic_id, partitions) in member.assigned.iter().chain(&member.revoking) {
        all.entry(topic_id).or_default().extend(partitions.keys());
    }
    all
}

/// Topics that are gone have no name to be told by.
fn described(assignment: &Assignment, cluster: &dyn Cluster) -> DescribedAssignment {
    let topics = assignment.iter().filter_map(|(topic_id, partitions)| {
        let topic = cluster.topic_by_id(*topic_id)?;
        Some(TopicPartitions {
            topic_id: topic_id.0,
            topic_name: topic.name,
            partitions: partitions.iter().copied().collect(),
        })
    });
    DescribedAssignment { topic_partitions: topics.collect() }
}
