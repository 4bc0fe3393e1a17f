//! Where recovery begins within a segment. What lies below the recovery point was durable when the crash came, and is
//! not read again: of the indexes the beginning is kept that is sound, and behind it the headers are read up to the
//! recovery point.
//!
//! The last entry of the time index that is sound and true decides. Up to its batch it is known what the greatest
//! timestamp is, behind it entries may be missing: they are written together and from time to time, and a power loss
//! takes what it likes of them. So the headers are read from the last entry of the offset index that is not behind it.
//! Where one of these is damaged, nothing is kept of its index, and the headers are read from the beginning.
//!
//! Where the headers do not lead to the recovery point, or the transaction index is damaged, nothing of the segment is
//! believed: it is scanned as a whole, which finds out what is wrong.

use dohle_types::Offset;

use crate::disk::{FilePath, Op};
use crate::index::{self, GrowingIndex, IndexEntry, OffsetEntry, TimeEntry};
use crate::open::{Listing, Opener, Opening};
use crate::segment::{Active, INDEX_SUFFIX, Segment, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX, file};
use crate::timestamp_lookup::is_right;
use crate::txn_index::AbortedTxn;
use crate::walk::{SegmentView, Walk};

/// Entries of an index that are read at a time.
const CHUNK_ENTRIES: u32 = 4096;

/// A segment up to the recovery point, as if it ended there.
pub(crate) struct Resumed {
    pub(crate) segment: Segment,
    pub(crate) active: Active,
    /// The offset after its last batch.
    pub(crate) end: Offset,
}

/// The sound beginning of an index.
struct Sound<E> {
    entries: u32,
    last: Option<E>,
}

impl<E> Sound<E> {
    const NONE: Self = Self { entries: 0, last: None };
}

impl Opener {
    /// What is believed of the segment that the recovery point lies in; `None` where nothing is.
    pub(crate) async fn resume(
        &self,
        listing: &Listing,
        base: Offset,
        length: u64,
        recovery_point: Offset,
    ) -> Option<Resumed> {
        let whole = self.segment(listing, base, length).await;
        let view = SegmentView::new(&self.opening.dir, &whole);
        let aborted = self.sound_aborted(&whole, recovery_point).await?;
        let times = self.sound_times(&whole, &view, recovery_point).await;
        let bound = times.last.map(|time| time.relative_offset);
        let (offsets, walk) = self.sound_offsets(&whole, &view, bound).await;

        let mut segment = Segment::new(base, self.opening.now.wall);
        segment.aborted_txns = aborted.entries;
        segment.offset_entries = offsets.entries;
        segment.time_entries = times.entries;
        if let Some(time) = times.last {
            segment.max_timestamp = time.timestamp;
            segment.max_timestamp_offset = view.absolute(time.relative_offset);
        }
        segment.size = offsets.last.map_or(0, |entry| entry.position);
        let first = Walk::new(&self.disk, &view).next().await.ok()?;
        if let Some(first) = first.filter(|_| segment.size > 0) {
            segment.first_timestamp = first.header.max_timestamp;
        }
        let mut active = Active::new(&self.opening.dir, base, self.opening.now.wall);
        active.is_file_created = true;
        active.first_timestamp = first.map(|found| found.header.max_timestamp);
        active.index = GrowingIndex::new(offsets.entries, offsets.last);
        active.time_index = GrowingIndex::new(times.entries, times.last);
        self.cut_index::<OffsetEntry>(listing, base, INDEX_SUFFIX, offsets.entries).await;
        self.cut_index::<TimeEntry>(listing, base, TIME_INDEX_SUFFIX, times.entries).await;

        let mut resumed = Resumed { segment, active, end: base };
        self.walk_up_to(&mut resumed, walk, offsets.last.is_some(), recovery_point).await?;
        Some(resumed)
    }

    /// Takes note of the batches below the recovery point; `None` where they do not lead there. The first of them may
    /// have any offset where an entry of the index leads to it.
    async fn walk_up_to(
        &self,
        resumed: &mut Resumed,
        mut walk: Walk,
        by_entry: bool,
        recovery_point: Offset,
    ) -> Option<()> {
        let Opening { dir, config, .. } = &self.opening;
        let Resumed { segment, active, end } = resumed;
        let mut is_placed = by_entry || self.compacted();
        while let Some(found) = walk.next().await.ok()? {
            let header = &found.header;
            if header.next_offset() > recovery_point {
                break;
            }
            if !is_placed && header.base_offset != *end {
                return None;
            }
            is_placed = self.compacted();
            active.note(segment, header, config.index_interval_bytes);
            if active.index.is_write_due() || active.time_index.is_write_due() {
                for op in active.write_indexes(segment, dir) {
                    self.disk.apply(op).await;
                }
            }
            *end = header.next_offset();
        }
        (*end == recovery_point || self.compacted()).then_some(())
    }

