//! OffsetFetch (key 9, versions 1-10): how far a group has come.
//!
//! Since version 8 a request asks for several groups (KIP-709), which may live in different partitions of
//! `__consumer_offsets`: the host asks ledger by ledger, and brings the one group of earlier versions into the
//! newer form. Version 9 lets members of the consumer protocol identify themselves, which means nothing to a
//! classic group; see `consumer/offsets.rs`. Version 10: topic ids instead of names; the host sets the names (and leaves out, with an error,
//! the ids it does not know) and hands back the ids it is handed back. Where all topics were asked for, the
//! response has names, and the ids that were stored; the host has the last word on those.
//!
//! A group that does not exist has no offsets, which is not an error. The answer waits for the commit of what it tells.
//! Version 7: who asks for stable offsets is told UNSTABLE_OFFSET_COMMIT where an open transaction commits some (KIP-447).

use dohle_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use dohle_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use dohle_types::{ErrorCode, Str, TopicId};

use crate::GroupLedger;
use crate::state::CommittedOffset;

impl GroupLedger {
    /// The offsets of one group: of the partitions asked for, or all.
    #[must_use]
    pub fn fetch_offsets(
        &self,
        request: &OffsetFetchRequestGroup,
        require_stable: bool,
    ) -> OffsetFetchResponseGroup {
        let is_unstable = |topic: &Str, partition: i32| {
            require_stable && self.state.pending.contains(&request.group_id, topic, partition)
        };
        let group = self.state.group(&request.group_id);
        if let Some(consumer) = group.and_then(|group| group.consumer.as_ref())
            && let Err(error) = consumer.validate_fetch(request.member_id.as_ref(), request.member_epoch)
        {
            return OffsetFetchResponseGroup {
                group_id: request.group_id.clone(),
                error_code: error.code().code(),
                ..OffsetFetchResponseGroup::default()
            };
        }
        let topics = match &request.topics {
            Some(topics) => topics
                .iter()
                .map(|topic| OffsetFetchResponseTopics {
                    name: topic.name.clone(),
                    topic_id: topic.topic_id,
                    partitions: topic
                        .partition_indexes
                        .iter()
                        .map(|&partition| {
                            if is_unstable(&topic.name, partition) {
                                return unstable(partition);
                            }
                            let committed = group.and_then(|group| group.offset(&topic.name, partition));
                            // A topic of this name was deleted and created again since.
                            let committed = committed.filter(|committed| {
                                is_same_topic(committed.topic_id, TopicId(topic.topic_id))
                            });
                            response_partition(partition, committed)
                        })
                        .collect(),
                })
                .collect(),
            None => group
                .into_iter()
                .flat_map(|group| &group.offsets)
                .map(|(topic, partitions)| OffsetFetchResponseTopics {
                    name: topic.clone(),
                    topic_id: partitions.values().next().map_or(TopicId::ZERO, |first| first.topic_id).0,
                    partitions: partitions
                        .iter()
                        .map(|(&partition, committed)| {
                            if is_unstable(topic, partition) {
                                unstable(partition)
                            } else {
                                response_partition(partition, Some(committed))
                            }
                        })
                        .collect(),
                })
                .collect(),
        };
        OffsetFetchResponseGroup { group_id: request.group_id.clone(), topics, error_code: 0 }
    }
}

/// Whether two ids can be of one topic; a zero one is not known.
pub(crate) fn is_same_topic(a: TopicId, b: TopicId) -> bool {
    a.is_zero() || b.is_zero() || a == b
}

fn unstable(partition: i32) -> OffsetFetchResponsePartitions {
    let error_code = ErrorCode::UnstableOffsetCommit.code();
    OffsetFetchResponsePartitions { error_code, ..response_partition(partition, None) }
}

fn response_partition(partition: i32, committed: Option<&CommittedOffset>) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: partition,
        committed_offset: committed.map_or(-1, |committed| committed.offset.0),
        committed_leader_epoch: committed.map_or(-1, |committed| committed.leader_epoch.0),
        metadata: Some(committed.map_or_else(Str::default, |committed| committed.metadata.clone())),
        error_code: ErrorCode::None.code(),
    }
}
