//! Reading the journal after a crash: where it has which records of which log.

use std::collections::BTreeMap;

use bytes::Bytes;
use dohle_types::Offset;

use super::record::{self, BLOCK, Entry, HEAD_SIZE, Head};
use super::{LogId, part_in, part_path};
use crate::disk::{self, Answer, FilePath, Job, LogDir, Progress};
use crate::script::{Disk, Script};

/// Bytes that are read at a time.
const WINDOW: usize = 1 << 20;

/// What the journal of a log dir holds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct JournalFound {
    /// Its files in the order in which they were filled.
    pub files: Vec<FilePath>,
    /// What it has of each log, in the order in which it was written.
    pub logs: BTreeMap<LogId, Vec<Piece>>,
    /// What is wrong with it, in words.
    pub damage: Vec<String>,
}

/// Consecutive records of a log that were durable before the crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The segment.
    pub base: Offset,
    /// Where in the segment's `.log`.
    pub position: u32,
    /// How many bytes.
    pub length: u32,
    /// The offset after the last record.
    pub end: Offset,
    /// Where the bytes are; `None` where they are damaged.
    pub bytes_at: Option<(FilePath, u64)>,
}

/// Reads the journal of a log dir: all of it after a crash, else only which files there are, for nothing in them counts.
pub struct ReadJournal(Script<JournalFound>);

impl std::fmt::Debug for ReadJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadJournal")
    }
}

impl Job for ReadJournal {
    type Output = JournalFound;

    fn start(&mut self) -> Progress<JournalFound> {
        self.0.start()
    }

    fn resume(&mut self, answer: Answer) -> Progress<JournalFound> {
        self.0.resume(answer)
    }
}

impl ReadJournal {
    /// Will read the one of this log dir, in which these files are; `clean` is whether the last stop was.
    #[must_use]
    pub fn new(log_dir: LogDir, clean: bool, entries: &[disk::Entry]) -> Self {
        let parts = entries.iter().filter_map(|entry| Some((part_in(&entry.name)?, entry.length))).collect();
        Self(Script::new(move |disk| async move { read(&disk, log_dir, clean, parts).await }))
    }
}

/// A record that was found.
struct FoundRecord {
    sequence: u64,
    pieces: Vec<(LogId, Piece)>,
    /// Whether all of its bytes are as they were written.
    is_whole: bool,
}

async fn read(disk: &Disk, log_dir: LogDir, clean: bool, files: Vec<(u16, u64)>) -> JournalFound {
    let mut parts = Vec::new();
    let (mut records, mut damage) = (Vec::new(), Vec::new());
    for (part, length) in files {
        let path = part_path(log_dir, part);
        let mut reader = Reader { disk, path: path.clone(), length, start: 0, window: Bytes::new() };
        let head = if clean { Bytes::new() } else { reader.bytes(0, record::PART_SIZE).await };
        let mut found = match record::decode_part(&head) {
            Some(salt) => reader.records(salt).await,
            None => Vec::new(),
        };
        // One that was being made is empty as yet.
        if record::decode_part(&head).is_none() && head.iter().any(|&byte| byte != 0) {
            damage.push(format!("the first block of {path} is damaged"));
        }
        parts.push((found.first().map(|record| record.sequence), path));
        records.append(&mut found);
    }
    // A part without records is free, whenever it was filled.
    parts.sort_unstable();
    records.sort_by_key(|record| record.sequence);
    // The one that was being written when the crash came was never durable.
    records.pop_if(|last| !last.is_whole);
    let files = parts.into_iter().map(|(_, path)| path).collect();
    let mut found = JournalFound { files, damage, ..JournalFound::default() };
    let mut expected = records.first().map_or(0, |first| first.sequence);
    for FoundRecord { sequence, pieces, is_whole } in records {
        if sequence > expected {
            found
                .damage
                .push(format!("records {expected} to {} of the journal cannot be read", sequence - 1));
        }
        if !is_whole {
            found.damage.push(format!("record {sequence} of the journal is damaged"));
        }
        expected = sequence.saturating_add(1);
        for (log, piece) in pieces {
            found.logs.entry(log).or_default().push(piece);
        }
    }
    found
}

/// A part as it is read from its beginning to its end.
struct Reader<'a> {
    disk: &'a Disk,
    path: FilePath,
    length: u64,
    start: u64,
    window: Bytes,
}

impl Reader<'_> {
    /// All records that the part has.
    async fn records(&mut self, salt: u64) -> Vec<FoundRecord> {
        let mut found = Vec::new();
        let mut position = BLOCK;
        while position < self.length {
            // Behind a record that cannot be read there may be others, which tell that it is damaged, not torn.
            let Some(head) = self.head(salt, position).await else {
                position += BLOCK;
                continue;
            };
            let bytes: u64 = head.entries.iter().map(|entry| u64::from(entry.length)).sum();
            let next = position + record::size(head.entries.len(), bytes);
            let mut at = position + (HEAD_SIZE + head.entries.len() * record::ENTRY_SIZE) as u64;
            let mut record = FoundRecord { sequence: head.sequence, pieces: Vec::new(), is_whole: true };
            for entry in head.entries {
                let is_whole = self.is_whole(salt, &entry, at).await;
                record.is_whole &= is_whole;
                record.pieces.push((entry.log, piece(&entry, is_whole.then(|| (self.path.clone(), at)))));
                at += u64::from(entry.length);
            }
            found.push(record);
            position = next;
        }
        found
    }

    async fn head(&mut self, salt: u64, position: u64) -> Option<Head> {
        let size = record::head_size(&self.bytes(position, HEAD_SIZE).await)?;
        if size as u64 > self.length - position {
            return None;
        }
        record::decode_head(salt, &self.bytes(position, size).await)
    }

    async fn is_whole(&mut self, salt: u64, entry: &Entry, at: u64) -> bool {
        let Ok(length) = usize::try_from(entry.length) else { return false };
        if at.saturating_add(u64::from(entry.length)) > self.length {
            return false;
        }
        record::checksum(salt, &self.bytes(at, length).await) == entry.crc
    }

    /// Up to `length` bytes from `position`.
    async fn bytes(&mut self, position: u64, length: usize) -> Bytes {
        let offset = position.checked_sub(self.start).and_then(|offset| usize::try_from(offset).ok());
        if let Some(offset) = offset
            && let Some(end) = offset.checked_add(length)
            && end <= self.window.len()
        {
            return self.window.slice(offset..end);
        }
        self.start = position;
        self.window = self.disk.read(&self.path, position, length.max(WINDOW)).await.unwrap_or_default();
        self.window.slice(..length.min(self.window.len()))
    }
}

fn piece(entry: &Entry, bytes_at: Option<(FilePath, u64)>) -> Piece {
    let Entry { base, position, length, end, .. } = *entry;
    Piece { base, position, length, end, bytes_at }
}
