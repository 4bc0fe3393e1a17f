//! Produce (key 0, versions 3-13): appends record batches.
//!
//! Answered at once with acks=0 (with silence), when the batches are in the files with acks=1, and when they
//! are committed with acks=all: durable on disk, or in the page cache where `dohle.durability` is `relaxed`.
//!
//! - 7: zstd may be used (KIP-110).
//! - 8: errors name the records that caused them (KIP-467).
//! - 9: flexible.
//! - 10: the leader a client should go to is told with NOT_LEADER_OR_FOLLOWER (KIP-951); a single node always leads.
//! - 11: TRANSACTION_ABORTABLE where an older version is told INVALID_TXN_STATE (KIP-890).
//! - 12: of clients of transactions v2, whose partitions are added to the transaction by Produce itself (KIP-890).
//! - 13: topics by id (KIP-516).
//!
//! Where the disk is full it is answered with KAFKA_STORAGE_ERROR, upon which clients try again until their delivery
//! timeout.
//!
//! A transactional batch that begins a transaction in a partition is appended only if the coordinator knows that the
//! partition belongs to it, so that it will be ended there (`txn_produce.rs`).

use std::ops::RangeInclusive;
use std::time::Duration;

use dohle_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use dohle_protocol::messages::{ProduceRequest, ProduceResponse};
use bytes::Bytes;
use dohle_protocol::{Message, Records};
use dohle_records::BatchHeader;
use dohle_storage::{AppendError, Appended, Origin};
use dohle_types::{ErrorCode, Str, TopicId};

use crate::connection::Call;
use crate::node::Node;
use crate::partition::{PartitionKey, Tenant, Waiter};
use crate::purgatory::Parked;
use crate::txn_produce::Refused;

pub(super) const VERSIONS: RangeInclusive<i16> = 3..=13;

/// A produce request whose appends are not all acknowledged.
#[derive(Debug)]
pub struct ParkedProduce {
    call: Call,
    response: ProduceResponse,
    outstanding: usize,
}

/// What a partition's append came to.
struct Refusal {
    error: ErrorCode,
    message: Option<Str>,
    records: Vec<BatchIndexAndErrorMessage>,
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Self {
        Self { error, message: None, records: Vec::new() }
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        let records = error
            .record_errors()
            .iter()
            .map(|record| BatchIndexAndErrorMessage {
                batch_index: record.index,
                batch_index_error_message: Some(Str::from(record.reason.to_string())),
            })
            .collect();
        Self { error: error.error_code(), message: Some(Str::from(error.to_string())), records }
    }
}

/// The partitions it names whose logs are not open.
pub(super) fn unopened(node: &Node, request: &ProduceRequest) -> Vec<PartitionKey> {
    let named = request.topic_data.iter().flat_map(|topic| {
        topic.partition_data.iter().map(|data| (TopicId(topic.topic_id), &*topic.name, data.index))
    });
    node.unopened(named)
}

pub(super) fn handle(node: &mut Node, call: Call, request: ProduceRequest) {
    if request.transactional_id.is_some() {
        node.produce_in_transaction(call, request, true);
    } else {
        append_all(node, call, request, &Refused::new());
    }
}

/// Appends all that is not refused already.
pub(crate) fn append_all(node: &mut Node, call: Call, request: ProduceRequest, is_refused: &Refused) {
    let is_in_transaction = request.transactional_id.is_some();
    let acks = request.acks;
    let id = node.purgatory.next_id();
    let mut waiting = Vec::new();
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for (topic_place, topic) in request.topic_data.into_iter().enumerate() {
        let topic_id = node.topic_id(TopicId(topic.topic_id), &topic.name);
        let mut partition_responses = Vec::with_capacity(topic.partition_data.len());
        for (place, data) in topic.partition_data.into_iter().enumerate() {
            let appended = match (acks, is_refused.get(&(topic_place, place))) {
                (..-1 | 2.., _) => Err(ErrorCode::InvalidRequiredAcks.into()),
                (-1..=1, Some(&error)) => Err(error.into()),
                (-1..=1, None) => topic_id.map_err(Refusal::from).and_then(|topic_id| {
                    let records = data.records.map(Records::into_bytes).unwrap_or_default();
                    if !is_in_transaction && is_transactional(&records) {
                        return Err(ErrorCode::TransactionalIdAuthorizationFailed.into());
                    }
                    append(node, &call, acks, topic_id, data.index, records)
                }),
            };
            partition_responses.push(match appended {
                Ok((key, appended)) => {
                    let end = appended.next_offset;
                    waiting.push((key, Waiter { end, parked: id, place: (topic_place, place) }));
                    PartitionProduceResponse {
                        index: data.index,
                        base_offset: appended.first_offset.0,
                        log_append_time_ms: appended.log_append_time.0,
                        log_start_offset: appended.log_start_offset.0,
                        ..PartitionProduceResponse::default()
                    }
                }
                Err(refusal) => refused(data.index, refusal),
            });
        }
        responses.push(TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses,
        });
    }
    let response = ProduceResponse { responses, ..ProduceResponse::default() };
    if acks == 0 {
        return answer_silently(node, &call, &response);
    }
    let outstanding = waiting.into_iter().filter(|&(key, waiter)| wait(node, key, waiter, acks)).count();
    if outstanding == 0 {
        node.reply(&call, &response);
    } else {
        let deadline = node.now.after(Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)));
        let connection = call.connection;
        let parked = ParkedProduce { call, response, outstanding };
        node.purgatory.park(id, Some(connection), Parked::Produce(Box::new(parked)), Some(deadline));
    }
}

