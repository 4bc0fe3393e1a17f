//! UndeleteTopic (key 20001, versions 0-0): brings a deleted topic back from the trash. Dohle's own.
//!
//! It comes back with its id, records, offsets, configs and the offsets that groups had committed when its deletion
//! was asked for; an offset that a group has committed since then stays. Of several deleted topics of the name the one
//! that was deleted last is meant, unless an id is given. A name that is in use is TOPIC_ALREADY_EXISTS: `NewName` gives
//! it another. The leader epochs of its partitions have grown by one.
//!
//! A transaction that was open in it when it was deleted goes on if its coordinator has it open still. If it has ended
//! meanwhile, it has ended so here as well, unless its producer has begun another one since: then it is aborted here.

use std::ops::RangeInclusive;

use dohle_ledger::Outcome;
use dohle_protocol::messages::{TrashManifest, UndeleteTopicRequest, UndeleteTopicResponse};
use dohle_types::{ErrorCode, Str, TopicId};

use crate::connection::Call;
use crate::ledger_hosts::Then;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=0;

pub(super) fn handle(node: &mut Node, call: Call, request: UndeleteTopicRequest) {
    let restored = records(node, &request).and_then(|_| {
        let manifest = find(node, &request)?;
        let name = new_name(&request);
        node.restore_offsets(&manifest, &name).map_err(|error| {
            refusal(error, "the groups' offsets are still being loaded; try again")
        })
    });
    match restored {
        Ok(ledgers) if ledgers.is_empty() => on_offsets_restored(node, call, &request),
        Ok(ledgers) => node.after_groups(&ledgers, call, Then::Undelete(request)),
        Err(response) => node.reply(&call, &response),
    }
}

/// The groups' offsets are committed: now the topic itself.
pub(crate) fn on_offsets_restored(node: &mut Node, call: Call, request: &UndeleteTopicRequest) {
    match records(node, request) {
        Ok(outcome) => {
            node.trash.restore(TopicId(outcome.reply.topic_id));
            node.commit_metadata(call, outcome);
        }
        Err(response) => node.reply(&call, &response),
    }
}

fn records(
    node: &Node,
    request: &UndeleteTopicRequest,
) -> Result<Outcome<dohle_controller::MetadataRecord, UndeleteTopicResponse>, UndeleteTopicResponse> {
    let manifest = find(node, request)?;
    let name = new_name(request);
    let Outcome { records, reply } = node.metadata.controller().handle_undelete_topic(&manifest, &name);
    reply.map_err(|error| refusal(error.error_code(), &error.to_string()))?;
    let reply = UndeleteTopicResponse { name, topic_id: manifest.topic_id, ..Default::default() };
    Ok(Outcome { records, reply })
}

fn find(node: &Node, request: &UndeleteTopicRequest) -> Result<TrashManifest, UndeleteTopicResponse> {
    let found = node.trash.find(&request.name, TopicId(request.topic_id)).cloned();
    found.ok_or_else(|| {
        refusal(ErrorCode::UnknownTopicOrPartition, "there is no such topic in the trash")
    })
}

fn new_name(request: &UndeleteTopicRequest) -> Str {
    request.new_name.as_ref().unwrap_or(&request.name).clone()
}

fn refusal(error: ErrorCode, message: &str) -> UndeleteTopicResponse {
    UndeleteTopicResponse {
        error_code: error.code(),
        error_message: Some(message.into()),
        ..UndeleteTopicResponse::default()
    }
}
