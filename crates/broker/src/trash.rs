//! The trash: deleted topics that can still be brought back.
//!
//! 1. Before the deletion is written to the metadata log, all that it forgets of the topic is written to a file, the
//!    manifest (`trash_files.rs`).
//! 2. When it is committed the partitions' directories are renamed, to names that tell the topic's id
//!    (`set_aside.rs`).
//! 3. Undeleting first commits the groups' offsets again, then the topic's records; then the directories are renamed
//!    back. Transactions that were open are ended (`left_open.rs`). The manifest goes when the checkpoints have what it
//!    says.
//!
//! A fork comes into being in the same way, without having been a topic before (`fork.rs`).
//!
//! So whenever the node ends, the metadata log tells where a topic is: the topic is there, and what is still in the
//! trash is put back at start; or it is not, and what is not yet in the trash is put there. The decision stands in
//! `docs/adr/2026-11-25-trash.md`.

use std::collections::BTreeMap;

use dohle_configs::broker;
use dohle_controller::{ConfigResource, TopicImage};
use dohle_groups::state::CommittedOffset;
use dohle_protocol::messages::TrashManifest;
use dohle_protocol::messages::trash_manifest::{
    TrashedConfig, TrashedGroup, TrashedOffset, TrashedPartition,
};
use dohle_storage::disk::{FilePath, LogDir, Op};
use dohle_storage::{Log, LogId};
use dohle_types::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, Str, Timestamp, TopicId, TopicPartition};

use crate::boot_facts::KnownLog;
use crate::host::{DiskJob, Effect};
use crate::jobs::{ChangeFiles, SyncDirectory};
use crate::node::Node;
use crate::partition::{Partition, PartitionKey, State};
use crate::set_aside;
use crate::started_jobs::JobPurpose;
use crate::trash_files::manifest_path;

/// All that is in the trash, and on its way into it and out of it.
#[derive(Debug, Default)]
pub struct Trash {
    topics: BTreeMap<TopicId, Trashed>,
    /// Topics whose manifests are written, and whose deletion is not committed yet.
    deleting: BTreeMap<TopicId, TrashManifest>,
    /// Topics that are back, and whose manifests are still there.
    restored: BTreeMap<TopicId, Restored>,
    /// Directories that become a partition's when its log is opened.
    placements: BTreeMap<(TopicId, PartitionIndex), Placement>,
    /// Directories of deleted partitions whose logs were being opened: they go when that is done.
    closing: BTreeMap<PartitionKey, Closing>,
}

/// A topic in the trash.
#[derive(Debug)]
pub(crate) struct Trashed {
    pub(crate) manifest: TrashManifest,
    pub(crate) directories: Vec<FilePath>,
}

/// What it was like when a topic was deleted that is back.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    pub(crate) deleted_at: Timestamp,
    /// The epochs that wrote last before.
    leader_epochs: BTreeMap<PartitionIndex, LeaderEpoch>,
}

impl Restored {
    /// Whether a record that this epoch wrote was there when the topic was deleted.
    pub(crate) fn had(&self, partition: PartitionIndex, epoch: LeaderEpoch) -> bool {
        self.leader_epochs.get(&partition).is_some_and(|&last| epoch <= last)
    }
}

/// A directory that is to become a partition's.
#[derive(Debug)]
pub(crate) struct Placement {
    pub(crate) from: FilePath,
    pub(crate) known: KnownLog,
    /// Up to where it is compacted.
    pub(crate) clean_to: Option<Offset>,
}

#[derive(Debug)]
struct Closing {
    from: FilePath,
    then: Vec<Op>,
    /// Partitions of that name that wait to be opened.
    waiting: Vec<PartitionKey>,
}

impl Trash {
    /// What is in the trash, what was deleted last first.
    pub(crate) fn topics(&self) -> Vec<&TrashManifest> {
        let mut all: Vec<_> = self.topics.values().map(|trashed| &trashed.manifest).collect();
        all.sort_by_key(|manifest| std::cmp::Reverse(manifest.deleted_at_ms));
        all
    }

    /// The topic of this name that was deleted last, or the one of this id.
    pub(crate) fn find(&self, name: &str, topic_id: TopicId) -> Option<&TrashManifest> {
        let is_meant = |manifest: &&TrashManifest| {
            manifest.name == name && (topic_id.is_zero() || manifest.topic_id == topic_id.0)
        };
        self.topics().into_iter().find(is_meant)
    }

