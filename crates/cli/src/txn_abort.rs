//! `dohle txn abort`: a transaction as a whole, by its coordinator, or one that hangs in a partition, by a marker that
//! is written there.

use std::collections::BTreeSet;

use dohle_client::metadata::{check, error_of};
use dohle_client::{Metadata, Target};
use dohle_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use dohle_protocol::messages::{InitProducerIdRequest, WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use dohle_types::{ErrorCode, Offset, ProducerEpoch, ProducerId, Str, TopicPartition};

use crate::CliError;
use crate::input::parse_topic_partition;
use crate::open_txns::{
    OpenTxn, Patience, Told, coordinated, coordinator_of, describe_transaction, open_transactions,
};
use crate::session::Session;
use crate::topic::{first_error, refused};

/// `dohle txn abort`
#[derive(Clone, Debug, clap::Args)]
pub struct AbortArgs {
    /// The transactional id whose transaction is aborted, wherever it has written; its producer is fenced
    #[arg(
        value_name = "TRANSACTIONAL_ID",
        required_unless_present = "partition",
        conflicts_with = "partition"
    )]
    transactional_id: Option<Str>,
    /// The partition in which one is aborted that no coordinator ends any more
    #[arg(short, long = "partition", value_name = "TOPIC:PARTITION", value_parser = parse_partition)]
    partition: Option<TopicPartition>,
    /// Where that begins, as `dohle txn find-hanging` and `dohle topic describe` show it
    #[arg(long, value_name = "OFFSET", requires = "partition", conflicts_with = "producer_id")]
    start_offset: Option<i64>,
    /// Its producer id, for brokers that do not tell of their producers
    #[arg(long, value_name = "ID", requires_all = ["partition", "producer_epoch"])]
    producer_id: Option<i64>,
    /// Its producer epoch
    #[arg(long, value_name = "EPOCH", requires = "producer_id")]
    producer_epoch: Option<i16>,
    /// The term of the coordinator that last wrote a marker of the producer there; less than 0 if none did
    #[arg(
        long,
        value_name = "EPOCH",
        requires = "producer_id",
        allow_negative_numbers = true,
        default_value_t = -1,
        hide_default_value = true
    )]
    coordinator_epoch: i32,
    /// Also where the coordinator has the transaction: the other partitions of it may still be committed
    #[arg(long, requires = "partition")]
    force: bool,
}

fn parse_partition(text: &str) -> Result<TopicPartition, String> {
    let (topic, partition) = parse_topic_partition(text);
    let partition = partition.ok_or("write TOPIC:PARTITION, such as orders:0")?;
    Ok(TopicPartition { topic, partition })
}

pub(crate) fn run(session: &mut Session, args: &AbortArgs) -> Result<(), CliError> {
    match (&args.transactional_id, &args.partition) {
        (_, Some(partition)) => abort_in(session, partition, args),
        (Some(transactional_id), None) => abort(session, transactional_id),
        (None, None) => Err(CliError::Usage("name a transactional id, or --partition".into())),
    }
}

/// Fences the producer, by which its coordinator aborts what it has open (as kafka-transactions forceTerminateTransaction
/// does).
fn abort(session: &mut Session, transactional_id: &Str) -> Result<(), CliError> {
    let what = format!("transactional id {transactional_id}");
    let transaction = describe_transaction(session, transactional_id)?;
    refused(&what, check(transaction.error_code), None)?;
    let state = transaction.transaction_state.as_str();
    if state.starts_with("Prepare") {
        let message =
            format!("it is in state {state}: how it ends is decided, and its partitions are being told");
        return refused(&what, Err(ErrorCode::ConcurrentTransactions), Some(message.into()));
    }
    if state != "Ongoing" {
        let message = format!("it is in state {state}: no transaction is open");
        return refused(&what, Err(ErrorCode::InvalidTxnState), Some(message.into()));
    }
    let request = InitProducerIdRequest {
        transactional_id: Some(transactional_id.clone()),
        // As it is: a producer that is given the next epoch says what it wants anew.
        transaction_timeout_ms: transaction.transaction_timeout_ms,
        ..InitProducerIdRequest::default()
    };
    // While the transaction is being aborted the answer is CONCURRENT_TRANSACTIONS, which is tried again.
    let target = Target::TransactionCoordinator(transactional_id.clone());
    let response = session.call(target, request, |response| error_of(response.error_code))?;
    refused(&what, check(response.error_code), None)
}

