//! What DescribeConfigs answers, as Kafka's `ConfigHelper` does: every config, where its value comes from, and
//! under which names and from which sources it could be told.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker_config::{BrokerConfig, check_value};
use crate::group_config::of_group_config;
use crate::row::{Config, Update};
use crate::source::ConfigSource;
use crate::synonyms::{inherited_text, listener_base, of_broker_config, of_topic_config};
use crate::table::others::dynamic_only;
use crate::table::{broker_config, broker_configs, group_configs, topic_configs};
use crate::value::{Kind, Value};

/// One config as DescribeConfigs reports it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigEntry {
    /// The config.
    pub name: String,
    /// Its value in force; `None` where there is none and where it is a secret.
    pub value: Option<String>,
    /// Whether it can be set only in the properties file.
    pub read_only: bool,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether the value is a secret.
    pub is_sensitive: bool,
    /// Everything that tells the value, the strongest first; the first is in force.
    pub synonyms: Vec<ConfigSynonym>,
    /// The type; `None` for names that the table does not know.
    pub kind: Option<Kind>,
    /// What the config does.
    pub documentation: Option<&'static str>,
}

impl ConfigEntry {
    /// Whether the default is in force (version 0 of the answer).
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.source == ConfigSource::Default
    }

    /// The type as the answer carries it; 0 is "unknown".
    #[must_use]
    pub fn type_code(&self) -> i8 {
        self.kind.map_or(0, Kind::code)
    }
}

/// One name and source that tells a config's value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigSynonym {
    /// The name.
    pub name: String,
    /// The value under this name; `None` where it is a secret.
    pub value: Option<String>,
    /// The source.
    pub source: ConfigSource,
}

/// All configs of a topic that sets `overrides`, on a broker.
#[must_use]
pub fn describe_topic<'a>(
    broker: &BrokerConfig,
    overrides: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<ConfigEntry> {
    let overrides: BTreeMap<&str, &str> = overrides.into_iter().collect();
    topic_configs().map(|row| topic_entry(broker, row, overrides.get(row.name).copied())).collect()
}

fn topic_entry(broker: &BrokerConfig, row: &'static Config, own: Option<&str>) -> ConfigEntry {
    let own = own.and_then(|text| check_value(row, text).ok()).map(|value| value.to_string());
    let inherited = of_topic_config(row.name).map(|name| broker_synonyms(broker, name, row.is_sensitive()));
    let own_synonym = own.clone().map(|value| ConfigSynonym {
        name: row.name.to_owned(),
        value: (!row.is_sensitive()).then_some(value),
        source: ConfigSource::Topic,
    });
    let value = own.or_else(|| canonical(row, &inherited_text(broker, row.name)?));
    let synonyms = own_synonym.into_iter().chain(inherited.unwrap_or_default()).collect();
    entry(row.name, Some(row), value, synonyms)
}

/// All configs of a group that sets `overrides`, on a broker.
#[must_use]
pub fn describe_group<'a>(
    broker: &BrokerConfig,
    overrides: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<ConfigEntry> {
    let overrides: BTreeMap<&str, &str> = overrides.into_iter().collect();
    let entries = group_configs().map(|row| {
        let own = overrides.get(row.name).and_then(|text| check_value(row, text).ok());
        let own = own.map(|value| value.to_string());
        let own_synonym = own.clone().map(|value| ConfigSynonym {
            name: row.name.to_owned(),
            value: Some(value),
            source: ConfigSource::Group,
        });
        let mut inherited = broker_synonyms(broker, &of_group_config(row.name), false);
        if inherited.is_empty() {
            let source = ConfigSource::Default;
            inherited.extend(row.default.map(|value| ConfigSynonym {
                name: row.name.to_owned(),
                value: Some(value.to_owned()),
                source,
            }));
        }
        let value = own.or_else(|| inherited.first()?.value.clone());
        entry(row.name, Some(row), value, own_synonym.into_iter().chain(inherited).collect())
    });
    entries.collect()
}

