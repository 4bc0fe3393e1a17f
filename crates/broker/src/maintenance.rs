//! What is done from time to time: retention, checkpoints, expiry of offsets and producers; and the last of it,
//! stopping in good order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dohle_configs::{BrokerConfig, broker};
use dohle_storage::checkpoint;
use dohle_storage::disk::FilePath;
use dohle_types::time::Instant;
use dohle_types::{Now, Offset, TopicPartition};

use crate::boot::clean_shutdown_marker;
use crate::host::{DiskJob, Effect};
use crate::jobs::WriteCheckpoints;
use crate::node::{JobPurpose, Node, Phase};
use crate::partition::{Partition, PartitionKey, Tenant};

/// When the periodic work is due next.
#[derive(Debug, Default)]
pub struct Maintenance {
    retention: Recurring,
    checkpoint: Recurring,
    offsets: Recurring,
    /// Whether a checkpoint is being written.
    checkpointing: bool,
    /// The recovery points that the checkpoint on disk has.
    recovery_points: BTreeMap<TopicPartition, Offset>,
    /// Partitions whose names another partition had that the checkpoint still knows; they open when it does not.
    waiting_to_open: Vec<PartitionKey>,
    /// Those of the checkpoint that is being written.
    recovery_points_being_written: BTreeMap<TopicPartition, Offset>,
    /// The log start offsets that the checkpoint durably has.
    checkpointed_starts: BTreeMap<TopicPartition, Offset>,
    /// Those of the checkpoint that is being written.
    starts_being_written: BTreeMap<TopicPartition, Offset>,
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
    }

    /// Takes over what the checkpoint on disk has.
    pub fn set_recovery_points(&mut self, offsets: BTreeMap<TopicPartition, Offset>) {
        self.recovery_points = offsets;
    }

    /// When something is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        [&self.retention, &self.checkpoint, &self.offsets].into_iter().filter_map(|work| work.next).min()
    }
}

impl Node {
    /// Does what is due.
    pub(crate) fn maintain(&mut self) {
        if self.maintenance.retention.is_due(self.now) {
            self.retain();
        }
        if self.maintenance.checkpoint.is_due(self.now) && !self.maintenance.checkpointing {
            self.write_checkpoints(JobPurpose::Checkpoint, Vec::new());
        }
        if self.maintenance.offsets.is_due(self.now) {
            self.expire_offsets();
        }
    }

    fn retain(&mut self) {
        let expiration_ms = i64::from(self.config.value(broker::PRODUCER_ID_EXPIRATION_MS));
        let mut ops = Vec::new();
        // The metadata log is the cluster's memory: nothing but a snapshot may replace what it says.
        for partition in self.partitions.iter_mut().filter(|partition| partition.tenant != Tenant::Metadata) {
            let (name, high_watermark) = (partition.name.clone(), partition.high_watermark());
            let Some(log) = partition.log_mut() else { continue };
            let start = self.maintenance.checkpointed_starts.get(&name).copied().unwrap_or(Offset::ZERO);
            log.retain(self.now, high_watermark, start, &mut ops);
            log.expire_producers(self.now, expiration_ms);
        }
        self.effects.extend(ops.into_iter().map(Effect::Disk));
    }

    fn write_checkpoints(&mut self, purpose: JobPurpose, also: Vec<(FilePath, Bytes)>) {
        let logs = || self.partitions.iter().filter_map(|partition| Some((partition, partition.log()?)));
        let recovery_points = self.recovery_points();
        let starts: BTreeMap<TopicPartition, Offset> = logs()
            .filter_map(|(partition, log)| Some((partition.name.clone(), log.start_offset_to_checkpoint()?)))
            .collect();
        let high_watermarks: Vec<_> =
            logs().map(|(partition, _)| (&partition.name, partition.high_watermark())).collect();
        let file = |name: &str, text: String| (FilePath::from(name), Bytes::from(text));
        let mut files = vec![
            file(
                checkpoint::RECOVERY_POINT_CHECKPOINT,
                checkpoint::format_offsets(recovery_points.iter().map(|(name, &at)| (name, at))),
            ),
            file(
                checkpoint::LOG_START_OFFSET_CHECKPOINT,
                checkpoint::format_offsets(starts.iter().map(|(name, &start)| (name, start))),
            ),
            file(checkpoint::HIGH_WATERMARK_CHECKPOINT, checkpoint::format_offsets(high_watermarks)),
        ];
        files.extend(also);
        self.maintenance.checkpointing = true;
        self.maintenance.recovery_points_being_written = recovery_points;
        self.maintenance.starts_being_written = starts;
        self.start_job(purpose, DiskJob::Checkpoint(Box::new(WriteCheckpoints::new(files))));
    }

