//! Encoding: into one buffer, with what is large threaded in between instead of copied.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::records_field::join;
use crate::{EncodeError, Records};

/// From this size on a piece of record batches becomes a chunk of its own instead of being copied.
const SHARE_FROM: usize = 1024;

/// Encoded bytes in the pieces in which they can be written, in order and without a copy.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    chunks: Vec<Bytes>,
    len: usize,
}

impl Frame {
    /// The size of all chunks together.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is not one byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces in order, none of them empty.
    #[must_use]
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// The pieces in order, for a queue of what is to be written.
    #[must_use]
    pub fn into_chunks(self) -> Vec<Bytes> {
        self.chunks
    }

    /// All bytes in one piece, copied only if there is more than one.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        join(self.chunks)
    }
}

/// The end of what is being encoded.
///
/// Writing cannot fail where it happens. A value without an encoding (a string of 40,000 bytes, a null where
/// the version knows none) is remembered and reported by [`Self::finish`]: the first of them, once a message.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: BytesMut,
    /// Pieces that stand before the given position of `buffer`, in ascending order.
    shared: Vec<(usize, Bytes)>,
    shared_len: usize,
    /// Greater than 0 inside a tagged field, whose content is moved when its size is known.
    tag_depth: usize,
    error: Option<EncodeError>,
}

