//! The only changes to the image: one function per record type.

use std::collections::BTreeMap;
use std::sync::Arc;

use dohle_protocol::messages::{
    BrokerRegistrationChangeRecord, ClearElrRecord, ConfigRecord, FeatureLevelRecord, PartitionChangeRecord,
    PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord, TopicRecord,
};
use dohle_types::{BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerId, TopicId};
use uuid::Uuid;

use crate::bootstrap::{SupportedFeature, supported_feature};
use crate::image::{BrokerEndpoint, BrokerImage, MetadataImage, PartitionImage, TopicImage};
use crate::kept::Kept;
use crate::record::MetadataRecord;
use crate::resource::{ConfigResource, ConfigResourceError};
use crate::topic_name::metric_name;

/// What `PartitionChangeRecord` has for a leader or recovery state that does not change.
const NO_LEADER_CHANGE: i32 = -2;
const NO_RECOVERY_STATE_CHANGE: i8 = -1;
/// KIP-704: the state of a leader after an unclean election.
const RECOVERING: i8 = 1;

/// Why a record does not fit the records before it: the log is damaged, or is not the beginning of a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The record speaks of a topic that is not there.
    #[error("a {record} speaks of topic id {id}, which does not exist")]
    UnknownTopicId {
        /// Kafka's name of the record type.
        record: &'static str,
        /// The id.
        id: TopicId,
    },
    /// The record speaks of a partition that is not there.
    #[error("a PartitionChangeRecord speaks of partition {partition} of topic {topic}, which does not exist")]
    UnknownPartition {
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
    },
    /// A second topic of this name.
    #[error("topic {0} is created a second time")]
    TopicExists(String),
    /// The record speaks of a broker that is not there, or of a registration that was replaced.
    #[error("a {record} speaks of broker {id} with epoch {epoch}, which is not registered")]
    UnknownBroker {
        /// Kafka's name of the record type.
        record: &'static str,
        /// The broker.
        id: BrokerId,
        /// The registration's epoch.
        epoch: i64,
    },
    /// A config of nothing known.
    #[error("a ConfigRecord is about an unknown resource: {0}")]
    UnknownConfigResource(#[from] ConfigResourceError),
    /// The cluster is at a level of a feature that this version does not know.
    #[error(
        "the cluster is at {} {level}, and this version of Dohle knows levels {} to {}",
        .feature.name, .feature.min_level, .feature.max_level
    )]
    UnsupportedFeatureLevel {
        /// The feature, with the levels that are known.
        feature: &'static SupportedFeature,
        /// The level.
        level: i16,
    },
    /// Producer ids that were given away already.
    #[error("a ProducerIdsRecord goes back from {from} to {to}")]
    ProducerIdsGoBack {
        /// The next producer id so far.
        from: ProducerId,
        /// The next producer id of the record.
        to: ProducerId,
    },
    /// A transaction begins within a transaction.
    #[error("a BeginTransactionRecord stands within a transaction")]
    TransactionInTransaction,
    /// A transaction ends where none is.
    #[error("a transaction ends that has not begun")]
    NoTransaction,
}

impl MetadataImage {
    /// Takes in the next record of the log, which stands at `offset` and was written in `epoch`.
    ///
    /// After an error the image is as it was. Offsets only grow; control records take up offsets too and are not
    /// replayed.
    pub fn replay(
        &mut self,
        record: &MetadataRecord,
        offset: Offset,
        epoch: LeaderEpoch,
    ) -> Result<(), ReplayError> {
        assert!(offset >= self.end_offset, "the metadata log is replayed in order, each record once");
        self.apply(record)?;
        self.end_offset = offset.plus(1);
        self.last_epoch = epoch;
        Ok(())
    }

