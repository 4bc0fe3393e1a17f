//! ConsumerGroupHeartbeat (key 68, versions 0-1): everything that a member of the consumer protocol says.
//!
//! Version 0: a member that joins may leave its id to the coordinator. Version 1: it brings one (KIP-1082), and may
//! subscribe by a regular expression.
//!
//! A heartbeat goes through three steps. The member is created or changed; if anything changed that the assignment
//! depends on, the group epoch grows. If the target assignment is of an older epoch, a new one is computed, at most
//! once in `group.consumer.assignment.interval.ms`. The member goes a step towards its target.
//!
//! Differs from Kafka: a member that has just joined, or is still on its way to its target, is asked to come again
//! after a second if its heartbeat interval is longer, so that a group of many members is at rest soon.
//!
//! Differs from Kafka: a regular expression is evaluated when it comes, not in the background, so that its member
//! has its topics at once; and records of one that still matches the same are not written again.

use dohle_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use dohle_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use dohle_types::{ErrorCode, Str, TopicId};

use super::assignor::Assignor;
use super::member::{AWAY, JOINING, LEAVING, MemberError, Speaker};
use super::migrate::UpgradeError;
use super::sessions::Sessions;
use super::state::{ConsumerGroup, ConsumerMember, OwnedPartitions};
use super::update::{Update, UpdateError};
use crate::cluster::{Cluster, Turn};
use crate::group::{Phase, millis};
use crate::{Caller, GroupLedger, Record};

/// How often a member is heard of that is on its way to its target, or has just joined and may soon be: who comes with
/// many others is assigned to with them.
const INTERVAL_MAX_ON_THE_WAY_MS: i32 = 1000;

/// Why a heartbeat is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeartbeatError {
    #[error("{0}")]
    InvalidRequest(&'static str),
    #[error("The assignor {0} is not one of group.consumer.assignors: {1}")]
    UnsupportedAssignor(Str, String),
    #[error("Group {0} not found.")]
    GroupIdNotFound(Str),
    /// As Kafka says it to a member that lives, and not to one that leaves.
    #[error("Consumer group {0} not found.")]
    ConsumerGroupNotFound(Str),
    #[error("Group {0} is not a consumer group.")]
    NotAConsumerGroup(Str),
    #[error("The subscription is too large for the group's record: subscribe by pattern or use fewer topics")]
    SubscriptionTooLarge,
    #[error("There are too many groups in this partition of __consumer_offsets: delete unused ones")]
    TooManyGroups,
    #[error(transparent)]
    Room(#[from] RoomError),
    #[error(transparent)]
    Member(#[from] MemberError),
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    #[error(transparent)]
    Update(#[from] UpdateError),
}

/// Why a group has no room for another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RoomError {
    #[error("The group has group.consumer.max.size members, {0}")]
    GroupFull(usize),
    #[error("The members of this partition of __consumer_offsets take up too much memory: use fewer")]
    TooManyMembers,
}

impl RoomError {
    const fn code(self) -> ErrorCode {
        match self {
            Self::GroupFull(_) => ErrorCode::GroupMaxSizeReached,
            Self::TooManyMembers => ErrorCode::PolicyViolation,
        }
    }
}

impl HeartbeatError {
    pub(crate) const fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidRequest(_) => ErrorCode::InvalidRequest,
            Self::UnsupportedAssignor(..) => ErrorCode::UnsupportedAssignor,
            Self::GroupIdNotFound(_) | Self::ConsumerGroupNotFound(_) | Self::NotAConsumerGroup(_) => {
                ErrorCode::GroupIdNotFound
            }
            Self::SubscriptionTooLarge => ErrorCode::MessageTooLarge,
            Self::TooManyGroups => ErrorCode::PolicyViolation,
            Self::Room(error) => error.code(),
            Self::Member(error) => error.code(),
            Self::Upgrade(error) => error.code(),
            Self::Update(error) => error.code(),
        }
    }
}

