//! CreateTopics (key 19, versions 2-7), and the topics that brokers create by themselves.
//!
//! Topics are independent of each other: each is created or answered with its own error, and those that are created
//! come into being together. KIP-464: partitions or replication factor of -1 mean the broker's default. KIP-525: the
//! answer tells the new topic's configs. KIP-516: it tells the topic id.

use std::collections::{BTreeMap, BTreeSet};

use dohle_configs::{BrokerConfig, ConfigError, Target, broker as keys, describe_topic, validate_configs};
use dohle_ledger::Outcome;
use dohle_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use dohle_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use dohle_protocol::messages::{
    ConfigRecord, CreateTopicsRequest, CreateTopicsResponse, PartitionRecord, TopicRecord,
};
use dohle_types::{BrokerId, ErrorCode, PartitionIndex, Rng, Str, TopicId};

use crate::image::{MetadataImage, PartitionImage};
use crate::ledger::{Controller, PARTITIONS_MAX, RECORDS_PER_REQUEST_MAX, distinct, error_message};
use crate::log_dirs::LogDirLoad;
use crate::placement::{PlacementError, new_partition, place};
use crate::record::MetadataRecord;
use crate::resource::ConfigResource;
use crate::topic_name::{
    CLUSTER_METADATA_TOPIC, CONSUMER_OFFSETS_TOPIC, GROUP_JOURNAL_TOPIC, TRANSACTION_STATE_TOPIC,
    TopicNameError, metric_name, validate_topic_name,
};

/// How long the journal of groups goes back,
const GROUP_JOURNAL_RETENTION_MS: i64 = 30 * 24 * 60 * 60 * 1_000;
/// if it is not larger than this.
const GROUP_JOURNAL_BYTES: i64 = 128 << 20;

/// Why a topic is not created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateTopicError {
    /// The request names the topic twice.
    #[error("Duplicate topic name: the request names '{0}' more than once")]
    DuplicateName(Str),
    /// The name is that of the metadata log.
    #[error("Creation of internal topic {CLUSTER_METADATA_TOPIC} is prohibited.")]
    Reserved,
    /// The name cannot be one.
    #[error(transparent)]
    Name(#[from] TopicNameError),
    /// There is such a topic.
    #[error("Topic '{0}' already exists.")]
    Exists(Str),
    /// The name differs from that of another topic only in `.` and `_`, which metrics do not tell apart.
    #[error(
        "Topic '{name}' collides with existing topic: {other}; names that differ only in '.' and '_' are one in metrics"
    )]
    Collides {
        /// The name asked for.
        name: Str,
        /// The topic that has it.
        other: Str,
    },
    /// Neither a number of partitions nor -1.
    #[error("Number of partitions was set to {0}; it must be larger than 0, or -1 to use the default value")]
    InvalidPartitions(i32),
    /// Replicas cannot be placed.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// Both an assignment and numbers.
    #[error(
        "A manual partition assignment was specified together with a number of partitions or a replication \
         factor; set both to -1"
    )]
    AssignmentAndNumbers,
    /// A manual assignment that cannot be.
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    /// A config without a value.
    #[error("Null value not supported for topic configs: {0}")]
    NullConfig(Str),
    /// A config that cannot be set.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The request would make too many records.
    #[error(
        "Excessively large number of partitions per request: a request may make {RECORDS_PER_REQUEST_MAX} records; \
         use several requests"
    )]
    RequestTooLarge,
    /// The cluster would have too many partitions.
    #[error("The cluster may have {PARTITIONS_MAX} partitions in total; delete topics that are not needed")]
    TooManyPartitions,
}

impl CreateTopicError {
    /// The code on the wire.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::DuplicateName(_) | Self::Reserved | Self::AssignmentAndNumbers => ErrorCode::InvalidRequest,
            Self::Name(_) | Self::Collides { .. } => ErrorCode::InvalidTopicException,
            Self::Exists(_) => ErrorCode::TopicAlreadyExists,
            Self::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
            Self::Placement(_) => ErrorCode::InvalidReplicationFactor,
            Self::Assignment(_) => ErrorCode::InvalidReplicaAssignment,
            Self::NullConfig(_) => ErrorCode::InvalidConfig,
            Self::Config(error) => error.error_code(),
            Self::RequestTooLarge | Self::TooManyPartitions => ErrorCode::PolicyViolation,
        }
    }
}

