//! The log dirs of this node: which there are, what each is called in the metadata log (KIP-858), and where
//! partitions go.

use dohle_configs::BrokerConfig;
use dohle_storage::disk::{DiskError, LogDir};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Str, TopicPartition};
use uuid::Uuid;

use crate::checkpoints::Checkpoints;
use crate::disk_space::Room;
use crate::host::Effect;
use crate::moves::Moves;
use crate::node::{Node, Phase};
use crate::partition::{Partition, PartitionKey, Tenant};
use crate::scrub::Scrub;

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
    /// Whether it takes no new partitions (KIP-1066).
    pub is_cordoned: bool,
    /// Why it cannot be used any more, until the node is started again.
    pub offline: Option<String>,
    /// The room on its disk.
    pub room: Room,
    /// The partitions that move to it.
    pub moves: Moves,
    /// How far its scrub has come.
    pub scrub: Scrub,
    /// What its checkpoint files say.
    pub checkpoints: Checkpoints,
    /// Directories in the trash that are being made durable: only the journal may have some of what they are to hold.
    pub settling: usize,
    /// What logs were given back of the journal is being made durable, and the journal removed.
    pub is_erasing_journal: bool,
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
            is_cordoned: false,
            offline: None,
            room: Room::default(),
            moves: Moves::default(),
            scrub: Scrub::default(),
            checkpoints: Checkpoints::default(),
            settling: 0,
            is_erasing_journal: false,
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

    /// Those that have not failed.
    pub fn online(&self) -> impl Iterator<Item = LogDir> {
        self.all().zip(&self.dirs).filter(|(_, state)| state.offline.is_none()).map(|(log_dir, _)| log_dir)
    }

    /// Those that partitions may be in, failed ones included.
    pub fn for_partitions(&self) -> impl Iterator<Item = (LogDir, &LogDirState)> {
        self.all().zip(&self.dirs).filter(|(_, state)| state.holds_partitions)
    }

    /// Those that partitions may be in and that have not failed.
    pub fn usable(&self) -> impl Iterator<Item = (LogDir, &LogDirState)> {
        self.for_partitions().filter(|(_, state)| state.offline.is_none())
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

    /// When the scrub of one of them, or a move to it, goes on.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let online = self.dirs.iter().filter(|dir| dir.offline.is_none());
        online.flat_map(|dir| [dir.scrub.next_timeout(), dir.moves.next_timeout()]).flatten().min()
    }

    /// One of those that have not failed in which so many bytes were appended that their checkpoints are due.
    #[must_use]
    pub fn with_much_appended(&self, bytes: u64) -> Option<LogDir> {
        let mut online = self.all().zip(&self.dirs).filter(|(_, state)| state.offline.is_none());
        online.find(|(_, state)| state.checkpoints.is_due(bytes)).map(|(log_dir, _)| log_dir)
    }

    /// The one of this `directory.id`, if partitions may be in it and it has not failed.
    #[must_use]
    pub fn by_id(&self, directory_id: Uuid) -> Option<LogDir> {
        self.usable().find(|(_, state)| state.directory_id == directory_id).map(|(log_dir, _)| log_dir)
    }

    /// The ids of those that are usable, as brokers register them.
    #[must_use]
    pub fn directory_ids(&self) -> Vec<Uuid> {
        self.usable().map(|(_, state)| state.directory_id).collect()
    }

    /// The ids of those that are cordoned, failed ones included.
    fn cordoned_ids(&self) -> Vec<Uuid> {
        let cordoned = self.for_partitions().filter(|(_, state)| state.is_cordoned);
        cordoned.map(|(_, state)| state.directory_id).collect()
    }
}

impl Node {
    /// Heeds `cordoned.log.dirs`, as far as the metadata log has words for it.
    pub(crate) fn set_cordons(&mut self) {
        let supported = self.image().supports_cordons();
        let cordoned = if supported { self.config.cordoned_log_dirs() } else { Vec::new() };
        for state in &mut self.log_dirs.dirs {
            state.is_cordoned = state.holds_partitions && cordoned.iter().any(|dir| **dir == *state.name);
        }
        if matches!(self.phase, Phase::Serving) {
            self.tell_log_dirs();
        }
    }

