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

/// Flips bits of a byte of a file.
fn damage(path: &std::path::Path, position: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 0x55], position).unwrap();
}

#[test]
fn damage_is_found_by_whoever_reads_it_and_by_recovery_and_takes_nothing_else() {
    let data = Directory::new();
    let value = vec![b'.'; 100_000];
    let broker = Broker::start(&data.0, &["dohle.scrub.interval.ms=0"]);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[("segment.bytes", "1048576")]);
    for _ in 0..25 {
        assert_eq!(client.produce(topic, 0, &[&value]), 0);
    }
    broker.stop();
    // In the records of offset 3, and in the offset of the batch behind it, which no CRC covers.
    damage(&data.0.join("orders-0/00000000000000000000.log"), 350_000);
    damage(&data.0.join("orders-0/00000000000000000000.log"), 4 * 100_077 + 7);

    let broker = Broker::start(&data.0, &["dohle.scrub.interval.ms=0"]);
    let mut client = Client::connect(&broker.address);
    let errors = |client: &mut Client, end: i64| -> Vec<(i64, i16)> {
        let error_at = |offset: i64| {
            let response = client.call(&fetch_request(topic, 0, offset, 0), FETCH_VERSION);
            let partition = &response.responses[0].partitions[0];
            let length = partition.records.as_ref().map_or(0, |records| records.len());
            assert_eq!(partition.error_code == 0, length >= 100_000, "offset {offset}");
            (offset, partition.error_code)
        };
        (0..end).map(error_at).filter(|(_, error)| *error != 0).collect()
    };
    assert_eq!(errors(&mut client, 25), [(3, CORRUPT_MESSAGE), (4, CORRUPT_MESSAGE)]);
    assert_eq!(client.produce(topic, 0, &[&value]), 0);
    broker.kill();
    // Above the recovery point; what follows it shows that it is no torn end.
    damage(&data.0.join("orders-0/00000000000000000020.log"), 250_000);
    std::fs::remove_file(data.0.join("recovery-point-offset-checkpoint")).unwrap();

    let broker = Broker::start(&data.0, &["dohle.scrub.interval.ms=0"]);
    let mut client = Client::connect(&broker.address);
    let expected = [(3, CORRUPT_MESSAGE), (4, CORRUPT_MESSAGE), (22, CORRUPT_MESSAGE)];
    assert_eq!(errors(&mut client, 26), expected);
    assert_eq!(client.produce(topic, 0, &[&value]), 0);
}

#[test]
fn damaged_indexes_of_a_log_that_nobody_asks_for_are_built_anew() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let configs = [("segment.bytes", "1048576"), ("retention.ms", "-1"), ("retention.bytes", "-1")];
    let topic = client.create_topic("orders", 1, &configs);
    for _ in 0..25 {
        assert_eq!(client.produce(topic, 0, &[&vec![b'.'; 100_000]]), 0);
    }
    broker.stop();
    let paths = ["index", "timeindex"].map(|suffix| data.0.join(format!("orders-0/{:020}.{suffix}", 0)));
    let whole = paths.each_ref().map(|path| std::fs::read(path).unwrap());
    paths.iter().for_each(|path| damage(path, 5));

    let scrub = ["dohle.scrub.interval.ms=20", "dohle.scrub.bytes.per.second=1000000000"];
    let broker = Broker::start(&data.0, &scrub);
    until("they are as they were", || {
        let read = paths.each_ref().map(|path| std::fs::read(path).unwrap());
        (read == whole).then_some(())
    });
    assert_eq!(Client::connect(&broker.address).consume(topic, 0).len(), 25);
}

#[test]
fn a_log_whose_end_is_lost_is_read_and_not_appended_to() {
    const KAFKA_STORAGE_ERROR: i16 = 56;
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[]);
    for number in 0..5 {
        assert_eq!(client.produce(topic, 0, &[format!("number {number}").as_bytes()]), 0);
    }
    broker.stop();
    let path = data.0.join("orders-0/00000000000000000000.log");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let error_at = |client: &mut Client, offset: i64| {
        let response = client.call(&fetch_request(topic, 0, offset, 0), FETCH_VERSION);
        response.responses[0].partitions[0].error_code
    };
    let errors: Vec<i16> = (0..5).map(|offset| error_at(&mut client, offset)).collect();
    assert_eq!(errors, [0, 0, CORRUPT_MESSAGE, CORRUPT_MESSAGE, CORRUPT_MESSAGE]);
    assert_eq!(client.produce(topic, 0, &[b"where?"]), KAFKA_STORAGE_ERROR);
    broker.kill();
    // Restored from a copy it is whole again.
    std::fs::write(&path, &whole).unwrap();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    assert_eq!(client.consume(topic, 0).len(), 5);
    assert_eq!(client.produce(topic, 0, &[b"at the end"]), 0);
}
