//! Clients that do not mean well, or are no clients at all. Each attack ends with an error or a closed connection,
//! and while it lasts a bystander's records go through and the broker's memory stays small.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use dohle_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, DescribeConfigsRequest, DescribeGroupsRequest, FetchRequest,
    ListOffsetsRequest, MetadataRequest, describe_configs_request, list_offsets_request, metadata_request,
};
use dohle_protocol::{ApiKey, Message, encode_request};
use dohle_records::{BatchOptions, Compression};
use dohle_types::{ErrorCode, Str, TopicId};

use crate::client::{Client, FETCH_VERSION, PRODUCE_VERSION, batch, fetch_request, produce_request};
use crate::process::{Broker, Directory, until};

pub(crate) const MIB: u64 = 1 << 20;

/// Runs an attack on a broker of its own beside a bystander. The broker survives with less than `memory_max` bytes.
fn withstand(memory_max: u64, attack: impl FnOnce(&Broker, TopicId, &dyn Fn())) {
    withstand_with(&[], memory_max, attack);
}

/// As [`withstand`], with a broker of these configs.
pub(crate) fn withstand_with(
    overrides: &[&str],
    memory_max: u64,
    attack: impl FnOnce(&Broker, TopicId, &dyn Fn()),
) {
    let data = Directory::new();
    let mut broker = Broker::start(&data.0, overrides);
    let topic = Client::connect(&broker.address).create_topic("orders", 2, &[]);
    let (rounds, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let address = broker.address.clone();
        let (rounds, over) = (&rounds, &over);
        scope.spawn(move || {
            let _ended = RaiseOnDrop(over);
            let mut client = Client::connect(&address);
            while !over.load(Ordering::Relaxed) {
                let number = rounds.load(Ordering::Relaxed).to_string();
                assert_eq!(client.produce(topic, 0, &[number.as_bytes()]), 0);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            let read = client.consume(topic, 0);
            let expected: Vec<Bytes> =
                (0..rounds.load(Ordering::Relaxed)).map(|number| number.to_string().into()).collect();
            assert_eq!(read, expected);
        });
        let _ended = RaiseOnDrop(over);
        let bystander_goes_on = || {
            let before = rounds.load(Ordering::Relaxed);
            until("the bystander gets on", || {
                assert!(!over.load(Ordering::Relaxed), "the bystander failed");
                (rounds.load(Ordering::Relaxed) >= before + 3).then_some(())
            });
        };
        attack(&broker, topic, &bystander_goes_on);
        bystander_goes_on();
    });
    broker.assert_alive();
    let memory = broker.peak_memory();
    assert!(memory < memory_max, "the broker took {} MiB", memory / MIB);
}

/// Ends the other side's loop, also when this side panics.
struct RaiseOnDrop<'a>(&'a AtomicBool);

impl Drop for RaiseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The frame of a request with any key, version and body.
fn frame(key: i16, version: i16, header_is_flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut request = [key.to_be_bytes(), version.to_be_bytes()].concat();
    request.extend_from_slice(b"\0\0\0\x01\0\x04test");
    request.extend_from_slice(if header_is_flexible { b"\0" } else { b"" });
    request.extend_from_slice(body);
    let length = u32::try_from(request.len()).unwrap();
    [&length.to_be_bytes()[..], &request].concat()
}

fn is_flexible(key: ApiKey, version: i16) -> bool {
    key.request_header_version(version) >= 2
}

/// All that the broker says it serves.
fn served(broker: &Broker) -> Vec<(ApiKey, Vec<i16>)> {
    let response = Client::connect(&broker.address).call(&ApiVersionsRequest::default(), 0);
    let apis = response.api_keys.iter();
    apis.map(|api| (ApiKey::from_code(api.api_key).unwrap(), (api.min_version..=api.max_version).collect()))
        .collect()
}

#[test]
fn a_frame_that_ends_early_is_dropped() {
    withstand(100 * MIB, |broker, _, _| {
        let whole = encode_request(1, Some("test"), &MetadataRequest::default(), 12).unwrap().into_bytes();
        for length in 0..whole.len() {
            let mut client = Client::connect(&broker.address);
            client.stream.write_all(&whole[..length]).unwrap();
            client.stream.shutdown(Shutdown::Write).unwrap();
            client.assert_closed();
        }
    });
}

#[test]
fn a_length_that_cannot_be_and_other_protocols_are_closed_at_once() {
    withstand(100 * MIB, |broker, _, _| {
        let beginnings: [&[u8]; 8] = [
            b"\x7f\xff\xff\xff",
            b"\x80\0\0\0",
            b"\xff\xff\xff\xff",
            // One more than socket.request.max.bytes.
            b"\x06\x40\0\x01",
            b"GET / HTTP/1.1\r\nHost: kafka\r\n\r\n",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
            b"SSH-2.0-OpenSSH_9.9\r\n",
            b"\0\0\0\0",
        ];
        for beginning in beginnings {
            let mut client = Client::connect(&broker.address);
            client.stream.write_all(beginning).unwrap();
            client.assert_closed();
        }
    });
}

