//! From the start of the process to the first request served.
//!
//! 1. Read what each log dir says about itself (`boot_facts.rs`). They must belong to the same node; one that is new
//!    gets its `meta.properties`.
//! 2. Load the newest snapshot of the metadata, open the metadata log, and replay it from there.
//! 3. Become leader of the quorum of one: a new epoch with its leader-change record, and the broker registered
//!    anew. A fresh log gets the bootstrap records first.
//! 4. After a crash give logs back what only the commit journal has of them (`commit_journal.rs`).
//! 5. Serve, and have that made durable. The partitions' logs are opened when somebody asks for them, or, where they must
//!    be recovered, in the background (`opening.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dohle_configs::broker;
use dohle_storage::disk::{DiskError, FilePath, LogDir, Op};
use dohle_storage::journal::Replayed;
use dohle_types::{LeaderEpoch, Offset, TopicId, TopicPartition};

use crate::boot_facts::{BootFacts, KnownLog, MetaProperties, ReadBootFacts};
use crate::host::{DiskJob, Effect};
use crate::jobs::{ChangeFiles, WriteCheckpoints};
use crate::metadata_log::{METADATA_TOPIC, METADATA_TOPIC_ID};
use crate::moves::FUTURE_SUFFIX;
use crate::node::{Node, Phase};
use crate::partition::{PartitionKey, Tenant};
use crate::set_aside::{self, DELETED_SUFFIX};
use crate::snapshot_file::{LoadSnapshot, Loaded, METADATA_DIRECTORY};
use crate::started_jobs::JobPurpose;
use crate::trash::Trashed;
use crate::trash_files::{ReadTrash, TrashFacts, manifest_path};

/// How long the node waits for groups that are being loaded before it listens.
const LOADING_GRACE: Duration = Duration::from_secs(1);

/// How far a boot has come.
#[derive(Debug, Default)]
pub struct Boot {
    /// What the log dirs that have answered say.
    facts: BTreeMap<LogDir, BootFacts>,
    /// What is in the trash, once that is read.
    trash: Option<TrashFacts>,
    /// Log dirs whose journals are being replayed.
    replaying: BTreeSet<LogDir>,
    /// The files of the journals that are replayed.
    journals: BTreeMap<LogDir, Vec<FilePath>>,
    /// The metadata log's end once this node's registration is appended: it serves when that is committed.
    registered: Option<Offset>,
}

/// Where the directory of a partition was found.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nowhere,
    In(LogDir, KnownLog),
    /// In several log dirs, none of which the metadata log names.
    InSeveral(Vec<LogDir>),
}

impl Node {
    /// Begins: everything else follows from the answers.
    pub(crate) fn boot(&mut self) {
        for log_dir in self.log_dirs.all() {
            self.start_job(JobPurpose::Boot(log_dir), DiskJob::Boot(Box::new(ReadBootFacts::new(log_dir))));
        }
    }

