//! The offsets that a group committed: OffsetCommit and OffsetFetch.
//!
//! Since version 10 both name topics by id (KIP-848).

use std::collections::{BTreeMap, BTreeSet};

use dohle_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use dohle_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use dohle_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse};
use dohle_types::{ErrorCode, Now, Offset, PartitionIndex, Str, TopicId, TopicPartition};
use uuid::Uuid;

use super::{GroupEvent, GroupToken, Membership};
use crate::cluster::Reply;
use crate::metadata::error_of;
use crate::{Cluster, Effects, Metadata};

impl Membership {
    /// The member as it is now.
    pub(crate) fn metadata(&self) -> ConsumerGroupMetadata {
        let member = Committer {
            generation: self.generation,
            member_id: self.member_id.clone(),
            instance_id: self.config.instance_id.clone(),
        };
        ConsumerGroupMetadata { group_id: self.config.group_id.clone(), member }
    }

    /// Commits offsets for the group; whether the request could be sent.
    pub(crate) fn commit<T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        offsets: &BTreeMap<TopicPartition, Offset>,
        effects: &mut Effects,
    ) -> bool {
        let request =
            commit_request(cluster.metadata(), &self.config.group_id, self.metadata().member, offsets);
        self.send(now, cluster, &request, GroupToken::Commit(offsets.clone()), effects)
    }

    /// Asks for what the group committed; whether the request could be sent.
    pub(crate) fn fetch_offsets<T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        partitions: &BTreeSet<TopicPartition>,
        effects: &mut Effects,
    ) -> bool {
        let request = fetch_request(cluster.metadata(), &self.config.group_id, Some(partitions));
        self.send(now, cluster, &request, GroupToken::FetchOffsets(partitions.clone()), effects)
    }

    pub(super) fn on_committed<T>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        offsets: BTreeMap<TopicPartition, Offset>,
        reply: &Reply<T>,
    ) {
        let error = match reply.decode::<OffsetCommitRequest>() {
            Ok(response) => {
                let partitions = response.topics.into_iter().flat_map(|topic| topic.partitions);
                let errors = partitions.map(|partition| error_of(partition.error_code));
                errors.fold(ErrorCode::None, |first, next| if first.is_none() { next } else { first })
            }
            Err(_) => ErrorCode::NetworkException,
        };
        if error.is_none() {
            self.events.push(GroupEvent::Committed(Ok(offsets)));
            return;
        }
        self.events.push(GroupEvent::Committed(Err(error)));
        let concerns_membership = matches!(
            error,
            ErrorCode::RebalanceInProgress
                | ErrorCode::UnknownMemberId
                | ErrorCode::IllegalGeneration
                | ErrorCode::FencedInstanceId
                | ErrorCode::NotCoordinator
                | ErrorCode::CoordinatorNotAvailable
        );
        if concerns_membership && self.is_stable() {
            self.on_error(now, cluster, error);
        }
    }

    pub(super) fn on_offsets<T>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        partitions: BTreeSet<TopicPartition>,
        reply: &Reply<T>,
    ) {
        let answer = reply.decode::<OffsetFetchRequest>();
        match answer.map(|response| parse_fetch(cluster.metadata(), response)) {
            Ok(Ok(committed)) => {
                let offsets = partitions.into_iter().map(|partition| {
                    let offset = committed.get(&partition).copied();
                    (partition, offset)
                });
                self.events.push(GroupEvent::Offsets(offsets.collect()));
            }
            Ok(Err(error)) => {
                self.events.push(GroupEvent::OffsetsFailed(partitions));
                if self.is_stable() {
                    self.on_error(now, cluster, error);
                }
            }
            Err(_) => self.events.push(GroupEvent::OffsetsFailed(partitions)),
        }
    }
}

/// Who commits; no member at all for tools.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committer {
    /// The group's generation, -1 for tools.
    pub generation: i32,
    /// The member.
    pub member_id: Str,
    /// The static member.
    pub instance_id: Option<Str>,
}

impl Default for Committer {
    fn default() -> Self {
        Self { generation: -1, member_id: Str::default(), instance_id: None }
    }
}

