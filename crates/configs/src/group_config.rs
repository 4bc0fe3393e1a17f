//! The configs of one group: what AlterConfigs checks of them, and how the group coordinator reads them.

use std::collections::BTreeMap;

use crate::alter::ConfigError;
use crate::broker_config::{BrokerConfig, check_value, nearest_name};
use crate::group;
use crate::row::{Config, Key};
use crate::table::{group_config, group_configs};
use crate::value::{Int, Typed as _};

/// The configs of a group of the consumer protocol: its own values over the broker's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupConfig {
    /// `consumer.session.timeout.ms`
    pub consumer_session_timeout_ms: i32,
    /// `consumer.heartbeat.interval.ms`
    pub consumer_heartbeat_interval_ms: i32,
    /// `consumer.assignment.interval.ms`
    pub consumer_assignment_interval_ms: i32,
}

impl GroupConfig {
    /// The configs of a group with these values of its own on a broker. A value that is not allowed counts as not
    /// set.
    #[must_use]
    pub fn resolve<'a>(
        broker: &BrokerConfig,
        overrides: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let overrides: BTreeMap<&str, &str> = overrides.into_iter().collect();
        let value = |key: Key<Int>| int(broker, key.name(), overrides.get(key.name()).copied());
        Self {
            consumer_session_timeout_ms: value(group::CONSUMER_SESSION_TIMEOUT_MS),
            consumer_heartbeat_interval_ms: value(group::CONSUMER_HEARTBEAT_INTERVAL_MS),
            consumer_assignment_interval_ms: value(group::CONSUMER_ASSIGNMENT_INTERVAL_MS),
        }
    }
}

fn int(broker: &BrokerConfig, name: &str, own: Option<&str>) -> i32 {
    let parsed = |text: &str| Int::from_value(check_value(group_config(name)?, text).ok());
    let inherited = || parsed(broker.text(&of_group_config(name))?);
    own.and_then(parsed)
        .or_else(inherited)
        .or_else(|| parsed(group_config(name)?.default?))
        .expect("invariant 2: the default is allowed")
}

/// The broker config from which a group takes its default, if there is one.
pub(crate) fn of_group_config(name: &str) -> String {
    format!("group.{name}")
}

/// Checks one group config on its own.
pub(crate) fn group_row(name: &str) -> Result<&'static Config, ConfigError> {
    group_config(name).ok_or_else(|| ConfigError::UnknownGroupConfig {
        name: name.to_owned(),
        nearest: nearest_name(name, group_configs()),
    })
}

/// Checks all that a group would set: each config on its own, against the broker's limits, and with each other.
pub(crate) fn validate_group_configs(
    broker: &BrokerConfig,
    overrides: BTreeMap<&str, &str>,
) -> Result<(), ConfigError> {
    for (&name, &value) in &overrides {
        let row = group_row(name)?;
        let own = check_value(row, value).map_err(|reason| ConfigError::InvalidValue {
            name: name.to_owned(),
            value: value.to_owned(),
            reason,
        })?;
        let Some(own) = own.as_integer() else { continue };
        // `consumer.session.timeout.ms` has its limits in `group.consumer.min.session.timeout.ms` and `max`.
        let limit = |which: &str| {
            let (protocol, rest) = name.split_once('.')?;
            let name = of_group_config(&format!("{protocol}.{which}.{rest}"));
            let limit = broker.text(&name)?.trim().parse::<i64>().ok()?;
            Some((name, limit))
        };
        if let Some((limit_name, limit)) = limit("min").filter(|&(_, limit)| own < limit) {
            let why = format!("{name} must be greater than or equal to {limit_name}, which is {limit}");
            return Err(ConfigError::Conflict(why));
        }
        if let Some((limit_name, limit)) = limit("max").filter(|&(_, limit)| own > limit) {
            let why = format!("{name} must be less than or equal to {limit_name}, which is {limit}");
            return Err(ConfigError::Conflict(why));
        }
    }
    let config = GroupConfig::resolve(broker, overrides);
    if config.consumer_session_timeout_ms <= config.consumer_heartbeat_interval_ms {
        let why = "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms";
        return Err(ConfigError::Conflict(why.to_owned()));
    }
    Ok(())
}
