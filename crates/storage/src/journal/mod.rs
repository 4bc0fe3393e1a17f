//! The commit journal of a log dir: how a commit cycle makes durable what many logs were given, with one write.
//!
//! A cycle syncs the files of the logs that ask for it where these are few. Where they are many it writes their
//! records once more, all together, as one [`record`] of the journal, and syncs that: the records are durable, and
//! may be acknowledged, though their files are not synced. [`cycle`] decides, the host carries it out. The journal is
//! a ring of [`PARTS`] files that are written in full beforehand, so that a sync changes no metadata of the file
//! system. A part that is full is flushed: the files of all that is in it are synced, after which it is erased and
//! used again. Nothing waits for that; while no part is free, cycles sync files.
//!
//! After a crash [`found`] reads the journal, and before any log is opened [`replay`] gives each back what is newer than
//! its recovery point. Logs are served from then on: one that is opened makes durable what it was given back. Meanwhile
//! that is done for all of them, and then the journal is removed; until then cycles sync files, and another crash has
//! the same records given back once more. Records are known by topic id, partition, segment and position, so that they
//! never reach another topic of the same name; they are written where they were, so that doing it twice does nothing.
//! What is cut or replaced in a log's files must therefore lie below its *checkpointed* recovery point or start. After a
//! clean stop there is no journal.
//!
//! Invariants:
//! 1. A part is erased only when everything in it is durable in the logs' own files; parts are erased in the order in
//!    which they were filled.
//! 2. Records of the journal are numbered without gaps, and one is written only when the one before is durable. So only
//!    the last can be torn; anything else that cannot be read is damage.
//! 3. Erasing changes a part's salt, without which no record is valid: what was in it before is never taken for new.

pub mod cycle;
pub mod found;
pub mod record;
pub mod replay;

use dohle_types::{PartitionIndex, TopicId};

use crate::disk::{FilePath, LogDir};

pub use cycle::{CommitCycle, Done, JournalConfig, Round, SyncRequest, Task};
pub use found::{JournalFound, Piece, ReadJournal};
pub use replay::{EraseJournal, Erased, GivenBack, ReplayJournal, Replayed};

/// Files that the journal of a log dir has, once it needed them all.
pub const PARTS: u16 = 4;

/// A log, by what outlives its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Its topic.
    pub topic_id: TopicId,
    /// Which of the topic's partitions it holds.
    pub partition: PartitionIndex,
}

const PART_PREFIX: &str = "dohle-journal-";

/// All files that a log dir's journal may have.
pub fn paths(log_dir: LogDir) -> impl Iterator<Item = FilePath> {
    (0..PARTS).map(move |part| part_path(log_dir, part))
}

/// A file of the journal.
pub(crate) fn part_path(log_dir: LogDir, part: u16) -> FilePath {
    log_dir.path(&format!("{PART_PREFIX}{part}"))
}

/// Which part of the journal a file is, by its name.
pub(crate) fn part_in(name: &str) -> Option<u16> {
    name.strip_prefix(PART_PREFIX)?.parse().ok().filter(|&part| part < PARTS)
}
