//! The log dirs of this node: which there are, what each is called in the metadata log (KIP-858), and where
//! partitions go.

use dohle_configs::BrokerConfig;
use dohle_storage::disk::LogDir;
use dohle_types::{Str, TopicPartition};
use uuid::Uuid;

use crate::checkpoints::Checkpoints;
use crate::node::Node;
use crate::partition::{Partition, Tenant};

/// All log dirs, by their place in the configuration.
#[derive(Debug)]
pub struct LogDirs {
    dirs: Vec<LogDirState>,
    metadata: LogDir,
}

/// A log dir.
#[derive(Debug)]
pub struct LogDirState {
    /// Its path, as it is configured.
    pub name: Str,
    /// Its `directory.id`; nil until that is read.
    pub directory_id: Uuid,
    /// Whether partitions may be in it; `metadata.log.dir` may be a directory of its own.
    pub holds_partitions: bool,
    /// What its checkpoint files say.
    pub checkpoints: Checkpoints,
}

impl LogDirs {
    /// Those of the configuration, of which nothing is known yet.
    #[must_use]
    pub fn new(config: &BrokerConfig) -> Self {
        let for_partitions = config.log_dirs().len();
        let dirs = config.directories().into_iter().enumerate().map(|(place, name)| LogDirState {
            name: Str::from(name),
            directory_id: Uuid::nil(),
            holds_partitions: place < for_partitions,
            checkpoints: Checkpoints::default(),
        });
        let metadata = LogDir(u16::try_from(config.metadata_log_dir()).unwrap_or_default());
        Self { dirs: dirs.collect(), metadata }
    }

    /// The one that holds the metadata log.
    #[must_use]
    pub fn of_metadata_log(&self) -> LogDir {
        self.metadata
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = LogDir> + use<> {
        (0..self.dirs.len()).map(|place| LogDir(u16::try_from(place).unwrap_or(u16::MAX)))
    }

    /// Those that partitions may be in.
    pub fn for_partitions(&self) -> impl Iterator<Item = (LogDir, &LogDirState)> {
        self.all().zip(&self.dirs).filter(|(_, state)| state.holds_partitions)
    }

    /// One of them; `None` where there is no such.
    #[must_use]
    pub fn state(&self, log_dir: LogDir) -> Option<&LogDirState> {
        self.dirs.get(usize::from(log_dir.0))
    }

    /// One of them; `None` where there is no such.
    pub fn state_mut(&mut self, log_dir: LogDir) -> Option<&mut LogDirState> {
        self.dirs.get_mut(usize::from(log_dir.0))
    }

    /// Its path, as it is configured.
    #[must_use]
    pub fn name(&self, log_dir: LogDir) -> &str {
        self.state(log_dir).map_or("", |state| &state.name)
    }

    /// The one of this `directory.id`, if partitions may be in it.
    #[must_use]
    pub fn by_id(&self, directory_id: Uuid) -> Option<LogDir> {
        self.for_partitions()
            .find(|(_, state)| state.directory_id == directory_id)
            .map(|(log_dir, _)| log_dir)
    }

    /// The ids of those that partitions may be in, as brokers register them.
    #[must_use]
    pub fn directory_ids(&self) -> Vec<Uuid> {
        self.for_partitions().map(|(_, state)| state.directory_id).collect()
    }
}

impl Node {
    /// The log dir that a partition without files goes to: the one that the metadata log names, else that with the
    /// fewest partitions.
    pub(crate) fn log_dir_for(&self, name: &TopicPartition) -> LogDir {
        let image = self.image().partition(&name.topic, name.partition);
        let named = image.and_then(|partition| partition.directory_of(self.config.node_id()));
        if let Some(log_dir) = named.and_then(|directory_id| self.log_dirs.by_id(directory_id)) {
            return log_dir;
        }
        let count =
            |log_dir: LogDir| self.partitions.iter().filter(|partition| partition.log_dir == log_dir).count();
        let candidates = self.log_dirs.for_partitions().map(|(log_dir, _)| log_dir);
        candidates.min_by_key(|&log_dir| count(log_dir)).unwrap_or(LogDir::FIRST)
    }

    /// Tells the metadata log where partitions are that it looks for elsewhere, or for which it left the choice to
    /// the broker.
    pub(crate) fn tell_log_dirs(&mut self) {
        let of_users = |partition: &&Partition| partition.tenant != Tenant::Metadata;
        let actual = self.partitions.iter().filter(of_users).filter_map(|partition| {
            let directory_id = self.log_dirs.state(partition.log_dir)?.directory_id;
            Some((partition.topic_id, partition.name.partition, directory_id))
        });
        let records = self.metadata.controller().assign_log_dirs(self.config.node_id(), actual);
        if !records.is_empty() {
            self.append_metadata(records);
        }
    }
}
