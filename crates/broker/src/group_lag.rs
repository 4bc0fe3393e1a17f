//! What the node knows of how far groups are behind: where logs begin and end, and the latest commits.
//!
//! Both are told at once and from memory; what takes files is `handlers/k20011_group_lag.rs`.

use dohle_groups::lag::{LogEnds, WatchedGroup};
use dohle_types::{ErrorCode, Offset, Str};

use crate::groups_cluster::GroupsCluster;
use crate::node::Node;
use crate::partition::{Partition, State};

impl Node {
    /// A group whose lag is asked for; `None` if there is none.
    ///
    /// # Errors
    /// Its ledger is not here.
    pub(crate) fn watched_group(&self, group_id: &Str) -> Result<Option<WatchedGroup>, ErrorCode> {
        let cluster = GroupsCluster { image: self.metadata.image(), config: &self.config };
        Ok(self.ledger_of(group_id)?.watched_group(group_id, &cluster))
    }

    /// A group has committed these offsets: remembers how much was left behind each.
    pub(crate) fn note_commits(&mut self, group_id: &Str, committed: Vec<(Str, i32, Offset)>) {
        for (topic, index, offset) in committed {
            let Some(ends) = self.partition_of(&topic, index).ok().and_then(|it| self.log_ends(it)) else {
                continue;
            };
            let place = (group_id.clone(), topic, index);
            self.groups.windows.note(self.now, place, offset, ends.left(offset));
        }
    }

    /// A partition that this node leads.
    pub(crate) fn partition_of(&self, topic: &Str, index: i32) -> Result<&Partition, ErrorCode> {
        let topic_id = self.image().topic(topic).map(|topic| topic.id);
        let key = topic_id.and_then(|topic_id| self.partitions.key(topic_id, index));
        key.and_then(|key| self.partitions.by_key(key)).ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    /// Where a log begins and ends. Of one that is closed that is known if it was closed in good order; its start may be
    /// higher than is known.
    pub(crate) fn log_ends(&self, partition: &Partition) -> Option<LogEnds> {
        match partition.state() {
            State::Online(log) => Some(LogEnds {
                start: log.start_offset(),
                last_stable: partition.last_stable_offset(),
                high_watermark: partition.high_watermark(),
            }),
            State::Closed(_) | State::Opening => {
                let Some(known) = self.known_log(partition) else {
                    let nothing = Offset::ZERO;
                    return Some(LogEnds { start: nothing, last_stable: nothing, high_watermark: nothing });
                };
                let end = known.recovery_point.filter(|_| known.clean)?;
                let start = known.start_offset.unwrap_or(Offset::ZERO);
                Some(LogEnds { start, last_stable: end, high_watermark: end })
            }
            State::Offline(_) => None,
        }
    }
}