    fn apply(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        match record {
            MetadataRecord::RegisterBroker(record) => self.replay_register_broker(record),
            MetadataRecord::UnregisterBroker(record) => {
                self.broker_mut("UnregisterBrokerRecord", record.broker_id, record.broker_epoch)?;
                Arc::make_mut(&mut self.brokers).remove(&BrokerId(record.broker_id));
            }
            MetadataRecord::FenceBroker(record) => {
                self.broker_mut("FenceBrokerRecord", record.id, record.epoch)?.fenced = true;
            }
            MetadataRecord::UnfenceBroker(record) => {
                self.broker_mut("UnfenceBrokerRecord", record.id, record.epoch)?.fenced = false;
            }
            MetadataRecord::BrokerRegistrationChange(record) => self.replay_registration_change(record)?,
            MetadataRecord::Topic(record) => self.replay_topic(record)?,
            MetadataRecord::RemoveTopic(record) => self.replay_remove_topic(TopicId(record.topic_id))?,
            MetadataRecord::Partition(record) => self.replay_partition(record)?,
            MetadataRecord::PartitionChange(record) => self.replay_partition_change(record)?,
            MetadataRecord::ClearElr(record) => self.replay_clear_elr(record),
            MetadataRecord::Config(record) => self.replay_config(record)?,
            MetadataRecord::FeatureLevel(record) => self.replay_feature_level(record)?,
            MetadataRecord::ProducerIds(record) => self.replay_producer_ids(record)?,
            MetadataRecord::BeginTransaction(_) => {
                if self.is_in_transaction() {
                    return Err(ReplayError::TransactionInTransaction);
                }
                self.before_transaction = Some(Arc::new(self.clone()));
            }
            MetadataRecord::EndTransaction(_) => {
                self.before_transaction.take().ok_or(ReplayError::NoTransaction)?;
            }
            MetadataRecord::AbortTransaction(_) => {
                let before = self.before_transaction.take().ok_or(ReplayError::NoTransaction)?;
                *self = Arc::unwrap_or_clone(before);
            }
            MetadataRecord::NoOp(_) | MetadataRecord::ZkMigrationState(_) => {}
            MetadataRecord::RegisterController(record) => self.kept_mut().replay_controller(record),
            MetadataRecord::ClientQuota(record) => self.kept_mut().replay_quota(record),
            MetadataRecord::AccessControlEntry(record) => self.kept_mut().replay_acl(record),
            MetadataRecord::RemoveAccessControlEntry(record) => self.kept_mut().replay_remove_acl(record.id),
            MetadataRecord::UserScramCredential(record) => self.kept_mut().replay_scram_credential(record),
            MetadataRecord::RemoveUserScramCredential(record) => {
                self.kept_mut().replay_remove_scram_credential(record);
            }
            MetadataRecord::DelegationToken(record) => self.kept_mut().replay_delegation_token(record),
            MetadataRecord::RemoveDelegationToken(record) => {
                self.kept_mut().replay_remove_delegation_token(&record.token_id);
            }
        }
        Ok(())
    }

    fn kept_mut(&mut self) -> &mut Kept {
        Arc::make_mut(&mut self.kept)
    }

    fn replay_register_broker(&mut self, record: &RegisterBrokerRecord) {
        let id = BrokerId(record.broker_id);
        let endpoints = record.end_points.iter().map(|endpoint| BrokerEndpoint {
            listener: endpoint.name.clone(),
            host: endpoint.host.clone(),
            port: endpoint.port,
            security_protocol: endpoint.security_protocol,
        });
        let broker = BrokerImage {
            id,
            epoch: record.broker_epoch,
            incarnation_id: record.incarnation_id,
            endpoints: endpoints.collect(),
            features: record.features.clone(),
            rack: record.rack.clone(),
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            log_dirs: record.log_dirs.clone(),
            cordoned_log_dirs: record.cordoned_log_dirs.clone(),
        };
        Arc::make_mut(&mut self.brokers).insert(id, Arc::new(broker));
    }

