//! OffsetCommit (key 8, versions 2-10): a group remembers how far it has come.
//!
//! Groups of the consumer protocol give member epochs for generations; see `consumer/offsets.rs`.
//!
//! Generation -1 and no member id: a simple consumer, or a tool, which a group without members obeys. Version
//! 2-4: the client sets when the offsets expire. Version 6: leader epochs (KIP-320). Version 7: static members.
//! Version 9: GROUP_ID_NOT_FOUND instead of ILLEGAL_GENERATION. Version 10: topic ids instead of names.
//!
//! The host refuses partitions that do not exist, and sets both the name and, where it knows it, the id of every
//! topic in the request; both are handed back in the response. The id is stored with the offset.

use dohle_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use dohle_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use dohle_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use dohle_types::{ErrorCode, LeaderEpoch, Now, Offset, Timestamp, TopicId};

use crate::consumer::OffsetsError;
use crate::group::{MemberError, Phase};
use crate::state::{CommittedOffset, DurableGroup};
use crate::{Caller, Effects, GroupLedger, Record, records};

/// Why a commit is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommitError {
    #[error("there is no such group")]
    GroupIdNotFound,
    #[error("the generation is over: join again")]
    IllegalGeneration,
    #[error(transparent)]
    Member(#[from] MemberError),
    #[error(transparent)]
    Consumer(#[from] OffsetsError),
    #[error("the group rebalances: join again")]
    RebalanceInProgress,
    #[error("there are too many groups in this partition of __consumer_offsets: delete unused ones")]
    TooManyGroups,
    #[error(
        "open transactions commit too many offsets of this partition of __consumer_offsets: end them earlier"
    )]
    TooManyPending,
    #[error("the offsets do not fit in one batch: commit fewer at a time")]
    TooLarge,
}

impl CommitError {
    const fn code(self) -> ErrorCode {
        match self {
            Self::GroupIdNotFound => ErrorCode::GroupIdNotFound,
            Self::IllegalGeneration => ErrorCode::IllegalGeneration,
            Self::Member(error) => error.code(),
            Self::Consumer(error) => error.code(),
            Self::RebalanceInProgress => ErrorCode::RebalanceInProgress,
            Self::TooManyGroups | Self::TooManyPending => ErrorCode::PolicyViolation,
            Self::TooLarge => ErrorCode::InvalidCommitOffsetSize,
        }
    }
}

/// Why one partition's offset is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum PartitionError {
    #[error("the metadata is longer than offset.metadata.max.bytes")]
    MetadataTooLarge,
    #[error("the group has too many offsets")]
    TooManyOffsets,
}

impl PartitionError {
    const fn code(self) -> ErrorCode {
        match self {
            Self::MetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
            Self::TooManyOffsets => ErrorCode::PolicyViolation,
        }
    }
}

impl GroupLedger {
    /// Commits offsets. A member's commit counts as a heartbeat.
    pub fn commit_offsets(
        &mut self,
        now: Now,
        caller: &Caller,
        request: &OffsetCommitRequest,
        effects: &mut Effects,
    ) -> OffsetCommitResponse {
        if let Err(error) = self.validate_commit(caller.api_version, request) {
            return refused(request, error);
        }
        let group = self.groups.get(&request.group_id);
        if group.is_some_and(|group| matches!(group.phase, Phase::Stable | Phase::PreparingRebalance { .. }))
        {
            self.restart_session(now, &request.group_id, &request.member_id);
        }
        let (mut records, topics) = self.commit_records(now, request);
        let response = OffsetCommitResponse { topics, ..OffsetCommitResponse::default() };
        if records.iter().map(Record::size).sum::<usize>() > self.config.batch_bytes_max {
            return refused(request, CommitError::TooLarge);
        }
        effects.records.append(&mut records);
        response
    }

