//! What a crash left in a log's directory: files nobody needs, and segments that compaction had completed but not put
//! in place (Kafka's `LogLoader`).
//!
//! Compaction makes each step durable before the next one: the new files as `.cleaned`; the indexes as `.swap`; the
//! records as `.swap`, from which on the new segment counts; their own names, together with the removal of the old
//! files. So there are these cases, however many of the changes of one step a power loss has kept:
//!
//! - The records are `.cleaned`: the new segment does not count, nor do indexes that are `.swap` already.
//! - The records are `.swap`: it counts. The old segments that it reaches into go, and all that is `.swap` is put in
//!   place.
//! - The records have their name: what is still `.swap` belongs to them. Old segments may be left that the new one,
//!   which holds their records too, reaches into; they go.
//!
//! That last one is looked for only after a crash; a stop in good order makes all of it durable.

use dohle_records::BatchHeader;
use dohle_types::Offset;

use crate::disk::{Entry, Op};
use crate::index::OffsetEntry;
use crate::open::{INDEX_SUFFIXES, Listing, Opener};
use crate::read::start;
use crate::scan::{Scan, Scanned};
use crate::segment::{INDEX_SUFFIX, LOG_SUFFIX, offset_in};
use crate::walk::SegmentView;

/// Ends the names of files that compaction has not completed.
pub(crate) const CLEANED_SUFFIX: &str = ".cleaned";
/// Ends the names of files that compaction has completed but not put in place yet.
pub(crate) const SWAP_SUFFIX: &str = ".swap";
/// Ends the names of files that are kept a while after compaction has replaced them.
pub(crate) const DELETED_SUFFIX: &str = ".deleted";
/// Ends the names of files that a crash left behind and nobody needs.
const LEFTOVERS: [&str; 3] = [DELETED_SUFFIX, CLEANED_SUFFIX, ".tmp"];

impl Opener {
    /// Removes what a crash left behind, and puts in place what compaction had completed.
    pub(crate) async fn tidy(&self) -> Listing {
        let listing = self.remove_uncompleted(self.list().await).await;
        let mut is_tidy = true;
        for entry in &listing.entries {
            let base = INDEX_SUFFIXES.iter().find_map(|suffix| offset_in(&entry.name, suffix));
            let is_orphan = base.is_some_and(|base| {
                listing.logs.iter().all(|&(log, _)| log != base) && !listing.has(&swap_of(base))
            });
            if is_orphan || LEFTOVERS.iter().any(|suffix| entry.name.ends_with(suffix)) {
                self.disk.apply(Op::Remove { path: self.path(&entry.name) }).await;
                is_tidy = false;
            }
        }
        let swaps = || listing.entries.iter().filter(|entry| entry.name.ends_with(SWAP_SUFFIX));
        // The records last, so that a crash in between finds them as they are.
        let (logs, indexes): (Vec<&Entry>, Vec<&Entry>) =
            swaps().partition(|entry| swapped_log(&entry.name).is_some());
        for entry in &logs {
            self.remove_replaced(entry, &listing).await;
        }
        for entry in indexes.into_iter().chain(logs) {
            let to = entry.name.strip_suffix(SWAP_SUFFIX).unwrap_or(&entry.name);
            self.disk.apply(Op::Rename { from: self.path(&entry.name), to: self.path(to) }).await;
            is_tidy = false;
        }
        let listing = if is_tidy { listing } else { self.list().await };
        if self.opening.clean || !self.compacted() {
            return listing;
        }
        self.remove_overlapped(listing).await
    }

