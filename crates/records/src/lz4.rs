//! LZ4 frames as Kafka's clients write them (`Lz4BlockOutputStream`): independent blocks of 64 KiB, no checksums of
//! blocks or content.
//!
//! The default level is the fast compressor, as it is with Kafka; every other one searches longer (LZ4 HC).

use std::io::{self, Write};

use lz4::block::CompressionMode;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

/// The level that means the fast compressor.
pub(crate) const DEFAULT_LEVEL: i32 = 9;

const BLOCK_SIZE: usize = 64 << 10;
/// Magic, version 1 with independent blocks, blocks of up to 64 KiB, and the checksum of these two.
const HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
/// Set in the size of a block that is stored as it is.
const STORED: u32 = 1 << 31;

/// One frame that holds `bytes`.
pub(crate) fn compress(bytes: &[u8], level: i32) -> io::Result<Vec<u8>> {
    if level == DEFAULT_LEVEL {
        let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(bytes)?;
        return Ok(encoder.finish()?);
    }
    let mut frame = HEADER.to_vec();
    for block in bytes.chunks(BLOCK_SIZE) {
        let mode = CompressionMode::HIGHCOMPRESSION(level);
        let compressed = lz4::block::compress(block, Some(mode), false)?;
        let (size, stored) = match compressed.len() < block.len() {
            true => (block_size(&compressed), compressed.as_slice()),
            false => (block_size(block) | STORED, block),
        };
        frame.extend(size.to_le_bytes());
        frame.extend(stored);
    }
    frame.extend(0u32.to_le_bytes());
    Ok(frame)
}

fn block_size(block: &[u8]) -> u32 {
    u32::try_from(block.len()).unwrap_or_else(|_| unreachable!("a block has 64 KiB at the most"))
}
