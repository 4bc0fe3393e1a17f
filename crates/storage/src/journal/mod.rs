//! The commit journal.

use dohle_types::{PartitionIndex, TopicId};

/// A log, by what outlives its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Its topic.
    pub topic_id: TopicId,
    /// Which of the topic's partitions it holds.
    pub partition: PartitionIndex,
}
