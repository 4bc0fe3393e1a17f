//! The bytes of a journal's file: a block that says what it is, and after it records, each one commit cycle's.
//!
//! A record begins at a block: a head, a table of what is in it, the bytes, zeros up to the next block. Numbers are
//! big-endian. The checksums (CRC-32C) begin with the salt of the file's first block. The head's is over head and
//! table; each entry of the table has that of its bytes, so that damage to some is told from damage to others.

use bytes::{Bytes, BytesMut};
use dohle_types::{Offset, PartitionIndex, TopicId};
use uuid::Uuid;

use super::LogId;

/// What a record begins at, and what a page of the cache has: whole ones are written without being read first.
pub const BLOCK: u64 = 4096;

/// Bytes that say what a file is, and the salt of its records.
pub const PART_SIZE: usize = 20;
/// Bytes of a record's head.
pub const HEAD_SIZE: usize = 24;
/// Bytes of an entry in its table.
pub const ENTRY_SIZE: usize = 48;

const PART_MAGIC: &[u8; 8] = b"DohleJ\x00\x01";
const RECORD_MAGIC: &[u8; 4] = b"DohR";

/// Consecutive records of a log, as a journal's record has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Whose they are.
    pub log: LogId,
    /// The segment.
    pub base: Offset,
    /// Where in the segment's `.log`.
    pub position: u32,
    /// How many bytes.
    pub length: u32,
    /// The offset after the last.
    pub end: Offset,
    /// The checksum of the bytes.
    pub crc: u32,
}

/// The head of a record and its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub sequence: u64,
    /// What is in it; the bytes follow in this order.
    pub entries: Vec<Entry>,
}

/// Bytes that a record takes with so many entries of so many bytes together.
#[must_use]
pub const fn size(entries: usize, bytes: u64) -> u64 {
    ((HEAD_SIZE + entries * ENTRY_SIZE) as u64 + bytes).next_multiple_of(BLOCK)
}

/// The first block of a file, whose records have this salt.
#[must_use]
pub fn encode_part(salt: u64) -> Bytes {
    let mut block = BytesMut::with_capacity(PART_SIZE);
    block.extend_from_slice(PART_MAGIC);
    block.extend_from_slice(&salt.to_be_bytes());
    let crc = crc32c::crc32c(&block);
    block.extend_from_slice(&crc.to_be_bytes());
    block.freeze()
}

/// The salt in the first block of a file; `None` where it is none of a journal's.
#[must_use]
pub fn decode_part(block: &[u8]) -> Option<u64> {
    let (content, crc) = (block.get(..16)?, block.get(16..PART_SIZE)?);
    let salt = content.strip_prefix(PART_MAGIC)?;
    (crc32c::crc32c(content).to_be_bytes() == crc).then(|| number::<8>(salt, 0).map(u64::from_be_bytes))?
}

/// A record. The entries' checksums are made here.
#[must_use]
pub fn encode(salt: u64, sequence: u64, pieces: &[(Entry, Bytes)]) -> Bytes {
    let payload: u64 = pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let size = usize::try_from(size(pieces.len(), payload)).unwrap_or(usize::MAX);
    let mut record = BytesMut::with_capacity(size);
    record.extend_from_slice(RECORD_MAGIC);
    record.extend_from_slice(&[0; 4]);
    record.extend_from_slice(&sequence.to_be_bytes());
    record.extend_from_slice(&u32::try_from(pieces.len()).unwrap_or(u32::MAX).to_be_bytes());
    record.extend_from_slice(&[0; 4]);
    for (entry, bytes) in pieces {
        record.extend_from_slice(entry.log.topic_id.0.as_bytes());
        record.extend_from_slice(&entry.log.partition.0.to_be_bytes());
        record.extend_from_slice(&entry.base.0.to_be_bytes());
        record.extend_from_slice(&entry.position.to_be_bytes());
        record.extend_from_slice(&entry.length.to_be_bytes());
        record.extend_from_slice(&entry.end.0.to_be_bytes());
        record.extend_from_slice(&checksum(salt, bytes).to_be_bytes());
    }
    let crc = checksum(salt, record.get(8..).unwrap_or_default());
    if let Some(field) = record.get_mut(4..8) {
        field.copy_from_slice(&crc.to_be_bytes());
    }
    for (_, bytes) in pieces {
        record.extend_from_slice(bytes);
    }
    record.resize(size, 0);
    record.freeze()
}

/// Bytes that head and table take; `None` where no record begins here. `bytes` has at least the head.
#[must_use]
pub fn head_size(bytes: &[u8]) -> Option<usize> {
    bytes.strip_prefix(RECORD_MAGIC)?;
    let entries = u32::from_be_bytes(number(bytes, 16)?);
    usize::try_from(entries).ok()?.checked_mul(ENTRY_SIZE)?.checked_add(HEAD_SIZE)
}

