//! What is done from time to time: retention, checkpoints, expiry of offsets and producers; and the last of it,
//! stopping in good order.

use std::collections::BTreeSet;
use std::time::Duration;

use dohle_configs::{BrokerConfig, broker};
use dohle_storage::disk::LogDir;
use dohle_types::time::Instant;
use dohle_types::{Now, Offset};

use crate::boot_facts::clean_shutdown_marker;
use crate::host::Effect;
use crate::node::{Node, Phase};
use crate::partition::{Partition, PartitionKey};
use crate::started_jobs::JobPurpose;

/// When the periodic work is due next.
#[derive(Debug, Default)]
pub struct Maintenance {
    retention: Recurring,
    checkpoint: Recurring,
    offsets: Recurring,
    transactional_ids: Recurring,
    /// Partitions that are not durable in their own files, while the node stops.
    unflushed: BTreeSet<PartitionKey>,
    /// Log dirs whose last checkpoint, before the end, is being written; `None` before that.
    last_checkpoints: Option<BTreeSet<LogDir>>,
}

#[derive(Debug, Default)]
struct Recurring {
    every: Duration,
    next: Option<Instant>,
}

impl Recurring {
    fn start(&mut self, now: Now, every_ms: i64) {
        self.every = Duration::from_millis(u64::try_from(every_ms).unwrap_or(u64::MAX).max(1));
        self.next = Some(now.after(self.every));
    }

    fn is_due(&mut self, now: Now) -> bool {
        let due = self.next.is_some_and(|next| next <= now.instant);
        if due {
            self.next = Some(now.after(self.every));
        }
        due
    }
}

impl Maintenance {
    /// Begins, when the node begins to serve.
    pub fn start(&mut self, now: Now, config: &BrokerConfig) {
        self.retention.start(now, config.value(broker::LOG_RETENTION_CHECK_INTERVAL_MS));
        let checkpoint_ms = config.value(broker::LOG_FLUSH_OFFSET_CHECKPOINT_INTERVAL_MS);
        self.checkpoint.start(now, i64::from(checkpoint_ms));
        self.offsets.start(now, config.value(broker::OFFSETS_RETENTION_CHECK_INTERVAL_MS));
        let expired_ms = config.value(broker::TRANSACTION_REMOVE_EXPIRED_TRANSACTION_CLEANUP_INTERVAL_MS);
        self.transactional_ids.start(now, i64::from(expired_ms));
    }

    /// When something is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let recurring = [&self.retention, &self.checkpoint, &self.offsets, &self.transactional_ids];
        recurring.into_iter().filter_map(|work| work.next).min()
    }
}

impl Node {
    /// Does what is due.
    pub(crate) fn maintain(&mut self) {
        self.snapshot_when_due();
        if self.maintenance.retention.is_due(self.now) {
            self.retain();
            self.sweep_trash();
        }
        if self.maintenance.checkpoint.is_due(self.now) {
            self.write_all_checkpoints();
        }
        self.begin_checkpoints_of_much();
        if self.log_dirs.next_timeout().is_some_and(|due| due <= self.now.instant) {
            self.scrub();
            self.go_on_with_moves();
        }
        if self.maintenance.offsets.is_due(self.now) {
            self.expire_offsets();
        }
        if self.maintenance.transactional_ids.is_due(self.now) {
            self.expire_transactional_ids();
        }
    }

    fn retain(&mut self) {
        let expiration_ms = i64::from(self.config.value(broker::PRODUCER_ID_EXPIRATION_MS));
        let mut ops = Vec::new();
        self.retain_snapshots();
        for partition in self.partitions.iter_mut() {
            let (name, high_watermark) = (partition.name.clone(), partition.high_watermark());
            let state = self.log_dirs.state(partition.log_dir);
            let start = state.map_or(Offset::ZERO, |state| state.checkpoints.durable_start(&name));
            let Some(log) = partition.log_mut() else { continue };
            log.retain(self.now, high_watermark, start, &mut ops);
            log.expire_producers(self.now, expiration_ms);
        }
        let keys: Vec<_> = self.partitions.iter().map(|partition| partition.key).collect();
        keys.into_iter().for_each(|key| self.partitions.count_producers(key));
        self.effects.extend(ops.into_iter().map(Effect::Disk));
        for partition in self.partitions.iter_mut() {
            partition.flush_if_awaited(&mut self.effects);
        }
        self.open_for_retention();
    }

