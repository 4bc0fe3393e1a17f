//! For tests: a broker of one node in memory that does what a client can notice, and the network to it.
//!
//! Faults are drawn from a seed: connections that fail or break, answers that are lost after the work was done,
//! retriable errors, requests that take their time.

mod group;
pub(crate) mod transactions;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use dohle_protocol::messages::api_versions_response::ApiVersion;
use dohle_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use dohle_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use dohle_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use dohle_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use dohle_protocol::messages::*;
use dohle_protocol::{ApiKey, Frame, Message, Reader, Records, decode_request_header, encode_response};
use dohle_records::{
    Batch, BatchBuilder, BatchHeader, BatchOptions, Batches, Compression, Compressor, Decompressor,
    HEADER_SIZE,
};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Now, Offset, Rng, Sequence, Timestamp};
use uuid::Uuid;

use crate::{Effect, Effects, Endpoint, Input, Machine, Peer};
use group::Group;
use transactions::Coordinator;

pub(crate) const TOPIC: &str = "orders";
const TOPIC_ID: Uuid = Uuid::from_u128(0xdead_beef);

/// Where the broker is.
pub(crate) fn endpoint() -> Endpoint {
    Endpoint::new("broker", 9092)
}

/// A log with what the broker knows of producers.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) batches: Vec<Bytes>,
    pub(crate) end: i64,
    producers: BTreeMap<i64, ProducerState>,
}

#[derive(Default)]
struct ProducerState {
    epoch: i16,
    last: Sequence,
    /// Base sequence, last sequence and base offset of the last five batches (KIP-98).
    recent: VecDeque<(Sequence, Sequence, i64)>,
}

impl Log {
    /// Appends a batch as a leader does.
    fn append(&mut self, batch: &Bytes) -> Result<i64, ErrorCode> {
        let header = BatchHeader::parse(batch).unwrap();
        assert!(Batch::parse(batch).unwrap().crc_is_valid(), "a producer's batches are whole");
        if header.has_producer_id() {
            let known = self.producers.contains_key(&header.producer_id.0);
            let state = self.producers.entry(header.producer_id.0).or_default();
            let range = (header.base_sequence, header.last_sequence());
            let same_epoch = known && state.epoch == header.producer_epoch.0;
            let seen = state.recent.iter().find(|it| same_epoch && (it.0, it.1) == range);
            if let Some(&(.., offset)) = seen {
                return Ok(offset);
            }
            let follows = match (known, same_epoch) {
                (false, _) => true,
                (true, true) => range.0 == state.last.plus(1),
                (true, false) => header.producer_epoch.0 > state.epoch && range.0 == Sequence(0),
            };
            if !follows {
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
            if !same_epoch {
                state.recent.clear();
            }
            state.epoch = header.producer_epoch.0;
            state.last = range.1;
            state.recent.push_back((range.0, range.1, self.end));
            if state.recent.len() > 5 {
                state.recent.pop_front();
            }
        }
        let base = self.end;
        let mut bytes = batch.to_vec();
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        self.batches.push(bytes.into());
        self.end += i64::from(header.record_count);
        Ok(base)
    }

    /// The values of all records, in order.
    pub(crate) fn values(&self) -> Vec<String> {
        let records = self
            .batches
            .iter()
            .flat_map(|batch| Batch::parse(batch).unwrap().records(&mut Decompressor::default()).unwrap());
        records.map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap()).collect()
    }
}

/// How often in a hundred something goes wrong.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) refuse_connection: u64,
    pub(crate) break_connection: u64,
    pub(crate) retriable_error: u64,
    pub(crate) slow_answer: u64,
}

/// A machine, the broker, and the network in between.
pub(crate) struct World<M> {
    pub(crate) machine: M,
    pub(crate) logs: Vec<Log>,
    pub(crate) group: Group,
    pub(crate) transactions: Coordinator,
    pub(crate) faults: Faults,
    /// The oldest version of ApiVersions that the broker refuses.
    pub(crate) api_versions_refused_from: i16,
    /// What happened, for tests that look at it.
    pub(crate) trace: String,
    /// How long the broker waits before the answer that it just made.
    waits: Duration,
    rng: Rng,
    now: Duration,
    connections: BTreeMap<Peer, VecDeque<(Instant, Input)>>,
}

