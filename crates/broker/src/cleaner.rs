//! When logs are compacted, and which one (Kafka's `LogCleaner` and `LogCleanerManager`).
//!
//! A log is looked at after something happened that may have made it due: it was opened, one of its segments was
//! closed and is committed, its configs changed, or a time came that its lags name. Looks are `log.cleaner.backoff.ms`
//! apart; of what is due the filthiest is cleaned first, and when that is done the next one. A node where nothing is
//! due is not woken.
//!
//! The work is a job of small pieces ([`CleanLog`]), so that other jobs have their turn in between, and so that it can
//! be held to `log.cleaner.io.max.bytes.per.second`. What concerns live files is done here, between two pieces, and
//! only if the log is still there.
//!
//! Differs from Kafka: one log is cleaned at a time, whatever `log.cleaner.threads` says, with the whole
//! `log.cleaner.dedupe.buffer.size` at its disposal.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dohle_configs::broker;
use dohle_storage::disk::{FilePath, LogDir, Op};
use dohle_storage::{CleanLog, CleanNext, CleanPiece, Cleanable, CleanerLimits, HashSecret};
use dohle_types::time::Instant;
use dohle_types::{Offset, Rng};

use crate::host::{DiskJob, Effect};
use crate::memory::Share;
use crate::node::{Node, Phase};
use crate::partition::{PartitionKey, Tenant};
use crate::started_jobs::JobPurpose;

/// What the cleaner has before it.
#[derive(Debug)]
pub struct Cleaner {
    /// Logs to look at.
    marked: BTreeSet<PartitionKey>,
    /// When to look at them.
    look_at: Option<Instant>,
    /// When the last look was.
    looked_at: Option<Instant>,
    /// When time alone makes it worth while to look at a log.
    timed: BTreeSet<(Instant, PartitionKey)>,
    /// The log that is being cleaned.
    work: Option<Work>,
    /// Logs that are due, and wait for the recovery point checkpoint to say that they may be.
    unchecked: BTreeSet<PartitionKey>,
    /// Logs that could not be cleaned, for they are damaged.
    uncleanable: BTreeSet<PartitionKey>,
    secret: HashSecret,
    pub(crate) stats: CleanerStats,
}

/// What was done since the process was started.
#[derive(Debug, Default)]
pub(crate) struct CleanerStats {
    /// Bytes that were read and written.
    pub(crate) bytes: u64,
    /// Logs that are clean as far as they may be, each time.
    pub(crate) cleaned: u64,
}

#[derive(Debug)]
struct Work {
    key: PartitionKey,
    dir: FilePath,
    /// Changes of names that were carried out for the segment that is being made.
    applied: u8,
    /// Up to where it may be cleaned.
    bound: Offset,
    /// The next piece and when it may begin, where it has to wait for that.
    resting: Option<(CleanLog, Instant)>,
}

impl Cleaner {
    /// A cleaner that has nothing to do.
    #[must_use]
    pub fn new(rng: &mut Rng) -> Self {
        Self {
            marked: BTreeSet::new(),
            look_at: None,
            looked_at: None,
            timed: BTreeSet::new(),
            work: None,
            unchecked: BTreeSet::new(),
            uncleanable: BTreeSet::new(),
            secret: HashSecret(rng.next_u64(), rng.next_u64()),
            stats: CleanerStats::default(),
        }
    }

    /// Whether some log is being cleaned.
    pub(crate) const fn is_working(&self) -> bool {
        self.work.is_some()
    }

    /// How many logs are to be looked at.
    pub(crate) fn marked(&self) -> usize {
        self.marked.len()
    }

    /// How many logs could not be cleaned.
    pub(crate) fn uncleanable(&self) -> usize {
        self.uncleanable.len()
    }

    /// Whether a log is being cleaned.
    #[must_use]
    pub fn is_cleaning(&self, key: PartitionKey) -> bool {
        self.work.as_ref().is_some_and(|work| work.key == key)
    }

    /// When it has something to do, unless it waits for a piece of work.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let timed = self.timed.first().map(|&(at, _)| at);
        let next = match &self.work {
            Some(work) => work.resting.as_ref().map(|&(_, until)| until),
            None => self.look_at,
        };
        [timed, next].into_iter().flatten().min()
    }
}