    /// The transactions that were aborted below the recovery point; `None` where the index is damaged.
    async fn sound_aborted(&self, segment: &Segment, recovery_point: Offset) -> Option<Sound<AbortedTxn>> {
        let path = file(&self.opening.dir, segment.base, TXN_INDEX_SUFFIX);
        let count = segment.aborted_txns;
        let follows = |last: Option<AbortedTxn>, next: AbortedTxn| {
            next.last_offset < recovery_point
                && last.map_or(segment.base, |last| last.last_offset.plus(1)) <= next.last_offset
        };
        let sound = self.sound(&path, count, follows).await;
        let next: Vec<AbortedTxn> =
            index::entries(&self.disk, &path, sound.entries, u32::from(sound.entries < count)).await;
        next.iter().all(|next| next.last_offset >= recovery_point).then_some(sound)
    }

    async fn sound_times(
        &self,
        segment: &Segment,
        view: &SegmentView,
        recovery_point: Offset,
    ) -> Sound<TimeEntry> {
        let path = file(&self.opening.dir, segment.base, TIME_INDEX_SUFFIX);
        let follows = |last: Option<TimeEntry>, next: TimeEntry| {
            view.absolute(next.relative_offset) < recovery_point
                && last.is_none_or(|last| {
                    last.timestamp < next.timestamp && last.relative_offset < next.relative_offset
                })
        };
        let sound = self.sound(&path, segment.time_entries, follows).await;
        let Some(last) = sound.last else { return sound };
        let entry = view.find_offset(&self.disk, view.absolute(last.relative_offset)).await;
        let is_true = matches!(is_right(&self.disk, view, entry, last).await, Ok(true));
        if is_true { sound } else { Sound::NONE }
    }

    /// The entries up to `bound`, and a walk from the last of them.
    async fn sound_offsets(
        &self,
        segment: &Segment,
        view: &SegmentView,
        bound: Option<u32>,
    ) -> (Sound<OffsetEntry>, Walk) {
        let nothing = (Sound::NONE, Walk::new(&self.disk, view));
        let Some(bound) = bound else { return nothing };
        let path = file(&self.opening.dir, segment.base, INDEX_SUFFIX);
        let follows = |last: Option<OffsetEntry>, next: OffsetEntry| {
            next.relative_offset <= bound
                && next.position < segment.size
                // Something stands before the first one.
                && last.map_or(0, |last| last.position) < next.position
                && last.is_none_or(|last| last.relative_offset < next.relative_offset)
        };
        let sound = self.sound(&path, segment.offset_entries, follows).await;
        let Some(last) = sound.last else { return nothing };
        match Walk::from_entry(&self.disk, view, last).await {
            Ok(Some(walk)) => (sound, walk),
            Ok(None) | Err(_) => nothing,
        }
    }

    /// The first entries of an index of which each may follow the one before.
    async fn sound<E: IndexEntry>(
        &self,
        path: &FilePath,
        count: u32,
        follows: impl Fn(Option<E>, E) -> bool,
    ) -> Sound<E> {
        let mut sound = Sound::NONE;
        while sound.entries < count {
            let wanted = CHUNK_ENTRIES.min(count - sound.entries);
            let chunk: Vec<E> = index::entries(&self.disk, path, sound.entries, wanted).await;
            if chunk.is_empty() {
                break;
            }
            for entry in chunk {
                if !follows(sound.last, entry) {
                    return sound;
                }
                sound = Sound { entries: sound.entries + 1, last: Some(entry) };
            }
        }
        sound
    }

    /// Leaves the first entries of an index file.
    async fn cut_index<E: IndexEntry>(&self, listing: &Listing, base: Offset, suffix: &str, entries: u32) {
        let length = u64::from(entries) * E::SIZE as u64;
        if listing.length(base, suffix).is_some_and(|there| there > length) {
            let path = file(&self.opening.dir, base, suffix);
            self.disk.apply(Op::Truncate { path, length }).await;
        }
    }
}
