//! The checkpoint files of each log dir: recovery points, log start offsets, high watermarks, and up to where logs
//! are compacted.
//!
//! They are written from time to time, and whenever much was appended since the last time: a recovery reads what lies
//! above the recovery points. A file that would say the same as before is not written.

use std::collections::BTreeMap;

use bytes::Bytes;
use dohle_configs::Durability;
use dohle_storage::disk::{FilePath, LogDir};
use dohle_storage::{checkpoint, journal};
use dohle_types::{Offset, TopicPartition};

use crate::host::{DiskJob, Effect};
use crate::jobs::{SyncFiles, WriteCheckpoints};
use crate::node::{Node, Phase};
use crate::partition::{Partition, PartitionKey, State};
use crate::started_jobs::JobPurpose;

/// The part of the bytes between checkpoints from which on a log gets a snapshot of its producers with one.
const SNAPSHOT_PART: u64 = 16;

/// What a log dir's checkpoint files have, and are about to have.
#[derive(Debug, Default)]
pub struct Checkpoints {
    /// Whether they are being written.
    writing: bool,
    /// Whether they are to be written once more after that, for there is news.
    again: bool,
    /// Whether logs are being flushed for the next ones.
    flushing: bool,
    /// Bytes that were appended since the last ones were begun.
    appended: u64,
    /// The recovery points that the checkpoint on disk has.
    recovery_points: BTreeMap<TopicPartition, Offset>,
    /// Those of the checkpoint that is being written.
    recovery_points_being_written: BTreeMap<TopicPartition, Offset>,
    /// The log start offsets that the checkpoint durably has.
    starts: BTreeMap<TopicPartition, Offset>,
    /// Those of the checkpoint that is being written.
    starts_being_written: BTreeMap<TopicPartition, Offset>,
    /// Up to where logs are compacted.
    cleaner_offsets: BTreeMap<TopicPartition, Offset>,
    /// Whether the checkpoint on disk, or the one that is being written, says otherwise.
    cleaner_offsets_changed: bool,
    /// How often they were written,
    pub(crate) written: u64,
    /// and could not be.
    pub(crate) failed: u64,
    /// Partitions whose names another partition had that the checkpoint still knows; they open when it does not.
    waiting_to_open: Vec<PartitionKey>,
}

impl Checkpoints {
    /// Takes over what the checkpoint on disk has.
    pub fn set_recovery_points(&mut self, offsets: BTreeMap<TopicPartition, Offset>) {
        self.recovery_points = offsets;
    }

    /// The recovery point that the checkpoint durably has.
    #[must_use]
    pub fn durable_recovery_point(&self, name: &TopicPartition) -> Option<Offset> {
        self.recovery_points.get(name).copied()
    }

    /// Takes over what the log start offset checkpoint on disk has.
    pub fn set_starts(&mut self, offsets: BTreeMap<TopicPartition, Offset>) {
        self.starts = offsets;
    }

    /// Takes over what the cleaner offset checkpoint on disk has.
    pub fn set_cleaner_offsets(&mut self, offsets: BTreeMap<TopicPartition, Offset>) {
        self.cleaner_offsets = offsets;
    }

    /// Up to where a log is compacted; `None` where it never was.
    #[must_use]
    pub fn clean_to(&self, name: &TopicPartition) -> Option<Offset> {
        self.cleaner_offsets.get(name).copied()
    }

    /// A log is compacted up to here.
    pub fn set_clean_to(&mut self, name: TopicPartition, offset: Offset) {
        self.cleaner_offsets.insert(name, offset);
        self.cleaner_offsets_changed = true;
    }

    /// Whether they are being written.
    #[must_use]
    pub fn is_being_written(&self) -> bool {
        self.writing
    }

    /// Counts what was appended in the log dir.
    pub fn note_appended(&mut self, bytes: usize) {
        self.appended += bytes as u64;
    }

    /// Bytes that were appended since the last ones were begun.
    #[must_use]
    pub const fn appended(&self) -> u64 {
        self.appended
    }

    /// Whether so many bytes were appended that the next ones must not wait for their time.
    #[must_use]
    pub fn is_due(&self, bytes: u64) -> bool {
        self.appended >= bytes && !self.flushing && !self.writing
    }

    /// The start offset that the log start offset checkpoint durably has, 0 where it has none.
    #[must_use]
    pub fn durable_start(&self, name: &TopicPartition) -> Offset {
        self.starts.get(name).copied().unwrap_or(Offset::ZERO)
    }
}

impl Node {
    /// Writes the checkpoints of all log dirs.
    pub(crate) fn write_all_checkpoints(&mut self) {
        for log_dir in self.log_dirs.online().collect::<Vec<_>>() {
            self.write_news(log_dir);
        }
    }

    /// Begins those of the log dirs in which much was appended since the last ones.
    pub(crate) fn begin_checkpoints_of_much(&mut self) {
        let bytes = self.fixed.checkpoint_bytes;
        while let Some(log_dir) = self.log_dirs.with_much_appended(bytes) {
            self.begin_checkpoint(log_dir, u32::try_from(bytes / SNAPSHOT_PART).unwrap_or(u32::MAX));
        }
    }

