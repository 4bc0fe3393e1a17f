//! How fast batches are validated: `cargo run --release -p dohle-records --example validate_speed`.
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dohle_records::{
    BatchBuilder, BatchOptions, Compression, Compressor, Decompressor, TimestampType, ValidationRules,
    validate,
};
use dohle_types::Timestamp;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (record_size, batch_size) in [(100, 16 << 10), (1 << 10, 1 << 20)] {
        for compression in Compression::ALL {
            measure(record_size, batch_size, compression)?;
        }
    }
    Ok(())
}

fn measure(
    record_size: usize,
    batch_size: usize,
    compression: Compression,
) -> Result<(), Box<dyn std::error::Error>> {
    let (batch, records, bytes) = build(record_size, batch_size, compression)?;
    let rules = ValidationRules {
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: i64::MAX,
        after_max_ms: 3_600_000,
        max_message_bytes: 2 << 20,
        compacted: false,
        compression: None,
        zstd_allowed: true,
        now: NOW,
    };
    let mut decompressor = Decompressor::default();
    // The best of many short runs is the one that the machine's other work did not disturb.
    let mut best = Duration::MAX;
    for _ in 0..1000 {
        let start = Instant::now();
        black_box(validate(black_box(&batch), &rules, &mut decompressor)?);
        best = best.min(start.elapsed());
    }
    let seconds = best.as_secs_f64();
    println!(
        "{record_size:>5} B records in batches of {batch_size:>8} B, {compression:>6}: {:6.1} ns/record, {:5.2} GB/s",
        seconds * 1e9 / f64::from(records),
        f64::from(u32::try_from(bytes)?) / seconds / 1e9,
    );
    Ok(())
}

/// A batch, its number of records, and its size before compression.
fn build(
    record_size: usize,
    batch_size: usize,
    compression: Compression,
) -> Result<(Bytes, i32, usize), Box<dyn std::error::Error>> {
    let options = BatchOptions { compression: compression.into(), ..BatchOptions::default() };
    let mut builder = BatchBuilder::new(options);
    let words = ["jackdaw", "magpie", "rook", "raven", "jay", "crow"];
    let mut random = dohle_types::Rng::from_seed(1);
    while builder.size_in_bytes() + record_size < batch_size {
        let mut value = String::new();
        while value.len() < record_size {
            value += words.get(usize::try_from(random.below(6))?).copied().unwrap_or_default();
            value += &random.below(100_000).to_string();
        }
        value.truncate(record_size);
        builder.append(NOW, None, Some(value.as_bytes()), &[])?;
    }
    let (records, bytes) = (builder.record_count(), builder.size_in_bytes());
    Ok((builder.build(&mut Compressor::default())?, records, bytes))
}
