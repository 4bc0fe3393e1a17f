//! Bytes by hand: the primitives, tagged fields, what is shared and what is refused.

use bytes::Bytes;
use uuid::Uuid;

use crate::messages::produce_request::{PartitionProduceData, TopicProduceData};
use crate::messages::{
    HeartbeatRequest, OffsetCommitKey, PartitionChangeRecord, ProduceRequest, TopicRecord,
};
use crate::{DecodeError, EncodeError, Message, Reader, Record, Records, Writer};

fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::new();
    write(&mut w);
    w.finish().unwrap().into_bytes().to_vec()
}

#[test]
fn varints() {
    for (value, bytes) in [
        (0, &b"\0"[..]),
        (-1, b"\x01"),
        (1, b"\x02"),
        (63, b"\x7e"),
        (64, b"\x80\x01"),
        (i32::MAX, b"\xfe\xff\xff\xff\x0f"),
        (i32::MIN, b"\xff\xff\xff\xff\x0f"),
    ] {
        let bytes = Bytes::from_static(bytes);
        assert_eq!(written(|w| w.varint(value)), bytes);
        assert_eq!(written(|w| w.varlong(value.into())), bytes);
        assert_eq!(Reader::new(&bytes).varint(), Ok(value));
        assert_eq!(Reader::new(&bytes).varlong(), Ok(value.into()));
    }
    for value in [i64::MIN, i64::MAX] {
        let bytes = Bytes::from(written(|w| w.varlong(value)));
        assert_eq!(bytes.len(), 10);
        assert_eq!(Reader::new(&bytes).varlong(), Ok(value));
    }
    let bytes = Bytes::from_static(&[0x80; 11]);
    assert_eq!(Reader::new(&bytes).unsigned_varint(), Err(DecodeError::VarintTooLong));
    assert_eq!(Reader::new(&bytes).unsigned_varlong(), Err(DecodeError::VarintTooLong));
}

#[test]
fn strings() {
    for (value, plain, compact) in [
        (None, &b"\xff\xff"[..], &b"\0"[..]),
        (Some(""), b"\0\0", b"\x01"),
        (Some("ab"), b"\0\x02ab", b"\x03ab"),
    ] {
        for (flexible, bytes) in [(false, plain), (true, compact)] {
            let bytes = Bytes::from_static(bytes);
            assert_eq!(written(|w| w.nullable_string(value, flexible)), bytes);
            assert_eq!(Reader::new(&bytes).nullable_string(flexible).unwrap().as_deref(), value);
            assert_eq!(Reader::new(&bytes).string(flexible).ok().as_deref(), value);
        }
    }
    let bytes = Bytes::from_static(b"\x03\xff\xff");
    assert_eq!(Reader::new(&bytes).string(true), Err(DecodeError::InvalidUtf8));
    let bytes = Bytes::from([&b"\x81\x80\x02"[..], &[b'a'; 0x8000]].concat());
    assert_eq!(Reader::new(&bytes).string(true), Err(DecodeError::StringTooLong));
}

#[test]
fn a_value_without_an_encoding_is_reported_once_at_the_end() {
    let request = HeartbeatRequest { group_id: "g".repeat(0x8000).into(), ..HeartbeatRequest::default() };
    for version in HeartbeatRequest::VERSIONS {
        assert_eq!(request.to_bytes(version), Err(EncodeError::StringTooLong(0x8000)));
    }
    let longest = HeartbeatRequest { group_id: "g".repeat(0x7fff).into(), ..HeartbeatRequest::default() };
    assert!(longest.to_bytes(0).is_ok());
}

#[test]
fn a_record_with_tagged_fields() {
    assert_eq!(PartitionChangeRecord::RECORD_KEY, 5);
    let record = PartitionChangeRecord {
        partition_id: 1,
        topic_id: Uuid::from_u128(2),
        isr: Some(vec![3]),
        leader: 4,
        ..PartitionChangeRecord::default()
    };
    let topic_id = b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02";
    let tagged = b"\x02\0\x05\x02\0\0\0\x03\x01\x04\0\0\0\x04";
    assert_eq!(record.to_bytes(0).unwrap(), [&b"\0\0\0\x01"[..], topic_id, tagged].concat());
}

