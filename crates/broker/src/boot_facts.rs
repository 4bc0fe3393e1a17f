//! What the log dirs say about themselves at start: `meta.properties`, the checkpoints, whether the last stop was
//! clean, and which partitions' directories there are.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dohle_configs::{Properties, escape_value};
use dohle_protocol::messages::trash_manifest::TrashedPartition;
use dohle_storage::checkpoint;
use dohle_storage::disk::{Answer, FilePath, Job, LogDir, Op, Progress, Step};
use dohle_storage::journal::{JournalFound, LogId, ReadJournal};
use dohle_types::{Offset, TopicId, TopicPartition};
use uuid::Uuid;

use crate::trash::clean_to;

/// What a log dir says about itself.
#[derive(Debug)]
pub struct BootFacts {
    /// `meta.properties`, `None` where there is none, or why it cannot be used.
    pub meta: Result<Option<MetaProperties>, String>,
    /// Whether the last process said that everything is in order.
    pub clean: bool,
    /// `recovery-point-offset-checkpoint`.
    pub recovery_points: BTreeMap<TopicPartition, Offset>,
    /// `log-start-offset-checkpoint`.
    pub log_start_offsets: BTreeMap<TopicPartition, Offset>,
    /// `cleaner-offset-checkpoint`.
    pub cleaner_offsets: BTreeMap<TopicPartition, Offset>,
    /// The names of all directories.
    pub directories: BTreeSet<String>,
    /// What the commit journal holds.
    pub journal: JournalFound,
    /// The ends of what the commit journal had of each log.
    pub durable_to: BTreeMap<LogId, Offset>,
}

impl Default for BootFacts {
    fn default() -> Self {
        Self {
            meta: Err("not read".into()),
            clean: false,
            recovery_points: BTreeMap::new(),
            log_start_offsets: BTreeMap::new(),
            cleaner_offsets: BTreeMap::new(),
            directories: BTreeSet::new(),
            journal: JournalFound::default(),
            durable_to: BTreeMap::new(),
        }
    }
}

/// What [`BootFacts`] say of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownLog {
    /// Whether its files need no check.
    pub clean: bool,
    /// Its recovery point.
    pub recovery_point: Option<Offset>,
    /// Its start offset, where the checkpoint has it.
    pub start_offset: Option<Offset>,
    /// Up to where it was compacted, where the cleaner offset checkpoint knows it.
    pub cleaned: Option<Offset>,
    /// The end of what the commit journal had of it after a crash.
    pub durable_to: Option<Offset>,
}

/// The identity of a log dir: Kafka's `meta.properties`, version 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetaProperties {
    /// `cluster.id`
    pub cluster_id: String,
    /// `node.id`
    pub node_id: i32,
    /// `directory.id`
    pub directory_id: Uuid,
}

impl MetaProperties {
    /// The identity that the text of a `meta.properties` gives; or why it cannot be used.
    pub fn parse(text: &str) -> Result<Self, String> {
        let properties = Properties::parse(text).map_err(|error| format!("meta.properties: {error}"))?;
        let optional = |name: &str| {
            properties.entries.iter().rfind(|entry| entry.name == name).map(|entry| entry.value.as_str())
        };
        let value = |name: &str| {
            optional(name).ok_or_else(|| format!("meta.properties lacks {name}: restore it from a backup"))
        };
        let version = value("version")?;
        if version != "1" {
            return Err(format!("meta.properties has version {version}; only version 1 (KRaft) is known"));
        }
        let invalid = |name: &str| format!("meta.properties: {name} is not valid");
        Ok(Self {
            cluster_id: value("cluster.id")?.to_owned(),
            node_id: value("node.id")?.parse().map_err(|_| invalid("node.id"))?,
            // Directories formatted before KIP-858 have none.
            directory_id: match optional("directory.id") {
                Some(id) => id.parse::<TopicId>().map_err(|_| invalid("directory.id"))?.0,
                None => Uuid::nil(),
            },
        })
    }

