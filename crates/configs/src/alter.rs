//! What CreateTopics, AlterConfigs and IncrementalAlterConfigs check, and the operations of the latter.

use std::collections::BTreeMap;

use dohle_types::ErrorCode;

use crate::broker_config::{BrokerConfig, check_value, nearest_name};
use crate::group_config::{group_row, validate_group_configs};
use crate::relations;
use crate::row::{Config, Update};
use crate::synonyms::listener_base;
use crate::table::others::{accepted_reason, dynamic_only};
use crate::table::{broker_config, broker_configs, topic_config, topic_configs};
use crate::topic_config::TopicConfig;
use crate::value::{Kind, Value};

/// Why a config cannot be set, as it is told to the client.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no topic config of this name.
    #[error("Unknown topic config name: {name}{}", did_you_mean(.nearest.as_ref()))]
    UnknownTopicConfig {
        /// The name.
        name: String,
        /// The known name that is most like it.
        nearest: Option<&'static str>,
    },
    /// There is no group config of this name.
    #[error("Unknown group config name: {name}{}", did_you_mean(.nearest.as_ref()))]
    UnknownGroupConfig {
        /// The name.
        name: String,
        /// The known name that is most like it.
        nearest: Option<&'static str>,
    },
    /// There is no broker config of this name.
    ///
    /// Differs from Kafka: it stores unknown broker configs for plugins, and so keeps misspelt ones silently.
    #[error("Unknown broker config name: {name}{}", did_you_mean(.nearest.as_ref()))]
    UnknownBrokerConfig {
        /// The name.
        name: String,
        /// The known name that is most like it.
        nearest: Option<&'static str>,
    },
    /// The value is not of the config's type, or not allowed.
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    InvalidValue {
        /// The config.
        name: String,
        /// The value; hidden where it is a secret.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value is needed.
    #[error("Null value not supported for: {0}")]
    NullValue(String),
    /// Values that do not go together.
    #[error("{0}")]
    Conflict(String),
    /// The config can be set only in the properties file.
    #[error("Cannot update these configs dynamically: [{0}]")]
    NotDynamic(String),
    /// The config can be set only for single brokers.
    #[error("Cannot update these configs at default cluster level, broker id must be specified: [{0}]")]
    OnlyPerBroker(String),
    /// The config can be set only for single listeners.
    #[error(
        "These security configs can be dynamically updated only per-listener using the listener prefix: [{0}]"
    )]
    OnlyPerListener(String),
    /// Only lists can be appended to or subtracted from.
    #[error("Can't {op} to key {name} because its type is not LIST.")]
    NotAList {
        /// The config.
        name: String,
        /// The operation.
        op: &'static str,
    },
}

impl ConfigError {
    /// The code on the wire.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopicConfig { .. }
            | Self::UnknownBrokerConfig { .. }
            | Self::UnknownGroupConfig { .. }
            | Self::InvalidValue { .. }
            | Self::NullValue(_)
            | Self::Conflict(_)
            | Self::NotDynamic(_)
            | Self::OnlyPerBroker(_)
            | Self::OnlyPerListener(_)
            | Self::NotAList { .. } => ErrorCode::InvalidConfig,
        }
    }
}

fn did_you_mean(nearest: Option<&&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

/// Whose configs are altered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A topic's.
    Topic,
    /// A group's.
    Group,
    /// One broker's.
    Broker,
    /// Those of all brokers of the cluster.
    ClusterDefault,
}

/// The operation of one entry of IncrementalAlterConfigs (KIP-339).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AlterOp {
    /// Sets the value.
    Set,
    /// Goes back to what is inherited.
    Delete,
    /// Adds to a list what it lacks.
    Append,
    /// Removes from a list.
    Subtract,
}

impl AlterOp {
    /// The operation with this code on the wire.
    #[must_use]
    pub const fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Set => "SET",
            Self::Delete => "DELETE",
            Self::Append => "APPEND",
            Self::Subtract => "SUBTRACT",
        }
    }
}

/// What becomes of a config that is set to `current` (`None`: not set); `None` is "no longer set".
///
/// The result is not yet checked: [`validate_configs`] does so with all of the target's configs together.
pub fn apply_alter_op(
    target: Target,
    name: &str,
    current: Option<&str>,
    op: AlterOp,
    value: Option<&str>,
) -> Result<Option<String>, ConfigError> {
    let value = || value.ok_or_else(|| ConfigError::NullValue(name.to_owned()));
    match op {
        AlterOp::Set => Ok(Some(value()?.to_owned())),
        AlterOp::Delete => Ok(None),
        AlterOp::Append | AlterOp::Subtract => {
            let row = row_of(target, name)?;
            if row.kind != Kind::List {
                return Err(ConfigError::NotAList { name: name.to_owned(), op: op.name() });
            }
            let current = current.or(row.default).unwrap_or_default();
            let mut items = parse_items(row, current)?;
            let altered = parse_items(row, value()?)?;
            items.retain(|item| !altered.contains(item) || op == AlterOp::Append);
            if op == AlterOp::Append {
                let added = altered.into_iter().filter(|item| !items.contains(item)).collect::<Vec<_>>();
                items.extend(added);
            }
            Ok(Some(items.join(",")))
        }
    }
}

