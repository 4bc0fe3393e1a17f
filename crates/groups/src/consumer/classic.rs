//! Members of the classic protocol in a consumer group (KIP-848): the coordinator translates. They are followers of
//! no leader: what they join is answered at once with their epoch as the generation, what they sync with what they
//! own, and a heartbeat tells them to join again when there is a step to go.

use std::collections::BTreeSet;

use dohle_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use dohle_protocol::messages::leave_group_request::MemberIdentity;
use dohle_protocol::messages::{
    ConsumerProtocolSubscription, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use dohle_types::{ErrorCode, Now, Str, TopicId};

use super::heartbeat::RoomError;
use super::member::{JOINING, Speaker};
use super::migrate::{MigrationPolicy, read_subscription, written_assignment};
use super::sessions::Sessions;
use super::state::{ClassicMember, ConsumerGroup, ConsumerMember, MemberState};
use super::update::Update;
use crate::cluster::{Cluster, Turn};
use crate::group::{
    CONSUMER_PROTOCOL_TYPE, MemberError, ParkedJoin, join_error, millis, protocols_of, rebalance_timeout_ms,
};
use crate::heartbeat::HeartbeatError;
use crate::join::JoinError;
use crate::leave::Departures;
use crate::sync::SyncError;
use crate::{Caller, GroupLedger, Token};

impl GroupLedger {
    /// Whether a group is a consumer group with members.
    pub(crate) fn has_consumer_members(&self, group_id: &str) -> bool {
        self.state.consumer_group(group_id).is_some_and(|group| !group.members().is_empty())
    }

    /// A member of the classic protocol joins a consumer group, or joins it again.
    pub(crate) fn join_consumer_group(
        &mut self,
        turn: &mut Turn<'_>,
        token: Token,
        caller: &Caller,
        request: &JoinGroupRequest,
    ) -> Result<(), JoinError> {
        let group_id = &request.group_id;
        let parked = ParkedJoin { token, api_version: caller.api_version };
        let group = self.state.consumer_group(group_id).ok_or(MemberError::Unknown)?;
        if self.config.migration == MigrationPolicy::Disabled || !supports(group, request) {
            return Err(JoinError::InconsistentProtocol);
        }
        let is_new = request.member_id.is_empty();
        let member_id = match request.member_id.as_str() {
            "" => Str::from(TopicId(turn.rng.uuid()).to_string()),
            _ => request.member_id.clone(),
        };
        if group.member(&member_id).is_none() {
            self.validate_room(group).map_err(|error| match error {
                RoomError::GroupFull(_) => JoinError::GroupFull,
                RoomError::TooManyMembers => JoinError::TooManyMembers,
            })?;
        }
        if is_new && request.group_instance_id.is_none() && caller.api_version >= 4 {
            let response = join_error(&member_id, ErrorCode::MemberIdRequired);
            turn.effects.reply_join(parked, response);
            return Ok(());
        }
        let protocols = protocols_of(request);
        let first = protocols.first().ok_or(JoinError::InconsistentProtocol)?;
        let protocol = first.0.clone();
        let (_, subscription) = read_subscription(&first.1).ok_or(JoinError::InconsistentProtocol)?;
        let Speaker { member, replaces } = classic_speaker(group, &member_id, is_new, request)?;
        let reported = reported(&subscription, turn.cluster);
        let update = Update {
            group_id,
            group,
            member_id: &member_id,
            replaces: replaces.as_slice(),
            after: ConsumerMember {
                instance_id: request.group_instance_id.clone().or_else(|| member.instance_id.clone()),
                rack_id: subscription
                    .rack_id
                    .filter(|rack| !rack.is_empty())
                    .or_else(|| member.rack_id.clone()),
                client_id: caller.client_id.clone(),
                client_host: caller.client_host.clone(),
                rebalance_timeout_ms: rebalance_timeout_ms(request),
                topic_names: subscription.topics.into_iter().collect(),
                topic_regex: Str::default(),
                classic: Some(ClassicMember { session_timeout_ms: request.session_timeout_ms, protocols }),
                ..member.clone()
            },
            before: &member,
            upgrades: false,
            reason: request.reason.as_ref(),
            reported: Some(&reported),
        };
        let fresh = Sessions::default();
        let updated = update
            .run(&self.config, self.sessions.get(group_id).unwrap_or(&fresh), turn)
            .map_err(|_| MemberError::Unknown)?;
        let Turn { now, cluster, effects, .. } = turn;
        self.journal.on_updated(*now, (group_id, group), (&member_id, &member), &updated, *cluster, effects);
        let begin = turn.effects.records.len();
        turn.effects.records.extend(updated.records);
        let sessions = self.sessions.entry(group_id.clone()).or_default();
        if let Some(former) = &replaces {
            sessions.forget(former);
        }
        sessions.on_reads(updated.reads, turn.now, turn.cluster);
        sessions.restart(&member_id, turn.now.after(millis(request.session_timeout_ms)));
        sessions.watch_sync(&member_id, turn.now.after(millis(rebalance_timeout_ms(request))));
        if let Some(deadline) = sessions.next_deadline() {
            self.timers.arm(group_id, deadline);
        }
        let response = JoinGroupResponse {
            generation_id: updated.member.epoch,
            protocol_type: Some(Str::const_new(CONSUMER_PROTOCOL_TYPE)),
            protocol_name: Some(protocol),
            member_id,
            ..JoinGroupResponse::default()
        };
        turn.effects.reply_join(parked, response);
        self.downgrade_if_classic(group_id, replaces.as_slice(), begin, turn);
        Ok(())
    }

    /// A member of the classic protocol asks what it owns.
    pub(crate) fn sync_consumer_group(
        &mut self,
        now: Now,
        cluster: &dyn Cluster,
        request: &SyncGroupRequest,
    ) -> Result<SyncGroupResponse, SyncError> {
        let (group_id, member_id) = (&request.group_id, &request.member_id);
        let group = self.state.consumer_group(group_id).ok_or(MemberError::Unknown)?;
        let (member, classic) = classic_member(group, member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != member.epoch {
            return Err(SyncError::IllegalGeneration);
        }
        let protocol = classic.protocols.first().map(|(name, _)| name);
        if request.protocol_type.as_deref().is_some_and(|claimed| claimed != CONSUMER_PROTOCOL_TYPE)
            || request.protocol_name.is_some() && request.protocol_name.as_ref() != protocol
        {
            return Err(SyncError::InconsistentProtocol);
        }
        let session = now.after(millis(classic.session_timeout_ms));
        let is_behind =
            group.assignment_epoch > member.epoch && member.state != MemberState::UnrevokedPartitions;
        let rejoin = now.after(millis(member.rebalance_timeout_ms));
        let owned = member.assigned.iter().map(|(&id, of)| (id, of.keys().copied().collect())).collect();
        let assignment = written_assignment(&owned, member, cluster);
        let sessions = self.sessions.entry(group_id.clone()).or_default();
        if is_behind {
            sessions.watch_rejoin(member_id, rejoin);
            self.timers.arm(group_id, rejoin);
            return Err(SyncError::RebalanceInProgress);
        }
        sessions.on_synced(member_id);
        sessions.restart(member_id, session);
        self.timers.arm(group_id, session);
        Ok(SyncGroupResponse {
            protocol_type: request.protocol_type.clone(),
            protocol_name: request.protocol_name.clone(),
            assignment,
            ..SyncGroupResponse::default()
        })
    }

    /// A member of the classic protocol lives, and learns whether there is a step to go.
    pub(crate) fn heartbeat_consumer_group(
        &mut self,
        now: Now,
        request: &HeartbeatRequest,
    ) -> Result<(), HeartbeatError> {
        let (group_id, member_id) = (&request.group_id, &request.member_id);
        let group = self.state.consumer_group(group_id).ok_or(MemberError::Unknown)?;
        let (member, classic) = classic_member(group, member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != member.epoch {
            return Err(HeartbeatError::IllegalGeneration);
        }
        let has_step = has_step(group, member_id, member);
        let session = now.after(millis(classic.session_timeout_ms));
        let rejoin = now.after(millis(member.rebalance_timeout_ms));
        let sessions = self.sessions.entry(group_id.clone()).or_default();
        sessions.restart(member_id, session);
        self.timers.arm(group_id, session);
        if !has_step {
            return Ok(());
        }
        sessions.watch_rejoin(member_id, rejoin);
        self.timers.arm(group_id, rejoin);
        Err(HeartbeatError::RebalanceInProgress)
    }

    /// Members leave by LeaveGroup, or an operator removes them; of both protocols.
    pub(crate) fn leave_consumer_group(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        group_id: &Str,
        identities: &[MemberIdentity],
    ) -> Vec<ErrorCode> {
        let Some(group) = self.state.consumer_group(group_id) else {
            return vec![ErrorCode::UnknownMemberId; identities.len()];
        };
        let mut gone = BTreeSet::new();
        let mut left = Departures::default();
        let errors = identities.iter().map(|identity| match leaving_member(group, identity) {
            Ok(member_id) => {
                if let Some(member) = group.member(&member_id) {
                    left.add(caller, identity, member.who(&member_id));
                }
                gone.insert(member_id);
                ErrorCode::None
            }
            Err(error) => error.code(),
        });
        let errors = errors.collect();
        let gone: Vec<Str> = gone.into_iter().collect();
        self.fence(group_id, &gone, left.into_causes().collect(), turn);
        errors
    }
}

/// Whether someone with these protocols can be a member beside the other members of the classic protocol.
fn supports(group: &ConsumerGroup, request: &JoinGroupRequest) -> bool {
    let classic: Vec<&ClassicMember> =
        group.members().values().filter_map(|member| member.classic.as_ref()).collect();
    request.protocol_type == CONSUMER_PROTOCOL_TYPE
        && request.protocols.iter().any(|offered| {
            classic.iter().all(|member| member.protocols.iter().any(|(name, _)| *name == offered.name))
        })
}

fn classic_speaker(
    group: &ConsumerGroup,
    member_id: &Str,
    is_new: bool,
    request: &JoinGroupRequest,
) -> Result<Speaker, MemberError> {
    let known = match &request.group_instance_id {
        None => group.member(member_id),
        Some(instance_id) if is_new => match group.static_member(instance_id) {
            None => None,
            Some(former) => {
                let member = group.member(former).ok_or(MemberError::Unknown)?;
                let member = ConsumerMember { epoch: JOINING, previous_epoch: JOINING, ..member.clone() };
                return Ok(Speaker { member, replaces: Some(former.clone()) });
            }
        },
        Some(instance_id) => Some(static_member(group, member_id, instance_id)?),
    };
    Ok(Speaker { member: known.cloned().unwrap_or_default(), replaces: None })
}

fn static_member<'a>(
    group: &'a ConsumerGroup,
    member_id: &Str,
    instance_id: &Str,
) -> Result<&'a ConsumerMember, MemberError> {
    let owner = group.static_member(instance_id).ok_or(MemberError::Unknown)?;
    if owner == member_id {
        group.member(owner).ok_or(MemberError::Unknown)
    } else {
        Err(MemberError::Fenced)
    }
}

/// The member of the classic protocol that a request speaks for.
fn classic_member<'a>(
    group: &'a ConsumerGroup,
    member_id: &Str,
    instance_id: Option<&Str>,
) -> Result<(&'a ConsumerMember, &'a ClassicMember), MemberError> {
    let member = match instance_id {
        Some(instance_id) => static_member(group, member_id, instance_id)?,
        None => group.member(member_id).ok_or(MemberError::Unknown)?,
    };
    member.classic.as_ref().map(|classic| (member, classic)).ok_or(MemberError::Unknown)
}

