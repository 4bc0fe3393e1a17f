//! What a commit cycle does, and what follows behind it.
//!
//! The host has one [`CommitCycle`] for each log dir and takes all requests that wait as one round:
//! [`begin`](CommitCycle::begin), then it syncs the round's files and writes and syncs its record, then
//! [`finish`](CommitCycle::finish). One [`Task`] at a time is carried out on the side, so that no round waits for it;
//! between rounds the host asks for the [`next_task`](CommitCycle::next_task) and reports the one that is done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use dohle_configs::{BrokerConfig, broker};
use dohle_types::Rng;

use super::record::{self, BLOCK, ENTRY_SIZE, Entry};
use super::{LogId, PARTS, part_path};
use crate::LogKey;
use crate::disk::{DiskError, FilePath, LogDir};
use crate::log::{LogRange, SyncPoint, SyncWork};

/// What the second writing of a record may cost for each sync that it saves, in bytes. A sync takes as long as writing
/// some hundred kilobytes where it is fast, and some megabytes where it is slow.
const BYTES_PER_SAVED_SYNC: u64 = 128 << 10;

/// How the journal of a log dir is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalConfig {
    /// Bytes that it may take; without room for a record in each part there is none.
    pub bytes: u64,
    /// From how many segments on it is considered.
    pub files_min: usize,
}

impl JournalConfig {
    /// As the broker is configured.
    #[must_use]
    pub fn of(config: &BrokerConfig) -> Self {
        Self {
            bytes: u64::try_from(config.value(broker::DOHLE_JOURNAL_BYTES)).unwrap_or(0),
            files_min: usize::try_from(config.value(broker::DOHLE_JOURNAL_PARTITIONS_MIN)).unwrap_or(1),
        }
    }
}

/// A log's wish to have what it was given made durable.
#[derive(Debug)]
pub struct SyncRequest {
    /// Which log it is in this process.
    pub key: LogKey,
    /// Which log it is for good.
    pub id: LogId,
    /// What to make durable.
    pub work: SyncWork,
}

/// One round: what the host has to do.
#[derive(Debug, Default)]
pub struct Round {
    /// The files to sync.
    pub paths: BTreeSet<FilePath>,
    /// The record to write and sync.
    pub write: Option<RecordWrite>,
    in_files: Vec<SyncRequest>,
}

/// A record that is to be written.
#[derive(Debug)]
pub struct RecordWrite {
    /// Those whose records are in it; those that cannot be read any more are left out, for their files are gone.
    pub requests: Vec<SyncRequest>,
    /// The file.
    pub path: FilePath,
    /// Where in it.
    pub position: u64,
    /// Its number.
    pub sequence: u64,
    /// The salt of its checksums.
    pub salt: u64,
    part: u16,
}

/// What became of a request, or of all requests of a log up to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It survives power loss.
    Synced(LogKey, SyncPoint),
    /// It is durable in the log's own files.
    Flushed(LogKey, SyncPoint),
}

/// Work on the side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Makes a part ready: writes zeros from its end on, if it is shorter than `length`; syncs it; then writes `head` at
    /// its beginning and syncs it again.
    Prepare {
        /// The file.
        path: FilePath,
        /// The length it must have.
        length: u64,
        /// Its first block.
        head: Bytes,
    },
    /// Syncs files; those that are gone need not be.
    Flush {
        /// Which.
        paths: BTreeSet<FilePath>,
        /// Directories were renamed: some of the files may be there under other names, so that all files of the log dir
        /// are to be synced.
        all: bool,
    },
}

/// The commit cycle of a log dir.
#[derive(Debug)]
pub struct CommitCycle {
    log_dir: LogDir,
    part_length: u64,
    files_min: usize,
    rng: Rng,
    /// Whether nothing is in the journal any more that a process before this one wrote and logs may lack.
    is_free: bool,
    parts: Vec<Part>,
    /// The part that is written to.
    active: u16,
    /// Where the next record goes in it.
    position: u64,
    /// The number of the next record.
    sequence: u64,
    waiting: VecDeque<Side>,
    under_way: Option<Side>,
}

