//! The compressions of record batches: names, codes, levels, and bounded decompression.
//!
//! [`Compressor`] and [`Decompressor`] own what is worth keeping from batch to batch (zstd contexts, windows);
//! whoever handles batches in a row owns one of each.

use std::io::{self, Read, Write};
use std::ops::RangeInclusive;

use bytes::Bytes;
use zstd::zstd_safe;

use crate::{lz4, snappy};

/// How the records of a batch are compressed (Kafka's `CompressionType`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in the framing of the xerial library.
    Snappy,
    /// LZ4 frames of independent blocks.
    Lz4,
    /// RFC 8878 (KIP-110).
    Zstd,
}

impl Compression {
    /// All of them, by code.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The compression with this code in the batch attributes.
    #[must_use]
    pub const fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The code in the batch attributes.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The compression of this name, as `compression.type` spells it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|compression| compression.name() == name)
    }

    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The levels there are (KIP-390), with the default one; `None` where there is nothing to choose.
    #[must_use]
    pub const fn levels(self) -> Option<(RangeInclusive<i32>, i32)> {
        match self {
            Self::None | Self::Snappy => None,
            Self::Gzip => Some((1..=9, -1)),
            Self::Lz4 => Some((1..=17, lz4::DEFAULT_LEVEL)),
            Self::Zstd => Some((-131_072..=22, 3)),
        }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A compression to apply, at a level.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CompressionTarget {
    /// Which one.
    pub compression: Compression,
    /// How hard; `None` is the compression's default.
    pub level: Option<i32>,
}

impl From<Compression> for CompressionTarget {
    fn from(compression: Compression) -> Self {
        Self { compression, level: None }
    }
}

/// Compresses; keeps the zstd context of the last level from batch to batch.
#[derive(Default)]
pub struct Compressor {
    zstd: Option<(i32, zstd::bulk::Compressor<'static>)>,
}

impl Compressor {
    /// The compressed form of `bytes`, as Kafka's clients write it.
    pub fn compress(&mut self, target: CompressionTarget, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match target.compression {
            Compression::None => Ok(bytes.to_vec()),
            Compression::Gzip => {
                let level = target.level.and_then(|level| u32::try_from(level).ok());
                let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Compression::Snappy => snappy::compress(bytes),
            Compression::Lz4 => lz4::compress(bytes, target.level.unwrap_or(lz4::DEFAULT_LEVEL)),
            Compression::Zstd => self.zstd(target.level.unwrap_or(3))?.compress(bytes),
        }
    }

    fn zstd(&mut self, level: i32) -> io::Result<&mut zstd::bulk::Compressor<'static>> {
        let kept = self.zstd.take().filter(|(kept_level, _)| *kept_level == level);
        let context = match kept {
            Some(kept) => kept,
            None => (level, zstd::bulk::Compressor::new(level)?),
        };
        Ok(&mut self.zstd.insert(context).1)
    }
}

/// How much a batch may grow by decompression, whatever it claims.
///
/// A bound by ratio alone would refuse small batches of repetitive records, an absolute one alone would let a
/// small request cost much: it is `ratio` times the compressed size, but `floor_bytes` at the least.
/// The default is 64 times, and 16 MiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecompressionLimit {
    /// What every batch may grow to.
    pub floor_bytes: usize,
    /// How many times its compressed size it may grow to.
    pub ratio: usize,
}

impl DecompressionLimit {
    /// What `compressed` bytes may grow to.
    #[must_use]
    pub fn bytes_for(self, compressed: usize) -> usize {
        compressed.saturating_mul(self.ratio).max(self.floor_bytes)
    }
}

impl Default for DecompressionLimit {
    fn default() -> Self {
        Self { floor_bytes: 16 << 20, ratio: 64 }
    }
}

/// Why bytes cannot be decompressed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecompressionError {
    /// They are not what their batch says they are.
    #[error("the records do not decompress as {compression}: {reason}")]
    Corrupt {
        /// The compression the batch names.
        compression: Compression,
        /// What its library says.
        reason: String,
    },
    /// They grow beyond the limit.
    #[error("the records decompress to more than {limit_bytes} bytes; send fewer in a batch")]
    TooLarge {
        /// What they may grow to.
        limit_bytes: usize,
    },
}

impl DecompressionError {
    fn corrupt(compression: Compression, reason: impl ToString) -> Self {
        Self::Corrupt { compression, reason: reason.to_string() }
    }
}

/// Decompresses within a limit; keeps contexts and buffers from batch to batch.
pub struct Decompressor {
    limit: DecompressionLimit,
    zstd: Option<zstd_safe::DCtx<'static>>,
    /// The last decompressed snappy block.
    block: Vec<u8>,
    window: Vec<u8>,
}

