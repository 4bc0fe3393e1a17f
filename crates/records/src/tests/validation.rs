//! Which batches of clients are refused, with which code, and what the client is told.

use bytes::Bytes;
use dohle_types::{ErrorCode, Offset, Timestamp};
use expect_test::{Expect, expect};

use super::*;

/// Expects of `bytes` under `rules` either "ok" or the error code, what is said, and the records at fault.
fn check(bytes: &Bytes, rules: &ValidationRules, expected: &Expect) {
    expected.assert_eq(&match validate(bytes, rules, &mut Decompressor::default()) {
        Ok(_) => "ok".to_owned(),
        Err(error) => {
            let records = error.record_errors().iter().map(|error| format!("\n{}: {error}", error.index));
            format!("{}: {error}{}", error.error_code(), records.collect::<String>())
        }
    });
}

fn batch() -> Bytes {
    build(idempotent(), &records_of_kafka())
}

#[test]
fn exactly_one_whole_batch() {
    let batch = batch();
    let ruled = |bytes: Bytes, expected| check(&bytes, &rules(), &expected);
    ruled(batch.clone(), expect!["ok"]);
    ruled(
        Bytes::new(),
        expect!["INVALID_RECORD: a produce request must bring a record batch for each partition"],
    );
    ruled(
        batch.slice(..batch.len() - 1),
        expect!["INVALID_RECORD: the batch takes 216 bytes but only 215 are there"],
    );
    ruled(
        [batch.as_ref(), &batch].concat().into(),
        expect!["INVALID_RECORD: a produce request must bring exactly one record batch for each partition"],
    );
    // Kafka trims the torn beginning of a second batch.
    ruled([batch.as_ref(), &batch[..100]].concat().into(), expect!["ok"]);
    ruled(
        [batch.as_ref(), &[0; 20]].concat().into(),
        expect!["CORRUPT_MESSAGE: a batch cannot be 0 bytes long"],
    );
}

#[test]
fn formats() {
    let ruled = |bytes: Bytes, expected| check(&bytes, &rules(), &expected);
    let with_magic = |magic: u8| {
        let mut bytes = batch().to_vec();
        bytes[header::MAGIC_POSITION] = magic;
        Bytes::from(bytes)
    };
    ruled(with_magic(1), expect!["INVALID_RECORD: the batch has magic 1; only magic 2 is supported"]);
    ruled(with_magic(3), expect!["CORRUPT_MESSAGE: the batch has magic 3; only magic 2 is supported"]);
    let unknown = with_header(&batch(), |header| header.attributes.0 |= 6);
    ruled(unknown, expect!["UNSUPPORTED_COMPRESSION_TYPE: the batch's compression type 6 does not exist"]);
    let zstd = build(compressed(Compression::Zstd), &records_of_kafka());
    check(
        &zstd,
        &ValidationRules { zstd_allowed: false, ..rules() },
        &expect!["UNSUPPORTED_COMPRESSION_TYPE: produce requests before version 7 must not use zstd"],
    );
}

