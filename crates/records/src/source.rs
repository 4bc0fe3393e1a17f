//! Reading the fields of records, from a slice or from a stream that is decompressed while it is read.

use crate::compression::DecompressionStream;
use crate::{BatchError, DecompressionError, Malformed};

/// Bytes of records in reading order.
///
/// One walk over records serves both sources; what a slice can do fast is done fast once this is inlined.
pub(crate) trait Source {
    /// Why the next bytes cannot be had.
    type Error: From<Malformed> + Into<ReadError>;

    /// The next byte.
    fn byte(&mut self) -> Result<u8, Self::Error>;

    /// Passes over `count` bytes.
    fn skip(&mut self, count: usize) -> Result<(), Self::Error>;

    /// How many bytes were read so far.
    fn position(&self) -> u64;

    /// Whether no byte is left.
    fn is_at_end(&mut self) -> Result<bool, Self::Error>;

    /// The next number, in zigzag form.
    #[inline(always)]
    fn varint(&mut self) -> Result<i32, Self::Error> {
        let byte = self.byte()?;
        let mut value = u32::from(byte & 0x7f);
        if byte >= 0x80 {
            let mut shift = 7;
            loop {
                let byte = self.byte()?;
                value |= u32::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
                shift += 7;
                if shift > 28 {
                    return Err(Malformed::EndlessVarint.into());
                }
            }
        }
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// The next long number, in zigzag form.
    #[inline(always)]
    fn varlong(&mut self) -> Result<i64, Self::Error> {
        let byte = self.byte()?;
        let mut value = u64::from(byte & 0x7f);
        if byte >= 0x80 {
            let mut shift = 7;
            loop {
                let byte = self.byte()?;
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
                shift += 7;
                if shift > 63 {
                    return Err(Malformed::EndlessVarint.into());
                }
            }
        }
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// Passes over a nullable field that its length precedes; whether it is there. Any negative length is null.
    #[inline(always)]
    fn skip_field(&mut self) -> Result<bool, Self::Error> {
        match usize::try_from(self.varint()?) {
            Ok(length) => self.skip(length).map(|()| true),
            Err(_) => Ok(false),
        }
    }
}

/// Why a record cannot be read from a stream.
pub(crate) enum ReadError {
    /// Its bytes are wrong.
    Malformed(Malformed),
    /// Its bytes cannot be decompressed.
    Decompression(DecompressionError),
}

impl ReadError {
    /// The error, with the record it happened in.
    pub(crate) fn at(self, index: i32) -> BatchError {
        match self {
            Self::Malformed(reason) => BatchError::MalformedRecord { index, reason },
            Self::Decompression(error) => BatchError::Decompression(error),
        }
    }
}

impl From<Malformed> for ReadError {
    fn from(reason: Malformed) -> Self {
        Self::Malformed(reason)
    }
}

/// Records that lie in memory.
pub(crate) struct SliceSource<'a> {
    rest: &'a [u8],
    total: usize,
}

impl<'a> SliceSource<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, total: bytes.len() }
    }

    /// The bytes that were not read yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed::EndOfBatch)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A nullable field that its length precedes.
    pub(crate) fn field(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match usize::try_from(self.varint()?) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Ok(None),
        }
    }
}

impl Source for SliceSource<'_> {
    type Error = Malformed;

    #[inline(always)]
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(Malformed::EndOfBatch)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline(always)]
    fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.rest = self.rest.get(count..).ok_or(Malformed::EndOfBatch)?;
        Ok(())
    }

    #[inline(always)]
    fn position(&self) -> u64 {
        (self.total - self.rest.len()) as u64
    }

    fn is_at_end(&mut self) -> Result<bool, Malformed> {
        Ok(self.rest.is_empty())
    }
}

/// Records that are decompressed window by window, so that a batch is validated in memory of a fixed size.
pub(crate) struct StreamSource<'a> {
    stream: DecompressionStream<'a>,
    window: &'a mut [u8],
    /// The part of the window that was filled but not read.
    start: usize,
    end: usize,
    /// Bytes read before the window's.
    before: u64,
}

impl<'a> StreamSource<'a> {
    pub(crate) const fn new(stream: DecompressionStream<'a>, window: &'a mut [u8]) -> Self {
        Self { stream, window, start: 0, end: 0, before: 0 }
    }

    /// Fills the window, all of which was read; whether there was anything more.
    #[cold]
    fn refill(&mut self) -> Result<bool, DecompressionError> {
        self.before += self.end as u64;
        self.start = 0;
        self.end = self.stream.read(self.window)?;
        Ok(self.end > 0)
    }
}

impl Source for StreamSource<'_> {
    type Error = ReadError;

    #[inline(always)]
    fn byte(&mut self) -> Result<u8, ReadError> {
        if self.start == self.end && !self.refill()? {
            return Err(Malformed::EndOfBatch.into());
        }
        let byte = self.window.get(self.start).copied().ok_or(Malformed::EndOfBatch)?;
        self.start += 1;
        Ok(byte)
    }

    #[inline(always)]
    fn skip(&mut self, mut count: usize) -> Result<(), ReadError> {
        while count > self.end - self.start {
            count -= self.end - self.start;
            self.start = self.end;
            if !self.refill()? {
                return Err(Malformed::EndOfBatch.into());
            }
        }
        self.start += count;
        Ok(())
    }

    #[inline(always)]
    fn position(&self) -> u64 {
        self.before + self.start as u64
    }

    fn is_at_end(&mut self) -> Result<bool, ReadError> {
        Ok(self.start == self.end && !self.refill()?)
    }
}

impl From<DecompressionError> for ReadError {
    fn from(error: DecompressionError) -> Self {
        Self::Decompression(error)
    }
}
