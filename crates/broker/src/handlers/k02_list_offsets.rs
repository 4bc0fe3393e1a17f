//! ListOffsets (key 2, versions 1-11): offsets by timestamp, and the first and last there are.
//!
//! - 2: isolation level. 4: leader epochs. 6: flexible. 7: maximum timestamp (-3, KIP-734).
//! - 8: earliest local (-4), 9: latest tiered (-5), 11: earliest pending upload (-6): without tiered storage the
//!   local log is all there is, and nothing is tiered.
//! - 10: timeout.
//!
//! A timestamp is looked up in files off the loop; the request waits for its look-ups.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use dohle_protocol::messages::list_offsets_request::ListOffsetsPartition;
use dohle_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use dohle_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use dohle_storage::{FindTimestamp, ReadError, TimestampOffset};
use dohle_types::{ErrorCode, Offset, Str, Timestamp, TopicId};

use super::k01_fetch::leading_partition;
use crate::connection::Call;
use crate::fetch_session::FetchKey;
use crate::host::DiskJob;
use crate::node::Node;
use crate::started_jobs::JobPurpose;
use crate::partition::PartitionKey;
use crate::purgatory::{Parked, ParkedId};

pub(super) const VERSIONS: RangeInclusive<i16> = 1..=11;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// A request whose look-ups are not all finished.
#[derive(Debug)]
pub struct ParkedListOffsets {
    call: Call,
    request: ListOffsetsRequest,
    response: ListOffsetsResponse,
    outstanding: usize,
}

/// An answer, or where to look for it.
enum Lookup {
    Found(TimestampOffset),
    None,
    Search(PartitionKey, FindTimestamp),
}

/// The partitions it names whose logs are not open.
pub(super) fn unopened(node: &Node, request: &ListOffsetsRequest) -> Vec<PartitionKey> {
    let named = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|wanted| (TopicId::ZERO, &*topic.name, wanted.partition_index))
    });
    node.unopened(named)
}

pub(super) fn handle(node: &mut Node, call: Call, request: ListOffsetsRequest) {
    let read_committed = request.isolation_level == 1;
    let mut searches = Vec::new();
    // Each may take a search through files, so nobody gets it many times for one request. Kafka refuses all of them.
    let mut named = BTreeSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for (topic_place, topic) in request.topics.iter().enumerate() {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (place, wanted) in topic.partitions.iter().enumerate() {
            let found = if named.insert((topic.name.clone(), wanted.partition_index)) {
                look_up(node, &topic.name, wanted, read_committed, call.version)
            } else {
                Err(ErrorCode::InvalidRequest)
            };
            partitions.push(match found {
                Ok(Lookup::Found(found)) => answer(wanted.partition_index, Ok(Some(found))),
                Ok(Lookup::None) => answer(wanted.partition_index, Ok(None)),
                Ok(Lookup::Search(partition, job)) => {
                    searches.push(((topic_place, place), partition, job));
                    answer(wanted.partition_index, Ok(None))
                }
                Err(error) => answer(wanted.partition_index, Err(error)),
            });
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions,
        });
    }
    let response = ListOffsetsResponse { topics, ..ListOffsetsResponse::default() };
    if searches.is_empty() {
        return node.reply(&call, &response);
    }
    let id = node.purgatory.next_id();
    let connection = call.connection;
    let parked = ParkedListOffsets { call, request, response, outstanding: searches.len() };
    node.purgatory.park(id, Some(connection), Parked::ListOffsets(Box::new(parked)), None);
    for (place, partition, job) in searches {
        search(node, id, place, partition, job);
    }
}

fn search(node: &mut Node, id: ParkedId, place: (usize, usize), partition: PartitionKey, job: FindTimestamp) {
    let job = DiskJob::FindTimestamp(Box::new(job));
    node.start_read(partition, JobPurpose::ListOffsets(id, place), job);
}

