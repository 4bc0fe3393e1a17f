//! What can be wrong with the bytes of a batch, whoever wrote them.

use crate::DecompressionError;

/// Why bytes are not a batch, or its records cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BatchError {
    /// The bytes end within the batch; more of them may complete it.
    #[error("the batch takes {needed} bytes but only {available} are there")]
    Truncated {
        /// Bytes the batch takes, as far as can be told yet.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// The length field is less than the header of any batch.
    #[error("a batch cannot be {0} bytes long")]
    InvalidLength(i32),
    /// The batch is in another format than magic 2.
    #[error("the batch has magic {0}; only magic 2 is supported")]
    UnsupportedMagic(i8),
    /// The attributes name a compression Kafka does not have.
    #[error("the batch's compression type {0} does not exist")]
    UnsupportedCompression(i16),
    /// The checksum says that the bytes changed since the batch was made.
    #[error("the batch is corrupt: its CRC is {stored:#010x} but its bytes give {computed:#010x}")]
    CrcMismatch {
        /// The checksum in the header.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// A batch cannot hold fewer than no records.
    #[error("the batch announces {0} records")]
    InvalidRecordCount(i32),
    /// A record cannot be read.
    #[error("record {index} of the batch is malformed: {reason}")]
    MalformedRecord {
        /// Which record, counted from 0.
        index: i32,
        /// What is wrong with it.
        reason: Malformed,
    },
    /// The compressed records cannot be decompressed.
    #[error(transparent)]
    Decompression(#[from] DecompressionError),
}

/// What is wrong with one record's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// The record reaches beyond the end of the batch.
    #[error("it reaches beyond the end of the batch")]
    EndOfBatch,
    /// A variable-length number goes on for longer than its type can.
    #[error("a variable-length number does not end")]
    EndlessVarint,
    /// The record's size is negative.
    #[error("its size is negative")]
    NegativeSize,
    /// The fields take more or less than the record's size.
    #[error("its fields do not fill its size exactly")]
    SizeMismatch,
    /// The number of headers is negative or more than the bytes left could hold.
    #[error("its number of headers is impossible")]
    HeaderCount,
    /// A header's key is null.
    #[error("one of its headers has no key")]
    NullHeaderKey,
    /// The offset is not the one after the previous record's.
    #[error("its offset does not follow the previous record's")]
    OffsetDelta,
    /// The last record ends before the batch does.
    #[error("bytes are left after it, the batch's last record")]
    TrailingBytes,
    /// A control record's key or value is too short or has a negative version.
    #[error("it is not a control record")]
    ControlRecord,
}
