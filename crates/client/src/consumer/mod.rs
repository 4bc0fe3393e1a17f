//! The consumer: partitions and positions in, batches of records out.
//!
//! ```text
//! assign ─┐                      ListOffsets, OffsetFetch           Fetch
//!         ├─> partition: Unset ────────────────────────> At(offset) ───────> ConsumerEvent::Records
//! group ──┘        ^──────────────── offset out of range ───┘
//! ```
//!
//! Batches are given as they came, checked and whole; [`Fetched::records`] decompresses one when it is its turn.
//! While the caller works on what was fetched the next fetch is under way, within
//! [`ConsumerConfig::buffer_max`]. `fetch.rs` makes requests, `position.rs` finds out
//! where to begin.

mod fetch;
mod fetched;
mod position;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use dohle_types::time::Instant;
use dohle_types::{BrokerId, ErrorCode, Now, Offset, Rng, Str, Timestamp, TopicPartition};

use crate::group::{GroupConfig, GroupError, GroupEvent, GroupToken, Membership};
use crate::{
    Cluster, ClusterConfig, ConsumerGroupMetadata, Effects, Endpoint, Failure, Input, Machine, Unreachable,
};
pub use fetched::Fetched;
use position::{Partition, Position};
use session::FetchSession;

/// Which records a consumer sees (`isolation.level`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IsolationLevel {
    /// All.
    #[default]
    ReadUncommitted,
    /// Those of no transaction, or of a committed one.
    ReadCommitted,
}

/// Where to begin in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartAt {
    /// At the first record there is.
    Earliest,
    /// At the first record written from now on.
    Latest,
    /// At this offset.
    Offset(Offset),
    /// At the first record of this time or later; at the end if there is none.
    Timestamp(Timestamp),
    /// Where the group left off; if it never began, as [`ConsumerConfig::reset`] says.
    Committed,
}

/// What a consumer can be told.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// What all clients can be told.
    pub cluster: ClusterConfig,
    /// Where to begin when a position is missing or gone (`auto.offset.reset`); `None` reports it instead.
    pub reset: Option<StartAt>,
    /// Which records it sees.
    pub isolation: IsolationLevel,
    /// How long a broker may wait for records (`fetch.max.wait.ms`).
    pub fetch_max_wait: Duration,
    /// For how many bytes a broker waits (`fetch.min.bytes`).
    pub fetch_min_bytes: i32,
    /// How many bytes a response may have (`fetch.max.bytes`).
    pub fetch_max_bytes: i32,
    /// How many bytes of a partition a response may have (`max.partition.fetch.bytes`).
    pub partition_max_bytes: i32,
    /// Nothing more is fetched while this many bytes wait for the caller.
    pub buffer_max: usize,
    /// How often positions are committed for the group (`auto.commit.interval.ms`); `None` leaves it to
    /// [`Consumer::commit`].
    pub auto_commit: Option<Duration>,
    /// Membership in a group, for [`Consumer::subscribe`].
    pub group: Option<GroupConfig>,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            cluster: ClusterConfig { allow_auto_create_topics: false, ..ClusterConfig::default() },
            reset: Some(StartAt::Latest),
            isolation: IsolationLevel::default(),
            fetch_max_wait: Duration::from_millis(500),
            fetch_min_bytes: 1,
            fetch_max_bytes: 50 * 1024 * 1024,
            partition_max_bytes: 1024 * 1024,
            buffer_max: 64 * 1024 * 1024,
            auto_commit: Some(Duration::from_secs(5)),
            group: None,
        }
    }
}

/// What a consumer has to say.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// A batch of records.
    Records(Fetched),
    /// Everything that there was when the broker last answered has been given.
    End {
        /// In which partition.
        partition: TopicPartition,
        /// The offset of the next record there will be.
        offset: Offset,
    },
    /// The group gave the consumer exactly these partitions. Those that it had and were not revoked it goes on with.
    Assigned(Vec<TopicPartition>),
    /// The group took these partitions away.
    Revoked(Vec<TopicPartition>),
    /// A commit ended.
    Committed(Result<BTreeMap<TopicPartition, Offset>, ErrorCode>),
    /// A partition is not read any further.
    PartitionFailed {
        /// Which one.
        partition: TopicPartition,
        /// Why.
        error: ConsumerError,
    },
    /// The group does not take this consumer.
    GroupFailed(GroupError),
}