    /// A log dir has told about itself. When all have: give those that are new an identity, and open the metadata
    /// log.
    pub(crate) fn on_boot_facts(&mut self, log_dir: LogDir, facts: BootFacts) {
        let Phase::Booting(boot) = &mut self.phase else { return };
        boot.facts.insert(log_dir, facts);
        if boot.facts.len() < self.log_dirs.all().count() {
            return;
        }
        let facts = std::mem::take(&mut boot.facts);
        let identities = match self.identities(&facts) {
            Ok(identities) => identities,
            Err(why) => return self.fail_to_boot(why),
        };
        let mut files = Vec::new();
        for (log_dir, meta) in identities {
            let known = facts.get(&log_dir);
            if known.is_none_or(|facts| facts.meta != Ok(Some(meta.clone()))) {
                files.push(meta.file(log_dir));
            }
            if let Some(state) = self.log_dirs.state_mut(log_dir) {
                state.directory_id = meta.directory_id;
                let recovery_points = known.map(|facts| facts.recovery_points.clone());
                state.checkpoints.set_recovery_points(recovery_points.unwrap_or_default());
                let starts = known.map(|facts| facts.log_start_offsets.clone());
                state.checkpoints.set_starts(starts.unwrap_or_default());
                let cleaner_offsets = known.map(|facts| facts.cleaner_offsets.clone());
                state.checkpoints.set_cleaner_offsets(cleaner_offsets.unwrap_or_default());
            }
            for damage in known.iter().flat_map(|facts| &facts.journal.damage) {
                let log_dir = self.log_dirs.name(log_dir);
                tracing::error!(log_dir, damage, "records may be missing that were acknowledged");
            }
            if log_dir == self.log_dirs.of_metadata_log() {
                self.metadata.set_identity(meta);
            }
        }
        let directories = facts.iter().map(|(&log_dir, facts)| (log_dir, facts.directories.clone()));
        let trash = ReadTrash::new(self.log_dirs.of_metadata_log(), directories.collect());
        self.start_job(JobPurpose::ReadTrash, DiskJob::ReadTrash(Box::new(trash)));
        if let Phase::Booting(boot) = &mut self.phase {
            boot.facts = facts;
        }
        if files.is_empty() {
            return self.load_snapshot();
        }
        let job = DiskJob::Checkpoint(Box::new(WriteCheckpoints::new(files)));
        self.start_job(JobPurpose::FormatLogDirs, job);
    }

    /// Whose log dirs these are, that of the metadata log first; those that have no identity yet get one.
    fn identities(
        &mut self,
        facts: &BTreeMap<LogDir, BootFacts>,
    ) -> Result<Vec<(LogDir, MetaProperties)>, String> {
        let metadata_dir = self.log_dirs.of_metadata_log();
        self.check_place_of_metadata_log(facts)?;
        let mut ordered: Vec<_> = facts.iter().collect();
        ordered.sort_by_key(|&(&log_dir, _)| (log_dir != metadata_dir, log_dir));
        let node_id = self.config.value(broker::NODE_ID);
        let known_cluster = ordered.iter().find_map(|(_, facts)| facts.meta.as_ref().ok()?.as_ref());
        let cluster_id = known_cluster.map(|meta| meta.cluster_id.clone());
        let cluster_id = cluster_id.unwrap_or_else(|| TopicId(self.rng.uuid()).to_string());
        let mut identities: Vec<(LogDir, MetaProperties)> = Vec::new();
        let is_online = |log_dir| self.log_dirs.online().any(|online| online == log_dir);
        let online: Vec<_> = ordered.into_iter().filter(|&(&log_dir, _)| is_online(log_dir)).collect();
        for (&log_dir, facts) in online {
            let name = self.log_dirs.name(log_dir);
            let meta = facts.meta.as_ref().map_err(|error| format!("{name}: {error}"))?;
            let mut meta = meta.clone().unwrap_or_else(|| MetaProperties {
                cluster_id: cluster_id.clone(),
                node_id,
                directory_id: uuid::Uuid::nil(),
            });
            if meta.node_id != node_id {
                let stored = meta.node_id;
                return Err(format!(
                    "node.id is {node_id}, but the log dir {name} belongs to node {stored}: set node.id={stored} or \
                     use another directory"
                ));
            }
            if meta.cluster_id != cluster_id {
                let other = &meta.cluster_id;
                return Err(format!(
                    "the log dir {name} belongs to cluster {other}, but others of this node to {cluster_id}: leave \
                     the one or the other out of log.dirs"
                ));
            }
            // Directories formatted before KIP-858 have no id.
            if meta.directory_id.is_nil() {
                meta.directory_id = self.rng.uuid();
            }
            let same = |(_, known): &&(LogDir, MetaProperties)| known.directory_id == meta.directory_id;
            if let Some((other, _)) = identities.iter().find(same) {
                let (name, other) = (self.log_dirs.name(log_dir), self.log_dirs.name(*other));
                return Err(format!(
                    "the log dirs {other} and {name} have the same directory.id: one is a copy of the other; remove it \
                     from log.dirs"
                ));
            }
            identities.push((log_dir, meta));
        }
        Ok(identities)
    }

