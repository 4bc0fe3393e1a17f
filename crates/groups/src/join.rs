//! JoinGroup (key 11, versions 0-9): a member joins, joins again, or takes a static member's place.
//!
//! Version 4 and later: a dynamic member is given an id first and joins with it (KIP-394). Version 5: static
//! members (KIP-345). Version 7: protocol type and nullable protocol name. Version 9: the leader may be told
//! that its assignment is not needed (KIP-814).

use dohle_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use dohle_types::{ErrorCode, Now, Rng, Str};

use std::time::Duration;

use crate::effects::Context;
use crate::group::{Group, Member, MemberError, ParkedJoin, Phase, join_error, millis};
use crate::journal::cause::{Cause, CauseKind, Who};
use crate::{Caller, Effects, GROUP_SIZE_CAP, GroupLedger, Token, Turn, consumer};

/// How long a member waits that has not been told its id: it has no session to keep, so this ends the wait of
/// those that are gone.
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(300);

/// How many protocols a member may offer.
const PROTOCOLS_MAX: usize = 256;

/// How much of a client id or instance id goes into a member id, so that this stays a string the wire can carry.
const MEMBER_ID_PREFIX_BYTES_MAX: usize = 1024;

/// Why a JoinGroup is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("the group id is empty: set group.id")]
    InvalidGroupId,
    #[error("session.timeout.ms is outside of group.min.session.timeout.ms and group.max.session.timeout.ms")]
    InvalidSessionTimeout,
    #[error("the subscription is too large for the group's record: subscribe by pattern or use fewer topics")]
    SubscriptionTooLarge,
    #[error("there are too many groups in this partition of __consumer_offsets: delete unused ones")]
    TooManyGroups,
    #[error("the members of this partition of __consumer_offsets take up too much memory: use fewer")]
    TooManyMembers,
    #[error("the group has group.max.size members")]
    GroupFull,
    #[error("the group's members use another protocol type, or have no protocol in common with this one")]
    InconsistentProtocol,
    #[error(transparent)]
    Member(#[from] MemberError),
}

impl JoinError {
    pub(crate) const fn code(self) -> ErrorCode {
        match self {
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
            Self::SubscriptionTooLarge => ErrorCode::MessageTooLarge,
            Self::TooManyGroups | Self::TooManyMembers => ErrorCode::PolicyViolation,
            Self::GroupFull => ErrorCode::GroupMaxSizeReached,
            Self::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
            Self::Member(error) => error.code(),
        }
    }
}

/// A JoinGroup under way.
struct Join<'a> {
    token: Token,
    caller: &'a Caller,
    request: &'a JoinGroupRequest,
}

impl GroupLedger {
    /// A member joins; it is answered when the rebalance that this causes or meets has all members, or its time
    /// is up.
    pub fn join(&mut self, turn: &mut Turn<'_>, token: Token, caller: &Caller, request: &JoinGroupRequest) {
        if self.has_consumer_members(&request.group_id) {
            let result = self
                .validate_join(request)
                .and_then(|()| self.join_consumer_group(turn, token, caller, request));
            if let Err(error) = result {
                let parked = ParkedJoin { token, api_version: caller.api_version };
                turn.effects.reply_join(parked, join_error(&request.member_id, error.code()));
            }
            return;
        }
        let Turn { now, rng, effects, .. } = turn;
        let join = Join { token, caller, request };
        let result = self.open_group_to_join(*now, request, effects).and_then(|()| {
            self.with_group(*now, &request.group_id, effects, |group, context| {
                group.join(&join, rng, context)
            })
            .unwrap_or(Ok(()))
        });
        if let Err(error) = result {
            let member_id = if error == JoinError::GroupFull { "" } else { request.member_id.as_str() };
            effects.reply_join(join.parked(), join_error(member_id, error.code()));
        }
    }

    /// What can be said against a JoinGroup, whatever the group is.
    fn validate_join(&self, request: &JoinGroupRequest) -> Result<(), JoinError> {
        let config = &self.config;
        if request.group_id.is_empty() {
            return Err(JoinError::InvalidGroupId);
        }
        if !(config.session_timeout_ms_min..=config.session_timeout_ms_max)
            .contains(&request.session_timeout_ms)
        {
            return Err(JoinError::InvalidSessionTimeout);
        }
        let bytes: usize =
            request.protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum();
        if bytes > config.subscription_bytes_max || request.protocols.len() > PROTOCOLS_MAX {
            return Err(JoinError::SubscriptionTooLarge);
        }
        if request.member_id.is_empty() && self.members_bytes + bytes > config.members_bytes_max {
            return Err(JoinError::TooManyMembers);
        }
        Ok(())
    }