/// Why replicas cannot be where the client wants them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    /// Two assignments for a partition.
    #[error("Found multiple manual partition assignments for partition {0}")]
    DuplicatePartition(i32),
    /// The partitions are not 0, 1, 2, ...
    #[error("The partitions of a manual assignment should be a consecutive sequence that begins with 0")]
    NotConsecutive,
    /// The number of assignments is not that of new partitions.
    #[error("Attempted to add {added} additional partition(s), but {assigned} assignment(s) were specified.")]
    Count {
        /// New partitions.
        added: usize,
        /// Assignments.
        assigned: usize,
    },
    /// A partition without replicas.
    #[error("The manual partition assignment includes an empty replica list.")]
    NoReplicas,
    /// A broker that is not there.
    #[error("The manual partition assignment includes broker {0}, but no such broker is registered.")]
    UnknownBroker(BrokerId),
    /// Two replicas on one broker.
    #[error("The manual partition assignment includes the broker {0} more than once.")]
    DuplicateBroker(BrokerId),
    /// Partitions of a topic differ in their number of replicas.
    #[error(
        "The manual partition assignment includes a partition with {found} replica(s), but the partitions before it \
         have {expected}"
    )]
    ReplicationFactor {
        /// Replicas of this partition.
        found: usize,
        /// Replicas of the others.
        expected: usize,
    },
    /// Nobody could lead.
    #[error("All brokers in the manual assignment for partition {0} are fenced or shutting down; try again")]
    NoActiveBroker(usize),
}

/// What one request has made so far.
struct Creation {
    records: Vec<MetadataRecord>,
    partitions: usize,
    metric_names: BTreeMap<Str, Str>,
    log_dirs: LogDirLoad,
}

impl Creation {
    fn new(image: &MetadataImage) -> Self {
        let log_dirs = LogDirLoad::of(image);
        Self { records: Vec::new(), partitions: 0, metric_names: BTreeMap::new(), log_dirs }
    }
}

impl Controller {
    /// Creates topics on behalf of a client.
    #[must_use]
    pub fn handle_create_topics(
        &self,
        config: &BrokerConfig,
        rng: &mut Rng,
        request: &CreateTopicsRequest,
    ) -> Outcome<MetadataRecord, CreateTopicsResponse> {
        let mut creation = Creation::new(&self.image);
        let is_too_large = partitions_asked_for(config, &request.topics) > RECORDS_PER_REQUEST_MAX;
        let mut topics = Vec::new();
        for (topic, is_duplicate) in distinct(&request.topics, |topic| &topic.name) {
            let name = topic.name.clone();
            let created = match (is_too_large, is_duplicate) {
                (true, _) => Err(CreateTopicError::RequestTooLarge),
                (_, true) => Err(CreateTopicError::DuplicateName(name.clone())),
                _ => self.create_topic(config, rng, topic, &mut creation),
            };
            topics.push(created.unwrap_or_else(|error| CreatableTopicResult {
                name,
                error_code: error.error_code().code(),
                error_message: error_message(&error),
                ..Default::default()
            }));
        }
        let records = if request.validate_only { Vec::new() } else { creation.records };
        Outcome { records, reply: CreateTopicsResponse { topics, ..Default::default() } }
    }

    /// Creates a topic that a broker needs or that a client has asked for by Metadata, with the broker's defaults and
    /// those of internal topics. That the topic exists already is a success.
    ///
    /// Differs from Kafka: the replication factor of internal topics is at most the number of brokers that are there.
    /// Kafka would wait for three brokers, so that no consumer group works on a single one.
    #[must_use]
    pub fn handle_auto_create_topic(
        &self,
        config: &BrokerConfig,
        rng: &mut Rng,
        name: &str,
    ) -> Outcome<MetadataRecord, Result<(), CreateTopicError>> {
        let mut creation = Creation::new(&self.image);
        let topic = self.auto_created_topic(config, name);
        match self.create_topic(config, rng, &topic, &mut creation) {
            Ok(_) => Outcome { records: creation.records, reply: Ok(()) },
            Err(CreateTopicError::Exists(_)) => Outcome::reply(Ok(())),
            Err(error) => Outcome::reply(Err(error)),
        }
    }