impl<M: Machine> World<M> {
    pub(crate) fn new(machine: M, partitions: usize, seed: u64) -> Self {
        Self {
            machine,
            logs: (0..partitions).map(|_| Log::default()).collect(),
            group: Group::default(),
            transactions: Coordinator::default(),
            faults: Faults::default(),
            api_versions_refused_from: i16::MAX,
            trace: String::new(),
            waits: Duration::ZERO,
            rng: Rng::from_seed(seed),
            now: Duration::from_secs(1000),
            connections: BTreeMap::new(),
        }
    }

    /// Has the logs hold `counts` records each, in batches of three, of values `partition/offset`.
    pub(crate) fn fill(&mut self, counts: &[i64]) {
        for (index, (log, &count)) in self.logs.iter_mut().zip(counts).enumerate() {
            for base in (0..count).step_by(3) {
                let compression = Compression::ALL[usize::try_from(base / 3 % 5).unwrap()].into();
                let options =
                    BatchOptions { base_offset: Offset(base), compression, ..BatchOptions::default() };
                let mut batch = BatchBuilder::new(options);
                for offset in base..count.min(base + 3) {
                    let value = format!("{index}/{offset}");
                    batch.append(Timestamp(offset), None, Some(value.as_bytes()), &[]).unwrap();
                }
                log.batches.push(batch.build(&mut Compressor::default()).unwrap());
            }
            log.end = count;
        }
    }

    /// Has another machine take the place of this one, whose connections are gone.
    pub(crate) fn replace(&mut self, machine: M) {
        self.machine = machine;
        self.connections.clear();
    }

    pub(crate) fn now(&self) -> Now {
        Now { instant: self.now, wall: Timestamp(i64::try_from(self.now.as_millis()).unwrap()) }
    }

    pub(crate) fn handle(&mut self, input: Input) {
        let mut effects = Effects::new();
        self.machine.handle(self.now(), input, &mut effects);
        self.carry_out(effects);
    }

    /// Hands in what is due, or lets time pass until something is; whether anything can still happen.
    pub(crate) fn step(&mut self) -> bool {
        self.handle(Input::Wake);
        let due = self.connections.iter().filter_map(|(&peer, queue)| Some((queue.front()?.0, peer))).min();
        let timeout = self.machine.next_timeout();
        let at = match (due, timeout) {
            (Some((due, _)), Some(timeout)) => due.min(timeout),
            (Some((due, _)), None) => due,
            (None, Some(timeout)) => timeout,
            (None, None) => return false,
        };
        self.now = self.now.max(at);
        if let Some((due, peer)) = due
            && due <= self.now
        {
            let input = self.connections.get_mut(&peer).unwrap().pop_front().unwrap().1;
            if matches!(input, Input::Closed { .. }) {
                self.connections.remove(&peer);
            }
            self.handle(input);
        }
        true
    }