    /// Begins the checkpoints of a log dir in which much was appended. Logs of relaxed durability, which nothing else
    /// does it for, are flushed before.
    ///
    /// Differs from Kafka: it leaves it to the system when such logs are flushed, and reads the segments that are
    /// appended to as a whole after a crash.
    fn begin_checkpoint(&mut self, log_dir: LogDir, snapshot_every: u32) {
        if let Some(state) = self.log_dirs.state_mut(log_dir) {
            state.checkpoints.appended = 0;
        }
        let (mut paths, mut points) = (Vec::new(), Vec::new());
        for partition in self.partitions.iter_mut().filter(|partition| partition.log_dir == log_dir) {
            if let Some(log) = partition.log_mut() {
                let mut ops = Vec::new();
                log.snapshot_producers(snapshot_every, &mut ops);
                self.effects.extend(ops.into_iter().map(Effect::Disk));
            }
            if partition.durability == Durability::Relaxed
                && let Some(work) = partition.flush(&mut self.effects)
            {
                paths.extend(work.paths().cloned());
                points.push((partition.key, work.point));
            }
        }
        if points.is_empty() {
            return self.write_news(log_dir);
        }
        if let Some(state) = self.log_dirs.state_mut(log_dir) {
            state.checkpoints.flushing = true;
        }
        self.start_job(JobPurpose::Flush(log_dir, points), DiskJob::Sync(Box::new(SyncFiles::new(paths))));
    }

    /// The logs of a log dir are flushed whose recovery points the next checkpoint is to have.
    pub(crate) fn on_flushed_for_checkpoint(&mut self, log_dir: LogDir) {
        if let Some(state) = self.log_dirs.state_mut(log_dir) {
            state.checkpoints.flushing = false;
        }
        if matches!(self.phase, Phase::Serving) {
            self.write_news(log_dir);
        }
    }

    /// Writes the checkpoints that partitions wait for which were found while the node booted.
    pub(crate) fn write_awaited_checkpoints(&mut self) {
        for log_dir in self.log_dirs.online().collect::<Vec<_>>() {
            let is_awaited = |dir: &crate::log_dirs::LogDirState| !dir.checkpoints.waiting_to_open.is_empty();
            if self.log_dirs.state(log_dir).is_some_and(is_awaited) {
                self.write_checkpoints(log_dir, JobPurpose::Checkpoint(log_dir), None);
            }
        }
    }

    /// Writes the checkpoints of a log dir now, or once more when those are there that are being written.
    pub(crate) fn write_news(&mut self, log_dir: LogDir) {
        let Some(state) = self.log_dirs.state_mut(log_dir) else { return };
        if state.checkpoints.writing {
            state.checkpoints.again = true;
        } else {
            self.write_checkpoints(log_dir, JobPurpose::Checkpoint(log_dir), None);
        }
    }

    /// Writes the checkpoints of a log dir. With a marker of a clean stop, which comes last, the commit journal is gone:
    /// nothing in it is needed, and whoever writes to the logs next may be Kafka.
    pub(crate) fn write_checkpoints(
        &mut self,
        log_dir: LogDir,
        purpose: JobPurpose,
        marker: Option<(FilePath, Bytes)>,
    ) {
        let here = || self.partitions.iter().filter(move |partition| partition.log_dir == log_dir);
        let recovery_points = self.recovery_points(log_dir);
        // A log that is not open keeps what the last checkpoint says of it.
        let closed = |partition: &Partition| self.known_log(partition).cloned().unwrap_or_default();
        let start = |partition: &Partition| match partition.log() {
            Some(log) => log.start_offset_to_checkpoint(),
            None => closed(partition).start_offset,
        };
        let arriving = self.log_dirs.state(log_dir).and_then(|state| state.moves.arriving());
        let arriving_start = arriving.and_then(|it| Some((it.name.clone(), it.known.start_offset?)));
        let starts: BTreeMap<TopicPartition, Offset> = here()
            .filter_map(|partition| Some((partition.name.clone(), start(partition)?)))
            .chain(arriving_start)
            .collect();
        let high_watermark = |partition: &Partition| match partition.log() {
            Some(_) => partition.high_watermark(),
            None => closed(partition).recovery_point.unwrap_or_default(),
        };
        let Some(state) = self.log_dirs.state(log_dir) else { return };
        let last = &state.checkpoints;
        let mut files = Vec::new();
        let mut add = |name: &str, text: String| files.push((log_dir.path(name), Bytes::from(text)));
        if recovery_points != last.recovery_points {
            let offsets = recovery_points.iter().map(|(name, &at)| (name, at));
            add(checkpoint::RECOVERY_POINT_CHECKPOINT, checkpoint::format_offsets(offsets));
            let offsets = here().map(|partition| (&partition.name, high_watermark(partition)));
            let offsets = offsets.chain(arriving.and_then(|it| Some((&it.name, it.known.recovery_point?))));
            let offsets = offsets.filter(|&(_, offset)| offset > Offset::ZERO);
            add(checkpoint::HIGH_WATERMARK_CHECKPOINT, checkpoint::format_offsets(offsets));
        }
        if starts != last.starts {
            let offsets = starts.iter().map(|(name, &start)| (name, start));
            add(checkpoint::LOG_START_OFFSET_CHECKPOINT, checkpoint::format_offsets(offsets));
        }
        if last.cleaner_offsets_changed || arriving.is_some() {
            let clean_to = |partition: &Partition| last.clean_to(&partition.name);
            let offsets = here().filter_map(|partition| Some((&partition.name, clean_to(partition)?)));
            let offsets = offsets.chain(arriving.and_then(|it| Some((&it.name, it.clean_to?))));
            add(checkpoint::CLEANER_OFFSET_CHECKPOINT, checkpoint::format_offsets(offsets));
        }
        let mut job = WriteCheckpoints::new(files);
        if let Some(marker) = marker {
            job = job.then(journal::paths(log_dir).collect(), marker);
        }
        if let Some(state) = self.log_dirs.state_mut(log_dir) {
            state.checkpoints.writing = true;
            // What is said of one that is on its way here may have to be taken back.
            state.checkpoints.cleaner_offsets_changed = state.moves.arriving().is_some();
            state.checkpoints.recovery_points_being_written = recovery_points;
            state.checkpoints.starts_being_written = starts;
        }
        self.start_job(purpose, DiskJob::Checkpoint(Box::new(job)));
    }

