//! How many producers the logs of this node remember altogether.
//!
//! Each idempotent producer takes some hundred bytes in each partition that it writes to, for as long as
//! `producer.id.expiration.ms`: a client that takes a new producer id for every batch would fill the memory. Where they
//! are too many, logs forget those of which nothing was heard for longest, and that have no open transaction. The logs that
//! have the most forget first, so that a flood in some partitions costs others nothing. Who was forgotten writes on: as
//! Kafka since KIP-360 a log takes any sequence of a producer that it does not know, only that a batch which was sent twice
//! is not recognised.

use std::time::Duration;

use dohle_configs::{BrokerConfig, broker};
use dohle_types::time::Instant;

use crate::memory::Budget;
use crate::node::Node;
use crate::partition::PartitionKey;

/// About what a producer with five batches takes, in bytes.
const PRODUCER_BYTES: usize = 512;

/// How often it is told that producers are forgotten.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How many producers there may be.
#[derive(Debug)]
pub(crate) struct ProducerLimit {
    max: usize,
    /// From how many on some are forgotten: the limit, or more where transactions were open.
    forget_above: usize,
    /// Since the process was started.
    forgotten: u64,
    next_told: Option<Instant>,
}

impl ProducerLimit {
    /// `dohle.producers.max`, or what the 16th part of the memory holds.
    pub(crate) fn new(config: &BrokerConfig, memory: &Budget) -> Self {
        let configured = usize::try_from(config.value(broker::DOHLE_PRODUCERS_MAX)).unwrap_or_default();
        let max = if configured > 0 { configured } else { memory.total() / 16 / PRODUCER_BYTES };
        Self { max, forget_above: max, forgotten: 0, next_told: None }
    }

    /// How many there may be.
    pub(crate) const fn max(&self) -> usize {
        self.max
    }

    /// How many were forgotten.
    pub(crate) const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

impl Node {
    /// A log may know more producers than before, or fewer.
    pub(crate) fn count_producers(&mut self, key: PartitionKey) {
        self.partitions.count_producers(key);
        if self.partitions.producers() > self.producer_limit.forget_above {
            self.forget_producers();
        }
    }

    /// Counts all of them, and forgets a tenth if there are too many.
    fn forget_producers(&mut self) {
        let keys: Vec<PartitionKey> = self.partitions.iter().map(|partition| partition.key).collect();
        keys.iter().for_each(|&key| self.partitions.count_producers(key));
        let max = self.producer_limit.max;
        if self.partitions.producers() > max {
            let counts = self.partitions.iter().map(|partition| partition.producers).collect();
            let share = fair_share(counts, max / 10 * 9);
            for key in keys {
                let partition =
                    self.partitions.by_key_mut(key).filter(|partition| partition.producers > share);
                let Some(log) = partition.and_then(|partition| partition.log_mut()) else { continue };
                self.producer_limit.forgotten += log.forget_silent_producers(share) as u64;
                self.partitions.count_producers(key);
            }
            self.tell_of_forgotten_producers();
        }
        // Those of open transactions cannot be forgotten: the others are not looked at again for each new one.
        self.producer_limit.forget_above = max.max(self.partitions.producers() + max / 10);
    }

    fn tell_of_forgotten_producers(&mut self) {
        let ProducerLimit { max, forgotten, next_told, .. } = &mut self.producer_limit;
        if next_told.is_none_or(|due| due <= self.now.instant) {
            *next_told = Some(self.now.after(TELL_EVERY));
            tracing::warn!(
                limit = *max,
                forgotten = *forgotten,
                "there are too many producers: those are forgotten that were silent for longest; dohle.producers.max, or else \
                 dohle.memory.max, sets how many there may be"
            );
        }
    }
}

/// How many each may keep of what it has, so that all together keep `total` at the most.
fn fair_share(mut counts: Vec<usize>, total: usize) -> usize {
    counts.sort_unstable();
    let (mut room, mut others) = (total, counts.len());
    for count in counts {
        if count > room / others {
            return room / others;
        }
        room -= count;
        others -= 1;
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_little_keeps_it() {
        let check = |counts: &[usize], total: usize, expected: usize| {
            let share = fair_share(counts.to_vec(), total);
            assert_eq!(share, expected, "{counts:?}");
            assert!(counts.iter().map(|&count| count.min(share)).sum::<usize>() <= total);
        };
        check(&[], 10, usize::MAX);
        check(&[3, 3, 3], 10, usize::MAX);
        check(&[1, 100, 2], 10, 7);
        check(&[100, 100, 1], 10, 4);
        check(&[5, 5, 5], 10, 3);
        check(&[1, 1, 1], 2, 0);
    }
}