#[test]
fn bodies_of_absurd_counts_are_answered_or_closed_in_every_version_of_every_api() {
    withstand(120 * MIB, |broker, _, bystander_goes_on| {
        let patterns: [&[u8]; 6] =
            [b"", b"\0", b"\x01", b"\x7f\xff\xff\xff", b"\xff", b"\xff\xff\xff\xff\x07"];
        for (key, versions) in served(broker) {
            for version in versions {
                for pattern in patterns {
                    let body = pattern.repeat(64);
                    let mut client = Client::connect(&broker.address);
                    client
                        .stream
                        .write_all(&frame(key.code(), version, is_flexible(key, version), &body))
                        .unwrap();
                    client.stream.shutdown(Shutdown::Write).unwrap();
                    // An answer, or the end: nothing hangs.
                    if let Err(error) = client.receive_frame() {
                        assert!(
                            matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset),
                            "{} {version} {pattern:x?}: {error}",
                            key.name()
                        );
                    }
                }
            }
            bystander_goes_on();
        }
    });
}

#[test]
fn floods_of_small_elements_cost_little() {
    withstand(150 * MIB, |broker, _, bystander_goes_on| {
        for (key, versions) in served(broker) {
            let version = *versions.last().unwrap();
            // As many elements as the smallest ones have room for, behind whatever is before the first array.
            for zeros in [0, 1, 2, 4, 6, 8] {
                let mut body = vec![0; zeros];
                body.extend_from_slice(b"\xff\xff\x3f");
                body.resize(1 << 20, 1);
                let mut client = Client::connect(&broker.address);
                client
                    .stream
                    .write_all(&frame(key.code(), version, is_flexible(key, version), &body))
                    .unwrap();
                client.stream.shutdown(Shutdown::Write).unwrap();
                let _ = client.receive_frame();
            }
            bystander_goes_on();
        }
    });
}

#[test]
fn what_is_named_again_and_again_costs_little() {
    const TIMES: usize = 100_000;
    withstand(200 * MIB, |broker, _, bystander_goes_on| {
        let mut client = Client::connect(&broker.address);
        let request = describe_broker(TIMES);
        assert_eq!(client.call(&request, 4).results.len(), 1, "it is described once");
        bystander_goes_on();

        let topic = metadata_request::MetadataRequestTopic { name: Some("new".into()), ..Default::default() };
        let topics = Some(vec![topic; TIMES]);
        let request = MetadataRequest { topics, allow_auto_topic_creation: true, ..Default::default() };
        client.call(&request, 12);
        bystander_goes_on();
        let all = client.call(&MetadataRequest { topics: None, ..Default::default() }, 12);
        let created = all.topics.iter().filter(|topic| topic.name.as_deref() == Some("new"));
        assert_eq!(created.count(), 1, "it is created once");

        let groups = vec![Str::from("nobody"); TIMES];
        let request = DescribeGroupsRequest { groups, ..Default::default() };
        client.call(&request, 6);
        bystander_goes_on();

        let partition = list_offsets_request::ListOffsetsPartition { timestamp: 1, ..Default::default() };
        let topic = list_offsets_request::ListOffsetsTopic {
            name: "orders".into(),
            partitions: vec![partition; TIMES],
        };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        let response = client.call(&request, 10);
        let searched = response.topics[0].partitions.iter().filter(|answer| answer.error_code == 0);
        assert_eq!(searched.count(), 1, "it is searched once");
        bystander_goes_on();

        let topics = vec![Default::default(); TIMES];
        client.call(&FetchRequest { topics, session_epoch: -1, ..Default::default() }, FETCH_VERSION);
        bystander_goes_on();
    });
}

/// A request that asks this often for all that there is to say about the broker's configs.
fn describe_broker(times: usize) -> DescribeConfigsRequest {
    let resource = describe_configs_request::DescribeConfigsResource {
        resource_type: 4,
        resource_name: "1".into(),
        configuration_keys: None,
    };
    DescribeConfigsRequest {
        resources: vec![resource; times],
        include_synonyms: true,
        include_documentation: true,
    }
}

#[test]
fn large_requests_that_wait_are_few() {
    const TIMES: usize = 100_000;
    withstand(400 * MIB, |broker, topic, bystander_goes_on| {
        let mut client = Client::connect(&broker.address);
        client.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        // There is nothing in the partition, and a client that waits for more than there will ever be.
        let mut request = fetch_request(topic, 1, 0, i32::MAX);
        request.min_bytes = i32::MAX;
        let partitions = &mut request.topics[0].partitions;
        *partitions = vec![partitions[0].clone(); TIMES];
        let sent = (0..256).take_while(|_| client.send(&request, FETCH_VERSION).is_ok()).count();
        assert!(sent < 64, "the broker took {sent} requests of megabytes");
        bystander_goes_on();
    });
}

