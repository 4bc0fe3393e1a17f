//! When a snapshot of the metadata is written, and what of the metadata log and the older snapshots remains then.
//!
//! As with Kafka's `SnapshotGenerator` and `KafkaMetadataLog`: after `metadata.log.max.record.bytes.between.snapshots`
//! of records, or when `metadata.log.max.snapshot.interval.ms` has passed and anything has changed. Older snapshots go
//! by `metadata.max.retention.bytes` and `.ms`; the log begins no later than the oldest that is left, so that there is
//! always a snapshot that the log goes on from.

use std::collections::BTreeMap;
use std::time::Duration;

use dohle_configs::{BrokerConfig, broker};
use dohle_controller::ConfigResource;
use dohle_storage::Log;
use dohle_storage::disk::Op;
use dohle_types::time::Instant;
use dohle_types::{Now, Offset, Timestamp};

use crate::host::{DiskJob, Effect};
use crate::node::{Node, Phase};
use crate::partition::PartitionKey;
use crate::snapshot_file::{METADATA_DIRECTORY, Snapshot, SnapshotFile, SnapshotId, WriteSnapshot};
use crate::started_jobs::JobPurpose;

/// The snapshots of the metadata log, and what has happened since the newest.
#[derive(Debug, Default)]
pub struct Snapshots {
    files: BTreeMap<SnapshotId, SnapshotFile>,
    /// Bytes of records that the newest has not taken in.
    bytes_since: u64,
    /// When the last record was appended.
    last_appended: Timestamp,
    /// When the next is due if anything changes; `None` where time does not matter.
    due: Option<Instant>,
    is_writing: bool,
}

impl Snapshots {
    /// Takes over those that are on disk.
    pub(crate) fn set_files(&mut self, files: BTreeMap<SnapshotId, SnapshotFile>) {
        self.last_appended = files.values().last().map_or(Timestamp::NONE, |newest| newest.timestamp);
        self.files = files;
    }

    /// Takes note of a batch that was appended, or replayed behind the newest snapshot.
    pub(crate) fn note(&mut self, bytes: usize, appended: Timestamp) {
        self.bytes_since += bytes as u64;
        self.last_appended = appended;
    }

    /// Begins to count the time, when the node begins to serve or has written a snapshot.
    pub(crate) fn start(&mut self, now: Now, config: &BrokerConfig) {
        let interval_ms = config.value(broker::METADATA_LOG_MAX_SNAPSHOT_INTERVAL_MS);
        let interval = u64::try_from(interval_ms).ok().filter(|&ms| ms > 0).map(Duration::from_millis);
        self.due = interval.map(|interval| now.after(interval));
    }

    /// The end of what the newest snapshot has taken in.
    fn newest_end(&self) -> Offset {
        self.files.keys().last().map_or(Offset::ZERO, |id| id.end)
    }

    /// When the next snapshot is due, if the image ends at `end` now.
    pub(crate) fn next_timeout(&self, end: Offset) -> Option<Instant> {
        self.due.filter(|_| !self.is_writing && end > self.newest_end())
    }
}

impl Node {
    /// Replays the metadata log from where the newest snapshot ends.
    pub(crate) fn load_metadata(&mut self, key: PartitionKey) {
        let Some(log) = self.partitions.by_key(key).and_then(|partition| partition.log()) else { return };
        let (start, end) = (log.start_offset(), log.end_offset());
        let snapshot = self.metadata.snapshots.newest_end();
        if start > snapshot {
            return self.fail_to_boot(format!(
                "the metadata log begins at offset {start}, and the newest snapshot of what was before it ends at \
                 {snapshot}: restore the *.checkpoint files of {METADATA_DIRECTORY} from a backup"
            ));
        }
        if end < snapshot {
            return self.fail_to_boot(format!(
                "the metadata log ends at offset {end}, before the snapshot that it has to go on from, which ends at \
                 {snapshot}: restore the *.log files of {METADATA_DIRECTORY} from a backup"
            ));
        }
        self.load_ledger(key, snapshot);
    }