    /// The directories in a log dir that are in the trash or on the way out of it, and up to where each has everything
    /// in its files.
    pub(crate) fn directories_in(&self, log_dir: LogDir) -> BTreeMap<LogId, (FilePath, Offset)> {
        let trashed = self.topics.iter().flat_map(|(&topic_id, trashed)| {
            trashed.directories.iter().filter_map(move |dir| {
                let (_, index) = set_aside::parse_trashed(LogDir::split(dir).1)?;
                let known = trashed.manifest.partitions.iter().find(|partition| partition.index == index.0);
                let known = known.map_or(0, |known| known.recovery_point.max(known.log_start_offset));
                Some((LogId { topic_id, partition: index }, (dir.clone(), Offset(known))))
            })
        });
        let placed = self.placements.iter().map(|(&(topic_id, partition), placement)| {
            let known = placement.known.recovery_point.max(placement.known.start_offset);
            (LogId { topic_id, partition }, (placement.from.clone(), known.unwrap_or_default()))
        });
        trashed.chain(placed).filter(|(_, (dir, _))| LogDir::of(dir) == log_dir).collect()
    }

    /// The end of what a commit journal had of a log that is on the way out of the trash.
    pub(crate) fn note_durable(&mut self, id: LogId, durable_to: Offset) {
        if let Some(placement) = self.placements.get_mut(&(id.topic_id, id.partition)) {
            placement.known.durable_to = Some(durable_to);
        }
    }

    /// The directory of a deleted topic's partition of which only a commit journal is left, as it goes into the trash.
    pub(crate) fn take_in(&mut self, id: LogId, log_dir: LogDir) -> Option<(FilePath, Offset)> {
        let Trashed { manifest, directories } = self.topics.get_mut(&id.topic_id)?;
        let known = manifest.partitions.iter().find(|partition| partition.index == id.partition.0)?;
        let of = |dir: &FilePath| set_aside::parse_trashed(LogDir::split(dir).1);
        if directories.iter().any(|dir| of(dir) == Some((id.topic_id, id.partition))) {
            // It is in another log dir: it was flushed before it was moved there.
            return None;
        }
        let name = TopicPartition { topic: manifest.name.clone(), partition: id.partition };
        let dir = set_aside::trashed(&log_dir.path(&name.to_string()), id.topic_id);
        directories.push(dir.clone());
        Some((dir, Offset(known.recovery_point.max(known.log_start_offset))))
    }

    /// When a topic is deleted that is deleted now: later than any before, whatever the clock says.
    fn next_deletion(&self, now: Timestamp) -> Timestamp {
        let earlier = self.topics.values().map(|trashed| &trashed.manifest).chain(self.deleting.values());
        let last = earlier.map(|manifest| manifest.deleted_at_ms).max();
        Timestamp(last.map_or(now.0, |last| now.0.max(last.saturating_add(1))))
    }

    /// A topic is to be deleted, and its manifest is written first: where one is left of the time that it was brought
    /// back, this one takes its place, and is not to be removed for it.
    pub(crate) fn begin_deletion(&mut self, topic_id: TopicId) {
        self.restored.remove(&topic_id);
    }

    /// A topic is deleted for good after all: a manifest that is there, of now or of before, is to be removed.
    pub(crate) fn give_up(&mut self, topic_id: TopicId) {
        if !self.topics.contains_key(&topic_id) {
            self.restored.insert(topic_id, Restored::default());
        }
    }

    /// Its manifest is durable; its deletion is about to be committed.
    pub(crate) fn expect(&mut self, manifest: TrashManifest) {
        self.deleting.insert(TopicId(manifest.topic_id), manifest);
    }

    /// Puts a topic in.
    pub(crate) fn insert(&mut self, trashed: Trashed) {
        let topic_id = TopicId(trashed.manifest.topic_id);
        self.restored.remove(&topic_id);
        self.topics.insert(topic_id, trashed);
    }

    /// Whether a topic was brought back, so that its partitions may have files though they are found nowhere.
    pub(crate) fn is_restored(&self, topic_id: TopicId) -> bool {
        self.restored.contains_key(&topic_id)
    }

