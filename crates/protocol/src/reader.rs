//! Decoding: total, bounded, without copies of what is large.

use bytes::Bytes;
use dohle_types::Str;
use uuid::Uuid;

use crate::{DecodeError, Records};

/// How many array elements all arrays of one message may have together, unless told otherwise.
///
/// An element takes at least a byte on the wire but a hundred or more in memory. This bounds the second by more
/// than the size of the frame.
pub const ELEMENT_BUDGET: usize = 1 << 20;

/// A position in a message.
///
/// It reads from a slice; only `bytes` and `records` fields touch the reference count of the buffer, of which
/// they are slices. After an error its position means nothing.
#[derive(Debug)]
pub struct Reader<'a> {
    whole: &'a Bytes,
    rest: &'a [u8],
    element_budget: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the first byte.
    #[must_use]
    pub fn new(bytes: &'a Bytes) -> Self {
        Self::with_element_budget(bytes, ELEMENT_BUDGET)
    }

    /// A reader at the first byte that allows this many array elements in total.
    #[must_use]
    pub fn with_element_budget(bytes: &'a Bytes, element_budget: usize) -> Self {
        Self { whole: bytes, rest: bytes, element_budget }
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Asserts that the message took up all bytes.
    pub const fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes(left)),
        }
    }

    #[inline]
    fn array_of_bytes<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(head)
    }

    /// A `bool`: as in Kafka every byte but 0 is true.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    /// An `int8`.
    #[inline]
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.array_of_bytes()?))
    }

    /// An `int16`.
    #[inline]
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array_of_bytes()?))
    }

    /// A `uint16`.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array_of_bytes()?))
    }

    /// An `int32`.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array_of_bytes()?))
    }

    /// A `uint32`.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array_of_bytes()?))
    }

    /// An `int64`.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array_of_bytes()?))
    }

    /// A `float64`.
    #[inline]
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.array_of_bytes()?))
    }

    /// A `uuid`.
    #[inline]
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid::from_bytes(self.array_of_bytes()?))
    }

    /// An unsigned integer in at most five groups of seven bits, the lowest first (LEB128).
    #[inline]
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array_of_bytes()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// An unsigned integer in at most ten groups of seven bits.
    #[inline]
    pub fn unsigned_varlong(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let [byte] = self.array_of_bytes()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// A signed integer in zigzag form.
    #[inline]
    pub fn varint(&mut self) -> Result<i32, DecodeError> {
        let raw = self.unsigned_varint()?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// A signed 64-bit integer in zigzag form.
    #[inline]
    pub fn varlong(&mut self) -> Result<i64, DecodeError> {
        let raw = self.unsigned_varlong()?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// The length of a string: `None` is null.
    #[inline]
    fn string_len(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if !flexible {
            return Ok(usize::try_from(self.i16()?).ok());
        }
        let len = self.compact_len()?;
        if len.is_some_and(|len| len > crate::STRING_MAX) {
            return Err(DecodeError::StringTooLong);
        }
        Ok(len)
    }

    /// The length of bytes or the count of an array: `None` is null.
    #[inline]
    fn len(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible { self.compact_len() } else { Ok(usize::try_from(self.i32()?).ok()) }
    }

    /// Compact lengths are one more than the length, 0 is null (KIP-482).
    #[inline]
    fn compact_len(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.unsigned_varint()?.checked_sub(1) {
            None => Ok(None),
            Some(len) => usize::try_from(len).map(Some).map_err(|_| DecodeError::UnexpectedEnd),
        }
    }

    /// A string that must not be null.
    #[inline]
    pub fn string(&mut self, flexible: bool) -> Result<Str, DecodeError> {
        self.nullable_string(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// A string or null.
    #[inline]
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<Str>, DecodeError> {
        let Some(len) = self.string_len(flexible)? else { return Ok(None) };
        let text = self.take(len)?;
        Str::from_utf8(text).map(Some).map_err(|_| DecodeError::InvalidUtf8)
    }

    /// Bytes that must not be null, as a slice of the buffer.
    #[inline]
    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        self.nullable_bytes(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// Bytes or null, as a slice of the buffer.
    #[inline]
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        let Some(len) = self.len(flexible)? else { return Ok(None) };
        let slice = self.take(len)?;
        Ok(Some(self.whole.slice_ref(slice)))
    }

    /// Record batches that must not be null, as a slice of the buffer.
    #[inline]
    pub fn records(&mut self, flexible: bool) -> Result<Records, DecodeError> {
        self.bytes(flexible).map(Records::from)
    }

    /// Record batches or null, as a slice of the buffer.
    #[inline]
    pub fn nullable_records(&mut self, flexible: bool) -> Result<Option<Records>, DecodeError> {
        Ok(self.nullable_bytes(flexible)?.map(Records::from))
    }

    /// An array that must not be null; see [`Self::nullable_array`].
    #[inline]
    pub fn array<T>(
        &mut self,
        flexible: bool,
        element_size_min: usize,
        element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_array(flexible, element_size_min, element)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// An array or null. Its count is refused before anything is allocated if the bytes that are left cannot
    /// hold that many elements of `element_size_min` bytes, or if the budget for elements is exhausted.
    #[inline]
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        element_size_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.len(flexible)? else { return Ok(None) };
        if count > self.rest.len() / element_size_min.max(1) {
            return Err(DecodeError::UnexpectedEnd);
        }
        self.element_budget = self.element_budget.checked_sub(count).ok_or(DecodeError::TooManyElements)?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// A structure behind a byte that says whether there is one.
    #[inline]
    pub fn nullable_struct<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.i8()? < 0 { Ok(None) } else { read(self).map(Some) }
    }

    /// The tagged fields at the end of a structure (KIP-482). `read` gets each tag, reads the value if it knows
    /// the tag and says whether it does. The others are skipped and leave nothing behind.
    pub fn tagged_fields(
        &mut self,
        mut read: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()?;
            let value = self.take(usize::try_from(size).map_err(|_| DecodeError::UnexpectedEnd)?)?;
            let behind = std::mem::replace(&mut self.rest, value);
            if read(self, tag)? && !self.rest.is_empty() {
                return Err(DecodeError::TaggedFieldSize);
            }
            self.rest = behind;
        }
        Ok(())
    }

    /// Tagged fields where none is known.
    #[inline]
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.tagged_fields(|_, _| Ok(false))
    }
}