    /// Makes sure that the group has a soft side; only those who do not claim to be members create groups.
    ///
    /// Differs from Kafka: it writes a record for a group that was only just created. Nothing of it needs to
    /// survive before its first generation is complete.
    ///
    /// Differs from Kafka: where a group without members goes over to the other protocol, its generations go on from its
    /// epochs, and its epochs from its generations, instead of beginning anew: in a group's life no two assignments have
    /// the same number.
    fn open_group_to_join(
        &mut self,
        now: Now,
        request: &JoinGroupRequest,
        effects: &mut Effects,
    ) -> Result<(), JoinError> {
        self.validate_join(request)?;
        let config = &self.config;
        if self.groups.contains_key(&request.group_id) {
            return Ok(());
        }
        let durable = self.state.group(&request.group_id);
        if durable.is_none() {
            if !request.member_id.is_empty() {
                return Err(MemberError::Unknown.into());
            }
            if self.state.len().max(self.groups.len()) >= config.groups_max {
                return Err(JoinError::TooManyGroups);
            }
        }
        let mut group = Group::new(&request.group_id, durable);
        if let Some(former) = durable.and_then(|durable| durable.consumer.as_ref()) {
            if !request.member_id.is_empty() {
                return Err(MemberError::Unknown.into());
            }
            consumer::records::group_tombstones(&request.group_id, former, &mut effects.records);
            group.take_over(former, now);
            effects.records.push(group.empty_record());
        }
        self.groups.insert(request.group_id.clone(), group);
        Ok(())
    }
}

impl Join<'_> {
    const fn parked(&self) -> ParkedJoin {
        ParkedJoin { token: self.token, api_version: self.caller.api_version }
    }

    fn who(&self, member_id: &str) -> Who {
        let Caller { client_id, client_host, .. } = self.caller;
        Who::new(member_id, self.request.group_instance_id.as_ref(), client_id, client_host)
    }

    fn cause(&self, kind: CauseKind, member_id: &str) -> Cause {
        Cause::of(kind, self.who(member_id)).because(self.request.reason.as_ref())
    }

    fn new_member_id(&self, rng: &mut Rng) -> Str {
        let prefix = self.request.group_instance_id.as_ref().unwrap_or(&self.caller.client_id);
        let end = prefix.floor_char_boundary(MEMBER_ID_PREFIX_BYTES_MAX);
        Str::from(format!("{}-{}", prefix.get(..end).unwrap_or_default(), rng.uuid()))
    }
}

impl Group {
    fn join(&mut self, join: &Join<'_>, rng: &mut Rng, context: &mut Context<'_>) -> Result<(), JoinError> {
        if !self.accepts(&join.request.member_id, context.config.group_size_max()) {
            let member_id = &join.request.member_id;
            if self.member(member_id).is_some() {
                let who = self.lose_member(member_id, context);
                context.journal.add(&self.group_id, Cause::of(CauseKind::GroupTooLarge, who));
            }
            self.complete_join_if_all_joined(context);
            return Err(JoinError::GroupFull);
        }
        if !self.supports(&join.request.protocol_type, &join.request.protocols) {
            return Err(JoinError::InconsistentProtocol);
        }
        if join.request.member_id.is_empty() {
            self.join_new(join, rng, context)
        } else {
            self.join_known(join, context)
        }
    }

    /// Whether there is room. During a rebalance those count that have joined, so that the last ones to join
    /// again are turned away when `group.max.size` was reduced.
    fn accepts(&self, member_id: &str, size_max: usize) -> bool {
        let member = self.member(member_id);
        match self.phase {
            Phase::Empty => true,
            Phase::PreparingRebalance { .. } => {
                member.is_some_and(Member::is_joined) || self.joined() < size_max
            }
            Phase::CompletingRebalance | Phase::Stable => member.is_some() || self.members().len() < size_max,
        }
    }

    fn join_new(
        &mut self,
        join: &Join<'_>,
        rng: &mut Rng,
        context: &mut Context<'_>,
    ) -> Result<(), JoinError> {
        // Differs from Kafka: members that were only given an id are limited as well.
        if self.members().len() + self.pending.len() >= GROUP_SIZE_CAP {
            return Err(JoinError::GroupFull);
        }
        let member_id = join.new_member_id(rng);
        let instance_id = join.request.group_instance_id.as_ref();
        let existing = instance_id.and_then(|instance_id| self.static_member(instance_id)).cloned();
        match (instance_id, existing) {
            (Some(instance_id), Some(old)) => {
                self.join_in_place_of(join, instance_id, &old, &member_id, context);
            }
            (None, _) if join.caller.api_version >= 4 => {
                let deadline = context.now.after(millis(join.request.session_timeout_ms));
                self.pending.insert(member_id.clone(), deadline);
                self.watch(deadline);
                let response = join_error(&member_id, ErrorCode::MemberIdRequired);
                context.effects.reply_join(join.parked(), response);
            }
            _ => self.admit(join, member_id, context),
        }
        Ok(())
    }

