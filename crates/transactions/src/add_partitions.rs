//! AddPartitionsToTxn and AddOffsetsToTxn: what a transaction is going to write to, so that its end is told there;
//! and the question of a broker whether a partition belongs to an open transaction (KIP-890).

use std::collections::BTreeMap;

use dohle_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use dohle_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use dohle_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use dohle_types::{ErrorCode, ProducerEpoch, ProducerId, Str};

use crate::state::{Partitions, Status, Transaction, TransactionVersion, partitions_bytes, partitions_count};
use crate::{TransactionLedger, Turn, records};

/// Bytes by which the record of a transaction may grow on the way to its end: ids before and after, and a version.
const LATER_FIELDS: usize = 32;

/// Why partitions are not added, or not found in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum AddError {
    #[error("the transactional id is empty")]
    InvalidRequest,
    #[error("the transactional id has no producer of this id")]
    InvalidProducerIdMapping,
    #[error("the producer has another epoch")]
    ProducerFenced,
    #[error("the last transaction is still being ended: ask again")]
    ConcurrentTransactions,
    #[error("the partition was not added to the transaction, or it has ended")]
    NotInTransaction,
    #[error("the transaction has too many partitions, or all transactions together: end it earlier")]
    TooManyPartitions,
}

impl AddError {
    const fn code(self, api: Api) -> ErrorCode {
        match self {
            Self::InvalidRequest => ErrorCode::InvalidRequest,
            Self::InvalidProducerIdMapping => ErrorCode::InvalidProducerIdMapping,
            // Clients learned of PRODUCER_FENCED with version 2 of both (KIP-588).
            Self::ProducerFenced => match api {
                Api::AddPartitions(..2) | Api::AddOffsets(..2) => ErrorCode::InvalidProducerEpoch,
                Api::AddPartitions(_) | Api::AddOffsets(_) => ErrorCode::ProducerFenced,
            },
            Self::ConcurrentTransactions => ErrorCode::ConcurrentTransactions,
            Self::NotInTransaction => match api {
                Api::AddPartitions(..5) | Api::AddOffsets(_) => ErrorCode::InvalidTxnState,
                Api::AddPartitions(_) => ErrorCode::TransactionAbortable,
            },
            Self::TooManyPartitions => ErrorCode::PolicyViolation,
        }
    }
}

/// By which request, in which version, partitions are added.
#[derive(Clone, Copy, Debug)]
enum Api {
    AddPartitions(i16),
    AddOffsets(i16),
}

impl TransactionLedger {
    /// Adds partitions to the transaction of one transactional id, or begins one; or only looks whether they belong to
    /// it. The host makes of a request before version 4 one such part.
    pub fn add_partitions(
        &mut self,
        turn: &mut Turn<'_>,
        api_version: i16,
        request: &AddPartitionsToTxnTransaction,
    ) -> AddPartitionsToTxnResult {
        let producer = (ProducerId(request.producer_id), ProducerEpoch(request.producer_epoch));
        let partitions = partitions(&request.topics);
        let refused = if request.verify_only {
            self.verify(&request.transactional_id, producer, &partitions)
        } else {
            // From version 4 on they come from brokers, for clients of transactions v2.
            let client = if api_version < 4 { TransactionVersion::V0 } else { TransactionVersion::V2 };
            let added = self.try_add(turn, &request.transactional_id, producer, &partitions, client);
            added.err().map_or_else(|| Refused::Some(BTreeMap::new()), Refused::All)
        };
        let results = request.topics.iter().map(|topic| AddPartitionsToTxnTopicResult {
            name: topic.name.clone(),
            results_by_partition: topic
                .partitions
                .iter()
                .map(|&partition_index| {
                    let error = refused.error_of(&topic.name, partition_index);
                    let code =
                        error.map_or(ErrorCode::None, |error| error.code(Api::AddPartitions(api_version)));
                    AddPartitionsToTxnPartitionResult { partition_index, partition_error_code: code.code() }
                })
                .collect(),
        });
        AddPartitionsToTxnResult {
            transactional_id: request.transactional_id.clone(),
            topic_results: results.collect(),
        }
    }

