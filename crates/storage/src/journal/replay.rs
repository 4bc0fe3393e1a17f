//! Giving logs back what only the journal has of them, before any of them is opened, and erasing the journal when that
//! is durable.
//!
//! A file with several names is shared with a fork, or a backup, and never written to: one that lacks what the journal
//! has, which is so of no fork's, is replaced by a copy that has it.

use std::collections::{BTreeMap, BTreeSet};

use dohle_types::{Offset, TopicId};

use super::LogId;
use super::found::Piece;
use crate::checkpoint::{PARTITION_METADATA, parse_partition_metadata};
use crate::disk::{Answer, Entry, FilePath, Job, LogDir, Op, Progress};
use crate::fork::own_copy;
use crate::script::{Disk, Script};
use crate::segment::{LOG_SUFFIX, file, offset_in};

/// A log that is given back what the journal has of it.
#[derive(Debug, Clone)]
pub struct GivenBack {
    /// Its directory. It need not be there: a power loss may have taken its name.
    pub dir: FilePath,
    /// Which log it is.
    pub id: LogId,
    /// Directories of that name in other log dirs. If one of them is this log's it was moved there, with everything,
    /// and nothing is given back; it may be another's, for a power loss brings back what was deleted.
    pub elsewhere: Vec<FilePath>,
    /// Where the directory goes if it is not its own: it is of a topic that was deleted, and a power loss brought it
    /// back.
    pub aside: FilePath,
    /// Everything below it is in the files, or was deleted: what the checkpoints have as recovery point and as start.
    pub known: Offset,
    /// What the journal has, in the order in which it was written.
    pub pieces: Vec<Piece>,
}

/// Writes what is in the journal of a log dir to where it was in the logs' files. It is not durable there as yet. Done
/// twice it does the same.
pub struct ReplayJournal(Script<Replayed>);

/// The logs have everything.
#[derive(Debug)]
pub struct Replayed {
    /// Those that were moved to another log dir, and were given nothing.
    pub moved: BTreeSet<LogId>,
}

/// Makes durable what logs were given back, and removes the journal.
pub struct EraseJournal(Script<Erased>);

/// There is no journal any more.
#[derive(Debug)]
pub struct Erased;

impl std::fmt::Debug for ReplayJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReplayJournal")
    }
}

impl Job for ReplayJournal {
    type Output = Replayed;

    fn start(&mut self) -> Progress<Replayed> {
        self.0.start()
    }

    fn resume(&mut self, answer: Answer) -> Progress<Replayed> {
        self.0.resume(answer)
    }
}

impl ReplayJournal {
    /// Will give these logs what they lack.
    #[must_use]
    pub fn new(logs: Vec<GivenBack>) -> Self {
        Self(Script::new(move |disk| async move {
            let mut moved = BTreeSet::new();
            for log in &logs {
                if is_elsewhere(&disk, log).await {
                    moved.insert(log.id);
                } else {
                    give_back(&disk, log).await;
                }
            }
            Replayed { moved }
        }))
    }
}

impl std::fmt::Debug for EraseJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EraseJournal")
    }
}

impl Job for EraseJournal {
    type Output = Erased;

    fn start(&mut self) -> Progress<Erased> {
        self.0.start()
    }

    fn resume(&mut self, answer: Answer) -> Progress<Erased> {
        self.0.resume(answer)
    }
}

impl EraseJournal {
    /// Will remove `journal`, which is in `log_dir`, oldest file first; `neighbour` is a file beside those.
    #[must_use]
    pub fn new(log_dir: LogDir, journal: Vec<FilePath>, neighbour: FilePath) -> Self {
        Self(Script::new(move |disk| async move {
            // Thousands of files at once are a fraction of the work of one after the other. And some may be in the trash
            // by now.
            disk.sync_all(log_dir).await;
            for path in journal {
                disk.apply(Op::Remove { path }).await;
                // A new journal has the same names: nothing of the old one may come back after that. And of the old one
                // none in the middle may be gone before the others, as if it had been lost.
                disk.sync(&neighbour).await;
            }
            Erased
        }))
    }
}

async fn is_elsewhere(disk: &Disk, log: &GivenBack) -> bool {
    for dir in &log.elsewhere {
        if topic_of(disk, dir).await == Some(log.id.topic_id) {
            return true;
        }
    }
    false
}

/// The topic that a directory says it is of.
async fn topic_of(disk: &Disk, dir: &FilePath) -> Option<TopicId> {
    let metadata = disk.read(&format!("{dir}/{PARTITION_METADATA}").into(), 0, METADATA_MAX).await;
    metadata.and_then(|file| parse_partition_metadata(&file))
}

async fn give_back(disk: &Disk, log: &GivenBack) {
    let GivenBack { dir, id, elsewhere: _, aside, known, pieces } = log;
    let pieces: Vec<&Piece> = pieces.iter().filter(|piece| piece.end > *known).collect();
    if pieces.is_empty() {
        return;
    }
    let found = topic_of(disk, dir).await;
    // The first flush of a log makes it durable whose directory it is: of one of which nobody knows, all is in the journal.
    let is_anothers = found.map_or(*known == Offset::ZERO, |found| found != id.topic_id);
    let mut entries = disk.list(dir).await;
    if is_anothers && !entries.is_empty() {
        disk.apply(Op::Rename { from: dir.clone(), to: aside.clone() }).await;
        entries.clear();
    }
    let mut shared = shared_logs(&entries);
    for Piece { base, position, length, bytes_at, .. } in pieces {
        let path = file(dir, *base, LOG_SUFFIX);
        // Where it is damaged the file may have it all the same, perhaps only in the cache; if not, that is found out
        // when the log is opened.
        let (from, at) = bytes_at.clone().unwrap_or_else(|| (path.clone(), u64::from(*position)));
        let length = usize::try_from(*length).unwrap_or(usize::MAX);
        let Some(data) = disk.read(&from, at, length).await.filter(|data| !data.is_empty()) else { continue };
        let position = u64::from(*position);
        if let Some(&length) = shared.get(base) {
            if disk.read(&path, position, data.len()).await.as_ref() == Some(&data) {
                continue;
            }
            own_copy(disk, &path, length).await;
            shared.remove(base);
        }
        disk.apply(Op::Write { path, position, data }).await;
    }
}

/// The `.log` files that have other names, by their base offsets, and their lengths.
fn shared_logs(entries: &[Entry]) -> BTreeMap<Offset, u64> {
    let shared = entries.iter().filter(|entry| entry.is_shared);
    shared.filter_map(|entry| Some((offset_in(&entry.name, LOG_SUFFIX)?, entry.length))).collect()
}

/// More than a `partition.metadata` takes.
const METADATA_MAX: usize = 1024;
