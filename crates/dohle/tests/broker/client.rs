//! A client that does one thing at a time, and as it is told: requests over a socket, without retries.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dohle_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use dohle_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, FetchResponse, IncrementalAlterConfigsRequest,
    MetadataRequest, ProduceRequest, create_topics_request, fetch_request, metadata_request, produce_request,
};
use dohle_protocol::{Message, Request, encode_request};
use dohle_records::{BatchBuilder, BatchOptions, Batches, Compressor, Decompressor};
use dohle_types::{ErrorCode, Timestamp, TopicId};

use crate::process::{PATIENCE, until};

/// A connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    correlation: i32,
}

impl Client {
    pub(crate) fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, correlation: 0 }
    }

    /// Sends a request; its number.
    pub(crate) fn send<R: Request>(&mut self, request: &R, version: i16) -> io::Result<i32> {
        self.correlation += 1;
        let frame = encode_request(self.correlation, Some("test"), request, version).unwrap();
        self.stream.write_all(&frame.into_bytes())?;
        Ok(self.correlation)
    }

    /// The next answer, which is one to `R`; its number and what it says.
    pub(crate) fn receive<R: Request>(&mut self, version: i16) -> io::Result<(i32, R::Response)> {
        let frame = self.receive_frame()?;
        let header_size = if R::KEY.response_header_version(version) > 0 { 5 } else { 4 };
        let correlation = i32::from_be_bytes(frame[..4].try_into().unwrap());
        Ok((correlation, R::Response::from_bytes(&frame.slice(header_size..), version).unwrap()))
    }

    /// Asks and waits for the answer.
    pub(crate) fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        let sent = self.send(request, version).unwrap();
        let (correlation, response) = self.receive::<R>(version).unwrap();
        assert_eq!(correlation, sent);
        response
    }

    /// The next frame, without its length.
    pub(crate) fn receive_frame(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    /// The broker closes the connection and answers nothing before it does.
    pub(crate) fn assert_closed(&mut self) {
        match self.stream.read(&mut [0; 64]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("not closed: {other:?}"),
        }
    }

    /// Creates a topic; its id.
    pub(crate) fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> TopicId {
        let config = |(name, value): &(&str, &str)| create_topics_request::CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
        };
        let topic = create_topics_request::CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only: false };
        let response = self.call(&request, 7);
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
        TopicId(response.topics[0].topic_id)
    }

    /// Sets configs of a resource, or removes what is set; the error.
    pub(crate) fn alter_configs(
        &mut self,
        resource_type: i8,
        name: &str,
        configs: &[(&str, Option<&str>)],
    ) -> (i16, String) {
        let configs = configs.iter().map(|&(name, value)| AlterableConfig {
            name: name.into(),
            config_operation: i8::from(value.is_none()),
            value: value.map(Into::into),
        });
        let resource =
            AlterConfigsResource { resource_type, resource_name: name.into(), configs: configs.collect() };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let response = self.call(&request, 1).responses.remove(0);
        (response.error_code, response.error_message.unwrap_or_default().to_string())
    }

    pub(crate) fn delete_topic(&mut self, name: &str) {
        let request =
            DeleteTopicsRequest { topic_names: vec![name.into()], timeout_ms: 10_000, ..Default::default() };
        assert_eq!(self.call(&request, 5).responses[0].error_code, 0);
    }

    pub(crate) fn topic_id(&mut self, name: &str) -> TopicId {
        let topic = metadata_request::MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        TopicId(self.call(&request, 12).topics[0].topic_id)
    }

    /// Produces records with acks=all, once the partition, which may be opening, is there; the error code.
    pub(crate) fn produce(&mut self, topic: TopicId, partition: i32, values: &[&[u8]]) -> i16 {
        until("the partition is open", || {
            let records = batch(BatchOptions::default(), values);
            let response = self.call(&produce_request(topic, partition, records), PRODUCE_VERSION);
            let error = response.responses[0].partition_responses[0].error_code;
            (error != ErrorCode::NotLeaderOrFollower.code()).then_some(error)
        })
    }

    /// Fetches until the partition, which may be opening, is there.
    fn fetch(&mut self, topic: TopicId, partition: i32, offset: i64) -> FetchResponse {
        until("the partition is open", || {
            let response = self.call(&fetch_request(topic, partition, offset, 0), FETCH_VERSION);
            let error = response.responses[0].partitions[0].error_code;
            assert!(error == 0 || error == ErrorCode::NotLeaderOrFollower.code(), "error {error}");
            (error == 0).then_some(response)
        })
    }

    /// All values of a partition, with the offsets counted up to be those of a log without gaps.
    pub(crate) fn consume(&mut self, topic: TopicId, partition: i32) -> Vec<Bytes> {
        self.consume_from(topic, partition, 0)
    }

    /// As [`Self::consume`], of a log that begins at `start`.
    pub(crate) fn consume_from(&mut self, topic: TopicId, partition: i32, start: i64) -> Vec<Bytes> {
        let mut values = Vec::new();
        let mut decompressor = Decompressor::default();
        loop {
            let offset = start + i64::try_from(values.len()).unwrap();
            let response = self.fetch(topic, partition, offset);
            let answer = &response.responses[0].partitions[0];
            let Some(records) = &answer.records else { return values };
            let before = values.len();
            for batch in Batches::new(records.clone().into_bytes()).map(Result::unwrap) {
                for record in batch.records(&mut decompressor).unwrap().map(Result::unwrap) {
                    if record.offset.0 >= offset {
                        assert_eq!(record.offset.0, start + i64::try_from(values.len()).unwrap());
                        values.push(record.value.unwrap());
                    }
                }
            }
            if values.len() == before {
                return values;
            }
        }
    }
}

pub(crate) const PRODUCE_VERSION: i16 = 13;
pub(crate) const FETCH_VERSION: i16 = 17;

pub(crate) fn produce_request(topic: TopicId, partition: i32, records: Bytes) -> ProduceRequest {
    let partition_data =
        vec![produce_request::PartitionProduceData { index: partition, records: Some(records.into()) }];
    let topic = produce_request::TopicProduceData { topic_id: topic.0, partition_data, ..Default::default() };
    ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() }
}

pub(crate) fn fetch_request(topic: TopicId, partition: i32, offset: i64, wait_ms: i32) -> FetchRequest {
    let partition = fetch_request::FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topic =
        fetch_request::FetchTopic { topic_id: topic.0, partitions: vec![partition], ..Default::default() };
    FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

/// A batch of records with these values, of now.
pub(crate) fn batch(options: BatchOptions, values: &[&[u8]]) -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let mut builder = BatchBuilder::new(options);
    for value in values {
        builder.append(Timestamp(i64::try_from(now).unwrap()), None, Some(value), &[]).unwrap();
    }
    builder.build(&mut Compressor::default()).unwrap()
}
