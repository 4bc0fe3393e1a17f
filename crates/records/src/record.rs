//! The records of a batch, one after the other, as slices of its bytes.
//!
//! ```text
//! record: size varint, attributes i8 (unused), timestamp delta varlong, offset delta varint,
//!         key, value: length varint (-1: null), bytes; header count varint, headers: key, value as above
//! ```

use bytes::Bytes;
use dohle_types::{Offset, Timestamp};

use crate::source::{SliceSource, Source};
use crate::{BatchError, BatchHeader, Malformed, TimestampType};

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Where it stands in the log.
    pub offset: Offset,
    /// The producer's time, or the append time where the batch says so.
    pub timestamp: Timestamp,
    /// The key; records with the same key are of the same subject.
    pub key: Option<Bytes>,
    /// The value; null is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in the order of the producer; keys may repeat (KIP-82).
    pub headers: Vec<RecordHeader>,
}

/// One header of a record. The key ought to be UTF-8, which nobody checks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Option<Bytes>,
}

/// Iterates over the records of a batch; ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    /// What is left of the (uncompressed) records.
    rest: Bytes,
    next_index: i32,
}

impl Records {
    /// The records in `body`, uncompressed, of a batch with this header.
    pub(crate) const fn new(header: BatchHeader, body: Bytes) -> Self {
        Self { header, rest: body, next_index: 0 }
    }

    fn parse_next(&mut self) -> Result<Record, Malformed> {
        let mut source = SliceSource::new(&self.rest);
        let size = usize::try_from(source.varint()?).map_err(|_| Malformed::NegativeSize)?;
        let mut fields = SliceSource::new(source.take(size)?);
        let record = self.parse_fields(&mut fields)?;
        if !fields.rest().is_empty() {
            return Err(Malformed::SizeMismatch);
        }
        if self.next_index.saturating_add(1) == self.header.record_count && !source.rest().is_empty() {
            return Err(Malformed::TrailingBytes);
        }
        self.rest = self.rest.slice_ref(source.rest());
        Ok(record)
    }

    fn parse_fields(&self, fields: &mut SliceSource<'_>) -> Result<Record, Malformed> {
        let _attributes = fields.byte()?;
        let timestamp_delta = fields.varlong()?;
        let offset_delta = fields.varint()?;
        let slice = |bytes: &[u8]| self.rest.slice_ref(bytes);
        let key = fields.field()?.map(slice);
        let value = fields.field()?.map(slice);
        let header_count = usize::try_from(fields.varint()?).map_err(|_| Malformed::HeaderCount)?;
        // A header takes two bytes at the least.
        if header_count > fields.rest().len() / 2 {
            return Err(Malformed::HeaderCount);
        }
        let mut headers = Vec::with_capacity(header_count);
        for _ in 0..header_count {
            let key = fields.field()?.map(slice).ok_or(Malformed::NullHeaderKey)?;
            headers.push(RecordHeader { key, value: fields.field()?.map(slice) });
        }
        let timestamp = match self.header.attributes.timestamp_type() {
            TimestampType::CreateTime => {
                Timestamp(self.header.base_timestamp.0.wrapping_add(timestamp_delta))
            }
            TimestampType::LogAppendTime => self.header.max_timestamp,
        };
        let offset = self.header.base_offset.plus(i64::from(offset_delta));
        Ok(Record { offset, timestamp, key, value, headers })
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next_index;
        if index >= self.header.record_count {
            return None;
        }
        match self.parse_next() {
            Ok(record) => {
                self.next_index += 1;
                Some(Ok(record))
            }
            Err(reason) => {
                self.next_index = self.header.record_count;
                Some(Err(BatchError::MalformedRecord { index, reason }))
            }
        }
    }
}