fn parse_items(row: &Config, text: &str) -> Result<Vec<String>, ConfigError> {
    let value = Value::parse(row.kind, text).map_err(|reason| invalid(row, text, reason))?;
    Ok(value.as_list().to_vec())
}

fn row_of(target: Target, name: &str) -> Result<&'static Config, ConfigError> {
    match target {
        Target::Topic => topic_config(name).ok_or_else(|| ConfigError::UnknownTopicConfig {
            name: name.to_owned(),
            nearest: nearest_name(name, topic_configs()),
        }),
        Target::Group => group_row(name),
        Target::Broker | Target::ClusterDefault => {
            let base = listener_base(name).unwrap_or(name);
            broker_config(base).or_else(|| dynamic_only(base)).ok_or_else(|| {
                ConfigError::UnknownBrokerConfig {
                    name: name.to_owned(),
                    nearest: nearest_name(name, broker_configs()),
                }
            })
        }
    }
}

fn invalid(row: &Config, value: &str, reason: String) -> ConfigError {
    let value = if row.is_sensitive() { "[hidden]" } else { value };
    ConfigError::InvalidValue { name: row.name.to_owned(), value: value.to_owned(), reason }
}

/// Checks everything that a topic, a broker or the cluster's default would set: each config on its own, and
/// together with what is in force on `broker`.
pub fn validate_configs<'a>(
    broker: &BrokerConfig,
    target: Target,
    entries: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<(), ConfigError> {
    let entries = entries.into_iter().collect();
    match target {
        Target::Topic => validate_topic_configs(broker, entries),
        Target::Group => validate_group_configs(broker, entries),
        Target::Broker | Target::ClusterDefault => validate_broker_configs(broker, target, entries),
    }
}

/// Checks one topic config on its own.
pub fn validate_topic_config(name: &str, value: &str) -> Result<(), ConfigError> {
    let row = row_of(Target::Topic, name)?;
    check_value(row, value).map(|_| ()).map_err(|reason| invalid(row, value, reason))
}

fn validate_topic_configs(broker: &BrokerConfig, overrides: BTreeMap<&str, &str>) -> Result<(), ConfigError> {
    for (name, value) in &overrides {
        validate_topic_config(name, value)?;
    }
    let is_tiered = overrides.get("remote.storage.enable");
    if is_tiered.is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
        let message = "Tiered storage is not available on this broker: remote.storage.enable must be false";
        return Err(ConfigError::Conflict(message.to_owned()));
    }
    let topic = TopicConfig::resolve(broker, overrides);
    let (min, max) = (topic.min_compaction_lag_ms, topic.max_compaction_lag_ms);
    if min > max {
        return Err(ConfigError::Conflict(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        )));
    }
    Ok(())
}

/// Checks one dynamic broker config on its own; `target` is a broker or the cluster's default.
pub fn validate_broker_config(target: Target, name: &str, value: &str) -> Result<(), ConfigError> {
    let is_known = broker_config(name).is_some() || dynamic_only(name).is_some();
    if !is_known && listener_base(name).is_none() && accepted_reason(name).is_some() {
        return Ok(());
    }
    let row = row_of(target, name)?;
    let of_one_listener = row.name != name;
    if row.update == Update::ReadOnly && !of_one_listener {
        return Err(ConfigError::NotDynamic(name.to_owned()));
    }
    if is_store(row.name) && !of_one_listener {
        return Err(ConfigError::OnlyPerListener(name.to_owned()));
    }
    check_value(row, value).map_err(|reason| invalid(row, value, reason))?;
    let per_broker = if of_one_listener {
        !is_cluster_wide_of_listener(row.name)
    } else {
        row.update == Update::PerBroker
    };
    if per_broker && target == Target::ClusterDefault {
        return Err(ConfigError::OnlyPerBroker(name.to_owned()));
    }
    Ok(())
}

/// Keys and certificates, which differ from listener to listener.
fn is_store(name: &str) -> bool {
    name.starts_with("ssl.keystore.") || name.starts_with("ssl.truststore.") || name == "ssl.key.password"
}

/// What may be set for a listener of all brokers at once.
fn is_cluster_wide_of_listener(name: &str) -> bool {
    matches!(name, "max.connections" | "max.connection.creation.rate" | "num.network.threads")
}

/// How the dynamic configs of one broker, or those of all, would stand on `broker`.
fn validate_broker_configs(
    broker: &BrokerConfig,
    target: Target,
    entries: BTreeMap<&str, &str>,
) -> Result<(), ConfigError> {
    for (name, value) in &entries {
        validate_broker_config(target, name, value)?;
    }
    let layer = entries.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let altered = if target == Target::ClusterDefault {
        BrokerConfig { cluster_default: layer, ..broker.clone() }
    } else {
        BrokerConfig { per_broker: layer, ..broker.clone() }
    };
    let mut errors = Vec::new();
    relations::check(&altered, &mut errors);
    errors.first().map_or(Ok(()), |error| Err(ConfigError::Conflict(error.to_string())))
}