/// The tagged fields of one structure while they are being written; see [`Writer::tagged_fields`].
#[derive(Debug)]
pub struct TaggedFields {
    count_at: usize,
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer with room for this many bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: BytesMut::with_capacity(capacity), ..Self::default() }
    }

    /// How many bytes have been written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len() + self.shared_len
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What has been written, or the first thing that could not be.
    pub fn finish(self) -> Result<Frame, EncodeError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let len = self.len();
        let whole = self.buffer.freeze();
        let mut chunks = Vec::with_capacity(2 * self.shared.len() + 1);
        let mut start = 0;
        for (at, piece) in self.shared {
            if at > start {
                chunks.push(whole.slice(start..at));
            }
            chunks.push(piece);
            start = at;
        }
        if start < whole.len() {
            chunks.push(whole.slice(start..));
        }
        Ok(Frame { chunks, len })
    }

    /// Puts the number of bytes behind the first four into these, as every frame on a connection begins, and
    /// finishes. The first four bytes must have been written as a placeholder.
    pub(crate) fn finish_frame(mut self) -> Result<Frame, EncodeError> {
        let len = self.len().saturating_sub(4);
        match (i32::try_from(len), self.buffer.first_chunk_mut()) {
            (Ok(len), Some(head)) => *head = len.to_be_bytes(),
            _ => self.fail(EncodeError::TooLarge(len)),
        }
        self.finish()
    }

    /// Remembers that something could not be expressed.
    #[cold]
    pub fn fail(&mut self, error: EncodeError) {
        self.error.get_or_insert(error);
    }

    /// A `bool`.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.buffer.put_u8(value.into());
    }

    /// An `int8`.
    #[inline]
    pub fn i8(&mut self, value: i8) {
        self.buffer.put_i8(value);
    }

    /// An `int16`.
    #[inline]
    pub fn i16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }

    /// A `uint16`.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.buffer.put_u16(value);
    }

    /// An `int32`.
    #[inline]
    pub fn i32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    /// A `uint32`.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.buffer.put_u32(value);
    }

    /// An `int64`.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    /// A `float64`.
    #[inline]
    pub fn f64(&mut self, value: f64) {
        self.buffer.put_f64(value);
    }

    /// A `uuid`.
    #[inline]
    pub fn uuid(&mut self, value: Uuid) {
        self.buffer.put_slice(value.as_bytes());
    }

    /// An unsigned integer in groups of seven bits, the lowest first (LEB128).
    #[inline]
    pub fn unsigned_varint(&mut self, value: u32) {
        self.unsigned_varlong(value.into());
    }

    /// An unsigned 64-bit integer in groups of seven bits.
    #[inline]
    pub fn unsigned_varlong(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.buffer.put_u8(low_bits(value) | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(low_bits(value));
    }

    /// A signed integer in zigzag form.
    #[inline]
    pub fn varint(&mut self, value: i32) {
        self.unsigned_varint(((value << 1) ^ (value >> 31)).cast_unsigned());
    }

    /// A signed 64-bit integer in zigzag form.
    #[inline]
    pub fn varlong(&mut self, value: i64) {
        self.unsigned_varlong(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    /// A length or count: compact ones are one more than the length, so that 0 is null (KIP-482).
    #[inline]
    fn put_len(&mut self, len: usize, flexible: bool) {
        match i32::try_from(len) {
            Ok(len) if flexible => self.unsigned_varint(len.cast_unsigned() + 1),
            Ok(len) => self.i32(len),
            Err(_) => self.fail(EncodeError::TooLarge(len)),
        }
    }

    #[inline]
    fn put_null_len(&mut self, flexible: bool) {
        if flexible { self.unsigned_varint(0) } else { self.i32(-1) }
    }

    /// A string.
    #[inline]
    pub fn string(&mut self, value: &str, flexible: bool) {
        match i16::try_from(value.len()) {
            Ok(len) if flexible => self.unsigned_varint(u32::from(len.cast_unsigned()) + 1),
            Ok(len) => self.i16(len),
            Err(_) => return self.fail(EncodeError::StringTooLong(value.len())),
        }
        self.buffer.put_slice(value.as_bytes());
    }

    /// A string or null.
    #[inline]
    pub fn nullable_string(&mut self, value: Option<&str>, flexible: bool) {
        match value {
            Some(value) => self.string(value, flexible),
            None if flexible => self.unsigned_varint(0),
            None => self.i16(-1),
        }
    }

    /// Bytes, copied.
    #[inline]
    pub fn bytes(&mut self, value: &[u8], flexible: bool) {
        self.put_len(value.len(), flexible);
        self.buffer.put_slice(value);
    }

    /// Bytes or null, copied.
    #[inline]
    pub fn nullable_bytes(&mut self, value: Option<&[u8]>, flexible: bool) {
        match value {
            Some(value) => self.bytes(value, flexible),
            None => self.put_null_len(flexible),
        }
    }

    /// Record batches; pieces of 1 KiB and more are not copied.
    pub fn records(&mut self, value: &Records, flexible: bool) {
        self.put_len(value.len(), flexible);
        for chunk in value.chunks() {
            if chunk.len() >= SHARE_FROM && self.tag_depth == 0 {
                self.shared.push((self.buffer.len(), chunk.clone()));
                self.shared_len += chunk.len();
            } else {
                self.buffer.put_slice(chunk);
            }
        }
    }

    /// Record batches or null; pieces of 1 KiB and more are not copied.
    pub fn nullable_records(&mut self, value: Option<&Records>, flexible: bool) {
        match value {
            Some(value) => self.records(value, flexible),
            None => self.put_null_len(flexible),
        }
    }

    /// An array.
    #[inline]
    pub fn array<T>(&mut self, values: &[T], flexible: bool, mut element: impl FnMut(&mut Self, &T)) {
        self.put_len(values.len(), flexible);
        for value in values {
            element(self, value);
        }
    }

    /// An array or null.
    #[inline]
    pub fn nullable_array<T>(
        &mut self,
        values: Option<&[T]>,
        flexible: bool,
        element: impl FnMut(&mut Self, &T),
    ) {
        match values {
            Some(values) => self.array(values, flexible, element),
            None => self.put_null_len(flexible),
        }
    }

    /// A structure behind a byte that says whether there is one.
    #[inline]
    pub fn nullable_struct<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        match value {
            Some(value) => {
                self.i8(1);
                write(self, value);
            }
            None => self.i8(-1),
        }
    }

    /// Begins the tagged fields at the end of a structure (KIP-482): none until [`Self::tagged_field`] adds one.
    #[inline]
    pub fn tagged_fields(&mut self) -> TaggedFields {
        let count_at = self.buffer.len();
        self.buffer.put_u8(0);
        TaggedFields { count_at }
    }

    /// Adds a tagged field. Tags must come in ascending order, and fewer than 128 of them.
    pub fn tagged_field(&mut self, fields: &TaggedFields, tag: u32, write: impl FnOnce(&mut Self)) {
        if let Some(count) = self.buffer.get_mut(fields.count_at) {
            *count += 1;
        }
        self.unsigned_varint(tag);
        let start = self.buffer.len();
        self.tag_depth += 1;
        write(self);
        self.tag_depth -= 1;
        // The size stands before the value but is known after it. Values are small: the tail is moved.
        let end = self.buffer.len();
        match u32::try_from(end - start) {
            Ok(size) => self.unsigned_varint(size),
            Err(_) => self.fail(EncodeError::TooLarge(end - start)),
        }
        if let Some(tail) = self.buffer.get_mut(start..) {
            tail.rotate_left(end - start);
        }
    }
}

/// The lowest seven bits.
const fn low_bits(value: u64) -> u8 {
    (value & 0x7f) as u8
}
