//! A batch as a slice of the bytes it came in, and the batches of consecutive bytes.

use bytes::Bytes;

use crate::header::HEADER_SIZE;
use crate::{BatchError, BatchHeader, Decompressor, Records};

/// One whole batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// The batch that `bytes` begin with; what follows it is left out.
    pub fn parse(bytes: &Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let needed = header.size_in_bytes();
        if needed > bytes.len() {
            return Err(BatchError::Truncated { needed, available: bytes.len() });
        }
        Ok(Self { header, bytes: bytes.slice(..needed) })
    }

    /// The header, parsed.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The bytes, header included.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes, header included.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The bytes after the header: the records, compressed or not.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.bytes.slice(HEADER_SIZE..)
    }

    /// Whether the bytes are those the CRC was made of.
    #[must_use]
    pub fn crc_is_valid(&self) -> bool {
        self.check_crc().is_ok()
    }

    /// An error unless the bytes are those the CRC was made of.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        check_crc(&self.header, &self.bytes)
    }

    /// The records; those of a compressed batch are decompressed first, within the decompressor's limit.
    pub fn records(&self, decompressor: &mut Decompressor) -> Result<Records, BatchError> {
        if self.header.record_count < 0 {
            return Err(BatchError::InvalidRecordCount(self.header.record_count));
        }
        let compression = self.header.attributes.compression()?;
        // A batch that compaction emptied may still name the compression it had.
        let body = if self.header.record_count == 0 {
            Bytes::new()
        } else {
            decompressor.decompress(compression, self.body())?
        };
        Ok(Records::new(self.header, body))
    }
}

/// An error unless the whole batch in `bytes` has the CRC that its header says.
pub(crate) fn check_crc(header: &BatchHeader, bytes: &[u8]) -> Result<(), BatchError> {
    let covered = bytes.get(crate::header::ATTRIBUTES_POSITION..).unwrap_or_default();
    let computed = crc32c::crc32c(covered);
    if computed == header.crc {
        Ok(())
    } else {
        Err(BatchError::CrcMismatch { stored: header.crc, computed })
    }
}

/// Iterates over the batches in consecutive bytes; ends after the first error.
///
/// A batch that the bytes end in is [`BatchError::Truncated`], which a consumer expects at the end of what it fetched.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// The batches in `bytes`.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    /// The bytes after the batches that were read.
    #[must_use]
    pub const fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = Batch::parse(&self.rest);
        let consumed = batch.as_ref().map_or(self.rest.len(), |batch| batch.bytes.len());
        self.rest = self.rest.slice(consumed..);
        Some(batch)
    }
}
