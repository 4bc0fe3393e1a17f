//! The transaction index of a segment: which transactions were aborted by a marker in it, so that a
//! `read_committed` consumer is told whose records to pass over (Kafka's `TransactionIndex` and `AbortedTxn`, KIP-98).
//!
//! Most segments have none, and then no file. Unlike the sparse indexes it is no hint: an entry that is missing
//! would show aborted records. It is therefore written with the marker, made durable with it, and made anew with the
//! segment it belongs to by recovery.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use dohle_records::BatchHeader;
use dohle_types::{Offset, ProducerId};

use crate::append::EndTxn;
use crate::disk::{Answer, FilePath, Job, Op, Progress};
use crate::index::{self, IndexEntry};
use crate::log::Log;
use crate::producer_state::ProducerStates;
use crate::script::{Disk, Script};
use crate::segment::{Segment, TXN_INDEX_SUFFIX, file};

/// The version that entries begin with.
const VERSION: i16 = 0;
/// Entries that are read at a time.
const CHUNK_ENTRIES: u32 = 1024;

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTxn {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// Its first record.
    pub first_offset: Offset,
    /// Its marker.
    pub last_offset: Offset,
    /// The last stable offset once the marker was written: no transaction that ends later begins before it.
    pub last_stable_offset: Offset,
}

impl AbortedTxn {
    /// Whether it has records, or its marker, in `from..upper_bound`.
    fn overlaps(&self, from: Offset, upper_bound: Offset) -> bool {
        self.last_offset >= from && self.first_offset < upper_bound
    }
}

impl IndexEntry for AbortedTxn {
    const SIZE: usize = 34;

    fn key(&self) -> i64 {
        self.last_offset.0
    }

    fn put(&self, buffer: &mut BytesMut) {
        buffer.put_i16(VERSION);
        buffer.put_i64(self.producer_id.0);
        buffer.put_i64(self.first_offset.0);
        buffer.put_i64(self.last_offset.0);
        buffer.put_i64(self.last_stable_offset.0);
    }

    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let _version = bytes.try_get_i16().ok()?;
        Some(Self {
            producer_id: ProducerId(bytes.try_get_i64().ok()?),
            first_offset: Offset(bytes.try_get_i64().ok()?),
            last_offset: Offset(bytes.try_get_i64().ok()?),
            last_stable_offset: Offset(bytes.try_get_i64().ok()?),
        })
    }
}

/// Entries as the file has them.
pub(crate) fn encode<'a>(entries: impl IntoIterator<Item = &'a AbortedTxn>) -> Bytes {
    let mut data = BytesMut::new();
    for entry in entries {
        entry.put(&mut data);
    }
    data.freeze()
}

/// Takes note of a marker; the entry it calls for, where it aborted a transaction.
pub(crate) fn note_marker(
    producers: &mut ProducerStates,
    header: &BatchHeader,
    marker: EndTxn,
) -> Option<AbortedTxn> {
    let ended = producers.note_marker(header, marker.coordinator_epoch)?;
    marker.is_abort.then(|| AbortedTxn {
        producer_id: header.producer_id,
        first_offset: ended.first_offset,
        last_offset: header.last_offset(),
        last_stable_offset: ended.first_open.unwrap_or_else(|| header.next_offset()),
    })
}

/// Adds an entry to the index of the segment that its marker is in.
pub(crate) fn append(segment: &mut Segment, dir: &str, entry: &AbortedTxn) -> Op {
    let path = file(dir, segment.base, TXN_INDEX_SUFFIX);
    let position = u64::from(segment.aborted_txns) * AbortedTxn::SIZE as u64;
    segment.aborted_txns += 1;
    Op::Write { path, position, data: encode([entry]) }
}

/// The part of a transaction index that is in a file.
#[derive(Debug, Clone)]
pub(crate) struct TxnIndexView {
    path: FilePath,
    count: u32,
}

impl TxnIndexView {
    pub(crate) fn new(dir: &str, segment: &Segment) -> Self {
        Self { path: file(dir, segment.base, TXN_INDEX_SUFFIX), count: segment.aborted_txns }
    }
}

/// Finds the aborted transactions of a range of offsets.
pub struct FindAborted(Script<Vec<AbortedTxn>>);

impl std::fmt::Debug for FindAborted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FindAborted")
    }
}

impl Job for FindAborted {
    type Output = Vec<AbortedTxn>;

    fn start(&mut self) -> Progress<Self::Output> {
        self.0.start()
    }

    fn resume(&mut self, answer: Answer) -> Progress<Self::Output> {
        self.0.resume(answer)
    }
}

impl Log {
    /// Looks for the transactions that were aborted and have records in `from..upper_bound`; `None` where there
    /// surely are none, which is nearly always.
    #[must_use]
    pub fn find_aborted(&self, from: Offset, upper_bound: Offset) -> Option<FindAborted> {
        if from > self.last_abort {
            return None;
        }
        let views = self.txn_indexes(from);
        if views.is_empty() {
            return None;
        }
        let views = views.into_iter().map(|(_, view)| view).collect();
        Some(FindAborted(Script::new(|disk| find_aborted(disk, views, from, upper_bound))))
    }

    /// The end of the last segment with an abort in it.
    pub(crate) fn last_abort_by_segments(&self) -> Offset {
        let index = self.segments.iter().rposition(|segment| segment.aborted_txns > 0);
        index.map_or(Offset(-1), |index| self.segment_end(index).plus(-1))
    }

    /// The indexes that may tell of transactions with records at or above `from`, by their segments.
    pub(crate) fn txn_indexes(&self, from: Offset) -> Vec<(Offset, TxnIndexView)> {
        let first = self.segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        let segments = self.segments.iter().skip(first).filter(|segment| segment.aborted_txns > 0);
        segments.map(|segment| (segment.base, TxnIndexView::new(&self.dir, segment))).collect()
    }
}

/// The aborted transactions of a range, by their markers.
pub(crate) async fn find_aborted(
    disk: Disk,
    indexes: Vec<TxnIndexView>,
    from: Offset,
    upper_bound: Offset,
) -> Vec<AbortedTxn> {
    let mut found = Vec::new();
    for TxnIndexView { path, count } in indexes {
        let mut next = 0;
        while next < count {
            let chunk: Vec<AbortedTxn> =
                index::entries(&disk, &path, next, CHUNK_ENTRIES.min(count - next)).await;
            if chunk.is_empty() {
                break;
            }
            next += u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            for entry in chunk {
                if entry.overlaps(from, upper_bound) {
                    found.push(entry);
                }
                // What ends later begins at or after this.
                if entry.last_stable_offset >= upper_bound {
                    return found;
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_laid_out_as_kafka_lays_it_out() {
        let entry = AbortedTxn {
            producer_id: ProducerId(1),
            first_offset: Offset(2),
            last_offset: Offset(3),
            last_stable_offset: Offset(4),
        };
        let bytes = encode([&entry]);
        let expected: Vec<u8> = [vec![0, 0], 1_i64.to_be_bytes().into(), 2_i64.to_be_bytes().into()].concat();
        assert_eq!(bytes.get(..18), Some(expected.as_slice()));
        assert_eq!(bytes.len(), AbortedTxn::SIZE);
        assert_eq!(AbortedTxn::parse(&bytes), Some(entry));
    }
}