    /// A log dir that was put before the others must not be taken for that of the metadata log: all topics would be
    /// unknown.
    fn check_place_of_metadata_log(&self, facts: &BTreeMap<LogDir, BootFacts>) -> Result<(), String> {
        let place = self.log_dirs.of_metadata_log();
        let name = self.log_dirs.name(place);
        let has_metadata = |facts: &BootFacts| facts.directories.contains(METADATA_DIRECTORY);
        if facts.get(&place).is_some_and(has_metadata) {
            return Ok(());
        }
        if let Some((&other, _)) = facts.iter().find(|(_, facts)| has_metadata(facts)) {
            let other = self.log_dirs.name(other);
            return Err(format!(
                "the metadata log is in {other}, not in {name}: set metadata.log.dir={other}, or name that directory \
                 first in log.dirs"
            ));
        }
        let is_new = facts.get(&place).is_some_and(|facts| facts.meta == Ok(None));
        match facts.iter().find(|(_, facts)| matches!(facts.meta, Ok(Some(_)))) {
            Some((&other, _)) if is_new => {
                let other = self.log_dirs.name(other);
                Err(format!(
                    "the log dir {name}, which is to hold the metadata log, is empty, but {other} belongs to a node \
                     already: restore {name}, or name the directory of the metadata log by metadata.log.dir"
                ))
            }
            _ => Ok(()),
        }
    }

    /// The log dirs have their identities: load what the metadata log goes on from.
    pub(crate) fn load_snapshot(&mut self) {
        let job = LoadSnapshot::new(self.log_dirs.of_metadata_log());
        self.start_job(JobPurpose::LoadSnapshot, DiskJob::LoadSnapshot(Box::new(job)));
    }

    /// The newest snapshot is loaded: open the log that goes on from it.
    pub(crate) fn on_snapshot_loaded(&mut self, loaded: Result<Loaded, String>) {
        match loaded {
            Ok(loaded) => self.metadata.begin(loaded),
            Err(why) => return self.fail_to_boot(why),
        }
        let name = TopicPartition::new(METADATA_TOPIC, 0);
        let log_dir = self.log_dirs.of_metadata_log();
        let (epoch, durability) = (LeaderEpoch::NONE, dohle_configs::Durability::Durable);
        let partition =
            self.partitions.add(name, log_dir, METADATA_TOPIC_ID, epoch, durability, Tenant::Metadata);
        let key = partition.key;
        self.metadata.set_partition(key);
        self.find_log(key);
        self.open_log(key);
    }

    /// Finds out where the directory of a partition is, if anywhere; its log is not opened yet.
    pub(crate) fn find_log(&mut self, key: PartitionKey) {
        let Some(partition) = self.partitions.by_key(key) else { return };
        let (name, topic_id) = (partition.name.clone(), partition.topic_id);
        let preferred = partition.log_dir;
        let (log_dir, known) = match self.locate(&name, topic_id, preferred) {
            Found::Nowhere if let Some(log_dir) = self.placement(topic_id, name.partition) => {
                if let Some(partition) = self.partitions.by_key_mut(key) {
                    partition.log_dir = log_dir;
                }
                return self.open_log(key);
            }
            Found::Nowhere => match self.offline_log_dir_of(topic_id, &name) {
                Some(reason) => return self.refuse_log(key, reason),
                None => (preferred, None),
            },
            Found::In(log_dir, known) => (log_dir, Some(known)),
            Found::InSeveral(log_dirs) => {
                let names: Vec<&str> = log_dirs.iter().map(|&log_dir| self.log_dirs.name(log_dir)).collect();
                let reason = format!(
                    "the log dirs {} all have a directory {name}: remove all but one",
                    names.join(" and ")
                );
                return self.refuse_log(key, reason);
            }
        };
        if known.as_ref().is_some_and(|known| !known.clean) {
            self.openings.recover_later(key);
        }
        if let Some(partition) = self.partitions.by_key_mut(key) {
            partition.log_dir = log_dir;
            partition.close(known);
        }
    }

