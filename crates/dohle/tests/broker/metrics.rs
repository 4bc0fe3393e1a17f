//! Metrics over HTTP: what they tell, and who asks for them badly.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use dohle_metrics::table;
use dohle_protocol::messages::{HeartbeatRequest, ProduceRequest};
use dohle_records::{BatchBuilder, BatchOptions, Compressor};
use dohle_types::{ErrorCode, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId};

use crate::client::{Client, PRODUCE_VERSION, batch, produce_request};
use crate::process::{Broker, Directory, PATIENCE, until};
use crate::transactions::append_to_file;

const SERVED: &str = "dohle.metrics.listeners=127.0.0.1:0";

/// Sends these bytes, and reads until the broker closes the connection.
fn exchange(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The broker may have refused before all of it was sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}"),
    }
    String::from_utf8(answer).unwrap()
}

/// The page of a broker, in Prometheus' format.
pub(crate) fn scrape(broker: &Broker) -> String {
    let answer = exchange(broker.metrics.as_ref().unwrap(), b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", page.len())), "{head}");
    page.to_owned()
}

/// The value of a series in a page, if it is there.
pub(crate) fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn a_scrape_has_every_metric_of_the_table_and_tells_what_was_done() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[SERVED]);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 2, &[]);
    assert_eq!(client.produce(topic, 0, &[b"one", b"two"]), 0);
    assert_eq!(client.consume(topic, 0).len(), 2);
    let heartbeat = HeartbeatRequest { group_id: "nobody".into(), ..Default::default() };
    client.call(&heartbeat, 4);
    let page = scrape(&broker);
    for metric in table::metrics() {
        let told = format!("# TYPE {} {}\n# HELP {} ", metric.name, metric.kind.name(), metric.name);
        assert!(page.contains(&told), "{} is missing", metric.name);
    }
    let at_least = |series: &str, least: f64| {
        let value = value(&page, series).unwrap_or_else(|| panic!("{series} is missing in:\n{page}"));
        assert!(value >= least, "{series} is {value}");
    };
    at_least("dohle_node_serving", 1.0);
    at_least("dohle_connections", 1.0);
    at_least("process_open_fds", 8.0);
    at_least("process_resident_memory_bytes", 1e6);
    at_least("dohle_requests_total{api=\"Produce\"}", 1.0);
    at_least("dohle_request_seconds_count{api=\"Produce\"}", 1.0);
    at_least("dohle_request_errors_total{api=\"Heartbeat\",error=\"COORDINATOR_NOT_AVAILABLE\"}", 1.0);
    at_least("dohle_topic_appended_records_total{topic=\"orders\"}", 2.0);
    at_least("dohle_topic_fetched_bytes_total{topic=\"orders\"}", 60.0);
    at_least("dohle_network_received_bytes_total", 100.0);
    at_least("dohle_partition_high_watermark{topic=\"orders\",partition=\"0\"}", 2.0);
    at_least("dohle_topic_log_bytes{topic=\"orders\"}", 60.0);
    at_least("dohle_partitions{state=\"online\"}", 2.0);
    at_least("dohle_partitions{state=\"new\"}", 1.0);
    at_least("dohle_memory_share_used_bytes{share=\"hot_tails\"}", 60.0);
    let of_log_dir = |metric: &str| format!("{metric}{{log_dir=\"{}\"}}", data.0.display());
    at_least(&of_log_dir("dohle_log_dir_online"), 1.0);
    at_least(&of_log_dir("dohle_log_dir_usable_bytes"), 1e6);
    at_least(&of_log_dir("dohle_commit_seconds_count"), 1.0);
    at_least(&of_log_dir("dohle_commit_file_syncs_total"), 1.0);
    assert_eq!(page.lines().filter(|line| line.starts_with("dohle_metrics_series_left_out{")).count(), 0);
    // What the page itself was asked by is in the next one.
    assert_eq!(value(&scrape(&broker), "dohle_metrics_scrapes_total{status=\"200\"}"), Some(2.0));
}

