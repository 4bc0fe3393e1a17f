//! AlterPartitionReassignments (key 45, versions 0-1, KIP-455): other replicas for partitions.
//!
//! Replicas are taken away, and put in another order, at once: the leader, which must stay, has all that is committed.
//! A broker that has no replica of a partition cannot get one, since nothing is replicated yet; therefore no
//! reassignment is ever under way, and none can be cancelled.
//!
//! - 1: whether the number of replicas may change (KIP-860).

use dohle_ledger::Outcome;
use dohle_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use dohle_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use dohle_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, PartitionChangeRecord,
};
use dohle_types::{BrokerId, ErrorCode, PartitionIndex, Str};

use crate::image::{PartitionImage, TopicImage};
use crate::ledger::{Controller, RECORDS_PER_REQUEST_MAX, error_message};
use crate::record::MetadataRecord;

/// Why a partition keeps its replicas.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReassignError {
    /// There is no such topic.
    #[error("Unable to find a topic named {0}.")]
    UnknownTopic(Str),
    /// The topic has no such partition.
    #[error("Unable to find partition {0}:{1}.")]
    UnknownPartition(Str, i32),
    /// There is nothing to cancel.
    #[error("No partition reassignment in progress.")]
    NoneInProgress,
    /// No replica.
    #[error("The manual partition assignment includes an empty replica list.")]
    NoReplicas,
    /// Two replicas on one broker.
    #[error("The manual partition assignment includes the broker {0} more than once.")]
    DuplicateBroker(BrokerId),
    /// A broker that is not there.
    #[error("The manual partition assignment includes broker {0}, but no such broker is registered.")]
    UnknownBroker(BrokerId),
    /// A broker that would have to copy the partition.
    #[error("Broker {0} has no replica of the partition, and none can be made: nothing is replicated yet")]
    NewReplica(BrokerId),
    /// Nobody that remains leads.
    #[error("The leader of the partition must stay among its replicas, for no other is alive")]
    LeaderRemoved,
    /// The request allows no other number of replicas.
    #[error("The replication factor is changed from {from} to {to}")]
    ReplicationFactor {
        /// Replicas there are.
        from: usize,
        /// Replicas asked for.
        to: usize,
    },
    /// The request would make too many records.
    #[error("A request may reassign {RECORDS_PER_REQUEST_MAX} partitions; use several requests")]
    RequestTooLarge,
}

impl ReassignError {
    /// The code on the wire.
    #[must_use]
    pub(crate) const fn error_code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic(_) | Self::UnknownPartition(..) => ErrorCode::UnknownTopicOrPartition,
            Self::NoneInProgress => ErrorCode::NoReassignmentInProgress,
            Self::NoReplicas
            | Self::DuplicateBroker(_)
            | Self::UnknownBroker(_)
            | Self::NewReplica(_)
            | Self::LeaderRemoved => ErrorCode::InvalidReplicaAssignment,
            Self::ReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
            Self::RequestTooLarge => ErrorCode::PolicyViolation,
        }
    }
}

impl Controller {
    /// Gives partitions other replicas.
    #[must_use]
    pub fn handle_alter_partition_reassignments(
        &self,
        request: &AlterPartitionReassignmentsRequest,
    ) -> Outcome<MetadataRecord, AlterPartitionReassignmentsResponse> {
        let mut records = Vec::new();
        let mut responses = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for asked in &topic.partitions {
                let reassigned = self.reassigned(request, topic, asked, records.len());
                let error = reassigned.map(|record| records.extend(record)).err();
                partitions.push(ReassignablePartitionResponse {
                    partition_index: asked.partition_index,
                    error_code: error.as_ref().map_or(ErrorCode::None, ReassignError::error_code).code(),
                    error_message: error.as_ref().and_then(error_message),
                });
            }
            responses.push(ReassignableTopicResponse { name: topic.name.clone(), partitions });
        }
        let allow_replication_factor_change = request.allow_replication_factor_change;
        let reply = AlterPartitionReassignmentsResponse {
            allow_replication_factor_change,
            responses,
            ..Default::default()
        };
        Outcome { records, reply }
    }

    /// The record of a partition's change; `None` where it has these replicas.
    fn reassigned(
        &self,
        request: &AlterPartitionReassignmentsRequest,
        ReassignableTopic { name, .. }: &ReassignableTopic,
        asked: &ReassignablePartition,
        made: usize,
    ) -> Result<Option<MetadataRecord>, ReassignError> {
        let topic = self.image.topic(name).ok_or_else(|| ReassignError::UnknownTopic(name.clone()))?;
        let index = PartitionIndex(asked.partition_index);
        let partition = topic.partitions.get(&index);
        let partition =
            partition.ok_or_else(|| ReassignError::UnknownPartition(name.clone(), asked.partition_index))?;
        let replicas = asked.replicas.as_ref().ok_or(ReassignError::NoneInProgress)?;
        let replicas: Vec<BrokerId> = replicas.iter().copied().map(BrokerId).collect();
        self.check_replicas(partition, &replicas)?;
        let (from, to) = (partition.replicas.len(), replicas.len());
        if from != to && !request.allow_replication_factor_change {
            return Err(ReassignError::ReplicationFactor { from, to });
        }
        if replicas == partition.replicas {
            return Ok(None);
        }
        if made == RECORDS_PER_REQUEST_MAX {
            return Err(ReassignError::RequestTooLarge);
        }
        change(topic, index, partition, &replicas).map(Some)
    }

    fn check_replicas(&self, partition: &PartitionImage, replicas: &[BrokerId]) -> Result<(), ReassignError> {
        if replicas.is_empty() {
            return Err(ReassignError::NoReplicas);
        }
        for (place, &id) in replicas.iter().enumerate() {
            if replicas.iter().take(place).any(|&other| other == id) {
                return Err(ReassignError::DuplicateBroker(id));
            }
            // A replica that is there may be of a broker that is gone for good.
            if !partition.replicas.contains(&id) {
                self.image.broker(id).ok_or(ReassignError::UnknownBroker(id))?;
                return Err(ReassignError::NewReplica(id));
            }
        }
        Ok(())
    }
}

fn change(
    topic: &TopicImage,
    index: PartitionIndex,
    partition: &PartitionImage,
    replicas: &[BrokerId],
) -> Result<MetadataRecord, ReassignError> {
    let remains = |id: &&BrokerId| replicas.contains(id);
    let ids = |brokers: &[BrokerId]| brokers.iter().filter(remains).map(|id| id.0).collect::<Vec<_>>();
    if !replicas.contains(&partition.leader) {
        return Err(ReassignError::LeaderRemoved);
    }
    let directory = |id: &BrokerId| partition.directory_of(*id).unwrap_or_default();
    let record = PartitionChangeRecord {
        partition_id: index.0,
        topic_id: topic.id.0,
        isr: Some(ids(&partition.isr)),
        replicas: Some(replicas.iter().map(|id| id.0).collect()),
        eligible_leader_replicas: Some(ids(&partition.elr)).filter(|elr| elr.len() != partition.elr.len()),
        directories: Some(replicas.iter().map(directory).collect()),
        ..Default::default()
    };
    Ok(record.into())
}
