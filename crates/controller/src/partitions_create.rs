//! CreatePartitions (key 37, versions 0-3): more partitions for topics that exist (KIP-195).

use dohle_ledger::Outcome;
use dohle_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use dohle_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use dohle_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use dohle_types::{ErrorCode, PartitionIndex, Rng, Str};

use crate::image::TopicImage;
use crate::ledger::{Controller, PARTITIONS_MAX, RECORDS_PER_REQUEST_MAX, distinct, error_message};
use crate::log_dirs::LogDirLoad;
use crate::placement::PlacementError;
use crate::record::MetadataRecord;
use crate::topics_create::{AssignmentError, assigned_partitions, partition_record, placed_partitions};

/// Why a topic gets no more partitions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreatePartitionsError {
    /// The request names the topic twice.
    #[error("Duplicate topic name: the request names '{0}' more than once")]
    DuplicateName(Str),
    /// There is no such topic.
    #[error("The topic '{0}' does not exist.")]
    UnknownTopic(Str),
    /// It has that many.
    #[error("Topic already has {0} partition(s).")]
    AlreadySo(usize),
    /// It has more.
    #[error("The topic {name} currently has {current} partition(s); {asked} would not be an increase.")]
    NoIncrease {
        /// The topic.
        name: Str,
        /// Partitions there are.
        current: usize,
        /// Partitions asked for.
        asked: i32,
    },
    /// A manual assignment that cannot be.
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    /// Replicas cannot be placed.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The request would make too many records.
    #[error("A request may add {RECORDS_PER_REQUEST_MAX} partitions; use several requests")]
    RequestTooLarge,
    /// The cluster would have too many partitions.
    #[error("The cluster may have {PARTITIONS_MAX} partitions in total; delete topics that are not needed")]
    TooManyPartitions,
}

impl CreatePartitionsError {
    /// The code on the wire.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::DuplicateName(_) => ErrorCode::InvalidRequest,
            Self::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
            Self::AlreadySo(_) | Self::NoIncrease { .. } => ErrorCode::InvalidPartitions,
            Self::Assignment(_) => ErrorCode::InvalidReplicaAssignment,
            Self::Placement(_) => ErrorCode::InvalidReplicationFactor,
            Self::RequestTooLarge | Self::TooManyPartitions => ErrorCode::PolicyViolation,
        }
    }
}

impl Controller {
    /// Adds partitions to topics.
    #[must_use]
    pub fn handle_create_partitions(
        &self,
        rng: &mut Rng,
        request: &CreatePartitionsRequest,
    ) -> Outcome<MetadataRecord, CreatePartitionsResponse> {
        let mut records = Vec::new();
        let mut results = Vec::new();
        let mut log_dirs = LogDirLoad::of(&self.image);
        for (topic, is_duplicate) in distinct(&request.topics, |topic| &topic.name) {
            let name = topic.name.clone();
            let added = if is_duplicate {
                Err(CreatePartitionsError::DuplicateName(name.clone()))
            } else {
                self.add_partitions(rng, topic, records.len(), &mut log_dirs)
            };
            results.push(match added {
                Ok(added) => {
                    records.extend(added);
                    CreatePartitionsTopicResult { name, ..Default::default() }
                }
                Err(error) => CreatePartitionsTopicResult {
                    name,
                    error_code: error.error_code().code(),
                    error_message: error_message(&error),
                },
            });
        }
        if request.validate_only {
            records.clear();
        }
        Outcome { records, reply: CreatePartitionsResponse { results, ..Default::default() } }
    }

    fn add_partitions(
        &self,
        rng: &mut Rng,
        asked: &CreatePartitionsTopic,
        added_before: usize,
        log_dirs: &mut LogDirLoad,
    ) -> Result<Vec<MetadataRecord>, CreatePartitionsError> {
        let topic = self
            .image
            .topic(&asked.name)
            .ok_or_else(|| CreatePartitionsError::UnknownTopic(asked.name.clone()))?;
        let current = topic.partitions.len();
        let added = match usize::try_from(asked.count).unwrap_or(0).checked_sub(current) {
            Some(0) => return Err(CreatePartitionsError::AlreadySo(current)),
            Some(added) => added,
            None => {
                let name = asked.name.clone();
                return Err(CreatePartitionsError::NoIncrease { name, current, asked: asked.count });
            }
        };
        if added_before + added > RECORDS_PER_REQUEST_MAX {
            return Err(CreatePartitionsError::RequestTooLarge);
        }
        if self.image.partition_count() + added_before + added > PARTITIONS_MAX {
            return Err(CreatePartitionsError::TooManyPartitions);
        }
        let replication_factor = replication_factor(topic);
        let partitions = match &asked.assignments {
            Some(assignments) if assignments.len() != added => {
                return Err(AssignmentError::Count { added, assigned: assignments.len() }.into());
            }
            Some(assignments) => {
                let assignments = assignments.iter().map(|assignment| &*assignment.broker_ids);
                assigned_partitions(&self.image, log_dirs, assignments, current, Some(replication_factor))?
            }
            None => {
                let replication_factor = i16::try_from(replication_factor).unwrap_or(i16::MAX);
                placed_partitions(&self.image, log_dirs, rng, added, replication_factor)?
            }
        };
        let first = i32::try_from(current).unwrap_or(i32::MAX);
        let indexed = (first..).map(PartitionIndex).zip(&partitions);
        Ok(indexed.map(|(index, partition)| partition_record(topic.id, index, partition)).collect())
    }
}

/// The number of replicas of a topic's partitions: that of its first one.
fn replication_factor(topic: &TopicImage) -> usize {
    topic.partitions.values().next().map_or(0, |partition| partition.replicas.len())
}