impl Node {
    /// Has a log looked at: something happened by which it may be due.
    pub(crate) fn mark_for_cleaning(&mut self, key: PartitionKey) {
        let is_enabled = self.config.value(broker::LOG_CLEANER_ENABLE)
            && self.config.value(broker::LOG_CLEANER_THREADS) > 0;
        let partition = self.partitions.by_key(key);
        // The metadata log is the cluster's memory: nothing but a snapshot may replace what it says.
        let is_compacted = partition
            .filter(|partition| partition.tenant != Tenant::Metadata)
            .is_some_and(|partition| partition.log().is_some_and(|log| log.config().cleanup_policy.compact));
        if !is_enabled || !is_compacted || self.cleaner.uncleanable.contains(&key) {
            return;
        }
        self.cleaner.marked.insert(key);
        if self.cleaner.look_at.is_none() {
            let backoff = self.config.value(broker::LOG_CLEANER_BACKOFF_MS);
            let backoff = Duration::from_millis(u64::try_from(backoff).unwrap_or_default());
            let rested = self.cleaner.looked_at.map(|looked_at| looked_at.saturating_add(backoff));
            self.cleaner.look_at = Some(rested.unwrap_or(self.now.instant).max(self.now.instant));
        }
    }

    /// Has a log looked at whose configs changed, though it could not be cleaned before: a lower `segment.bytes` may be
    /// what was amiss, or the operator has restored a file.
    ///
    /// Differs from Kafka: what could not be cleaned it leaves alone until it is started again.
    pub(crate) fn mark_again_for_cleaning(&mut self, key: PartitionKey) {
        self.cleaner.uncleanable.remove(&key);
        self.mark_for_cleaning(key);
    }

    /// Does what is due.
    pub(crate) fn clean_when_due(&mut self) {
        while let Some(&(at, key)) = self.cleaner.timed.first().filter(|(at, _)| *at <= self.now.instant) {
            self.cleaner.timed.remove(&(at, key));
            self.mark_for_cleaning(key);
        }
        match &mut self.cleaner.work {
            Some(work) => {
                if let Some((job, _)) = work.resting.take_if(|(_, until)| *until <= self.now.instant) {
                    let key = work.key;
                    if self.is_gone(key) {
                        self.give_up_cleaning();
                    } else {
                        self.start_job(JobPurpose::Clean(key), DiskJob::Clean(Box::new(job)));
                    }
                }
            }
            None => {
                if self.cleaner.look_at.is_some_and(|look_at| look_at <= self.now.instant) {
                    self.look_for_dirt();
                }
            }
        }
    }

    /// Looks at the marked logs, and begins to clean the filthiest that is due.
    fn look_for_dirt(&mut self) {
        self.cleaner.look_at = None;
        self.cleaner.looked_at = Some(self.now.instant);
        let mut filthiest: Option<(PartitionKey, Cleanable)> = None;
        for key in std::mem::take(&mut self.cleaner.marked) {
            let Some((cleanable, is_due)) = self.cleanable(key) else { continue };
            self.cleaner.timed.retain(|&(_, other)| other != key);
            if let Some(at) = cleanable.changes_at {
                let wait = u64::try_from(at.0.saturating_sub(self.now.wall.0)).unwrap_or_default();
                self.cleaner.timed.insert((self.now.after(Duration::from_millis(wait)), key));
            }
            if !is_due {
                continue;
            }
            self.cleaner.marked.insert(key);
            if filthiest.as_ref().is_none_or(|(_, other)| cleanable.dirty_ratio() > other.dirty_ratio()) {
                filthiest = Some((key, cleanable));
            }
        }
        if let Some((key, cleanable)) = filthiest {
            self.begin_cleaning(key, &cleanable);
        }
    }

    fn cleanable(&self, key: PartitionKey) -> Option<(Cleanable, bool)> {
        // One that moves is marked again when it is there.
        let partition = self.partitions.by_key(key).filter(|_| !self.is_moving(key))?;
        let checkpoints = &self.log_dirs.state(partition.log_dir)?.checkpoints;
        let clean_to = checkpoints.clean_to(&partition.name);
        Some(partition.log()?.cleanable(self.now, partition.high_watermark(), clean_to))
    }