    /// What a topic that is back was like when it was deleted.
    pub(crate) fn restored(&self, topic_id: TopicId) -> Option<&Restored> {
        self.restored.get(&topic_id)
    }

    /// The topics that are back, and whose manifests are still there.
    pub(crate) fn all_restored(&self) -> impl Iterator<Item = TopicId> {
        self.restored.keys().copied()
    }

    /// Takes a topic out that comes back.
    pub(crate) fn restore(&mut self, topic_id: TopicId) {
        let Some(trashed) = self.topics.remove(&topic_id) else { return };
        self.put_back(&trashed.manifest, trashed.directories, false);
    }

    /// A topic that is there has directories in the trash, or at least its manifest. Those of a fork that was just made
    /// are `clean`; at the next start it may have been written to, and a power loss may have taken their new names.
    pub(crate) fn put_back(&mut self, manifest: &TrashManifest, directories: Vec<FilePath>, clean: bool) {
        let topic_id = TopicId(manifest.topic_id);
        let epoch = |known: &TrashedPartition| (PartitionIndex(known.index), LeaderEpoch(known.leader_epoch));
        let restored = Restored {
            deleted_at: Timestamp(manifest.deleted_at_ms),
            leader_epochs: manifest.partitions.iter().map(epoch).collect(),
        };
        self.restored.insert(topic_id, restored);
        for from in directories {
            let Some((_, index)) = set_aside::parse_trashed(LogDir::split(&from).1) else { continue };
            let known = manifest.partitions.iter().find(|partition| partition.index == index.0);
            let clean_to = known.and_then(clean_to);
            let known = KnownLog {
                clean,
                recovery_point: known.map(|known| Offset(known.recovery_point)),
                start_offset: known.map(|known| Offset(known.log_start_offset)),
                cleaned: clean_to,
                durable_to: None,
            };
            self.placements.insert((topic_id, index), Placement { from, known, clean_to });
        }
    }
}

/// Up to where a partition in the trash is compacted; `None` where it never was.
pub(crate) fn clean_to(trashed: &TrashedPartition) -> Option<Offset> {
    Some(Offset(trashed.cleaned_to)).filter(|offset| *offset >= Offset::ZERO)
}

impl Node {
    /// How long deleted topics are kept; `None` where they are not.
    pub(crate) fn trash_ms(&self) -> Option<i64> {
        Some(self.config.value(broker::DOHLE_TOPIC_TRASH_MS)).filter(|&ms| ms > 0)
    }

    /// What would be forgotten with a topic.
    pub(crate) fn manifest_of(&self, topic: &TopicImage) -> TrashManifest {
        TrashManifest {
            deleted_at_ms: self.trash.next_deletion(self.now.wall).0,
            groups: self.trashed_offsets(&topic.name, topic.id),
            ..self.description_of(topic)
        }
    }

    /// What there is of a topic beside its files.
    pub(crate) fn description_of(&self, topic: &TopicImage) -> TrashManifest {
        let resource = ConfigResource::Topic(topic.name.clone());
        let configs = self.image().config_overrides(&resource);
        let logs =
            || self.partitions.keys_of(topic.id).into_iter().filter_map(|key| self.partitions.by_key(key));
        let partition = |index: PartitionIndex| {
            let key = self.partitions.key(topic.id, index.0);
            let partition = key.and_then(|key| self.partitions.by_key(key));
            match partition.and_then(Partition::log) {
                Some(log) => (log.start_offset(), log.recovery_point()),
                None => {
                    let known = partition.and_then(|partition| self.known_log(partition));
                    let start = known.and_then(|known| known.start_offset).unwrap_or_default();
                    (start, known.and_then(|known| known.recovery_point).unwrap_or_default())
                }
            }
        };
        let cleaned_to = |index: PartitionIndex| {
            let partition = self.partitions.by_key(self.partitions.key(topic.id, index.0)?)?;
            self.log_dirs.state(partition.log_dir)?.checkpoints.clean_to(&partition.name)
        };
        TrashManifest {
            name: topic.name.clone(),
            topic_id: topic.id.0,
            size_in_bytes: logs()
                .filter_map(|partition| i64::try_from(partition.log()?.size_in_bytes()).ok())
                .fold(0, i64::saturating_add),
            configs: configs
                .map(|(name, value)| TrashedConfig { name: name.into(), value: value.into() })
                .collect(),
            partitions: topic
                .partitions
                .iter()
                .map(|(&index, image)| TrashedPartition {
                    index: index.0,
                    replicas: image.replicas.iter().map(|broker| broker.0).collect(),
                    directories: image.directories.clone(),
                    leader_epoch: image.leader_epoch.0,
                    partition_epoch: image.partition_epoch,
                    log_start_offset: partition(index).0.0,
                    recovery_point: partition(index).1.0,
                    cleaned_to: cleaned_to(index).map_or(-1, |offset| offset.0),
                })
                .collect(),
            ..TrashManifest::default()
        }
    }

