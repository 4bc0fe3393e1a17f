//! ApiVersions (key 18, versions 0-4): what this node serves.
//!
//! - 3: the client's software name and version, which must be of KIP-511's form; flexible, but the response
//!   header stays at version 0, since the client does not know yet what the broker speaks.
//! - 4: a feature may be supported from level 0 (KIP-1022).
//! - A version that is not served is answered in version 0 with UNSUPPORTED_VERSION (see `Node::refuse_version`).
//!
//! Produce is named from version 0 though 0-2 are refused (KAFKA-18659).

use std::ops::RangeInclusive;

use dohle_controller::SUPPORTED_FEATURES;
use dohle_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use dohle_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use dohle_types::{ErrorCode, Str};

use super::APIS;
use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=4;

pub(super) fn handle(node: &mut Node, call: Call, request: ApiVersionsRequest) {
    let valid = |text: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(inner)
    };
    if call.version >= 3
        && !(valid(&request.client_software_name) && valid(&request.client_software_version))
    {
        let error_code = ErrorCode::InvalidRequest.code();
        return node.reply(&call, &ApiVersionsResponse { error_code, ..ApiVersionsResponse::default() });
    }
    let image = node.image();
    let supported_features = SUPPORTED_FEATURES
        .iter()
        .filter(|feature| call.version >= 4 || feature.min_level > 0)
        .map(|feature| SupportedFeatureKey {
            name: Str::from(feature.name),
            min_version: feature.min_level,
            max_version: feature.max_level,
        })
        .collect();
    let finalized_features = image
        .finalized_features()
        .map(|(name, level)| FinalizedFeatureKey {
            name: Str::from(name),
            max_version_level: level,
            min_version_level: level,
        })
        .collect();
    let response = ApiVersionsResponse {
        supported_features,
        finalized_features,
        finalized_features_epoch: image.end_offset().0 - 1,
        ..served()
    };
    node.reply(&call, &response);
}

/// The response without the features, which only a node that has booted knows.
#[must_use]
pub fn served() -> ApiVersionsResponse {
    let api_keys = APIS
        .iter()
        .map(|api| ApiVersion {
            api_key: api.key.code(),
            min_version: api.advertised_from,
            max_version: *api.versions.end(),
        })
        .collect();
    ApiVersionsResponse { api_keys, ..ApiVersionsResponse::default() }
}
