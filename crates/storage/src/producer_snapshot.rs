//! The `.snapshot` file: the producers of a log at an offset, so that recovery need not read the log from its
//! start (Kafka's `ProducerSnapshot` schema, version 1).
//!
//! Differs from Kafka: an entry is written for each batch that is remembered of a producer, oldest first, and not
//! for the last one alone. What a client had in flight when the node ended is thus recognised when it is sent
//! again. Kafka reads such a file as well: of several entries for a producer it keeps the last.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use dohle_types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::producer_state::{ProducerBatch, ProducerState};

const VERSION: i16 = 1;
/// Version and CRC; the CRC covers what comes after.
const PREFIX_SIZE: usize = 6;
const ENTRY_SIZE: usize = 46;

/// Why a file is not a producer snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSnapshot {
    /// It ends too early, or goes on after its last entry.
    #[error("its length does not fit its number of entries")]
    Length,
    /// It is of another version.
    #[error("its version is {0}, but only version 1 is known")]
    Version(i16),
    /// Its bytes changed since it was written.
    #[error("its CRC does not match its bytes")]
    Crc,
}

/// The file's content.
pub fn encode<'a>(states: impl Iterator<Item = (ProducerId, &'a ProducerState)>) -> Bytes {
    let mut entries = BytesMut::new();
    let mut count = 0_i32;
    for (producer_id, state) in states {
        let earlier = state.earlier_batches().map(|batch| (Some(batch), batch.timestamp));
        for (batch, timestamp) in earlier.chain([(state.last_batch(), state.last_timestamp)]) {
            entries.put_i64(producer_id.0);
            entries.put_i16(state.epoch.0);
            entries.put_i32(batch.map_or(-1, |batch| batch.last_sequence.0));
            entries.put_i64(batch.map_or(-1, |batch| batch.last_offset.0));
            entries.put_i32(batch.map_or(0, |batch| batch.offset_delta));
            entries.put_i64(timestamp.0);
            entries.put_i32(state.coordinator_epoch);
            entries.put_i64(state.transaction_start.map_or(-1, |offset| offset.0));
            count += 1;
        }
    }
    let mut file = BytesMut::with_capacity(PREFIX_SIZE + 4 + entries.len());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&count.to_be_bytes()), &entries);
    file.put_i16(VERSION);
    file.put_u32(crc);
    file.put_i32(count);
    file.put(entries);
    file.freeze()
}

/// The producers in a file.
///
/// # Errors
/// When the file is damaged or of another version.
pub fn decode(file: &[u8]) -> Result<Vec<(ProducerId, ProducerState)>, InvalidSnapshot> {
    let mut fields = file;
    let version = fields.try_get_i16().map_err(|_| InvalidSnapshot::Length)?;
    if version != VERSION {
        return Err(InvalidSnapshot::Version(version));
    }
    let crc = fields.try_get_u32().map_err(|_| InvalidSnapshot::Length)?;
    if crc32c::crc32c(fields) != crc {
        return Err(InvalidSnapshot::Crc);
    }
    let count = fields.try_get_i32().map_err(|_| InvalidSnapshot::Length)?;
    if usize::try_from(count).ok().and_then(|count| count.checked_mul(ENTRY_SIZE)) != Some(fields.len()) {
        return Err(InvalidSnapshot::Length);
    }
    let mut states: Vec<(ProducerId, ProducerState)> = Vec::new();
    for (producer_id, state) in fields.chunks_exact(ENTRY_SIZE).map(decode_entry) {
        match states.last_mut() {
            Some((last, earlier)) if *last == producer_id => earlier.succeed_by(state),
            _ => states.push((producer_id, state)),
        }
    }
    Ok(states)
}

