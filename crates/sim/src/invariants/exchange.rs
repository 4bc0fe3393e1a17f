//! A request is answered once, and the answers of a connection leave in the order of its requests (invariant 1 of
//! `dohle-broker`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use dohle_broker::host::ConnectionId;
use dohle_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, FetchResponse, OffsetCommitRequest,
    OffsetCommitResponse, ProduceRequest, ProduceResponse, ResponseHeader, SyncGroupRequest,
    SyncGroupResponse,
};
use dohle_protocol::{ApiKey, Message, Reader, decode_request_header};
use dohle_records::BatchHeader;
use dohle_types::TopicId;
use dohle_types::time::Instant;

use crate::marks::{Mark, Marks};

/// A request that was not answered yet.
#[derive(Debug)]
struct Asked {
    at: Instant,
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    body: Body,
}

/// What is remembered of a request.
#[derive(Debug)]
enum Body {
    Produce(AskedProduce),
    Beat(ConsumerGroupHeartbeatRequest),
    Sync(SyncGroupRequest),
    Commit(OffsetCommitRequest),
    Other,
}

/// What a produce request asked for.
#[derive(Debug)]
pub(super) struct AskedProduce {
    pub(super) acks: i16,
    /// The header of each partition's first batch.
    pub(super) batches: BTreeMap<(TopicId, i32), BatchHeader>,
}

/// An answer that some invariant is about.
pub(super) enum Answer {
    Produce(AskedProduce, ProduceResponse),
    Fetch(FetchResponse),
    Beat(ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse),
    Sync(SyncGroupRequest, SyncGroupResponse),
    Commit(OffsetCommitRequest, OffsetCommitResponse),
    /// Any other: its API, its version, and what follows the header.
    Other(ApiKey, i16, Bytes),
}

/// The requests of each connection that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    waiting: BTreeMap<ConnectionId, VecDeque<Asked>>,
    /// Batches of idempotent producers that were acknowledged.
    acknowledged: BTreeSet<(TopicId, i32, i64, i16, i32)>,
}

impl Exchanges {
    pub(super) fn on_request(&mut self, at: Instant, connection: ConnectionId, frame: &Bytes) {
        let mut reader = Reader::new(frame);
        let Ok(header) = decode_request_header(&mut reader) else { return };
        let Some(key) = ApiKey::from_code(header.request_api_key) else { return };
        let version = header.request_api_version;
        let mut body = Body::Other;
        if key == ApiKey::Produce
            && let Ok(request) = ProduceRequest::decode(&mut reader, version)
        {
            if request.acks == 0 {
                return;
            }
            body = Body::Produce(asked_produce(request));
        } else if key == ApiKey::ConsumerGroupHeartbeat
            && let Ok(request) = ConsumerGroupHeartbeatRequest::decode(&mut reader, version)
        {
            body = Body::Beat(request);
        } else if key == ApiKey::SyncGroup
            && let Ok(request) = SyncGroupRequest::decode(&mut reader, version)
        {
            body = Body::Sync(request);
        } else if key == ApiKey::OffsetCommit
            && let Ok(request) = OffsetCommitRequest::decode(&mut reader, version)
        {
            body = Body::Commit(request);
        }
        let asked = Asked { at, key, version, correlation_id: header.correlation_id, body };
        self.waiting.entry(connection).or_default().push_back(asked);
    }

    pub(super) fn on_response(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        frame: &Bytes,
        marks: &mut Marks,
    ) -> Result<Answer, String> {
        let asked = self.waiting.get_mut(&connection).and_then(VecDeque::pop_front);
        let asked = asked.ok_or_else(|| format!("{connection:?} was answered and had asked nothing"))?;
        let Asked { at, key, version, correlation_id, body: asked } = asked;
        let body = frame.slice(size_of::<i32>()..);
        let mut reader = Reader::new(&body);
        let header_version = key.response_header_version(version);
        let unreadable =
            |error| format!("{} version {version}: the response cannot be read: {error}", key.name());
        let header = ResponseHeader::decode(&mut reader, header_version).map_err(unreadable)?;
        if header.correlation_id != correlation_id {
            return Err(format!(
                "{connection:?}: {} with correlation id {correlation_id} is next, and the answer has {}",
                key.name(),
                header.correlation_id
            ));
        }
        match (key, asked) {
            (_, Body::Beat(asked)) => {
                let response = ConsumerGroupHeartbeatResponse::decode(&mut reader, version);
                Ok(Answer::Beat(asked, response.map_err(unreadable)?))
            }
            (_, Body::Sync(asked)) => {
                let response = SyncGroupResponse::decode(&mut reader, version).map_err(unreadable)?;
                Ok(Answer::Sync(asked, response))
            }
            (_, Body::Commit(asked)) => {
                let response = OffsetCommitResponse::decode(&mut reader, version).map_err(unreadable)?;
                Ok(Answer::Commit(asked, response))
            }
            (_, Body::Produce(asked)) => {
                let response = ProduceResponse::decode(&mut reader, version).map_err(unreadable)?;
                self.note_duplicates(&asked, &response, marks);
                let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
                let is_full = partitions
                    .any(|one| one.error_message.as_ref().is_some_and(|text| text.contains("is full")));
                marks.sometimes(Mark::RefusedForRoom, is_full);
                Ok(Answer::Produce(asked, response))
            }
            (ApiKey::Fetch, Body::Other) => {
                let response = FetchResponse::decode(&mut reader, version).map_err(unreadable)?;
                let has_records =
                    response.responses.iter().flat_map(|topic| &topic.partitions).any(|partition| {
                        partition.records.as_ref().is_some_and(|records| !records.is_empty())
                    });
                marks.sometimes(Mark::FetchWoken, has_records && now > at + Duration::from_millis(30));
                Ok(Answer::Fetch(response))
            }
            (_, Body::Other) => {
                Ok(Answer::Other(key, version, body.slice(body.len() - reader.remaining()..)))
            }
        }
    }

    fn note_duplicates(&mut self, asked: &AskedProduce, response: &ProduceResponse, marks: &mut Marks) {
        for topic in &response.responses {
            for partition in topic.partition_responses.iter().filter(|partition| partition.error_code == 0) {
                let place = (TopicId(topic.topic_id), partition.index);
                let Some(batch) = asked.batches.get(&place).filter(|batch| batch.producer_id.0 >= 0) else {
                    continue;
                };
                let (producer, epoch) = (batch.producer_id.0, batch.producer_epoch.0);
                let batch = (place.0, place.1, producer, epoch, batch.base_sequence.0);
                marks.sometimes(Mark::DuplicateAnswered, !self.acknowledged.insert(batch));
            }
        }
    }
}

fn asked_produce(request: ProduceRequest) -> AskedProduce {
    let mut batches = BTreeMap::new();
    for topic in request.topic_data {
        for partition in topic.partition_data {
            let records = partition.records.unwrap_or_default().into_bytes();
            if let Ok(header) = BatchHeader::parse(&records) {
                batches.insert((TopicId(topic.topic_id), partition.index), header);
            }
        }
    }
    AskedProduce { acks: request.acks, batches }
}
