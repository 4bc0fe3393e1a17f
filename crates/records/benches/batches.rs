//! What a record batch costs: checking one that a client sent, reading it, and compressing it anew.
//! `cargo bench -p dohle-records`.

#![expect(clippy::unwrap_used, reason = "a benchmark that stumbles is of no use")]

use bytes::Bytes;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use dohle_records::{
    Batch, BatchBuilder, BatchOptions, Compression, CompressionTarget, Compressor, Decompressor,
    TimestampType, ValidationRules, recompress, validate,
};
use dohle_types::Timestamp;

const RECORDS: usize = 160;

fn main() {
    divan::main();
}

/// Checks what the log checks of every batch: 160 records of 100 bytes.
#[divan::bench(args = Compression::ALL)]
fn check(bencher: Bencher, compression: Compression) {
    let rules = ValidationRules {
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: i64::MAX,
        after_max_ms: i64::MAX,
        max_message_bytes: usize::MAX,
        compacted: false,
        compression: None,
        zstd_allowed: true,
        now: Timestamp(0),
    };
    let (batch, mut decompressor) = (batch(compression), Decompressor::default());
    counted(bencher, &batch).bench_local(|| validate(&batch, &rules, &mut decompressor).unwrap());
}

/// Reads all records.
#[divan::bench(args = Compression::ALL)]
fn iterate(bencher: Bencher, compression: Compression) {
    let bytes = batch(compression);
    let (batch, mut decompressor) = (Batch::parse(&bytes).unwrap(), Decompressor::default());
    counted(bencher, &bytes).bench_local(|| {
        let records = batch.records(&mut decompressor).unwrap();
        records.map(|record| record.unwrap().value.map_or(0, |value| value.len())).sum::<usize>()
    });
}

/// Compresses the records of an uncompressed batch, as `compression.type` has it done.
#[divan::bench(args = ["gzip-1", "gzip-6", "snappy", "lz4-9", "lz4-12", "zstd-1", "zstd-3", "zstd-9"])]
fn compress(bencher: Bencher, target: &str) {
    let (name, level) = target.split_once('-').unwrap_or((target, ""));
    let target =
        CompressionTarget { compression: Compression::from_name(name).unwrap(), level: level.parse().ok() };
    let bytes = batch(Compression::None);
    let batch = Batch::parse(&bytes).unwrap();
    let (mut decompressor, mut compressor) = (Decompressor::default(), Compressor::default());
    counted(bencher, &bytes)
        .bench_local(|| recompress(&batch, target, &mut decompressor, &mut compressor).unwrap());
}

fn counted<'a, 'b>(bencher: Bencher<'a, 'b>, batch: &Bytes) -> Bencher<'a, 'b> {
    bencher.counter(BytesCount::new(batch.len())).counter(ItemsCount::new(RECORDS))
}

fn batch(compression: Compression) -> Bytes {
    let mut builder =
        BatchBuilder::new(BatchOptions { compression: compression.into(), ..BatchOptions::default() });
    for record in 0..RECORDS {
        let value = format!("{:>90}", record * record * 7919 % 1_000_003);
        builder
            .append(Timestamp(0), Some(format!("key-{record}").as_bytes()), Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder.build(&mut Compressor::default()).unwrap()
}