    fn replay_registration_change(
        &mut self,
        record: &BrokerRegistrationChangeRecord,
    ) -> Result<(), ReplayError> {
        let name = "BrokerRegistrationChangeRecord";
        let broker = self.broker_mut(name, record.broker_id, record.broker_epoch)?;
        // KIP-841: 1 sets the state, -1 clears it, 0 leaves it.
        match record.fenced {
            1 => broker.fenced = true,
            -1 => broker.fenced = false,
            _ => {}
        }
        if record.in_controlled_shutdown == 1 {
            broker.in_controlled_shutdown = true;
        }
        if !record.log_dirs.is_empty() {
            broker.log_dirs.clone_from(&record.log_dirs);
        }
        if record.cordoned_log_dirs.is_some() {
            broker.cordoned_log_dirs.clone_from(&record.cordoned_log_dirs);
        }
        Ok(())
    }

    fn broker_mut(
        &mut self,
        record: &'static str,
        id: i32,
        epoch: i64,
    ) -> Result<&mut BrokerImage, ReplayError> {
        let unknown = ReplayError::UnknownBroker { record, id: BrokerId(id), epoch };
        match Arc::make_mut(&mut self.brokers).get_mut(&BrokerId(id)) {
            Some(broker) if broker.epoch == epoch => Ok(Arc::make_mut(broker)),
            _ => Err(unknown),
        }
    }

    fn replay_topic(&mut self, record: &TopicRecord) -> Result<(), ReplayError> {
        let (name, id) = (&record.name, TopicId(record.topic_id));
        if self.topics.contains_key(name) || self.topic_names.contains_key(&id) {
            return Err(ReplayError::TopicExists(name.to_string()));
        }
        let topic = TopicImage { name: name.clone(), id, partitions: BTreeMap::new() };
        Arc::make_mut(&mut self.topics).insert(name.clone(), Arc::new(topic));
        Arc::make_mut(&mut self.topic_names).insert(id, name.clone());
        if let Some(metric_name) = metric_name(name) {
            Arc::make_mut(&mut self.topics_by_metric_name).insert(metric_name, name.clone());
        }
        Ok(())
    }

    fn replay_remove_topic(&mut self, id: TopicId) -> Result<(), ReplayError> {
        let unknown = ReplayError::UnknownTopicId { record: "RemoveTopicRecord", id };
        let name = Arc::make_mut(&mut self.topic_names).remove(&id).ok_or(unknown)?;
        if let Some(topic) = Arc::make_mut(&mut self.topics).remove(&name) {
            self.partition_count -= topic.partitions.len();
        }
        // Kafka lets two topics of one request collide, so another topic may stand under this metric name.
        if let Some(metric_name) = metric_name(&name)
            && self.topics_by_metric_name.get(&metric_name) == Some(&name)
        {
            Arc::make_mut(&mut self.topics_by_metric_name).remove(&metric_name);
        }
        Arc::make_mut(&mut self.configs).remove(&ConfigResource::Topic(name));
        Ok(())
    }

    fn topic_mut(&mut self, record: &'static str, id: TopicId) -> Result<&mut TopicImage, ReplayError> {
        let unknown = ReplayError::UnknownTopicId { record, id };
        let Some(name) = self.topic_names.get(&id) else { return Err(unknown) };
        Arc::make_mut(&mut self.topics).get_mut(name).map(Arc::make_mut).ok_or(unknown)
    }

    fn replay_partition(&mut self, record: &PartitionRecord) -> Result<(), ReplayError> {
        let mut directories = record.directories.clone();
        // Before KIP-858 the log did not tell the directories.
        directories.resize(record.replicas.len(), Uuid::nil());
        let partition = PartitionImage {
            replicas: broker_ids(&record.replicas),
            directories,
            isr: broker_ids(&record.isr),
            removing_replicas: broker_ids(&record.removing_replicas),
            adding_replicas: broker_ids(&record.adding_replicas),
            elr: broker_ids(record.eligible_leader_replicas.as_deref().unwrap_or_default()),
            last_known_elr: broker_ids(record.last_known_elr.as_deref().unwrap_or_default()),
            leader: BrokerId(record.leader),
            leader_is_recovering: record.leader_recovery_state == RECOVERING,
            leader_epoch: LeaderEpoch(record.leader_epoch),
            partition_epoch: record.partition_epoch,
        };
        let topic = self.topic_mut("PartitionRecord", TopicId(record.topic_id))?;
        if topic.partitions.insert(PartitionIndex(record.partition_id), partition).is_none() {
            self.partition_count += 1;
        }
        Ok(())
    }