fn abort_in(session: &mut Session, partition: &TopicPartition, args: &AbortArgs) -> Result<(), CliError> {
    let metadata = session.metadata(Some(std::slice::from_ref(&partition.topic)))?;
    let open = match (args.start_offset, args.producer_id, args.producer_epoch) {
        (Some(offset), _, _) => find(session, &metadata, partition, Offset(offset))?,
        (None, Some(producer_id), Some(producer_epoch)) => OpenTxn {
            partition: partition.clone(),
            producer_id: ProducerId(producer_id),
            producer_epoch: ProducerEpoch(producer_epoch),
            coordinator_epoch: Some(args.coordinator_epoch).filter(|&epoch| epoch >= 0),
            start_offset: Offset::ZERO,
            last_write: dohle_types::Timestamp::NONE,
        },
        (None, _, _) => {
            return Err(CliError::Usage(
                "say which transaction of the partition is meant: --start-offset, or --producer-id and \
                 --producer-epoch"
                    .into(),
            ));
        }
    };
    if !args.force {
        let known = coordinated(session, &BTreeSet::from([open.producer_id]))?;
        if let Some(transaction) = coordinator_of(&open, &known) {
            let id = &transaction.transactional_id;
            return Err(CliError::Usage(format!(
                "the transaction does not hang: it is that of transactional id {id}, in state {}. `dohle txn abort \
                 {id}` aborts it in all its partitions; --force aborts it in {partition} alone",
                transaction.transaction_state
            )));
        }
    }
    write_marker(session, &metadata, &open)
}

/// The transaction that is open in a partition and begins at an offset.
fn find(
    session: &mut Session,
    metadata: &Metadata,
    partition: &TopicPartition,
    start_offset: Offset,
) -> Result<OpenTxn, CliError> {
    let partitions = std::slice::from_ref(partition);
    let Told { mut open, unknown } = open_transactions(session, metadata, partitions, None, Patience::Waits)?;
    for (partition, error) in unknown {
        refused(&format!("partition {partition}"), Err(error), None)?;
    }
    open.sort_by_key(|open| open.start_offset);
    let offsets: Vec<String> = open.iter().map(|open| open.start_offset.to_string()).collect();
    open.into_iter().find(|open| open.start_offset == start_offset).ok_or_else(|| {
        CliError::Usage(match offsets.as_slice() {
            [] => format!("no transaction is open in {partition}"),
            offsets => format!(
                "no transaction that is open in {partition} begins at offset {start_offset}; there are open ones at {}",
                offsets.join(", ")
            ),
        })
    })
}

fn write_marker(session: &mut Session, metadata: &Metadata, open: &OpenTxn) -> Result<(), CliError> {
    let OpenTxn { partition, .. } = open;
    let what = format!("partition {partition}");
    let described = metadata.partition(&partition.topic, partition.partition);
    let described = described.ok_or(ErrorCode::UnknownTopicOrPartition);
    let leader = described.and_then(|described| described.leader.ok_or(ErrorCode::LeaderNotAvailable));
    let leader = leader.map_err(|error| CliError::Refused { what: what.clone(), error, message: None })?;
    let topic = WritableTxnMarkerTopic {
        name: partition.topic.clone(),
        partition_indexes: vec![partition.partition.0],
    };
    let marker = WritableTxnMarker {
        producer_id: open.producer_id.0,
        producer_epoch: open.producer_epoch.0,
        transaction_result: false,
        topics: vec![topic],
        // None may have written a marker yet; 0 is the first term there is.
        coordinator_epoch: open.coordinator_epoch.unwrap_or(0),
        ..WritableTxnMarker::default()
    };
    let request = WriteTxnMarkersRequest { markers: vec![marker] };
    let response = session.call(Target::Broker(leader), request, |response| first_error(errors(response)))?;
    errors(&response).try_for_each(|error| refused(&what, check(error), None))
}

fn errors(response: &WriteTxnMarkersResponse) -> impl Iterator<Item = i16> {
    let topics = response.markers.iter().flat_map(|marker| &marker.topics);
    topics.flat_map(|topic| &topic.partitions).map(|partition| partition.error_code)
}