    /// Why a partition that was found nowhere may be in a log dir that cannot be read; `None` where it cannot.
    fn offline_log_dir_of(&self, topic_id: TopicId, name: &TopicPartition) -> Option<String> {
        if !matches!(self.phase, Phase::Booting(_)) && !self.trash.is_restored(topic_id) {
            return None;
        }
        let directory =
            self.image().partition(&name.topic, name.partition)?.directory_of(self.config.node_id())?;
        let is_elsewhere = self.log_dirs.by_id(directory).is_none();
        let (_, offline) = self.log_dirs.for_partitions().find(|(_, state)| state.offline.is_some())?;
        is_elsewhere
            .then(|| format!("it is in none of the log dirs that are online, and {} is not", offline.name))
    }

    /// Where the directory of a partition is, as far as that was found at start and is not taken yet. In several
    /// places there may be what a deleted topic left behind, or a move that a crash cut short: the metadata log tells
    /// which of them counts.
    fn locate(&mut self, name: &TopicPartition, topic_id: TopicId, preferred: LogDir) -> Found {
        let Phase::Booting(boot) = &mut self.phase else { return Found::Nowhere };
        let directory = name.to_string();
        let mut found: Vec<LogDir> = boot
            .facts
            .iter()
            .filter(|(_, facts)| facts.directories.contains(&directory))
            .map(|(&log_dir, _)| log_dir)
            .collect();
        if found.len() > 1 && found.contains(&preferred) {
            found.retain(|&log_dir| log_dir == preferred);
            tracing::warn!(partition = %name, log_dir = self.log_dirs.name(preferred), "found in several log dirs");
        }
        match *found {
            [] => Found::Nowhere,
            [log_dir] => {
                let facts = boot.facts.get_mut(&log_dir);
                match facts.and_then(|facts| facts.take(name, topic_id, &directory)) {
                    Some(known) => Found::In(log_dir, known),
                    None => Found::Nowhere,
                }
            }
            _ => {
                boot.facts.values_mut().for_each(|facts| {
                    facts.directories.remove(&directory);
                });
                Found::InSeveral(found)
            }
        }
    }

    /// The metadata log is replayed: lead the quorum of one, and register.
    pub(crate) fn on_metadata_loaded(&mut self) {
        if let Err(why) = self.may_serve() {
            return self.fail_to_boot(why);
        }
        let registered = match self.register() {
            Ok(end) => end,
            Err(why) => return self.fail_to_boot(why),
        };
        if let Phase::Booting(boot) = &mut self.phase {
            boot.registered = Some(registered);
        }
    }

    /// The metadata log was committed further: if that includes the registration, what clients wrote is next.
    pub(crate) fn on_metadata_committed_while_booting(&mut self, high_watermark: Offset) {
        let Phase::Booting(boot) = &mut self.phase else { return };
        if boot.registered.is_none_or(|end| end > high_watermark) {
            return;
        }
        let Some(trash) = boot.trash.take() else { return };
        let unfinished = self.sort_trash(trash);
        if unfinished.is_empty() {
            return self.replay_journals();
        }
        // First, so that what is shared from then on was durable when it was shared. A fork that ended with a failed sync
        // has files in common with its source that the page cache shows, and the disk has not.
        let ops = unfinished.into_iter().map(|path| Op::Remove { path }).collect();
        self.start_job(JobPurpose::RemoveUnfinished, DiskJob::Change(Box::new(ChangeFiles::new(ops))));
    }

    /// Unfinished forks are gone: give logs back what only a journal has of them.
    pub(crate) fn replay_journals(&mut self) {
        let Phase::Booting(boot) = &mut self.phase else { return };
        let mut facts = std::mem::take(&mut boot.facts);
        let (mut jobs, mut journals) = (Vec::new(), BTreeMap::new());
        for log_dir in self.log_dirs.online().collect::<Vec<_>>() {
            if let Some((job, files)) = self.replay_journal(log_dir, &mut facts) {
                jobs.push((log_dir, job));
                journals.insert(log_dir, files);
            }
        }
        if let Phase::Booting(boot) = &mut self.phase {
            boot.facts = facts;
            boot.replaying = jobs.iter().map(|&(log_dir, _)| log_dir).collect();
            boot.journals = journals;
        }
        for (log_dir, job) in jobs {
            self.start_job(JobPurpose::ReplayJournal(log_dir), DiskJob::ReplayJournal(Box::new(job)));
        }
        self.serve_when_replayed();
    }