    /// What each log is known to have on disk. One that is not open keeps what the last checkpoint says of it.
    fn recovery_points(&self) -> BTreeMap<TopicPartition, Offset> {
        let point = |partition: &Partition| match partition.log() {
            Some(log) => Some(log.durable_offset()),
            None if self.maintenance.waiting_to_open.contains(&partition.key) => None,
            None => self.maintenance.recovery_points.get(&partition.name).copied(),
        };
        self.partitions
            .iter()
            .filter_map(|partition| Some((partition.name.clone(), point(partition)?)))
            .filter(|&(_, offset)| offset > Offset::ZERO)
            .collect()
    }

    /// A checkpoint is durable.
    pub(crate) fn on_checkpoint_written(&mut self) {
        self.maintenance.checkpointing = false;
        self.maintenance.checkpointed_starts = std::mem::take(&mut self.maintenance.starts_being_written);
        self.maintenance.recovery_points =
            std::mem::take(&mut self.maintenance.recovery_points_being_written);
        for key in std::mem::take(&mut self.maintenance.waiting_to_open) {
            self.open_log(key);
        }
    }

    /// Whether a new partition must wait for a checkpoint: the one on disk has a recovery point of an earlier
    /// partition of its name, by which the new log, which is shorter, would be taken for a damaged one.
    pub(crate) fn waits_for_checkpoint(&mut self, key: PartitionKey, name: &TopicPartition) -> bool {
        let stale = self.maintenance.recovery_points.contains_key(name)
            || self.maintenance.recovery_points_being_written.contains_key(name);
        if stale {
            self.maintenance.waiting_to_open.push(key);
            if !self.maintenance.checkpointing {
                self.write_checkpoints(JobPurpose::Checkpoint, Vec::new());
            }
        }
        stale
    }

    /// The operator asks the node to stop: what is in the page cache is made durable, and the checkpoints say
    /// that the next start has nothing to recover.
    pub(crate) fn stop(&mut self) {
        if !matches!(self.phase, Phase::Serving) {
            self.phase = Phase::Stopped;
            self.effects.push(Effect::Stopped { error: None });
            return;
        }
        self.phase = Phase::Stopping;
        let mut ops = Vec::new();
        for partition in self.partitions.iter_mut() {
            if let Some(log) = partition.log_mut() {
                log.close(&mut ops);
            }
        }
        self.effects.extend(ops.into_iter().map(Effect::Disk));
        for partition in self.partitions.iter_mut() {
            partition.begin_sync(&mut self.effects);
        }
        self.on_sync_while_stopping();
    }

    /// A sync is done: if it was the last one, write the last checkpoint.
    pub(crate) fn on_sync_while_stopping(&mut self) {
        if !matches!(self.phase, Phase::Stopping) {
            return;
        }
        for partition in self.partitions.iter_mut() {
            partition.begin_sync(&mut self.effects);
        }
        if self.partitions.iter().any(|partition| partition.is_syncing()) || self.maintenance.checkpointing {
            return;
        }
        let node_id = self.config.node_id();
        let epoch = self.image().broker(node_id).map_or(-1, |registered| registered.epoch);
        self.write_checkpoints(JobPurpose::LastCheckpoint, vec![clean_shutdown_marker(epoch)]);
    }

    /// The last checkpoint is written: the end.
    pub(crate) fn on_last_checkpoint(&mut self) {
        self.phase = Phase::Stopped;
        self.effects.push(Effect::Stopped { error: None });
    }
}

/// The path of a partition's directory once its topic is deleted, until it is removed.
pub(crate) fn deleted_directory(directory: &FilePath, unique: uuid::Uuid) -> FilePath {
    Arc::from(format!("{directory}.{}{}", unique.simple(), crate::boot::DELETED_SUFFIX))
}