    /// Removes the indexes of segments whose records compaction had not completed, and makes that durable before the
    /// records go by which it is known.
    async fn remove_uncompleted(&self, listing: Listing) -> Listing {
        let mut removed = None;
        for entry in &listing.entries {
            let Some(base) =
                entry.name.strip_suffix(CLEANED_SUFFIX).and_then(|log| offset_in(log, LOG_SUFFIX))
            else {
                continue;
            };
            let swaps = listing.entries.iter().filter(|swap| {
                swap.name.ends_with(SWAP_SUFFIX) && swap.name.starts_with(&format!("{:020}.", base.0))
            });
            for swap in swaps {
                self.disk.apply(Op::Remove { path: self.path(&swap.name) }).await;
                removed = Some(&entry.name);
            }
        }
        match removed {
            None => listing,
            Some(neighbour) => {
                self.disk.sync(&self.path(neighbour)).await;
                self.list().await
            }
        }
    }

    /// Removes the segments that a completed one is made of.
    async fn remove_replaced(&self, swap: &Entry, listing: &Listing) {
        let Some(base) = swapped_log(&swap.name) else { return };
        let mut scan = Scan::new(&self.disk, self.path(&swap.name), swap.length, base, Offset(i64::MAX));
        while let Scanned::Batch(_) = scan.next().await {}
        let end = scan.expected;
        // What has its own base is replaced by the renaming; an index may have been already.
        for &(log, _) in listing.logs.iter().filter(|&&(log, _)| log > base && log < end) {
            self.remove_segment(log).await;
        }
    }

    /// Removes segments whose records are in the one before them too. That one ends where the next that stays begins,
    /// exactly: compaction leaves the last batch of what it replaces. An end elsewhere, or with another batch, is damage,
    /// on which nothing is removed: what says how far a batch reaches is read without a CRC.
    async fn remove_overlapped(&self, listing: Listing) -> Listing {
        let mut is_tidy = true;
        let mut logs = &listing.logs[..];
        while let Some((&segment, rest)) = logs.split_first() {
            let last = self.last_batch(&listing, segment).await;
            let end = last.map_or(segment.0, |last| last.next_offset());
            let (overlapped, others) = rest.split_at(rest.partition_point(|&(base, _)| base < end));
            let is_replaced = match (last, overlapped.last()) {
                (Some(last), Some(&old)) if others.first().is_some_and(|&(base, _)| base == end) => {
                    let old = self.last_batch(&listing, old).await;
                    end <= self.compacted_to() && old.is_some_and(|old| ends_replaced(&last, &old))
                }
                _ => false,
            };
            for &(base, _) in overlapped.iter().filter(|_| is_replaced) {
                self.remove_segment(base).await;
                is_tidy = false;
            }
            logs = if is_replaced { others } else { rest };
        }
        if is_tidy { listing } else { self.list().await }
    }

    /// The last batch that can be read of a segment.
    async fn last_batch(&self, listing: &Listing, (base, length): (Offset, u64)) -> Option<BatchHeader> {
        let segment = self.segment(listing, base, length).await;
        let view = SegmentView::new(&self.opening.dir, &segment);
        let last = self.last_entry::<OffsetEntry>(base, INDEX_SUFFIX, segment.offset_entries).await;
        let mut header = None;
        if let Ok(mut walk) = start(&self.disk, &view, last).await {
            while let Ok(Some(found)) = walk.next().await {
                header = Some(found.header);
            }
        }
        header
    }
}

/// Whether `last`, with which a segment ends, may be what compaction left of the last batch of what it replaced. `old` is
/// the last batch of the last segment within its reach; where that is not the last of them, the others are gone already.
fn ends_replaced(last: &BatchHeader, old: &BatchHeader) -> bool {
    if old.next_offset() != last.next_offset() {
        return old.next_offset() < last.next_offset();
    }
    let is_changed = last.record_count < old.record_count || last.attributes.has_delete_horizon();
    last.crc == old.crc || (last.base_offset == old.base_offset && is_changed)
}

fn swap_of(base: Offset) -> String {
    format!("{:020}{LOG_SUFFIX}{SWAP_SUFFIX}", base.0)
}

fn swapped_log(name: &str) -> Option<Offset> {
    offset_in(name.strip_suffix(SWAP_SUFFIX)?, LOG_SUFFIX)
}
