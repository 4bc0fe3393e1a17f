//! The form of record values by which a record is recognised and the smallest damage to it is seen: the record's
//! identity, the value's length, and filler that follows from both.

use bytes::Bytes;
use dohle_types::Rng;

use crate::RecordId;

/// The shortest value: identity and length.
pub const LENGTH_MIN: usize = 16;

/// The value of a record, `length` bytes long (at least [`LENGTH_MIN`]).
#[must_use]
pub fn encode(record: RecordId, length: usize) -> Bytes {
    let length = length.max(LENGTH_MIN);
    let mut value = Vec::with_capacity(length + 8);
    value.extend_from_slice(&record.producer.to_be_bytes());
    value.extend_from_slice(&record.number.to_be_bytes());
    value.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    let mut filler = Rng::from_seed(record.number ^ u64::from(record.producer) << 40);
    while value.len() < length {
        // Few different letters, so that compression has something to do.
        value.extend_from_slice(&(filler.next_u64() & 0x0707_0707_0707_0707).to_be_bytes());
    }
    value.truncate(length);
    Bytes::from(value)
}

/// The record whose value this is.
///
/// # Errors
/// What is wrong with a value that no record has.
pub fn decode(value: &[u8]) -> Result<RecordId, String> {
    let parts = value
        .split_first_chunk()
        .and_then(|(producer, rest)| Some((producer, rest.split_first_chunk()?)))
        .and_then(|(producer, (number, rest))| Some((producer, number, rest.first_chunk()?)));
    let Some((producer, number, length)) = parts else {
        return Err(format!("it has {} bytes, and none is that short", value.len()));
    };
    let record = RecordId { producer: u32::from_be_bytes(*producer), number: u64::from_be_bytes(*number) };
    let length = u32::from_be_bytes(*length) as usize;
    if length != value.len() {
        return Err(format!("it says of itself that it has {length} bytes and has {}", value.len()));
    }
    match encode(record, length).iter().zip(value).position(|(expected, found)| expected != found) {
        Some(position) => Err(format!("byte {position} of the value of {record} is another")),
        None => Ok(record),
    }
}
