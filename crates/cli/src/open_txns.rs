//! Transactions that are open in partitions, as the partitions' logs know them, and what their coordinators know of
//! them (KIP-664).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dohle_client::metadata::{check, error_of};
use dohle_client::{Metadata, Target};
use dohle_protocol::messages::describe_producers_request::TopicRequest;
use dohle_protocol::messages::describe_transactions_response::TransactionState;
use dohle_protocol::messages::list_transactions_response::TransactionState as Listed;
use dohle_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeTransactionsRequest, ListTransactionsRequest,
};
use dohle_types::{
    BrokerId, ErrorCode, Offset, PartitionIndex, ProducerEpoch, ProducerId, Str, Timestamp, TopicPartition,
};

use crate::CliError;
use crate::session::Session;
use crate::topic::{first_error, refused};

/// Partitions that one request names.
const PARTITIONS_PER_REQUEST: usize = 500;

/// A transaction that is open in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenTxn {
    pub(crate) partition: TopicPartition,
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    /// The term of the coordinator that last wrote a marker of the producer.
    pub(crate) coordinator_epoch: Option<i32>,
    /// Where it begins.
    pub(crate) start_offset: Offset,
    /// The time of the producer's last batch, as that says.
    pub(crate) last_write: Timestamp,
}

/// What the coordinators know of some producers' transactions.
pub(crate) type Coordinated = BTreeMap<ProducerId, TransactionState>;

/// Whether what cannot be answered now is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as calls are tried.
    Waits,
    /// What is there at once is good enough.
    None,
}

/// What is said of partitions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The transactions that are open in them.
    pub(crate) open: Vec<OpenTxn>,
    /// Those of which nothing is said, and why.
    pub(crate) unknown: Vec<(TopicPartition, ErrorCode)>,
}

/// The transactions that are open in partitions by what their leaders say, or what one broker says.
pub(crate) fn open_transactions(
    session: &mut Session,
    metadata: &Metadata,
    partitions: &[TopicPartition],
    broker: Option<BrokerId>,
    patience: Patience,
) -> Result<Told, CliError> {
    let mut told = Told::default();
    let mut by_broker: BTreeMap<BrokerId, Vec<&TopicPartition>> = BTreeMap::new();
    for partition in partitions {
        let described = metadata.partition(&partition.topic, partition.partition);
        match broker.or_else(|| described?.leader) {
            Some(broker) => by_broker.entry(broker).or_default().push(partition),
            None if described.is_none() => {
                told.unknown.push((partition.clone(), ErrorCode::UnknownTopicOrPartition));
            }
            None => told.unknown.push((partition.clone(), ErrorCode::LeaderNotAvailable)),
        }
    }
    let error: fn(&DescribeProducersResponse) -> ErrorCode = match patience {
        Patience::Waits => |response| {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            first_error(partitions.map(|partition| partition.error_code))
        },
        Patience::None => |_| ErrorCode::None,
    };
    for (broker, partitions) in by_broker {
        for partitions in partitions.chunks(PARTITIONS_PER_REQUEST) {
            let response = session.call(Target::Broker(broker), request(partitions), error)?;
            told.take(response);
        }
    }
    Ok(told)
}

fn request(partitions: &[&TopicPartition]) -> DescribeProducersRequest {
    let mut topics: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic.clone()).or_default().push(partition.partition.0);
    }
    let topic = |(name, partition_indexes)| TopicRequest { name, partition_indexes };
    DescribeProducersRequest { topics: topics.into_iter().map(topic).collect() }
}

impl Told {
    fn take(&mut self, response: DescribeProducersResponse) {
        for topic in response.topics {
            for described in topic.partitions {
                let partition =
                    TopicPartition::new(topic.name.clone(), PartitionIndex(described.partition_index));
                if let Err(error) = check(described.error_code) {
                    self.unknown.push((partition, error));
                    continue;
                }
                let producers = described.active_producers.into_iter();
                self.open.extend(producers.filter(|it| it.current_txn_start_offset >= 0).map(|it| OpenTxn {
                    partition: partition.clone(),
                    producer_id: ProducerId(it.producer_id),
                    // Kafka's API has more room for it than its records.
                    producer_epoch:
                        i16::try_from(it.producer_epoch).map_or(ProducerEpoch::NONE, ProducerEpoch),
                    coordinator_epoch: Some(it.coordinator_epoch).filter(|&epoch| epoch >= 0),
                    start_offset: Offset(it.current_txn_start_offset),
                    last_write: Timestamp(it.last_timestamp),
                }));
            }
        }
    }
}

/// The brokers there are.
pub(crate) fn brokers(session: &mut Session) -> Result<Vec<BrokerId>, CliError> {
    Ok(session.metadata(Some(&[]))?.brokers().map(|(id, _)| id).collect())
}

/// The transactional ids that a broker coordinates.
pub(crate) fn list_transactions(
    session: &mut Session,
    broker: BrokerId,
    request: ListTransactionsRequest,
) -> Result<Vec<Listed>, CliError> {
    let response = session.call(Target::Broker(broker), request, |response| error_of(response.error_code))?;
    refused("transactions", check(response.error_code), None)?;
    Ok(response.transaction_states)
}