    fn trashed_offsets(&self, topic: &Str, topic_id: TopicId) -> Vec<TrashedGroup> {
        let mut groups: BTreeMap<Str, Vec<TrashedOffset>> = BTreeMap::new();
        for (group_id, index, committed) in self.group_offsets_of(topic, topic_id) {
            groups.entry(group_id).or_default().push(TrashedOffset {
                index,
                offset: committed.offset.0,
                leader_epoch: committed.leader_epoch.0,
                metadata: committed.metadata,
                committed_at_ms: committed.committed_at.0,
                expires_at_ms: committed.expires_at.map_or(-1, |at| at.0),
            });
        }
        groups.into_iter().map(|(group_id, partitions)| TrashedGroup { group_id, partitions }).collect()
    }

    /// Commits the offsets again that groups had in a deleted topic, under the name that it gets. The ledgers that
    /// have something to commit.
    ///
    /// # Errors
    /// A group's ledger is not here yet; nothing is committed.
    pub(crate) fn restore_offsets(
        &mut self,
        manifest: &TrashManifest,
        name: &Str,
    ) -> Result<Vec<i32>, ErrorCode> {
        let mut by_ledger: BTreeMap<i32, Vec<(Str, i32, CommittedOffset)>> = BTreeMap::new();
        for TrashedGroup { group_id, partitions } in &manifest.groups {
            let ledger = by_ledger.entry(self.coordinator_of(group_id)?).or_default();
            ledger.extend(partitions.iter().map(|at| {
                let committed = CommittedOffset {
                    offset: Offset(at.offset),
                    leader_epoch: LeaderEpoch(at.leader_epoch),
                    metadata: at.metadata.clone(),
                    committed_at: Timestamp(at.committed_at_ms),
                    expires_at: Some(Timestamp(at.expires_at_ms)).filter(|at| at.0 >= 0),
                    topic_id: TopicId(manifest.topic_id),
                };
                (group_id.clone(), at.index, committed)
            }));
        }
        for (&index, offsets) in &by_ledger {
            self.restore_group_offsets(index, name, offsets);
        }
        Ok(by_ledger.into_keys().collect())
    }

    /// The directories of a topic that was deleted go into the trash, or are removed.
    pub(crate) fn discard(&mut self, topic_id: TopicId, removed: &[Partition]) {
        let manifest = self.trash.deleting.remove(&topic_id);
        let mut directories = Vec::new();
        for partition in removed {
            let from = partition.log_dir.path(&partition.name.to_string());
            let index = partition.name.partition;
            if let Some(placement) = self.trash.placements.remove(&(topic_id, index)) {
                directories.push(placement.from);
                continue;
            }
            let is_settled = partition.log().is_none_or(Log::is_settled);
            let to = match manifest {
                Some(_) => set_aside::trashed(&from, topic_id),
                None => set_aside::deleted(&from, self.rng.uuid()),
            };
            let mut ops = vec![Op::Rename { from: from.clone(), to: to.clone() }];
            if manifest.is_none() {
                ops.push(Op::Remove { path: to.clone() });
            }
            match partition.state() {
                State::Online(log) if log.size_in_bytes() > 0 || log.end_offset() > Offset::ZERO => {
                    self.effects.extend(ops.into_iter().map(Effect::Disk));
                }
                State::Closed(Some(_)) => self.effects.extend(ops.into_iter().map(Effect::Disk)),
                State::Opening if self.openings.known(partition.key).is_some() => {
                    let closing = Closing { from, then: ops, waiting: Vec::new() };
                    self.trash.closing.insert(partition.key, closing);
                }
                // It has no files, or they are found at the next start.
                State::Closed(None) | State::Online(_) | State::Opening | State::Offline(_) => continue,
            }
            if manifest.is_some() && !is_settled {
                self.settle(partition.log_dir, to.clone());
            }
            directories.push(to);
        }
        match manifest {
            Some(manifest) => self.trash.insert(Trashed { manifest, directories }),
            None => {
                directories.into_iter().for_each(|path| self.effects.push(Effect::Disk(Op::Remove { path })))
            }
        }
    }

