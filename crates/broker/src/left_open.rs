//! Transactions that were open in a topic when it was deleted, and the topic is back.
//!
//! While it was in the trash their coordinator may have ended them, for a partition that is not there needs no marker.
//! Nobody would end them in the partition any more, and they would hold its last stable offset back for ever. So as soon
//! as its log is open again and the coordinators are loaded, each is ended in it,
//!
//! - as its coordinator has ended it, if the producer has not begun another one since,
//! - by an abort, if the coordinator does not know it any more;
//! - one that the coordinator has open still goes on, and is ended by it.
//!
//! What was open at the deletion is told by the leader epoch, which has grown by one since: a transaction that began
//! later is not touched. Until all are ended the topic's manifest stays, so that the next start knows of it.

use dohle_controller::TRANSACTION_STATE_TOPIC;
use dohle_storage::ProducerState;
use dohle_transactions::state::{Status, Transaction, TxnResult};
use dohle_types::{ProducerId, TopicPartition};

use crate::node::{Node, Phase};
use crate::partition::{Partition, PartitionKey};
use crate::trash::Restored;
use crate::txn_markers::TxnMarker;

impl Node {
    /// Ends in a partition that is back what nobody else would end.
    pub(crate) fn end_left_open(&mut self, key: PartitionKey) {
        if !matches!(self.phase, Phase::Serving) || !self.are_coordinators_loaded() {
            return;
        }
        let Some(partition) = self.partitions.by_key(key) else { return };
        let (name, markers) = (partition.name.clone(), self.left_open(partition));
        for marker in markers {
            let result = if marker.is_commit { "commit" } else { "abort" };
            match self.append_marker(&marker, &name.topic, name.partition.0) {
                Ok(_) => tracing::info!(
                    partition = %name,
                    producer_id = %marker.producer_id,
                    result,
                    "a transaction is ended that was open when the topic was deleted"
                ),
                // It is tried again when the trash is swept.
                Err(error) => tracing::warn!(
                    partition = %name,
                    producer_id = %marker.producer_id,
                    %error,
                    "a transaction that was open when the topic was deleted cannot be ended yet"
                ),
            }
        }
    }

    /// The same in all partitions that are back.
    pub(crate) fn end_all_left_open(&mut self) {
        let topics = self.trash.all_restored();
        let keys: Vec<_> = topics.flat_map(|topic_id| self.partitions.keys_of(topic_id)).collect();
        keys.into_iter().for_each(|key| self.end_left_open(key));
    }

    /// Whether something is still to be ended in a partition that is back, or may be.
    pub(crate) fn has_left_open(&self, partition: &Partition) -> bool {
        !self.are_coordinators_loaded() || !self.left_open(partition).is_empty()
    }

    /// Whether it is known of every transaction what became of it.
    fn are_coordinators_loaded(&self) -> bool {
        let topic = self.image().topic(TRANSACTION_STATE_TOPIC);
        topic.map_or(0, |topic| topic.partitions.len()) == self.txns.loaded().count()
    }

    /// The markers that nobody else would write.
    fn left_open(&self, partition: &Partition) -> Vec<TxnMarker> {
        let (Some(restored), Some(log)) = (self.trash.restored(partition.topic_id), partition.log()) else {
            return Vec::new();
        };
        let had = |offset| restored.had(partition.name.partition, log.epoch_at(offset));
        let open = log.producers().filter(|(_, producer)| producer.transaction_start.is_some_and(had));
        open.filter_map(|(id, producer)| {
            let of_producer = |transaction: &&Transaction| transaction.producer_id == id;
            let known = self.txns.loaded().find_map(|(_, ledger)| {
                ledger.state().transactions().map(|(_, transaction)| transaction).find(of_producer)
            });
            ending(id, producer, known, &partition.name, restored)
        })
        .collect()
    }
}

/// How a transaction ends that was open in a partition when that was deleted, by what its producer's coordinator knows;
/// `None` where the coordinator will end it.
fn ending(
    producer_id: ProducerId,
    producer: &ProducerState,
    known: Option<&Transaction>,
    partition: &TopicPartition,
    restored: &Restored,
) -> Option<TxnMarker> {
    let aborted = TxnMarker {
        producer_id,
        producer_epoch: producer.epoch,
        is_commit: false,
        coordinator_epoch: producer.coordinator_epoch.max(0),
        is_v2: false,
    };
    // A producer has one at a time: the last that began before the deletion is the one that was open then.
    let Some(known) = known.filter(|known| known.started <= restored.deleted_at) else {
        return Some(aborted);
    };
    match known.status {
        Status::Ongoing | Status::Prepare(_) => {
            let indexes = known.partitions.get(&partition.topic);
            let ends_it = indexes.is_some_and(|indexes| indexes.contains(&partition.partition.0));
            (!ends_it).then_some(aborted)
        }
        Status::Complete(result) => Some(TxnMarker {
            producer_epoch: known.epoch,
            is_commit: result == TxnResult::Commit,
            is_v2: known.client_version.bumps_epochs(),
            ..aborted
        }),
        Status::Empty => Some(aborted),
    }
}
