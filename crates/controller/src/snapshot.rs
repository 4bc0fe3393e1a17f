//! The image as the records of a snapshot (KIP-630), in the order in which Kafka's `MetadataImage` writes them.
//!
//! Replaying them into an empty image gives the same image; the offset and epoch that it has are the snapshot's name.

use dohle_protocol::messages::register_broker_record::BrokerEndpoint as EndpointRecord;
use dohle_protocol::messages::{
    ConfigRecord, FeatureLevelRecord, PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord, TopicRecord,
};
use dohle_types::{BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerId, TopicId};

use crate::image::{BrokerImage, MetadataImage, PartitionImage, TopicImage};
use crate::record::MetadataRecord;

impl MetadataImage {
    /// The records that make this image, as they are asked for: an image of many topics has many.
    ///
    /// # Panics
    /// In the middle of a transaction, of which no snapshot may speak.
    pub fn snapshot_records(&self) -> impl Iterator<Item = MetadataRecord> + '_ {
        assert!(!self.is_in_transaction(), "a snapshot holds whole transactions");
        let features = self
            .features
            .iter()
            .map(|(name, &feature_level)| FeatureLevelRecord { name: name.clone(), feature_level }.into());
        let brokers = self.brokers.values().map(|broker| registration(broker).into());
        let configs = self.configs.iter().flat_map(|(resource, configs)| {
            let (resource_type, resource_name) = resource.to_wire();
            configs.iter().map(move |(name, value)| {
                let (name, value) = (name.clone(), Some(value.clone()));
                ConfigRecord { resource_type, resource_name: resource_name.clone(), name, value }.into()
            })
        });
        // Whose the ids before it are is not known any more, and nobody asks.
        let producer_ids = (self.next_producer_id > ProducerId(0)).then(|| {
            let next_producer_id = self.next_producer_id.0;
            ProducerIdsRecord { broker_id: -1, broker_epoch: -1, next_producer_id }.into()
        });
        features
            .chain(brokers)
            .chain(self.kept.controllers())
            .chain(self.topics.values().flat_map(|topic| topic_records(topic)))
            .chain(configs)
            .chain(self.kept.quotas())
            .chain(producer_ids)
            .chain(self.kept.security())
    }

    /// Takes the place in the log that a snapshot stands for, once its records are replayed.
    pub fn finish_snapshot(&mut self, end_offset: Offset, last_epoch: LeaderEpoch) {
        self.end_offset = end_offset;
        self.last_epoch = last_epoch;
    }
}

fn registration(broker: &BrokerImage) -> RegisterBrokerRecord {
    let end_points = broker.endpoints.iter().map(|endpoint| EndpointRecord {
        name: endpoint.listener.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
        security_protocol: endpoint.security_protocol,
    });
    RegisterBrokerRecord {
        broker_id: broker.id.0,
        is_migrating_zk_broker: false,
        incarnation_id: broker.incarnation_id,
        broker_epoch: broker.epoch,
        end_points: end_points.collect(),
        features: broker.features.clone(),
        rack: broker.rack.clone(),
        fenced: broker.fenced,
        in_controlled_shutdown: broker.in_controlled_shutdown,
        log_dirs: broker.log_dirs.clone(),
        cordoned_log_dirs: broker.cordoned_log_dirs.clone(),
    }
}

fn topic_records(topic: &TopicImage) -> impl Iterator<Item = MetadataRecord> + '_ {
    let partitions =
        topic.partitions.iter().map(|(&index, partition)| partition_record(topic.id, index, partition));
    let topic = TopicRecord { name: topic.name.clone(), topic_id: topic.id.0 };
    std::iter::once(topic.into()).chain(partitions)
}

fn partition_record(topic: TopicId, index: PartitionIndex, partition: &PartitionImage) -> MetadataRecord {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect::<Vec<_>>();
    let some = |brokers: &[BrokerId]| Some(ids(brokers)).filter(|ids| !ids.is_empty());
    PartitionRecord {
        partition_id: index.0,
        topic_id: topic.0,
        replicas: ids(&partition.replicas),
        isr: ids(&partition.isr),
        removing_replicas: ids(&partition.removing_replicas),
        adding_replicas: ids(&partition.adding_replicas),
        leader: partition.leader.0,
        leader_recovery_state: i8::from(partition.leader_is_recovering),
        leader_epoch: partition.leader_epoch.0,
        partition_epoch: partition.partition_epoch,
        directories: partition.directories.clone(),
        eligible_leader_replicas: some(&partition.elr),
        last_known_elr: some(&partition.last_known_elr),
    }
    .into()
}