#[test]
fn headers() {
    let changed = |change: fn(&mut BatchHeader), expected: Expect| {
        check(&with_header(&batch(), change), &rules(), &expected);
    };
    changed(
        |header| header.base_offset = Offset(5),
        expect!["INVALID_RECORD: the base offset must be 0, but is 5"],
    );
    changed(
        |header| header.last_offset_delta = 1,
        expect!["INVALID_RECORD: the batch announces 3 records for the offset deltas 0 to 1"],
    );
    changed(
        |header| header.record_count = -3,
        expect!["INVALID_RECORD: the batch announces -3 records for the offset deltas 0 to 2"],
    );
    changed(
        |header| (header.record_count, header.last_offset_delta) = (0, -1),
        expect!["INVALID_RECORD: the batch announces 0 records for the offset deltas 0 to -1"],
    );
    changed(
        |header| (header.record_count, header.last_offset_delta) = (i32::MIN, i32::MAX),
        expect![
            "INVALID_RECORD: the batch announces -2147483648 records for the offset deltas 0 to 2147483647"
        ],
    );
    changed(
        |header| (header.record_count, header.last_offset_delta) = (2, 1),
        expect![
            "INVALID_RECORD: record 1 of the batch is malformed: bytes are left after it, the batch's last record"
        ],
    );
    changed(
        |header| (header.record_count, header.last_offset_delta) = (i32::MAX, i32::MAX - 1),
        expect!["INVALID_RECORD: record 3 of the batch is malformed: it reaches beyond the end of the batch"],
    );
    changed(
        |header| header.attributes = header.attributes.with_control(true),
        expect!["INVALID_RECORD: clients must not write control records"],
    );
    changed(
        |header| header.base_sequence.0 = -1,
        expect!["INVALID_RECORD: the batch has a producer id but its epoch is 3 and its sequence -1"],
    );
    changed(
        |header| header.producer_epoch.0 = -1,
        expect!["INVALID_RECORD: the batch has a producer id but its epoch is -1 and its sequence 17"],
    );
    changed(
        |header| {
            header.producer_id.0 = -1;
            header.attributes = header.attributes.with_transactional(true);
        },
        expect!["INVALID_RECORD: the batch is transactional but has no producer id"],
    );
    let exact = ValidationRules { max_message_bytes: batch().len(), ..rules() };
    check(&batch(), &exact, &expect!["ok"]);
    let less = ValidationRules { max_message_bytes: batch().len() - 1, ..rules() };
    check(
        &batch(),
        &less,
        &expect!["MESSAGE_TOO_LARGE: the record batch takes 216 bytes; max.message.bytes is 215"],
    );
}

/// One record by its bytes, as Kafka's producers would not write it, compressed and not.
#[test]
fn records() {
    let cases: &[(&[u8], Option<Malformed>)] = &[
        // Size, attributes, timestamp delta, offset delta, key, value, number of headers; all of them zigzag.
        (&[12, 0, 0, 0, 1, 1, 0], None),
        // Any negative length is null.
        (&[12, 0, 0, 0, 1, 3, 0], None),
        (&[16, 0, 0, 0, 1, 1, 2, 0, 1], None),
        (&[11, 0, 0, 0, 1, 1, 0], Some(Malformed::NegativeSize)),
        (&[10, 0, 0, 0, 1, 1, 0], Some(Malformed::SizeMismatch)),
        (&[14, 0, 0, 0, 1, 1, 0, 0], Some(Malformed::SizeMismatch)),
        (&[12, 0, 0, 2, 1, 1, 0], Some(Malformed::OffsetDelta)),
        (&[12, 0, 0, 0, 8, 1, 0], Some(Malformed::EndOfBatch)),
        (&[12, 0, 0, 0, 1, 1, 1], Some(Malformed::HeaderCount)),
        (&[12, 0, 0, 0, 1, 1, 2], Some(Malformed::EndOfBatch)),
        (&[16, 0, 0, 0, 1, 1, 2, 1, 1], Some(Malformed::NullHeaderKey)),
        (&[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f], Some(Malformed::EndOfBatch)),
        (&[20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0], Some(Malformed::EndlessVarint)),
        (&[12, 0, 0, 0, 1, 1, 0, 0], Some(Malformed::TrailingBytes)),
        (&[], Some(Malformed::EndOfBatch)),
    ];
    let one = build(BatchOptions::default(), &[Sample::new(1_700_000_000_000, None, None)]);
    for (body, expected) in cases {
        for compression in Compression::ALL {
            let compressed = Compressor::default().compress(compression.into(), body).unwrap();
            let bytes = with_header(&one, |header| {
                header.attributes = header.attributes.with_compression(compression);
            });
            let bytes = with_body(&bytes, &compressed);
            let found = validate(&bytes, &rules(), &mut Decompressor::default()).err();
            let expected = expected.map(|reason| BatchError::MalformedRecord { index: 0, reason }.into());
            assert_eq!(found, expected, "{body:?} under {compression}");
            if let Some(error) = found {
                assert_eq!(error.error_code(), ErrorCode::InvalidRecord);
            }
        }
    }
}

