//! ListGroups (key 16, versions 0-5), DescribeGroups (key 15, versions 0-6), DeleteGroups (key 42, versions 0-2).
//!
//! ListGroups: version 4 filters by state (KIP-518), version 5 by type (KIP-848).
//! DescribeGroups: a group that does not exist, or is of the consumer protocol, is `Dead`; version 6 says
//! GROUP_ID_NOT_FOUND as well (KIP-1043).

use std::collections::BTreeSet;

use dohle_protocol::messages::ListGroupsRequest;
use dohle_protocol::messages::delete_groups_response::DeletableGroupResult;
use dohle_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use dohle_protocol::messages::list_groups_response::ListedGroup;
use dohle_types::{ErrorCode, Str};

use crate::group::{CONSUMER_PROTOCOL_TYPE, Group, Phase};
use crate::pending::Pending;
use crate::state::DurableGroup;
use crate::{Effects, GroupLedger, Record, consumer, records};

const CLASSIC: &str = "classic";
const CONSUMER: &str = "consumer";
const EMPTY: &str = "Empty";
const DEAD: &str = "Dead";

impl GroupLedger {
    /// The groups that pass the request's filters, in the order of their ids.
    #[must_use]
    pub fn list(&self, request: &ListGroupsRequest) -> Vec<ListedGroup> {
        let passes = |filter: &[Str], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(value))
        };
        let only_soft = self.groups.keys().filter(|group_id| self.state.group(group_id).is_none());
        let mut group_ids: Vec<&Str> =
            self.state.groups().map(|(group_id, _)| group_id).chain(only_soft).collect();
        group_ids.sort();
        group_ids
            .into_iter()
            .map(|group_id| self.listed(group_id))
            .filter(|group| passes(&request.types_filter, &group.group_type))
            .filter(|group| passes(&request.states_filter, &group.group_state))
            .collect()
    }

    pub(crate) fn listed(&self, group_id: &Str) -> ListedGroup {
        let consumer = self.state.consumer_group(group_id);
        let (state, protocol_type) = match consumer {
            Some(group) => (group.state_name(), Str::from(CONSUMER_PROTOCOL_TYPE)),
            None => self.state_and_protocol_type(group_id),
        };
        ListedGroup {
            group_id: group_id.clone(),
            protocol_type,
            group_state: Str::from(state),
            group_type: Str::from(if consumer.is_some() { CONSUMER } else { CLASSIC }),
        }
    }

    /// A group and its members. What each may do is the host's to add.
    #[must_use]
    pub fn describe(&self, group_id: &Str, api_version: i16) -> DescribedGroup {
        let (state, protocol_type) = self.state_and_protocol_type(group_id);
        let group = self.groups.get(group_id);
        let stable_protocol =
            group.filter(|group| group.phase == Phase::Stable).and_then(|group| group.protocol.as_ref());
        let is_missing = state == DEAD && api_version >= 6;
        let error = if is_missing { ErrorCode::GroupIdNotFound } else { ErrorCode::None };
        let is_consumer = self.state.consumer_group(group_id).is_some();
        let what = if is_consumer { "is not a classic group" } else { "not found" };
        DescribedGroup {
            error_code: error.code(),
            error_message: is_missing.then(|| Str::from(format!("Group {group_id} {what}."))),
            group_id: group_id.clone(),
            group_state: Str::from(state),
            protocol_type,
            protocol_data: stable_protocol.cloned().unwrap_or_default(),
            members: group.map_or_else(Vec::new, |group| described_members(group, stable_protocol)),
            ..DescribedGroup::default()
        }
    }

    /// Deletes a group without members, and its offsets, those that open transactions want to commit among them.
    pub fn delete_group(&mut self, group_id: &Str, effects: &mut Effects) -> DeletableGroupResult {
        let error = match (self.groups.get(group_id), self.state.group(group_id)) {
            (Some(group), _) if group.phase != Phase::Empty => ErrorCode::NonEmptyGroup,
            (_, Some(DurableGroup { consumer: Some(group), .. })) if !group.members().is_empty() => {
                ErrorCode::NonEmptyGroup
            }
            (None, None) => ErrorCode::GroupIdNotFound,
            (soft, durable) => {
                if let Some(durable) = durable {
                    delete_records(group_id, durable, &self.state.pending, effects);
                }
                // Who was given an id to join with has to ask for a new one.
                if soft.is_some() {
                    self.forget(group_id);
                }
                ErrorCode::None
            }
        };
        DeletableGroupResult { group_id: group_id.clone(), error_code: error.code() }
    }

    fn state_and_protocol_type(&self, group_id: &str) -> (&'static str, Str) {
        match (self.groups.get(group_id), self.state.group(group_id)) {
            (_, Some(DurableGroup { consumer: Some(_), .. })) => (DEAD, Str::default()),
            (Some(group), _) => (group.state_name(), group.protocol_type.clone().unwrap_or_default()),
            (None, Some(durable)) => (EMPTY, durable.protocol_type().cloned().unwrap_or_default()),
            (None, None) => (DEAD, Str::default()),
        }
    }
}

/// What members say about themselves is shown only while all members agree on how to read it.
fn described_members(group: &Group, protocol: Option<&Str>) -> Vec<DescribedGroupMember> {
    let members = group.members().iter().map(|(member_id, member)| DescribedGroupMember {
        member_id: member_id.clone(),
        group_instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        member_metadata: member.subscription(protocol.map(Str::as_str)),
        member_assignment: member.assignment.clone(),
    });
    members.collect()
}

/// Tombstones for all that the log has of a group, also for what transactions want to commit.
fn delete_records(group_id: &Str, durable: &DurableGroup, pending: &Pending, effects: &mut Effects) {
    let committed = durable
        .offsets
        .iter()
        .flat_map(|(topic, partitions)| partitions.keys().map(move |&partition| (topic, partition)));
    let pending = pending.places().filter(|((of, ..), _)| of == group_id);
    let pending = pending.map(|((_, topic, partition), _)| (topic, *partition));
    let places: BTreeSet<(&Str, i32)> = committed.chain(pending).collect();
    for (topic, partition) in places {
        effects.records.push(records::offset_commit_tombstone(group_id, topic, partition));
    }
    group_tombstones(group_id, durable, &mut effects.records);
}

/// Tombstones for all that the log has of a group, but its offsets. One of which it has nothing else is a classic one.
pub(crate) fn group_tombstones(group_id: &Str, durable: &DurableGroup, written: &mut Vec<Record>) {
    match &durable.consumer {
        Some(group) => consumer::records::group_tombstones(group_id, group, written),
        None => written.push(records::group_metadata_tombstone(group_id)),
    }
}