#[derive(Debug, Default)]
struct Part {
    state: PartState,
    salt: u64,
    /// The logs of which it has records that their files may not have.
    logs: BTreeMap<LogKey, Journaled>,
    /// Directories were renamed since the first of them.
    renamed: bool,
    /// All files are being synced for it.
    flushing_all: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum PartState {
    /// It is not there, or is to be erased.
    #[default]
    Unprepared,
    /// It is empty.
    Free,
    /// It has records.
    Live,
}

#[derive(Debug)]
struct Journaled {
    /// The last of the log's syncs that are in the part.
    point: SyncPoint,
    /// What has to be synced for it.
    files: BTreeSet<FilePath>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Prepare(u16),
    Flush(u16),
}

impl RecordWrite {
    /// The bytes of the record, with what `read` finds in the files.
    ///
    /// # Errors
    /// That of a read.
    pub fn encode(
        &self,
        mut read: impl FnMut(&FilePath, u64, usize) -> Result<Option<Bytes>, DiskError>,
    ) -> Result<Bytes, DiskError> {
        let mut pieces = Vec::new();
        for request in &self.requests {
            for LogRange { path, base, position, length, end } in &request.work.ranges {
                let (log, size) = (request.id, usize::try_from(*length).unwrap_or(usize::MAX));
                let found = read(path, u64::from(*position), size)?.filter(|bytes| bytes.len() == size);
                let entry =
                    Entry { log, base: *base, position: *position, length: *length, end: *end, crc: 0 };
                pieces.extend(found.map(|bytes| (entry, bytes)));
            }
        }
        Ok(record::encode(self.salt, self.sequence, &pieces))
    }
}

impl CommitCycle {
    /// The cycle of a log dir that syncs files until it may use the journal, which is made when it is first of use;
    /// salts are drawn from `rng`.
    #[must_use]
    pub fn new(log_dir: LogDir, config: JournalConfig, rng: Rng) -> Self {
        Self {
            log_dir,
            part_length: config.bytes / u64::from(PARTS) / BLOCK * BLOCK,
            files_min: config.files_min,
            rng,
            is_free: false,
            parts: (0..PARTS).map(|_| Part::default()).collect(),
            active: 0,
            position: BLOCK,
            sequence: 1,
            waiting: VecDeque::new(),
            under_way: None,
        }
    }

    /// Uses the journal from now on: what a process before this one wrote to it is erased.
    pub fn use_journal(&mut self) {
        self.is_free = true;
    }

    /// Begins a round: which requests go which way.
    pub fn begin(&mut self, requests: Vec<SyncRequest>) -> Round {
        let (mut in_files, journaled): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(|request| request.work.in_files);
        let write = match self.place(&journaled) {
            Some((part, position, salt)) => {
                let path = part_path(self.log_dir, part);
                Some(RecordWrite { requests: journaled, path, position, sequence: self.sequence, salt, part })
            }
            None => {
                in_files.extend(journaled);
                None
            }
        };
        self.round(in_files, write)
    }

    /// Has the records of a round go into the files instead of the journal, to which nothing was written yet.
    #[must_use]
    pub fn without_journal(&mut self, round: Round) -> Round {
        let Round { mut in_files, write, .. } = round;
        if let Some(RecordWrite { requests, position, .. }) = write {
            self.position = position;
            in_files.extend(requests);
        }
        self.round(in_files, None)
    }

    fn round(&self, in_files: Vec<SyncRequest>, write: Option<RecordWrite>) -> Round {
        let mut paths = BTreeSet::new();
        for request in &in_files {
            paths.extend(request.work.paths().cloned());
            for journaled in self.parts.iter().filter_map(|part| part.logs.get(&request.key)) {
                paths.extend(journaled.files.iter().cloned());
            }
        }
        Round { paths, write, in_files }
    }

    /// The round's files, and its record, are durable.
    pub fn finish(&mut self, round: Round) -> Vec<Done> {
        let mut done = Vec::new();
        for SyncRequest { key, work, .. } in round.in_files {
            // After a rename nobody knows whether it was the log's own file that was synced.
            for part in self.parts.iter_mut().filter(|part| !part.renamed) {
                part.logs.remove(&key);
            }
            done.push(Done::Flushed(key, work.point));
        }
        let Some(RecordWrite { requests, part, .. }) = round.write else { return done };
        self.sequence += 1;
        let Some(part) = self.parts.get_mut(usize::from(part)) else { return done };
        for SyncRequest { key, work, .. } in requests {
            let files = BTreeSet::new();
            let journaled = part.logs.entry(key).or_insert(Journaled { point: work.point, files });
            journaled.point = work.point;
            journaled.files.extend(work.paths().cloned());
            done.push(Done::Synced(key, work.point));
        }
        done
    }

