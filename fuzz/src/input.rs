//! The form of the inputs: a list of pieces, each of a small head and some bytes, so that a change to one leaves the
//! others as they are.

use dohle_records::header::{
    ATTRIBUTES_POSITION, CRC_POSITION, HEADER_SIZE, LENGTH_POSITION, LOG_OVERHEAD, MAGIC_POSITION,
};

/// A piece of an input. What the numbers of its head mean is the target's affair.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The head.
    pub head: [u8; 3],
    /// The rest.
    pub bytes: Vec<u8>,
}

/// The pieces of any input.
#[must_use]
pub fn pieces(mut data: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while let Some((&[a, b, c, high, low], rest)) = data.split_first_chunk() {
        let (bytes, rest) = rest.split_at(rest.len().min(u16::from_be_bytes([high, low]).into()));
        pieces.push(Piece { head: [a, b, c], bytes: bytes.to_vec() });
        data = rest;
    }
    pieces
}

/// The input that has these pieces.
#[must_use]
pub fn join(pieces: &[Piece]) -> Vec<u8> {
    let mut data = Vec::new();
    for Piece { head, bytes } in pieces {
        let length = u16::try_from(bytes.len()).expect("a piece has less than 64 KiB");
        data.extend_from_slice(head);
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(bytes);
    }
    data
}

/// Gives the batches that `bytes` seem to begin with the CRC that they should have: a fuzzer does not find it.
pub fn repair_checksums(mut bytes: &mut [u8]) {
    while bytes.len() >= HEADER_SIZE {
        let length = i32::from_be_bytes(bytes[LENGTH_POSITION..LOG_OVERHEAD].try_into().unwrap());
        let size = usize::try_from(length).unwrap_or(0).saturating_add(LOG_OVERHEAD);
        if size < HEADER_SIZE || size > bytes.len() || bytes[MAGIC_POSITION] != 2 {
            return;
        }
        let (batch, rest) = std::mem::take(&mut bytes).split_at_mut(size);
        let crc = crc32c::crc32c(&batch[ATTRIBUTES_POSITION..]);
        batch[CRC_POSITION..ATTRIBUTES_POSITION].copy_from_slice(&crc.to_be_bytes());
        bytes = rest;
    }
}
