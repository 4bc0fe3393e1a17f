//! What recovery makes of a segment's transaction index: the entries that its markers call for.
//!
//! Where records are damaged the markers do not tell: a transaction whose first batch cannot be read seems to begin
//! later, and one whose marker cannot be read seems to be open. The index was written while all could be read, with the
//! markers. So an entry that damage may have touched stays as it was: when the file is restored from a copy, the index
//! still says what is to be hidden from `read_committed` consumers.

use std::collections::BTreeMap;
use std::ops::Range;

use dohle_types::Offset;

use crate::disk::{FilePath, Op};
use crate::index::{self, IndexEntry};
use crate::open::Opener;
use crate::segment::{Segment, TXN_INDEX_SUFFIX, file};
use crate::txn_index::{self, AbortedTxn};

/// Entries that are read at a time.
const CHUNK_ENTRIES: u32 = 1024;

impl Opener {
    /// Writes the entries behind those that are believed (the segment has them already), of a segment that ends with
    /// offset `end`; the file, where there is one to be synced.
    pub(crate) async fn write_txn_index(
        &self,
        segment: &mut Segment,
        found: Vec<AbortedTxn>,
        end: Offset,
        damaged: &[Range<Offset>],
    ) -> Option<FilePath> {
        let path = file(&self.opening.dir, segment.base, TXN_INDEX_SUFFIX);
        let had = if damaged.is_empty() { Vec::new() } else { self.txns_of_file(&path, segment).await };
        let base = segment.base;
        let had = had.into_iter().filter(|had| base <= had.last_offset && had.last_offset < end);
        let entries = merge(found, had, damaged);
        let believed = segment.aborted_txns;
        segment.aborted_txns += u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let (position, length) = (length(believed), length(segment.aborted_txns));
        if length == 0 {
            self.disk.apply(Op::Remove { path }).await;
            return None;
        }
        let data = txn_index::encode(&entries);
        if position == 0 {
            // Forks may share the file.
            self.disk.replace(path, data).await;
            return None;
        }
        // Even where it reads so already: it may be in the cache alone.
        if !data.is_empty() {
            self.disk.apply(Op::Write { path: path.clone(), position, data }).await;
        }
        self.disk.apply(Op::Truncate { path: path.clone(), length }).await;
        Some(path)
    }

    /// The entries of the file behind those that are believed.
    async fn txns_of_file(&self, path: &FilePath, segment: &Segment) -> Vec<AbortedTxn> {
        let mut entries = Vec::new();
        let mut next = segment.aborted_txns;
        loop {
            let chunk: Vec<AbortedTxn> = index::entries(&self.disk, path, next, CHUNK_ENTRIES).await;
            if chunk.is_empty() {
                return entries;
            }
            next += u32::try_from(chunk.len()).unwrap_or(CHUNK_ENTRIES);
            entries.extend(chunk);
        }
    }
}

fn length(entries: u32) -> u64 {
    u64::from(entries) * AbortedTxn::SIZE as u64
}

/// The entries that markers call for, but for those that damage may have changed: of these, what the index had.
fn merge(
    found: Vec<AbortedTxn>,
    had: impl Iterator<Item = AbortedTxn>,
    damaged: &[Range<Offset>],
) -> Vec<AbortedTxn> {
    // The last stable offset is that of the earliest transaction that was open: it, too, may not be what it seems.
    let is_touched = |entry: &AbortedTxn| {
        let from = entry.first_offset.min(entry.last_stable_offset);
        damaged.iter().any(|damage| damage.start <= entry.last_offset && from < damage.end)
    };
    let mut entries: BTreeMap<Offset, AbortedTxn> =
        found.into_iter().map(|entry| (entry.last_offset, entry)).collect();
    for had in had {
        let is_kept = match entries.get(&had.last_offset) {
            Some(found) => found.producer_id == had.producer_id && (is_touched(found) || is_touched(&had)),
            None => is_touched(&had),
        };
        if is_kept {
            entries.insert(had.last_offset, had);
        }
    }
    entries.into_values().collect()
}