    /// The operator asks the node to stop: what is in the page cache is made durable, and the checkpoints say
    /// that the next start has nothing to recover.
    pub(crate) fn stop(&mut self) {
        if !matches!(self.phase, Phase::Serving) {
            self.phase = Phase::Stopped;
            self.effects.push(Effect::Stopped { error: None });
            return;
        }
        self.write_all_groups_gathered();
        self.write_all_txns_gathered();
        self.write_group_journal();
        self.phase = Phase::Stopping;
        let mut ops = Vec::new();
        for partition in self.partitions.iter_mut() {
            if let Some(log) = partition.log_mut() {
                log.close(&mut ops);
            }
        }
        self.effects.extend(ops.into_iter().map(Effect::Disk));
        self.end_when_flushed();
    }

    /// A sync of a partition may be done, or will not be.
    pub(crate) fn on_sync_while_stopping(&mut self, key: PartitionKey) {
        if self.partitions.by_key(key).is_some_and(Partition::is_syncing) {
            return;
        }
        if self.maintenance.unflushed.remove(&key) {
            self.end_when_flushed();
        }
    }

    /// Writes the last checkpoint, if the node stops and everything is in the files.
    pub(crate) fn end_when_flushed(&mut self) {
        if !matches!(self.phase, Phase::Stopping) || !self.maintenance.unflushed.is_empty() {
            return;
        }
        // All are looked at when none is left, and not whenever one is done.
        for partition in self.partitions.iter_mut() {
            partition.begin_flush(&mut self.effects);
            if partition.is_syncing() {
                self.maintenance.unflushed.insert(partition.key);
            }
        }
        let is_writing =
            |log_dir| self.log_dirs.state(log_dir).is_some_and(|state| state.checkpoints.is_being_written());
        if !self.maintenance.unflushed.is_empty()
            || self.log_dirs.online().any(is_writing)
            || self.log_dirs.for_partitions().any(|(_, state)| state.settling > 0)
            || self.is_erasing_journals()
            || self.log_dirs.for_partitions().any(|(_, state)| state.moves.is_renaming())
            || self.maintenance.last_checkpoints.is_some()
        {
            return;
        }
        let node_id = self.config.node_id();
        let epoch = self.image().broker(node_id).map_or(-1, |registered| registered.epoch);
        self.maintenance.last_checkpoints = Some(self.log_dirs.online().collect());
        for log_dir in self.log_dirs.online().collect::<Vec<_>>() {
            // Where a log was not recovered yet, the next start has that to do.
            let is_clean = !self.partitions.iter().any(|it| it.log_dir == log_dir && self.is_unclean(it));
            let marker = is_clean.then(|| clean_shutdown_marker(log_dir, epoch));
            self.write_checkpoints(log_dir, JobPurpose::LastCheckpoint(log_dir), marker);
        }
    }

    /// Whether a log is still to be recovered.
    fn is_unclean(&self, partition: &Partition) -> bool {
        self.known_log(partition).is_some_and(|known| !known.clean)
    }

    /// The last checkpoint of a log dir is written: that of the last log dir is the end.
    pub(crate) fn on_last_checkpoint(&mut self, log_dir: LogDir) {
        let outstanding = self.maintenance.last_checkpoints.get_or_insert_default();
        outstanding.remove(&log_dir);
        if outstanding.is_empty() {
            self.phase = Phase::Stopped;
            self.effects.push(Effect::Stopped { error: None });
        }
    }
}
