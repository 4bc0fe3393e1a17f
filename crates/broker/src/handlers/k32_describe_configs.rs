//! DescribeConfigs (key 32, versions 1-4): every config of a topic, broker or group, where its value comes from, and what
//! it does.
//!
//! - 3: types and documentation (KIP-569). 4: flexible.
//!
//! A broker's configs are told by that broker only, as in Kafka; an empty name asks for those that are set for all
//! brokers. What is asked for twice is told once. Not served yet: configs of client metrics and loggers.
//! Of a group's configs those of share and streams groups are not known yet.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use dohle_configs::{ConfigEntry, describe_broker, describe_cluster_default, describe_group, describe_topic};
use dohle_controller::{ConfigResource, validate_topic_name};
use dohle_protocol::messages::describe_configs_request::DescribeConfigsResource;
use dohle_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use dohle_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use dohle_types::{ErrorCode, Str};

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 1..=4;

pub(super) fn handle(node: &mut Node, call: Call, request: DescribeConfigsRequest) {
    let mut told = BTreeSet::new();
    let results = request
        .resources
        .iter()
        .filter(|resource| told.insert((resource.resource_type, &resource.resource_name)))
        .map(|resource| {
            let result = DescribeConfigsResult {
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                ..DescribeConfigsResult::default()
            };
            match configs_of(node, resource) {
                Ok(entries) => DescribeConfigsResult {
                    error_message: None,
                    configs: wanted(entries, resource, &request).collect(),
                    ..result
                },
                Err((error, message)) => DescribeConfigsResult {
                    error_code: error.code(),
                    error_message: Some(Str::from(message)),
                    ..result
                },
            }
        })
        .collect();
    node.reply(&call, &DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() });
}

fn configs_of(node: &Node, asked: &DescribeConfigsResource) -> Result<Vec<ConfigEntry>, (ErrorCode, String)> {
    let invalid = |message: String| (ErrorCode::InvalidRequest, message);
    let resource = ConfigResource::from_wire(asked.resource_type, &asked.resource_name)
        .map_err(|error| invalid(error.to_string()))?;
    match &resource {
        ConfigResource::Topic(name) => {
            validate_topic_name(name)
                .map_err(|error| (ErrorCode::InvalidTopicException, error.to_string()))?;
            if node.image().topic(name).is_none() {
                return Err((ErrorCode::UnknownTopicOrPartition, format!("there is no topic {name}")));
            }
            Ok(describe_topic(&node.config, node.image().config_overrides(&resource)))
        }
        ConfigResource::Broker(id) if *id == node.config.node_id() => Ok(describe_broker(&node.config)),
        ConfigResource::Broker(id) => {
            let this = node.config.node_id();
            Err(invalid(format!("this is broker {this}: ask broker {id} for its configs")))
        }
        ConfigResource::DefaultBroker => Ok(describe_cluster_default(&node.config)),
        ConfigResource::Group(_) => {
            Ok(describe_group(&node.config, node.image().config_overrides(&resource)))
        }
        ConfigResource::ClientMetrics(_) => {
            Err(invalid(format!("configs of resource type {} are not served yet", asked.resource_type)))
        }
    }
}

fn wanted<'a>(
    entries: Vec<ConfigEntry>,
    asked: &'a DescribeConfigsResource,
    request: &'a DescribeConfigsRequest,
) -> impl Iterator<Item = DescribeConfigsResourceResult> + 'a {
    let keys =
        asked.configuration_keys.as_ref().map(|keys| keys.iter().map(Str::as_str).collect::<BTreeSet<_>>());
    let is_wanted = move |name: &str| keys.as_ref().is_none_or(|keys| keys.contains(name));
    entries.into_iter().filter(move |entry| is_wanted(&entry.name)).map(|entry| {
        let config_type = entry.type_code();
        let synonyms = entry.synonyms.into_iter().map(|synonym| DescribeConfigsSynonym {
            name: Str::from(synonym.name),
            value: synonym.value.map(Str::from),
            source: synonym.source.code(),
        });
        DescribeConfigsResourceResult {
            name: Str::from(entry.name),
            value: entry.value.map(Str::from),
            read_only: entry.read_only,
            config_source: entry.source.code(),
            is_sensitive: entry.is_sensitive,
            synonyms: if request.include_synonyms { synonyms.collect() } else { Vec::new() },
            config_type,
            documentation: entry.documentation.filter(|_| request.include_documentation).map(Str::from),
        }
    })
}
