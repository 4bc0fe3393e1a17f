//! The configs of one broker: from its properties file, overrides and the dynamic configs of the cluster.

use std::collections::BTreeMap;
use std::fmt;

use crate::broker::{BROKER_ID, NODE_ID};
use crate::listeners;
use crate::properties::{Properties, PropertiesError};
use crate::relations;
use crate::row::{Config, Effect, Key};
use crate::source::ConfigSource;
use crate::table::others::{accepted_reason, dynamic_only};
use crate::table::{broker_config, broker_configs};
use crate::value::{Kind, Typed, Value};

/// All configs of a broker, as they are in force.
///
/// A value set for this broker while it runs goes before one set for the whole cluster, that before the
/// properties file and its overrides, and these before the default.
#[derive(Clone, Default)]
pub struct BrokerConfig {
    pub(crate) fixed: BTreeMap<String, String>,
    pub(crate) cluster_default: BTreeMap<String, String>,
    pub(crate) per_broker: BTreeMap<String, String>,
}

impl BrokerConfig {
    /// Reads the text of a properties file and overrides of the form `name=value`, which go before the file.
    ///
    /// All errors are collected; warnings name what was set and has no effect.
    pub fn parse(file: &str, overrides: &[String]) -> Result<(Self, Vec<Warning>), StartErrors> {
        let properties = Properties::parse(file).map_err(|error| StartErrors(vec![error.into()]))?;
        let mut errors = Vec::new();
        let mut settings: BTreeMap<String, Setting> = properties
            .entries
            .into_iter()
            .map(|entry| (entry.name, Setting { value: entry.value, place: Place::Line(entry.line) }))
            .collect();
        for text in overrides {
            match text.split_once('=') {
                Some((name, value)) => {
                    let setting = Setting { value: value.trim().to_owned(), place: Place::Override };
                    settings.insert(name.trim().to_owned(), setting);
                }
                None => errors.push(StartError::NotAnOverride { text: text.clone() }),
            }
        }

        let mut warnings = Vec::new();
        for (name, setting) in &settings {
            match check_setting(name, setting) {
                Ok(warning) => warnings.extend(warning),
                Err(error) => errors.push(error),
            }
        }
        errors.sort_by_key(StartError::place);
        warnings.sort_by_key(|warning| warning.place);
        let mut fixed: BTreeMap<_, _> =
            settings.into_iter().map(|(name, setting)| (name, setting.value)).collect();
        fill_node_id(&mut fixed);
        let config = Self { fixed, ..Self::default() };
        if errors.is_empty() {
            relations::check(&config, &mut errors);
            listeners::check(&config, &mut errors);
        }
        if errors.is_empty() { Ok((config, warnings)) } else { Err(StartErrors(errors)) }
    }

    /// The same broker with these dynamic configs in place of those it had.
    ///
    /// A value that is not allowed, which only a data directory of another origin can hold, is left out.
    #[must_use]
    pub fn with_dynamic<'a>(
        &self,
        cluster_default: impl IntoIterator<Item = (&'a str, &'a str)>,
        per_broker: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        Self {
            fixed: self.fixed.clone(),
            cluster_default: checked(cluster_default),
            per_broker: checked(per_broker),
        }
    }

    /// The value in force.
    #[must_use]
    pub fn value<T: Typed>(&self, key: Key<T>) -> T {
        let value = self.text(key.name()).and_then(|text| Value::parse(T::KIND, text).ok());
        T::from_value(value).expect("invariant 3: a config in force was checked when it was set")
    }

    /// The text in force; `None` where nothing is set and there is no default, and for unknown names.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let row = || broker_config(name).or_else(|| dynamic_only(name));
        self.set_text(name).or_else(|| row()?.default)
    }

    /// The text that is set, whether or not it equals the default.
    pub(crate) fn set_text(&self, name: &str) -> Option<&str> {
        let layers = [&self.per_broker, &self.cluster_default, &self.fixed];
        layers.into_iter().find_map(|layer| layer.get(name)).map(String::as_str)
    }

    /// Where the value in force comes from.
    #[must_use]
    pub fn source<T>(&self, key: Key<T>) -> ConfigSource {
        let name = key.name();
        if self.per_broker.contains_key(name) {
            ConfigSource::DynamicBroker
        } else if self.cluster_default.contains_key(name) {
            ConfigSource::DynamicDefaultBroker
        } else if self.fixed.contains_key(name) {
            ConfigSource::StaticBroker
        } else {
            ConfigSource::Default
        }
    }
}

/// Shows which names are set, not their values: some are secrets.
impl fmt::Debug for BrokerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerConfig")
            .field("fixed", &self.fixed.keys())
            .field("cluster_default", &self.cluster_default.keys())
            .field("per_broker", &self.per_broker.keys())
            .finish()
    }
}

/// A value together with where the user has written it.
struct Setting {
    value: String,
    place: Place,
}

/// Where the user has set a value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// In this line of the properties file, from 1.
    Line(usize),
    /// In an override.
    Override,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Override => f.write_str("override"),
        }
    }
}

