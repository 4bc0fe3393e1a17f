//! UndeleteTopic (key 20001, Dohle's own): the records that make a deleted topic be there again.

use dohle_ledger::Outcome;
use dohle_protocol::messages::{ConfigRecord, TopicRecord, TrashManifest};
use dohle_types::{BrokerId, LeaderEpoch, PartitionIndex, Str, TopicId};

use crate::ledger::{Controller, PARTITIONS_MAX, RECORDS_PER_REQUEST_MAX};
use crate::log_dirs::LogDirLoad;
use crate::placement::new_partition;
use crate::record::MetadataRecord;
use crate::resource::ConfigResource;
use crate::topics_create::{AssignmentError, CreateTopicError, partition_record};

impl Controller {
    /// Brings a topic back as `name`, with its id, its configs, and partitions where they were; or brings a fork into
    /// being, whose manifest says where it is.
    #[must_use]
    pub fn handle_undelete_topic(
        &self,
        manifest: &TrashManifest,
        name: &Str,
    ) -> Outcome<MetadataRecord, Result<(), CreateTopicError>> {
        match self.undeleted(manifest, name) {
            Ok(records) => Outcome { records, reply: Ok(()) },
            Err(error) => Outcome::reply(Err(error)),
        }
    }

    fn undeleted(
        &self,
        manifest: &TrashManifest,
        name: &Str,
    ) -> Result<Vec<MetadataRecord>, CreateTopicError> {
        self.check_name(name)?;
        let id = TopicId(manifest.topic_id);
        if 1 + manifest.configs.len() + manifest.partitions.len() > RECORDS_PER_REQUEST_MAX {
            return Err(CreateTopicError::RequestTooLarge);
        }
        if self.image.partition_count() + manifest.partitions.len() > PARTITIONS_MAX {
            return Err(CreateTopicError::TooManyPartitions);
        }
        let mut records = vec![TopicRecord { name: name.clone(), topic_id: id.0 }.into()];
        let (resource_type, resource_name) = ConfigResource::Topic(name.clone()).to_wire();
        records.extend(manifest.configs.iter().map(|config| {
            let (name, value, resource_name) =
                (config.name.clone(), Some(config.value.clone()), resource_name.clone());
            ConfigRecord { resource_type, resource_name, name, value }.into()
        }));
        let mut load = LogDirLoad::of(&self.image);
        for (place, trashed) in manifest.partitions.iter().enumerate() {
            let replicas: Vec<BrokerId> = trashed.replicas.iter().copied().map(BrokerId).collect();
            let mut partition = new_partition(&self.image, &mut load, replicas)
                .ok_or(AssignmentError::NoActiveBroker(place))?;
            partition.directories.clone_from(&trashed.directories);
            partition.directories.resize(partition.replicas.len(), uuid::Uuid::nil());
            // What was written before and what will be written after must not have the same epoch (KIP-320).
            partition.leader_epoch = LeaderEpoch(trashed.leader_epoch.saturating_add(1));
            partition.partition_epoch = trashed.partition_epoch.saturating_add(1);
            records.push(partition_record(id, PartitionIndex(trashed.index), &partition));
        }
        Ok(records)
    }
}