/// An append of a parked request is acknowledged, or never will be; the last one answers the request.
pub(crate) fn on_appended(node: &mut Node, waiter: Waiter, result: Result<(), ErrorCode>) {
    let Some(Parked::Produce(parked)) = node.purgatory.parked_mut(waiter.parked) else { return };
    if let Err(error) = result {
        let (topic, place) = waiter.place;
        let topic = parked.response.responses.get_mut(topic);
        if let Some(partition) = topic.and_then(|topic| topic.partition_responses.get_mut(place)) {
            *partition = refused(partition.index, error.into());
        }
    }
    parked.outstanding -= 1;
    if parked.outstanding == 0
        && let Some((Parked::Produce(parked), _)) = node.purgatory.take(waiter.parked)
    {
        node.reply(&parked.call, &parked.response);
    }
}

/// The request's timeout has come before all appends were acknowledged.
///
/// Which are is not kept, so that all of them are answered as timed out; an idempotent producer's retry is
/// recognised as a duplicate.
pub(crate) fn on_expired(node: &mut Node, mut parked: ParkedProduce) {
    for topic in &mut parked.response.responses {
        for partition in topic.partition_responses.iter_mut().filter(|partition| partition.error_code == 0) {
            *partition = refused(partition.index, ErrorCode::RequestTimedOut.into());
        }
    }
    node.reply(&parked.call, &parked.response);
}

fn append(
    node: &mut Node,
    call: &Call,
    acks: i16,
    topic_id: TopicId,
    index: i32,
    records: Bytes,
) -> Result<(PartitionKey, Appended), Refusal> {
    let key = node.partitions.key(topic_id, index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if acks == -1 && lacks_replicas(node, key) {
        return Err(ErrorCode::NotEnoughReplicas.into());
    }
    let reserve = node.disk_reserve();
    let partition = node.partitions.by_key_mut(key).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    // The logs of ledgers are written by their coordinators alone.
    if partition.tenant != Tenant::None {
        return Err(ErrorCode::InvalidTopicException.into());
    }
    let log_dir = partition.log_dir;
    if partition.log().is_some() && !node.log_dirs.has_room(log_dir, records.len(), reserve) {
        let name = node.log_dirs.name(log_dir);
        let message = format!("the disk of the log dir {name} is full; the producer may try again");
        let (error, message) = (ErrorCode::KafkaStorageError, Some(Str::from(message)));
        return Err(Refusal { error, message, records: Vec::new() });
    }
    let origin = Origin::Client { zstd_allowed: call.version >= 7 };
    let appended = match partition.append(node.now, records, origin, &mut node.codecs, &mut node.effects) {
        Ok(appended) => appended,
        Err(None) => return Err(partition.unavailable().into()),
        Err(Some(error)) => return Err(error.into()),
    };
    node.log_dirs.use_room(log_dir, appended.bytes);
    node.partitions.admit_tail(key, appended.bytes);
    Ok((key, appended))
}

fn is_transactional(records: &Bytes) -> bool {
    BatchHeader::parse(records).is_ok_and(|header| header.attributes.is_transactional())
}

/// Whether fewer replicas are in sync than `min.insync.replicas` asks for, which is no more than there are at all
/// (Kafka's `effectiveMinIsr`).
fn lacks_replicas(node: &Node, key: PartitionKey) -> bool {
    let Some(partition) = node.partitions.by_key(key) else { return false };
    let min = partition.log().map_or(1, |log| log.config().min_insync_replicas) as usize;
    let image = || node.image().partition(&partition.name.topic, partition.name.partition);
    min > 1 && image().is_some_and(|image| image.isr.len() < min.min(image.replicas.len()))
}

/// Whether the append is still to be acknowledged; if so, its partition will.
fn wait(node: &mut Node, key: PartitionKey, waiter: Waiter, acks: i16) -> bool {
    let Some(partition) = node.partitions.by_key_mut(key) else { return false };
    let done = if acks == 1 { partition.is_written(waiter.end) } else { partition.is_committed(waiter.end) };
    match (done, acks) {
        (true, _) => {}
        (false, 1) => partition.acknowledge_when_written(waiter),
        (false, _) => partition.acknowledge_when_committed(waiter),
    }
    !done
}

/// acks=0: there is no answer. A client that would never learn of an error learns of it by a closed connection.
fn answer_silently(node: &mut Node, call: &Call, response: &ProduceResponse) {
    let failed = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses)
        .find_map(|partition| ErrorCode::from_code(partition.error_code).filter(|error| !error.is_none()));
    response.errors(&mut |code| node.requests.note_error(call, code));
    match failed {
        Some(error) => node.close(call, &format!("produce with acks=0 failed: {error}")),
        None => node.send(call, None),
    }
}

fn refused(index: i32, refusal: Refusal) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: refusal.error.code(),
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        record_errors: refusal.records,
        error_message: refusal.message,
        ..PartitionProduceResponse::default()
    }
}
