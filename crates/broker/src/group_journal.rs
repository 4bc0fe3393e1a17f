//! Where the journal of groups is kept: in the internal topic `__dohle_group_journal`, of one partition, a record for
//! each entry with the group as key and a JSON object as value. The decision stands in
//! `docs/adr/2026-11-25-group-journal.md`.
//!
//! No group waits for it, nor fails because of it. Entries gather for a moment in a queue that has its bounds; where they
//! cannot be written, because the queue is full, the disk is, or the topic cannot be created, they are dropped and
//! counted, and the next one that is written is preceded by how many they were.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use dohle_controller::GROUP_JOURNAL_TOPIC;
use dohle_groups::journal::entry::{Entry, Event};
use dohle_groups::journal::stats::JournalStats;
use dohle_records::{BatchBuilder, BatchOptions, Compressor};
use dohle_storage::Origin;
use dohle_types::time::Instant;
use dohle_types::{Str, Timestamp};

use crate::node::Node;
use crate::partition::{PartitionKey, State};

/// How long entries gather before they are written.
const GATHERING: Duration = Duration::from_millis(50);

/// How long it is waited for the topic, or its log, before it is looked again.
const PATIENCE: Duration = Duration::from_millis(200);

/// Bytes of entries that wait to be written.
const QUEUED_BYTES_MAX: usize = 4 << 20;

/// Bytes of entries in one batch.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// Entries on their way to the topic, and what they come to.
#[derive(Debug, Default)]
pub struct GroupJournal {
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// When they are to be written.
    due: Option<Instant>,
    /// Entries that are missing, and not yet told of.
    missing: u64,
    /// What happened since the node was started.
    stats: JournalStats,
}

#[derive(Debug)]
struct Queued {
    /// None if it is not about one group.
    group_id: Option<Str>,
    at: Timestamp,
    value: Bytes,
}

/// Whether entries can be written now.
enum Place {
    Here(PartitionKey),
    Soon,
    Nowhere,
}

impl GroupJournal {
    /// When something is to be written.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Counters and histograms by cause, since the node was started.
    #[must_use]
    pub const fn stats(&self) -> &JournalStats {
        &self.stats
    }

    fn push(&mut self, entry: &Entry) {
        let value = Bytes::from(entry.to_json().to_string());
        if self.queued_bytes + value.len() > QUEUED_BYTES_MAX {
            return self.drop_entries(1);
        }
        self.queued_bytes += value.len();
        let group_id = Some(&entry.group_id).filter(|group_id| !group_id.is_empty()).cloned();
        self.queue.push_back(Queued { group_id, at: entry.at, value });
    }

    fn drop_entries(&mut self, entries: u64) {
        self.missing += entries;
        self.stats.dropped += entries;
    }

    fn drop_all(&mut self) {
        self.drop_entries(self.queue.len() as u64);
        self.queue.clear();
        self.queued_bytes = 0;
    }

    /// The next entries that fit into a batch.
    fn next_batch(&mut self) -> Vec<Queued> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(entry) =
            self.queue.pop_front_if(|entry| bytes == 0 || bytes + entry.value.len() <= BATCH_BYTES_MAX)
        {
            bytes += entry.value.len();
            batch.push(entry);
        }
        self.queued_bytes -= bytes;
        batch
    }
}

impl Node {
    /// Something happened to groups.
    pub(crate) fn journal_groups(&mut self, entries: &[Entry]) {
        let due = self.now.after(GATHERING);
        let journal = &mut self.group_journal;
        for entry in entries {
            journal.stats.note(entry);
            if let Event::Storm(storm) = &entry.event {
                tracing::warn!(group = %entry.group_id, %storm, "a group rebalances again and again");
            }
            journal.push(entry);
        }
        if !journal.queue.is_empty() {
            journal.due.get_or_insert(due);
        }
    }

    /// Writes what has gathered, if it is time.
    pub(crate) fn write_group_journal_when_due(&mut self) {
        if self.group_journal.due.is_some_and(|due| due <= self.now.instant) {
            self.group_journal.due = None;
            self.write_group_journal();
        }
    }