#[test]
fn keys_of_compacted_topics() {
    let compacted = ValidationRules { compacted: true, ..rules() };
    check(
        &batch(),
        &compacted,
        &expect![[r#"
        INVALID_RECORD: 1 record(s) were rejected, the first because a compacted topic does not accept records without a key
        1: a compacted topic does not accept records without a key"#]],
    );
    let keyed = [Sample::new(0, Some(""), None)];
    check(&build(BatchOptions::default(), &keyed), &compacted, &expect!["ok"]);
}

#[test]
fn timestamps() {
    let now = rules().now.0;
    let samples = [-1, now - 1001, now - 1000, now, now + 500, now + 501, i64::MIN, i64::MAX]
        .map(|timestamp| Sample::new(timestamp, Some("key"), None));
    let bytes = build(BatchOptions::default(), &samples);
    let narrow = ValidationRules { before_max_ms: 1000, after_max_ms: 500, ..rules() };
    check(
        &bytes,
        &narrow,
        &expect![[r#"
        INVALID_TIMESTAMP: 4 record(s) were rejected, the first because the timestamp 1700000008999 is not within 1700000009000 to 1700000010500, which the topic accepts now
        1: the timestamp 1700000008999 is not within 1700000009000 to 1700000010500, which the topic accepts now
        5: the timestamp 1700000010501 is not within 1700000009000 to 1700000010500, which the topic accepts now
        6: the timestamp -9223372036854775808 is not within 1700000009000 to 1700000010500, which the topic accepts now
        7: the timestamp 9223372036854775807 is not within 1700000009000 to 1700000010500, which the topic accepts now"#]],
    );
    // They do not matter where the broker overwrites them.
    check(
        &bytes,
        &ValidationRules { timestamp_type: TimestampType::LogAppendTime, ..narrow },
        &expect!["ok"],
    );
    let claims = with_header(&batch(), |header| {
        header.attributes = header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
    });
    check(
        &claims,
        &rules(),
        &expect![[r#"
        INVALID_TIMESTAMP: 3 record(s) were rejected, the first because producers must not set the timestamp type to log-append time
        0: producers must not set the timestamp type to log-append time
        1: producers must not set the timestamp type to log-append time
        2: producers must not set the timestamp type to log-append time"#]],
    );
}

#[test]
fn record_errors_are_counted_but_not_all_reported() {
    let samples = vec![Sample::new(0, None, None); 2500];
    let bytes = build(compressed(Compression::Gzip), &samples);
    let rules = ValidationRules { compacted: true, ..rules() };
    let error = validate(&bytes, &rules, &mut Decompressor::default()).unwrap_err();
    assert_eq!(error.record_errors().len(), validate::RECORD_ERRORS_MAX);
    assert!(matches!(error, InvalidBatch::Records { total: 2500, .. }));
}

#[test]
fn a_wrong_maximum_timestamp_is_put_right() {
    let wrong = with_header(&batch(), |header| header.max_timestamp = Timestamp(1));
    let validated = validate(&wrong, &rules(), &mut Decompressor::default()).unwrap();
    assert!(validated.needs_timestamp_patch());
    let mut bytes = wrong.to_vec();
    patch::assign_timestamp(&mut bytes, validated.timestamp_type, validated.max_timestamp).unwrap();
    assert_eq!(bytes, batch());
}

#[test]
fn another_compression_is_asked_for_where_the_topic_has_one() {
    let needs = |topic: Option<Compression>| {
        let rules = ValidationRules { compression: topic, ..rules() };
        validate(&batch(), &rules, &mut Decompressor::default()).unwrap().needs_recompression
    };
    assert!(!needs(None) && !needs(Some(Compression::None)) && needs(Some(Compression::Lz4)));
}
