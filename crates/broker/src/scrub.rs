//! The background scrub: from time to time all that is sealed and durable is read, so that damage is found while there
//! is a copy elsewhere to restore it from. One piece at a time in each log dir, no faster than configured. A log that is
//! closed is opened when its turn comes, in the background, as it is for retention. Indexes that are damaged are built
//! anew.

use std::collections::VecDeque;
use std::time::Duration;

use dohle_configs::broker;
use dohle_storage::disk::LogDir;
use dohle_storage::{ScrubPoint, Scrubbed};
use dohle_types::time::Instant;

use crate::damage::note_damage;
use crate::host::{DiskJob, Effect};
use crate::node::Node;
use crate::partition::{Partition, PartitionKey, State};
use crate::started_jobs::JobPurpose;

/// How far the scrub of a log dir has come.
#[derive(Debug, Default)]
pub struct Scrub {
    /// When it goes on, with the next piece or from the beginning; `None` while a piece is read or a log is opened, or it
    /// is off.
    next: Option<Instant>,
    /// The log that it waits for.
    opens: Option<PartitionKey>,
    /// The partitions that are left of this round.
    left: VecDeque<PartitionKey>,
    /// Where it is in the first of them.
    point: ScrubPoint,
    /// Bytes that it has read since the process was started.
    pub(crate) read_bytes: u64,
}

impl Scrub {
    /// Partitions that are left of this round.
    #[must_use]
    pub fn logs_left(&self) -> usize {
        self.left.len()
    }

    /// When it goes on.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.next
    }
}

impl Node {
    /// Begins, when the node begins to serve.
    pub(crate) fn start_scrub(&mut self) {
        let next = self.scrub_interval().map(|interval| self.now.after(interval));
        for log_dir in self.log_dirs.all() {
            if let Some(state) = self.log_dirs.state_mut(log_dir) {
                state.scrub.next = next;
            }
        }
    }

    /// Goes on where it is due.
    pub(crate) fn scrub(&mut self) {
        let now = self.now.instant;
        for log_dir in self.log_dirs.online().collect::<Vec<_>>() {
            let Some(state) = self.log_dirs.state_mut(log_dir) else { continue };
            if state.scrub.next.is_some_and(|next| next <= now) {
                state.scrub.next = None;
                self.scrub_on(log_dir);
            }
        }
    }

    /// Reads the next piece of a log dir, or rests until the next round.
    fn scrub_on(&mut self, log_dir: LogDir) {
        let interval = self.scrub_interval();
        let rests_until = interval.map(|interval| self.now.after(interval));
        let Some(state) = self.log_dirs.state_mut(log_dir) else { return };
        let scrub = &mut state.scrub;
        if scrub.left.is_empty() {
            let here = self.partitions.iter().filter(|partition| partition.log_dir == log_dir);
            scrub.left = here.map(|partition| partition.key).collect();
            scrub.point = ScrubPoint::default();
        }
        while let Some(&key) = scrub.left.front() {
            let partition = self.partitions.by_key(key);
            match partition.map(Partition::state) {
                Some(State::Closed(Some(_))) => {
                    scrub.opens = Some(key);
                    return self.open_log_in_background(key);
                }
                Some(State::Opening) => {
                    scrub.opens = Some(key);
                    return;
                }
                Some(State::Closed(None) | State::Online(_) | State::Offline(_)) | None => {}
            }
            if let Some(piece) = partition.and_then(Partition::log).and_then(|log| log.scrub(&scrub.point)) {
                let job = DiskJob::Scrub(Box::new(piece));
                return self.start_read(key, JobPurpose::Scrub(log_dir), job);
            }
            scrub.left.pop_front();
            scrub.point = ScrubPoint::default();
        }
        scrub.next = rests_until;
    }

    /// A log is open, or will not be: the scrub that waited for it goes on.
    pub(crate) fn go_on_with_scrub_of(&mut self, key: PartitionKey) {
        let now = self.now.instant;
        for log_dir in self.log_dirs.online().collect::<Vec<_>>() {
            let Some(state) = self.log_dirs.state_mut(log_dir) else { continue };
            if state.scrub.opens == Some(key) {
                (state.scrub.opens, state.scrub.next) = (None, Some(now));
            }
        }
    }

    /// The segment that a piece is of was replaced meanwhile: the log is read from its beginning again.
    pub(crate) fn on_scrub_outdated(&mut self, log_dir: LogDir) {
        let now = self.now.instant;
        if let Some(state) = self.log_dirs.state_mut(log_dir) {
            state.scrub.next = Some(now);
            state.scrub.point = ScrubPoint::default();
        }
    }

    /// A piece was read.
    pub(crate) fn on_scrubbed(&mut self, log_dir: LogDir, scrubbed: Scrubbed) {
        let rate = u64::try_from(self.config.value(broker::DOHLE_SCRUB_BYTES_PER_SECOND)).unwrap_or(1).max(1);
        let pause = Duration::from_micros(scrubbed.bytes.saturating_mul(1_000_000) / rate);
        let next = self.now.after(pause);
        let Some(state) = self.log_dirs.state_mut(log_dir) else { return };
        state.scrub.next = Some(next);
        state.scrub.point = scrubbed.point;
        state.scrub.read_bytes += scrubbed.bytes;
        let key = state.scrub.left.front().copied();
        let Some(partition) = key.and_then(|key| self.partitions.by_key_mut(key)) else { return };
        let name = partition.name.clone();
        let Some(log) = partition.log_mut().filter(|log| log.has_sealed(scrubbed.segment)) else { return };
        for damage in scrubbed.damage {
            note_damage(log, &name, damage);
        }
        if let Some(indexes) = scrubbed.indexes {
            let segment = scrubbed.segment.0.0;
            tracing::warn!(partition = %name, segment, "the indexes of a segment are damaged: they are built anew");
            let mut ops = Vec::new();
            log.take_indexes(indexes, &mut ops);
            self.effects.extend(ops.into_iter().map(Effect::Disk));
        }
    }

    /// How long there is between two rounds; `None` where there is none.
    fn scrub_interval(&self) -> Option<Duration> {
        let interval_ms =
            u64::try_from(self.config.value(broker::DOHLE_SCRUB_INTERVAL_MS)).unwrap_or_default();
        (interval_ms > 0).then(|| Duration::from_millis(interval_ms))
    }
}
