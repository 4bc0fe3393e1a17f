//! IncrementalAlterConfigs (key 44, versions 0-1, KIP-339) and AlterConfigs (key 33, versions 0-2).
//!
//! Resources are independent of each other: each gets all of its changes or an error. The first API changes what it
//! names; the second replaces everything that the resource sets.

use std::collections::BTreeMap;

use dohle_configs::{
    AlterOp, BrokerConfig, ConfigError, Target, apply_alter_op, broker, group, validate_configs,
};
use dohle_ledger::Outcome;
use dohle_protocol::messages::alter_configs_response::AlterConfigsResourceResponse as ReplaceResponse;
use dohle_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use dohle_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use dohle_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, ConfigRecord, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use dohle_types::{BrokerId, ErrorCode, Str};

use crate::ledger::{Controller, RECORDS_PER_REQUEST_MAX, STRING_LEN_MAX, distinct, error_message};
use crate::record::MetadataRecord;
use crate::resource::{ConfigResource, ConfigResourceError};
use crate::topic_name::{CLUSTER_METADATA_TOPIC, TopicNameError, is_internal_topic, validate_topic_name};

/// Why the configs of a resource are not altered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlterConfigsError {
    /// The request names the resource twice.
    #[error("Each resource must appear at most once.")]
    DuplicateResource,
    /// The request names a config of the resource twice.
    #[error("The config {0} appears more than once for this resource")]
    DuplicateConfig(Str),
    /// No such kind of resource.
    #[error(transparent)]
    Resource(#[from] ConfigResourceError),
    /// Configs of client metrics are not served yet.
    #[error("configs of a {0} cannot be set on this broker; it has configs of topics, brokers and groups")]
    UnsupportedResource(&'static str),
    /// No topic can have this name.
    #[error(transparent)]
    TopicName(#[from] TopicNameError),
    /// There is no such topic.
    #[error("The topic '{0}' does not exist.")]
    UnknownTopic(Str),
    /// There is no such broker.
    #[error("Broker {0} is not registered; name one that is, or all brokers by an empty name")]
    UnknownBroker(BrokerId),
    /// No such operation.
    #[error("{0} is no operation on a config; use 0 to set, 1 to delete, 2 to append or 3 to subtract")]
    UnknownOperation(i8),
    /// A value is needed.
    #[error("Null value not supported for: {0}")]
    NullValue(Str),
    /// The value is too long for a record.
    #[error("The value of {0} is longer than {STRING_LEN_MAX} bytes")]
    ValueTooLong(Str),
    /// The config cannot be set so.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The same of a broker's config, which Kafka answers with another code.
    #[error("{0}")]
    BrokerConfig(ConfigError),
    /// The metadata log has no words for what would follow from the config.
    #[error(
        "The cordoned.log.dirs configuration value cannot be set because it requires metadata.version >= 4.3-IV0"
    )]
    CordonsUnsupported,
    /// The request would make too many records.
    #[error("A request may change {RECORDS_PER_REQUEST_MAX} configs; use several requests")]
    RequestTooLarge,
}

impl AlterConfigsError {
    /// The code on the wire.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::DuplicateResource
            | Self::DuplicateConfig(_)
            | Self::Resource(_)
            | Self::UnsupportedResource(_)
            | Self::UnknownOperation(_)
            | Self::NullValue(_)
            | Self::BrokerConfig(_) => ErrorCode::InvalidRequest,
            Self::TopicName(_) => ErrorCode::InvalidTopicException,
            Self::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownBroker(_) => ErrorCode::BrokerIdNotRegistered,
            Self::ValueTooLong(_) | Self::CordonsUnsupported => ErrorCode::InvalidConfig,
            Self::Config(error) => error.error_code(),
            Self::RequestTooLarge => ErrorCode::PolicyViolation,
        }
    }
}

/// One config of a resource with its new value; `None` goes back to what is inherited.
type Change = (Str, Option<Str>);

/// A resource as the wire names it, with what came of its changes.
type Altered = (i8, Str, Result<(), AlterConfigsError>);

