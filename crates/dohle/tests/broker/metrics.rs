//! Metrics over HTTP: what they tell, and who asks for them badly.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use dohle_metrics::table;
use dohle_protocol::messages::{HeartbeatRequest, ProduceRequest};
use dohle_types::ErrorCode;

use crate::client::Client;
use crate::process::{Broker, Directory, PATIENCE, until};

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
    let mut request: ProduceRequest = crate::client::produce_request(topic, 7, bytes::Bytes::new());
    request.acks = 0;
    silent.send(&request, crate::client::PRODUCE_VERSION).unwrap();
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
