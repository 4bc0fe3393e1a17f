//! The sparse indexes of a segment: their entries, the growing end of the active segment's, and the search in
//! a file (Kafka's `OffsetIndex`, `TimeIndex` and `AbstractIndex`).
//!
//! An index only shortens a search: every entry is a hint that is checked against the batches it leads to, so
//! that a damaged index costs time and never a wrong answer.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use dohle_types::Timestamp;

use crate::disk::{FilePath, Op};
use crate::script::Disk;

/// Entries that are gathered in memory before they are written to the index file.
const PENDING_MAX: usize = 128;
/// Entries read at once when a search has narrowed down to them: half a page of either kind.
const SEARCH_WINDOW: u32 = 256;

/// An entry of one of the two kinds.
pub(crate) trait IndexEntry: Copy + Send + Sync + 'static {
    /// Bytes in the file.
    const SIZE: usize;
    /// What the entries are sorted by.
    fn key(&self) -> i64;
    /// Appends the entry as the file has it.
    fn put(&self, buffer: &mut BytesMut);
    /// The entry that `bytes`, which are `SIZE` long, hold.
    fn parse(bytes: &[u8]) -> Option<Self>;
}

/// An entry of a `.index` file: the batch at `position` ends with `relative_offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    /// The last offset of the batch, less the segment's base offset.
    pub(crate) relative_offset: u32,
    /// Where the batch begins in the `.log` file.
    pub(crate) position: u32,
}

/// An entry of a `.timeindex` file: no record up to and including the batch that ends with `relative_offset`
/// is later than `timestamp`, and that batch has one of this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    /// The greatest timestamp so far.
    pub(crate) timestamp: Timestamp,
    /// The last offset of the first batch that has it, less the segment's base offset.
    pub(crate) relative_offset: u32,
}

impl IndexEntry for OffsetEntry {
    const SIZE: usize = 8;

    fn key(&self) -> i64 {
        i64::from(self.relative_offset)
    }

    fn put(&self, buffer: &mut BytesMut) {
        buffer.put_u32(self.relative_offset);
        buffer.put_u32(self.position);
    }

    fn parse(mut bytes: &[u8]) -> Option<Self> {
        Some(Self { relative_offset: bytes.try_get_u32().ok()?, position: bytes.try_get_u32().ok()? })
    }
}

impl IndexEntry for TimeEntry {
    const SIZE: usize = 12;

    fn key(&self) -> i64 {
        self.timestamp.0
    }

    fn put(&self, buffer: &mut BytesMut) {
        buffer.put_i64(self.timestamp.0);
        buffer.put_u32(self.relative_offset);
    }

    fn parse(mut bytes: &[u8]) -> Option<Self> {
        Some(Self {
            timestamp: Timestamp(bytes.try_get_i64().ok()?),
            relative_offset: bytes.try_get_u32().ok()?,
        })
    }
}

/// An index of the active segment: what the file has, and behind it what is still to be written.
#[derive(Debug)]
pub(crate) struct GrowingIndex<E> {
    stored: u32,
    pending: Vec<E>,
    last: Option<E>,
}

impl<E: IndexEntry> GrowingIndex<E> {
    /// An index whose file has `stored` entries, the last of them `last`.
    pub(crate) const fn new(stored: u32, last: Option<E>) -> Self {
        Self { stored, pending: Vec::new(), last }
    }

    /// Adds an entry; the caller has seen to it that its key is greater than the last one's.
    pub(crate) fn push(&mut self, entry: E) {
        assert!(self.last.is_none_or(|last| last.key() < entry.key()), "invariant 5: index keys ascend");
        self.pending.push(entry);
        self.last = Some(entry);
    }

    /// The newest entry.
    pub(crate) const fn last(&self) -> Option<E> {
        self.last
    }

    /// Entries in the file.
    pub(crate) const fn stored(&self) -> u32 {
        self.stored
    }

    /// Entries altogether.
    pub(crate) fn len(&self) -> usize {
        self.stored as usize + self.pending.len()
    }

    /// Whether enough has gathered to be worth a write.
    pub(crate) fn is_write_due(&self) -> bool {
        self.pending.len() >= PENDING_MAX
    }