    fn auto_created_topic(&self, config: &BrokerConfig, name: &str) -> CreatableTopic {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: -1,
            replication_factor: -1,
            ..Default::default()
        };
        let configs = match name {
            // Compaction keeps the last commit of each group and partition, and it must see them uncompressed or as
            // the coordinator has compressed them.
            CONSUMER_OFFSETS_TOPIC => vec![
                ("cleanup.policy", "compact".to_owned()),
                ("compression.type", "producer".to_owned()),
                ("segment.bytes", config.value(keys::OFFSETS_TOPIC_SEGMENT_BYTES).to_string()),
            ],
            // Compaction keeps the last state of each transactional id.
            TRANSACTION_STATE_TOPIC => vec![
                ("cleanup.policy", "compact".to_owned()),
                ("compression.type", "uncompressed".to_owned()),
                ("min.insync.replicas", config.value(keys::TRANSACTION_STATE_LOG_MIN_ISR).to_string()),
                ("segment.bytes", config.value(keys::TRANSACTION_STATE_LOG_SEGMENT_BYTES).to_string()),
                ("unclean.leader.election.enable", "false".to_owned()),
            ],
            // Some weeks, or some hundred thousand entries; nobody waits until they are durable.
            GROUP_JOURNAL_TOPIC => vec![
                ("cleanup.policy", "delete".to_owned()),
                ("retention.ms", GROUP_JOURNAL_RETENTION_MS.to_string()),
                ("retention.bytes", GROUP_JOURNAL_BYTES.to_string()),
                ("segment.bytes", (GROUP_JOURNAL_BYTES / 8).to_string()),
                ("dohle.durability", "relaxed".to_owned()),
            ],
            _ => return topic,
        };
        let (num_partitions, replication_factor) = match name {
            TRANSACTION_STATE_TOPIC => {
                (keys::TRANSACTION_STATE_LOG_NUM_PARTITIONS, keys::TRANSACTION_STATE_LOG_REPLICATION_FACTOR)
            }
            _ => (keys::OFFSETS_TOPIC_NUM_PARTITIONS, keys::OFFSETS_TOPIC_REPLICATION_FACTOR),
        };
        let num_partitions = if name == GROUP_JOURNAL_TOPIC { 1 } else { config.value(num_partitions) };
        CreatableTopic {
            num_partitions,
            replication_factor: self.capped(config.value(replication_factor)),
            configs: configs
                .into_iter()
                .map(|(name, value)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) })
                .collect(),
            ..topic
        }
    }

    /// A replication factor that the brokers suffice for.
    fn capped(&self, replication_factor: i16) -> i16 {
        let alive = i16::try_from(self.image.alive_brokers().count()).unwrap_or(i16::MAX);
        replication_factor.min(alive).max(1)
    }

    fn create_topic(
        &self,
        config: &BrokerConfig,
        rng: &mut Rng,
        topic: &CreatableTopic,
        creation: &mut Creation,
    ) -> Result<CreatableTopicResult, CreateTopicError> {
        let metric_name = self.check_new_name(&topic.name, creation)?;
        let configs = topic_configs(&topic.configs)?;
        validate_configs(config, Target::Topic, configs.iter().copied())?;
        let partitions = self.new_partitions(config, rng, topic, &mut creation.log_dirs)?;
        let record_count = 1 + configs.len() + partitions.len();
        if creation.records.len() + record_count > RECORDS_PER_REQUEST_MAX {
            return Err(CreateTopicError::RequestTooLarge);
        }
        if self.image.partition_count() + creation.partitions + partitions.len() > PARTITIONS_MAX {
            return Err(CreateTopicError::TooManyPartitions);
        }
        let id = self.new_topic_id(rng);
        let result = created(config, topic, id, &configs, &partitions);
        creation.partitions += partitions.len();
        creation.metric_names.extend(metric_name.map(|metric_name| (metric_name, topic.name.clone())));
        creation.records.push(TopicRecord { name: topic.name.clone(), topic_id: id.0 }.into());
        let (resource_type, resource_name) = ConfigResource::Topic(topic.name.clone()).to_wire();
        creation.records.extend(configs.iter().map(|&(name, value)| {
            let (name, value, resource_name) = (name.into(), Some(value.into()), resource_name.clone());
            ConfigRecord { resource_type, resource_name, name, value }.into()
        }));
        let indexed = (0..).map(PartitionIndex).zip(&partitions);
        creation.records.extend(indexed.map(|(index, partition)| partition_record(id, index, partition)));
        Ok(result)
    }

    /// Whether a topic of this name may come to be.
    pub(crate) fn check_name(&self, name: &Str) -> Result<(), CreateTopicError> {
        self.check_new_name(name, &Creation::new(&self.image)).map(|_| ())
    }

    /// Checks the name, and gives the name in metrics where it could collide.
    fn check_new_name(&self, name: &Str, creation: &Creation) -> Result<Option<Str>, CreateTopicError> {
        if name == CLUSTER_METADATA_TOPIC {
            return Err(CreateTopicError::Reserved);
        }
        validate_topic_name(name)?;
        if self.image.topic(name).is_some() {
            return Err(CreateTopicError::Exists(name.clone()));
        }
        let metric_name = metric_name(name);
        // Differs from Kafka: topics of the same request do not get to collide with each other either.
        let other = metric_name.as_ref().and_then(|metric_name| {
            self.image
                .topics_by_metric_name
                .get(metric_name)
                .or_else(|| creation.metric_names.get(metric_name))
        });
        match other {
            Some(other) => Err(CreateTopicError::Collides { name: name.clone(), other: other.clone() }),
            None => Ok(metric_name),
        }
    }

    fn new_partitions(
        &self,
        config: &BrokerConfig,
        rng: &mut Rng,
        topic: &CreatableTopic,
        log_dirs: &mut LogDirLoad,
    ) -> Result<Vec<PartitionImage>, CreateTopicError> {
        if !topic.assignments.is_empty() {
            if topic.num_partitions != -1 || topic.replication_factor != -1 {
                return Err(CreateTopicError::AssignmentAndNumbers);
            }
            let assignments = in_order(&topic.assignments)?;
            return Ok(assigned_partitions(&self.image, log_dirs, assignments, 0, None)?);
        }
        let replication_factor = match topic.replication_factor {
            -1 => {
                let default = config.value(keys::DEFAULT_REPLICATION_FACTOR);
                self.capped(i16::try_from(default).unwrap_or(i16::MAX))
            }
            given if given > 0 => given,
            _ => return Err(PlacementError::NotPositive.into()),
        };
        let count = usize::try_from(partition_count(config, topic)).unwrap_or(0);
        match count {
            0 => return Err(CreateTopicError::InvalidPartitions(topic.num_partitions)),
            1..=RECORDS_PER_REQUEST_MAX => {}
            _ => return Err(CreateTopicError::RequestTooLarge),
        }
        Ok(placed_partitions(&self.image, log_dirs, rng, count, replication_factor)?)
    }

    /// An id that no topic has.
    pub fn new_topic_id(&self, rng: &mut Rng) -> TopicId {
        loop {
            let id = TopicId(rng.uuid());
            // Kafka keeps the first hundred ids for itself: 1 is the metadata log's.
            if id.0.as_u128() >= 100 && self.image.topic_by_id(id).is_none() {
                return id;
            }
        }
    }
}