    fn replay_partition_change(&mut self, record: &PartitionChangeRecord) -> Result<(), ReplayError> {
        let topic = self.topic_mut("PartitionChangeRecord", TopicId(record.topic_id))?;
        let index = PartitionIndex(record.partition_id);
        let unknown = || ReplayError::UnknownPartition { topic: topic.name.to_string(), partition: index };
        let Some(partition) = topic.partitions.get_mut(&index) else { return Err(unknown()) };
        let set = |brokers: &mut Vec<BrokerId>, new: &Option<Vec<i32>>| {
            if let Some(new) = new {
                *brokers = broker_ids(new);
            }
        };
        set(&mut partition.replicas, &record.replicas);
        set(&mut partition.isr, &record.isr);
        set(&mut partition.removing_replicas, &record.removing_replicas);
        set(&mut partition.adding_replicas, &record.adding_replicas);
        set(&mut partition.elr, &record.eligible_leader_replicas);
        set(&mut partition.last_known_elr, &record.last_known_elr);
        if let Some(directories) = &record.directories {
            partition.directories.clone_from(directories);
        }
        partition.directories.resize(partition.replicas.len(), Uuid::nil());
        if record.leader != NO_LEADER_CHANGE {
            partition.leader = BrokerId(record.leader);
            partition.leader_epoch = LeaderEpoch(partition.leader_epoch.0.saturating_add(1));
        }
        if record.leader_recovery_state != NO_RECOVERY_STATE_CHANGE {
            partition.leader_is_recovering = record.leader_recovery_state == RECOVERING;
        }
        partition.partition_epoch = partition.partition_epoch.saturating_add(1);
        Ok(())
    }

    /// An empty name means all topics. Kafka writes it when `min.insync.replicas` changes.
    fn replay_clear_elr(&mut self, record: &ClearElrRecord) {
        let is_meant = |name: &str| record.topic_name.is_empty() || record.topic_name == name;
        let has_elr = |topic: &TopicImage| {
            topic
                .partitions
                .values()
                .any(|partition| !partition.elr.is_empty() || !partition.last_known_elr.is_empty())
        };
        for topic in Arc::make_mut(&mut self.topics).values_mut() {
            if is_meant(&topic.name) && has_elr(topic) {
                for partition in Arc::make_mut(topic).partitions.values_mut() {
                    partition.elr.clear();
                    partition.last_known_elr.clear();
                }
            }
        }
    }

    fn replay_config(&mut self, record: &ConfigRecord) -> Result<(), ReplayError> {
        let resource = ConfigResource::from_wire(record.resource_type, &record.resource_name)?;
        let all = Arc::make_mut(&mut self.configs);
        let configs = Arc::make_mut(all.entry(resource.clone()).or_default());
        match &record.value {
            Some(value) => configs.insert(record.name.clone(), value.clone()),
            None => configs.remove(&record.name),
        };
        if configs.is_empty() {
            all.remove(&resource);
        }
        Ok(())
    }

    fn replay_feature_level(&mut self, record: &FeatureLevelRecord) -> Result<(), ReplayError> {
        let (name, level) = (&record.name, record.feature_level);
        if let Some(feature) = supported_feature(name)
            && !(feature.min_level..=feature.max_level).contains(&level)
        {
            return Err(ReplayError::UnsupportedFeatureLevel { feature, level });
        }
        let features = Arc::make_mut(&mut self.features);
        match level {
            0 => features.remove(name),
            level => features.insert(name.clone(), level),
        };
        Ok(())
    }

    fn replay_producer_ids(&mut self, record: &ProducerIdsRecord) -> Result<(), ReplayError> {
        let (from, to) = (self.next_producer_id, ProducerId(record.next_producer_id));
        if to <= from {
            return Err(ReplayError::ProducerIdsGoBack { from, to });
        }
        self.next_producer_id = to;
        Ok(())
    }
}

fn broker_ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}
