//! `dohle group`: list, describe, delete, and what the other commands about groups share.

use std::collections::BTreeMap;

use dohle_client::Metadata;
use dohle_client::Target;
use dohle_client::group::offsets::{fetch_request, parse_fetch};
use dohle_client::group::protocol::decode_assignment;
use dohle_client::metadata::{check, error_of};
use dohle_protocol::messages::list_groups_response::ListedGroup;
use dohle_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use dohle_protocol::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest,
    ListOffsetsRequest,
};
use dohle_types::{BrokerId, ErrorCode, Offset, PartitionIndex, Str, Timestamp, TopicPartition};
use serde_json::{Value, json};

use crate::group_journal::{self, JournalArgs};
use crate::group_lag::LagArgs;
use crate::group_reset::ResetArgs;
use crate::output::Table;
use crate::session::Session;
use crate::topic::refused;
use crate::{CliError, Connection};

/// `dohle group ...`
#[derive(Clone, Debug, clap::Subcommand)]
pub enum GroupCommand {
    /// List groups
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show groups' members, offsets and lag
    Describe {
        /// The groups' names
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<Str>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Set the offsets from which a group goes on
    ResetOffsets(ResetArgs),
    /// Show what happened to groups: each rebalance with its cause, the member behind it, and how long it took
    Journal(JournalArgs),
    /// Show how far groups are behind, in records and in seconds, and whether their consumers keep up
    Lag(LagArgs),
    /// Delete groups without members, with their offsets
    Delete {
        /// The groups' names
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<Str>,
    },
}

/// An offset in each partition.
pub(crate) type Offsets = BTreeMap<TopicPartition, Offset>;

pub(crate) fn run(connection: &Connection, command: GroupCommand) -> Result<(), CliError> {
    if let GroupCommand::Journal(args) = command {
        return group_journal::run(connection, &args);
    }
    let session = &mut Session::new(connection)?;
    match command {
        GroupCommand::List { json } => list(session, json),
        GroupCommand::Describe { groups, json } => {
            groups.into_iter().try_for_each(|group| describe(session, &group, json))
        }
        GroupCommand::ResetOffsets(args) => crate::group_reset::run(session, &args),
        GroupCommand::Lag(args) => crate::group_lag::run(session, &args),
        // It reads a topic, and asks no coordinator.
        GroupCommand::Journal(_) => Ok(()),
        GroupCommand::Delete { groups } => groups.into_iter().try_for_each(|group| delete(session, &group)),
    }
}

fn list(session: &mut Session, json: bool) -> Result<(), CliError> {
    let mut table = Table::new(["group", "state", "protocol type", "type"]);
    for (name, group) in all_groups(session)? {
        let text = |text: &Str| if text.is_empty() { Value::Null } else { json!(text.as_str()) };
        table.row([
            json!(name.as_str()),
            text(&group.group_state),
            text(&group.protocol_type),
            text(&group.group_type),
        ]);
    }
    Ok(table.print(json)?)
}

/// All groups, by their names.
pub(crate) fn all_groups(session: &mut Session) -> Result<BTreeMap<Str, ListedGroup>, CliError> {
    let metadata = session.metadata(Some(&[]))?;
    let brokers: Vec<BrokerId> = metadata.brokers().map(|(id, _)| id).collect();
    let mut groups = BTreeMap::new();
    // Each broker knows the groups that it coordinates.
    for broker in brokers {
        let request = ListGroupsRequest { states_filter: Vec::new(), types_filter: Vec::new() };
        let response =
            session.call(Target::Broker(broker), request, |response| error_of(response.error_code))?;
        refused("groups", check(response.error_code), None)?;
        groups.extend(response.groups.into_iter().map(|group| (group.group_id.clone(), group)));
    }
    Ok(groups)
}

fn describe(session: &mut Session, group: &Str, json: bool) -> Result<(), CliError> {
    let metadata = session.metadata(None)?;
    let described = describe_group(session, group)?;
    let committed = committed(session, &metadata, group)?;
    let mut owners: BTreeMap<TopicPartition, &Member> = BTreeMap::new();
    for member in &described.members {
        owners.extend(member.owned.iter().cloned().map(|partition| (partition, member)));
    }
    let partitions: Vec<TopicPartition> = committed
        .keys()
        .chain(owners.keys())
        .cloned()
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    let ends = list_offsets(session, &metadata, &partitions, LATEST)?;
    let mut table = Table::new([
        "group",
        "state",
        "topic",
        "partition",
        "current offset",
        "log end offset",
        "lag",
        "consumer id",
        "host",
        "client id",
    ]);
    for partition in partitions {
        let offset = committed.get(&partition).map(|offset| offset.0);
        let end = ends.get(&partition).map(|end| end.0);
        let lag = offset.zip(end).map(|(offset, end)| (end - offset).max(0));
        let owner = owners.get(&partition);
        table.row([
            json!(group.as_str()),
            json!(described.state.as_str()),
            json!(partition.topic.as_str()),
            json!(partition.partition.0),
            json!(offset),
            json!(end),
            json!(lag),
            json!(owner.map(|member| member.id.as_str())),
            json!(owner.map(|member| member.client_host.as_str())),
            json!(owner.map(|member| member.client_id.as_str())),
        ]);
    }
    for member in described.members.iter().filter(|member| !owners.values().any(|it| it.id == member.id)) {
        table.row([
            json!(group.as_str()),
            json!(described.state.as_str()),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            json!(member.id.as_str()),
            json!(member.client_host.as_str()),
            json!(member.client_id.as_str()),
        ]);
    }
    Ok(table.print(json)?)
}

/// A group of either protocol, as far as it is shown.
struct Described {
    state: Str,
    members: Vec<Member>,
}

struct Member {
    id: Str,
    client_id: Str,
    client_host: Str,
    owned: Vec<TopicPartition>,
}

/// A group of the classic protocol or, where there is no such one, of the consumer protocol.
fn describe_group(session: &mut Session, group: &Str) -> Result<Described, CliError> {
    let request = DescribeGroupsRequest { groups: vec![group.clone()], include_authorized_operations: false };
    let response = session.call(Target::Coordinator(group.clone()), request, |response| {
        response.groups.first().map_or(ErrorCode::None, |group| error_of(group.error_code))
    })?;
    let described = response.groups.into_iter().next().unwrap_or_default();
    let dead = described.error_code == 0 && described.group_state == "Dead";
    let result = if dead { Err(ErrorCode::GroupIdNotFound) } else { check(described.error_code) };
    if result == Err(ErrorCode::GroupIdNotFound)
        && let Some(found) = describe_consumer_group(session, group)
    {
        return Ok(found);
    }
    refused(&format!("group {group}"), result, described.error_message.clone())?;
    let members = described.members.into_iter().map(|member| Member {
        owned: decode_assignment(&member.member_assignment).unwrap_or_default(),
        id: member.member_id,
        client_id: member.client_id,
        client_host: member.client_host,
    });
    Ok(Described { state: described.group_state, members: members.collect() })
}

/// `None` if there is none, or the broker does not know of such groups.
fn describe_consumer_group(session: &mut Session, group: &Str) -> Option<Described> {
    let request =
        ConsumerGroupDescribeRequest { group_ids: vec![group.clone()], include_authorized_operations: false };
    let response = session.call(Target::Coordinator(group.clone()), request, |response| {
        response.groups.first().map_or(ErrorCode::None, |group| error_of(group.error_code))
    });
    let described = response.ok()?.groups.into_iter().next().filter(|group| group.error_code == 0)?;
    let members = described.members.into_iter().map(|member| Member {
        id: member.member_id,
        client_id: member.client_id,
        client_host: member.client_host,
        owned: member
            .assignment
            .topic_partitions
            .into_iter()
            .flat_map(|topic| {
                let name = topic.topic_name;
                let index = topic.partitions.into_iter();
                index.map(move |index| TopicPartition::new(name.clone(), PartitionIndex(index)))
            })
            .collect(),
    });
    Some(Described { state: described.group_state, members: members.collect() })
}

pub(crate) fn committed(
    session: &mut Session,
    metadata: &Metadata,
    group: &Str,
) -> Result<Offsets, CliError> {
    let request = fetch_request(metadata, group, None);
    let response = session.call(Target::Coordinator(group.clone()), request, |response| {
        let newer = response.groups.first().map_or(0, |group| group.error_code);
        error_of(if newer == 0 { response.error_code } else { newer })
    })?;
    parse_fetch(metadata, response).map_err(|error| CliError::Refused {
        what: format!("offsets of group {group}"),
        error,
        message: None,
    })
}

/// What ListOffsets takes for the first offset and for the end.
pub(crate) const EARLIEST: Timestamp = Timestamp(-2);
pub(crate) const LATEST: Timestamp = Timestamp(-1);

/// The offset in each partition at a time; those without such an offset, or without a leader, are left out.
pub(crate) fn list_offsets(
    session: &mut Session,
    metadata: &Metadata,
    partitions: &[TopicPartition],
    timestamp: Timestamp,
) -> Result<Offsets, CliError> {
    let mut by_leader: BTreeMap<BrokerId, Vec<ListOffsetsTopic>> = BTreeMap::new();
    for partition in partitions {
        let described = metadata.partition(&partition.topic, partition.partition);
        let Some(leader) = described.and_then(|it| it.leader) else { continue };
        let item = ListOffsetsPartition {
            partition_index: partition.partition.0,
            timestamp: timestamp.0,
            ..ListOffsetsPartition::default()
        };
        let topics = by_leader.entry(leader).or_default();
        match topics.last_mut().filter(|last| last.name == partition.topic) {
            Some(last) => last.partitions.push(item),
            None => topics.push(ListOffsetsTopic { name: partition.topic.clone(), partitions: vec![item] }),
        }
    }
    let mut offsets = BTreeMap::new();
    for (leader, topics) in by_leader {
        let request = ListOffsetsRequest {
            replica_id: BrokerId::NONE.0,
            isolation_level: 0,
            topics,
            timeout_ms: 20_000,
        };
        let response = session.call(Target::Broker(leader), request, |response| {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            crate::topic::first_error(partitions.map(|partition| partition.error_code))
        })?;
        for topic in response.topics {
            for partition in topic.partitions {
                let name = TopicPartition::new(topic.name.clone(), PartitionIndex(partition.partition_index));
                refused(&format!("partition {name}"), check(partition.error_code), None)?;
                if partition.offset >= 0 {
                    offsets.insert(name, Offset(partition.offset));
                }
            }
        }
    }
    Ok(offsets)
}

/// The first offset and the end of each of a topic's partitions.
pub(crate) fn log_bounds(
    session: &mut Session,
    topic: &Str,
    partitions: &[TopicPartition],
) -> Result<(Offsets, Offsets), CliError> {
    let metadata = session.metadata(Some(std::slice::from_ref(topic)))?;
    Ok((
        list_offsets(session, &metadata, partitions, EARLIEST)?,
        list_offsets(session, &metadata, partitions, LATEST)?,
    ))
}

fn delete(session: &mut Session, group: &Str) -> Result<(), CliError> {
    let request = DeleteGroupsRequest { groups_names: vec![group.clone()] };
    let response = session.call(Target::Coordinator(group.clone()), request, |response| {
        response.results.first().map_or(ErrorCode::None, |result| error_of(result.error_code))
    })?;
    let result = response.results.first().map_or(Ok(()), |result| check(result.error_code));
    refused(&format!("group {group}"), result, None)
}