impl Controller {
    /// Changes single configs of topics, brokers and groups.
    #[must_use]
    pub fn handle_incremental_alter_configs(
        &self,
        config: &BrokerConfig,
        request: &IncrementalAlterConfigsRequest,
    ) -> Outcome<MetadataRecord, IncrementalAlterConfigsResponse> {
        let resources = distinct(&request.resources, |asked| (asked.resource_type, &asked.resource_name))
            .into_iter()
            .map(|(asked, is_duplicate)| {
                (asked.resource_type, &asked.resource_name, is_duplicate, &*asked.configs)
            });
        let Outcome { mut records, reply } = self.alter(config, resources, |resource, configs| {
            let current = self.overrides(resource);
            check_distinct(configs, |change| &change.name)?;
            configs.iter().map(|change| altered_value(resource, &current, change)).collect()
        });
        if request.validate_only {
            records.clear();
        }
        let responses = reply.into_iter().map(|(resource_type, resource_name, result)| {
            let (error_code, error_message) = on_wire(result);
            AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
        });
        let reply = IncrementalAlterConfigsResponse { responses: responses.collect(), ..Default::default() };
        Outcome { records, reply }
    }

    /// Replaces all configs of topics, brokers or groups.
    #[must_use]
    pub fn handle_alter_configs(
        &self,
        config: &BrokerConfig,
        request: &AlterConfigsRequest,
    ) -> Outcome<MetadataRecord, AlterConfigsResponse> {
        let resources = distinct(&request.resources, |asked| (asked.resource_type, &asked.resource_name))
            .into_iter()
            .map(|(asked, is_duplicate)| {
                (asked.resource_type, &asked.resource_name, is_duplicate, &*asked.configs)
            });
        let Outcome { mut records, reply } = self.alter(config, resources, |resource, configs| {
            check_distinct(configs, |config| &config.name)?;
            let mut changes: BTreeMap<Str, Option<Str>> =
                self.overrides(resource).into_keys().map(|name| (name.into(), None)).collect();
            for config in configs {
                let null = || AlterConfigsError::NullValue(config.name.clone());
                changes.insert(config.name.clone(), Some(config.value.clone().ok_or_else(null)?));
            }
            Ok(changes.into_iter().collect())
        });
        if request.validate_only {
            records.clear();
        }
        let responses = reply.into_iter().map(|(resource_type, resource_name, result)| {
            let (error_code, error_message) = on_wire(result);
            ReplaceResponse { error_code, error_message, resource_type, resource_name }
        });
        let reply = AlterConfigsResponse { responses: responses.collect(), ..Default::default() };
        Outcome { records, reply }
    }