    /// A log is gone, or new: what is said of its name is of an earlier one.
    pub(crate) fn forget_clean_to(&mut self, log_dir: LogDir, name: &TopicPartition) {
        if let Some(state) = self.log_dirs.state_mut(log_dir) {
            let known = state.checkpoints.cleaner_offsets.remove(name);
            state.checkpoints.cleaner_offsets_changed |= known.is_some();
        }
    }

    /// What each log is known to have on disk. One that is not open keeps what the last checkpoint says of it.
    fn recovery_points(&self, log_dir: LogDir) -> BTreeMap<TopicPartition, Offset> {
        let Some(state) = self.log_dirs.state(log_dir) else { return BTreeMap::new() };
        let last = &state.checkpoints;
        let point = |partition: &Partition| match partition.state() {
            State::Online(log) => Some(log.recovery_point()),
            State::Closed(known) => known.as_ref()?.recovery_point,
            // Where it is opened again more is read than need be. But a checkpoint takes nothing back: what the commit
            // journal has of files that compaction replaced must not be written to them.
            State::Opening => {
                let known = self.openings.known(partition.key)?.recovery_point;
                known.max(last.recovery_points.get(&partition.name).copied())
            }
            State::Offline(_) => last.recovery_points.get(&partition.name).copied(),
        };
        self.partitions
            .iter()
            .filter(|partition| partition.log_dir == log_dir)
            .filter_map(|partition| Some((partition.name.clone(), point(partition)?)))
            .chain(state.moves.arriving().and_then(|it| Some((it.name.clone(), it.known.recovery_point?))))
            .filter(|&(_, offset)| offset > Offset::ZERO)
            .collect()
    }

    /// The checkpoints of a log dir are durable.
    pub(crate) fn on_checkpoint_written(&mut self, log_dir: LogDir) {
        let Some(state) = self.log_dirs.state_mut(log_dir) else { return };
        let written = &mut state.checkpoints;
        written.writing = false;
        written.written += 1;
        written.starts = std::mem::take(&mut written.starts_being_written);
        written.recovery_points = std::mem::take(&mut written.recovery_points_being_written);
        let (again, waiting) =
            (std::mem::take(&mut written.again), std::mem::take(&mut written.waiting_to_open));
        for key in waiting {
            self.create_log(key);
        }
        if matches!(self.phase, Phase::Serving) {
            self.on_checkpointed(log_dir);
            self.on_checkpoint_for_move(log_dir);
            if again {
                self.write_news(log_dir);
            }
        }
    }

    /// The checkpoints of a log dir could not be written: those before them count, and the next are tried in time.
    pub(crate) fn on_checkpoint_failed(&mut self, log_dir: LogDir) {
        if let Some(state) = self.log_dirs.state_mut(log_dir) {
            state.checkpoints.writing = false;
            state.checkpoints.failed += 1;
            state.checkpoints.cleaner_offsets_changed = true;
        }
        self.on_no_checkpoint_for_move(log_dir);
    }

    /// Whether a new partition must wait for a checkpoint: the one on disk has a recovery point of an earlier
    /// partition of its name, by which the new log, which is shorter, would be taken for a damaged one.
    pub(crate) fn waits_for_checkpoint(
        &mut self,
        key: PartitionKey,
        log_dir: LogDir,
        name: &TopicPartition,
    ) -> bool {
        let Some(state) = self.log_dirs.state_mut(log_dir) else { return false };
        let last = &mut state.checkpoints;
        let stale =
            last.recovery_points.contains_key(name) || last.recovery_points_being_written.contains_key(name);
        if stale {
            last.waiting_to_open.push(key);
            if !last.writing && matches!(self.phase, Phase::Serving) {
                self.write_checkpoints(log_dir, JobPurpose::Checkpoint(log_dir), None);
            }
        }
        stale
    }
}