    /// Writes what has gathered, as far as that is possible.
    pub(crate) fn write_group_journal(&mut self) {
        if self.group_journal.queue.is_empty() {
            return;
        }
        match self.group_journal_place() {
            Place::Soon => self.group_journal.due = Some(self.now.after(PATIENCE)),
            Place::Nowhere => self.group_journal.drop_all(),
            Place::Here(key) => {
                self.tell_missing_entries();
                loop {
                    let batch = self.group_journal.next_batch();
                    if batch.is_empty() {
                        return;
                    }
                    if self.append_to_group_journal(key, &batch).is_none() {
                        self.group_journal.drop_entries(batch.len() as u64);
                        return self.group_journal.drop_all();
                    }
                }
            }
        }
    }

    /// Puts before the others an entry that tells how many are missing.
    fn tell_missing_entries(&mut self) {
        let entries = std::mem::take(&mut self.group_journal.missing);
        if entries == 0 {
            return;
        }
        tracing::warn!(entries, "entries of the groups\u{2019} journal were dropped");
        let at = self.now.wall;
        let entry = Entry { group_id: Str::default(), at, event: Event::Dropped { entries } };
        let value = Bytes::from(entry.to_json().to_string());
        self.group_journal.queued_bytes += value.len();
        self.group_journal.queue.push_front(Queued { group_id: None, at, value });
    }

    /// Creates the topic where it is not there, and opens its log.
    fn group_journal_place(&mut self) -> Place {
        let name = Str::const_new(GROUP_JOURNAL_TOPIC);
        let Some(topic) = self.image().topic(&name) else {
            let Ok(records) = self.auto_create(std::slice::from_ref(&name)) else { return Place::Nowhere };
            if !records.is_empty() && self.append_metadata(records).is_none() {
                return Place::Nowhere;
            }
            return Place::Soon;
        };
        let Some(key) = self.partitions.key(topic.id, 0) else { return Place::Nowhere };
        self.open_log(key);
        match self.partitions.by_key(key).map(|partition| partition.state()) {
            Some(State::Online(_)) => Place::Here(key),
            Some(State::Closed(_) | State::Opening) => Place::Soon,
            Some(State::Offline(_)) | None => Place::Nowhere,
        }
    }

    /// `None` where the log takes no records.
    fn append_to_group_journal(&mut self, key: PartitionKey, entries: &[Queued]) -> Option<()> {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for entry in entries {
            let group_id = entry.group_id.as_ref().map(|group_id| group_id.as_bytes());
            builder.append(entry.at, group_id, Some(&entry.value), &[]).ok()?;
        }
        let batch = builder.build(&mut Compressor::default()).ok()?;
        let reserve = self.disk_reserve();
        let partition = self.partitions.by_key_mut(key)?;
        let log_dir = partition.log_dir;
        if !self.log_dirs.has_room(log_dir, batch.len(), reserve) {
            return None;
        }
        let appended = partition
            .append(self.now, batch, Origin::Coordinator, &mut self.codecs, &mut self.effects)
            .ok()?;
        self.log_dirs.use_room(log_dir, appended.bytes);
        self.partitions.admit_tail(key, appended.bytes);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_queue_has_no_room_for_is_counted() {
        let mut journal = GroupJournal::default();
        let event = Event::Dropped { entries: 1 };
        let entry = Entry { group_id: Str::from("g".repeat(100_000)), at: Timestamp(0), event };
        for _ in 0..100 {
            journal.push(&entry);
        }
        assert!(journal.queued_bytes <= QUEUED_BYTES_MAX);
        assert_eq!(journal.queue.len() as u64 + journal.missing, 100);
        assert_eq!(journal.stats().dropped, journal.missing);
        assert!(journal.missing > 50);
        let batches: Vec<usize> =
            std::iter::from_fn(|| Some(journal.next_batch().len()).filter(|&len| len > 0)).collect();
        assert!(batches.iter().all(|&len| len <= 2), "a batch has its bound: {batches:?}");
        assert_eq!((batches.iter().sum::<usize>() as u64 + journal.missing, journal.queued_bytes), (100, 0));
    }
}