/// Why a partition is not read any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerError {
    /// The broker refuses.
    #[error("the broker says {0}")]
    Refused(ErrorCode),
    /// There is no such partition.
    #[error("there is no such partition")]
    NoPartition,
    /// The position is not in the log and nothing says where to go on.
    #[error("offset {0} is not in the log")]
    OutOfRange(Offset),
    /// The group never committed an offset and nothing says where to begin.
    #[error("the group has no committed offset")]
    NothingCommitted,
    /// A batch cannot be read.
    #[error("the batch at offset {offset} cannot be read: {reason}")]
    Unreadable {
        /// Where.
        offset: Offset,
        /// What is wrong with it.
        reason: String,
    },
    /// The broker cannot be asked.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// What a reply belongs to.
#[derive(Debug)]
enum Token {
    Fetch(BrokerId),
    ListOffsets(BTreeSet<TopicPartition>),
    Group(GroupToken),
}

impl From<GroupToken> for Token {
    fn from(token: GroupToken) -> Self {
        Self::Group(token)
    }
}

/// The fetches of one broker: at most one is under way.
#[derive(Debug, Default)]
struct Fetcher {
    session: FetchSession,
    in_flight: bool,
    retry_at: Instant,
    failures: u32,
}

/// The consumer; see the module.
pub struct Consumer {
    config: ConsumerConfig,
    cluster: Cluster<Token>,
    partitions: BTreeMap<TopicPartition, Partition>,
    fetchers: BTreeMap<BrokerId, Fetcher>,
    membership: Option<Membership>,
    events: VecDeque<ConsumerEvent>,
    /// The bytes of the records among `events`.
    buffered_bytes: usize,
    commit_at: Option<Instant>,
    /// What was last committed, so that nothing is committed twice.
    committed: BTreeMap<TopicPartition, Offset>,
    closing: bool,
}

impl Consumer {
    /// A consumer that knows only where to begin, and reads nothing yet.
    #[must_use]
    pub fn new(config: ConsumerConfig, bootstrap: Vec<Endpoint>, rng: Rng) -> Self {
        Self {
            cluster: Cluster::new(config.cluster.clone(), bootstrap, rng),
            config,
            partitions: BTreeMap::new(),
            fetchers: BTreeMap::new(),
            membership: None,
            events: VecDeque::new(),
            buffered_bytes: 0,
            commit_at: None,
            committed: BTreeMap::new(),
            closing: false,
        }
    }

    /// Reads exactly these partitions from now on, each from where it is said. Those read before begin anew.
    pub fn assign(&mut self, now: Now, partitions: impl IntoIterator<Item = (TopicPartition, StartAt)>) {
        self.drop_partitions();
        self.partitions =
            partitions.into_iter().map(|(partition, start)| (partition, Partition::new(start))).collect();
        self.cluster
            .watch_topics(now, self.partitions.keys().map(|partition| partition.topic.clone()).collect());
    }

    /// Whether there is anything to read.
    #[must_use]
    pub fn is_assigned(&self) -> bool {
        !self.partitions.is_empty()
    }

    /// Reads what the group gives this consumer of these topics. [`ConsumerConfig::group`] must be set.
    pub fn subscribe(&mut self, now: Now, topics: BTreeSet<Str>) {
        let Some(group) = self.config.group.clone() else { return };
        self.cluster.watch_topics(now, topics.clone());
        self.membership = Some(Membership::new(group, topics));
    }

    /// How many partitions a topic has, once that is known, or what is wrong with it; asks for it.
    pub fn partition_count(&mut self, now: Now, topic: &str) -> Option<Result<usize, ErrorCode>> {
        self.cluster.watch_topic(now, topic);
        let topic = self.cluster.metadata().topic(topic)?;
        Some(if topic.error.is_none() { Ok(topic.partitions.len()) } else { Err(topic.error) })
    }

    /// What there is next. A batch counts as consumed once it was given.
    pub fn next_event(&mut self) -> Option<ConsumerEvent> {
        let event = self.events.pop_front()?;
        // Control batches and aborted records are passed over without an event; the end is behind them.
        let consumed = match &event {
            ConsumerEvent::Records(fetched) => {
                self.buffered_bytes -= fetched.size_in_bytes();
                Some((fetched.partition(), fetched.next_offset()))
            }
            ConsumerEvent::End { partition, offset } => Some((partition, *offset)),
            ConsumerEvent::Assigned(_)
            | ConsumerEvent::Revoked(_)
            | ConsumerEvent::Committed(_)
            | ConsumerEvent::PartitionFailed { .. }
            | ConsumerEvent::GroupFailed(_) => None,
        };
        if let Some((partition, offset)) = consumed
            && let Some(state) = self.partitions.get_mut(partition)
        {
            state.consumed = Some(offset);
        }
        Some(event)
    }