    /// Whether this node can serve what the metadata log says, and tells what of that it will only keep.
    ///
    /// # Errors
    /// Why it cannot without doing harm.
    pub(crate) fn may_serve(&self) -> Result<(), String> {
        let image = self.metadata.controller().image();
        self.metadata.quorum().check(self.config.node_id())?;
        let authorizer = self.config.value(broker::AUTHORIZER_CLASS_NAME);
        if image.kept().acl_count() > 0 && !authorizer.is_empty() {
            return Err(format!(
                "authorizer.class.name is {authorizer}, and this version of Dohle does not enforce access control \
                 entries: clients could do what these forbid; remove authorizer.class.name to allow that"
            ));
        }
        for (what, count) in image.kept().unenforced() {
            tracing::warn!(what, count, "the metadata has what this version keeps and does not enforce");
        }
        for (feature, level) in image.unserved_features() {
            tracing::info!(
                feature,
                level,
                "the metadata has a feature that this version keeps and does not serve"
            );
        }
        for resource in image.config_resources() {
            if let ConfigResource::ClientMetrics(_) | ConfigResource::Group(_) = resource {
                tracing::info!(%resource, "the metadata has configs that this version keeps and does not heed");
            }
        }
        Ok(())
    }

    /// Writes a snapshot if one is due.
    pub(crate) fn snapshot_when_due(&mut self) {
        let end = self.image().end_offset();
        let snapshots = &mut self.metadata.snapshots;
        let is_due = snapshots.bytes_since >= self.fixed.snapshot_bytes
            || snapshots.next_timeout(end).is_some_and(|due| due <= self.now.instant);
        let is_serving = matches!(self.phase, Phase::Serving);
        if !is_due || !is_serving || snapshots.is_writing || end <= snapshots.newest_end() {
            return;
        }
        snapshots.is_writing = true;
        snapshots.bytes_since = 0;
        let snapshot = Snapshot {
            last_appended: snapshots.last_appended,
            image: self.metadata.image().clone(),
            quorum: self.metadata.quorum().clone(),
        };
        let job = WriteSnapshot::new(snapshot, self.log_dirs.of_metadata_log(), self.now);
        self.start_job(JobPurpose::WriteSnapshot, DiskJob::WriteSnapshot(Box::new(job)));
    }

    /// A snapshot is durable: what it replaces may go.
    pub(crate) fn on_snapshot_written(&mut self, (id, file): (SnapshotId, SnapshotFile)) {
        let size = file.size;
        tracing::info!(%id, size, "a snapshot of the metadata is written");
        let snapshots = &mut self.metadata.snapshots;
        snapshots.files.insert(id, file);
        snapshots.is_writing = false;
        snapshots.start(self.now, &self.config);
        self.retain_snapshots();
    }

    /// A snapshot could not be written, for want of room: it is tried again when more has changed.
    pub(crate) fn on_snapshot_failed(&mut self) {
        self.metadata.snapshots.is_writing = false;
        self.metadata.snapshots.start(self.now, &self.config);
    }

    /// Removes the oldest snapshots while they are too old, or too large together with the log, and what of the log
    /// only they needed. The newest one stays.
    pub(crate) fn retain_snapshots(&mut self) {
        let bytes_max = u64::try_from(self.config.value(broker::METADATA_MAX_RETENTION_BYTES)).ok();
        let age_max = Some(self.config.value(broker::METADATA_MAX_RETENTION_MS)).filter(|&ms| ms >= 0);
        let (key, log_dir) = (self.metadata.partition(), self.log_dirs.of_metadata_log());
        let Some(log) = self.partitions.by_key_mut(key).and_then(|partition| partition.log_mut()) else {
            return;
        };
        let files = &mut self.metadata.snapshots.files;
        let mut bytes: u64 = files.values().map(|file| file.size).sum();
        while files.len() > 1
            && let Some((&id, &oldest)) = files.first_key_value()
        {
            let is_too_large = bytes_max.is_some_and(|max| bytes + live_bytes(log) > max);
            let age = self.now.wall.0.saturating_sub(oldest.timestamp.0);
            if !is_too_large && age_max.is_none_or(|max| age <= max) {
                break;
            }
            bytes -= oldest.size;
            files.remove(&id);
            self.effects.push(Effect::Disk(Op::Remove { path: id.path(log_dir) }));
            if let Some(next) = files.keys().next() {
                log.delete_records_before(self.now, next.end);
            }
        }
    }
}

/// Bytes of the log that are not about to be removed.
fn live_bytes(log: &Log) -> u64 {
    let start = log.start_offset();
    let next_bases =
        log.segments().skip(1).map(|segment| segment.base_offset).chain([log.end_offset().plus(1)]);
    let live = log.segments().zip(next_bases).filter(|&(_, next_base)| next_base > start);
    live.map(|(segment, _)| segment.size_in_bytes).sum()
}
