//! What compaction leaves of a batch (Kafka's `MemoryRecords.filterTo`; KIP-58, KIP-534).
//!
//! Offsets do not change, nor does the batch's first and last offset: producers' sequences are counted by them.

use bytes::Bytes;
use dohle_types::Timestamp;

use crate::build::{batch_length, put_record};
use crate::header::HEADER_SIZE;
use crate::{
    Attributes, Batch, BatchError, BatchHeader, BuildError, Compressor, Decompressor, Record, TimestampType,
};

/// The records of a batch that compaction keeps.
#[derive(Debug)]
pub struct Survivors {
    header: BatchHeader,
    records: Vec<Record>,
}

/// The records of `batch` of which `keep` is true.
///
/// # Errors
/// When the batch cannot be read.
pub fn survivors(
    batch: &Batch,
    decompressor: &mut Decompressor,
    mut keep: impl FnMut(&Record) -> bool,
) -> Result<Survivors, BatchError> {
    let mut records = Vec::new();
    for record in batch.records(decompressor)? {
        let record = record?;
        if keep(&record) {
            records.push(record);
        }
    }
    Ok(Survivors { header: *batch.header(), records })
}

impl Survivors {
    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether all are left.
    #[must_use]
    pub fn are_all(&self) -> bool {
        i32::try_from(self.records.len()) == Ok(self.header.record_count)
    }

    /// Whether one of them has no value.
    #[must_use]
    pub fn have_tombstone(&self) -> bool {
        self.records.iter().any(|record| record.value.is_none())
    }

    /// A batch of them, in the batch's compression; its tombstones and markers may go at `delete_horizon`.
    ///
    /// # Errors
    /// When they cannot be compressed, or take more than a batch may.
    pub fn build(
        &self,
        delete_horizon: Option<Timestamp>,
        compressor: &mut Compressor,
    ) -> Result<Bytes, CompactError> {
        let mut header = self.header;
        let first = self.records.first().map_or(Timestamp::NONE, |record| record.timestamp);
        header.base_timestamp = delete_horizon.unwrap_or(first);
        header.attributes = header.attributes.with_delete_horizon(delete_horizon.is_some());
        if header.attributes.timestamp_type() == TimestampType::CreateTime {
            let timestamps = self.records.iter().map(|record| record.timestamp);
            header.max_timestamp = timestamps.max().unwrap_or(Timestamp::NONE);
        }
        let (mut body, mut scratch) = (Vec::new(), Vec::new());
        for record in &self.records {
            let timestamp_delta = record.timestamp.0.wrapping_sub(header.base_timestamp.0);
            let offset_delta =
                i32::try_from(record.offset.0 - header.base_offset.0).map_err(|_| BuildError::Full)?;
            let headers: Vec<(&[u8], Option<&[u8]>)> =
                record.headers.iter().map(|header| (&*header.key, header.value.as_deref())).collect();
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            put_record(&mut body, &mut scratch, timestamp_delta, offset_delta, key, value, &headers)?;
        }
        header.record_count = i32::try_from(self.records.len()).map_err(|_| BuildError::Full)?;
        let compression = header.attributes.compression()?;
        let body = compressor.compress(compression.into(), &body).map_err(BuildError::from)?;
        Ok(whole(header, &body)?)
    }
}

/// Why a batch cannot be made of what compaction leaves.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The batch cannot be read.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The new one cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// The batch without records. It keeps its place in the log, and its producer's last sequence.
#[must_use]
pub fn emptied(batch: &BatchHeader) -> Bytes {
    let attributes = Attributes::default()
        .with_timestamp_type(batch.attributes.timestamp_type())
        .with_transactional(batch.attributes.is_transactional())
        .with_control(batch.attributes.is_control());
    let header = BatchHeader { attributes, base_timestamp: Timestamp::NONE, record_count: 0, ..*batch };
    whole(header, &[]).unwrap_or_else(|_| unreachable!("a header alone is short"))
}

/// A batch with this header, whose length and CRC follow from the body.
fn whole(mut header: BatchHeader, body: &[u8]) -> Result<Bytes, BuildError> {
    header.batch_length = batch_length(HEADER_SIZE + body.len())?;
    header.crc = header.computed_crc(body);
    Ok([header.to_bytes().as_slice(), body].concat().into())
}

#[cfg(test)]
mod tests {
    use dohle_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

    use super::*;
    use crate::{BatchBuilder, BatchOptions, Compression};

    fn batch(compression: Compression) -> Batch {
        let options = BatchOptions {
            compression: compression.into(),
            base_offset: Offset(100),
            producer_id: ProducerId(5),
            producer_epoch: ProducerEpoch(1),
            base_sequence: Sequence(7),
            transactional: true,
            partition_leader_epoch: LeaderEpoch(3),
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(options);
        builder.append(Timestamp(10), Some(b"a"), Some(b"1"), &[(b"h", Some(b"v")), (b"n", None)]).unwrap();
        builder.append(Timestamp(12), Some(b"b"), None, &[]).unwrap();
        builder.append(Timestamp(11), Some(b"c"), Some(b"3"), &[]).unwrap();
        Batch::parse(&builder.build(&mut Compressor::default()).unwrap()).unwrap()
    }

    fn records(batch: &Batch) -> Vec<Record> {
        batch.records(&mut Decompressor::default()).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn what_is_kept_is_as_it_was_in_every_compression() {
        for compression in Compression::ALL {
            let original = batch(compression);
            let all = records(&original);
            for horizon in [None, Some(Timestamp(5_000_000_000))] {
                for kept in [&[0_usize, 1, 2][..], &[1], &[0, 2], &[2]] {
                    let offsets: Vec<Offset> = kept.iter().map(|&index| all[index].offset).collect();
                    let keep = |record: &Record| offsets.contains(&record.offset);
                    let left = survivors(&original, &mut Decompressor::default(), keep).unwrap();
                    assert_eq!((left.are_all(), left.have_tombstone()), (kept.len() == 3, kept.contains(&1)));
                    let built = left.build(horizon, &mut Compressor::default()).unwrap();
                    let built = Batch::parse(&built).unwrap();
                    assert!(built.crc_is_valid());
                    assert_eq!(built.header().delete_horizon(), horizon);
                    let expected: Vec<Record> = kept.iter().map(|&index| all[index].clone()).collect();
                    assert_eq!(records(&built), expected, "{compression} {horizon:?} {kept:?}");
                    let max = expected.iter().map(|record| record.timestamp).max().unwrap();
                    let header = BatchHeader {
                        batch_length: built.header().batch_length,
                        crc: built.header().crc,
                        attributes: built.header().attributes,
                        base_timestamp: built.header().base_timestamp,
                        max_timestamp: max,
                        record_count: i32::try_from(kept.len()).unwrap(),
                        ..*original.header()
                    };
                    assert_eq!(*built.header(), header);
                }
            }
        }
    }

    #[test]
    fn an_emptied_batch_keeps_its_offsets_and_its_producers_sequence() {
        let original = batch(Compression::Zstd);
        let emptied = Batch::parse(&emptied(original.header())).unwrap();
        assert!(emptied.crc_is_valid() && emptied.header().attributes.is_transactional());
        assert_eq!(emptied.bytes().len(), HEADER_SIZE);
        assert_eq!(records(&emptied), []);
        let (before, after) = (original.header(), emptied.header());
        assert_eq!(
            (after.base_offset, after.last_offset(), after.last_sequence(), after.max_timestamp),
            (before.base_offset, before.last_offset(), before.last_sequence(), before.max_timestamp)
        );
    }
}
