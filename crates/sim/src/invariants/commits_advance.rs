//! Within a generation, or an epoch, of a group, what is committed of a partition never goes back: its owner reads on from
//! what was committed, and only reads on. Resets make a new generation (`groups/src/offsets_reset.rs`).

use std::collections::BTreeMap;

use dohle_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use dohle_types::{ErrorCode, Str, TopicId};

use crate::marks::{Mark, Marks};

#[derive(Debug, Default)]
pub(super) struct CommitsAdvance {
    /// The highest offset by group, epoch, topic (by name or by id, as clients name it) and partition.
    committed: BTreeMap<(Str, i32, Str, TopicId, i32), i64>,
}

impl CommitsAdvance {
    pub(super) fn check(
        &mut self,
        asked: &OffsetCommitRequest,
        response: &OffsetCommitResponse,
        marks: &mut Marks,
    ) -> Result<(), String> {
        let (group, epoch) = (&asked.group_id, asked.generation_id_or_member_epoch);
        if epoch < 0 {
            // Tools and simple consumers are in no generation.
            return Ok(());
        }
        for (topic, answered) in asked.topics.iter().zip(&response.topics) {
            for (partition, answered) in topic.partitions.iter().zip(&answered.partitions) {
                let (index, offset) = (partition.partition_index, partition.committed_offset);
                if index != answered.partition_index || answered.error_code != ErrorCode::None.code() {
                    continue;
                }
                let place = (group.clone(), epoch, topic.name.clone(), TopicId(topic.topic_id), index);
                let before = self.committed.get(&place).copied();
                if let Some(before) = before.filter(|&before| offset < before) {
                    let topic =
                        if topic.name.is_empty() { place.3.to_string() } else { topic.name.to_string() };
                    return Err(format!(
                        "group {group} epoch {epoch}: what is committed of {topic}-{index} went from {before} to \
                         {offset}"
                    ));
                }
                marks.sometimes(Mark::CommitAdvanced, before.is_some_and(|before| offset > before));
                self.committed.insert(place, offset);
            }
        }
        Ok(())
    }
}
