//! Looking for a batch in bytes that may end in the middle of one or hold damage: recovery and `log dump`.

use crate::batch::check_crc;
use crate::{BatchError, BatchHeader};

/// What the bytes begin with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scan {
    /// A whole batch, `header.size_in_bytes()` long.
    Complete {
        /// Its header.
        header: BatchHeader,
        /// Whether its CRC is right.
        crc_valid: bool,
    },
    /// The beginning of a batch, or nothing.
    Incomplete {
        /// Bytes needed, counted from the batch's first, to see more of it; the length field may be damage,
        /// so compare this with what there can be before reading so much.
        needed: usize,
    },
    /// No batch.
    Corrupt(BatchError),
}

/// What `bytes` begin with. Never panics, whatever they are.
#[must_use]
pub fn scan_batch(bytes: &[u8]) -> Scan {
    let header = match BatchHeader::parse(bytes) {
        Ok(header) => header,
        Err(BatchError::Truncated { needed, .. }) => return Scan::Incomplete { needed },
        Err(error) => return Scan::Corrupt(error),
    };
    let needed = header.size_in_bytes();
    match bytes.get(..needed) {
        Some(batch) => Scan::Complete { header, crc_valid: check_crc(&header, batch).is_ok() },
        None => Scan::Incomplete { needed },
    }
}
