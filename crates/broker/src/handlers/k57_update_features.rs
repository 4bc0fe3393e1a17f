//! UpdateFeatures (key 57, versions 0-2): gives the cluster's features other levels, as `kafka-features` asks for.
//!
//! What is done by version stands in `dohle_controller`'s `features_update.rs`.

use std::ops::RangeInclusive;

use dohle_protocol::messages::UpdateFeaturesRequest;

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=2;

pub(super) fn handle(node: &mut Node, call: Call, request: UpdateFeaturesRequest) {
    let this = node.config.node_id();
    let outcome = node.metadata.controller().handle_update_features(this, &request, call.version);
    node.commit_metadata(call, outcome);
}