impl GroupLedger {
    /// A member of the consumer protocol joins, lives, or leaves.
    pub fn consumer_group_heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        let result = self.validate(caller, request).and_then(|()| match request.member_epoch {
            LEAVING | AWAY => self.consumer_leave(turn, request),
            _ => self.beat(turn, caller, request),
        });
        result.unwrap_or_else(|error| ConsumerGroupHeartbeatResponse {
            error_code: error.code().code(),
            error_message: Some(Str::from(error.to_string())),
            ..ConsumerGroupHeartbeatResponse::default()
        })
    }

    fn validate(
        &self,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<(), HeartbeatError> {
        let invalid = |why| Err(HeartbeatError::InvalidRequest(why));
        let is_blank = |text: &Option<Str>| text.as_ref().is_some_and(|text| text.trim().is_empty());
        let needs_id =
            caller.api_version >= 1 || request.member_epoch > JOINING || request.member_epoch == LEAVING;
        if needs_id && request.member_id.trim().is_empty() {
            return invalid("MemberId can't be empty.");
        }
        if request.group_id.trim().is_empty() {
            return invalid("GroupId can't be empty.");
        }
        if is_blank(&request.instance_id) {
            return invalid("InstanceId can't be empty.");
        }
        if is_blank(&request.rack_id) {
            return invalid("RackId can't be empty.");
        }
        match request.member_epoch {
            JOINING if request.rebalance_timeout_ms == -1 => {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            JOINING if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) => {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            JOINING if !names_subscription(request) => {
                return invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                );
            }
            AWAY if request.instance_id.is_none() => return invalid("InstanceId can't be null."),
            ..AWAY => return invalid("MemberEpoch is invalid."),
            _ => {}
        }
        let assignors = &self.config.assignors;
        if let Some(name) = &request.server_assignor
            && !Assignor::from_name(name).is_some_and(|assignor| assignors.contains(&assignor))
        {
            let names: Vec<&str> = assignors.iter().map(|assignor| assignor.name()).collect();
            return Err(HeartbeatError::UnsupportedAssignor(name.clone(), names.join(", ")));
        }
        let names = request.subscribed_topic_names.iter().flatten();
        if names.map(|name| name.len() + 3).sum::<usize>() > self.config.subscription_bytes_max {
            return Err(HeartbeatError::SubscriptionTooLarge);
        }
        Ok(())
    }

    fn beat(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, HeartbeatError> {
        let group_id = &request.group_id;
        let mut records = Vec::new();
        let new = self.group_to_be(request, turn.cluster, &mut records)?;
        let group = match &new {
            Some(new) => new,
            None => self.state.consumer_group(group_id).ok_or_else(|| not_found(group_id))?,
        };
        let member_id = match request.member_id.as_str() {
            "" => Str::from(TopicId(turn.rng.uuid()).to_string()),
            _ => request.member_id.clone(),
        };
        if group.member(&member_id).is_none() {
            self.validate_room(group)?;
        }
        let Speaker { member, replaces } = group.speaker(&member_id, request)?;
        let update = Update {
            group_id,
            group,
            member_id: &member_id,
            replaces: replaces.as_slice(),
            after: said(&member, caller, request),
            before: &member,
            upgrades: new.as_ref().is_some_and(|group| !group.members().is_empty()),
            reason: None,
            reported: request.topic_partitions.as_deref(),
        };
        let fresh = Sessions::default();
        let sessions = self.sessions.get(group_id).unwrap_or(&fresh);
        let updated = update.run(&self.config, sessions, turn)?;
        let Turn { now, cluster, effects, .. } = turn;
        self.journal.on_updated(*now, (group_id, group), (&member_id, &member), &updated, *cluster, effects);
        records.extend(updated.records);
        turn.effects.records.append(&mut records);

        let classic = self.forget(group_id);
        let settings = turn.cluster.consumer_group_settings(group_id);
        let sessions = self.sessions.entry(group_id.clone()).or_default();
        if let Some(mut classic) = classic {
            classic.refuse_waiting(ErrorCode::RebalanceInProgress, turn.effects);
            for (member_id, member) in classic.members() {
                sessions.restart(member_id, turn.now.after(member.session_timeout()));
            }
            if let Some(deadline) = sessions.next_deadline() {
                self.timers.arm(group_id, deadline);
            }
        }
        if let Some(former) = &replaces {
            sessions.forget(former);
        }
        let deadline = turn.now.after(millis(settings.session_timeout_ms));
        sessions.restart(&member_id, deadline);
        sessions.on_reads(updated.reads, turn.now, turn.cluster);
        self.timers.arm(group_id, deadline);
        let next = &updated.member;
        if (next.state != member.state || next.epoch != member.epoch)
            && let Some(deadline) = sessions.watch_revocation(turn.now, &member_id, next)
        {
            self.timers.arm(group_id, deadline);
        }
        let tells = request.member_epoch == JOINING
            || is_full_request(request)
            || updated.member.assigned != member.assigned;
        let is_on_the_way = request.member_epoch == JOINING || !next.is_reconciled_to(updated.epoch);
        let interval_ms_max = if is_on_the_way { INTERVAL_MAX_ON_THE_WAY_MS } else { i32::MAX };
        Ok(ConsumerGroupHeartbeatResponse {
            member_id: Some(member_id),
            member_epoch: next.epoch,
            heartbeat_interval_ms: settings.heartbeat_interval_ms.min(interval_ms_max),
            assignment: tells.then(|| assignment_of(&next.assigned)),
            ..ConsumerGroupHeartbeatResponse::default()
        })
    }

    /// The consumer group that a joining member makes, where there is none yet. A classic group becomes one.
    fn group_to_be(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
        cluster: &dyn Cluster,
        records: &mut Vec<Record>,
    ) -> Result<Option<ConsumerGroup>, HeartbeatError> {
        let group_id = &request.group_id;
        let durable = self.state.group(group_id);
        if durable.is_some_and(|durable| durable.consumer.is_some()) {
            return Ok(None);
        }
        let soft = self.groups.get(group_id);
        if request.member_epoch != JOINING {
            let is_other = durable.is_some() || soft.is_some();
            return Err(if is_other {
                HeartbeatError::NotAConsumerGroup(group_id.clone())
            } else {
                not_found(group_id)
            });
        }
        if let Some(classic) = soft.filter(|group| group.phase != Phase::Empty) {
            let upgraded = self.upgrade(classic, cluster, records)?;
            return Ok(Some(upgraded));
        }
        if durable.is_none() && self.state.len().max(self.groups.len()) >= self.config.groups_max {
            return Err(HeartbeatError::TooManyGroups);
        }
        let mut group = ConsumerGroup::default();
        if let Some(former) = durable.and_then(|durable| durable.metadata.as_ref()) {
            records.push(crate::records::group_metadata_tombstone(group_id));
            // See `join.rs` for the other way round.
            group.epoch = group.epoch.max(former.generation);
        }
        Ok(Some(group))
    }

    /// Whether the group can have another member.
    pub(super) fn validate_room(&self, group: &ConsumerGroup) -> Result<(), RoomError> {
        let size_max = self.config.consumer_group_size_max();
        if group.members().len() >= size_max {
            return Err(RoomError::GroupFull(size_max));
        }
        if self.members_bytes + self.state.consumer_bytes() > self.config.members_bytes_max {
            return Err(RoomError::TooManyMembers);
        }
        Ok(())
    }
}

fn not_found(group_id: &Str) -> HeartbeatError {
    HeartbeatError::ConsumerGroupNotFound(group_id.clone())
}

const fn names_subscription(request: &ConsumerGroupHeartbeatRequest) -> bool {
    request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some()
}

/// Whether the member says all that it can: it does not know whether its last heartbeat was heard.
const fn is_full_request(request: &ConsumerGroupHeartbeatRequest) -> bool {
    request.rebalance_timeout_ms != -1 && names_subscription(request) && request.topic_partitions.is_some()
}

/// The member with what it says about itself; what it does not say stays.
fn said(member: &ConsumerMember, caller: &Caller, request: &ConsumerGroupHeartbeatRequest) -> ConsumerMember {
    let mut said = ConsumerMember {
        client_id: caller.client_id.clone(),
        client_host: caller.client_host.clone(),
        classic: None,
        ..member.clone()
    };
    if request.rebalance_timeout_ms != -1 {
        said.rebalance_timeout_ms = request.rebalance_timeout_ms;
    }
    if let Some(names) = &request.subscribed_topic_names {
        said.topic_names = names.iter().cloned().collect();
    }
    for (said, says) in [
        (&mut said.instance_id, &request.instance_id),
        (&mut said.rack_id, &request.rack_id),
        (&mut said.assignor, &request.server_assignor),
    ] {
        if says.is_some() {
            said.clone_from(says);
        }
    }
    if let Some(regex) = &request.subscribed_topic_regex {
        said.topic_regex.clone_from(regex);
    }
    said
}

fn assignment_of(owned: &OwnedPartitions) -> Assignment {
    let topics = owned.iter().map(|(topic_id, partitions)| TopicPartitions {
        topic_id: topic_id.0,
        partitions: partitions.keys().copied().collect(),
    });
    Assignment { topic_partitions: topics.collect() }
}