/// Reads one entry; `entry` is as long as one.
fn decode_entry(mut entry: &[u8]) -> (ProducerId, ProducerState) {
    let producer_id = ProducerId(entry.get_i64());
    let epoch = ProducerEpoch(entry.get_i16());
    let last_sequence = Sequence(entry.get_i32());
    let last_offset = Offset(entry.get_i64());
    let offset_delta = entry.get_i32();
    let timestamp = Timestamp(entry.get_i64());
    let coordinator_epoch = entry.get_i32();
    let transaction_start = Offset(entry.get_i64());
    let last_batch = (last_offset >= Offset::ZERO).then_some(ProducerBatch {
        last_sequence,
        last_offset,
        offset_delta,
        timestamp,
    });
    let transaction_start = (transaction_start >= Offset::ZERO).then_some(transaction_start);
    (producer_id, ProducerState::new(epoch, coordinator_epoch, timestamp, transaction_start, last_batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states() -> Vec<(ProducerId, ProducerState)> {
        let batch = ProducerBatch {
            last_sequence: Sequence(9),
            last_offset: Offset(0x0109),
            offset_delta: 9,
            timestamp: Timestamp(0x0abc),
        };
        vec![
            (
                ProducerId(1),
                ProducerState::new(
                    ProducerEpoch(2),
                    -1,
                    Timestamp(0x0abc),
                    Some(Offset(0x0100)),
                    Some(batch),
                ),
            ),
            (ProducerId(5), ProducerState::new(ProducerEpoch(0), 4, Timestamp(77), None, None)),
        ]
    }

    #[test]
    fn all_batches_that_are_remembered_come_back_and_the_last_one_stands_last() {
        let batch = |last: i32| ProducerBatch {
            last_sequence: Sequence(last),
            last_offset: Offset(i64::from(last) + 100),
            offset_delta: 9,
            timestamp: Timestamp(i64::from(last)),
        };
        let state = |last| {
            ProducerState::new(ProducerEpoch(2), -1, Timestamp(i64::from(last)), None, Some(batch(last)))
        };
        let mut busy = state(9);
        for last in [19, 29, 39, 49, 59] {
            busy.succeed_by(state(last));
        }
        let states = vec![(ProducerId(3), busy), (ProducerId(4), state(9))];
        let file = encode(states.iter().map(|(id, state)| (*id, state)));
        assert_eq!(file[6..10], [0, 0, 0, 6], "five batches of one producer and one of the other");
        let fifth = &file[10 + 4 * ENTRY_SIZE..][..ENTRY_SIZE];
        assert_eq!(decode_entry(fifth), (ProducerId(3), state(59)), "what Kafka makes of it");
        assert_eq!(decode(&file), Ok(states));
    }

    #[test]
    fn the_file_is_laid_out_as_kafka_lays_it_out() {
        let states = states();
        let file = encode(states.iter().map(|(id, state)| (*id, state)));
        let mut expected = vec![0, 1];
        expected.extend(crc32c::crc32c(&file[6..]).to_be_bytes());
        expected.extend([0, 0, 0, 2]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend([0, 2]);
        expected.extend([0, 0, 0, 9]);
        expected.extend([0, 0, 0, 0, 0, 0, 1, 9]);
        expected.extend([0, 0, 0, 9]);
        expected.extend([0, 0, 0, 0, 0, 0, 0x0a, 0xbc]);
        expected.extend([0xff, 0xff, 0xff, 0xff]);
        expected.extend([0, 0, 0, 0, 0, 0, 1, 0]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 5]);
        expected.extend([0, 0]);
        expected.extend([0xff, 0xff, 0xff, 0xff]);
        expected.extend([0xff; 8]);
        expected.extend([0, 0, 0, 0]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 77]);
        expected.extend([0, 0, 0, 4]);
        expected.extend([0xff; 8]);
        assert_eq!(file, expected);
        assert_eq!(decode(&file), Ok(states));
    }

    #[test]
    fn damage_is_noticed() {
        let states = states();
        let file = encode(states.iter().map(|(id, state)| (*id, state)));
        for length in 0..file.len() {
            assert!(decode(&file[..length]).is_err(), "cut to {length}");
        }
        for at in 0..file.len() {
            let mut damaged = file.to_vec();
            damaged[at] ^= 0x10;
            assert!(decode(&damaged).is_err(), "flipped at {at}");
        }
        assert_eq!(decode(&encode(std::iter::empty())), Ok(Vec::new()));
    }
}