#[test]
fn half_frames_that_are_held_open_take_no_more_than_what_arrived() {
    withstand(100 * MIB, |broker, _, bystander_goes_on| {
        let mut held = Vec::new();
        for _ in 0..200 {
            let mut client = Client::connect(&broker.address);
            // 100 MB are announced, and a little more than a receive buffer comes.
            client.stream.write_all(b"\x06\0\0\0\0\0\0\x0d\0\0\0\x01\0\x04test").unwrap();
            client.stream.write_all(&[0; 70_000]).unwrap();
            held.push(client);
        }
        bystander_goes_on();
    });
}

#[test]
fn a_client_that_sends_byte_by_byte_is_answered() {
    withstand(100 * MIB, |broker, _, bystander_goes_on| {
        let mut client = Client::connect(&broker.address);
        let request = encode_request(1, Some("test"), &ApiVersionsRequest::default(), 0).unwrap();
        for byte in request.into_bytes() {
            client.stream.write_all(&[byte]).unwrap();
            bystander_goes_on();
        }
        assert!(client.receive::<ApiVersionsRequest>(0).is_ok());
    });
}

#[test]
fn what_is_not_served_is_closed_and_unknown_api_versions_are_told_what_is() {
    withstand(100 * MIB, |broker, _, _| {
        for key in [9999, i16::MAX, -1, i16::MIN, ApiKey::Vote.code()] {
            let mut client = Client::connect(&broker.address);
            client.stream.write_all(&frame(key, 0, false, b"")).unwrap();
            client.assert_closed();
        }
        for (key, versions) in served(broker) {
            for version in [-1, i16::MIN, versions.last().unwrap() + 1, 99, i16::MAX] {
                let mut client = Client::connect(&broker.address);
                client.stream.write_all(&frame(key.code(), version, version >= 0, b"")).unwrap();
                if key == ApiKey::ApiVersions {
                    let answer = client.receive_frame().unwrap();
                    let response = ApiVersionsResponse::from_bytes(&answer.slice(4..), 0).unwrap();
                    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
                    assert!(response.api_keys.iter().any(|api| api.api_key == ApiKey::ApiVersions.code()));
                } else {
                    client.assert_closed();
                }
            }
        }
    });
}

#[test]
fn a_client_that_asks_on_and_on_and_reads_no_answer_is_not_listened_to() {
    withstand(150 * MIB, |broker, _, bystander_goes_on| {
        let request = describe_broker(1);
        let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&broker.address)).collect();
        for client in &mut clients {
            client.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            let sent = (0..1_000_000).take_while(|_| client.send(&request, 4).is_ok()).count();
            assert!(sent < 1_000_000, "the broker took all of it");
            bystander_goes_on();
        }
        // Who reads after all gets the answers in order.
        for number in 1..=600 {
            let (correlation, _) = clients[0].receive::<DescribeConfigsRequest>(4).unwrap();
            assert_eq!(correlation, number);
        }
    });
}

#[test]
fn clients_that_take_all_connections_leave_the_files_theirs() {
    let data = Directory::new();
    let mut broker = Broker::start_with_handles(&data.0, 100);
    let mut client = Client::connect(&broker.address);
    let flood: Vec<Client> = (0..200).map(|_| Client::connect(&broker.address)).collect();
    for number in 0..30 {
        // Each log takes several files.
        let topic = client.create_topic(&format!("topic{number}"), 1, &[]);
        assert_eq!(client.produce(topic, 0, &[b"value"]), 0);
    }
    broker.assert_alive();
    drop(flood);
    until("there is room for another connection", || {
        let mut late = Client::connect(&broker.address);
        let asked = late.send(&ApiVersionsRequest::default(), 0);
        asked.and_then(|_| late.receive::<ApiVersionsRequest>(0)).ok()
    });
}

#[test]
fn bombs_are_not_unpacked() {
    let zeros = vec![0; 96 << 20];
    let bombs = [Compression::Gzip, Compression::Lz4, Compression::Zstd].map(|compression| {
        batch(BatchOptions { compression: compression.into(), ..BatchOptions::default() }, &[&zeros])
    });
    withstand(100 * MIB, |broker, topic, bystander_goes_on| {
        let mut client = Client::connect(&broker.address);
        for bomb in bombs {
            assert!(bomb.len() < 1 << 20, "small enough to be looked into");
            let response = client.call(&produce_request(topic, 1, bomb), PRODUCE_VERSION);
            let answer = &response.responses[0].partition_responses[0];
            assert_eq!(answer.error_code, ErrorCode::MessageTooLarge.code(), "{:?}", answer.error_message);
            bystander_goes_on();
        }
        assert_eq!(client.consume(topic, 1), Vec::<Bytes>::new());
    });
}
