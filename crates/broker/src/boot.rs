//! From the start of the process to the first request served.
//!
//! 1. Read what the data directory says about itself: `meta.properties`, the checkpoints, whether the last stop
//!    was clean.
//! 2. Open the metadata log and replay it.
//! 3. Become leader of the quorum of one: a new epoch with its leader-change record, and the broker registered
//!    anew. A fresh log gets the bootstrap records first.
//! 4. Once that is committed: serve. The partitions' logs are opened meanwhile, and each serves when it is open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dohle_configs::{Properties, broker};
use dohle_storage::disk::{Answer, FilePath, Job, Op, Progress, Step};
use dohle_storage::{Log, OpenError, OpenLog, Opening, checkpoint};
use dohle_types::{LeaderEpoch, Offset, TopicId, TopicPartition};

use crate::host::{DiskJob, Effect};
use crate::metadata_log::{METADATA_TOPIC, METADATA_TOPIC_ID};
use crate::node::{JobPurpose, Node, Phase};
use crate::partition::{PartitionKey, State, Tenant};
use crate::topics::topic_config;

/// How long the node waits for logs that are being opened before it listens.
const OPENING_GRACE: Duration = Duration::from_secs(1);

/// How far a boot has come.
#[derive(Debug, Default)]
pub struct Boot {
    facts: BootFacts,
    /// The metadata log's end once this node's registration is appended: it serves when that is committed.
    registered: Option<Offset>,
}

/// What the data directory says about itself.
#[derive(Debug)]
pub struct BootFacts {
    /// `meta.properties`, or why it cannot be used.
    pub meta: Result<MetaProperties, String>,
    /// Whether the last process said that everything is in order.
    pub clean: bool,
    /// `recovery-point-offset-checkpoint`.
    pub recovery_points: BTreeMap<TopicPartition, Offset>,
    /// `log-start-offset-checkpoint`.
    pub log_start_offsets: BTreeMap<TopicPartition, Offset>,
    /// The names of all directories.
    pub directories: BTreeSet<String>,
}

impl Default for BootFacts {
    fn default() -> Self {
        Self {
            meta: Err("not read".into()),
            clean: false,
            recovery_points: BTreeMap::new(),
            log_start_offsets: BTreeMap::new(),
            directories: BTreeSet::new(),
        }
    }
}

/// What [`BootFacts`] say of one log.
struct KnownLog {
    clean: bool,
    recovery_point: Option<Offset>,
    start_offset: Option<Offset>,
}

/// The identity of a data directory: Kafka's `meta.properties`, version 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetaProperties {
    /// `cluster.id`
    pub cluster_id: String,
    /// `node.id`
    pub node_id: i32,
    /// `directory.id`
    pub directory_id: TopicId,
}

impl MetaProperties {
    fn parse(text: &str) -> Result<Self, String> {
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
                Some(id) => id.parse().map_err(|_| invalid("directory.id"))?,
                None => TopicId::ZERO,
            },
        })
    }

    fn format(&self) -> String {
        let Self { cluster_id, node_id, directory_id } = self;
        format!("cluster.id={cluster_id}\ndirectory.id={directory_id}\nnode.id={node_id}\nversion=1\n")
    }
}

const META_PROPERTIES: &str = "meta.properties";
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";

/// The file that says that the last stop was clean; read and removed at start.
pub(crate) fn clean_shutdown_marker(broker_epoch: i64) -> (FilePath, Bytes) {
    let text = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
    (Arc::from(CLEAN_SHUTDOWN), Bytes::from(text))
}

/// Reads [`BootFacts`], and writes `meta.properties` where there is none.
#[derive(Debug)]
pub struct ReadBootFacts {
    fresh: MetaProperties,
    facts: BootFacts,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Meta,
    WroteMeta,
    Clean,
    RemovedClean,
    SyncedRemoval,
    RecoveryPoints,
    LogStartOffsets,
    Listing,
}

