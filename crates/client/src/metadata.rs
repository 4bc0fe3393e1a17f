//! What the cluster says of itself: brokers, topics, leaders.

use std::collections::BTreeMap;

use dohle_protocol::messages::MetadataResponse;
use dohle_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use dohle_types::{BrokerId, ErrorCode, LeaderEpoch, PartitionIndex, Str, TopicId};

use crate::Endpoint;

/// The latest answers to metadata requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The cluster's id, once known.
    pub cluster_id: Option<Str>,
    /// The broker to which requests for the controller go.
    pub controller: Option<BrokerId>,
    brokers: BTreeMap<BrokerId, Endpoint>,
    topics: BTreeMap<Str, Topic>,
}

/// A topic as metadata describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id, zero from brokers before 2.8.
    pub id: TopicId,
    /// Why nothing else is known, or `NONE`.
    pub error: ErrorCode,
    /// Whether it is Kafka's own.
    pub is_internal: bool,
    /// Its partitions, in order of their numbers.
    pub partitions: Vec<Partition>,
}

/// A partition as metadata describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub index: PartitionIndex,
    /// Why it cannot be used, or `NONE`.
    pub error: ErrorCode,
    /// Who leads it, if anyone.
    pub leader: Option<BrokerId>,
    /// The leader's term.
    pub leader_epoch: LeaderEpoch,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// The replicas in sync.
    pub isr: Vec<BrokerId>,
    /// The replicas on brokers or disks that are down.
    pub offline: Vec<BrokerId>,
}

impl Metadata {
    /// Whether a broker ever answered.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.brokers.is_empty()
    }

    /// The brokers, by id.
    pub fn brokers(&self) -> impl Iterator<Item = (BrokerId, &Endpoint)> {
        self.brokers.iter().map(|(&id, endpoint)| (id, endpoint))
    }

    /// Where a broker listens.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&Endpoint> {
        self.brokers.get(&id)
    }

    /// The topics asked for, by name.
    pub fn topics(&self) -> impl Iterator<Item = (&Str, &Topic)> {
        self.topics.iter()
    }

    /// A topic; `None` if it was not asked for yet.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    /// The topic with this id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<(&Str, &Topic)> {
        self.topics.iter().find(|(_, topic)| topic.id == id)
    }

    /// A partition, if the topic is known and has it.
    #[must_use]
    pub fn partition(&self, topic: &str, index: PartitionIndex) -> Option<&Partition> {
        self.topics.get(topic)?.partition(index)
    }

    /// Takes in an answer. Topics it does not mention are forgotten.
    ///
    /// Brokers learn of a new leader at different times, so that an answer may be older than the last: a
    /// partition's leader is only replaced by one of the same or a later term.
    pub(crate) fn update(&mut self, response: MetadataResponse) {
        self.cluster_id = response.cluster_id;
        self.controller = known_broker(response.controller_id);
        self.brokers = response
            .brokers
            .into_iter()
            .filter_map(|broker| {
                let port = u16::try_from(broker.port).ok()?;
                Some((BrokerId(broker.node_id), Endpoint::new(broker.host, port)))
            })
            .collect();
        let known = std::mem::take(&mut self.topics);
        for topic in response.topics {
            let Some(name) = topic.name.clone() else { continue };
            let mut topic = Topic::from(topic);
            if let Some(old) = known.get(&name).filter(|old| old.id == topic.id) {
                topic.keep_later_terms(old);
            }
            self.topics.insert(name, topic);
        }
    }
}

impl Topic {
    /// A partition of the topic.
    #[must_use]
    pub fn partition(&self, index: PartitionIndex) -> Option<&Partition> {
        // Numbers have no gaps, so the search normally ends at its first guess.
        let guess = usize::try_from(index.0).ok().and_then(|at| self.partitions.get(at));
        guess
            .filter(|found| found.index == index)
            .or_else(|| self.partitions.iter().find(|partition| partition.index == index))
    }

    fn keep_later_terms(&mut self, old: &Self) {
        for partition in &mut self.partitions {
            if let Some(old) =
                old.partition(partition.index).filter(|old| old.leader_epoch > partition.leader_epoch)
            {
                partition.clone_from(old);
            }
        }
    }
}

impl From<MetadataResponse> for Metadata {
    fn from(response: MetadataResponse) -> Self {
        let mut metadata = Self::default();
        metadata.update(response);
        metadata
    }
}

impl From<MetadataResponseTopic> for Topic {
    fn from(topic: MetadataResponseTopic) -> Self {
        let mut partitions: Vec<Partition> = topic.partitions.into_iter().map(Partition::from).collect();
        partitions.sort_by_key(|partition| partition.index);
        Self {
            id: TopicId(topic.topic_id),
            error: error_of(topic.error_code),
            is_internal: topic.is_internal,
            partitions,
        }
    }
}

impl From<MetadataResponsePartition> for Partition {
    fn from(partition: MetadataResponsePartition) -> Self {
        let ids = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
        Self {
            index: PartitionIndex(partition.partition_index),
            error: error_of(partition.error_code),
            leader: known_broker(partition.leader_id),
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            replicas: ids(partition.replica_nodes),
            isr: ids(partition.isr_nodes),
            offline: ids(partition.offline_replicas),
        }
    }
}

fn known_broker(id: i32) -> Option<BrokerId> {
    (id >= 0).then_some(BrokerId(id))
}

/// `Ok` for `NONE`, else the error of a response.
pub fn check(code: i16) -> Result<(), ErrorCode> {
    let error = error_of(code);
    if error.is_none() { Ok(()) } else { Err(error) }
}

/// The error of a response; codes of later versions of Kafka are unknown errors.
#[must_use]
pub fn error_of(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}