    /// Makes durable what a directory that went into the trash has, for which nobody asks any more: only the commit
    /// journal may have some of it otherwise, and that goes with a clean stop.
    fn settle(&mut self, log_dir: LogDir, directory: FilePath) {
        if let Some(state) = self.log_dirs.state_mut(log_dir) {
            state.settling += 1;
        }
        let job = SyncDirectory::new(directory);
        self.start_job(JobPurpose::Settle(log_dir), DiskJob::SyncDirectory(Box::new(job)));
    }

    /// A directory in the trash is durable, or its log dir failed.
    pub(crate) fn on_trash_settled(&mut self, log_dir: LogDir) {
        if let Some(state) = self.log_dirs.state_mut(log_dir) {
            state.settling -= 1;
        }
        self.end_when_flushed();
    }

    /// The log of a partition was opened that is not there any more: its directory can go.
    pub(crate) fn on_deleted_log_opened(&mut self, key: PartitionKey) {
        let Some(closing) = self.trash.closing.remove(&key) else { return };
        self.effects.extend(closing.then.into_iter().map(Effect::Disk));
        for key in closing.waiting {
            self.create_log(key);
        }
    }

    /// The log of a partition is in another log dir now that was deleted on the way: its directory can go.
    pub(crate) fn on_deleted_log_moved(&mut self, key: PartitionKey, log_dir: LogDir) {
        let moved = |path: &FilePath| log_dir.path(LogDir::split(path).1);
        let Some(closing) = self.trash.closing.get_mut(&key) else { return };
        for op in &mut closing.then {
            match op {
                Op::Rename { from, to } => {
                    let trashed = self.trash.topics.values_mut().flat_map(|topic| &mut topic.directories);
                    trashed.filter(|path| *path == to).for_each(|path| *path = moved(path));
                    (*from, *to) = (moved(from), moved(to));
                }
                Op::Remove { path }
                | Op::Write { path, .. }
                | Op::Truncate { path, .. }
                | Op::Link { to: path, .. }
                | Op::Allocate { path, .. } => *path = moved(path),
            }
        }
        self.on_deleted_log_opened(key);
    }

    /// Whether a new partition must wait until the directory of a deleted one of its name is out of the way, wherever
    /// that is: it may be changing its place.
    pub(crate) fn waits_for_closing(&mut self, key: PartitionKey, directory: &FilePath) -> bool {
        let name = LogDir::split(directory).1;
        let mut all = self.trash.closing.values_mut();
        let closing = all.find(|closing| LogDir::split(&closing.from).1 == name);
        closing.map(|closing| closing.waiting.push(key)).is_some()
    }

    /// Where the files of a new partition are that was brought back.
    pub(crate) fn placement(&self, topic_id: TopicId, index: PartitionIndex) -> Option<LogDir> {
        self.trash.placements.get(&(topic_id, index)).map(|placement| LogDir::of(&placement.from))
    }

    /// Puts the files of a partition that was brought back in their place.
    pub(crate) fn place(&mut self, topic_id: TopicId, name: &TopicPartition) -> Option<KnownLog> {
        let Placement { from, known, clean_to } =
            self.trash.placements.remove(&(topic_id, name.partition))?;
        let log_dir = LogDir::of(&from);
        let to = log_dir.path(&name.to_string());
        self.effects.push(Effect::Disk(Op::Rename { from, to }));
        if let (Some(state), Some(offset)) = (self.log_dirs.state_mut(log_dir), clean_to) {
            state.checkpoints.set_clean_to(name.clone(), offset);
        }
        Some(known)
    }

