//! The partitions of this node, found by number or by topic.

use dohle_storage::disk::LogDir;
use dohle_storage::{Log, LogKey, TailBudget};
use dohle_types::{FastMap, LeaderEpoch, PartitionIndex, TopicId, TopicPartition};

use crate::partition::{Partition, PartitionKey, Tenant};

/// All partitions of this node, and the memory that their hot tails share.
#[derive(Debug)]
pub struct Partitions {
    slots: Vec<Option<Partition>>,
    by_topic: FastMap<TopicId, Vec<Option<PartitionKey>>>,
    tails: TailBudget,
    /// Producers that all logs know, as far as they were counted.
    producers: usize,
}

impl Partitions {
    /// None yet; their hot tails will share `tail_bytes`.
    #[must_use]
    pub fn new(tail_bytes: usize) -> Self {
        Self {
            slots: Vec::new(),
            by_topic: FastMap::default(),
            tails: TailBudget::new(tail_bytes),
            producers: 0,
        }
    }

    /// Adds a partition, which is then to be opened.
    pub fn add(
        &mut self,
        name: TopicPartition,
        log_dir: LogDir,
        topic_id: TopicId,
        leader_epoch: LeaderEpoch,
        durability: dohle_configs::Durability,
        tenant: Tenant,
    ) -> &mut Partition {
        let key = PartitionKey(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        let of_topic = self.by_topic.entry(topic_id).or_default();
        let index = position(name.partition);
        if of_topic.len() <= index {
            of_topic.resize(index + 1, None);
        }
        if let Some(entry) = of_topic.get_mut(index) {
            *entry = Some(key);
        }
        let partition = Partition::new(key, name, log_dir, topic_id, leader_epoch, durability, tenant);
        self.slots.push(None);
        let slot = self.slots.last_mut();
        slot.map(|slot| slot.insert(partition)).unwrap_or_else(|| unreachable!("it was just pushed"))
    }

    /// Takes a partition away.
    pub fn remove(&mut self, key: PartitionKey) -> Option<Partition> {
        let partition = self.slots.get_mut(key.0 as usize)?.take()?;
        if let Some(of_topic) = self.by_topic.get_mut(&partition.topic_id) {
            if let Some(entry) = of_topic.get_mut(position(partition.name.partition)) {
                *entry = None;
            }
            if of_topic.iter().all(Option::is_none) {
                self.by_topic.remove(&partition.topic_id);
            }
        }
        self.tails.forget(LogKey(key.0));
        self.producers -= partition.producers;
        Some(partition)
    }

    /// The partition with this number; `None` once it was removed.
    #[must_use]
    pub fn by_key(&self, key: PartitionKey) -> Option<&Partition> {
        self.slots.get(key.0 as usize)?.as_ref()
    }

    /// The partition with this number; `None` once it was removed.
    pub fn by_key_mut(&mut self, key: PartitionKey) -> Option<&mut Partition> {
        self.slots.get_mut(key.0 as usize)?.as_mut()
    }

    /// The number of a topic's partition.
    #[must_use]
    pub fn key(&self, topic_id: TopicId, partition: i32) -> Option<PartitionKey> {
        let index = usize::try_from(partition).ok()?;
        *self.by_topic.get(&topic_id)?.get(index)?
    }

    /// The numbers of all partitions of a topic, ascending by partition.
    #[must_use]
    pub fn keys_of(&self, topic_id: TopicId) -> Vec<PartitionKey> {
        self.by_topic.get(&topic_id).into_iter().flatten().copied().flatten().collect()
    }

    /// All partitions in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Partition> {
        self.slots.iter().flatten()
    }

    /// All partitions in the order in which they were added.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.slots.iter_mut().flatten()
    }

    /// Bytes that hot tails take up.
    #[must_use]
    pub const fn tail_bytes(&self) -> usize {
        self.tails.bytes()
    }

    /// Producers that all logs know, as far as they were counted.
    #[must_use]
    pub const fn producers(&self) -> usize {
        self.producers
    }

    /// Counts the producers of a log.
    pub fn count_producers(&mut self, key: PartitionKey) {
        let Some(partition) = self.slots.get_mut(key.0 as usize).and_then(Option::as_mut) else { return };
        let count = partition.log().map_or(0, Log::producer_count);
        self.producers = self.producers - partition.producers + count;
        partition.producers = count;
    }

    /// Counts what a log keeps in memory after an append, and evicts the oldest tails while there is too much.
    pub fn admit_tail(&mut self, key: PartitionKey, bytes: usize) {
        self.tails.admit(LogKey(key.0), bytes);
        while let Some(LogKey(oldest)) = self.tails.over_budget() {
            if let Some(log) = self.by_key_mut(PartitionKey(oldest)).and_then(Partition::log_mut) {
                log.evict_oldest();
            }
        }
    }
}

fn position(partition: PartitionIndex) -> usize {
    usize::try_from(partition.0).unwrap_or_default()
}