    pub(crate) fn carry_out(&mut self, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Connect { peer, endpoint } => {
                    self.trace += &format!("connect {endpoint}\n");
                    let refused = self.rng.chance(self.faults.refuse_connection, 100);
                    let input = match refused || endpoint != super::fake::endpoint() {
                        true => Input::Closed { peer, reason: "connection refused".into() },
                        false => Input::Connected { peer },
                    };
                    self.connections
                        .insert(peer, VecDeque::from([(self.now + Duration::from_millis(1), input)]));
                }
                Effect::Send { peer, frame } => self.receive(peer, frame),
                Effect::Close { peer } => {
                    self.trace += "close\n";
                    self.connections.remove(&peer);
                }
            }
        }
    }

    fn receive(&mut self, peer: Peer, frame: Frame) {
        if !self.connections.contains_key(&peer) {
            return;
        }
        let breaks = self.rng.chance(self.faults.break_connection, 100);
        let works = self.rng.chance(1, 2);
        let answer = (!breaks || works).then(|| self.answer(&frame.into_bytes().slice(4..)));
        let slow = self.rng.chance(self.faults.slow_answer, 100);
        let delay = Duration::from_millis(if slow { self.rng.below(2000) } else { 1 }) + self.waits;
        self.waits = Duration::ZERO;
        let Some(queue) = self.connections.get_mut(&peer) else { return };
        // Answers keep their order, however long each takes.
        let at = queue.back().map_or(self.now, |last| last.0).max(self.now + delay);
        if breaks {
            queue.push_back((at, Input::Closed { peer, reason: "connection reset".into() }));
        } else if let Some(Some(frame)) = answer {
            queue.push_back((at, Input::Received { peer, frame }));
        }
    }

    /// What the broker answers, if it answers.
    #[expect(clippy::wildcard_enum_match_arm, reason = "this broker serves only what the tests need")]
    fn answer(&mut self, frame: &Bytes) -> Option<Bytes> {
        let mut reader = Reader::new(frame);
        let header = decode_request_header(&mut reader).unwrap();
        let key = ApiKey::from_code(header.request_api_key).unwrap();
        let version = header.request_api_version;
        let body = frame.slice(frame.len() - reader.remaining()..);
        self.trace += &format!("{key} v{version}\n");
        let id = header.correlation_id;
        match key {
            ApiKey::ApiVersions if version >= self.api_versions_refused_from => {
                let mut response = Self::api_versions();
                response.api_keys.retain(|api| api.api_key == ApiKey::ApiVersions.code());
                response.api_keys[0].max_version = self.api_versions_refused_from - 1;
                response.error_code = ErrorCode::UnsupportedVersion.code();
                encoded(id, key, &response, 0)
            }
            ApiKey::ApiVersions => encoded(id, key, &Self::api_versions(), version),
            ApiKey::Metadata => encoded(id, key, &self.metadata(&body, version), version),
            ApiKey::InitProducerId => {
                let request = InitProducerIdRequest::from_bytes(&body, version).unwrap();
                let error_code = match request.transactional_id {
                    Some(_) => self.transactions_error().map_or(0, ErrorCode::code),
                    None => 0,
                };
                let response = InitProducerIdResponse {
                    error_code,
                    ..self.transactions.init(&request, error_code == 0)
                };
                encoded(id, key, &response, version)
            }
            ApiKey::TxnOffsetCommit => {
                let request = TxnOffsetCommitRequest::from_bytes(&body, version).unwrap();
                let refused = self.transactions_error();
                encoded(id, key, &self.transactions.commit_offsets(&request, refused), version)
            }
            ApiKey::EndTxn => {
                let request = EndTxnRequest::from_bytes(&body, version).unwrap();
                let response = match self.transactions_error() {
                    Some(error) => EndTxnResponse { error_code: error.code(), ..Default::default() },
                    None => self.transactions.end(&request),
                };
                encoded(id, key, &response, version)
            }
            ApiKey::Produce => {
                let request = ProduceRequest::from_bytes(&body, version).unwrap();
                let response = self.produce(&request);
                if request.acks == 0 { None } else { encoded(id, key, &response, version) }
            }
            ApiKey::ListOffsets => encoded(id, key, &self.list_offsets(&body, version), version),
            ApiKey::Fetch => encoded(id, key, &self.fetch(&body, version), version),
            ApiKey::FindCoordinator => encoded(id, key, &self.group.find(), version),
            ApiKey::JoinGroup => {
                let request = JoinGroupRequest::from_bytes(&body, version).unwrap();
                encoded(id, key, &self.group.join(&request), version)
            }
            ApiKey::SyncGroup => {
                let request = SyncGroupRequest::from_bytes(&body, version).unwrap();
                encoded(id, key, &self.group.sync(&request), version)
            }
            ApiKey::Heartbeat => {
                let request = HeartbeatRequest::from_bytes(&body, version).unwrap();
                let error_code =
                    self.coordinator_error().unwrap_or_else(|| self.group.heartbeat(&request)).code();
                encoded(id, key, &HeartbeatResponse { error_code, ..Default::default() }, version)
            }
            ApiKey::ConsumerGroupHeartbeat => {
                let request = ConsumerGroupHeartbeatRequest::from_bytes(&body, version).unwrap();
                let response = match self.coordinator_error() {
                    Some(error) => {
                        ConsumerGroupHeartbeatResponse { error_code: error.code(), ..Default::default() }
                    }
                    None => self.group.beat(&request),
                };
                encoded(id, key, &response, version)
            }
            ApiKey::OffsetCommit => {
                let request = OffsetCommitRequest::from_bytes(&body, version).unwrap();
                encoded(id, key, &self.group.commit(&request), version)
            }
            ApiKey::OffsetFetch => {
                let request = OffsetFetchRequest::from_bytes(&body, version).unwrap();
                encoded(id, key, &self.group.fetch(&request), version)
            }
            ApiKey::LeaveGroup => {
                self.group.leave();
                encoded(id, key, &LeaveGroupResponse::default(), version)
            }
            key => panic!("{key} is not expected"),
        }
    }

    fn coordinator_error(&mut self) -> Option<ErrorCode> {
        let errors =
            [ErrorCode::NotCoordinator, ErrorCode::CoordinatorLoadInProgress, ErrorCode::UnknownMemberId];
        let fails = self.rng.chance(self.faults.retriable_error, 100);
        fails.then(|| errors[usize::try_from(self.rng.below(3)).unwrap()])
    }

    fn transactions_error(&mut self) -> Option<ErrorCode> {
        let errors = [
            ErrorCode::NotCoordinator,
            ErrorCode::CoordinatorLoadInProgress,
            ErrorCode::ConcurrentTransactions,
        ];
        let fails = self.rng.chance(self.faults.retriable_error, 100);
        fails.then(|| errors[usize::try_from(self.rng.below(3)).unwrap()])
    }

    fn api_versions() -> ApiVersionsResponse {
        let served = [
            ApiKey::Produce,
            ApiKey::Fetch,
            ApiKey::ListOffsets,
            ApiKey::Metadata,
            ApiKey::ApiVersions,
            ApiKey::InitProducerId,
            ApiKey::EndTxn,
            ApiKey::TxnOffsetCommit,
            ApiKey::FindCoordinator,
            ApiKey::JoinGroup,
            ApiKey::SyncGroup,
            ApiKey::Heartbeat,
            ApiKey::OffsetCommit,
            ApiKey::OffsetFetch,
            ApiKey::LeaveGroup,
            ApiKey::ConsumerGroupHeartbeat,
        ];
        let api_keys = served.map(|key| ApiVersion {
            api_key: key.code(),
            min_version: *key.versions().start(),
            max_version: *key.versions().end(),
        });
        ApiVersionsResponse { api_keys: api_keys.into(), ..Default::default() }
    }

    fn metadata(&mut self, body: &Bytes, version: i16) -> MetadataResponse {
        let request = MetadataRequest::from_bytes(body, version).unwrap();
        let partition = |index: usize| MetadataResponsePartition {
            partition_index: i32::try_from(index).unwrap(),
            leader_id: 1,
            leader_epoch: 0,
            replica_nodes: vec![1],
            isr_nodes: vec![1],
            ..Default::default()
        };
        let topics = request.topics.unwrap_or_default().into_iter().map(|topic| {
            let known = topic.name.as_deref() == Some(TOPIC);
            MetadataResponseTopic {
                error_code: if known { 0 } else { ErrorCode::UnknownTopicOrPartition.code() },
                name: topic.name,
                topic_id: if known { TOPIC_ID } else { Uuid::nil() },
                partitions: if known { (0..self.logs.len()).map(partition).collect() } else { Vec::new() },
                ..Default::default()
            }
        });
        let Endpoint { host, port } = endpoint();
        MetadataResponse {
            brokers: vec![MetadataResponseBroker { node_id: 1, host, port: port.into(), rack: None }],
            controller_id: 1,
            topics: topics.collect(),
            ..Default::default()
        }
    }

    fn produce(&mut self, request: &ProduceRequest) -> ProduceResponse {
        let mut responses = Vec::new();
        for topic in &request.topic_data {
            let mut partitions = Vec::new();
            for data in &topic.partition_data {
                let batch = data.records.clone().unwrap().into_bytes();
                let result = self.append(usize::try_from(data.index).unwrap(), &batch);
                partitions.push(PartitionProduceResponse {
                    index: data.index,
                    error_code: result.err().map_or(0, ErrorCode::code),
                    base_offset: result.unwrap_or(-1),
                    ..Default::default()
                });
            }
            responses.push(TopicProduceResponse {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partition_responses: partitions,
            });
        }
        ProduceResponse { responses, ..Default::default() }
    }

    fn append(&mut self, index: usize, batch: &Bytes) -> Result<i64, ErrorCode> {
        let header = BatchHeader::parse(batch).unwrap();
        if header.attributes.is_transactional() && !self.transactions.is_current(&header) {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        let fails = self.rng.chance(self.faults.retriable_error, 100);
        match if fails { self.rng.below(3) } else { 3 } {
            0 => Err(ErrorCode::NotEnoughReplicas),
            1 => {
                self.logs[index].append(batch)?;
                Err(ErrorCode::NotEnoughReplicasAfterAppend)
            }
            2 => Err(ErrorCode::NotLeaderOrFollower),
            _ => self.logs[index].append(batch),
        }
    }

    fn list_offsets(&mut self, body: &Bytes, version: i16) -> ListOffsetsResponse {
        let request = ListOffsetsRequest::from_bytes(body, version).unwrap();
        let topics = request.topics.into_iter().map(|topic| ListOffsetsTopicResponse {
            name: topic.name,
            partitions: topic
                .partitions
                .into_iter()
                .map(|partition| ListOffsetsPartitionResponse {
                    partition_index: partition.partition_index,
                    offset: match partition.timestamp {
                        -2 => 0,
                        _ => self.logs[usize::try_from(partition.partition_index).unwrap()].end,
                    },
                    ..Default::default()
                })
                .collect(),
        });
        ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
    }

    /// Answers without sessions, with as many bytes as are asked for: the last batch may be cut off.
    fn fetch(&mut self, body: &Bytes, version: i16) -> FetchResponse {
        let request = FetchRequest::from_bytes(body, version).unwrap();
        let mut responses = Vec::new();
        for topic in request.topics {
            let mut partitions = Vec::new();
            for asked in topic.partitions {
                let log = &self.logs[usize::try_from(asked.partition).unwrap()];
                let failed = self.rng.chance(self.faults.retriable_error, 100);
                let error = match asked.fetch_offset {
                    _ if failed => ErrorCode::NotLeaderOrFollower,
                    offset if offset > log.end => ErrorCode::OffsetOutOfRange,
                    _ => ErrorCode::None,
                };
                let wanted: Vec<&Bytes> = log
                    .batches
                    .iter()
                    .filter(|batch| BatchHeader::parse(batch).unwrap().next_offset().0 > asked.fetch_offset)
                    .collect();
                let mut bytes = wanted.iter().flat_map(|batch| batch.iter().copied()).collect::<Vec<u8>>();
                let whole = wanted.first().map_or(0, |batch| batch.len());
                bytes.truncate(usize::try_from(asked.partition_max_bytes).unwrap().max(whole));
                partitions.push(PartitionData {
                    partition_index: asked.partition,
                    error_code: error.code(),
                    high_watermark: log.end,
                    last_stable_offset: log.end,
                    records: error.is_none().then(|| Records::from(Bytes::from(bytes))),
                    ..Default::default()
                });
            }
            responses.push(FetchableTopicResponse {
                topic: topic.topic,
                topic_id: topic.topic_id,
                partitions,
            });
        }
        let mut answers = responses.iter().flat_map(|topic| &topic.partitions);
        if answers.all(|it| it.error_code == 0 && it.records.as_ref().is_none_or(Records::is_empty)) {
            self.waits = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap());
        }
        FetchResponse { responses, ..Default::default() }
    }
}

fn encoded<R: Message>(id: i32, key: ApiKey, response: &R, version: i16) -> Option<Bytes> {
    let frame = encode_response(id, key.response_header_version(version), response, version).unwrap();
    Some(frame.into_bytes().slice(4..))
}

/// The sequences of the batches in a log, for messages of failed tests.
pub(crate) fn shown(log: &Log) -> Vec<(i16, i32, i32)> {
    let headers = log.batches.iter().flat_map(|batch| Batches::new(batch.clone())).map(|batch| {
        let batch = batch.unwrap();
        assert!(batch.bytes().len() > HEADER_SIZE);
        *batch.header()
    });
    headers.map(|header| (header.producer_epoch.0, header.base_sequence.0, header.record_count)).collect()
}