    fn begin_cleaning(&mut self, key: PartitionKey, cleanable: &Cleanable) {
        let bytes = |value: i64| usize::try_from(value).unwrap_or_default();
        let memory = self.memory.limit(Share::Cleaner);
        let io_buffer_bytes = bytes(i64::from(self.config.value(broker::LOG_CLEANER_IO_BUFFER_SIZE)));
        let io_buffer_bytes = io_buffer_bytes.min(memory / 8);
        let dedupe_bytes = bytes(self.config.value(broker::LOG_CLEANER_DEDUPE_BUFFER_SIZE));
        let limits = CleanerLimits {
            // There is a buffer to read into and one to write from.
            dedupe_bytes: dedupe_bytes.min(memory - 2 * io_buffer_bytes),
            load_factor: self.config.value(broker::LOG_CLEANER_IO_BUFFER_LOAD_FACTOR),
            io_buffer_bytes,
            secret: self.cleaner.secret,
        };
        self.cleaner.marked.remove(&key);
        if self.waits_to_be_checkpointed(key, cleanable) {
            return;
        }
        let now = self.now;
        let Some(log) = self.partitions.by_key_mut(key).and_then(|partition| partition.log_mut()) else {
            return;
        };
        self.memory.take(Share::Cleaner, limits.dedupe_bytes + 2 * limits.io_buffer_bytes);
        let job = log.begin_cleaning(now, cleanable, limits);
        let dir = Arc::clone(log.dir());
        self.cleaner.work =
            Some(Work { key, dir, applied: 0, bound: cleanable.first_uncleanable, resting: None });
        self.start_job(JobPurpose::Clean(key), DiskJob::Clean(Box::new(job)));
    }

    /// Whether a log must wait: what the commit journal has of the segments that are to be replaced would be written to
    /// the new ones after a crash, unless the checkpoint has a recovery point above them.
    fn waits_to_be_checkpointed(&mut self, key: PartitionKey, cleanable: &Cleanable) -> bool {
        let Some(partition) = self.partitions.by_key(key) else { return true };
        let log_dir = partition.log_dir;
        let Some(state) = self.log_dirs.state(log_dir) else { return true };
        let checkpointed = state.checkpoints.durable_recovery_point(&partition.name);
        if checkpointed >= Some(cleanable.first_uncleanable) {
            return false;
        }
        self.cleaner.unchecked.insert(key);
        if !state.checkpoints.is_being_written() {
            self.write_checkpoints(log_dir, JobPurpose::Checkpoint(log_dir), None);
        }
        true
    }

    /// The checkpoint of a log dir is written: logs that waited for it are looked at again.
    pub(crate) fn on_checkpointed(&mut self, log_dir: LogDir) {
        let is_here = |key: &PartitionKey| {
            self.partitions.by_key(*key).is_none_or(|partition| partition.log_dir == log_dir)
        };
        let (here, elsewhere) = std::mem::take(&mut self.cleaner.unchecked).into_iter().partition(is_here);
        self.cleaner.unchecked = elsewhere;
        let here: BTreeSet<PartitionKey> = here;
        for key in here {
            self.mark_for_cleaning(key);
            self.cleaner.look_at = Some(self.now.instant);
        }
    }

