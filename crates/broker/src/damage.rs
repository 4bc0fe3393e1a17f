//! Damaged records: the operator is told of them once, and the log keeps readers away from them.

use dohle_storage::{Damage, Log};
use dohle_types::TopicPartition;

use crate::node::Node;
use crate::partition::PartitionKey;

impl Node {
    /// A read from the files of a partition found damage. Whether that is news, so that a read that is begun anew may
    /// fare better.
    pub(crate) fn on_damage_read(&mut self, key: PartitionKey, damage: Damage) -> bool {
        let Some(partition) = self.partitions.by_key_mut(key) else { return false };
        let name = partition.name.clone();
        partition.log_mut().is_some_and(|log| note_damage(log, &name, damage))
    }
}

/// Takes note of damage; whether it is news.
pub(crate) fn note_damage(log: &mut Log, name: &TopicPartition, damage: Damage) -> bool {
    let is_news = log.note_damage(damage.clone());
    if is_news {
        tell_damage(name, &damage);
    }
    is_news
}

/// Tells of what recovery found.
pub(crate) fn tell_damage_of(log: &Log, name: &TopicPartition) {
    log.damage().iter().for_each(|damage| tell_damage(name, damage));
    if log.is_end_lost() {
        tracing::error!(
            partition = %name,
            "the end of the log is damaged: it is read, but nothing is appended, for nobody knows which offsets were \
             given out; restore the file and restart, or remove the partition's directory to give up its records"
        );
    }
}

fn tell_damage(name: &TopicPartition, damage: &Damage) {
    let (path, position, reason) = (&*damage.path, damage.position, &*damage.reason);
    let (from, to) = (damage.from.0, damage.to.0);
    tracing::error!(
        partition = %name, path, position, from, to, reason,
        "records are damaged: these offsets are refused to readers, all others go on; restore the file"
    );
}