    /// The offset of the next record to be consumed, once that is known.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.partitions.get(partition)?.consumed
    }

    /// Takes back that records from `offset` on were consumed. They are not given again, but not committed either.
    pub fn unconsume(&mut self, partition: &TopicPartition, offset: Offset) {
        if let Some(state) = self.partitions.get_mut(partition) {
            state.consumed = state.consumed.map(|consumed| consumed.min(offset));
        }
    }

    /// Commits the positions for the group; answered by [`ConsumerEvent::Committed`] if there is anything new.
    pub fn commit(&mut self, now: Now, effects: &mut Effects) {
        let offsets: BTreeMap<TopicPartition, Offset> = self
            .partitions
            .iter()
            .filter_map(|(partition, state)| Some((partition.clone(), state.consumed?)))
            .filter(|(partition, offset)| self.committed.get(partition) != Some(offset))
            .collect();
        let Some(membership) = &mut self.membership else { return };
        if !offsets.is_empty() && membership.commit(now, &mut self.cluster, &offsets, effects) {
            self.committed.extend(offsets);
        }
    }

    /// Who consumes, for a transaction that commits the offsets ([`crate::Producer::send_offsets_to_transaction`]): to
    /// be asked when records are taken, as those that are taken later may be another member's to consume.
    #[must_use]
    pub fn group_metadata(&self) -> Option<ConsumerGroupMetadata> {
        self.membership.as_ref().map(Membership::metadata)
    }

    /// Reads its partitions again from where the group left off, as after a transaction that was aborted.
    pub fn seek_to_committed(&mut self) {
        let partitions: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        self.drop_partitions();
        let begun = partitions.into_iter().map(|partition| (partition, Partition::new(StartAt::Committed)));
        self.partitions = begun.collect();
    }

    /// Leaves the group and reads nothing any more. What is to be committed is to be committed before.
    pub fn close(&mut self, now: Now, effects: &mut Effects) {
        if let Some(membership) = &mut self.membership {
            membership.leave(now, &mut self.cluster, effects);
        }
        self.drop_partitions();
        self.closing = true;
    }

    /// Whether closing is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closing && self.membership.as_ref().is_none_or(Membership::has_left)
    }

    /// Why no broker can be reached, once each bootstrap endpoint was tried in vain.
    #[must_use]
    pub fn unreachable(&self) -> Option<&Unreachable> {
        self.cluster.unreachable()
    }

    /// Forgets all partitions, with what was fetched of them.
    fn drop_partitions(&mut self) {
        self.partitions.clear();
        self.committed.clear();
        // A session tells what changed, and of a partition that comes back nothing is known any more.
        self.fetchers.values_mut().for_each(|fetcher| fetcher.session.on_failure());
        self.events.retain(|event| !matches!(event, ConsumerEvent::Records(_) | ConsumerEvent::End { .. }));
        self.buffered_bytes = 0;
    }

    /// Forgets a partition, with what was fetched of it.
    fn drop_partition(&mut self, partition: &TopicPartition) {
        self.partitions.remove(partition);
        self.committed.remove(partition);
        let buffered = &mut self.buffered_bytes;
        self.events.retain(|event| match event {
            ConsumerEvent::Records(fetched) if fetched.partition() == partition => {
                *buffered -= fetched.size_in_bytes();
                false
            }
            ConsumerEvent::End { partition: ended, .. } => ended != partition,
            ConsumerEvent::Records(_)
            | ConsumerEvent::Assigned(_)
            | ConsumerEvent::Revoked(_)
            | ConsumerEvent::Committed(_)
            | ConsumerEvent::PartitionFailed { .. }
            | ConsumerEvent::GroupFailed(_) => true,
        });
    }

    fn fail(&mut self, partition: &TopicPartition, error: ConsumerError) {
        if let Some(state) = self.partitions.get_mut(partition) {
            state.position = Position::Failed;
            self.events.push_back(ConsumerEvent::PartitionFailed { partition: partition.clone(), error });
        }
    }

    fn on_group_events(&mut self, now: Now, effects: &mut Effects) {
        let events = self.membership.as_mut().map(Membership::take_events).unwrap_or_default();
        for event in events {
            match event {
                GroupEvent::Revoked { commit } => {
                    if commit && self.config.auto_commit.is_some() {
                        self.commit(now, effects);
                    }
                    let revoked = self.partitions.keys().cloned().collect();
                    self.drop_partitions();
                    self.events.push_back(ConsumerEvent::Revoked(revoked));
                }
                GroupEvent::Assigned(partitions) => {
                    self.drop_partitions();
                    let started =
                        partitions.iter().map(|it| (it.clone(), Partition::new(StartAt::Committed)));
                    self.partitions = started.collect();
                    self.commit_at = self.config.auto_commit.map(|interval| now.after(interval));
                    self.events.push_back(ConsumerEvent::Assigned(partitions));
                }
                GroupEvent::Reconciled(partitions) => self.reconcile(now, partitions, effects),
                GroupEvent::Offsets(offsets) => self.on_committed_offsets(offsets),
                GroupEvent::OffsetsFailed(partitions) => self.on_offsets_failed(now, &partitions),
                GroupEvent::Committed(result) => {
                    if result.is_err() {
                        self.committed.clear();
                    }
                    self.events.push_back(ConsumerEvent::Committed(result));
                }
                GroupEvent::Failed(error) => self.events.push_back(ConsumerEvent::GroupFailed(error)),
            }
        }
    }

    /// Gives up what the group takes away, begins with what it gives, and goes on with the rest.
    fn reconcile(&mut self, now: Now, partitions: Vec<TopicPartition>, effects: &mut Effects) {
        let keeps: BTreeSet<&TopicPartition> = partitions.iter().collect();
        let revoked: Vec<TopicPartition> =
            self.partitions.keys().filter(|it| !keeps.contains(it)).cloned().collect();
        if !revoked.is_empty() {
            if self.config.auto_commit.is_some() {
                self.commit(now, effects);
            }
            revoked.iter().for_each(|partition| self.drop_partition(partition));
            self.fetchers.values_mut().for_each(|fetcher| fetcher.session.on_failure());
            self.events.push_back(ConsumerEvent::Revoked(revoked));
        }
        for partition in &partitions {
            let begins = || Partition::new(StartAt::Committed);
            self.partitions.entry(partition.clone()).or_insert_with(begins);
        }
        if self.commit_at.is_none() {
            self.commit_at = self.config.auto_commit.map(|interval| now.after(interval));
        }
        self.events.push_back(ConsumerEvent::Assigned(partitions));
    }

    fn auto_commit(&mut self, now: Now, effects: &mut Effects) {
        if let (Some(at), Some(interval)) = (self.commit_at, self.config.auto_commit)
            && at <= now.instant
        {
            self.commit(now, effects);
            self.commit_at = Some(now.after(interval));
        }
    }
}