    /// A piece of the work is done.
    pub(crate) fn on_cleaned(&mut self, key: PartitionKey, CleanPiece { bytes, next }: CleanPiece) {
        self.cleaner.stats.bytes += bytes;
        if !matches!(self.phase, Phase::Serving) {
            // What is not completed is removed when the log is opened.
            return;
        }
        if self.is_gone(key) {
            return self.give_up_cleaning();
        }
        let (now, mut ops) = (self.now, Vec::new());
        let job = match next {
            CleanNext::Continue(job) => job,
            CleanNext::Apply(changes, job) => {
                ops = changes;
                if let Some(work) = &mut self.cleaner.work {
                    work.applied += 1;
                }
                job
            }
            CleanNext::Replace(segment, job) => {
                if let Some(work) = &mut self.cleaner.work {
                    work.applied = 0;
                }
                if let Some(log) = self.partitions.by_key_mut(key).and_then(|partition| partition.log_mut()) {
                    log.replace(now, &segment, &mut ops);
                }
                job
            }
            CleanNext::Done(clean_to) => return self.on_clean(key, clean_to),
            CleanNext::Failed(error) => {
                if let Some(partition) = self.partitions.by_key(key) {
                    tracing::error!(partition = %partition.name, %error, "the log is not compacted again before its configs change");
                }
                self.cleaner.uncleanable.insert(key);
                return self.end_cleaning(key);
            }
        };
        self.effects.extend(ops.into_iter().map(Effect::Disk));
        let rest = self.rest_after(bytes);
        match &mut self.cleaner.work {
            Some(work) if rest >= Duration::from_millis(1) => {
                work.resting = Some((job, self.now.after(rest)));
            }
            _ => self.start_job(JobPurpose::Clean(key), DiskJob::Clean(Box::new(job))),
        }
    }

    /// How long to wait after so many bytes.
    #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
    fn rest_after(&self, bytes: u64) -> Duration {
        let rate = self.config.value(broker::LOG_CLEANER_IO_MAX_BYTES_PER_SECOND).max(1.0);
        Duration::try_from_secs_f64(bytes as f64 / rate).unwrap_or(Duration::MAX)
    }

    /// A log is clean up to an offset.
    fn on_clean(&mut self, key: PartitionKey, clean_to: Offset) {
        let bound = self.cleaner.work.as_ref().map_or(clean_to, |work| work.bound);
        let Some(partition) = self.partitions.by_key(key) else { return };
        let (name, log_dir) = (partition.name.clone(), partition.log_dir);
        tracing::debug!(partition = %name, %clean_to, "compacted");
        self.cleaner.stats.cleaned += 1;
        if let Some(state) = self.log_dirs.state_mut(log_dir) {
            state.checkpoints.set_clean_to(name, clean_to);
        }
        self.write_news(log_dir);
        self.end_cleaning(key);
        if clean_to < bound {
            // There were more keys than the memory has room for.
            self.mark_for_cleaning(key);
        }
    }

    fn end_cleaning(&mut self, key: PartitionKey) {
        if let Some(log) = self.partitions.by_key_mut(key).and_then(|partition| partition.log_mut()) {
            log.end_cleaning();
        }
        self.end_work();
    }

    /// The log is gone, or offline. What the job wrote meanwhile, perhaps in a directory that it made anew, goes too;
    /// in that of an offline partition it goes when the log is opened.
    fn give_up_cleaning(&mut self) {
        if let Some(Work { key, dir, .. }) = &self.cleaner.work {
            let is_in_use = self.partitions.by_key(*key).is_some()
                || self
                    .partitions
                    .iter()
                    .any(|partition| partition.log_dir.path(&partition.name.to_string()) == *dir);
            if !is_in_use {
                self.effects.push(Effect::Disk(Op::Remove { path: dir.clone() }));
            }
        }
        self.end_work();
    }

    /// A step failed: the log dir did, or it is full. What was written is of no use, and takes room; but where the new
    /// segment counts after a crash, all of it must be there.
    pub(crate) fn on_cleaning_failed(&mut self, key: PartitionKey) {
        let is_counting = self.cleaner.work.as_ref().is_none_or(|work| work.applied > 1);
        let log = self.partitions.by_key(key).and_then(|partition| partition.log());
        if let Some(log) = log.filter(|_| !is_counting) {
            let mut ops = Vec::new();
            log.remove_uncompleted(&mut ops);
            self.effects.extend(ops.into_iter().map(Effect::Disk));
        }
        self.end_cleaning(key);
    }

    /// Goes on with the next log, at once.
    fn end_work(&mut self) {
        let ended = self.cleaner.work.take();
        self.memory.give_back(Share::Cleaner, self.memory.used(Share::Cleaner));
        if !self.cleaner.marked.is_empty() {
            self.cleaner.look_at = Some(self.now.instant);
        }
        if let Some(work) = ended {
            self.go_on_with_move_of(work.key);
        }
    }

    fn is_gone(&self, key: PartitionKey) -> bool {
        self.partitions.by_key(key).is_none_or(|partition| partition.log().is_none())
    }
}