/// The head and the table; `None` where they are not as they were written. `bytes` has all of both.
#[must_use]
pub fn decode_head(salt: u64, bytes: &[u8]) -> Option<Head> {
    let bytes = bytes.get(..head_size(bytes)?)?;
    if checksum(salt, bytes.get(8..)?).to_be_bytes() != number(bytes, 4)? {
        return None;
    }
    let sequence = u64::from_be_bytes(number(bytes, 8)?);
    let entries =
        bytes.get(HEAD_SIZE..)?.chunks_exact(ENTRY_SIZE).map(decode_entry).collect::<Option<_>>()?;
    Some(Head { sequence, entries })
}

fn decode_entry(bytes: &[u8]) -> Option<Entry> {
    Some(Entry {
        log: LogId {
            topic_id: TopicId(Uuid::from_bytes(number(bytes, 0)?)),
            partition: PartitionIndex(i32::from_be_bytes(number(bytes, 16)?)),
        },
        base: Offset(i64::from_be_bytes(number(bytes, 20)?)),
        position: u32::from_be_bytes(number(bytes, 28)?),
        length: u32::from_be_bytes(number(bytes, 32)?),
        end: Offset(i64::from_be_bytes(number(bytes, 36)?)),
        crc: u32::from_be_bytes(number(bytes, 44)?),
    })
}

/// The checksum of an entry's bytes.
#[must_use]
pub fn checksum(salt: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_be_bytes()), bytes)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(partition: i32, position: u32, bytes: Vec<u8>) -> (Entry, Bytes) {
        let log = LogId { topic_id: TopicId(Uuid::from_u128(7)), partition: PartitionIndex(partition) };
        let length = u32::try_from(bytes.len()).unwrap();
        let entry = Entry { log, base: Offset(40), position, length, end: Offset(50), crc: 0 };
        (entry, bytes.into())
    }

    #[test]
    fn the_layout_is_the_one_that_is_described() {
        let block = encode_part(0x0102_0304_0506_0708);
        assert_eq!(&block[..16], b"DohleJ\x00\x01\x01\x02\x03\x04\x05\x06\x07\x08");
        let record = encode(5, 9, &[piece(3, 17, vec![1, 2, 3])]);
        assert_eq!(record.len(), 4096);
        assert_eq!(&record[..4], b"DohR");
        assert_eq!(&record[8..24], [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0]);
        let entry = &record[24..72];
        assert_eq!(entry[15..20], [7, 0, 0, 0, 3]);
        assert_eq!(entry[20..28], 40_i64.to_be_bytes());
        assert_eq!(entry[28..36], [0, 0, 0, 17, 0, 0, 0, 3]);
        assert_eq!(entry[36..44], 50_i64.to_be_bytes());
        assert_eq!(&record[72..76], [1, 2, 3, 0]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_what_was_changed_is_not(
            pieces in prop::collection::vec((0..5, any::<u32>(), prop::collection::vec(any::<u8>(), 0..300)), 0..100),
            salt: u64,
            sequence: u64,
            flip: prop::sample::Index,
        ) {
            let pieces: Vec<_> = pieces.into_iter().map(|(log, at, bytes)| piece(log, at, bytes)).collect();
            let record = encode(salt, sequence, &pieces);
            let payload = pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum();
            prop_assert_eq!(record.len() as u64, size(pieces.len(), payload));
            let head = decode_head(salt, &record).unwrap();
            prop_assert_eq!(head.sequence, sequence);
            let expected: Vec<Entry> =
                pieces.iter().map(|(entry, bytes)| Entry { crc: checksum(salt, bytes), ..*entry }).collect();
            prop_assert_eq!(&head.entries, &expected);
            prop_assert_eq!(decode_head(salt ^ 1, &record), None);
            let mut changed = record.to_vec();
            let at = flip.index(head_size(&record).unwrap());
            changed[at] ^= 1;
            prop_assert_eq!(decode_head(salt, &changed), None);
            prop_assert_eq!(decode_part(&encode_part(salt)), Some(salt));
        }

        #[test]
        fn whatever_the_bytes_are_decoding_ends(bytes in prop::collection::vec(any::<u8>(), 0..200), salt: u64) {
            let with_magic = [RECORD_MAGIC.as_slice(), &bytes].concat();
            prop_assert_eq!(decode_head(salt, &with_magic), None);
            prop_assert_eq!(decode_part(&bytes), None);
        }
    }
}