/// A group, and the member of it that consumes: what a transaction needs that commits the group's offsets (KIP-447).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerGroupMetadata {
    /// The group.
    pub group_id: Str,
    /// The member.
    pub member: Committer,
}

/// A request to commit `offsets`, in the form of every version. `metadata` must know the topics.
#[must_use]
pub fn commit_request(
    metadata: &Metadata,
    group: &Str,
    committer: Committer,
    offsets: &BTreeMap<TopicPartition, Offset>,
) -> OffsetCommitRequest {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for (TopicPartition { topic, partition }, offset) in offsets {
        let item = OffsetCommitRequestPartition {
            partition_index: partition.0,
            committed_offset: offset.0,
            committed_metadata: Some(Str::default()),
            ..OffsetCommitRequestPartition::default()
        };
        match topics.last_mut().filter(|last| last.name == *topic) {
            Some(last) => last.partitions.push(item),
            None => topics.push(OffsetCommitRequestTopic {
                name: topic.clone(),
                topic_id: id_of(metadata, topic),
                partitions: vec![item],
            }),
        }
    }
    OffsetCommitRequest {
        group_id: group.clone(),
        generation_id_or_member_epoch: committer.generation,
        member_id: committer.member_id,
        group_instance_id: committer.instance_id,
        topics,
        ..OffsetCommitRequest::default()
    }
}

/// A request for what a group committed, for these partitions or for all, in the form of every version.
#[must_use]
pub fn fetch_request(
    metadata: &Metadata,
    group: &Str,
    partitions: Option<&BTreeSet<TopicPartition>>,
) -> OffsetFetchRequest {
    let mut by_topic: BTreeMap<&Str, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in partitions.into_iter().flatten() {
        by_topic.entry(topic).or_default().push(partition.0);
    }
    let old = by_topic.iter().map(|(&name, indexes)| OffsetFetchRequestTopic {
        name: name.clone(),
        partition_indexes: indexes.clone(),
    });
    let new = by_topic.iter().map(|(&name, indexes)| OffsetFetchRequestTopics {
        name: name.clone(),
        topic_id: id_of(metadata, name),
        partition_indexes: indexes.clone(),
    });
    OffsetFetchRequest {
        group_id: group.clone(),
        topics: partitions.map(|_| old.collect()),
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.clone(),
            topics: partitions.map(|_| new.collect()),
            ..OffsetFetchRequestGroup::default()
        }],
        require_stable: true,
    }
}

/// The offsets in a response, or the first error in it. Topics that `metadata` does not know by their ids are
/// left out.
pub fn parse_fetch(
    metadata: &Metadata,
    response: OffsetFetchResponse,
) -> Result<BTreeMap<TopicPartition, Offset>, ErrorCode> {
    let mut found = Vec::new();
    let mut errors = vec![response.error_code];
    for topic in response.topics {
        for partition in topic.partitions {
            errors.push(partition.error_code);
            found.push((topic.name.clone(), partition.partition_index, partition.committed_offset));
        }
    }
    for group in response.groups {
        errors.push(group.error_code);
        for topic in group.topics {
            let name = match TopicId(topic.topic_id) {
                TopicId::ZERO => Some(topic.name),
                id => metadata.topic_by_id(id).map(|(name, _)| name.clone()),
            };
            for partition in topic.partitions {
                errors.push(partition.error_code);
                let name = name.clone().unwrap_or_default();
                found.push((name, partition.partition_index, partition.committed_offset));
            }
        }
    }
    if let Some(error) = errors.into_iter().map(error_of).find(|error| !error.is_none()) {
        return Err(error);
    }
    let known = found.into_iter().filter(|(name, _, offset)| !name.is_empty() && *offset >= 0);
    Ok(known
        .map(|(name, index, offset)| (TopicPartition::new(name, PartitionIndex(index)), Offset(offset)))
        .collect())
}

fn id_of(metadata: &Metadata, topic: &str) -> Uuid {
    metadata.topic(topic).map_or(TopicId::ZERO, |topic| topic.id).0
}
