//! Changing a batch's compression, for topics whose `compression.type` is not `producer`.

use bytes::Bytes;

use crate::build::batch_length;
use crate::header::HEADER_SIZE;
use crate::{Batch, BatchError, BuildError, CompressionTarget, Compressor, Decompressor};

/// Why a batch cannot be recompressed.
#[derive(Debug, thiserror::Error)]
pub enum RecompressError {
    /// The batch cannot be read.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The new batch cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// The batch with its records under `target`; all else in its header stays, but for length and CRC.
///
/// The records have the same form under every compression, so they are not taken apart.
pub fn recompress(
    batch: &Batch,
    target: CompressionTarget,
    decompressor: &mut Decompressor,
    compressor: &mut Compressor,
) -> Result<Bytes, RecompressError> {
    let mut header = *batch.header();
    let compression = header.attributes.compression()?;
    let records = decompressor.decompress(compression, batch.body()).map_err(BatchError::from)?;
    let body = compressor.compress(target, &records).map_err(BuildError::from)?;
    header.attributes = header.attributes.with_compression(target.compression);
    header.batch_length = batch_length(HEADER_SIZE + body.len())?;
    header.crc = header.computed_crc(&body);
    Ok([header.to_bytes().as_slice(), &body].concat().into())
}
