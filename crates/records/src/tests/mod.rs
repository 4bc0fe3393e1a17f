//! Tests of the crate through its public face, by subject.

mod golden;
mod hostile;
mod round_trip;
mod validation;

use bytes::Bytes;
use dohle_types::{ProducerEpoch, ProducerId, Sequence, Timestamp};
use proptest::prelude::*;

use crate::*;

/// A record as tests write it: timestamp, key, value, headers.
#[derive(Clone, PartialEq, Debug)]
struct Sample {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Sample {
    fn new(timestamp: i64, key: Option<&str>, value: Option<&str>) -> Self {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Self { timestamp, key: key.map(bytes), value: value.map(bytes), headers: vec![] }
    }
}

impl From<Record> for Sample {
    fn from(record: Record) -> Self {
        let vec = |bytes: Bytes| bytes.to_vec();
        let headers = record.headers.into_iter().map(|header| (vec(header.key), header.value.map(vec)));
        Self {
            timestamp: record.timestamp.0,
            key: record.key.map(vec),
            value: record.value.map(vec),
            headers: headers.collect(),
        }
    }
}

/// What every batch in `kafka_4_3_1.txt` holds but for the control batches.
fn records_of_kafka() -> Vec<Sample> {
    let mut with_headers = Sample::new(1_700_000_000_000, Some("key"), Some("value"));
    with_headers.headers = vec![(b"h1".to_vec(), Some(b"x".to_vec())), (b"h2".to_vec(), None)];
    let long = format!("only a value, long enough that compression has something to do: {}", "a".repeat(40));
    vec![
        with_headers,
        Sample::new(1_700_000_000_500, None, Some(&long)),
        Sample::new(1_699_999_999_000, Some("tombstone"), None),
    ]
}

fn build(options: BatchOptions, samples: &[Sample]) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for sample in samples {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            sample.headers.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
        let (key, value) = (sample.key.as_deref(), sample.value.as_deref());
        let bound = builder.size_in_bytes() + BatchBuilder::record_size_bound(key, value, &headers);
        builder.append(Timestamp(sample.timestamp), key, value, &headers).unwrap();
        assert!(builder.size_in_bytes() <= bound);
    }
    builder.build(&mut Compressor::default()).unwrap()
}

fn compressed(compression: Compression) -> BatchOptions {
    BatchOptions { compression: compression.into(), ..BatchOptions::default() }
}

/// Options of an idempotent producer's batch.
fn idempotent() -> BatchOptions {
    BatchOptions {
        producer_id: ProducerId(4242),
        producer_epoch: ProducerEpoch(3),
        base_sequence: Sequence(17),
        ..BatchOptions::default()
    }
}

fn read(bytes: &Bytes) -> Result<Vec<Sample>, BatchError> {
    let records = Batch::parse(bytes)?.records(&mut Decompressor::default())?;
    records.map(|record| record.map(Sample::from)).collect()
}

/// Kafka's defaults, at a moment shortly after the records of Kafka were made.
fn rules() -> ValidationRules {
    ValidationRules {
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: i64::MAX,
        after_max_ms: 3_600_000,
        max_message_bytes: 1_048_588,
        compacted: false,
        compression: None,
        zstd_allowed: true,
        now: Timestamp(1_700_000_010_000),
    }
}

/// The batch with its header changed by `change`, and the CRC and length that follow.
fn with_header(bytes: &Bytes, change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let mut header = BatchHeader::parse(bytes).unwrap();
    change(&mut header);
    let body = &bytes[HEADER_SIZE..];
    header.crc = header.computed_crc(body);
    [header.to_bytes().as_slice(), body].concat().into()
}

/// The batch with other bytes for its records, and the CRC and length that follow.
fn with_body(bytes: &Bytes, body: &[u8]) -> Bytes {
    let mut header = BatchHeader::parse(bytes).unwrap();
    header.batch_length = i32::try_from(HEADER_SIZE + body.len() - header::LOG_OVERHEAD).unwrap();
    header.crc = header.computed_crc(body);
    [header.to_bytes().as_slice(), body].concat().into()
}

fn any_compression() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::ALL.to_vec())
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        // Long enough for varints of two bytes and for compression to find something.
        (any::<u8>(), 0..300_usize).prop_map(|(byte, count)| vec![byte; count]),
    ]
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let timestamp = prop_oneof![1_699_000_000_000..1_700_000_000_000_i64, Just(-1)];
    let headers = prop::collection::vec((any_bytes(), prop::option::of(any_bytes())), 0..3);
    (timestamp, prop::option::of(any_bytes()), prop::option::of(any_bytes()), headers)
        .prop_map(|(timestamp, key, value, headers)| Sample { timestamp, key, value, headers })
}

fn any_samples() -> impl Strategy<Value = Vec<Sample>> {
    prop::collection::vec(any_sample(), 1..80)
}
