//! DescribeCluster (key 60, versions 0-2): the cluster's id, controller and brokers.
//!
//! - 1: the endpoint type (KIP-919): brokers (1). Controllers (2) answer on their own listener, which there is none of.
//! - 2: fenced brokers (KIP-1073): a node that answers is not fenced, and it is the only one.

use std::ops::RangeInclusive;

use dohle_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use dohle_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use dohle_types::{ErrorCode, Str};

use super::authorized_operations;
use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=2;

const BROKERS: i8 = 1;

pub(super) fn handle(node: &mut Node, call: Call, request: DescribeClusterRequest) {
    if call.version >= 1 && request.endpoint_type != BROKERS {
        let response = DescribeClusterResponse {
            error_code: ErrorCode::MismatchedEndpointType.code(),
            error_message: Some(Str::from("this is a broker's listener: ask for endpoint type 1")),
            ..DescribeClusterResponse::default()
        };
        return node.reply(&call, &response);
    }
    let (host, port) = node.endpoint_for(&call);
    let node_id = node.config.node_id();
    let rack = node.image().broker(node_id).and_then(|registered| registered.rack.clone());
    let this = DescribeClusterBroker {
        broker_id: node_id.0,
        host,
        port,
        rack,
        ..DescribeClusterBroker::default()
    };
    let operations = request.include_cluster_authorized_operations;
    let response = DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: Str::from(&*node.metadata.identity().cluster_id),
        controller_id: node_id.0,
        brokers: vec![this],
        cluster_authorized_operations: if operations { authorized_operations::CLUSTER } else { i32::MIN },
        ..DescribeClusterResponse::default()
    };
    node.reply(&call, &response);
}