    /// The file of a log dir.
    pub(crate) fn file(&self, log_dir: LogDir) -> (FilePath, Bytes) {
        (log_dir.path(META_PROPERTIES), Bytes::from(self.format()))
    }

    /// The text of the file.
    #[must_use]
    pub fn format(&self) -> String {
        let Self { cluster_id, node_id, directory_id } = self;
        let (cluster_id, directory_id) = (escape_value(cluster_id), TopicId(*directory_id));
        format!("cluster.id={cluster_id}\ndirectory.id={directory_id}\nnode.id={node_id}\nversion=1\n")
    }
}

/// The file that says whose a log dir is.
pub(crate) fn meta_properties(log_dir: LogDir) -> FilePath {
    log_dir.path(META_PROPERTIES)
}

pub(crate) const META_PROPERTIES: &str = "meta.properties";
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";

/// The file that says that the last stop was clean; read and removed at start.
pub(crate) fn clean_shutdown_marker(log_dir: LogDir, broker_epoch: i64) -> (FilePath, Bytes) {
    let text = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
    (log_dir.path(CLEAN_SHUTDOWN), Bytes::from(text))
}

/// Reads the [`BootFacts`] of a log dir.
#[derive(Debug)]
pub struct ReadBootFacts {
    log_dir: LogDir,
    facts: BootFacts,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Meta,
    Clean,
    RemovedClean,
    SyncedRemoval,
    RecoveryPoints,
    LogStartOffsets,
    CleanerOffsets,
    Listing,
    Journal(ReadJournal),
}

/// Files that are read whole here are small; a larger one is not ours.
const SMALL_FILE_MAX: usize = 64 << 20;

impl ReadBootFacts {
    /// Will read those of this one.
    #[must_use]
    pub fn new(log_dir: LogDir) -> Self {
        Self { log_dir, facts: BootFacts::default(), stage: Stage::Meta }
    }

    fn ask(&mut self, stage: Stage, step: Step) -> Progress<BootFacts> {
        self.stage = stage;
        Progress::Next(step)
    }

    fn on_journal(&mut self, progress: Progress<JournalFound>) -> Progress<BootFacts> {
        match progress {
            Progress::Next(step) => Progress::Next(step),
            Progress::Done(journal) => {
                self.facts.journal = journal;
                Progress::Done(std::mem::take(&mut self.facts))
            }
        }
    }

    fn read(&mut self, stage: Stage, name: &str) -> Progress<BootFacts> {
        let path = self.log_dir.path(name);
        self.ask(stage, Step::Read { path, position: 0, length: SMALL_FILE_MAX })
    }
}

impl Job for ReadBootFacts {
    type Output = BootFacts;

    fn start(&mut self) -> Progress<BootFacts> {
        self.read(Stage::Meta, META_PROPERTIES)
    }

