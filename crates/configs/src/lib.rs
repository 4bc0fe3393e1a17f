//! All configs of Dohle in one declarative table, and what follows from it: parsing a `server.properties`,
//! the checks of CreateTopics and AlterConfigs, the answers of DescribeConfigs, and the page of the docs.
//!
//! What it is not: it reads no files and acts on no config; it stores no topic's or broker's overrides (the
//! controller's metadata does) and only interprets them.
//!
//! Inputs: the text of a properties file, overrides, and the dynamic configs of the metadata log.
//! Effects: none; everything is a pure function of its arguments.
//!
//! Invariants:
//! 1. A config is one row of the [`table`]; nothing else repeats its name, type, default or range.
//! 2. Every default is of its type and allowed.
//! 3. A [`BrokerConfig`] holds only values that were checked, so reading by [`Key`] cannot fail.
//! 4. A secret never appears in an error, a warning, a report or a `Debug`.
//!
//! Start reading at [`row::Config`] and `table/log.rs`; then [`BrokerConfig`] and [`TopicConfig`].

pub mod row;
pub mod table;
pub mod valid;
pub mod value;

mod alter;
mod broker_config;
mod describe;
mod docs;
mod group_config;
mod listeners;
mod properties;
mod relations;
mod source;
mod synonyms;
mod topic_config;

#[cfg(test)]
mod tests;

pub use alter::{
    AlterOp, ConfigError, Target, apply_alter_op, validate_broker_config, validate_configs,
    validate_topic_config,
};
pub use broker_config::{BrokerConfig, Place, StartError, StartErrors, Warning};
pub use describe::{
    ConfigEntry, ConfigSynonym, describe_broker, describe_cluster_default, describe_group, describe_topic,
};
pub use docs::docs_page;
pub use group_config::GroupConfig;
pub use listeners::{Listener, SecurityProtocol};
pub use properties::{Properties, PropertiesError, Property, escape_value};
pub use row::Key;
pub use source::ConfigSource;
pub use topic_config::{CleanupPolicy, Compression, Durability, MessageTimestampType, TopicConfig};

/// The keys of all broker configs, such as [`broker::LOG_SEGMENT_BYTES`](broker).
pub mod broker {
    pub use crate::table::groups::*;
    pub use crate::table::log::*;
    pub use crate::table::modern_groups::*;
    pub use crate::table::network::*;
    pub use crate::table::node::*;
    pub use crate::table::others::*;
    pub use crate::table::quorum::*;
    pub use crate::table::quotas::*;
    pub use crate::table::remote::*;
    pub use crate::table::replication::*;
    pub use crate::table::security::*;
    pub use crate::table::shares::*;
    pub use crate::table::topics::*;
    pub use crate::table::transactions::*;
}

/// The keys of all group configs, such as [`group::CONSUMER_SESSION_TIMEOUT_MS`](group).
pub mod group {
    pub use crate::table::group::*;
}

/// The keys of all topic configs, such as [`topic::SEGMENT_BYTES`](topic).
pub mod topic {
    pub use crate::table::topic::*;
}
