//! What a ledger knows of a group whose lag is asked for: its offsets, and who is to read on from each.

use std::collections::BTreeMap;

use dohle_types::{Str, TopicId};

use crate::cluster::Cluster;
use crate::consumer::{read_assignment, responsible_for};
use crate::group::Group;
use crate::journal::cause::Who;
use crate::state::CommittedOffset;
use crate::{GroupLedger, State};

/// A group whose lag is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchedGroup {
    /// Its state, as ListGroups names it.
    pub state: Str,
    /// `classic` or `consumer`.
    pub group_type: Str,
    /// Whether it had members and has none. One that never had any is of consumers that only commit here.
    pub is_abandoned: bool,
    /// How many members it has.
    pub members: usize,
    /// What it has committed or is assigned, by topic and partition.
    pub topics: BTreeMap<Str, BTreeMap<i32, GroupPartition>>,
}

/// A partition that a group reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupPartition {
    /// How far it has come.
    pub committed: Option<CommittedOffset>,
    /// Which member is to read it.
    pub owner: Option<Who>,
}

impl GroupLedger {
    /// What is known of a group; `None` if there is none.
    #[must_use]
    pub fn watched_group(&self, group_id: &Str, cluster: &dyn Cluster) -> Option<WatchedGroup> {
        let (soft, durable) = (self.groups.get(group_id), self.state.group(group_id));
        if soft.is_none() && durable.is_none() {
            return None;
        }
        let listed = self.listed(group_id);
        let mut topics: BTreeMap<Str, BTreeMap<i32, GroupPartition>> = BTreeMap::new();
        for (topic, partitions) in durable.iter().flat_map(|group| &group.offsets) {
            let committed = partitions.iter().map(|(&index, committed)| {
                (index, GroupPartition { committed: Some(committed.clone()), owner: None })
            });
            topics.insert(topic.clone(), committed.collect());
        }
        let owners = soft.map(classic_owners).unwrap_or_default();
        for (topic, index, who) in owners.into_iter().chain(consumer_owners(&self.state, group_id, cluster)) {
            topics.entry(topic).or_default().entry(index).or_default().owner = Some(who);
        }
        let consumer = self.state.consumer_group(group_id);
        let members =
            soft.map_or(0, |group| group.members().len()) + consumer.map_or(0, |group| group.members().len());
        let had_members = durable.is_some_and(|group| group.metadata.is_some() || group.consumer.is_some());
        Some(WatchedGroup {
            state: listed.group_state,
            group_type: listed.group_type,
            is_abandoned: had_members && members == 0,
            members,
            topics,
        })
    }
}

type Owner = (Str, i32, Who);

/// Members that say nothing that can be read, such as those of Kafka Connect, own nothing that can be told.
fn classic_owners(group: &Group) -> Vec<Owner> {
    let mut owners = Vec::new();
    for (member_id, member) in group.members().iter().filter(|_| group.is_consumer_group()) {
        let assigned = read_assignment(&member.assignment).map(|it| it.assigned_partitions);
        let who = group.who(member_id);
        for topic in assigned.unwrap_or_default() {
            owners.extend(topic.partitions.iter().map(|&index| (topic.topic.clone(), index, who.clone())));
        }
    }
    owners
}

fn consumer_owners(state: &State, group_id: &str, cluster: &dyn Cluster) -> Vec<Owner> {
    let mut owners = Vec::new();
    for (member_id, member) in state.consumer_group(group_id).iter().flat_map(|group| group.members()) {
        let who = Who::new(member_id, member.instance_id.as_ref(), &member.client_id, &member.client_host);
        for (topic_id, partitions) in responsible_for(member) {
            let Some(topic) = name_of(topic_id, cluster) else { continue };
            owners.extend(partitions.into_iter().map(|index| (topic.clone(), index, who.clone())));
        }
    }
    owners
}

fn name_of(topic_id: TopicId, cluster: &dyn Cluster) -> Option<Str> {
    cluster.topic_by_id(topic_id).map(|topic| topic.name)
}
