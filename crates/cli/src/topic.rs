//! `dohle topic`: create, list, describe, alter, delete; `topic_trash.rs` has what brings topics back, and
//! `topic_fork.rs` what forks them; `held_back.rs` shows what holds their consumers back.

use dohle_client::metadata::{check, error_of};
use dohle_client::{Metadata, Target};
use dohle_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use dohle_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use dohle_protocol::messages::delete_topics_request::DeleteTopicState;
use dohle_protocol::messages::describe_configs_request::DescribeConfigsResource;
use dohle_protocol::messages::describe_configs_response::DescribeConfigsResult;
use dohle_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use dohle_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
};
use dohle_types::{ErrorCode, Str, TopicId};
use serde_json::{Value, json};

use crate::input::Place;
use crate::output::Table;
use crate::session::Session;
use crate::{CliError, Connection};
use crate::{topic_fork, topic_trash};

/// The number of a topic among the resources that have configs.
const TOPIC_RESOURCE: i8 = 2;
/// A config that was set for the topic itself.
const TOPIC_CONFIG_SOURCE: i8 = 1;
/// How long the controller may take.
const TIMEOUT_MS: i32 = 20_000;

/// `dohle topic ...`
#[derive(Clone, Debug, clap::Subcommand)]
pub enum TopicCommand {
    /// Create topics
    Create {
        /// The topics' names
        #[arg(required = true, value_name = "TOPIC")]
        names: Vec<Str>,
        /// How many partitions; without it what num.partitions of the broker says
        #[arg(short, long)]
        partitions: Option<i32>,
        /// How many replicas; without it what default.replication.factor of the broker says
        #[arg(short, long)]
        replication_factor: Option<i16>,
        /// A topic config, such as retention.ms=3600000; may be repeated
        #[arg(short, long = "config", value_name = "NAME=VALUE", value_parser = parse_config)]
        configs: Vec<(Str, Str)>,
        /// Leave a topic alone that there is already
        #[arg(long)]
        if_not_exists: bool,
    },
    /// List topics
    List {
        /// Show Kafka's own topics too
        #[arg(long)]
        internal: bool,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show topics' partitions and configs; of topics that are named also the transactions that hold read_committed
    /// consumers back
    Describe {
        /// The topics' names; all if there is none
        #[arg(value_name = "TOPIC")]
        names: Vec<Str>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Add partitions, set and unset configs
    Alter {
        /// The topic's name
        #[arg(value_name = "TOPIC")]
        name: Str,
        /// The new number of partitions
        #[arg(short, long)]
        partitions: Option<i32>,
        /// A config to set; may be repeated
        #[arg(long = "set", visible_alias = "config", value_name = "NAME=VALUE", value_parser = parse_config)]
        set: Vec<(Str, Str)>,
        /// A config to return to its default; may be repeated
        #[arg(long = "unset", value_name = "NAME")]
        unset: Vec<Str>,
    },
    /// Delete topics with all their records; for dohle.topic.trash.ms they can be brought back
    Delete {
        /// The topics' names
        #[arg(required = true, value_name = "TOPIC")]
        names: Vec<Str>,
    },
    /// List the deleted topics that can be brought back
    Trash {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Bring a deleted topic back, with its records, offsets, configs and groups' offsets
    Undelete {
        /// The topic's name; of several deleted ones the last is meant
        #[arg(value_name = "TOPIC")]
        name: Str,
        /// The id of the one that is meant, as `dohle topic trash` shows it
        #[arg(long, allow_hyphen_values = true)]
        id: Option<TopicId>,
        /// The name it gets, where its own is in use again
        #[arg(long = "as", value_name = "NEW")]
        new_name: Option<Str>,
    },
    /// Make a topic that begins with the records of another one and shares its files: at once, whatever its size
    Fork {
        /// The topic to fork
        source: Str,
        /// The new topic's name
        new: Str,
        /// Where the new topic leaves the other one: end, OFFSET, -N for N records before the end of each partition,
        /// or a time such as 2026-11-22T10:00:00Z for the first record of that time. Batches stay whole: one that
        /// reaches beyond is left out
        #[arg(long, default_value = "end", value_name = "PLACE", allow_hyphen_values = true)]
        at: Place,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

fn parse_config(text: &str) -> Result<(Str, Str), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as retention.ms=3600000")?;
    Ok((name.into(), value.into()))
}

pub(crate) fn run(connection: &Connection, command: TopicCommand) -> Result<(), CliError> {
    let session = &mut Session::new(connection)?;
    match command {
        TopicCommand::Create { names, partitions, replication_factor, configs, if_not_exists } => {
            let topic = |name: Str| CreatableTopic {
                name,
                num_partitions: partitions.unwrap_or(-1),
                replication_factor: replication_factor.unwrap_or(-1),
                assignments: Vec::new(),
                configs: configs.iter().map(config).collect(),
            };
            create(session, names.into_iter().map(topic).collect(), if_not_exists)
        }
        TopicCommand::List { internal, json } => list(session, internal, json),
        TopicCommand::Describe { names, json } => describe(session, &names, json),
        TopicCommand::Alter { name, partitions, set, unset } => alter(session, &name, partitions, set, unset),
        TopicCommand::Delete { names } => delete(session, names),
        TopicCommand::Trash { json } => topic_trash::list(session, json),
        TopicCommand::Undelete { name, id, new_name } => {
            topic_trash::undelete(session, name, id.unwrap_or(TopicId::ZERO), new_name)
        }
        TopicCommand::Fork { source, new, at, json } => topic_fork::run(session, source, new, &at, json),
    }
}

fn config((name, value): &(Str, Str)) -> CreatableTopicConfig {
    CreatableTopicConfig { name: name.clone(), value: Some(value.clone()) }
}

fn create(session: &mut Session, topics: Vec<CreatableTopic>, if_not_exists: bool) -> Result<(), CliError> {
    let request = CreateTopicsRequest { topics, timeout_ms: TIMEOUT_MS, validate_only: false };
    let response = session.call(Target::Controller, request, |response| {
        first_error(response.topics.iter().map(|topic| topic.error_code))
    })?;
    for topic in response.topics {
        match check(topic.error_code) {
            Err(ErrorCode::TopicAlreadyExists) if if_not_exists => {}
            result => refused(&format!("topic {}", topic.name), result, topic.error_message)?,
        }
    }
    Ok(())
}

/// Makes a topic unless there is one of this name.
pub(crate) fn ensure(session: &mut Session, name: &Str, partitions: i32) -> Result<(), CliError> {
    let topic = CreatableTopic {
        name: name.clone(),
        num_partitions: partitions,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: Vec::new(),
    };
    create(session, vec![topic], true)
}

fn list(session: &mut Session, internal: bool, json: bool) -> Result<(), CliError> {
    let metadata = session.metadata(None)?;
    let mut table = Table::new(["topic", "partitions", "replication factor"]);
    for (name, topic) in metadata.topics().filter(|(_, topic)| internal || !topic.is_internal) {
        let replicas = topic.partitions.iter().map(|partition| partition.replicas.len()).max();
        table.row([json!(name.as_str()), json!(topic.partitions.len()), json!(replicas)]);
    }
    Ok(table.print(json)?)
}

fn describe(session: &mut Session, names: &[Str], json: bool) -> Result<(), CliError> {
    let are_named = !names.is_empty();
    let metadata = session.metadata(Some(names).filter(|_| are_named))?;
    for (name, topic) in metadata.topics() {
        refused(&format!("topic {name}"), check(topic.error.code()), None)?;
    }
    let names: Vec<Str> = metadata
        .topics()
        .filter(|(name, topic)| !topic.is_internal || names.contains(*name))
        .map(|(name, _)| name.clone())
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    let mut configs = Table::new(["topic", "topic id", "config", "value"]);
    for result in topic_configs(session, &names)? {
        let id = metadata.topic(&result.resource_name).map(|topic| topic.id.to_string());
        let set = result.configs.iter().filter(|config| config.config_source == TOPIC_CONFIG_SOURCE);
        let mut set = set.peekable();
        if set.peek().is_none() {
            configs.row([json!(result.resource_name.as_str()), json!(id), Value::Null, Value::Null]);
        }
        for config in set {
            let value = if config.is_sensitive { Some("(hidden)".into()) } else { config.value.clone() };
            let (name, value) = (config.name.as_str(), value.as_deref());
            configs.row([json!(result.resource_name.as_str()), json!(id), json!(name), json!(value)]);
        }
    }
    configs.print(json)?;
    partitions_of(&metadata, &names).print(json)?;
    // It opens every log: not of all topics there are.
    if are_named {
        crate::held_back::print(session, &metadata, &names, json)?;
    }
    Ok(())
}

fn partitions_of(metadata: &Metadata, names: &[Str]) -> Table {
    let mut table =
        Table::new(["topic", "partition", "leader", "leader epoch", "replicas", "isr", "offline"]);
    let topics = names.iter().filter_map(|name| Some((name, metadata.topic(name)?)));
    for (name, topic) in topics {
        for partition in &topic.partitions {
            let ids = |ids: &[dohle_types::BrokerId]| json!(ids.iter().map(|id| id.0).collect::<Vec<_>>());
            table.row([
                json!(name.as_str()),
                json!(partition.index.0),
                json!(partition.leader.map(|leader| leader.0)),
                json!(partition.leader_epoch.0),
                ids(&partition.replicas),
                ids(&partition.isr),
                ids(&partition.offline),
            ]);
        }
    }
    table
}

fn topic_configs(session: &mut Session, names: &[Str]) -> Result<Vec<DescribeConfigsResult>, CliError> {
    let resource = |name: &Str| DescribeConfigsResource {
        resource_type: TOPIC_RESOURCE,
        resource_name: name.clone(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: names.iter().map(resource).collect(),
        include_synonyms: false,
        include_documentation: false,
    };
    let response = session.call(Target::Any, request, |response| {
        first_error(response.results.iter().map(|result| result.error_code))
    })?;
    for result in &response.results {
        let what = format!("configs of topic {}", result.resource_name);
        refused(&what, check(result.error_code), result.error_message.clone())?;
    }
    Ok(response.results)
}

fn alter(
    session: &mut Session,
    name: &Str,
    partitions: Option<i32>,
    set: Vec<(Str, Str)>,
    unset: Vec<Str>,
) -> Result<(), CliError> {
    if partitions.is_none() && set.is_empty() && unset.is_empty() {
        return Err(CliError::Usage("nothing to alter: give --partitions, --set or --unset".into()));
    }
    if let Some(count) = partitions {
        add_partitions(session, name, count)?;
    }
    let set = set.into_iter().map(|(name, value)| AlterableConfig {
        name,
        config_operation: 0,
        value: Some(value),
    });
    let unset = unset.into_iter().map(|name| AlterableConfig { name, config_operation: 1, value: None });
    let configs: Vec<AlterableConfig> = set.chain(unset).collect();
    if configs.is_empty() {
        return Ok(());
    }
    let resource =
        AlterConfigsResource { resource_type: TOPIC_RESOURCE, resource_name: name.clone(), configs };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let response = session.call(Target::Controller, request, |response| {
        first_error(response.responses.iter().map(|result| result.error_code))
    })?;
    for result in response.responses {
        refused(&format!("configs of topic {name}"), check(result.error_code), result.error_message)?;
    }
    Ok(())
}

fn add_partitions(session: &mut Session, name: &Str, count: i32) -> Result<(), CliError> {
    let topic = CreatePartitionsTopic { name: name.clone(), count, assignments: None };
    let request =
        CreatePartitionsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, validate_only: false };
    let response = session.call(Target::Controller, request, |response| {
        first_error(response.results.iter().map(|result| result.error_code))
    })?;
    for result in response.results {
        refused(&format!("partitions of topic {name}"), check(result.error_code), result.error_message)?;
    }
    Ok(())
}

fn delete(session: &mut Session, names: Vec<Str>) -> Result<(), CliError> {
    let request = DeleteTopicsRequest {
        // By name in every version: up to 5 in the second field, since in the first (KIP-516).
        topics: names
            .iter()
            .map(|name| DeleteTopicState { name: Some(name.clone()), ..DeleteTopicState::default() })
            .collect(),
        topic_names: names,
        timeout_ms: TIMEOUT_MS,
    };
    // Tried again, a topic that is gone would be an error: only what was not even begun is.
    let response = session.call(Target::Controller, request, |response| {
        let error = first_error(response.responses.iter().map(|result| result.error_code));
        if error == ErrorCode::NotController { error } else { ErrorCode::None }
    })?;
    for result in response.responses {
        let name = result.name.unwrap_or_default();
        refused(&format!("topic {name}"), check(result.error_code), result.error_message)?;
    }
    Ok(())
}

/// The error that decides whether a call is tried again: the first that may pass, unless one says that the topic
/// is not there, which would be waited for in vain.
pub(crate) fn first_error(mut codes: impl Iterator<Item = i16>) -> ErrorCode {
    let passing = |code: &i16| {
        let error = error_of(*code);
        error.is_retriable() && error != ErrorCode::UnknownTopicOrPartition
    };
    codes.find(passing).map_or(ErrorCode::None, error_of)
}

/// An error for the user, if there is one.
pub(crate) fn refused(
    what: &str,
    result: Result<(), ErrorCode>,
    message: Option<Str>,
) -> Result<(), CliError> {
    result.map_err(|error| CliError::Refused { what: what.into(), error, message: message.map(String::from) })
}
