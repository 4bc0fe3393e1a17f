//! Records are refused as damaged only where a bit of their partition flipped, or of the one it was forked of.

use std::collections::BTreeSet;

use dohle_broker::Node;
use dohle_protocol::messages::FetchResponse;
use dohle_types::{ErrorCode, TopicId};

use crate::flips::source_of;
use crate::marks::{Mark, Marks};

#[derive(Debug, Default)]
pub(super) struct RefusedIsDamaged {
    /// By directory, in whichever log dir.
    damaged: BTreeSet<String>,
}

impl RefusedIsDamaged {
    pub(super) fn on_flipped(&mut self, directory: &str) {
        self.damaged.insert(directory.to_owned());
    }

    pub(super) fn on_restored(&mut self) {
        self.damaged.clear();
    }

    pub(super) fn is_damaged(&self, directory: &str) -> bool {
        self.damaged.contains(&source_of(directory))
    }

    pub(super) fn check(
        &self,
        node: &Node,
        response: &FetchResponse,
        marks: &mut Marks,
    ) -> Result<(), String> {
        for topic in &response.responses {
            let Some(name) = node.image().topic_by_id(TopicId(topic.topic_id)).map(|topic| &topic.name)
            else {
                continue;
            };
            for partition in &topic.partitions {
                if partition.error_code != ErrorCode::CorruptMessage.code() {
                    continue;
                }
                let directory = format!("{name}-{}", partition.partition_index);
                if !self.is_damaged(&directory) {
                    return Err(format!("{directory} is refused as damaged, and nothing happened to it"));
                }
                marks.sometimes(Mark::DamageRefused, true);
            }
        }
        Ok(())
    }
}
