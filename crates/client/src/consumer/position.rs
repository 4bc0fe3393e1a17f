//! Where to begin in a partition: asks the group, then the log.

use std::collections::{BTreeMap, BTreeSet};

use dohle_protocol::messages::ListOffsetsRequest;
use dohle_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use dohle_types::time::Instant;
use dohle_types::{BrokerId, ErrorCode, LeaderEpoch, Now, Offset, PartitionIndex, TopicPartition};

use super::{Consumer, ConsumerError, IsolationLevel, StartAt, Token};
use crate::cluster::{Reply, Route};
use crate::metadata::error_of;
use crate::{Effects, Failure};

/// What ListOffsets takes for "the first record" (KIP-79).
const EARLIEST_TIMESTAMP: i64 = -2;
/// What ListOffsets takes for "the end".
const LATEST_TIMESTAMP: i64 = -1;

/// A partition that is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Partition {
    pub(super) position: Position,
    /// The offset after what was given to the caller.
    pub(super) consumed: Option<Offset>,
    /// Nothing is asked about it before this.
    pub(super) retry_at: Instant,
    pub(super) failures: u32,
    /// Where the end was last reported.
    pub(super) end: Option<Offset>,
    /// Who wrote what is read, and was aborted (read committed only).
    pub(super) aborted: BTreeSet<i64>,
}

/// How far the position is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Position {
    /// To be found out.
    Unset(StartAt),
    /// Asked for.
    Asked(StartAt),
    /// The offset to be fetched next.
    At(Offset),
    /// Not to be read.
    Failed,
}

impl Partition {
    pub(super) const fn new(start: StartAt) -> Self {
        let (position, consumed) = match start {
            StartAt::Offset(offset) => (Position::At(offset), Some(offset)),
            StartAt::Earliest | StartAt::Latest | StartAt::Timestamp(_) | StartAt::Committed => {
                (Position::Unset(start), None)
            }
        };
        Self { position, consumed, retry_at: Instant::ZERO, failures: 0, end: None, aborted: BTreeSet::new() }
    }

    fn start_at(&mut self, offset: Offset) {
        self.position = Position::At(offset);
        self.consumed = Some(offset);
        self.failures = 0;
    }
}

impl Consumer {
    /// Asks for the positions that are not known.
    pub(super) fn find_positions(&mut self, now: Now, effects: &mut Effects) {
        let mut committed = BTreeSet::new();
        let mut listed: BTreeMap<BrokerId, BTreeSet<TopicPartition>> = BTreeMap::new();
        let unset = self.partitions.iter().filter(|(_, partition)| {
            matches!(partition.position, Position::Unset(_)) && partition.retry_at <= now.instant
        });
        let unset: Vec<TopicPartition> = unset.map(|(partition, _)| partition.clone()).collect();
        for partition in unset {
            let start = self.partitions.get(&partition).map(|it| it.position);
            if start == Some(Position::Unset(StartAt::Committed)) {
                committed.insert(partition);
            } else if let Some(leader) = self.leader(now, &partition) {
                listed.entry(leader).or_default().insert(partition);
            }
        }
        if let Some(membership) =
            self.membership.as_mut().filter(|it| !committed.is_empty() && it.is_stable())
            && membership.fetch_offsets(now, &mut self.cluster, &committed, effects)
        {
            self.mark_asked(&committed);
        }
        for (leader, partitions) in listed {
            self.list_offsets(now, leader, partitions, effects);
        }
    }

    /// The broker to ask about a partition; gives up partitions that there are not.
    pub(super) fn leader(&mut self, now: Now, partition: &TopicPartition) -> Option<BrokerId> {
        let topic = self.cluster.metadata().topic(&partition.topic)?;
        if !topic.error.is_none() {
            let error = topic.error;
            if !error.is_retriable() {
                self.fail(partition, ConsumerError::Refused(error));
            }
            return None;
        }
        let Some(described) = topic.partition(partition.partition) else {
            self.fail(partition, ConsumerError::NoPartition);
            return None;
        };
        let leader = described.leader;
        if leader.is_none() {
            self.cluster.refresh_metadata(now);
        }
        leader
    }

    fn mark_asked(&mut self, partitions: &BTreeSet<TopicPartition>) {
        for partition in partitions {
            if let Some(state) = self.partitions.get_mut(partition)
                && let Position::Unset(start) = state.position
            {
                state.position = Position::Asked(start);
            }
        }
    }