/// What is known of a transactional id; `error_code` says why nothing is.
pub(crate) fn describe_transaction(
    session: &mut Session,
    transactional_id: &Str,
) -> Result<TransactionState, CliError> {
    let request = DescribeTransactionsRequest { transactional_ids: vec![transactional_id.clone()] };
    let target = Target::TransactionCoordinator(transactional_id.clone());
    let response = session.call(target, request, |response| {
        response.transaction_states.first().map_or(ErrorCode::None, |state| error_of(state.error_code))
    })?;
    Ok(response.transaction_states.into_iter().next().unwrap_or_else(|| TransactionState {
        error_code: ErrorCode::TransactionalIdNotFound.code(),
        ..TransactionState::default()
    }))
}

/// What the coordinators know of these producers.
pub(crate) fn coordinated(
    session: &mut Session,
    producers: &BTreeSet<ProducerId>,
) -> Result<Coordinated, CliError> {
    let mut known = BTreeMap::new();
    if producers.is_empty() {
        return Ok(known);
    }
    for broker in brokers(session)? {
        let request = ListTransactionsRequest {
            producer_id_filters: producers.iter().map(|id| id.0).collect(),
            ..ListTransactionsRequest::default()
        };
        for listed in list_transactions(session, broker, request)? {
            let transaction = describe_transaction(session, &listed.transactional_id)?;
            match check(transaction.error_code) {
                // It has expired meanwhile.
                Err(ErrorCode::TransactionalIdNotFound) => continue,
                result => refused(&format!("transactional id {}", listed.transactional_id), result, None)?,
            }
            known.insert(ProducerId(transaction.producer_id), transaction);
        }
    }
    Ok(known)
}

/// The transaction by which the coordinator will end one that is open in a partition. Without such a one it hangs.
pub(crate) fn coordinator_of<'a>(open: &OpenTxn, known: &'a Coordinated) -> Option<&'a TransactionState> {
    let transaction = known.get(&open.producer_id)?;
    partitions_of(transaction).any(|partition| partition == open.partition).then_some(transaction)
}

/// Those that are open still. A transaction that was ended between two questions is not known to its coordinator any more
/// and looks as if it hung.
pub(crate) fn still_open(
    session: &mut Session,
    metadata: &Metadata,
    asked: Vec<OpenTxn>,
    broker: Option<BrokerId>,
    patience: Patience,
) -> Result<Vec<OpenTxn>, CliError> {
    if asked.is_empty() {
        return Ok(asked);
    }
    let partitions: BTreeSet<&TopicPartition> = asked.iter().map(|open| &open.partition).collect();
    let partitions: Vec<TopicPartition> = partitions.into_iter().cloned().collect();
    let now = open_transactions(session, metadata, &partitions, broker, patience)?.open;
    Ok(asked.into_iter().filter(|open| now.contains(open)).collect())
}

/// The partitions that a transaction has touched and that have no marker yet.
pub(crate) fn partitions_of(transaction: &TransactionState) -> impl Iterator<Item = TopicPartition> {
    transaction.topics.iter().flat_map(|topic| {
        let indexes = topic.partitions.iter();
        indexes.map(|&index| TopicPartition::new(topic.topic.clone(), PartitionIndex(index)))
    })
}

/// Milliseconds of a duration.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use dohle_protocol::messages::describe_producers_response::{
        PartitionResponse, ProducerState, TopicResponse,
    };
    use dohle_protocol::messages::describe_transactions_response::TopicData;

    use super::*;

    fn open(producer: i64, partition: i32) -> OpenTxn {
        OpenTxn {
            partition: TopicPartition::new("orders", PartitionIndex(partition)),
            producer_id: ProducerId(producer),
            producer_epoch: ProducerEpoch(3),
            coordinator_epoch: None,
            start_offset: Offset(5),
            last_write: Timestamp(1_000),
        }
    }

    #[test]
    fn only_producers_with_an_open_transaction_count_and_what_is_not_known_is_told() {
        let producer = ProducerState {
            producer_id: 1,
            producer_epoch: 3,
            last_timestamp: 1_000,
            coordinator_epoch: -1,
            current_txn_start_offset: 5,
            ..ProducerState::default()
        };
        let idle = ProducerState { producer_id: 2, current_txn_start_offset: -1, ..producer.clone() };
        let failed = PartitionResponse {
            partition_index: 1,
            error_code: ErrorCode::KafkaStorageError.code(),
            ..PartitionResponse::default()
        };
        let answered =
            PartitionResponse { active_producers: vec![idle, producer], ..PartitionResponse::default() };
        let topic = TopicResponse { name: "orders".into(), partitions: vec![answered, failed] };
        let response = DescribeProducersResponse { topics: vec![topic], ..Default::default() };
        let mut told = Told::default();
        told.take(response);
        let failed = TopicPartition::new("orders", PartitionIndex(1));
        let unknown = vec![(failed, ErrorCode::KafkaStorageError)];
        assert_eq!(told, Told { open: vec![open(1, 0)], unknown });
    }

    #[test]
    fn a_transaction_hangs_that_no_coordinator_knows_to_be_in_the_partition() {
        let transaction = TransactionState {
            transactional_id: "bank".into(),
            producer_id: 1,
            topics: vec![TopicData { topic: "orders".into(), partitions: vec![0, 2] }],
            ..TransactionState::default()
        };
        let known = Coordinated::from([(ProducerId(1), transaction)]);
        for (producer, partition, hangs) in [(1, 0, false), (1, 1, true), (1, 2, false), (2, 0, true)] {
            let found = coordinator_of(&open(producer, partition), &known);
            assert_eq!(found.is_none(), hangs, "producer {producer} in partition {partition}");
        }
    }
}