/// How many partitions a topic is to have, as far as it says so.
fn partition_count(config: &BrokerConfig, topic: &CreatableTopic) -> i32 {
    match topic.num_partitions {
        -1 => config.value(keys::NUM_PARTITIONS),
        given => given,
    }
}

fn partitions_asked_for(config: &BrokerConfig, topics: &[CreatableTopic]) -> usize {
    let count = |topic: &CreatableTopic| match &*topic.assignments {
        [] => usize::try_from(partition_count(config, topic)).unwrap_or(0),
        assignments => assignments.len(),
    };
    topics.iter().map(count).fold(0, usize::saturating_add)
}

/// The configs by name; of two values for one name the last counts.
fn topic_configs(configs: &[CreatableTopicConfig]) -> Result<Vec<(&str, &str)>, CreateTopicError> {
    let mut by_name = BTreeMap::new();
    for config in configs {
        let value =
            config.value.as_deref().ok_or_else(|| CreateTopicError::NullConfig(config.name.clone()))?;
        by_name.insert(&*config.name, value);
    }
    Ok(by_name.into_iter().collect())
}

/// The replicas of partitions 0, 1, 2, ...
fn in_order(assignments: &[CreatableReplicaAssignment]) -> Result<Vec<&[i32]>, AssignmentError> {
    let mut by_index = BTreeMap::new();
    for assignment in assignments {
        if by_index.insert(assignment.partition_index, &*assignment.broker_ids).is_some() {
            return Err(AssignmentError::DuplicatePartition(assignment.partition_index));
        }
    }
    if !by_index.keys().copied().eq((0..).take(by_index.len())) {
        return Err(AssignmentError::NotConsecutive);
    }
    Ok(by_index.into_values().collect())
}