fn leaving_member(group: &ConsumerGroup, identity: &MemberIdentity) -> Result<Str, MemberError> {
    let Some(instance_id) = &identity.group_instance_id else {
        return group
            .member(&identity.member_id)
            .map(|_| identity.member_id.clone())
            .ok_or(MemberError::Unknown);
    };
    let owner = group.static_member(instance_id).ok_or(MemberError::Unknown)?;
    // An operator knows the instance id only.
    if identity.member_id.is_empty() || identity.member_id == *owner {
        Ok(owner.clone())
    } else {
        Err(MemberError::Fenced)
    }
}

/// Whether the member has to join again: it has to give up partitions, or can have more, or is in an old epoch.
fn has_step(group: &ConsumerGroup, member_id: &Str, member: &ConsumerMember) -> bool {
    let is_missing = |topic_id: TopicId, partition: i32| {
        !member.assigned.get(&topic_id).is_some_and(|owned| owned.contains_key(&partition))
    };
    let waits = || {
        let target = group.target(member_id).into_iter().flatten();
        let mut places =
            target.flat_map(|(&topic_id, partitions)| partitions.iter().map(move |&index| (topic_id, index)));
        places.any(|(topic_id, index)| is_missing(topic_id, index) && group.owner(topic_id, index).is_some())
    };
    member.epoch < group.assignment_epoch
        || match member.state {
            MemberState::UnrevokedPartitions => true,
            MemberState::UnreleasedPartitions => !waits(),
            MemberState::Stable | MemberState::Unknown => false,
        }
}

/// What a consumer says that it owns. Before version 1 of its subscription it does not say so, for it has given up
/// everything before it joins.
fn reported(subscription: &ConsumerProtocolSubscription, cluster: &dyn Cluster) -> Vec<TopicPartitions> {
    let topics = subscription.owned_partitions.iter().filter_map(|owned| {
        let topic = cluster.topic(&owned.topic)?;
        Some(TopicPartitions { topic_id: topic.id.0, partitions: owned.partitions.clone() })
    });
    topics.collect()
}