#[test]
fn what_is_answered_counts_with_the_errors_of_each_partition() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[SERVED]);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[]);
    assert_eq!(client.produce(topic, 7, &[b"x"]), ErrorCode::UnknownTopicOrPartition.code());
    // The second connection is closed without an answer: with acks=0 that is how a client learns.
    let mut silent = Client::connect(&broker.address);
    let mut request = produce_request(topic, 7, bytes::Bytes::new());
    request.acks = 0;
    silent.send(&request, PRODUCE_VERSION).unwrap();
    silent.assert_closed();
    let page = scrape(&broker);
    let error = "dohle_request_errors_total{api=\"Produce\",error=\"UNKNOWN_TOPIC_OR_PARTITION\"}";
    assert_eq!(value(&page, error), Some(2.0), "{page}");
    assert_eq!(value(&page, "dohle_requests_refused_total"), Some(1.0));
    assert_eq!(value(&page, "dohle_connections_closed_total{reason=\"broker\"}"), Some(1.0));
    assert_eq!(value(&page, "dohle_requests_in_flight"), Some(0.0));
}

#[test]
fn the_format_is_what_was_asked_for() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[SERVED]);
    let address = broker.metrics.as_ref().unwrap();
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let answer = exchange(address, format!("GET /metrics HTTP/1.1\r\n{accept}\r\n\r\n").as_bytes());
    assert!(answer.contains("Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
    assert!(answer.contains("# TYPE dohle_requests counter\n"));
    assert!(answer.ends_with("# EOF\n"));
    let head = exchange(address, b"HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(exchange(address, b"GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 Not Found\r\n"));
}

#[test]
fn who_asks_badly_is_refused_and_keeps_nobody_from_being_served() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[SERVED]);
    let address = broker.metrics.as_ref().unwrap();
    let status = |bytes: &[u8]| exchange(address, bytes).split(' ').nth(1).map(str::to_owned);
    assert_eq!(status(b"\0\0\0\x20\0\x12\0\0\0\0\0\0").as_deref(), Some("400"));
    assert_eq!(status(b"DELETE /metrics HTTP/1.1\r\n\r\n").as_deref(), Some("405"));
    let endless = [b"GET /metrics HTTP/1.1\r\nX: ".as_slice(), &vec![b'x'; 1 << 20]].concat();
    // Where the broker has closed with bytes unread the answer may be lost.
    assert!(matches!(status(&endless).as_deref(), Some("431") | None));
    // A request that is cut off, and connections that say nothing: the first ones are waited for, others are closed.
    let mut cut = TcpStream::connect(address).unwrap();
    cut.write_all(b"GET /metr").unwrap();
    cut.shutdown(Shutdown::Write).unwrap();
    assert_eq!(cut.read(&mut [0; 16]).unwrap(), 0);
    let silent: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[]);
    assert_eq!(client.produce(topic, 0, &[b"served"]), 0);
    drop(silent);
    let page = until("a scrape has its turn", || {
        let answer = exchange(address, b"GET /metrics HTTP/1.1\r\n\r\n");
        answer.starts_with("HTTP/1.1 200").then_some(answer)
    });
    assert!(value(&page, "dohle_metrics_connections_refused_total").unwrap() >= 24.0);
    assert_eq!(value(&page, "dohle_metrics_scrapes_total{status=\"400\"}"), Some(1.0));
}

#[test]
fn a_metric_has_no_more_series_than_is_configured_and_the_page_says_so() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[SERVED, "dohle.metrics.series.max=2"]);
    let mut client = Client::connect(&broker.address);
    for name in ["a", "b", "c"] {
        let topic = client.create_topic(name, 1, &[]);
        assert_eq!(client.produce(topic, 0, &[b"x"]), 0);
    }
    let page = scrape(&broker);
    let topics = page.lines().filter(|line| line.starts_with("dohle_topic_appended_bytes_total{"));
    assert_eq!(topics.count(), 2);
    let left_out = "dohle_metrics_series_left_out{metric=\"dohle_topic_appended_bytes_total\"}";
    assert!(value(&page, left_out).unwrap() >= 1.0, "{page}");
}