    /// Removes what has been in the trash for long enough, and the manifests of topics that are back.
    pub(crate) fn sweep_trash(&mut self) {
        let kept_ms = self.trash_ms().unwrap_or(0);
        let is_old =
            |manifest: &TrashManifest| self.now.wall.0.saturating_sub(manifest.deleted_at_ms) >= kept_ms;
        let old: Vec<TopicId> = self
            .trash
            .topics
            .iter()
            .filter(|(_, trashed)| is_old(&trashed.manifest))
            .map(|(&topic_id, _)| topic_id)
            .collect();
        for topic_id in old {
            self.purge(topic_id);
        }
        self.end_all_left_open();
        let settled: Vec<TopicId> =
            self.trash.all_restored().filter(|&topic_id| self.is_settled(topic_id)).collect();
        for topic_id in settled {
            self.trash.restored.remove(&topic_id);
            let path = manifest_path(self.log_dirs.of_metadata_log(), topic_id);
            self.effects.push(Effect::Disk(Op::Remove { path }));
        }
    }

    /// Gives up the topic that was deleted first of those with files in a log dir, for its disk runs short.
    pub(crate) fn reclaim_trash(&mut self, log_dir: LogDir) {
        let has_files =
            |trashed: &&Trashed| trashed.directories.iter().any(|path| LogDir::of(path) == log_dir);
        let oldest = self.trash.topics.values().filter(has_files).min_by_key(|it| it.manifest.deleted_at_ms);
        if let Some(topic_id) = oldest.map(|trashed| TopicId(trashed.manifest.topic_id)) {
            self.purge(topic_id);
        }
    }

    fn purge(&mut self, topic_id: TopicId) {
        let Some(trashed) = self.trash.topics.remove(&topic_id) else { return };
        tracing::info!(topic = %trashed.manifest.name, %topic_id, "removed from the trash");
        self.remove_from_trash(topic_id, trashed.directories);
    }

    /// Removes directories in the trash, and their manifest after them.
    pub(crate) fn remove_from_trash(&mut self, topic_id: TopicId, directories: Vec<FilePath>) {
        let manifest = manifest_path(self.log_dirs.of_metadata_log(), topic_id);
        let paths = directories.into_iter().chain([manifest]);
        let ops = paths.map(|path| Op::Remove { path }).collect();
        self.start_job(JobPurpose::Purge, DiskJob::Change(Box::new(ChangeFiles::new(ops))));
    }

    /// Whether all that the manifest of a topic says, which is back, is in the checkpoints, or was deleted anew, and no
    /// transaction is left in it of which the manifest tells that its coordinator may not know it any more.
    fn is_settled(&self, topic_id: TopicId) -> bool {
        let is_durable = |partition: &Partition, start: Option<Offset>, point: Option<Offset>| {
            let Some(state) = self.log_dirs.state(partition.log_dir) else { return false };
            let checkpoints = &state.checkpoints;
            start.is_none_or(|start| checkpoints.durable_start(&partition.name) >= start)
                && (point.is_none_or(|point| point == Offset::ZERO)
                    || checkpoints.durable_recovery_point(&partition.name).is_some())
        };
        let is_known = |partition: &Partition| match partition.state() {
            State::Opening => false,
            State::Offline(_) => true,
            // Of its transactions nothing is known until it is opened.
            State::Closed(known) => known.is_none(),
            State::Online(log) => {
                is_durable(partition, log.start_offset_to_checkpoint(), Some(log.recovery_point()))
                    && !self.has_left_open(partition)
            }
        };
        let keys = self.partitions.keys_of(topic_id);
        self.trash.placements.keys().all(|&(placed, _)| placed != topic_id)
            && keys.into_iter().filter_map(|key| self.partitions.by_key(key)).all(is_known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_of_a_topic_that_is_deleted_again_is_not_that_of_one_that_is_back() {
        let topic_id = TopicId(uuid::Uuid::from_u128(7));
        let manifest = TrashManifest { topic_id: topic_id.0, ..TrashManifest::default() };
        let mut trash = Trash::default();
        trash.insert(Trashed { manifest: manifest.clone(), directories: Vec::new() });
        trash.restore(topic_id);
        assert!(trash.is_restored(topic_id), "its manifest goes some time");
        trash.begin_deletion(topic_id);
        assert!(!trash.is_restored(topic_id), "its manifest is needed again");
        trash.give_up(topic_id);
        assert!(trash.is_restored(topic_id), "it was not written, or in vain");
        trash.begin_deletion(topic_id);
        trash.insert(Trashed { manifest, directories: Vec::new() });
        trash.give_up(topic_id);
        assert!(!trash.is_restored(topic_id), "another request has deleted the topic");
    }
}