    /// What both APIs share. `resources` are those of the request, each once, with whether it stands there more than
    /// once and its configs; `changes` tells what these mean for a resource that is there.
    fn alter<'a, C: 'a>(
        &self,
        config: &BrokerConfig,
        resources: impl Iterator<Item = (i8, &'a Str, bool, &'a [C])>,
        changes: impl Fn(&ConfigResource, &'a [C]) -> Result<Vec<Change>, AlterConfigsError>,
    ) -> Outcome<MetadataRecord, Vec<Altered>> {
        let mut outcome = Outcome::reply(Vec::new());
        for (resource_type, name, is_duplicate, configs) in resources {
            let altered = if is_duplicate {
                Err(AlterConfigsError::DuplicateResource)
            } else {
                self.resource(resource_type, name)
                    .and_then(|resource| self.altered(config, &resource, changes(&resource, configs)?))
            };
            let result = altered.and_then(|altered| {
                if outcome.records.len() + altered.len() > RECORDS_PER_REQUEST_MAX {
                    return Err(AlterConfigsError::RequestTooLarge);
                }
                outcome.records.extend(altered);
                Ok(())
            });
            outcome.reply.push((resource_type, name.clone(), result));
        }
        outcome
    }

    /// The resource of these names, if it is there.
    fn resource(&self, resource_type: i8, name: &str) -> Result<ConfigResource, AlterConfigsError> {
        let resource = ConfigResource::from_wire(resource_type, name)?;
        match &resource {
            ConfigResource::Topic(name) => {
                validate_topic_name(name)?;
                self.image.topic(name).ok_or_else(|| AlterConfigsError::UnknownTopic(name.clone()))?;
            }
            ConfigResource::Broker(id) => {
                self.image.broker(*id).ok_or(AlterConfigsError::UnknownBroker(*id))?;
            }
            ConfigResource::DefaultBroker => {}
            // A group's may be set before it is there.
            ConfigResource::ClientMetrics(_) | ConfigResource::Group(_) => {
                target(&resource)?;
            }
        }
        Ok(resource)
    }

    fn overrides(&self, resource: &ConfigResource) -> BTreeMap<&str, &str> {
        self.image.config_overrides(resource).collect()
    }

    /// Checks all that the resource would set, and gives the records of what changes.
    fn altered(
        &self,
        config: &BrokerConfig,
        resource: &ConfigResource,
        changes: Vec<Change>,
    ) -> Result<Vec<MetadataRecord>, AlterConfigsError> {
        let current = self.overrides(resource);
        let mut altered = current.clone();
        for (name, value) in &changes {
            if **name == *broker::CORDONED_LOG_DIRS.name() && !self.image.supports_cordons() {
                return Err(AlterConfigsError::CordonsUnsupported);
            }
            match value {
                Some(value) if value.len() > STRING_LEN_MAX => {
                    return Err(AlterConfigsError::ValueTooLong(name.clone()));
                }
                Some(value) => altered.insert(name, value),
                None => altered.remove(&**name),
            };
        }
        let target = target(resource)?;
        validate_configs(config, target, altered).map_err(|error| match target {
            Target::Broker | Target::ClusterDefault => AlterConfigsError::BrokerConfig(error),
            Target::Topic | Target::Group => AlterConfigsError::Config(error),
        })?;
        if target == Target::Group {
            validate_dead_letter_topic(&changes)?;
        }
        let (resource_type, resource_name) = resource.to_wire();
        let changed =
            changes.iter().filter(|(name, value)| current.get(&**name).copied() != value.as_deref());
        let records = changed.map(|(name, value)| {
            let (name, value, resource_name) = (name.clone(), value.clone(), resource_name.clone());
            ConfigRecord { resource_type, resource_name, name, value }.into()
        });
        Ok(records.collect())
    }
}

/// A topic of this name must be possible, and must not be one that coordinators write.
fn validate_dead_letter_topic(changes: &[Change]) -> Result<(), AlterConfigsError> {
    let name = group::ERRORS_DEADLETTERQUEUE_TOPIC_NAME.name();
    let topics =
        changes.iter().filter(|(changed, _)| **changed == *name).filter_map(|(_, topic)| topic.as_ref());
    for topic in topics.filter(|topic| !topic.is_empty()) {
        let reason = match validate_topic_name(topic) {
            Err(error) => error.to_string(),
            Ok(()) if is_internal_topic(topic) || **topic == *CLUSTER_METADATA_TOPIC => {
                "Topic is internal".to_owned()
            }
            Ok(()) => continue,
        };
        let (name, value) = (name.to_owned(), topic.to_string());
        return Err(AlterConfigsError::Config(ConfigError::InvalidValue { name, value, reason }));
    }
    Ok(())
}

/// Whose rules the configs of a resource follow.
const fn target(resource: &ConfigResource) -> Result<Target, AlterConfigsError> {
    match resource {
        ConfigResource::Topic(_) => Ok(Target::Topic),
        ConfigResource::DefaultBroker => Ok(Target::ClusterDefault),
        ConfigResource::Broker(_) => Ok(Target::Broker),
        ConfigResource::ClientMetrics(_) => {
            Err(AlterConfigsError::UnsupportedResource("client metrics subscription"))
        }
        ConfigResource::Group(_) => Ok(Target::Group),
    }
}

fn check_distinct<'a, C>(configs: &'a [C], name: impl Fn(&'a C) -> &'a Str) -> Result<(), AlterConfigsError> {
    match distinct(configs, &name).into_iter().find(|(_, is_duplicate)| *is_duplicate) {
        Some((config, _)) => Err(AlterConfigsError::DuplicateConfig(name(config).clone())),
        None => Ok(()),
    }
}

fn altered_value(
    resource: &ConfigResource,
    current: &BTreeMap<&str, &str>,
    change: &AlterableConfig,
) -> Result<Change, AlterConfigsError> {
    let op = AlterOp::from_code(change.config_operation)
        .ok_or(AlterConfigsError::UnknownOperation(change.config_operation))?;
    if op != AlterOp::Delete && change.value.is_none() {
        return Err(AlterConfigsError::NullValue(change.name.clone()));
    }
    let own = current.get(&*change.name).copied();
    let value = apply_alter_op(target(resource)?, &change.name, own, op, change.value.as_deref())?;
    Ok((change.name.clone(), value.map(Str::from)))
}

fn on_wire(result: Result<(), AlterConfigsError>) -> (i16, Option<Str>) {
    match result {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(error) => (error.error_code().code(), error_message(&error)),
    }
}