impl Machine for Consumer {
    fn handle(&mut self, now: Now, input: Input, effects: &mut Effects) {
        self.cluster.handle(now, input, effects);
        while let Some(reply) = self.cluster.next_reply() {
            match &reply.token {
                Token::Fetch(broker) => {
                    let broker = *broker;
                    self.on_fetched(now, broker, &reply);
                }
                Token::ListOffsets(partitions) => {
                    let partitions = partitions.clone();
                    self.on_listed(now, &partitions, &reply);
                }
                Token::Group(token) => {
                    let token = token.clone();
                    if let Some(membership) = &mut self.membership {
                        membership.on_reply(now, &mut self.cluster, token, &reply);
                    }
                }
            }
        }
        self.on_group_events(now, effects);
        // Metadata goes first, as the group's coordinator means nothing without it.
        self.cluster.poll(now, effects);
        if let Some(membership) = &mut self.membership {
            membership.advance(now, &mut self.cluster, effects);
        }
        self.on_group_events(now, effects);
        if !self.closing {
            self.auto_commit(now, effects);
            self.find_positions(now, effects);
            self.fetch(now, effects);
        }
        self.cluster.poll(now, effects);
    }

    fn next_timeout(&self) -> Option<Instant> {
        let polled_at = self.cluster.polled_at();
        let membership = self.membership.as_ref().and_then(|membership| membership.next_timeout(polled_at));
        let fetchers = self.fetchers.values().map(|fetcher| fetcher.retry_at);
        let partitions = self.partitions.values().map(|partition| partition.retry_at);
        let own = membership.into_iter().chain(self.commit_at).chain(fetchers).chain(partitions);
        own.filter(|&at| at > polled_at).chain(self.cluster.next_timeout()).min()
    }
}
