//! InitProducerId (key 22, versions 0-5): an id for an idempotent producer.
//!
//! - 3: an idempotent producer may bring the id and epoch it has (KIP-360); it gets a new id with epoch 0, as in
//!   Kafka, where only transactional producers have their epoch bumped.
//!
//! Not served yet: transactional producers, which are refused with INVALID_REQUEST.

use std::ops::RangeInclusive;

use dohle_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use dohle_types::{ErrorCode, ProducerId};

use crate::connection::Call;
use crate::ledger_hosts::Held;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=5;

pub(crate) fn handle(node: &mut Node, call: Call, request: InitProducerIdRequest) {
    if request.transactional_id.is_some() {
        return answer(node, &call, Err(ErrorCode::InvalidRequest));
    }
    if let Some(id) = node.producer_ids.take() {
        return answer(node, &call, Ok(id));
    }
    if node.producer_ids.is_reserving() {
        return node.hold_metadata(Vec::new(), Held::InitProducerId(call, request));
    }
    let broker = node.config.node_id();
    let broker_epoch = node.image().broker(broker).map_or(-1, |registered| registered.epoch);
    let outcome = node.metadata.controller().handle_allocate_producer_ids(broker, broker_epoch);
    match outcome.reply {
        Ok(block) => {
            node.producer_ids.reserve(block.first.0..block.first.0 + block.len);
            node.hold_metadata(outcome.records, Held::InitProducerId(call, request));
        }
        Err(error) => {
            tracing::error!(%error, "no producer ids can be reserved");
            answer(node, &call, Err(ErrorCode::CoordinatorLoadInProgress));
        }
    }
}

fn answer(node: &mut Node, call: &Call, id: Result<ProducerId, ErrorCode>) {
    let response = match id {
        Ok(id) => InitProducerIdResponse { producer_id: id.0, ..InitProducerIdResponse::default() },
        Err(error) => InitProducerIdResponse {
            error_code: error.code(),
            producer_epoch: -1,
            ..InitProducerIdResponse::default()
        },
    };
    node.reply(call, &response);
}
