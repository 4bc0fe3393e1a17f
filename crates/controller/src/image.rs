//! The metadata image: what the metadata log says about the cluster, as a value.
//!
//! This file has the state and the lookups; [`crate::replay`] has all changes. A clone shares everything with its
//! original until one of them changes, so a host can hand out an image after each batch of records.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use dohle_protocol::messages::register_broker_record::BrokerFeature;
use dohle_types::{BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerId, Str, TopicId};
use uuid::Uuid;

use crate::bootstrap::supported_feature;
use crate::kept::Kept;
use crate::resource::ConfigResource;

/// The values that a topic or broker sets for itself, by name of the config.
pub type ConfigOverrides = BTreeMap<Str, Str>;

/// Everything that the metadata log says, up to an offset.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct MetadataImage {
    pub(crate) topics: Arc<BTreeMap<Str, Arc<TopicImage>>>,
    pub(crate) topic_names: Arc<BTreeMap<TopicId, Str>>,
    /// Topics whose names have a `.` or `_`, by their name with `_` for `.`; see [`crate::topic_name`].
    pub(crate) topics_by_metric_name: Arc<BTreeMap<Str, Str>>,
    pub(crate) brokers: Arc<BTreeMap<BrokerId, Arc<BrokerImage>>>,
    pub(crate) configs: Arc<BTreeMap<ConfigResource, Arc<ConfigOverrides>>>,
    pub(crate) features: Arc<BTreeMap<Str, i16>>,
    pub(crate) partition_count: usize,
    pub(crate) next_producer_id: ProducerId,
    pub(crate) kept: Arc<Kept>,
    pub(crate) end_offset: Offset,
    pub(crate) last_epoch: LeaderEpoch,
    /// The image as it was before the transaction (KIP-868) that the log is in.
    pub(crate) before_transaction: Option<Arc<Self>>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicImage {
    /// Its name.
    pub name: Str,
    /// Its id.
    pub id: TopicId,
    /// Its partitions.
    pub partitions: BTreeMap<PartitionIndex, PartitionImage>,
}

/// A partition: where its replicas are and who leads.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionImage {
    /// The brokers that hold a replica, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// The log directory of each replica, in the order of `replicas`; nil where the broker chooses (KIP-858).
    pub directories: Vec<Uuid>,
    /// The replicas that have all committed records.
    pub isr: Vec<BrokerId>,
    /// Replicas that a reassignment will remove.
    pub removing_replicas: Vec<BrokerId>,
    /// Replicas that a reassignment adds.
    pub adding_replicas: Vec<BrokerId>,
    /// Replicas outside of the ISR that have all records below the high watermark (KIP-966).
    pub elr: Vec<BrokerId>,
    /// Who was last in the ELR or led, when both sets became empty (KIP-966).
    pub last_known_elr: Vec<BrokerId>,
    /// The leader, [`BrokerId::NONE`] while there is none.
    pub leader: BrokerId,
    /// Whether the leader has yet to recover from an unclean election (KIP-704).
    pub leader_is_recovering: bool,
    /// Grows with each election.
    pub leader_epoch: LeaderEpoch,
    /// Grows with each change.
    pub partition_epoch: i32,
}

/// A broker's registration.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerImage {
    /// The broker.
    pub id: BrokerId,
    /// The registration's epoch: the offset of its record.
    pub epoch: i64,
    /// The process that has registered.
    pub incarnation_id: Uuid,
    /// Where clients and other brokers reach it, by listener.
    pub endpoints: Vec<BrokerEndpoint>,
    /// The features that it can work at, with their levels.
    pub features: Vec<BrokerFeature>,
    /// Its rack, if it has told one.
    pub rack: Option<Str>,
    /// Whether it may not lead (it has not caught up yet, or was not heard of for long).
    pub fenced: bool,
    /// Whether it is shutting down.
    pub in_controlled_shutdown: bool,
    /// The ids of its log directories that are online.
    pub log_dirs: Vec<Uuid>,
    /// The ids of those that take no new partitions (KIP-1066), if it has told of any.
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

/// The address of one listener of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerEndpoint {
    /// The listener's name.
    pub listener: Str,
    /// The host that is told to clients.
    pub host: Str,
    /// The port that is told to clients.
    pub port: u16,
    /// Kafka's code of the security protocol: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

impl MetadataImage {
    /// The offset behind the last replayed record: where the next record of the log will stand or stands.
    #[must_use]
    pub const fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// The epoch of the last replayed record, [`LeaderEpoch::NONE`] before the first.
    #[must_use]
    pub fn last_epoch(&self) -> LeaderEpoch {
        if self.end_offset == Offset::ZERO { LeaderEpoch::NONE } else { self.last_epoch }
    }

    /// Whether the records so far end within a transaction (KIP-868), of which nothing may be shown yet.
    #[must_use]
    pub const fn is_in_transaction(&self) -> bool {
        self.before_transaction.is_some()
    }

    /// All topics, sorted by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// The topics whose names are `first` or greater, sorted by name: the pages of DescribeTopicPartitions.
    pub fn topics_from<'a>(&'a self, first: &str) -> impl Iterator<Item = &'a Arc<TopicImage>> {
        self.topics.range::<str, _>((Bound::Included(first), Bound::Unbounded)).map(|(_, topic)| topic)
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// The topic of this id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.topic_names.get(&id)?)
    }

    /// A partition by its topic's name.
    #[must_use]
    pub fn partition(&self, topic: &str, partition: PartitionIndex) -> Option<&PartitionImage> {
        self.topic(topic)?.partitions.get(&partition)
    }

    /// The number of partitions of all topics.
    #[must_use]
    pub const fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// All registered brokers, sorted by id.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Arc<BrokerImage>> {
        self.brokers.values()
    }

    /// The registered brokers that are not fenced, sorted by id.
    pub fn alive_brokers(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.brokers().filter(|broker| !broker.fenced)
    }

    /// The registration of a broker.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<BrokerImage>> {
        self.brokers.get(&id)
    }

    /// What is set for exactly this resource, sorted by name; nothing of what it inherits.
    pub fn config_overrides(&self, resource: &ConfigResource) -> impl Iterator<Item = (&str, &str)> {
        self.configs.get(resource).into_iter().flat_map(|configs| configs.iter()).map(|(k, v)| (&**k, &**v))
    }

    /// All resources for which any config is set.
    pub fn config_resources(&self) -> impl Iterator<Item = &ConfigResource> {
        self.configs.keys()
    }

    /// The finalized features that this version serves, with their levels, sorted by name.
    ///
    /// A data directory of Apache Kafka can have finalized others: see [`MetadataImage::unserved_features`].
    pub fn finalized_features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features
            .iter()
            .map(|(name, &level)| (&**name, level))
            .filter(|(name, _)| supported_feature(name).is_some())
    }

    /// The finalized features that this version does not serve, with their levels: kept, and shown to no client.
    pub fn unserved_features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features
            .iter()
            .map(|(name, &level)| (&**name, level))
            .filter(|(name, _)| supported_feature(name).is_none())
    }

    /// What the log says and this version does not act upon.
    #[must_use]
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The first producer id that was not given to any broker yet.
    #[must_use]
    pub const fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }
}

impl BrokerImage {
    /// The address of a listener, by its name in any case.
    #[must_use]
    pub fn endpoint(&self, listener: &str) -> Option<&BrokerEndpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.listener.eq_ignore_ascii_case(listener))
    }

    /// Whether it may lead new partitions and join the ISR.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }
}
