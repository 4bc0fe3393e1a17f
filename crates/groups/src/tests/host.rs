//! The least host that keeps the ledger's contract: an in-memory log, a clock, and replies that wait for a commit.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dohle_types::{Now, Rng, Str, Timestamp, TopicId};

use crate::journal::entry::Entry;
use crate::state::DurableGroup;
use crate::{Cluster, ConsumerGroupSettings, Effects, GroupLedger, GroupsConfig, Record, State, Topic, Turn};

/// The moment that scripts begin.
pub(super) const START: Now = Now { instant: Duration::from_secs(1_000), wall: Timestamp(1_800_000_000_000) };

pub(super) struct Host<Reply> {
    pub(super) config: GroupsConfig,
    pub(super) ledger: GroupLedger,
    pub(super) log: Vec<Record>,
    /// Records of `log` that survive a crash.
    committed: usize,
    held: VecDeque<(usize, Reply)>,
    pub(super) now: Now,
    pub(super) rng: Rng,
    pub(super) cluster: TestCluster,
}

/// A cluster of one broker.
#[derive(Clone, Debug)]
pub(crate) struct TestCluster {
    topics: BTreeMap<Str, Topic>,
    version: i64,
    pub(crate) settings: ConsumerGroupSettings,
    /// The rack of the only broker.
    pub(crate) rack: Option<Str>,
}

impl Default for TestCluster {
    fn default() -> Self {
        let settings = ConsumerGroupSettings {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            assignment_interval_ms: 0,
        };
        Self { topics: BTreeMap::new(), version: 1, settings, rack: None }
    }
}

impl TestCluster {
    /// Creates a topic, or gives it more partitions; none deletes it.
    pub(crate) fn set_topic(&mut self, name: &str, partitions: i32) {
        self.version += 1;
        if partitions == 0 {
            self.topics.remove(name);
            return;
        }
        if let Some(known) = self.topics.get_mut(name) {
            known.partitions = partitions;
            return;
        }
        // A topic of the same name that comes later has another id.
        let id = TopicId(uuid::Uuid::from_u128(u128::from(self.version.unsigned_abs())));
        self.topics.insert(Str::from(name), Topic { id, name: Str::from(name), partitions });
    }

    /// Adds a topic of this id.
    pub(crate) fn add_topic(&mut self, name: &str, id: &str, partitions: i32) {
        let id = id.parse().expect("a topic id");
        self.topics.insert(Str::from(name), Topic { id, name: Str::from(name), partitions });
    }
}

impl Cluster for TestCluster {
    fn version(&self) -> i64 {
        self.version
    }

    fn topic(&self, name: &str) -> Option<Topic> {
        self.topics.get(name).cloned()
    }

    fn topic_by_id(&self, id: TopicId) -> Option<Topic> {
        self.topics.values().find(|topic| topic.id == id).cloned()
    }

    fn racks(&self, _: &Topic, _: i32) -> Vec<Str> {
        self.rack.iter().cloned().collect()
    }

    fn topic_names(&self) -> Box<dyn Iterator<Item = &Str> + '_> {
        Box::new(self.topics.keys())
    }

    fn consumer_group_settings(&self, _: &str) -> ConsumerGroupSettings {
        self.settings
    }
}

impl<Reply> Host<Reply> {
    pub(super) fn new(config: GroupsConfig) -> Self {
        Self {
            ledger: GroupLedger::new(config.clone()),
            config,
            log: Vec::new(),
            committed: 0,
            held: VecDeque::new(),
            now: START,
            rng: Rng::from_seed(1),
            cluster: TestCluster::default(),
        }
    }

    /// Lets the ledger act.
    pub(super) fn call<T>(
        &mut self,
        effects: &mut Effects,
        act: impl FnOnce(&mut GroupLedger, &mut Turn<'_>) -> T,
    ) -> T {
        let Self { ledger, rng, now, cluster, .. } = self;
        act(ledger, &mut Turn { now: *now, rng, cluster, effects })
    }

    /// Appends and replays what a call wants to write, and holds what it answers. What the journal tells of it.
    pub(super) fn take(&mut self, effects: Effects, replies: impl IntoIterator<Item = Reply>) -> Vec<Entry> {
        for record in effects.records {
            self.ledger.replay(&record.key, record.value.as_ref()).expect("our own record");
            self.log.push(record);
        }
        self.held.extend(replies.into_iter().map(|reply| (self.log.len(), reply)));
        self.ledger.take_journal(self.now)
    }

    /// Commits everything, and releases the replies.
    pub(super) fn commit(&mut self) -> Vec<Reply> {
        self.committed = self.log.len();
        self.held.drain(..).map(|(_, reply)| reply).collect()
    }

    /// Loses what was not committed, and starts again from the log.
    pub(super) fn crash(&mut self) {
        self.log.truncate(self.committed);
        self.held.clear();
        self.ledger = replayed(&self.config, &self.log);
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now = Now { instant: self.now.instant + by, wall: self.now.wall.plus(by) };
    }
}

/// A ledger that read these records and is not loaded yet.
pub(super) fn replayed(config: &GroupsConfig, log: &[Record]) -> GroupLedger {
    let mut ledger = GroupLedger::new(config.clone());
    for record in log {
        ledger.replay(&record.key, record.value.as_ref()).expect("our own record");
    }
    ledger
}

/// A log of which compaction has kept the last record of each key has the same state. Only of a group that lost all that was
/// known of it nothing is left: there was no record that said no more than that it is one.
pub(super) fn assert_same_when_compacted(config: &GroupsConfig, log: &[Record], state: &State) {
    let is_last =
        |index: usize, record: &Record| log.iter().skip(index + 1).all(|later| later.key != record.key);
    let kept: Vec<Record> = log
        .iter()
        .enumerate()
        .filter(|&(index, record)| is_last(index, record))
        .map(|(_, record)| record.clone())
        .collect();
    let compacted = replayed(config, &kept);
    let compacted = compacted.state();
    let groups = |state: &State| -> Vec<(Str, DurableGroup)> {
        let groups = state.groups().filter(|(_, group)| **group != DurableGroup::default());
        groups.map(|(group_id, group)| (group_id.clone(), group.clone())).collect()
    };
    assert_eq!(groups(compacted), groups(state));
    assert_eq!(compacted.consumer_bytes(), state.consumer_bytes());
    assert_eq!(compacted.pending, state.pending);
}