/// Bytes that are decompressed at a time.
const WINDOW_SIZE: usize = 32 << 10;
/// A zstd context that grew beyond this, for a frame with a large window, is not kept.
const ZSTD_KEPT_BYTES: usize = 16 << 20;

impl Decompressor {
    /// A decompressor that keeps to `limit`.
    #[must_use]
    pub const fn new(limit: DecompressionLimit) -> Self {
        Self { limit, zstd: None, block: Vec::new(), window: Vec::new() }
    }

    /// All that `bytes` decompress to; what is not compressed is not copied.
    pub fn decompress(
        &mut self,
        compression: Compression,
        bytes: Bytes,
    ) -> Result<Bytes, DecompressionError> {
        if compression == Compression::None {
            return Ok(bytes);
        }
        let (mut stream, window) = self.stream(compression, &bytes)?;
        let mut decompressed = Vec::new();
        loop {
            let count = stream.read(window)?;
            match window.get(..count) {
                None | Some([]) => return Ok(decompressed.into()),
                Some(filled) => decompressed.extend_from_slice(filled),
            }
        }
    }

    /// Begins to decompress `bytes`; with it comes a window to decompress them into.
    pub(crate) fn stream<'a>(
        &'a mut self,
        compression: Compression,
        bytes: &'a [u8],
    ) -> Result<(DecompressionStream<'a>, &'a mut [u8]), DecompressionError> {
        let limit_bytes = self.limit.bytes_for(bytes.len());
        let decoder = match compression {
            Compression::None => Decoder::None(bytes),
            Compression::Gzip => Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(bytes))),
            Compression::Snappy => Decoder::Snappy(snappy::Blocks::new(bytes, &mut self.block)),
            Compression::Lz4 => {
                check_lz4_frame(bytes)?;
                Decoder::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(bytes)))
            }
            Compression::Zstd => {
                let kept = self.zstd.take().filter(|context| context.sizeof() <= ZSTD_KEPT_BYTES);
                let context = self.zstd.insert(kept.unwrap_or_else(zstd_safe::DCtx::create));
                context.reset(zstd_safe::ResetDirective::SessionOnly).map_err(|code| {
                    DecompressionError::corrupt(compression, zstd_safe::get_error_name(code))
                })?;
                Decoder::Zstd(zstd::stream::read::Decoder::with_context(bytes, context))
            }
        };
        self.window.resize(WINDOW_SIZE, 0);
        Ok((DecompressionStream { compression, decoder, left: limit_bytes, limit_bytes }, &mut self.window))
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new(DecompressionLimit::default())
    }
}

/// Checks of an LZ4 frame's header what the library would let pass and Kafka's clients cannot read.
fn check_lz4_frame(bytes: &[u8]) -> Result<(), DecompressionError> {
    const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
    const INDEPENDENT_BLOCKS: u8 = 0x20;
    let corrupt = |reason| Err(DecompressionError::corrupt(Compression::Lz4, reason));
    match bytes.split_first_chunk() {
        Some((&MAGIC, [flags, ..])) if flags & INDEPENDENT_BLOCKS == 0 => corrupt("its blocks are linked"),
        Some((&MAGIC, [_, ..])) => Ok(()),
        _ => corrupt("it does not begin with a frame"),
    }
}

/// Records in the course of decompression.
pub(crate) struct DecompressionStream<'a> {
    compression: Compression,
    decoder: Decoder<'a>,
    /// What may still come.
    left: usize,
    limit_bytes: usize,
}

enum Decoder<'a> {
    None(&'a [u8]),
    Gzip(Box<flate2::bufread::MultiGzDecoder<&'a [u8]>>),
    Snappy(snappy::Blocks<'a>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<&'a [u8]>>),
    Zstd(zstd::stream::read::Decoder<'a, &'a [u8]>),
}

impl DecompressionStream<'_> {
    /// Decompresses some more into `window`; how much, 0 at the end.
    pub(crate) fn read(&mut self, window: &mut [u8]) -> Result<usize, DecompressionError> {
        let too_large = DecompressionError::TooLarge { limit_bytes: self.limit_bytes };
        let count = match &mut self.decoder {
            Decoder::None(bytes) => bytes.read(window),
            Decoder::Gzip(decoder) => decoder.read(window),
            Decoder::Snappy(blocks) => match blocks.next_size() {
                Some(size) if size > self.left => return Err(too_large),
                _ => blocks.read(window),
            },
            Decoder::Lz4(decoder) => decoder.read(window),
            Decoder::Zstd(decoder) => decoder.read(window),
        };
        let count = count.map_err(|error| DecompressionError::corrupt(self.compression, error))?;
        self.left = self.left.checked_sub(count).ok_or(too_large)?;
        Ok(count)
    }
}