    fn list_offsets(
        &mut self,
        now: Now,
        leader: BrokerId,
        partitions: BTreeSet<TopicPartition>,
        effects: &mut Effects,
    ) {
        let route = Route::data(leader);
        if self.cluster.slots(now, route, effects) == 0 {
            return;
        }
        let mut topics: Vec<ListOffsetsTopic> = Vec::new();
        for partition in &partitions {
            let item = ListOffsetsPartition {
                partition_index: partition.partition.0,
                current_leader_epoch: self.leader_epoch(partition).0,
                timestamp: self
                    .partitions
                    .get(partition)
                    .map_or(LATEST_TIMESTAMP, |it| timestamp_of(it.position)),
            };
            match topics.last_mut().filter(|last| last.name == partition.topic) {
                Some(last) => last.partitions.push(item),
                None => {
                    topics.push(ListOffsetsTopic { name: partition.topic.clone(), partitions: vec![item] })
                }
            }
        }
        let request = ListOffsetsRequest {
            replica_id: BrokerId::NONE.0,
            isolation_level: self.isolation_code(),
            topics,
            timeout_ms: i32::try_from(self.config.cluster.request_timeout.as_millis()).unwrap_or(i32::MAX),
        };
        let token = Token::ListOffsets(partitions.clone());
        match self.cluster.send(now, route, &request, token, effects) {
            Ok(()) => self.mark_asked(&partitions),
            Err(failure) => {
                for partition in &partitions {
                    self.fail(partition, failure.clone().into());
                }
            }
        }
    }

    pub(super) const fn isolation_code(&self) -> i8 {
        match self.config.isolation {
            IsolationLevel::ReadUncommitted => 0,
            IsolationLevel::ReadCommitted => 1,
        }
    }

    pub(super) fn leader_epoch(&self, partition: &TopicPartition) -> LeaderEpoch {
        let described = self.cluster.metadata().partition(&partition.topic, partition.partition);
        described.map_or(LeaderEpoch::NONE, |described| described.leader_epoch)
    }

    pub(super) fn on_listed(
        &mut self,
        now: Now,
        partitions: &BTreeSet<TopicPartition>,
        reply: &Reply<Token>,
    ) {
        match reply.decode::<ListOffsetsRequest>() {
            Ok(response) => {
                for topic in response.topics {
                    for answer in topic.partitions {
                        let partition =
                            TopicPartition::new(topic.name.clone(), PartitionIndex(answer.partition_index));
                        self.on_offset(now, &partition, error_of(answer.error_code), Offset(answer.offset));
                    }
                }
                // What was not answered is asked again.
                self.on_offsets_failed(now, partitions);
            }
            Err(failure) => self.on_positions_failed(now, partitions, &failure),
        }
    }

    fn on_positions_failed(&mut self, now: Now, partitions: &BTreeSet<TopicPartition>, failure: &Failure) {
        if failure.is_retriable() {
            return self.on_offsets_failed(now, partitions);
        }
        for partition in partitions {
            self.fail(partition, failure.clone().into());
        }
    }

    fn on_offset(&mut self, now: Now, partition: &TopicPartition, error: ErrorCode, offset: Offset) {
        let Some(state) = self.partitions.get_mut(partition) else { return };
        let Position::Asked(start) = state.position else { return };
        if error.is_none() && offset >= Offset::ZERO {
            state.start_at(offset);
        } else if error.is_none() && start != StartAt::Latest {
            // No record is that young: begin at the end.
            state.position = Position::Unset(StartAt::Latest);
        } else if error.is_none() || error.is_retriable() {
            state.position = Position::Unset(start);
            self.back_off(now, partition);
        } else {
            self.fail(partition, ConsumerError::Refused(error));
        }
    }

    /// Asks again, later, about those of these partitions that are still asked about.
    pub(super) fn on_offsets_failed(&mut self, now: Now, partitions: &BTreeSet<TopicPartition>) {
        for partition in partitions {
            if let Some(state) = self.partitions.get_mut(partition)
                && let Position::Asked(start) = state.position
            {
                state.position = Position::Unset(start);
                self.back_off(now, partition);
            }
        }
    }

    pub(super) fn back_off(&mut self, now: Now, partition: &TopicPartition) {
        self.cluster.refresh_metadata(now);
        let Some(state) = self.partitions.get_mut(partition) else { return };
        state.failures += 1;
        let wait = self.config.cluster.retry_backoff.after(state.failures, self.cluster.rng());
        state.retry_at = now.after(wait);
    }

    pub(super) fn on_committed_offsets(&mut self, offsets: BTreeMap<TopicPartition, Option<Offset>>) {
        for (partition, offset) in offsets {
            let Some(state) = self.partitions.get_mut(&partition) else { continue };
            if state.position != Position::Asked(StartAt::Committed) {
                continue;
            }
            match (offset, self.config.reset) {
                (Some(offset), _) => {
                    state.start_at(offset);
                    self.committed.insert(partition, offset);
                }
                (None, Some(reset)) => *state = Partition::new(reset),
                (None, None) => self.fail(&partition, ConsumerError::NothingCommitted),
            }
        }
    }
}

const fn timestamp_of(position: Position) -> i64 {
    match position {
        Position::Unset(StartAt::Earliest) => EARLIEST_TIMESTAMP,
        Position::Unset(StartAt::Timestamp(timestamp)) => timestamp.0,
        Position::Unset(StartAt::Latest | StartAt::Offset(_) | StartAt::Committed)
        | Position::Asked(_)
        | Position::At(_)
        | Position::Failed => LATEST_TIMESTAMP,
    }
}