    fn resume(&mut self, answer: Answer) -> Progress<BootFacts> {
        let bytes = match &answer {
            Answer::Read(bytes) => bytes.as_ref(),
            Answer::Listed(_) | Answer::Done => None,
        };
        match &mut self.stage {
            Stage::Meta => {
                let meta = bytes.map(|bytes| MetaProperties::parse(&String::from_utf8_lossy(bytes)));
                self.facts.meta = meta.transpose();
                self.read(Stage::Clean, CLEAN_SHUTDOWN)
            }
            Stage::Clean => {
                self.facts.clean = bytes.is_some();
                let path = self.log_dir.path(CLEAN_SHUTDOWN);
                self.ask(Stage::RemovedClean, Step::Apply(Op::Remove { path }))
            }
            // The marker must be gone for good before anything is appended; syncing a neighbour makes it so, or
            // writing one where there is none.
            Stage::RemovedClean => {
                self.ask(Stage::SyncedRemoval, Step::Sync { path: self.log_dir.path(META_PROPERTIES) })
            }
            Stage::SyncedRemoval => self.read(Stage::RecoveryPoints, checkpoint::RECOVERY_POINT_CHECKPOINT),
            Stage::RecoveryPoints => {
                self.facts.recovery_points = parse_checkpoint(checkpoint::RECOVERY_POINT_CHECKPOINT, bytes);
                self.read(Stage::LogStartOffsets, checkpoint::LOG_START_OFFSET_CHECKPOINT)
            }
            Stage::LogStartOffsets => {
                self.facts.log_start_offsets =
                    parse_checkpoint(checkpoint::LOG_START_OFFSET_CHECKPOINT, bytes);
                self.read(Stage::CleanerOffsets, checkpoint::CLEANER_OFFSET_CHECKPOINT)
            }
            Stage::CleanerOffsets => {
                self.facts.cleaner_offsets = parse_checkpoint(checkpoint::CLEANER_OFFSET_CHECKPOINT, bytes);
                self.ask(Stage::Listing, Step::List { path: self.log_dir.root() })
            }
            Stage::Listing => {
                let entries = if let Answer::Listed(entries) = answer { entries } else { Vec::new() };
                let mut journal = ReadJournal::new(self.log_dir, self.facts.clean, &entries);
                let directories = entries.into_iter().filter(|entry| entry.is_directory);
                self.facts.directories = directories.map(|entry| entry.name).collect();
                let progress = journal.start();
                self.stage = Stage::Journal(journal);
                self.on_journal(progress)
            }
            Stage::Journal(journal) => {
                let progress = journal.resume(answer);
                self.on_journal(progress)
            }
        }
    }
}

/// A checkpoint is an economy: without it more of the logs is read.
fn parse_checkpoint(name: &str, bytes: Option<&Bytes>) -> BTreeMap<TopicPartition, Offset> {
    let Some(bytes) = bytes else { return BTreeMap::new() };
    match checkpoint::parse_offsets(bytes) {
        Ok(offsets) => offsets,
        Err(error) => {
            tracing::warn!(file = name, %error, "checkpoint ignored");
            BTreeMap::new()
        }
    }
}

impl BootFacts {
    /// Adds what the trash knows of a partition that came back from it, and the checkpoints do not know yet.
    pub(crate) fn add(&mut self, name: &TopicPartition, trashed: &TrashedPartition) {
        if !self.directories.contains(&name.to_string()) {
            return;
        }
        self.log_start_offsets.entry(name.clone()).or_insert(Offset(trashed.log_start_offset));
        self.recovery_points.entry(name.clone()).or_insert(Offset(trashed.recovery_point));
        if let Some(offset) = clean_to(trashed) {
            self.cleaner_offsets.entry(name.clone()).or_insert(offset);
        }
    }

    /// What is known of a partition's directory, once; `None` where there is no such directory.
    pub(crate) fn take(
        &mut self,
        name: &TopicPartition,
        topic_id: TopicId,
        directory: &str,
    ) -> Option<KnownLog> {
        let id = LogId { topic_id, partition: name.partition };
        self.directories.remove(directory).then(|| KnownLog {
            clean: self.clean,
            recovery_point: self.recovery_points.get(name).copied(),
            start_offset: self.log_start_offsets.get(name).copied(),
            cleaned: self.cleaner_offsets.get(name).copied(),
            durable_to: self.durable_to.get(&id).copied(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_properties_reads_back_what_it_wrote_and_refuses_what_it_does_not_know() {
        let meta = MetaProperties {
            cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".into(),
            node_id: 7,
            directory_id: Uuid::from_u128(77),
        };
        assert_eq!(MetaProperties::parse(&meta.format()), Ok(meta.clone()));
        // Kafka takes any text for the id of a cluster.
        let strange = MetaProperties { cluster_id: " a\\b =:#\n\r\t\u{c}é😀\\".into(), ..meta };
        assert_eq!(MetaProperties::parse(&strange.format()), Ok(strange));
        let refused = |text| MetaProperties::parse(text).unwrap_err();
        assert!(refused("version=0\nbroker.id=1\ncluster.id=x\n").contains("version 0"));
        assert!(refused("version=1\nnode.id=1\n").contains("lacks cluster.id"));
        assert!(refused("version=1\nnode.id=x\ncluster.id=x\n").contains("node.id is not valid"));
    }
}
