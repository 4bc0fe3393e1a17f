//! Damaged and malicious bytes: always an answer, never a panic, never more memory than allowed.

use bytes::Bytes;
use dohle_types::ErrorCode;
use proptest::prelude::*;

use super::*;

/// Puts `bytes` through all that reads.
fn read_in_every_way(bytes: &Bytes) {
    let mut decompressor = Decompressor::new(DecompressionLimit { floor_bytes: 1 << 16, ratio: 8 });
    let _ = scan_batch(bytes);
    let _ = ControlRecordKey::parse(bytes);
    let _ = EndTxnMarker::parse(bytes);
    for compression in Compression::ALL {
        let _ = decompressor.decompress(compression, bytes.clone());
    }
    for batch in Batches::new(bytes.clone()).flatten() {
        let _ = batch.records(&mut decompressor).map(Iterator::count);
    }
    if let Ok(validated) = validate(bytes, &rules(), &mut decompressor) {
        // What was accepted must be readable to the last record.
        let records: Result<Vec<_>, _> = validated.batch.records(&mut decompressor).unwrap().collect();
        let offsets: Vec<_> = records.unwrap().iter().map(|record| record.offset.0).collect();
        assert!(offsets.into_iter().eq(0..i64::from(validated.record_count())));
    }
}

proptest! {
    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_in_every_way(&bytes.into());
    }

    #[test]
    fn random_bytes_for_records(
        body in prop::collection::vec(prop_oneof![0..20_u8, any::<u8>()], 0..60),
        compression in any_compression(),
        count in 1..4,
    ) {
        let bytes = build(compressed(compression), &records_of_kafka());
        let bytes = with_header(&bytes, |header| {
            (header.record_count, header.last_offset_delta) = (count, count - 1);
        });
        read_in_every_way(&with_body(&bytes, &body));
    }

    #[test]
    fn damaged_records_under_a_right_crc(
        samples in prop::collection::vec(any_sample(), 1..6),
        compression in any_compression(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let bytes = build(compressed(compression), &samples);
        let mut body = bytes[HEADER_SIZE..].to_vec();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        read_in_every_way(&with_body(&bytes, &body));
    }

    /// The walk through a window comes to the same as the walk over a slice.
    #[test]
    fn damaged_records_are_refused_alike_compressed_or_not(
        samples in prop::collection::vec(any_sample(), 1..6),
        at: prop::sample::Index,
        byte: u8,
        compression in any_compression(),
    ) {
        let bytes = build(BatchOptions::default(), &samples);
        let mut body = bytes[HEADER_SIZE..].to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        let plain = with_body(&bytes, &body);
        let under = with_header(&bytes, |header| {
            header.attributes = header.attributes.with_compression(compression);
        });
        let body = Compressor::default().compress(compression.into(), &body).unwrap();
        let verdict = |bytes| {
            let validated = validate(&bytes, &rules(), &mut Decompressor::default());
            validated.map(|validated| (validated.max_timestamp, validated.record_count()))
        };
        prop_assert_eq!(verdict(plain), verdict(with_body(&under, &body)));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    for compression in Compression::ALL {
        let bytes = build(compressed(compression), &records_of_kafka());
        // The leader epoch, which the broker writes itself, is the one thing that nothing guards.
        let guarded = (0..bytes.len())
            .filter(|at| !(header::PARTITION_LEADER_EPOCH_POSITION..header::MAGIC_POSITION).contains(at));
        for (at, bit) in guarded.flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << bit;
            let verdict = validate(&flipped.into(), &rules(), &mut Decompressor::default());
            assert!(verdict.is_err(), "bit {bit} of byte {at} under {compression}");
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    for compression in Compression::ALL {
        let bytes = build(compressed(compression), &records_of_kafka());
        for end in 0..bytes.len() {
            let torn = bytes.slice(..end);
            assert!(validate(&torn, &rules(), &mut Decompressor::default()).is_err());
            assert!(matches!(scan_batch(&torn), Scan::Incomplete { needed } if needed > end));
            // Even if the length and the CRC are made to fit, records are missing.
            if end >= HEADER_SIZE {
                let shorter = with_body(&bytes, &bytes[HEADER_SIZE..end]);
                let refused = validate(&shorter, &rules(), &mut Decompressor::default());
                // The epilogue of gzip and lz4 holds no records.
                assert!(
                    refused.is_err() || (end > bytes.len() - 9 && read(&shorter).is_ok()),
                    "{compression} at {end}"
                );
            }
        }
    }
}

#[test]
fn a_decompression_bomb_is_refused() {
    let zeros = "\0".repeat(4 << 20);
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let bomb = build(compressed(compression), &[Sample::new(0, None, Some(&zeros))]);
        let mut decompressor = Decompressor::new(DecompressionLimit { floor_bytes: 1 << 20, ratio: 1 });
        let too_large = DecompressionError::TooLarge { limit_bytes: 1 << 20 };

        let error = validate(&bomb, &rules(), &mut decompressor).unwrap_err();
        assert_eq!(error, InvalidBatch::Batch(too_large.clone().into()), "{compression}");
        assert_eq!(error.error_code(), ErrorCode::MessageTooLarge);
        let batch = Batch::parse(&bomb).unwrap();
        assert_eq!(batch.records(&mut decompressor).unwrap_err(), too_large.into());

        // Neither the bound nor the context remembers it.
        let good = build(compressed(compression), &records_of_kafka());
        assert!(validate(&good, &rules(), &mut decompressor).is_ok());
        assert!(validate(&bomb, &rules(), &mut Decompressor::default()).is_ok());
    }
}

#[test]
fn what_a_snappy_block_promises_is_not_believed() {
    // A bare block that claims 4 GiB less one, and the same in a frame.
    let claims = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    let framed = [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x06".as_slice(), &claims].concat();
    let generous = DecompressionLimit { floor_bytes: usize::MAX, ratio: 1 };
    for bytes in [claims.to_vec(), framed] {
        let error = Decompressor::new(generous).decompress(Compression::Snappy, bytes.into());
        assert!(matches!(error, Err(DecompressionError::Corrupt { .. })), "{error:?}");
    }
}

#[test]
fn linked_lz4_blocks_are_refused_as_kafka_does() {
    use std::io::Write;
    let info = lz4_flex::frame::FrameInfo::new().block_mode(lz4_flex::frame::BlockMode::Linked);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(&b"jackdaw".repeat(100)).unwrap();
    let linked = encoder.finish().unwrap();
    assert!(Decompressor::default().decompress(Compression::Lz4, linked.into()).is_err());
}

#[test]
fn scanning_tells_torn_from_damaged() {
    let bytes = build(BatchOptions::default(), &records_of_kafka());
    let complete = |bytes: &[u8]| matches!(scan_batch(bytes), Scan::Complete { crc_valid: true, .. });
    assert!(complete(&bytes));
    assert!(complete(&[bytes.as_ref(), b"what follows"].concat()));

    let mut damaged = bytes.to_vec();
    damaged[100] ^= 1;
    assert!(matches!(scan_batch(&damaged), Scan::Complete { crc_valid: false, .. }));
    assert_eq!(scan_batch(&[]), Scan::Incomplete { needed: HEADER_SIZE });
    assert_eq!(scan_batch(&[0; 100]), Scan::Corrupt(BatchError::InvalidLength(0)));
    assert_eq!(scan_batch(&[1; 100]), Scan::Corrupt(BatchError::UnsupportedMagic(1)));
}