/// Sends a batch of an idempotent producer, and waits for no answer.
fn send_idempotent(client: &mut Client, topic: TopicId, partition: i32, producer_id: i64, sequence: i32) {
    let options = BatchOptions {
        producer_id: ProducerId(producer_id),
        producer_epoch: ProducerEpoch(0),
        base_sequence: Sequence(sequence),
        ..BatchOptions::default()
    };
    let request = produce_request(topic, partition, batch(options, &[b"x"]));
    client.send(&request, PRODUCE_VERSION).unwrap();
}

fn receive_offset(client: &mut Client) -> i64 {
    let (_, response) = client.receive::<ProduceRequest>(PRODUCE_VERSION).unwrap();
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, 0);
    partition.base_offset
}

#[test]
fn a_flood_of_producers_is_forgotten_and_who_has_other_partitions_is_not() {
    let data = Directory::new();
    let limit = "dohle.producers.max=1000";
    let broker = Broker::start(&data.0, &[SERVED, limit, "dohle.durability=relaxed"]);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 2, &[]);
    assert_eq!([client.produce(topic, 0, &[b"open"]), client.produce(topic, 1, &[b"open"])], [0, 0]);
    send_idempotent(&mut client, topic, 1, 7, 0);
    assert_eq!(receive_offset(&mut client), 1);
    for first in (1000..4000).step_by(100) {
        (first..first + 100).for_each(|id| send_idempotent(&mut client, topic, 0, id, 0));
        (first..first + 100).for_each(|_| assert!(receive_offset(&mut client) > 0));
    }
    let page = scrape(&broker);
    let value = |series| value(&page, series).unwrap();
    assert_eq!(value("dohle_producers_limit"), 1000.0);
    assert!(value("dohle_producers") <= 1000.0, "{page}");
    assert_eq!(value("dohle_producers") + value("dohle_producers_forgotten_total"), 3001.0);
    // The bystander is known still, so that what it sends again is where it was.
    send_idempotent(&mut client, topic, 1, 7, 0);
    assert_eq!(receive_offset(&mut client), 1);
    // Of the flood the last one is, and the first is not: its batch is a new one.
    send_idempotent(&mut client, topic, 0, 3999, 0);
    assert_eq!(receive_offset(&mut client), 3000);
    send_idempotent(&mut client, topic, 0, 1000, 0);
    assert_eq!(receive_offset(&mut client), 3001);
}

#[test]
fn who_holds_back_a_last_stable_offset_is_named() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[]);
    assert_eq!(client.produce(topic, 0, &[b"before"]), 0);
    broker.kill();
    // A transaction of an hour ago that no coordinator knows.
    let options = BatchOptions {
        producer_id: ProducerId(4711),
        producer_epoch: ProducerEpoch(0),
        base_sequence: Sequence(0),
        transactional: true,
        ..BatchOptions::default()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let mut builder = BatchBuilder::new(options);
    let hour_ago = Timestamp(i64::try_from(now).unwrap() - 3_600_000);
    builder.append(hour_ago, None, Some(b"open"), &[]).unwrap();
    append_to_file(&data.0, "orders-0", &builder.build(&mut Compressor::default()).unwrap(), 1);
    let broker = Broker::start(&data.0, &[SERVED]);
    assert_eq!(Client::connect(&broker.address).consume(topic, 0).len(), 2);
    let page = scrape(&broker);
    let held = "dohle_partition_last_stable_offset_lag{topic=\"orders\",partition=\"0\"}";
    assert_eq!(value(&page, held), Some(1.0), "{page}");
    let labels = "{topic=\"orders\",partition=\"0\",producer_id=\"4711\",transactional_id=\"\"}";
    let age = value(&page, &format!("dohle_oldest_transaction_seconds{labels}")).unwrap();
    assert!((3_600.0..4_000.0).contains(&age), "{page}");
}
