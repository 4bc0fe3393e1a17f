//! What is built can be validated, read, recompressed and patched, under every compression.

use dohle_types::{LeaderEpoch, Offset, Timestamp};
use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_built_is_valid_and_reads_back(samples in any_samples(), compression in any_compression()) {
        let bytes = build(BatchOptions { compression: compression.into(), ..idempotent() }, &samples);
        let validated = validate(&bytes, &rules(), &mut Decompressor::default()).unwrap();
        prop_assert_eq!(usize::try_from(validated.record_count()), Ok(samples.len()));
        prop_assert_eq!(validated.max_timestamp.0, samples.iter().map(|sample| sample.timestamp).max().unwrap());
        prop_assert!(!validated.needs_timestamp_patch());
        prop_assert_eq!(read(&bytes).unwrap(), samples);
    }

    #[test]
    fn recompression_keeps_the_records(
        samples in any_samples(),
        from in any_compression(),
        to in any_compression(),
    ) {
        let batch = Batch::parse(&build(compressed(from), &samples)).unwrap();
        let (decompressor, compressor) = (&mut Decompressor::default(), &mut Compressor::default());
        let bytes = recompress(&batch, to.into(), decompressor, compressor).unwrap();
        let recompressed = Batch::parse(&bytes).unwrap();
        prop_assert!(recompressed.crc_is_valid());
        prop_assert_eq!(recompressed.header().attributes.compression(), Ok(to));
        prop_assert_eq!(read(&bytes).unwrap(), samples);
    }

    #[test]
    fn a_header_encodes_to_what_it_was_parsed_from(mut bytes: [u8; HEADER_SIZE], length in 49..i32::MAX) {
        bytes[header::LENGTH_POSITION..][..4].copy_from_slice(&length.to_be_bytes());
        bytes[header::MAGIC_POSITION] = 2;
        prop_assert_eq!(BatchHeader::parse(&bytes).unwrap().to_bytes(), bytes);
    }

    #[test]
    fn offset_and_epoch_are_assigned_without_touching_the_crc(samples in any_samples(), offset in 0..i64::MAX / 2) {
        let mut bytes = build(idempotent(), &samples).to_vec();
        patch::assign_offset(&mut bytes, Offset(offset), LeaderEpoch(7)).unwrap();
        let batch = Batch::parse(&bytes.into()).unwrap();
        prop_assert!(batch.crc_is_valid());
        prop_assert_eq!(batch.header().base_offset, Offset(offset));
        prop_assert_eq!(batch.header().partition_leader_epoch, LeaderEpoch(7));
        let offsets = batch.records(&mut Decompressor::default()).unwrap().map(|record| record.unwrap().offset.0);
        prop_assert!(offsets.eq(offset..batch.header().next_offset().0));
    }
}

/// KIP-390.
#[test]
fn every_level_decompresses_and_higher_ones_compress_better() {
    let text: String =
        (0..20_000).map(|n: u64| format!("{} pears, {} plums\n", n * n % 977, n % 89)).collect();
    let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::default());
    let mut size = |compression: Compression, level| {
        let target = CompressionTarget { compression, level };
        let compressed = compressor.compress(target, text.as_bytes()).unwrap();
        let size = compressed.len();
        assert!(decompressor.decompress(compression, compressed.into()).unwrap() == text, "{target:?}");
        size
    };
    for compression in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let (levels, default) = compression.levels().unwrap();
        assert_eq!(size(compression, None), size(compression, Some(default).filter(|&level| level > 0)));
        for level in (*levels.start()).max(-3)..=*levels.end() {
            size(compression, Some(level));
        }
    }
    assert!(size(Compression::Gzip, Some(9)) < size(Compression::Gzip, Some(1)));
    assert!(size(Compression::Zstd, Some(19)) < size(Compression::Zstd, Some(1)));
    // The default is the fast one, as it is with Kafka's clients.
    assert!(size(Compression::Lz4, Some(8)) < size(Compression::Lz4, Some(9)));
    assert!(size(Compression::Lz4, Some(17)) < size(Compression::Lz4, Some(3)));
}