    /// The records of those offsets that can be committed, and what became of each.
    pub(crate) fn commit_records(
        &self,
        now: Now,
        request: &OffsetCommitRequest,
    ) -> (Vec<Record>, Vec<OffsetCommitResponseTopic>) {
        let mut records = Vec::new();
        let topics = request.topics.iter().map(|topic| OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| {
                    let result = self.offset_record(now, request, topic, partition, records.len());
                    let error_code = match result {
                        Ok(record) => {
                            records.push(record);
                            ErrorCode::None
                        }
                        Err(error) => error.code(),
                    };
                    OffsetCommitResponsePartition {
                        partition_index: partition.partition_index,
                        error_code: error_code.code(),
                    }
                })
                .collect(),
        });
        let topics = topics.collect();
        (records, topics)
    }

    pub(crate) fn validate_commit(
        &self,
        api_version: i16,
        request: &OffsetCommitRequest,
    ) -> Result<(), CommitError> {
        let generation = request.generation_id_or_member_epoch;
        if let Some(group) = self.state.consumer_group(&request.group_id) {
            let partitions = request.topics.iter().flat_map(|topic| {
                let topic_id = TopicId(topic.topic_id);
                topic.partitions.iter().map(move |partition| (topic_id, partition.partition_index))
            });
            return Ok(group.validate_commit(&request.member_id, generation, api_version, partitions)?);
        }
        let Some(group) = self.groups.get(&request.group_id) else {
            let is_member = generation >= 0;
            return match self.state.group(&request.group_id) {
                Some(_) if is_member => Err(MemberError::Unknown.into()),
                Some(_) => Ok(()),
                None if is_member && api_version >= 9 => Err(CommitError::GroupIdNotFound),
                None if is_member => Err(CommitError::IllegalGeneration),
                None if self.state.len() >= self.config.groups_max => Err(CommitError::TooManyGroups),
                None => Ok(()),
            };
        };
        if generation < 0 && group.phase == Phase::Empty {
            return Ok(());
        }
        if generation >= 0 || !request.member_id.is_empty() || request.group_instance_id.is_some() {
            group.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
            if generation != group.generation {
                return Err(CommitError::IllegalGeneration);
            }
        } else {
            return Err(MemberError::Unknown.into());
        }
        // A member that knows the generation but not yet its assignment has nothing to commit.
        match group.phase {
            Phase::CompletingRebalance => Err(CommitError::RebalanceInProgress),
            Phase::Empty | Phase::PreparingRebalance { .. } | Phase::Stable => Ok(()),
        }
    }

    /// `added` records of this commit may be for new offsets.
    fn offset_record(
        &self,
        now: Now,
        request: &OffsetCommitRequest,
        topic: &OffsetCommitRequestTopic,
        partition: &OffsetCommitRequestPartition,
        added: usize,
    ) -> Result<Record, PartitionError> {
        let metadata = partition.committed_metadata.clone().unwrap_or_default();
        let limit = self.config.offset_metadata_len_max;
        if metadata.len() > limit && metadata.encode_utf16().count() > limit {
            return Err(PartitionError::MetadataTooLarge);
        }
        let durable = self.state.group(&request.group_id);
        let is_new =
            durable.is_none_or(|group| group.offset(&topic.name, partition.partition_index).is_none());
        let count = durable.map_or(0, |group: &DurableGroup| group.offset_count);
        if is_new && count + added >= self.config.offsets_per_group_max {
            return Err(PartitionError::TooManyOffsets);
        }
        let committed = CommittedOffset {
            offset: Offset(partition.committed_offset),
            leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
            metadata,
            committed_at: now.wall,
            expires_at: match request.retention_time_ms {
                -1 => None,
                retention_ms => Some(Timestamp(now.wall.0.saturating_add(retention_ms))),
            },
            topic_id: TopicId(topic.topic_id),
        };
        Ok(records::offset_commit(&request.group_id, &topic.name, partition.partition_index, &committed))
    }
}

/// The same error for every partition.
pub(crate) fn refused(request: &OffsetCommitRequest, error: CommitError) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: error.code().code(),
            })
            .collect(),
    });
    OffsetCommitResponse { topics: topics.collect(), ..OffsetCommitResponse::default() }
}
