//! DeleteTopics (key 20, versions 1-6): deletes topics and their records.
//!
//! What is done by version stands in `dohle_controller`'s `topics_delete.rs`. Where `dohle.topic.trash.ms` is not 0 a
//! topic goes into the trash, from which UndeleteTopic brings it back.

use std::ops::RangeInclusive;

use dohle_controller::MetadataRecord;
use dohle_protocol::messages::{DeleteTopicsRequest, TrashManifest};
use dohle_types::TopicId;

use crate::connection::Call;
use crate::host::DiskJob;
use crate::jobs::WriteCheckpoints;
use crate::node::Node;
use crate::started_jobs::JobPurpose;
use crate::trash_files::{encode, manifest_path};

pub(super) const VERSIONS: RangeInclusive<i16> = 1..=6;

/// A deletion that waits until the manifests of its topics are on the disk.
#[derive(Debug, Clone)]
pub struct Deletion {
    call: Call,
    request: DeleteTopicsRequest,
    manifests: Vec<TrashManifest>,
}

pub(super) fn handle(node: &mut Node, call: Call, request: DeleteTopicsRequest) {
    on_manifests_written(node, Deletion { call, request, manifests: Vec::new() });
}

/// Deletes the topics, if they have all they need to be brought back; a topic may have come and another gone while
/// the manifests were written.
pub(crate) fn on_manifests_written(node: &mut Node, deletion: Deletion) {
    let Deletion { call, request, mut manifests } = deletion;
    let outcome = node.metadata.controller().handle_delete_topics(&node.config, call.version, &request);
    let deleted = outcome.records.iter().filter_map(|record| {
        if let MetadataRecord::RemoveTopic(removed) = record { Some(TopicId(removed.topic_id)) } else { None }
    });
    let mut files = Vec::new();
    let is_kept = |manifests: &[TrashManifest], id: TopicId| {
        manifests.iter().any(|manifest| manifest.topic_id == id.0)
    };
    let has_trash = node.trash_ms().is_some();
    for topic_id in deleted.filter(|_| has_trash) {
        // A topic whose creation is not committed yet holds nothing.
        let Some(topic) = node.image().topic_by_id(topic_id).filter(|_| !is_kept(&manifests, topic_id)) else {
            continue;
        };
        let manifest = node.manifest_of(topic);
        if let Ok(file) = encode(&manifest) {
            node.trash.begin_deletion(topic_id);
            files.push((manifest_path(node.log_dirs.of_metadata_log(), topic_id), file));
            manifests.push(manifest);
        }
    }
    if files.is_empty() {
        manifests.into_iter().for_each(|manifest| node.trash.expect(manifest));
        return node.commit_metadata(call, outcome);
    }
    let purpose = JobPurpose::Delete(Box::new(Deletion { call, request, manifests }));
    node.start_job(purpose, DiskJob::Checkpoint(Box::new(WriteCheckpoints::new(files))));
}

/// The manifests cannot be written, for the disk is full: who deletes then wants room, and gets it for good.
pub(crate) fn on_no_room(node: &mut Node, deletion: Deletion) {
    tracing::warn!("the disk is too full for the trash: topics are deleted for good");
    let Deletion { call, request, manifests } = deletion;
    manifests.iter().for_each(|manifest| node.trash.give_up(TopicId(manifest.topic_id)));
    let outcome = node.metadata.controller().handle_delete_topics(&node.config, call.version, &request);
    node.commit_metadata(call, outcome);
}