/// Something that was set and will not do what the user may expect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    /// The config.
    pub name: String,
    /// Where it is set.
    pub place: Place,
    /// Why it does nothing.
    pub reason: &'static str,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({}) has no effect: {}", self.name, self.place, self.reason)
    }
}

/// Why a broker cannot start with these configs.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StartError {
    /// The file is not in the properties format.
    #[error(transparent)]
    Properties(#[from] PropertiesError),
    /// An override lacks its `=`.
    #[error("override `{text}` is not of the form name=value")]
    NotAnOverride {
        /// The override.
        text: String,
    },
    /// There is no config of this name.
    #[error("unknown config `{name}` ({place}){}", did_you_mean(.nearest.as_ref()))]
    UnknownName {
        /// The name.
        name: String,
        /// Where it is set.
        place: Place,
        /// The known name that is most like it.
        nearest: Option<&'static str>,
    },
    /// The value is not of the config's type, or not allowed.
    #[error("invalid value `{value}` for `{name}` ({place}): {reason}{}", hint(.name))]
    InvalidValue {
        /// The config.
        name: String,
        /// The value.
        value: String,
        /// Where it is set.
        place: Place,
        /// What is wrong with it.
        reason: String,
    },
    /// Values that do not go together.
    #[error("{0}")]
    Conflict(String),
}

impl StartError {
    /// For sorting: the lines of the file, then the overrides.
    fn place(&self) -> Place {
        match self {
            Self::Properties(error) => Place::Line(error.line),
            Self::UnknownName { place, .. } | Self::InvalidValue { place, .. } => *place,
            Self::NotAnOverride { .. } | Self::Conflict(_) => Place::Override,
        }
    }
}

/// Everything that keeps a broker from starting, one line each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartErrors(pub Vec<StartError>);

impl fmt::Display for StartErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for StartErrors {}

fn did_you_mean(nearest: Option<&&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!(": did you mean `{name}`?"))
}

/// Says what is allowed, with an example that works.
fn hint(name: &str) -> String {
    let Some(row) = broker_config(name) else { return String::new() };
    let allowed = row.valid.to_string();
    let allowed = if allowed.is_empty() { String::new() } else { format!(", {allowed}") };
    let example = match (row.default, row.kind) {
        (Some(default), _) if !default.is_empty() => default,
        (_, Kind::Int | Kind::Short | Kind::Long | Kind::Double) => "1000",
        (_, Kind::Boolean | Kind::String | Kind::List | Kind::Class | Kind::Password) => {
            return String::new();
        }
    };
    format!("; expected {}{allowed}; for example `{name}={example}`", row.kind.name())
}

/// `node.id` and `broker.id` are one value; set once, it counts as set under both names.
fn fill_node_id(fixed: &mut BTreeMap<String, String>) {
    for (from, to) in [(NODE_ID.name(), BROKER_ID.name()), (BROKER_ID.name(), NODE_ID.name())] {
        if !fixed.contains_key(to)
            && let Some(id) = fixed.get(from).cloned()
        {
            fixed.insert(to.to_owned(), id);
        }
    }
}

/// Checks one setting on its own.
fn check_setting(name: &str, setting: &Setting) -> Result<Option<Warning>, StartError> {
    let warn = |reason| Warning { name: name.to_owned(), place: setting.place, reason };
    let Some(row) = broker_config(name) else {
        return match accepted_reason(name) {
            Some(reason) => Ok(Some(warn(reason))),
            None => Err(StartError::UnknownName {
                name: name.to_owned(),
                place: setting.place,
                nearest: nearest_name(name, broker_configs()),
            }),
        };
    };
    match check_value(row, &setting.value) {
        Ok(value) => match row.effect {
            Effect::WithoutEffect(reason) if row.default != Some(value.to_string().as_str()) => {
                Ok(Some(warn(reason)))
            }
            Effect::WithoutEffect(_) | Effect::InForce => Ok(None),
        },
        Err(reason) => Err(StartError::InvalidValue {
            name: name.to_owned(),
            value: setting.value.clone(),
            place: setting.place,
            reason,
        }),
    }
}

/// Parses a value and checks that it is allowed; the error is the reason, in Kafka's wording.
pub(crate) fn check_value(row: &Config, text: &str) -> Result<Value, String> {
    let value = Value::parse(row.kind, text)?;
    row.valid.check(row.name, &value)?;
    Ok(value)
}

/// The name most like `name`, if any is like it at all.
pub(crate) fn nearest_name(name: &str, rows: impl Iterator<Item = &'static Config>) -> Option<&'static str> {
    rows.map(|row| (strsim::jaro_winkler(name, row.name), row.name))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// What of a dynamic layer is known and valid.
fn checked<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    let is_valid = |name: &str, value: &str| match broker_config(name).or_else(|| dynamic_only(name)) {
        Some(row) => check_value(row, value).is_ok(),
        None => accepted_reason(name).is_some(),
    };
    let entries = entries.into_iter().filter(|(name, value)| is_valid(name, value));
    entries.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