#[test]
fn a_record_key() {
    assert_eq!(OffsetCommitKey::RECORD_KEY, 1);
    let key = OffsetCommitKey { group: "g".into(), topic: "t".into(), partition: 2 };
    assert_eq!(key.to_bytes(0).unwrap(), &b"\0\x01g\0\x01t\0\0\0\x02"[..]);
}

#[test]
fn unknown_tagged_fields_are_skipped_and_known_ones_keep_their_size() {
    let topic = |tagged: &[u8]| {
        let bytes = [&b"\x02t\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02"[..], tagged].concat();
        TopicRecord::from_bytes(&bytes.into(), 0).map(|topic| topic.name)
    };
    assert_eq!(topic(b"\x02\x07\x01z\x81\x01\x02zz").unwrap(), "t");
    assert_eq!(topic(b"\x02\x07\x01z\x08\x09zz"), Err(DecodeError::UnexpectedEnd));
    assert_eq!(topic(b"\xff\xff\xff\xff\x0f"), Err(DecodeError::UnexpectedEnd));

    let change = |tagged: &[u8]| {
        let bytes = [&[0; 20][..], tagged].concat();
        PartitionChangeRecord::from_bytes(&bytes.into(), 0).map(|change| change.leader)
    };
    assert_eq!(change(b"\x01\x01\x04\0\0\0\x04"), Ok(4));
    assert_eq!(change(b"\x01\x01\x05\0\0\0\x04\0"), Err(DecodeError::TaggedFieldSize));
    assert_eq!(change(b"\x02\x01\x03\0\0\0\x63\x01\0"), Err(DecodeError::UnexpectedEnd));
}

#[test]
fn a_tagged_field_of_more_than_127_bytes() {
    let record = PartitionChangeRecord {
        isr: Some((0..100).collect()),
        replicas: Some((0..5000).collect()),
        ..PartitionChangeRecord::default()
    };
    let bytes = record.to_bytes(0).unwrap();
    assert_eq!(&bytes[20..26], b"\x02\0\x91\x03\x65\0", "two fields; tag 0 of 401 bytes, 100 elements");
    assert_eq!(PartitionChangeRecord::from_bytes(&bytes, 0), Ok(record));
}

fn produce(records: Records) -> ProduceRequest {
    let partition = PartitionProduceData { index: 0, records: Some(records) };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![partition], ..Default::default() };
    ProduceRequest { topic_data: vec![topic], ..ProduceRequest::default() }
}

#[test]
fn large_record_batches_are_not_copied() {
    let large = Bytes::from(vec![7; 5000]);
    let mut records = Records::from(large.clone());
    records.push(Bytes::from_static(b"small"));
    for version in [3, 9] {
        let mut w = Writer::new();
        produce(records.clone()).encode(&mut w, version);
        let frame = w.finish().unwrap();
        let [_, shared, _] = frame.chunks() else { panic!("{} chunks", frame.chunks().len()) };
        assert_eq!(shared.as_ptr(), large.as_ptr());
        assert_eq!(frame.len(), frame.chunks().iter().map(Bytes::len).sum::<usize>());

        let bytes = frame.into_bytes();
        let read = ProduceRequest::from_bytes(&bytes, version).unwrap();
        let read = read.topic_data[0].partition_data[0].records.clone().unwrap();
        assert_eq!(read, records);
        assert!(bytes.as_ptr_range().contains(&read.into_bytes().as_ptr()), "decoded as a slice");
    }
}

#[test]
fn record_sets_are_equal_by_their_bytes() {
    let mut split = Records::from(Bytes::from_static(b"ab"));
    split.push(Bytes::new());
    split.push(Bytes::from_static(b"c"));
    assert_eq!(split, Records::from(Bytes::from_static(b"abc")));
    assert_eq!((split.len(), split.chunks().len()), (3, 2));
    assert_eq!(split.into_bytes(), &b"abc"[..]);
    assert!(Records::from(Bytes::new()).is_empty());
}