    /// Adds the partition of `__consumer_offsets` in which a group's offsets are.
    pub fn add_offsets(
        &mut self,
        turn: &mut Turn<'_>,
        api_version: i16,
        request: &AddOffsetsToTxnRequest,
        (offsets_topic, index): (&str, i32),
    ) -> AddOffsetsToTxnResponse {
        let producer = (ProducerId(request.producer_id), ProducerEpoch(request.producer_epoch));
        let partitions = Partitions::from([(Str::from(offsets_topic), [index].into())]);
        let id = &request.transactional_id;
        let added = self.try_add(turn, id, producer, &partitions, TransactionVersion::V0);
        let code = added.err().map_or(ErrorCode::None, |error| error.code(Api::AddOffsets(api_version)));
        AddOffsetsToTxnResponse { error_code: code.code(), ..AddOffsetsToTxnResponse::default() }
    }

    fn try_add(
        &self,
        turn: &mut Turn<'_>,
        transactional_id: &Str,
        producer: (ProducerId, ProducerEpoch),
        added: &Partitions,
        client: TransactionVersion,
    ) -> Result<(), AddError> {
        let present = self.transaction_of(transactional_id)?;
        // First of all: the producer may have been told the id already that it goes on with.
        if present.status.is_prepared() {
            return Err(AddError::ConcurrentTransactions);
        }
        check_producer(present, producer)?;
        let is_new = |(topic, index)| !contains(present, topic, index);
        let new: usize = each(added).filter(|&partition| is_new(partition)).count();
        if new == 0 && (present.status == Status::Ongoing || added.is_empty()) {
            return Ok(());
        }
        let next = present.with_partitions(added, client, turn.now.wall);
        if partitions_count(&next.partitions) > self.config.partitions_per_transaction_max
            || self.state.bytes() + partitions_bytes(added) > self.config.state_bytes_max
        {
            return Err(AddError::TooManyPartitions);
        }
        match records::transaction(transactional_id, &next, turn.version) {
            Ok(record) if record.size() + LATER_FIELDS <= self.config.batch_bytes_max => {
                turn.effects.records.push(record);
            }
            Ok(_) | Err(_) => return Err(AddError::TooManyPartitions),
        }
        Ok(())
    }

    fn verify(
        &self,
        transactional_id: &str,
        producer: (ProducerId, ProducerEpoch),
        asked: &Partitions,
    ) -> Refused {
        let checked = self.transaction_of(transactional_id).and_then(|present| {
            check_producer(present, producer)?;
            match present.status {
                Status::Prepare(_) => Err(AddError::ConcurrentTransactions),
                Status::Empty | Status::Ongoing | Status::Complete(_) => Ok(present),
            }
        });
        match checked {
            Err(error) => Refused::All(error),
            Ok(present) => Refused::Some(
                each(asked)
                    .filter(|&(topic, index)| !contains(present, topic, index))
                    .map(|(topic, index)| ((topic.clone(), index), AddError::NotInTransaction))
                    .collect(),
            ),
        }
    }

    fn transaction_of(&self, transactional_id: &str) -> Result<&Transaction, AddError> {
        if transactional_id.is_empty() {
            return Err(AddError::InvalidRequest);
        }
        self.state.transaction(transactional_id).ok_or(AddError::InvalidProducerIdMapping)
    }
}

/// Which partitions are refused, and why.
enum Refused {
    All(AddError),
    Some(BTreeMap<(Str, i32), AddError>),
}

impl Refused {
    fn error_of(&self, topic: &Str, index: i32) -> Option<AddError> {
        match self {
            Self::All(error) => Some(*error),
            Self::Some(errors) => errors.get(&(topic.clone(), index)).copied(),
        }
    }
}

fn check_producer(
    present: &Transaction,
    (producer_id, epoch): (ProducerId, ProducerEpoch),
) -> Result<(), AddError> {
    if present.producer_id != producer_id {
        return Err(AddError::InvalidProducerIdMapping);
    }
    if present.epoch == epoch { Ok(()) } else { Err(AddError::ProducerFenced) }
}

fn partitions(topics: &[AddPartitionsToTxnTopic]) -> Partitions {
    let mut partitions = Partitions::new();
    for topic in topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        partitions.entry(topic.name.clone()).or_default().extend(&topic.partitions);
    }
    partitions
}

fn each(partitions: &Partitions) -> impl Iterator<Item = (&Str, i32)> {
    partitions.iter().flat_map(|(topic, indexes)| indexes.iter().map(move |&index| (topic, index)))
}

fn contains(present: &Transaction, topic: &Str, index: i32) -> bool {
    present.partitions.get(topic).is_some_and(|indexes| indexes.contains(&index))
}