    /// Something in a log dir failed: it goes offline, with all its partitions. The node goes on with the others, as
    /// in Kafka, unless it was the one with the metadata log, or the last one.
    pub(crate) fn on_disk_failed(&mut self, error: &DiskError) {
        let log_dir = LogDir::of(&error.path);
        let Some(state) = self.log_dirs.state_mut(log_dir).filter(|state| state.offline.is_none()) else {
            return;
        };
        state.offline = Some(error.to_string());
        let name = state.name.clone();
        if log_dir == self.log_dirs.of_metadata_log() || self.log_dirs.usable().next().is_none() {
            tracing::error!(%error, log_dir = &*name, "the log dir failed, and the node cannot go on without it");
            self.phase = Phase::Stopped;
            return self.effects.push(Effect::Stopped { error: Some(format!("log dir {name}: {error}")) });
        }
        tracing::error!(%error, log_dir = &*name, "the log dir failed: its partitions are offline until a restart");
        let here: Vec<PartitionKey> = self
            .partitions
            .iter()
            .filter(|partition| partition.log_dir == log_dir)
            .map(|partition| partition.key)
            .collect();
        for &key in &here {
            self.take_offline(key, format!("the log dir {name} failed: {error}"));
        }
        self.give_up_moves(log_dir);
        if matches!(self.phase, Phase::Serving) {
            self.tell_log_dirs();
        }
        if matches!(self.phase, Phase::Stopping) {
            here.into_iter().for_each(|key| self.on_sync_while_stopping(key));
            self.end_when_flushed();
        }
    }

    /// A partition cannot serve any more. Whoever waits for it is told, and a ledger that it holds is gone.
    pub(crate) fn take_offline(&mut self, key: PartitionKey, reason: String) {
        let Some(partition) = self.partitions.by_key_mut(key) else { return };
        partition.take_offline(reason);
        let (tenant, waiters) = (partition.tenant, partition.abandon_waiters());
        let fetches = partition.fetches.clone();
        self.abandon(waiters, ErrorCode::KafkaStorageError);
        self.wake(fetches);
        match tenant {
            Tenant::None | Tenant::Metadata => {}
            Tenant::Groups(index) => self.remove_group_host(index),
            Tenant::Transactions(index) => self.remove_txn_host(index),
        }
        self.on_opening_ended(key);
    }

    /// The log dir that a partition without files goes to: the one that the metadata log names, else that with the
    /// fewest partitions; a cordoned one only where all are.
    pub(crate) fn log_dir_for(&self, name: &TopicPartition) -> LogDir {
        let image = self.image().partition(&name.topic, name.partition);
        let named = image.and_then(|partition| partition.directory_of(self.config.node_id()));
        if let Some(log_dir) = named.and_then(|directory_id| self.log_dirs.by_id(directory_id)) {
            return log_dir;
        }
        let candidates: Vec<LogDir> = self.log_dirs.usable().map(|(log_dir, _)| log_dir).collect();
        if let [only] = *candidates {
            return only;
        }
        let count =
            |log_dir: LogDir| self.partitions.iter().filter(|partition| partition.log_dir == log_dir).count();
        let best = candidates.into_iter().min_by_key(|&log_dir| {
            let is_cordoned = self.log_dirs.state(log_dir).is_some_and(|state| state.is_cordoned);
            (is_cordoned, count(log_dir))
        });
        best.unwrap_or(LogDir::FIRST)
    }

    /// Tells the metadata log which log dirs are left, and where partitions are that it looks for elsewhere, or for
    /// which it left the choice to the broker.
    pub(crate) fn tell_log_dirs(&mut self) {
        // Where one is that is offline, nobody knows better than the metadata log.
        let is_placed =
            |partition: &&Partition| partition.tenant != Tenant::Metadata && !partition.is_offline();
        let actual = self.partitions.iter().filter(is_placed).filter_map(|partition| {
            let directory_id = self.log_dirs.state(partition.log_dir)?.directory_id;
            Some((partition.topic_id, partition.name.partition, directory_id))
        });
        let (controller, node_id) = (self.metadata.controller(), self.config.node_id());
        let mut records =
            controller.change_log_dirs(node_id, self.log_dirs.directory_ids(), self.log_dirs.cordoned_ids());
        records.extend(controller.assign_log_dirs(node_id, actual));
        if !records.is_empty() {
            self.append_metadata(records);
        }
    }
}