    /// The logs in a log dir have what its journal had, but for those that are in another log dir by now.
    pub(crate) fn on_journal_replayed(&mut self, log_dir: LogDir, replayed: &Replayed) {
        for id in &replayed.moved {
            let Some(topic) = self.image().topic_by_id(id.topic_id) else { continue };
            let name = TopicPartition::new(topic.name.clone(), id.partition).to_string();
            if let Phase::Booting(boot) = &mut self.phase
                && let Some(facts) = boot.facts.get_mut(&log_dir)
            {
                facts.directories.remove(&name);
            }
        }
        self.end_replay(log_dir);
    }

    fn end_replay(&mut self, log_dir: LogDir) {
        if let Phase::Booting(boot) = &mut self.phase {
            boot.replaying.remove(&log_dir);
        }
        self.serve_when_replayed();
    }

    /// A journal stays as it is: for want of room, or because its log dir has failed.
    pub(crate) fn on_journal_not_replayed(&mut self, log_dir: LogDir, error: &DiskError) {
        if error.is_full {
            return self.fail_to_boot(format!("{error}; make room and start the node again"));
        }
        if let Phase::Booting(boot) = &mut self.phase {
            boot.facts.remove(&log_dir);
        }
        self.end_replay(log_dir);
    }

    fn serve_when_replayed(&mut self) {
        let Phase::Booting(boot) = &mut self.phase else { return };
        if !boot.replaying.is_empty() {
            return;
        }
        let journals = std::mem::take(&mut boot.journals);
        // What brokers were told at run time is in the metadata log, and topics inherit it.
        self.on_configs_changed();
        let topics: Vec<_> = self.image().topics().cloned().collect();
        for topic in topics {
            for (&index, partition) in &topic.partitions {
                self.add_partition(topic.name.clone(), topic.id, index, partition.leader_epoch);
            }
        }
        let copies = self.set_aside_strays();
        self.phase = Phase::Serving;
        self.write_awaited_checkpoints();
        self.tell_log_dirs();
        self.maintenance.start(self.now, &self.config);
        self.resume_moves(copies);
        self.start_scrub();
        self.metadata.snapshots.start(self.now, &self.config);
        self.erase_journals(journals);
        self.listen_by = Some(self.now.after(LOADING_GRACE));
    }

    /// The trash is read: if all else is, serve.
    pub(crate) fn on_trash_read(&mut self, facts: TrashFacts) {
        let Phase::Booting(boot) = &mut self.phase else { return };
        boot.trash = Some(facts);
        self.on_metadata_committed_while_booting(self.metadata_high_watermark());
    }

