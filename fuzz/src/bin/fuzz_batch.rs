//! A record batch, its checksum repaired or not: what validation accepts reads back as its header says, and under
//! every other compression as well. And a body by itself under every compression.

#![no_main]

use bytes::Bytes;
use dohle_fuzz::input::repair_checksums;
use dohle_records::{
    Batch, Batches, Compression, CompressionTarget, Compressor, Decompressor, Record, Scan, TimestampType,
    ValidationRules, patch, recompress, scan_batch, validate,
};
use dohle_types::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&flags, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if flags & 1 == 0 {
        repair_checksums(&mut bytes);
    }
    let bytes = Bytes::from(bytes);
    let (mut decompressor, mut compressor) = (Decompressor::default(), Compressor::default());
    if let Scan::Complete { header, .. } = scan_batch(&bytes) {
        assert_eq!(Some(&header.to_bytes()[..]), bytes.get(..header.to_bytes().len()));
    }
    for batch in Batches::new(bytes.clone()).flatten() {
        if let Ok(records) = batch.records(&mut decompressor) {
            records.for_each(drop);
        }
    }
    for compression in Compression::ALL {
        if let Ok(decompressed) = decompressor.decompress(compression, bytes.clone())
            && compression != Compression::None
        {
            assert!(decompressed.len() <= 16 << 20);
        }
    }
    let rules = rules(flags);
    let Ok(validated) = validate(&bytes, &rules, &mut decompressor) else { return };
    let records = records(&validated.batch, &mut decompressor);
    for compression in Compression::ALL {
        let target = CompressionTarget::from(compression);
        let other = recompress(&validated.batch, target, &mut decompressor, &mut compressor).unwrap();
        let mut patched = other.to_vec();
        patch::assign_timestamp(&mut patched, validated.timestamp_type, validated.max_timestamp).unwrap();
        let patched = Batch::parse(&patched.into()).unwrap();
        assert!(patched.crc_is_valid());
        if validated.timestamp_type == TimestampType::CreateTime {
            assert_eq!(self::records(&patched, &mut decompressor), records);
        }
    }
});

fn rules(flags: u8) -> ValidationRules {
    let timestamp_type =
        if flags & 2 == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime };
    ValidationRules {
        timestamp_type,
        before_max_ms: if flags & 4 == 0 { i64::MAX } else { 1000 },
        after_max_ms: if flags & 8 == 0 { i64::MAX } else { 1000 },
        max_message_bytes: 1 << 20,
        compacted: flags & 16 != 0,
        compression: (flags & 32 != 0).then_some(Compression::Zstd),
        zstd_allowed: flags & 64 == 0,
        now: Timestamp(1_800_000_000_000),
    }
}

/// All records of a batch that was accepted.
fn records(batch: &Batch, decompressor: &mut Decompressor) -> Vec<Record> {
    let records: Vec<Record> = batch.records(decompressor).unwrap().map(Result::unwrap).collect();
    assert_eq!(i32::try_from(records.len()), Ok(batch.header().record_count));
    let first = batch.header().base_offset;
    for (record, index) in records.iter().zip(0..) {
        assert_eq!(record.offset, first.plus(index));
    }
    records
}
