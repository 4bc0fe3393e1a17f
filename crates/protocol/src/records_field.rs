//! Record batches as a field of a message: slices that travel, never bytes that are copied.

use bytes::{Bytes, BytesMut};

/// The record batches of one partition in a produce request or fetch response, in one or more pieces.
///
/// A decoded one is a slice of the receive buffer and keeps all of that buffer alive: copy what is kept long.
#[derive(Clone, Debug, Default)]
pub struct Records {
    chunks: Vec<Bytes>,
}

impl Records {
    /// No batches.
    #[must_use]
    pub const fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    /// Appends a piece; an empty one changes nothing.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push(chunk);
        }
    }

    /// The size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// Whether there is not one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The pieces in order, none of them empty. Their borders mean nothing.
    #[must_use]
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// All bytes in one piece, copied only if there is more than one.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        join(self.chunks)
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        let mut records = Self::new();
        records.push(bytes);
        records
    }
}

/// Two are equal if their bytes are, in whatever pieces.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.chunks.iter().flatten().eq(other.chunks.iter().flatten())
    }
}

/// One piece out of many.
pub(crate) fn join(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() <= 1 {
        return chunks.pop().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    for chunk in chunks {
        whole.extend_from_slice(&chunk);
    }
    whole.freeze()
}