#[test]
fn what_lz4_cannot_make_smaller_is_stored_as_it_is() {
    let mut rng = dohle_types::Rng::from_seed(1);
    let noise: Vec<u8> = (0..20_000).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
    let target = CompressionTarget { compression: Compression::Lz4, level: Some(12) };
    for bytes in [&noise[..], b"", b"a"] {
        let compressed = Compressor::default().compress(target, bytes).unwrap();
        assert!(compressed.len() <= bytes.len() + 32);
        assert_eq!(Decompressor::default().decompress(Compression::Lz4, compressed.into()).unwrap(), bytes);
    }
}

#[test]
fn consecutive_batches_are_told_apart() {
    let first = build(idempotent(), &records_of_kafka());
    let second = build(compressed(Compression::Lz4), &records_of_kafka());
    let mut batches = Batches::new([first.as_ref(), &second, &first[..70]].concat().into());
    assert_eq!(batches.next().unwrap().unwrap().into_bytes(), first);
    assert_eq!(batches.next().unwrap().unwrap().into_bytes(), second);
    let torn = BatchError::Truncated { needed: first.len(), available: 70 };
    assert_eq!(batches.next(), Some(Err(torn)));
    assert_eq!(batches.next(), None);
}

#[test]
fn an_empty_batch_is_not_built() {
    let builder = BatchBuilder::new(BatchOptions::default());
    assert!(matches!(builder.build(&mut Compressor::default()), Err(BuildError::Empty)));
}

#[test]
fn a_batch_that_compaction_emptied_has_no_records() {
    let bytes = build(compressed(Compression::Zstd), &records_of_kafka());
    let emptied = with_body(&with_header(&bytes, |header| header.record_count = 0), &[]);
    assert_eq!(read(&emptied).unwrap(), []);
}

#[test]
fn one_decompressor_serves_batches_of_all_compressions_in_a_row() {
    let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::default());
    for round in 1..=3 {
        for compression in Compression::ALL {
            let plain = b"jackdaw".repeat(20_000 * round);
            let level = compression.levels().map(|(levels, _)| *levels.end());
            let bytes = compressor.compress(CompressionTarget { compression, level }, &plain).unwrap();
            assert!(compression == Compression::None || bytes.len() < plain.len() / 10);
            assert_eq!(decompressor.decompress(compression, bytes.into()).unwrap(), plain);
        }
    }
}

#[test]
fn names_and_codes_find_their_compression_again() {
    for compression in Compression::ALL {
        assert_eq!(Compression::from_code(compression.code()), Some(compression));
        assert_eq!(Compression::from_name(compression.name()), Some(compression));
    }
    assert_eq!((Compression::from_code(5), Compression::from_name("producer")), (None, None));
}

#[test]
fn a_bare_snappy_block_is_read_too() {
    let bytes = build(BatchOptions::default(), &records_of_kafka());
    let bare = snap::raw::Encoder::new().compress_vec(&bytes[HEADER_SIZE..]).unwrap();
    let bytes = with_header(&bytes, |header| {
        header.attributes = header.attributes.with_compression(Compression::Snappy);
    });
    let bytes = with_body(&bytes, &bare);
    assert_eq!(read(&bytes).unwrap(), records_of_kafka());
    assert!(validate(&bytes, &rules(), &mut Decompressor::default()).is_ok());
}

#[test]
fn timestamps_far_apart_survive() {
    let samples = [i64::MAX, 0, 1, -1, i64::MAX / 3].map(|timestamp| Sample::new(timestamp, None, None));
    let bytes = build(BatchOptions::default(), &samples);
    assert_eq!(read(&bytes).unwrap(), samples);
    assert_eq!(Batch::parse(&bytes).unwrap().header().max_timestamp, Timestamp(i64::MAX));
}
