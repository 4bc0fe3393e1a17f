//! Damage in files: it is found, its records are refused, and nothing else is.

use std::os::unix::fs::FileExt;

use crate::client::{Client, FETCH_VERSION, fetch_request};
use crate::process::{Broker, Directory, until};

const CORRUPT_MESSAGE: i16 = 2;

#[test]
fn a_scrub_finds_damage_and_readers_are_refused_its_records_alone() {
    let data = Directory::new();
    let scrub = ["dohle.scrub.interval.ms=20", "dohle.scrub.bytes.per.second=1000000000"];
    let broker = Broker::start(&data.0, &scrub);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[("segment.bytes", "1048576")]);
    // Of these a segment has ten.
    let value = vec![b'.'; 100_000];
    for _ in 0..25 {
        assert_eq!(client.produce(topic, 0, &[&value]), 0);
    }
    let mut error_at = |offset: i64| {
        let response = client.call(&fetch_request(topic, 0, offset, 0), FETCH_VERSION);
        let partition = &response.responses[0].partitions[0];
        (partition.error_code, partition.records.as_ref().map_or(0, |records| records.len()))
    };
    assert_eq!(error_at(3).0, 0);
    let path = data.0.join("orders-0/00000000000000000000.log");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"!", 350_000).unwrap();
    until("the scrub finds it", || (error_at(3).0 == CORRUPT_MESSAGE).then_some(()));
    let (error, length) = error_at(0);
    assert!(error == 0 && (300_000..301_000).contains(&length), "{error}, {length} bytes up to the damage");
    for offset in [1, 2, 4, 9, 10, 24] {
        let (error, length) = error_at(offset);
        assert!(error == 0 && length >= 100_000, "offset {offset}: error {error}, {length} bytes");
    }
    assert_eq!(client.produce(topic, 0, &[b"goes on"]), 0);
}
