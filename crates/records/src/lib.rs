//! Kafka's record batch of magic 2 (KIP-98): view it in place, validate it, build it.
//!
//! What it is not: it assigns no offsets of its own accord, knows no segments and indexes (`dohle-storage`)
//! and no wire messages (`dohle-protocol`); the older message formats (magic 0 and 1) are recognised and refused.
//!
//! Inputs are bytes and rules; effects there are none: no I/O, no clock, no thread.
//!
//! Invariants, for all bytes whatsoever:
//! 1. Nothing here panics on outside bytes, and nothing is allocated by a size or count they announce:
//!    memory grows with the bytes there are, and decompression stops at its [`DecompressionLimit`].
//! 2. A parsed [`BatchHeader`] encodes to the bytes it was parsed from.
//! 3. A [`Batch`], its records, keys, values and headers are slices of the bytes they came in;
//!    only decompression copies.
//! 4. What [`validate()`] accepts has a right CRC, records that fill the batch exactly, in number as its header says,
//!    with offsets that count up from the base offset.
//!
//! Start reading at [`header`]; a produce request's way is [`mod@validate`], then [`patch`].

pub mod batch;
pub mod build;
pub mod compact;
pub mod compression;
pub mod control;
pub mod error;
pub mod header;
pub mod patch;
pub mod recompress;
pub mod record;
pub mod scan;
pub mod validate;

mod lz4;
mod snappy;
mod source;

pub use batch::{Batch, Batches};
pub use build::{BatchBuilder, BatchOptions, BuildError};
pub use compression::{
    Compression, CompressionTarget, Compressor, DecompressionError, DecompressionLimit, Decompressor,
};
pub use control::{ControlRecordKey, ControlRecordType, EndTxnMarker};
pub use error::{BatchError, Malformed};
pub use header::{Attributes, BatchHeader, HEADER_SIZE, MAGIC, TimestampType};
pub use recompress::recompress;
pub use record::{Record, RecordHeader, Records};
pub use scan::{Scan, scan_batch};
pub use validate::{InvalidBatch, InvalidRecord, RecordError, Validated, ValidationRules, validate};

#[cfg(test)]
mod tests;