    /// What is to be done on the side; none before the last was done.
    pub fn next_task(&mut self) -> Option<Task> {
        if self.under_way.is_some() {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.under_way = Some(next);
        match next {
            Side::Prepare(number) => {
                let salt = self.rng.next_u64();
                let part = self.part_mut(number)?;
                part.salt = salt;
                let (path, length) = (part_path(self.log_dir, number), self.part_length);
                Some(Task::Prepare { path, length, head: record::encode_part(salt) })
            }
            Side::Flush(number) => {
                let part = self.part_mut(number)?;
                part.flushing_all = part.renamed;
                let paths =
                    part.logs.values().flat_map(|journaled| journaled.files.iter().cloned()).collect();
                Some(Task::Flush { paths, all: part.flushing_all })
            }
        }
    }

    /// The task is done.
    pub fn on_task_done(&mut self) -> Vec<Done> {
        match self.under_way.take() {
            Some(Side::Prepare(number)) => {
                if let Some(part) = self.part_mut(number) {
                    part.state = PartState::Free;
                }
                Vec::new()
            }
            Some(Side::Flush(number))
                if self.part_mut(number).is_some_and(|part| part.renamed && !part.flushing_all) =>
            {
                self.waiting.push_front(Side::Flush(number));
                Vec::new()
            }
            Some(Side::Flush(number)) => {
                // Before anything else is flushed: parts are erased in the order in which they were filled.
                self.waiting.push_front(Side::Prepare(number));
                let part = self.part_mut(number).map(std::mem::take).unwrap_or_default();
                part.logs.into_iter().map(|(key, journaled)| Done::Flushed(key, journaled.point)).collect()
            }
            None => unreachable!("a task is done that was not under way"),
        }
    }

    /// Directories were renamed: this is to be told before a round, or a task, is told to be done that may have been
    /// under way meanwhile.
    pub fn note_renamed(&mut self) {
        for part in self.parts.iter_mut().filter(|part| part.state == PartState::Live) {
            part.renamed = true;
        }
    }

    /// Where a record for these goes: part, position and salt; `None` where their files are to be synced instead.
    fn place(&mut self, requests: &[SyncRequest]) -> Option<(u16, u64, u64)> {
        let ranges = || requests.iter().flat_map(|request| &request.work.ranges);
        if !self.is_free {
            return None;
        }
        // Other files than those of records are rare, and come along.
        let files = ranges().map(|range| &range.path).collect::<BTreeSet<_>>().len();
        let bytes: u64 = ranges().map(|range| u64::from(range.length) + ENTRY_SIZE as u64).sum();
        let size = record::size(ranges().count(), ranges().map(|range| u64::from(range.length)).sum());
        let saved = u64::try_from(files.saturating_sub(1)).unwrap_or(u64::MAX);
        let is_worth_it =
            files >= self.files_min.max(1) && bytes <= saved.max(1).saturating_mul(BYTES_PER_SAVED_SYNC);
        if !is_worth_it || ranges().next().is_none() || size + BLOCK > self.part_length {
            return None;
        }
        if self.position + size > self.part_length {
            self.go_on_to_next()?;
        }
        let (active, position) = (self.active, self.position);
        if !self.is_prepared(active) {
            return None;
        }
        self.is_prepared((active + 1) % PARTS);
        let part = self.part_mut(active)?;
        part.state = PartState::Live;
        let salt = part.salt;
        self.position += size;
        Some((active, position, salt))
    }

    /// Leaves the active part, which is full, if the next one is free.
    fn go_on_to_next(&mut self) -> Option<()> {
        let (full, next) = (self.active, (self.active + 1) % PARTS);
        if self.state(next) != PartState::Free {
            return None;
        }
        self.waiting.push_back(Side::Flush(full));
        (self.active, self.position) = (next, BLOCK);
        Some(())
    }

    /// Whether a part is there; else it is made.
    fn is_prepared(&mut self, part: u16) -> bool {
        let is_there = self.state(part) != PartState::Unprepared;
        let is_coming = self.under_way.iter().chain(&self.waiting).any(|&side| side == Side::Prepare(part));
        if !is_there && !is_coming {
            self.waiting.push_back(Side::Prepare(part));
        }
        is_there
    }

    fn state(&self, part: u16) -> PartState {
        self.parts.get(usize::from(part)).map_or(PartState::Unprepared, |part| part.state)
    }

    fn part_mut(&mut self, part: u16) -> Option<&mut Part> {
        self.parts.get_mut(usize::from(part))
    }
}