/// New partitions, from number `first` on, with replicas where the client wants them.
pub(crate) fn assigned_partitions<'a>(
    image: &MetadataImage,
    log_dirs: &mut LogDirLoad,
    assignments: impl IntoIterator<Item = &'a [i32]>,
    first: usize,
    mut replication_factor: Option<usize>,
) -> Result<Vec<PartitionImage>, AssignmentError> {
    let mut partitions = Vec::new();
    for (position, broker_ids) in assignments.into_iter().enumerate() {
        let mut seen = BTreeSet::new();
        for &id in broker_ids {
            let id = BrokerId(id);
            image.broker(id).ok_or(AssignmentError::UnknownBroker(id))?;
            if !seen.insert(id) {
                return Err(AssignmentError::DuplicateBroker(id));
            }
        }
        let found = broker_ids.len();
        match replication_factor {
            _ if found == 0 => return Err(AssignmentError::NoReplicas),
            Some(expected) if expected != found => {
                return Err(AssignmentError::ReplicationFactor { found, expected });
            }
            _ => replication_factor = Some(found),
        }
        let replicas = broker_ids.iter().copied().map(BrokerId).collect();
        let partition = new_partition(image, log_dirs, replicas);
        partitions.push(partition.ok_or(AssignmentError::NoActiveBroker(first + position))?);
    }
    Ok(partitions)
}

/// New partitions with replicas where there is room.
pub(crate) fn placed_partitions(
    image: &MetadataImage,
    log_dirs: &mut LogDirLoad,
    rng: &mut Rng,
    count: usize,
    replication_factor: i16,
) -> Result<Vec<PartitionImage>, PlacementError> {
    let none_active = || PlacementError::NoActiveBroker(replication_factor);
    place(image, rng, count, replication_factor)?
        .into_iter()
        .map(|replicas| new_partition(image, log_dirs, replicas).ok_or_else(none_active))
        .collect()
}

pub(crate) fn partition_record(
    topic: TopicId,
    index: PartitionIndex,
    partition: &PartitionImage,
) -> MetadataRecord {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect();
    PartitionRecord {
        partition_id: index.0,
        topic_id: topic.0,
        replicas: ids(&partition.replicas),
        isr: ids(&partition.isr),
        leader: partition.leader.0,
        leader_epoch: partition.leader_epoch.0,
        partition_epoch: partition.partition_epoch,
        directories: partition.directories.clone(),
        ..Default::default()
    }
    .into()
}

fn created(
    config: &BrokerConfig,
    topic: &CreatableTopic,
    id: TopicId,
    configs: &[(&str, &str)],
    partitions: &[PartitionImage],
) -> CreatableTopicResult {
    let described =
        describe_topic(config, configs.iter().copied()).into_iter().map(|entry| CreatableTopicConfigs {
            name: entry.name.into(),
            value: entry.value.map(Str::from),
            read_only: entry.read_only,
            config_source: entry.source.code(),
            is_sensitive: entry.is_sensitive,
        });
    let replication_factor = partitions.first().map_or(0, |partition| partition.replicas.len());
    CreatableTopicResult {
        name: topic.name.clone(),
        topic_id: id.0,
        num_partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(replication_factor).unwrap_or(i16::MAX),
        configs: Some(described.collect()),
        ..Default::default()
    }
}
