//! ListConfigResources (key 74, versions 0-1): which resources have configs (KIP-1142).
//!
//! - 0: subscriptions to client metrics alone, of which there are none: they are not served yet.
//! - 1: by resource type. All topics and brokers have configs; a group is named if some were set for it. Loggers have
//!   none yet.

use std::ops::RangeInclusive;

use dohle_controller::ConfigResource;
use dohle_protocol::messages::list_config_resources_response::ConfigResource as Listed;
use dohle_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use dohle_types::{ErrorCode, Str};

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=1;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

pub(super) fn handle(node: &mut Node, call: Call, request: ListConfigResourcesRequest) {
    let supported: &[i8] = match call.version {
        0 => &[CLIENT_METRICS],
        _ => &[TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP],
    };
    let asked = if request.resource_types.is_empty() { supported } else { &request.resource_types[..] };
    let response = if asked.iter().all(|wanted| supported.contains(wanted)) {
        let types = supported.iter().rev().filter(|served| asked.contains(served));
        let listed = types.flat_map(|&resource_type| {
            let names = names(node, resource_type).into_iter();
            names.map(move |resource_name| Listed { resource_name, resource_type })
        });
        ListConfigResourcesResponse { config_resources: listed.collect(), ..Default::default() }
    } else {
        let error_code = ErrorCode::UnsupportedVersion.code();
        ListConfigResourcesResponse { error_code, ..Default::default() }
    };
    node.reply(&call, &response);
}

fn names(node: &Node, resource_type: i8) -> Vec<Str> {
    let image = node.image();
    match resource_type {
        TOPIC => image.topics().map(|topic| topic.name.clone()).collect(),
        BROKER => image.brokers().map(|broker| broker.id.to_string().into()).collect(),
        GROUP => {
            let mut groups = Vec::new();
            for resource in image.config_resources() {
                if let ConfigResource::Group(name) = resource {
                    groups.push(name.clone());
                }
            }
            groups
        }
        _ => Vec::new(),
    }
}