    /// Adds a member, which then waits for the end of the rebalance that this causes.
    fn admit(&mut self, join: &Join<'_>, member_id: Str, context: &mut Context<'_>) {
        if let Phase::PreparingRebalance { initial: Some(initial), .. } = &mut self.phase {
            initial.member_added = true;
        }
        if self.members().is_empty() {
            self.protocol_type = Some(join.request.protocol_type.clone());
        }
        let mut member = Member::new(join.caller, join.request, join.parked());
        member.deadline = Some(context.now.after(NEW_MEMBER_JOIN_TIMEOUT));
        let cause = join.cause(CauseKind::Joined, &member_id);
        self.add_member(member_id, member);
        self.rebalance(cause, context);
    }

    fn join_known(&mut self, join: &Join<'_>, context: &mut Context<'_>) -> Result<(), JoinError> {
        let request = join.request;
        let member_id = &request.member_id;
        // Only dynamic members are ever pending.
        if request.group_instance_id.is_none() && self.pending.contains_key(member_id) {
            self.admit(join, member_id.clone(), context);
            return Ok(());
        }
        let member = self.validate_member(member_id, request.group_instance_id.as_ref())?;
        let who = join.who(member_id);
        let cause = self.cause_of_rejoining(who, member, request);
        let is_change = matches!(cause.kind, CauseKind::AssignorChanged | CauseKind::SubscriptionChanged);
        let cause = match self.phase {
            Phase::Empty => return Err(MemberError::Unknown.into()),
            Phase::Stable if self.is_leader(member_id) => Some(cause),
            Phase::CompletingRebalance | Phase::Stable if member.matches(request) => {
                // It may not have got the answer to its last JoinGroup: the generation is what it was.
                context.effects.reply_join(join.parked(), self.join_response(member_id));
                return Ok(());
            }
            Phase::CompletingRebalance | Phase::Stable => Some(cause),
            // It was asked to.
            Phase::PreparingRebalance { .. } => Some(cause).filter(|_| is_change),
        };
        self.tell_owners(context);
        self.update_member(member_id, request, join.parked(), context.effects);
        match cause {
            Some(cause) => self.rebalance(cause, context),
            None => self.complete_join_if_all_joined(context),
        }
        self.tell_given_up(member_id, context);
        Ok(())
    }

    /// A static member's process was restarted: it gets the place of its former self (KIP-345). In a stable
    /// group nobody else needs to know, unless it changes what they have in common.
    fn join_in_place_of(
        &mut self,
        join: &Join<'_>,
        instance_id: &Str,
        old: &Str,
        new: &Str,
        context: &mut Context<'_>,
    ) {
        let former_leader = self.leader.clone();
        self.replace_static_member(instance_id, old, new, context.effects);
        self.update_member(new, join.request, join.parked(), context.effects);
        self.restart_session(new, context.now);
        let cause = join.cause(CauseKind::StaticMemberReplaced, new);
        match self.phase {
            Phase::Stable if self.protocol == self.select_protocol() => {
                let Some(record) = self.storable_record(context) else {
                    return self.prepare_rebalance(cause, context);
                };
                context.effects.records.push(record);
                context.journal.note(context.now, &self.group_id, self.generation, cause);
                if let Some(parked) = self.take_join(new) {
                    let response = self.replacement_response(new, former_leader, parked.api_version);
                    context.effects.reply_join(parked, response);
                }
            }
            Phase::Stable | Phase::CompletingRebalance | Phase::Empty => {
                self.prepare_rebalance(cause, context)
            }
            Phase::PreparingRebalance { .. } => {
                context.journal.add(&self.group_id, cause);
                self.complete_join_if_all_joined(context);
            }
        }
        self.tell_given_up(new, context);
    }

    /// A leader that takes its own place must not assign anew, for the others would not hear of it. It is told
    /// so since version 9 (KIP-814); before, it is told that its former self leads.
    fn replacement_response(
        &self,
        member_id: &Str,
        former_leader: Option<Str>,
        api_version: i16,
    ) -> JoinGroupResponse {
        let response = self.join_response(member_id);
        if api_version >= 9 {
            JoinGroupResponse { skip_assignment: self.is_leader(member_id), ..response }
        } else {
            JoinGroupResponse { leader: former_leader.unwrap_or_default(), members: Vec::new(), ..response }
        }
    }
}