/// The files that a look-up has read are not there any more: it is made again.
pub(crate) fn on_outdated(node: &mut Node, id: ParkedId, place: (usize, usize)) {
    let Some(Parked::ListOffsets(parked)) = node.purgatory.parked_mut(id) else { return };
    let version = parked.call.version;
    let read_committed = parked.request.isolation_level == 1;
    let topic = parked.request.topics.get(place.0);
    let wanted = topic.and_then(|topic| Some((topic.name.clone(), topic.partitions.get(place.1)?.clone())));
    let Some((topic, wanted)) = wanted else { return };
    match look_up(node, &topic, &wanted, read_committed, version) {
        Ok(Lookup::Found(found)) => on_answered(node, id, place, Ok(Some(found))),
        Ok(Lookup::None) => on_answered(node, id, place, Ok(None)),
        Ok(Lookup::Search(partition, job)) => search(node, id, place, partition, job),
        Err(error) => on_answered(node, id, place, Err(error)),
    }
}

/// A look-up is finished; the last one answers the request.
pub(crate) fn on_found(
    node: &mut Node,
    id: ParkedId,
    (topic, place): (usize, usize),
    found: Result<Option<TimestampOffset>, ReadError>,
) {
    on_answered(node, id, (topic, place), found.map_err(|error| error.error_code()));
}

/// A look-up cannot be finished: the log dir has failed.
pub(crate) fn on_failed(node: &mut Node, id: ParkedId, place: (usize, usize)) {
    on_answered(node, id, place, Err(ErrorCode::KafkaStorageError));
}

fn on_answered(
    node: &mut Node,
    id: ParkedId,
    (topic, place): (usize, usize),
    found: Result<Option<TimestampOffset>, ErrorCode>,
) {
    let Some(Parked::ListOffsets(parked)) = node.purgatory.parked_mut(id) else { return };
    let partition =
        parked.response.topics.get_mut(topic).and_then(|topic| topic.partitions.get_mut(place));
    if let Some(partition) = partition {
        *partition = answer(partition.partition_index, found);
    }
    parked.outstanding -= 1;
    if parked.outstanding == 0
        && let Some((Parked::ListOffsets(parked), _)) = node.purgatory.take(id)
    {
        node.reply(&parked.call, &parked.response);
    }
}

fn look_up(
    node: &Node,
    topic: &Str,
    wanted: &ListOffsetsPartition,
    read_committed: bool,
    version: i16,
) -> Result<Lookup, ErrorCode> {
    let key =
        FetchKey { topic_id: TopicId::ZERO, topic: topic.clone(), partition: wanted.partition_index };
    let partition = leading_partition(node, &key, wanted.current_leader_epoch)?;
    let log = partition.log().ok_or(partition.unavailable())?;
    let upper_bound =
        if read_committed { partition.last_stable_offset() } else { partition.high_watermark() };
    let at = |offset: Offset| {
        Lookup::Found(TimestampOffset {
            timestamp: Timestamp::NONE,
            offset,
            leader_epoch: log.epoch_at(offset),
        })
    };
    let search = |job| Lookup::Search(partition.key, job);
    let supported_from = match wanted.timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => 1,
    };
    if version < supported_from {
        return Err(ErrorCode::UnsupportedVersion);
    }
    Ok(match wanted.timestamp {
        LATEST => Lookup::Found(TimestampOffset {
            timestamp: Timestamp::NONE,
            offset: upper_bound,
            leader_epoch: log.latest_epoch(),
        }),
        EARLIEST | EARLIEST_LOCAL | EARLIEST_PENDING_UPLOAD => at(log.start_offset()),
        LATEST_TIERED => Lookup::None,
        MAX_TIMESTAMP => log.find_max_timestamp(upper_bound).map_or(Lookup::None, search),
        timestamp if timestamp < 0 => return Err(ErrorCode::UnsupportedVersion),
        timestamp => {
            log.find_by_timestamp(Timestamp(timestamp), upper_bound).map_or(Lookup::None, search)
        }
    })
}

fn answer(
    partition_index: i32,
    found: Result<Option<TimestampOffset>, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let unknown = ListOffsetsPartitionResponse { partition_index, ..ListOffsetsPartitionResponse::default() };
    match found {
        Ok(Some(found)) => ListOffsetsPartitionResponse {
            timestamp: found.timestamp.0,
            offset: found.offset.0,
            leader_epoch: found.leader_epoch.0,
            ..unknown
        },
        Ok(None) => unknown,
        Err(error) => ListOffsetsPartitionResponse { error_code: error.code(), ..unknown },
    }
}