    /// The metadata log tells which topics are in the trash. A crash may have left directories in it whose topic is
    /// there, or outside of it whose topic is not. Returns what is left of forks that were not finished.
    fn sort_trash(&mut self, trash: TrashFacts) -> Vec<FilePath> {
        let mut unfinished = Vec::new();
        let Phase::Booting(boot) = &mut self.phase else { return unfinished };
        let mut directories: BTreeMap<TopicId, Vec<FilePath>> = BTreeMap::new();
        for (&log_dir, facts) in &boot.facts {
            for name in &facts.directories {
                if let Some((topic_id, _)) = set_aside::parse_trashed(name) {
                    directories.entry(topic_id).or_default().push(log_dir.path(name));
                }
            }
        }
        for ((log_dir, name), topic_id) in trash.ids {
            let is_there = self.metadata.image().topic_by_id(topic_id).is_some();
            if let Some(facts) = boot.facts.get_mut(&log_dir).filter(|_| !is_there) {
                facts.directories.remove(&name);
                let from = log_dir.path(&name);
                let to = set_aside::trashed(&from, topic_id);
                self.effects.push(Effect::Disk(Op::Rename { from, to: to.clone() }));
                directories.entry(topic_id).or_default().push(to);
            }
        }
        for manifest in trash.manifests {
            let directories = directories.remove(&TopicId(manifest.topic_id)).unwrap_or_default();
            if let Some(topic) = self.metadata.image().topic_by_id(TopicId(manifest.topic_id)) {
                for partition in &manifest.partitions {
                    let name = TopicPartition::new(topic.name.clone(), partition.index);
                    for (&log_dir, facts) in &mut boot.facts {
                        facts.add(&name, partition);
                        let state = self.log_dirs.state_mut(log_dir);
                        if let (Some(state), Some(&offset)) = (state, facts.cleaner_offsets.get(&name)) {
                            state.checkpoints.set_clean_to(name.clone(), offset);
                        }
                    }
                }
                self.trash.put_back(&manifest, directories, false);
            } else if manifest.is_fork {
                tracing::info!(topic = %manifest.name, "removing a fork that was not finished");
                let metadata = self.log_dirs.of_metadata_log();
                unfinished.extend(directories);
                unfinished.push(manifest_path(metadata, TopicId(manifest.topic_id)));
            } else {
                self.trash.insert(Trashed { manifest, directories });
            }
        }
        for path in directories.into_values().flatten() {
            tracing::warn!(%path, "a deleted topic's directory without its manifest: remove it if nobody needs it");
        }
        unfinished
    }

    /// Has the host listen once the groups are loaded, so that no client meets one that is not; but those that take
    /// long do not keep the others from serving. Other logs are opened when somebody asks for them.
    pub(crate) fn listen_when_loaded(&mut self) {
        let Some(listen_by) = self.listen_by else { return };
        if !(self.groups.is_loading() || self.txns.is_loading()) || self.now.instant >= listen_by {
            self.listen_by = None;
            self.effects.push(Effect::Ready);
        }
    }

    /// Directories of partitions that the metadata log does not know: what a deletion or a move left is removed, the
    /// rest is renamed, as Kafka does, for it may be somebody's data. The copies that are left of moves.
    fn set_aside_strays(&mut self) -> Vec<(LogDir, String)> {
        let mut copies = Vec::new();
        let Phase::Booting(boot) = &mut self.phase else { return copies };
        for (log_dir, facts) in std::mem::take(&mut boot.facts) {
            for directory in facts.directories {
                let path = log_dir.path(&directory);
                let is_copy = directory.ends_with(FUTURE_SUFFIX);
                if is_copy || directory.ends_with(DELETED_SUFFIX) {
                    self.remove_in_background(Some(path));
                    copies.extend(is_copy.then_some((log_dir, directory)));
                } else if is_partition_directory(&directory) {
                    let name = self.log_dirs.name(log_dir);
                    tracing::warn!(
                        directory,
                        log_dir = name,
                        "no partition of the metadata log: set aside as stray"
                    );
                    self.set_aside(&path);
                }
            }
        }
        copies
    }

    /// Renames a directory that is no partition's, to a name that nothing else has.
    pub(crate) fn set_aside(&mut self, directory: &FilePath) {
        let to = set_aside::stray(directory, self.rng.uuid());
        self.effects.push(Effect::Disk(Op::Rename { from: Arc::clone(directory), to }));
    }

    pub(crate) fn fail_to_boot(&mut self, why: String) {
        self.phase = Phase::Stopped;
        self.effects.push(Effect::Stopped { error: Some(why) });
    }
}

fn is_partition_directory(name: &str) -> bool {
    name != METADATA_DIRECTORY
        && name.rsplit_once('-').is_some_and(|(topic, partition)| {
            !topic.is_empty() && !partition.is_empty() && partition.bytes().all(|byte| byte.is_ascii_digit())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_end_in_a_partition_number_are_partitions() {
        assert!(is_partition_directory("orders-0"));
        assert!(is_partition_directory("a-b-12"));
        for other in ["orders-", "-0", "orders", "orders-0.abc-delete", "orders-0-stray", METADATA_DIRECTORY]
        {
            assert!(!is_partition_directory(other), "{other}");
        }
    }
}
