//! Offsets of a topic that is deleted, and that may come back.

use dohle_types::{Str, TopicId};

use crate::expiry::Batch;
use crate::offsets_fetch::is_same_topic;
use crate::state::CommittedOffset;
use crate::{Effects, GroupLedger, Progress, records};

impl GroupLedger {
    /// What groups have committed for a topic.
    pub fn offsets_of(
        &self,
        topic: &str,
        topic_id: TopicId,
    ) -> impl Iterator<Item = (&Str, i32, &CommittedOffset)> {
        self.state.groups().flat_map(move |(group_id, durable)| {
            let partitions = durable.offsets.get(topic).into_iter().flatten();
            let of_topic = partitions.filter(move |(_, at)| is_same_topic(at.topic_id, topic_id));
            of_topic.map(move |(&partition, committed)| (group_id, partition, committed))
        })
    }

    /// Commits offsets again where the group has none now, as far as one batch goes.
    pub fn restore_offsets(
        &self,
        topic: &Str,
        offsets: &[(Str, i32, CommittedOffset)],
        effects: &mut Effects,
    ) -> Progress {
        let mut batch = Batch::new(self.config.batch_bytes_max, effects);
        for (group_id, partition, committed) in offsets {
            let known = self.state.group(group_id).and_then(|group| group.offset(topic, *partition));
            if known.is_none()
                && batch.push(records::offset_commit(group_id, topic, *partition, committed)).is_err()
            {
                return Progress::More;
            }
        }
        Progress::Done
    }
}