/// Files that are read whole here are small; a larger one is not ours.
const SMALL_FILE_MAX: usize = 64 << 20;

impl ReadBootFacts {
    /// Will read the facts; `fresh` becomes the identity of an empty directory.
    #[must_use]
    pub fn new(fresh: MetaProperties) -> Self {
        Self { fresh, facts: BootFacts::default(), stage: Stage::Meta }
    }

    fn ask(&mut self, stage: Stage, step: Step) -> Progress<BootFacts> {
        self.stage = stage;
        Progress::Next(step)
    }

    fn read(&mut self, stage: Stage, path: &str) -> Progress<BootFacts> {
        self.ask(stage, Step::Read { path: Arc::from(path), position: 0, length: SMALL_FILE_MAX })
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
        match self.stage {
            Stage::Meta => match bytes {
                Some(bytes) => {
                    self.facts.meta = MetaProperties::parse(&String::from_utf8_lossy(bytes));
                    self.read(Stage::Clean, CLEAN_SHUTDOWN)
                }
                None => {
                    self.facts.meta = Ok(self.fresh.clone());
                    let data = Bytes::from(self.fresh.format());
                    self.ask(Stage::WroteMeta, Step::Replace { path: Arc::from(META_PROPERTIES), data })
                }
            },
            Stage::WroteMeta => self.read(Stage::Clean, CLEAN_SHUTDOWN),
            Stage::Clean => {
                self.facts.clean = bytes.is_some();
                let path = Arc::from(CLEAN_SHUTDOWN);
                self.ask(Stage::RemovedClean, Step::Apply(Op::Remove { path }))
            }
            // The marker must be gone for good before anything is appended; syncing a neighbour makes it so.
            Stage::RemovedClean => {
                self.ask(Stage::SyncedRemoval, Step::Sync { path: Arc::from(META_PROPERTIES) })
            }
            Stage::SyncedRemoval => self.read(Stage::RecoveryPoints, checkpoint::RECOVERY_POINT_CHECKPOINT),
            Stage::RecoveryPoints => {
                self.facts.recovery_points = parse_checkpoint(checkpoint::RECOVERY_POINT_CHECKPOINT, bytes);
                self.read(Stage::LogStartOffsets, checkpoint::LOG_START_OFFSET_CHECKPOINT)
            }
            Stage::LogStartOffsets => {
                self.facts.log_start_offsets =
                    parse_checkpoint(checkpoint::LOG_START_OFFSET_CHECKPOINT, bytes);
                self.ask(Stage::Listing, Step::List { path: Arc::from("") })
            }
            Stage::Listing => {
                if let Answer::Listed(entries) = answer {
                    let directories = entries.into_iter().filter(|entry| entry.is_directory);
                    self.facts.directories = directories.map(|entry| entry.name).collect();
                }
                Progress::Done(std::mem::take(&mut self.facts))
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

impl Node {
    /// Begins: everything else follows from the answers.
    pub(crate) fn boot(&mut self) {
        let fresh = MetaProperties {
            cluster_id: TopicId(self.rng.uuid()).to_string(),
            node_id: self.config.value(broker::NODE_ID),
            directory_id: TopicId(self.rng.uuid()),
        };
        self.start_job(JobPurpose::Boot, DiskJob::Boot(Box::new(ReadBootFacts::new(fresh))));
    }

    /// The data directory has told about itself: open the metadata log.
    pub(crate) fn on_boot_facts(&mut self, facts: BootFacts) {
        let meta = match &facts.meta {
            Ok(meta) => meta.clone(),
            Err(error) => return self.fail_to_boot(error.clone()),
        };
        let configured = self.config.value(broker::NODE_ID);
        if meta.node_id != configured {
            let stored = meta.node_id;
            return self.fail_to_boot(format!(
                "node.id is {configured}, but this data directory belongs to node {stored}: set node.id={stored} \
                 or use another directory"
            ));
        }
        self.metadata.set_identity(meta);
        self.maintenance.set_recovery_points(facts.recovery_points.clone());
        if let Phase::Booting(boot) = &mut self.phase {
            boot.facts = facts;
        }
        let name = TopicPartition::new(METADATA_TOPIC, 0);
        let durability = dohle_configs::Durability::Durable;
        let partition =
            self.partitions.add(name, METADATA_TOPIC_ID, LeaderEpoch::NONE, durability, Tenant::Metadata);
        let key = partition.key;
        self.metadata.set_partition(key);
        self.open_log(key);
    }

    /// Opens a partition's log: from its directory where there is one, else empty.
    pub(crate) fn open_log(&mut self, key: PartitionKey) {
        let Some(partition) = self.partitions.by_key_mut(key) else { return };
        let directory = partition.name.to_string();
        let path: FilePath = Arc::from(&*directory);
        let config = Arc::new(topic_config(self.metadata.image(), &self.config, &partition.name.topic));
        let known = match &mut self.phase {
            Phase::Booting(boot) => boot.facts.take(&partition.name, &directory),
            Phase::Serving | Phase::Stopping | Phase::Stopped => None,
        };
        match known {
            Some(known) => {
                let opening = Opening {
                    dir: path,
                    topic_id: partition.topic_id,
                    config,
                    clean: known.clean,
                    recovery_point: known.recovery_point,
                    start_offset: known.start_offset,
                    now: self.now,
                };
                let job = DiskJob::Open(Box::new(OpenLog::new(opening)));
                self.start_job(JobPurpose::OpenPartition(key), job);
            }
            None => {
                let (name, topic_id) = (partition.name.clone(), partition.topic_id);
                if self.waits_for_checkpoint(key, &name) {
                    return;
                }
                let log = Log::create(path, topic_id, config);
                self.on_log_opened(key, Ok(log));
            }
        }
    }

    /// A log is open, or cannot be.
    pub(crate) fn on_log_opened(&mut self, key: PartitionKey, opened: Result<Log, OpenError>) {
        let Some(partition) = self.partitions.by_key_mut(key) else { return };
        if let Err(error @ OpenError::OtherTopic { dir, .. }) = &opened
            && partition.tenant != Tenant::Metadata
        {
            // The topic was deleted and another has its name, but a power loss brought its directory back.
            tracing::warn!(partition = %partition.name, %error, "set aside as stray");
            self.set_aside(dir);
            return self.open_log(key);
        }
        let refused = match opened {
            Ok(log) if log.topic_id() == partition.topic_id => {
                partition.open(log);
                None
            }
            Ok(log) => Some(format!("its directory belongs to topic id {}", log.topic_id())),
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = refused {
            tracing::error!(partition = %partition.name, reason, "partition offline");
            partition.take_offline(reason.clone());
            match partition.tenant {
                Tenant::None => {}
                Tenant::Metadata => {
                    self.fail_to_boot(format!("the metadata log cannot be opened: {reason}"));
                }
                Tenant::Groups(index) => self.remove_group_host(index),
            }
            return;
        }
        match partition.tenant {
            Tenant::None => {}
            Tenant::Metadata | Tenant::Groups(_) => self.load_ledger(key, Offset::ZERO),
        }
    }

    /// The metadata log is replayed: lead the quorum of one, and register.
    pub(crate) fn on_metadata_loaded(&mut self) {
        let registered = match self.register() {
            Ok(end) => end,
            Err(why) => return self.fail_to_boot(why),
        };
        if let Phase::Booting(boot) = &mut self.phase {
            boot.registered = Some(registered);
        }
    }

    /// The metadata log was committed further: if that includes the registration, serve.
    pub(crate) fn on_metadata_committed_while_booting(&mut self, high_watermark: Offset) {
        let Phase::Booting(boot) = &mut self.phase else { return };
        if boot.registered.is_none_or(|end| end > high_watermark) {
            return;
        }
        // What brokers were told at run time is in the metadata log, and topics inherit it.
        self.on_configs_changed();
        let topics: Vec<_> = self.image().topics().cloned().collect();
        for topic in topics {
            for (&index, partition) in &topic.partitions {
                self.add_partition(topic.name.clone(), topic.id, index, partition.leader_epoch);
            }
        }
        self.set_aside_strays();
        self.phase = Phase::Serving;
        self.maintenance.start(self.now, &self.config);
        self.listen_by = Some(self.now.after(OPENING_GRACE));
    }

    /// Has the host listen once all logs are open, so that no client meets one that is not; but partitions that
    /// take long to recover do not keep the others from serving.
    pub(crate) fn listen_when_open(&mut self) {
        let Some(listen_by) = self.listen_by else { return };
        let is_opening = self.groups.is_loading()
            || self.partitions.iter().any(|partition| matches!(partition.state(), State::Opening));
        if !is_opening || self.now.instant >= listen_by {
            self.listen_by = None;
            self.effects.push(Effect::Ready);
        }
    }

    /// Directories of partitions that the metadata log does not know: what a deletion left is removed, the
    /// rest is renamed, as Kafka does, for it may be somebody's data.
    fn set_aside_strays(&mut self) {
        let Phase::Booting(boot) = &mut self.phase else { return };
        for directory in std::mem::take(&mut boot.facts.directories) {
            let path: FilePath = Arc::from(&*directory);
            if directory.ends_with(DELETED_SUFFIX) {
                self.effects.push(Effect::Disk(Op::Remove { path }));
            } else if is_partition_directory(&directory) {
                tracing::warn!(directory, "no such partition in the metadata log: set aside as stray");
                self.set_aside(&path);
            }
        }
    }

    /// Renames a directory that is no partition's, to a name that nothing else has.
    fn set_aside(&mut self, directory: &FilePath) {
        let to = Arc::from(format!("{directory}.{}{STRAY_SUFFIX}", self.rng.uuid().simple()));
        self.effects.push(Effect::Disk(Op::Rename { from: Arc::clone(directory), to }));
    }

    pub(crate) fn fail_to_boot(&mut self, why: String) {
        self.phase = Phase::Stopped;
        self.effects.push(Effect::Stopped { error: Some(why) });
    }
}

/// What the directory of a deleted partition ends with while it is being removed.
pub(crate) const DELETED_SUFFIX: &str = "-delete";
const STRAY_SUFFIX: &str = "-stray";

fn is_partition_directory(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(topic, partition)| {
        !topic.is_empty() && !partition.is_empty() && partition.bytes().all(|byte| byte.is_ascii_digit())
    })
}

impl BootFacts {
    /// What is known of a partition's directory, once; `None` where there is no such directory.
    fn take(&mut self, name: &TopicPartition, directory: &str) -> Option<KnownLog> {
        self.directories.remove(directory).then(|| KnownLog {
            clean: self.clean,
            recovery_point: self.recovery_points.get(name).copied(),
            start_offset: self.log_start_offsets.get(name).copied(),
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
            directory_id: TopicId(uuid::Uuid::from_u128(77)),
        };
        assert_eq!(MetaProperties::parse(&meta.format()), Ok(meta));
        let refused = |text| MetaProperties::parse(text).unwrap_err();
        assert!(refused("version=0\nbroker.id=1\ncluster.id=x\n").contains("version 0"));
        assert!(refused("version=1\nnode.id=1\n").contains("lacks cluster.id"));
        assert!(refused("version=1\nnode.id=x\ncluster.id=x\n").contains("node.id is not valid"));
    }

    #[test]
    fn only_names_that_end_in_a_partition_number_are_partitions() {
        assert!(is_partition_directory("orders-0"));
        assert!(is_partition_directory("a-b-12"));
        for other in ["orders-", "-0", "orders", "orders-0.abc-delete", "orders-0-stray"] {
            assert!(!is_partition_directory(other), "{other}");
        }
    }
}
