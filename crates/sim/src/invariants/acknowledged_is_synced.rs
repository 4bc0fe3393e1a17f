//! An acknowledgement of acks=all speaks of records that were synced before (invariant 2 of `dohle-broker`).

use std::collections::BTreeMap;

use dohle_broker::Node;
use dohle_broker::partition::PartitionKey;
use dohle_protocol::messages::ProduceResponse;
use dohle_storage::disk::LogDir;
use dohle_storage::{Log, OpenError, SyncWork};
use dohle_types::{Offset, TopicId};

use super::exchange::AskedProduce;

#[derive(Debug, Default)]
pub(super) struct AcknowledgedIsSynced {
    durable: bool,
    directories: BTreeMap<PartitionKey, String>,
    /// By directory, in whichever log dir: what a sync has covered, or was found and synced when the log was opened.
    synced: BTreeMap<String, Offset>,
}

impl AcknowledgedIsSynced {
    pub(super) fn on_start(&mut self, durable: bool) {
        *self = Self { durable, ..Self::default() };
    }

    pub(super) fn on_opened(&mut self, opened: &Result<Log, OpenError>) {
        if let Ok(log) = opened {
            let (_, directory) = LogDir::split(log.dir());
            self.synced.insert(directory.to_owned(), log.end_offset());
        }
    }

    pub(super) fn on_sync(&mut self, partition: PartitionKey, work: &SyncWork) {
        let (_, directory) = LogDir::split(&work.dir);
        self.directories.insert(partition, directory.to_owned());
    }

    pub(super) fn on_synced(&mut self, partition: PartitionKey, up_to: Offset) {
        if let Some(directory) = self.directories.get(&partition) {
            let synced = self.synced.entry(directory.clone()).or_default();
            *synced = up_to.max(*synced);
        }
    }

    pub(super) fn check(
        &self,
        node: &Node,
        asked: &AskedProduce,
        response: &ProduceResponse,
    ) -> Result<(), String> {
        if !self.durable || asked.acks != -1 {
            return Ok(());
        }
        for topic in &response.responses {
            let topic_id = TopicId(topic.topic_id);
            let Some(name) = node.image().topic_by_id(topic_id).map(|topic| &topic.name) else { continue };
            for partition in &topic.partition_responses {
                let Some(batch) = asked.batches.get(&(topic_id, partition.index)) else { continue };
                if partition.error_code != 0 || partition.base_offset < 0 {
                    continue;
                }
                let end = Offset(partition.base_offset).plus(i64::from(batch.last_offset_delta) + 1);
                let synced =
                    self.synced.get(&format!("{name}-{}", partition.index)).copied().unwrap_or_default();
                if end > synced {
                    let index = partition.index;
                    return Err(format!(
                        "{name}-{index} is acknowledged up to {end} and synced up to {synced}"
                    ));
                }
            }
        }
        Ok(())
    }
}
