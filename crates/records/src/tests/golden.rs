//! Our bytes against those of Apache Kafka.

use bytes::Bytes;
use dohle_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

use super::*;
use crate::control::control_batch;

fn golden(name: &str) -> Bytes {
    let line = include_str!("../../testdata/kafka_4_3_1.txt").lines().find_map(|line| {
        let (line_name, hex) = line.split_once(' ')?;
        (line_name == name).then_some(hex)
    });
    let hex = line.unwrap_or_else(|| panic!("no batch is called {name}"));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn options_of_kafka() -> BatchOptions {
    BatchOptions { transactional: true, ..idempotent() }
}

#[test]
fn a_batch_is_byte_for_byte_what_kafka_writes() {
    assert_eq!(build(options_of_kafka(), &records_of_kafka()), golden("none"));
}

#[test]
fn kafkas_header_is_read() {
    let header = *Batch::parse(&golden("none")).unwrap().header();
    assert!(header.attributes.is_transactional() && !header.attributes.is_control());
    assert_eq!(header.attributes.compression(), Ok(Compression::None));
    assert_eq!(header.attributes.timestamp_type(), TimestampType::CreateTime);
    assert_eq!((header.base_timestamp.0, header.max_timestamp.0), (1_700_000_000_000, 1_700_000_000_500));
    assert_eq!((header.producer_id, header.last_sequence()), (ProducerId(4242), Sequence(19)));
    assert_eq!((header.last_offset(), header.next_offset()), (Offset(2), Offset(3)));
    assert_eq!(header.size_in_bytes(), golden("none").len());
}

#[test]
fn kafkas_records_are_read_under_every_compression() {
    for compression in Compression::ALL {
        let bytes = golden(compression.name());
        assert_eq!(read(&bytes).unwrap(), records_of_kafka(), "{compression}");
        let validated = validate(&bytes, &rules(), &mut Decompressor::default()).unwrap();
        assert!(!validated.needs_timestamp_patch(), "{compression}");
    }
}

#[test]
fn log_append_time_is_what_kafka_makes_of_the_batch() {
    let rules = ValidationRules {
        timestamp_type: TimestampType::LogAppendTime,
        now: Timestamp(1_700_000_009_000),
        ..rules()
    };
    let validated = validate(&golden("none"), &rules, &mut Decompressor::default()).unwrap();
    let mut bytes = golden("none").to_vec();
    patch::assign_timestamp(&mut bytes, validated.timestamp_type, validated.max_timestamp).unwrap();
    assert_eq!(bytes, golden("log_append_time"));
    let timestamps = read(&bytes.into()).unwrap().into_iter().map(|sample| sample.timestamp);
    assert_eq!(timestamps.collect::<Vec<_>>(), [1_700_000_009_000; 3]);
}

#[test]
fn transaction_markers_are_byte_for_byte_what_kafka_writes() {
    let options = BatchOptions {
        base_offset: Offset(77),
        producer_id: ProducerId(4242),
        producer_epoch: ProducerEpoch(3),
        transactional: true,
        partition_leader_epoch: LeaderEpoch(5),
        ..BatchOptions::default()
    };
    let marker = EndTxnMarker::new(9);
    for (name, record_type) in [("commit", ControlRecordType::Commit), ("abort", ControlRecordType::Abort)] {
        let value = marker.to_bytes();
        let batch = control_batch(options, Timestamp(1_700_000_000_000), &[(record_type, &value)]).unwrap();
        assert_eq!(batch, golden(name));
        let sample = &read(&batch).unwrap()[0];
        let key = ControlRecordKey::parse(sample.key.as_deref().unwrap());
        assert_eq!(key, Ok(ControlRecordKey::new(record_type)));
        assert_eq!(EndTxnMarker::parse(sample.value.as_deref().unwrap()), Ok(marker));
    }
}