/// All configs of a broker.
#[must_use]
pub fn describe_broker(broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let set = [&broker.per_broker, &broker.cluster_default, &broker.fixed]
        .into_iter()
        .flat_map(|layer| layer.keys());
    let names: BTreeSet<&str> = broker_configs().map(|row| row.name).chain(set.map(String::as_str)).collect();
    names.into_iter().map(|name| broker_entry(broker, name)).collect()
}

/// The configs that are set for all brokers of the cluster.
#[must_use]
pub fn describe_cluster_default(broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let alone = BrokerConfig { cluster_default: broker.cluster_default.clone(), ..BrokerConfig::default() };
    let mut entries: Vec<_> = alone.cluster_default.keys().map(|name| broker_entry(&alone, name)).collect();
    for entry in &mut entries {
        entry.synonyms.retain(|synonym| synonym.source == ConfigSource::DynamicDefaultBroker);
    }
    entries
}

fn broker_entry(broker: &BrokerConfig, name: &str) -> ConfigEntry {
    let row = known(name);
    let value = broker.text(name).map(|text| match row {
        Some(row) => canonical(row, text).unwrap_or_else(|| text.to_owned()),
        None => text.to_owned(),
    });
    let synonyms = broker_synonyms(broker, name, is_sensitive(row));
    entry(name, row, value, synonyms)
}

/// The row of a broker config, of one that exists only at run time, or of one that is set for one listener.
fn known(name: &str) -> Option<&'static Config> {
    let base = listener_base(name).unwrap_or(name);
    broker_config(base).or_else(|| dynamic_only(base))
}

/// What is not known may be a secret.
fn is_sensitive(row: Option<&Config>) -> bool {
    row.is_none_or(Config::is_sensitive)
}

fn entry(
    name: &str,
    row: Option<&'static Config>,
    value: Option<String>,
    synonyms: Vec<ConfigSynonym>,
) -> ConfigEntry {
    let is_sensitive = is_sensitive(row);
    ConfigEntry {
        name: name.to_owned(),
        value: value.filter(|_| !is_sensitive),
        // Kafka looks for the exact name: what is set for one listener counts as read-only.
        read_only: row.is_none_or(|row| row.update == Update::ReadOnly || row.name != name),
        source: synonyms.first().map_or(ConfigSource::Default, |synonym| synonym.source),
        is_sensitive,
        synonyms,
        kind: row.map(|row| row.kind),
        documentation: row.filter(|row| row.name == name).map(|row| row.text),
    }
}

/// Everything that tells the broker config `name`, beginning with that name itself.
fn broker_synonyms(broker: &BrokerConfig, name: &str, is_sensitive: bool) -> Vec<ConfigSynonym> {
    let names = of_broker_config(name);
    let layer = |set: &BTreeMap<String, String>, source| {
        let set = names.iter().filter_map(|name| Some((*name, set.get(*name)?.clone())));
        set.map(|(name, value)| (name, value, source)).collect::<Vec<_>>()
    };
    let defaults = names
        .iter()
        .filter_map(|name| Some((*name, broker_config(name)?.default?.to_owned(), ConfigSource::Default)));
    layer(&broker.per_broker, ConfigSource::DynamicBroker)
        .into_iter()
        .chain(layer(&broker.cluster_default, ConfigSource::DynamicDefaultBroker))
        .chain(layer(&broker.fixed, ConfigSource::StaticBroker))
        .chain(defaults)
        .skip_while(|(synonym, _, _)| *synonym != name)
        .map(|(name, value, source)| ConfigSynonym {
            name: name.to_owned(),
            value: (!is_sensitive).then_some(value),
            source,
        })
        .collect()
}

fn canonical(row: &Config, text: &str) -> Option<String> {
    Value::parse(row.kind, text).ok().map(|value| value.to_string())
}
