//! What configs can be set for, as `ConfigRecord` and the requests name it.

use std::fmt;

use dohle_types::{BrokerId, Str};

/// Something that has configs of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResource {
    /// A topic.
    Topic(Str),
    /// All brokers of the cluster: an empty name on the wire.
    DefaultBroker,
    /// One broker.
    Broker(BrokerId),
    /// A subscription to client metrics (KIP-714).
    ClientMetrics(Str),
    /// A consumer group (KIP-848).
    Group(Str),
}

/// Why a type and a name are no resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigResourceError {
    /// No such type, or one whose configs are not in the metadata log (`BROKER_LOGGER`).
    #[error(
        "configs cannot be set for resource type {0}; use 2 for a topic, 4 for a broker or 32 for a group"
    )]
    UnknownType(i8),
    /// A broker is named by its id.
    #[error("'{0}' is no broker id; name a broker by its node.id, or all brokers by an empty name")]
    InvalidBrokerId(Str),
    /// There are no defaults of all topics or groups.
    #[error("the resource needs a name; defaults for all topics are set as configs of the brokers")]
    EmptyName,
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

impl ConfigResource {
    /// The resource with this type and name on the wire.
    pub fn from_wire(resource_type: i8, name: &str) -> Result<Self, ConfigResourceError> {
        match resource_type {
            BROKER if name.is_empty() => Ok(Self::DefaultBroker),
            BROKER => match name.parse() {
                Ok(id) if id >= 0 => Ok(Self::Broker(BrokerId(id))),
                _ => Err(ConfigResourceError::InvalidBrokerId(name.into())),
            },
            TOPIC | CLIENT_METRICS | GROUP if name.is_empty() => Err(ConfigResourceError::EmptyName),
            TOPIC => Ok(Self::Topic(name.into())),
            CLIENT_METRICS => Ok(Self::ClientMetrics(name.into())),
            GROUP => Ok(Self::Group(name.into())),
            other => Err(ConfigResourceError::UnknownType(other)),
        }
    }

    /// The type and name on the wire.
    #[must_use]
    pub fn to_wire(&self) -> (i8, Str) {
        match self {
            Self::Topic(name) => (TOPIC, name.clone()),
            Self::DefaultBroker => (BROKER, Str::default()),
            Self::Broker(id) => (BROKER, id.to_string().into()),
            Self::ClientMetrics(name) => (CLIENT_METRICS, name.clone()),
            Self::Group(name) => (GROUP, name.clone()),
        }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::DefaultBroker => f.write_str("default broker"),
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::ClientMetrics(name) => write!(f, "client metrics {name}"),
            Self::Group(name) => write!(f, "group {name}"),
        }
    }
}
