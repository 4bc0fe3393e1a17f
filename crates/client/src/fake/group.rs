//! The coordinator of one group with at most one member.

use std::collections::BTreeMap;

use bytes::Bytes;
use dohle_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use dohle_protocol::messages::find_coordinator_response::Coordinator;
use dohle_protocol::messages::join_group_response::JoinGroupResponseMember;
use dohle_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use dohle_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use dohle_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, FindCoordinatorResponse, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse,
};
use dohle_types::{ErrorCode, Str};

/// What the coordinator knows.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) generation: i32,
    pub(crate) member: Option<Str>,
    /// Whether the member is to join again.
    pub(crate) rebalance: bool,
    pub(crate) committed: BTreeMap<i32, i64>,
    members_so_far: u32,
    /// What the member is to own by the consumer protocol.
    pub(crate) target: Vec<i32>,
    /// What it was told to own.
    told: Option<Vec<i32>>,
    /// What it last said that it owns.
    pub(crate) reported: Vec<i32>,
    /// Whether to a heartbeat that is not of this generation there is no such group: it has become one of the classic
    /// protocol.
    pub(crate) is_classic: bool,
}

impl Group {
    pub(super) fn find(&self) -> FindCoordinatorResponse {
        let coordinator = Coordinator { node_id: 1, ..Default::default() };
        FindCoordinatorResponse { coordinators: vec![coordinator], ..Default::default() }
    }

    pub(super) fn join(&mut self, request: &JoinGroupRequest) -> JoinGroupResponse {
        let mut response = JoinGroupResponse { protocol_name: Some("range".into()), ..Default::default() };
        if request.member_id.is_empty() {
            self.members_so_far += 1;
            response.member_id = format!("member-{}", self.members_so_far).into();
            self.member = Some(response.member_id.clone());
            response.error_code = ErrorCode::MemberIdRequired.code();
        } else if self.member.as_ref() != Some(&request.member_id) {
            response.error_code = ErrorCode::UnknownMemberId.code();
        } else {
            self.generation += 1;
            self.rebalance = false;
            response.generation_id = self.generation;
            response.leader = request.member_id.clone();
            response.member_id = request.member_id.clone();
            response.members = vec![JoinGroupResponseMember {
                member_id: request.member_id.clone(),
                metadata: request.protocols[0].metadata.clone(),
                ..Default::default()
            }];
        }
        response
    }

    pub(super) fn sync(&self, request: &SyncGroupRequest) -> SyncGroupResponse {
        assert_eq!(request.protocol_type.as_deref(), Some("consumer"), "mandatory since version 5 (KIP-559)");
        assert_eq!(request.protocol_name.as_deref(), Some("range"));
        let error = self.check(&request.member_id, request.generation_id);
        let own = request.assignments.iter().find(|it| it.member_id == request.member_id);
        let assignment = own.map_or_else(Bytes::new, |it| it.assignment.clone());
        SyncGroupResponse { error_code: error.code(), assignment, ..Default::default() }
    }

    pub(super) fn heartbeat(&self, request: &HeartbeatRequest) -> ErrorCode {
        self.check(&request.member_id, request.generation_id)
    }

    /// The consumer protocol.
    pub(super) fn beat(&mut self, request: &ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        if request.member_epoch == -1 {
            self.leave();
            return ConsumerGroupHeartbeatResponse::default();
        }
        if request.member_epoch == 0 {
            self.member = Some(request.member_id.clone());
            self.generation += 1;
            self.told = None;
        } else if self.member.as_ref() != Some(&request.member_id) || request.member_epoch != self.generation
        {
            let error =
                if self.is_classic { ErrorCode::GroupIdNotFound } else { ErrorCode::FencedMemberEpoch };
            let error_code = error.code();
            return ConsumerGroupHeartbeatResponse { error_code, ..Default::default() };
        }
        if let Some(owned) = &request.topic_partitions {
            self.reported = owned.iter().flat_map(|topic| topic.partitions.clone()).collect();
        }
        // A member that says everything has not heard everything.
        let tells = self.told.as_ref() != Some(&self.target) || request.subscribed_topic_names.is_some();
        self.told = Some(self.target.clone());
        let topic = TopicPartitions { topic_id: super::TOPIC_ID, partitions: self.target.clone() };
        let topic_partitions = if self.target.is_empty() { Vec::new() } else { vec![topic] };
        ConsumerGroupHeartbeatResponse {
            member_epoch: self.generation,
            heartbeat_interval_ms: 1000,
            assignment: tells.then_some(Assignment { topic_partitions }),
            ..Default::default()
        }
    }

    fn check(&self, member: &Str, generation: i32) -> ErrorCode {
        if self.member.as_ref() != Some(member) {
            ErrorCode::UnknownMemberId
        } else if generation != self.generation {
            ErrorCode::IllegalGeneration
        } else if self.rebalance {
            ErrorCode::RebalanceInProgress
        } else {
            ErrorCode::None
        }
    }

    /// While members join again they may still commit.
    pub(super) fn commit(&mut self, request: &OffsetCommitRequest) -> OffsetCommitResponse {
        let checked = self.check(&request.member_id, request.generation_id_or_member_epoch);
        let error = if checked == ErrorCode::RebalanceInProgress { ErrorCode::None } else { checked };
        let mut topics = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for partition in &topic.partitions {
                if error.is_none() {
                    self.committed.insert(partition.partition_index, partition.committed_offset);
                }
                let partition_index = partition.partition_index;
                partitions.push(OffsetCommitResponsePartition { partition_index, error_code: error.code() });
            }
            topics.push(OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions,
            });
        }
        OffsetCommitResponse { topics, ..Default::default() }
    }

    pub(super) fn fetch(&self, request: &OffsetFetchRequest) -> OffsetFetchResponse {
        let group = &request.groups[0];
        let topics = group.topics.iter().flatten().map(|topic| OffsetFetchResponseTopics {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partition_indexes
                .iter()
                .map(|index| OffsetFetchResponsePartitions {
                    partition_index: *index,
                    committed_offset: self.committed.get(index).copied().unwrap_or(-1),
                    ..Default::default()
                })
                .collect(),
        });
        let group = OffsetFetchResponseGroup {
            group_id: group.group_id.clone(),
            topics: topics.collect(),
            ..Default::default()
        };
        OffsetFetchResponse { groups: vec![group], ..Default::default() }
    }

    pub(super) fn leave(&mut self) {
        self.member = None;
    }
}
