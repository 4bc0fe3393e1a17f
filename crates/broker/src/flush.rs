//! Flushing by time (`flush.ms`): what a relaxed partition has in the page cache alone is made durable so long after it
//! was written, at the latest. (A durable one is synced at once.)
//!
//! Differs from Kafka: a topic's `flush.ms` holds by itself, where Kafka looks for what to flush only every
//! `log.flush.scheduler.interval.ms`, which by default is never.

use std::collections::BTreeSet;

use dohle_types::time::Instant;

use crate::node::Node;
use crate::partition::PartitionKey;

/// When partitions are to be flushed. A time at which there is nothing to flush any more is passed over.
#[derive(Debug, Default)]
pub(crate) struct FlushTimes(BTreeSet<(Instant, PartitionKey)>);

impl FlushTimes {
    /// When the next one is.
    #[must_use]
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.0.first().map(|&(at, _)| at)
    }
}

impl Node {
    /// Takes note of when a partition is to be flushed, if it is to be.
    pub(crate) fn note_flush_time(&mut self, key: PartitionKey) {
        let at = self.partitions.by_key(key).and_then(|partition| partition.flush_at());
        self.flush_times.0.extend(at.map(|at| (at, key)));
    }

    /// Flushes what is due. What cannot be flushed yet, for a sync is under way, is due again when that has ended.
    pub(crate) fn flush_when_due(&mut self) {
        while let Some(&(at, key)) = self.flush_times.0.first().filter(|(at, _)| *at <= self.now.instant) {
            self.flush_times.0.remove(&(at, key));
            let Some(partition) = self.partitions.by_key_mut(key) else { continue };
            if partition.flush_at().is_some_and(|at| at <= self.now.instant) {
                partition.begin_flush(&mut self.effects);
            }
        }
    }
}
