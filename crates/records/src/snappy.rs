//! Snappy as Kafka uses it: blocks in the framing of the xerial (snappy-java) library, whose specification is its code.
//!
//! ```text
//! 0x82 "SNAPPY" 0x00, version i32 = 1, least compatible version i32 = 1, then blocks: size i32, bytes
//! ```
//!
//! Some clients send one bare block instead, and Kafka's consumers read that as well.

use std::io::{self, Read};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// What snappy-java puts into a block.
const BLOCK_SIZE: usize = 32 << 10;

/// The framed form of `bytes`.
pub(crate) fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = snap::raw::Encoder::new();
    let mut framed = [MAGIC, VERSIONS].concat();
    let mut block = vec![0; snap::raw::max_compress_len(BLOCK_SIZE.min(bytes.len()))];
    for chunk in bytes.chunks(BLOCK_SIZE) {
        let size = encoder.compress(chunk, &mut block)?;
        let size_field = u32::try_from(size).map_err(io::Error::other)?;
        framed.extend_from_slice(&size_field.to_be_bytes());
        framed.extend_from_slice(block.get(..size).unwrap_or_default());
    }
    Ok(framed)
}

/// The blocks of compressed records, decompressed one after the other.
pub(crate) struct Blocks<'a> {
    /// Compressed blocks to come.
    rest: &'a [u8],
    framed: bool,
    /// The block in hand, and how much of it was read.
    block: &'a mut Vec<u8>,
    position: usize,
}

impl<'a> Blocks<'a> {
    /// The blocks of `bytes`; each in turn is decompressed into `block`.
    pub(crate) fn new(bytes: &'a [u8], block: &'a mut Vec<u8>) -> Self {
        block.clear();
        let framed = bytes.strip_prefix(&MAGIC).and_then(|after| after.get(VERSIONS.len()..));
        Self { rest: framed.unwrap_or(bytes), framed: framed.is_some(), block, position: 0 }
    }

    /// What the next block says that it decompresses to, if it is the next thing to be read.
    pub(crate) fn next_size(&self) -> Option<usize> {
        if self.position < self.block.len() {
            return None;
        }
        let (block, _) = self.split_block().ok()?;
        snap::raw::decompress_len(block).ok()
    }

    /// The next compressed block, and what follows it.
    fn split_block(&self) -> io::Result<(&'a [u8], &'a [u8])> {
        if !self.framed {
            return Ok((self.rest, &[]));
        }
        let split = self.rest.split_first_chunk().and_then(|(&size, after)| {
            let size = usize::try_from(u32::from_be_bytes(size)).ok()?;
            after.split_at_checked(size)
        });
        split.ok_or_else(|| io::Error::other("a block is cut off"))
    }

    fn next_block(&mut self) -> io::Result<()> {
        let (compressed, rest) = self.split_block()?;
        // Snappy's densest element makes 64 bytes of 3: a block that promises more is refused before it is believed.
        let size = snap::raw::decompress_len(compressed)?;
        if size / 22 > compressed.len() {
            return Err(io::Error::other("a block promises more than it can hold"));
        }
        self.block.resize(size, 0);
        self.position = 0;
        self.rest = rest;
        snap::raw::Decoder::new().decompress(compressed, self.block)?;
        Ok(())
    }
}

impl Read for Blocks<'_> {
    fn read(&mut self, window: &mut [u8]) -> io::Result<usize> {
        while self.position >= self.block.len() {
            if self.rest.is_empty() {
                return Ok(0);
            }
            self.next_block()?;
        }
        let mut unread = self.block.get(self.position..).unwrap_or_default();
        let count = unread.read(window)?;
        self.position += count;
        Ok(count)
    }
}
