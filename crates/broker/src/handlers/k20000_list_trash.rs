//! ListTrash (key 20000, versions 0-0): the deleted topics that can be brought back, the last first. Dohle's own.
//!
//! A topic is in the trash for `dohle.topic.trash.ms`; see UndeleteTopic. The size is that of its records when it was
//! deleted.

use std::ops::RangeInclusive;

use dohle_protocol::messages::list_trash_response::DeletedTopic;
use dohle_protocol::messages::{ListTrashRequest, ListTrashResponse};

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=0;

pub(super) fn handle(node: &mut Node, call: Call, _: ListTrashRequest) {
    let kept_ms = node.trash_ms().unwrap_or(0);
    let topics = node.trash.topics().into_iter().map(|manifest| DeletedTopic {
        name: manifest.name.clone(),
        topic_id: manifest.topic_id,
        deleted_at_ms: manifest.deleted_at_ms,
        expires_at_ms: manifest.deleted_at_ms.saturating_add(kept_ms),
        size_in_bytes: manifest.size_in_bytes,
        partition_count: i32::try_from(manifest.partitions.len()).unwrap_or(i32::MAX),
    });
    let response = ListTrashResponse { topics: topics.collect(), ..ListTrashResponse::default() };
    node.reply(&call, &response);
}
