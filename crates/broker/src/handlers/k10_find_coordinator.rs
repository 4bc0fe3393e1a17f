//! FindCoordinator (key 10, versions 0-6): which broker coordinates a group, or a transactional id.
//!
//! The internal topic is created by the first request that needs it, and the request is answered when it is
//! there (Kafka answers COORDINATOR_NOT_AVAILABLE and has the client ask again).
//!
//! - 1: key types and error messages. 3: flexible. 4: many keys at once (KIP-699). 6: share groups (KIP-932).
//!
//! Not served yet: the coordinators of share groups (key type 2), which are refused with INVALID_REQUEST.

use std::ops::RangeInclusive;

use dohle_controller::TRANSACTION_STATE_TOPIC;
use dohle_protocol::messages::find_coordinator_response::Coordinator;
use dohle_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use dohle_types::{ErrorCode, Str};

use crate::connection::Call;
use crate::group_hosts::OFFSETS_TOPIC;
use crate::ledger_hosts::Held;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=6;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(crate) fn handle(node: &mut Node, call: Call, request: FindCoordinatorRequest) {
    let topic = match request.key_type {
        GROUP => Some(OFFSETS_TOPIC),
        TRANSACTION => Some(TRANSACTION_STATE_TOPIC),
        _ => None,
    };
    if let Some(topic) = topic.filter(|topic| node.image().topic(topic).is_none()) {
        match node.auto_create(&[Str::from(topic)]) {
            Ok(records) => return node.hold_metadata(records, Held::FindCoordinator(call, request)),
            Err(error) => {
                let code = ErrorCode::CoordinatorNotAvailable;
                return answer(node, &call, &request, Some((code, error.to_string())));
            }
        }
    }
    let refusal = topic
        .is_none()
        .then(|| (ErrorCode::InvalidRequest, "share groups are not served yet".to_owned()));
    answer(node, &call, &request, refusal);
}

fn answer(
    node: &mut Node,
    call: &Call,
    request: &FindCoordinatorRequest,
    refusal: Option<(ErrorCode, String)>,
) {
    let keys = if call.version >= 4 { request.coordinator_keys.clone() } else { vec![request.key.clone()] };
    let (host, port) = node.endpoint_for(call);
    let coordinators: Vec<Coordinator> = keys
        .into_iter()
        .map(|key| {
            let refusal = refusal.clone().or_else(|| {
                let invalid = key.is_empty() && call.version >= 4;
                invalid.then(|| (ErrorCode::InvalidGroupId, "a group id must not be empty".to_owned()))
            });
            match refusal {
                None => Coordinator {
                    key,
                    node_id: node.config.node_id().0,
                    host: host.clone(),
                    port,
                    ..Coordinator::default()
                },
                Some((error, message)) => Coordinator {
                    key,
                    node_id: -1,
                    port: -1,
                    error_code: error.code(),
                    error_message: Some(Str::from(message)),
                    ..Coordinator::default()
                },
            }
        })
        .collect();
    let response = match coordinators.as_slice() {
        [only] if call.version < 4 => FindCoordinatorResponse {
            error_code: only.error_code,
            error_message: only.error_message.clone(),
            node_id: only.node_id,
            host: only.host.clone(),
            port: only.port,
            ..FindCoordinatorResponse::default()
        },
        _ => FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() },
    };
    node.reply(call, &response);
}
