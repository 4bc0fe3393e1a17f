//! Membership by the classic protocol: JoinGroup, SyncGroup, Heartbeat and LeaveGroup.
//!
//! All join, one of them leads and shares the partitions out, and each asks for its part. A member gives up all partitions
//! before it joins again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dohle_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use dohle_protocol::messages::join_group_response::JoinGroupResponseMember;
use dohle_protocol::messages::leave_group_request::MemberIdentity;
use dohle_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use dohle_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
    SyncGroupResponse,
};
use dohle_types::{ErrorCode, Now, Str, TopicPartition};

use super::assignor::{Assignor, Member};
use super::{GroupError, GroupEvent, GroupToken, Membership, Phase, millis, protocol};
use crate::cluster::Reply;
use crate::metadata::check;
use crate::{Cluster, Effects, Failure, Metadata};

impl Membership {
    pub(super) fn send_leave<T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        effects: &mut Effects,
    ) -> bool {
        let request = LeaveGroupRequest {
            group_id: self.config.group_id.clone(),
            member_id: self.member_id.clone(),
            members: vec![MemberIdentity {
                member_id: self.member_id.clone(),
                group_instance_id: None,
                reason: Some("the consumer was closed".into()),
            }],
        };
        self.send(now, cluster, &request, GroupToken::Leave, effects)
    }

    pub(super) fn join<T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        effects: &mut Effects,
    ) {
        let metadata = match protocol::encode_subscription(&self.topics) {
            Ok(metadata) => metadata,
            Err(error) => return self.fail(Failure::from(error).into()),
        };
        let protocols = self.config.assignors.iter().map(|assignor| JoinGroupRequestProtocol {
            name: assignor.name().into(),
            metadata: metadata.clone(),
        });
        let request = JoinGroupRequest {
            group_id: self.config.group_id.clone(),
            session_timeout_ms: millis(self.config.session_timeout),
            rebalance_timeout_ms: millis(self.config.rebalance_timeout),
            member_id: self.member_id.clone(),
            group_instance_id: self.config.instance_id.clone(),
            protocol_type: "consumer".into(),
            protocols: protocols.collect(),
            reason: None,
        };
        if self.send(now, cluster, &request, GroupToken::Join, effects) {
            self.phase = Phase::Joining;
        }
    }

    pub(super) fn on_joined<T>(&mut self, now: Now, cluster: &mut Cluster<T>, reply: &Reply<T>) {
        if self.phase != Phase::Joining {
            return;
        }
        let response = match reply.decode::<JoinGroupRequest>() {
            Ok(response) => response,
            Err(failure) => return self.on_failure(now, failure),
        };
        match check(response.error_code) {
            Ok(()) => self.on_generation(now, cluster, response),
            Err(ErrorCode::MemberIdRequired) => {
                self.member_id = response.member_id;
                self.phase = Phase::Unjoined { at: now.instant };
            }
            Err(error) => self.on_error(now, cluster, error),
        }
    }

    fn on_generation<T>(&mut self, now: Now, cluster: &mut Cluster<T>, response: JoinGroupResponse) {
        self.failures = 0;
        self.generation = response.generation_id;
        self.member_id = response.member_id.clone();
        self.shared_out = None;
        let protocol = response.protocol_name.unwrap_or_default();
        // Only the leader is told who the members are.
        let members: Result<Vec<Member>, _> = response.members.into_iter().map(parse_member).collect();
        match members {
            Ok(members) => {
                let all = members
                    .iter()
                    .flat_map(|member| member.topics.iter().cloned())
                    .chain(self.topics.clone());
                cluster.watch_topics(now, all.collect());
                self.phase = Phase::Assigning { protocol, members };
            }
            Err(failure) => self.fail(failure.into()),
        }
    }

    /// Sends what the leader decided, once it knows the topics; the others only ask.
    pub(super) fn assign<T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        effects: &mut Effects,
    ) {
        let Phase::Assigning { protocol, members } = &self.phase else { return };
        let Some(assignor) = Assignor::from_name(protocol) else {
            return self.fail(GroupError::UnknownProtocol(protocol.clone()));
        };
        let wanted: BTreeSet<&Str> = members.iter().flat_map(|member| &member.topics).collect();
        if wanted.iter().any(|topic| cluster.metadata().topic(topic).is_none()) {
            return;
        }
        let counts = partition_counts(cluster.metadata(), wanted.into_iter());
        let assignment = assignor.assign(members.clone(), &counts);
        let leads = !members.is_empty();
        let mut assignments = Vec::new();
        for (member_id, partitions) in assignment {
            match protocol::encode_assignment(&partitions) {
                Ok(assignment) => assignments.push(SyncGroupRequestAssignment { member_id, assignment }),
                Err(error) => return self.fail(Failure::from(error).into()),
            }
        }
        let request = SyncGroupRequest {
            group_id: self.config.group_id.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.config.instance_id.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some(assignor.name().into()),
            assignments,
        };
        if self.send(now, cluster, &request, GroupToken::Sync, effects) {
            self.phase = Phase::Syncing;
            self.shared_out = leads.then_some(counts);
        }
    }

    pub(super) fn on_synced<T>(&mut self, now: Now, cluster: &mut Cluster<T>, reply: &Reply<T>) {
        if self.phase != Phase::Syncing {
            return;
        }
        let response: SyncGroupResponse = match reply.decode::<SyncGroupRequest>() {
            Ok(response) => response,
            Err(failure) => return self.on_failure(now, failure),
        };
        match check(response.error_code) {
            Ok(()) => match decode_own(&response.assignment) {
                Ok(partitions) => {
                    self.failures = 0;
                    let heartbeat_at = now.after(self.config.heartbeat_interval);
                    self.phase = Phase::Stable { heartbeat_at, heartbeat_in_flight: false };
                    self.events.push(GroupEvent::Assigned(partitions));
                }
                Err(failure) => self.fail(failure.into()),
            },
            Err(error) => self.on_error(now, cluster, error),
        }
    }

    pub(super) fn heartbeat<T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        effects: &mut Effects,
    ) {
        let request = HeartbeatRequest {
            group_id: self.config.group_id.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.config.instance_id.clone(),
        };
        if self.send(now, cluster, &request, GroupToken::Heartbeat, effects) {
            let heartbeat_at = now.after(self.config.heartbeat_interval);
            self.phase = Phase::Stable { heartbeat_at, heartbeat_in_flight: true };
        }
    }

    pub(super) fn on_heartbeat<T>(&mut self, now: Now, cluster: &mut Cluster<T>, reply: &Reply<T>) {
        let Phase::Stable { heartbeat_in_flight, .. } = &mut self.phase else { return };
        *heartbeat_in_flight = false;
        match reply.decode::<HeartbeatRequest>() {
            Ok(response) => match check(response.error_code) {
                Ok(()) => self.failures = 0,
                Err(error) => self.on_error(now, cluster, error),
            },
            // The member is still one; it looks for its coordinator and goes on.
            Err(failure) if failure.is_retriable() => {}
            Err(failure) => self.fail(failure.into()),
        }
    }

    /// Has the leader share out again when a topic gets more partitions, or appears.
    pub(super) fn watch_shared_out<T>(&mut self, now: Now, cluster: &Cluster<T>) {
        if let (Some(shared_out), Phase::Stable { .. }) = (&self.shared_out, &self.phase)
            && *shared_out != partition_counts(cluster.metadata(), shared_out.keys())
        {
            self.rejoin(now, true);
        }
    }
}

fn parse_member(member: JoinGroupResponseMember) -> Result<Member, Failure> {
    Ok(Member {
        id: member.member_id,
        instance_id: member.group_instance_id,
        topics: protocol::decode_subscription(&member.metadata)?,
    })
}

fn decode_own(assignment: &Bytes) -> Result<Vec<TopicPartition>, Failure> {
    Ok(protocol::decode_assignment(assignment)?)
}

/// How many partitions each topic has; 0 for those there are not.
fn partition_counts<'a>(metadata: &Metadata, topics: impl Iterator<Item = &'a Str>) -> BTreeMap<Str, usize> {
    let count = |name: &Str| metadata.topic(name).map_or(0, |topic| topic.partitions.len());
    topics.map(|name| (name.clone(), count(name))).collect()
}