    /// Writes what has gathered; also creates the file where nothing has.
    pub(crate) fn write(&mut self, path: FilePath) -> Op {
        let mut data = BytesMut::with_capacity(self.pending.len() * E::SIZE);
        for entry in &self.pending {
            entry.put(&mut data);
        }
        let position = u64::from(self.stored) * E::SIZE as u64;
        self.stored = u32::try_from(self.len()).unwrap_or(u32::MAX);
        self.pending.clear();
        Op::Write { path, position, data: data.freeze() }
    }

    /// The last pending entry whose key is at most `target`; `None` where the answer, if any, is in the file.
    pub(crate) fn find_pending(&self, target: i64) -> Option<E> {
        let after = self.pending.partition_point(|entry| entry.key() <= target);
        after.checked_sub(1).and_then(|index| self.pending.get(index)).copied()
    }
}

/// The last of the first `count` entries of an index file whose key is at most `target`.
///
/// Entries that cannot be read are taken for absent.
pub(crate) async fn search<E: IndexEntry>(
    disk: &Disk,
    path: &FilePath,
    count: u32,
    target: i64,
) -> Option<E> {
    // All entries before `low` are at most `target`, all from `high` on are greater.
    let (mut low, mut high) = (0, count);
    let mut best = None;
    while high - low > SEARCH_WINDOW {
        let middle = low + (high - low) / 2;
        let entry = entries::<E>(disk, path, middle, 1).await.first().copied()?;
        if entry.key() <= target {
            best = Some(entry);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let window = entries::<E>(disk, path, low, high - low).await;
    let after = window.partition_point(|entry| entry.key() <= target);
    after.checked_sub(1).and_then(|index| window.get(index)).copied().or(best)
}

/// Up to `count` entries of an index file from the `first` on.
pub(crate) async fn entries<E: IndexEntry>(disk: &Disk, path: &FilePath, first: u32, count: u32) -> Vec<E> {
    if count == 0 {
        return Vec::new();
    }
    let bytes = disk.read(path, u64::from(first) * E::SIZE as u64, count as usize * E::SIZE).await;
    parse(&bytes.unwrap_or_default())
}

fn parse<E: IndexEntry>(bytes: &Bytes) -> Vec<E> {
    bytes.chunks_exact(E::SIZE).filter_map(E::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Answer, Step, drive};
    use crate::script::Script;

    #[test]
    fn entries_are_laid_out_as_kafka_lays_them_out() {
        let mut offsets = GrowingIndex::new(2, None);
        offsets.push(OffsetEntry { relative_offset: 0x0102, position: 0x0304_0506 });
        let expected = Bytes::from_static(&[0, 0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(offsets.write("i".into()), Op::Write { path: "i".into(), position: 16, data: expected });
        let mut times = GrowingIndex::new(0, None);
        times.push(TimeEntry { timestamp: Timestamp(0x0a), relative_offset: 7 });
        let expected = Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 0x0a, 0, 0, 0, 7]);
        assert_eq!(times.write("t".into()), Op::Write { path: "t".into(), position: 0, data: expected });
    }

    #[test]
    fn a_search_finds_the_last_entry_at_or_below_its_target() {
        let count = 5000_u32;
        let mut file = BytesMut::new();
        for index in 0..count {
            OffsetEntry { relative_offset: index * 3 + 1, position: index }.put(&mut file);
        }
        let file = file.freeze();
        for target in [0_u32, 1, 2, 3, 4, 5, 100, 7000, 7499, 14_997, 14_998, 20_000] {
            let mut search = Script::new(|disk| async move {
                search::<OffsetEntry>(&disk, &"i".into(), count, i64::from(target)).await
            });
            let mut steps = 0;
            let found = drive(&mut search, |step| {
                steps += 1;
                let Step::Read { position, length, .. } = step else { panic!("only reads: {step:?}") };
                let from = usize::try_from(position).expect("small");
                Ok(Answer::Read(Some(file.slice(from..(from + length).min(file.len())))))
            });
            let expected = target.checked_sub(1).map(|target| (target / 3).min(count - 1));
            assert_eq!(found.expect("no fault").map(|entry| entry.position), expected, "target {target}");
            assert!(steps < 10, "{steps} reads");
        }
    }
}
