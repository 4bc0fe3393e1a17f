//! WriteTxnMarkers (key 27, versions 1-2): ends transactions in the partitions that it names.
//!
//! Transaction coordinators send it, and tools that abort a transaction which nobody ends any more
//! (`kafka-transactions abort`, KIP-664). It is answered when all its markers are committed.
//!
//! - 2: the version of transactions, by which a marker that comes too late is told (KIP-1228).

use std::ops::RangeInclusive;

use dohle_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use dohle_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use dohle_types::{ErrorCode, ProducerEpoch, ProducerId, TopicId};

use crate::connection::Call;
use crate::node::Node;
use crate::partition::{PartitionKey, Waiter};
use crate::purgatory::Parked;
use crate::txn_markers::TxnMarker;

pub(super) const VERSIONS: RangeInclusive<i16> = 1..=2;

/// A request whose markers are not all committed.
#[derive(Debug)]
pub struct ParkedMarkers {
    call: Call,
    request: WriteTxnMarkersRequest,
    /// What became of each partition, in the order of the request.
    errors: Vec<ErrorCode>,
    outstanding: usize,
}

/// The partitions it names whose logs are not open.
pub(super) fn unopened(node: &Node, request: &WriteTxnMarkersRequest) -> Vec<PartitionKey> {
    let topics = request.markers.iter().flat_map(|marker| &marker.topics);
    let named = topics.flat_map(|topic| {
        topic.partition_indexes.iter().map(|&index| (TopicId::ZERO, &*topic.name, index))
    });
    node.unopened(named)
}

pub(super) fn handle(node: &mut Node, call: Call, request: WriteTxnMarkersRequest) {
    let id = node.purgatory.next_id();
    let mut errors = Vec::new();
    let mut outstanding = 0;
    for asked in &request.markers {
        let marker = TxnMarker {
            producer_id: ProducerId(asked.producer_id),
            producer_epoch: ProducerEpoch(asked.producer_epoch),
            is_commit: asked.transaction_result,
            coordinator_epoch: asked.coordinator_epoch,
            is_v2: asked.transaction_version >= 2,
        };
        for topic in &asked.topics {
            for &index in &topic.partition_indexes {
                let appended = node.append_marker(&marker, &topic.name, index);
                if let Ok((key, end)) = appended
                    && let Some(partition) = node.partitions.by_key_mut(key)
                    && !partition.is_committed(end)
                {
                    partition.acknowledge_when_committed(Waiter { end, parked: id, place: (0, errors.len()) });
                    outstanding += 1;
                }
                errors.push(appended.err().unwrap_or_default());
            }
        }
    }
    if outstanding == 0 {
        return node.reply(&call, &response(&request, &errors));
    }
    let connection = call.connection;
    let parked = ParkedMarkers { call, request, errors, outstanding };
    node.purgatory.park(id, Some(connection), Parked::Markers(Box::new(parked)), None);
}

/// A marker is committed, or never will be; the last one answers the request.
pub(crate) fn on_appended(node: &mut Node, waiter: Waiter, result: Result<(), ErrorCode>) {
    let Some(Parked::Markers(parked)) = node.purgatory.parked_mut(waiter.parked) else { return };
    if let (Err(error), Some(place)) = (result, parked.errors.get_mut(waiter.place.1)) {
        *place = error;
    }
    parked.outstanding -= 1;
    if parked.outstanding == 0
        && let Some((Parked::Markers(parked), _)) = node.purgatory.take(waiter.parked)
    {
        node.reply(&parked.call, &response(&parked.request, &parked.errors));
    }
}

fn response(request: &WriteTxnMarkersRequest, errors: &[ErrorCode]) -> WriteTxnMarkersResponse {
    let mut errors = errors.iter();
    let markers = request.markers.iter().map(|marker| WritableTxnMarkerResult {
        producer_id: marker.producer_id,
        topics: marker
            .topics
            .iter()
            .map(|topic| WritableTxnMarkerTopicResult {
                name: topic.name.clone(),
                partitions: topic
                    .partition_indexes
                    .iter()
                    .map(|&partition_index| WritableTxnMarkerPartitionResult {
                        partition_index,
                        error_code: errors.next().copied().unwrap_or_default().code(),
                    })
                    .collect(),
            })
            .collect(),
    });
    WriteTxnMarkersResponse { markers: markers.collect() }
}
