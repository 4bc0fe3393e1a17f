//! InitProducerId (key 22, versions 0-5): an id for an idempotent producer, or that of a transactional id with an epoch
//! that fences the producers before it.
//!
//! - 3: a producer may bring the id and epoch it has (KIP-360). An idempotent one gets a new id with epoch 0; only
//!   transactional producers have their epoch bumped.
//! - 4: PRODUCER_FENCED (KIP-588). 5: of clients that know TRANSACTION_ABORTABLE (KIP-890).

use std::ops::RangeInclusive;

use dohle_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use dohle_types::{ErrorCode, ProducerId};
use dohle_controller::{MetadataRecord, ProducerIdsError};

use crate::connection::Call;
use crate::ledger_hosts::Held;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=5;

pub(crate) fn handle(node: &mut Node, call: Call, request: InitProducerIdRequest) {
    match node.reserve_producer_ids() {
        Ok(Some(records)) => return node.hold_metadata(records, Held::InitProducerId(call, request)),
        Ok(None) => {}
        Err(error) => {
            tracing::error!(%error, "no producer ids can be reserved");
            return answer(node, &call, Err(ErrorCode::CoordinatorLoadInProgress));
        }
    }
    let Some(transactional_id) = request.transactional_id.clone() else {
        let id = node.producer_ids.take().ok_or(ErrorCode::CoordinatorLoadInProgress);
        return answer(node, &call, id);
    };
    let version = call.version;
    node.ask_txns(
        call,
        &transactional_id,
        refusal,
        |ledger, turn| ledger.init_producer_id(turn, version, &request),
    );
}

impl Node {
    /// Sees to it that there is a producer id to give: the records, maybe none, after whose commit there is one; `None`
    /// where there is one now.
    pub(crate) fn reserve_producer_ids(&mut self) -> Result<Option<Vec<MetadataRecord>>, ProducerIdsError> {
        if self.producer_ids.has_more() {
            return Ok(None);
        }
        if self.producer_ids.is_reserving() {
            return Ok(Some(Vec::new()));
        }
        let broker = self.config.node_id();
        let broker_epoch = self.image().broker(broker).map_or(-1, |registered| registered.epoch);
        let outcome = self.metadata.controller().handle_allocate_producer_ids(broker, broker_epoch);
        let block = outcome.reply?;
        self.producer_ids.reserve(block.first.0..block.first.0 + block.len);
        Ok(Some(outcome.records))
    }
}

fn answer(node: &mut Node, call: &Call, id: Result<ProducerId, ErrorCode>) {
    let response = match id {
        Ok(id) => InitProducerIdResponse { producer_id: id.0, ..InitProducerIdResponse::default() },
        Err(error) => refusal(error),
    };
    node.reply(call, &response);
}

fn refusal(error: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse { error_code: error.code(), producer_epoch: -1, ..InitProducerIdResponse::default() }
}
