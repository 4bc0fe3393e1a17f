//! What clients attempted, were told and saw.

use std::collections::BTreeMap;
use std::fmt;

use dohle_types::{Offset, Str, TopicPartition};

use crate::transactions::{self, Consumed, Sent, Transaction, TransactionId, Verdict};
use crate::{Anomaly, offsets, payload, records};

/// A record, by its producer and its place in the order of that producer's sends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecordId {
    /// The producer: one run of one client.
    pub producer: u32,
    /// The record, counted upwards.
    pub number: u64,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of producer {}", self.number, self.producer)
    }
}

/// What a producer is promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guarantee {
    /// It is idempotent (KIP-98): each record once, all in order.
    ExactlyOnce,
    /// It sends again what is not acknowledged: duplicates are its own doing, and only what was acknowledged
    /// stands in order.
    AtLeastOnce,
    /// It never sends again: nothing is there twice.
    AtMostOnce,
}

/// What a producer was told of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nothing certain: the record may or may not be in the log.
    Unknown,
    /// It is in the log for good, at this offset where one was told.
    Acknowledged(Option<Offset>),
    /// It is not in the log and will never be.
    Refused,
}

/// One run of a reader through partitions; after a seek or an assignment it is another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReaderId(pub u32);

/// A point in the order of what happened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Moment(u64);

/// A commit that was attempted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Commit(usize);

/// What a reader is promised (`isolation.level`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isolation {
    /// Records as they are written, those of transactions that are open or aborted too.
    Uncommitted,
    /// Only what is committed.
    Committed,
}

/// What was read at an offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Moment,
    pub(crate) offset: Offset,
    pub(crate) value: Result<RecordId, String>,
}

#[derive(Debug)]
pub(crate) struct CommitAttempt {
    pub(crate) group: Str,
    pub(crate) partition: TopicPartition,
    pub(crate) offset: Offset,
    pub(crate) begun: Moment,
    /// When it was acknowledged; one that never was may take effect at any time.
    pub(crate) acknowledged: Option<Moment>,
}

#[derive(Debug)]
pub(crate) struct FetchedOffset {
    pub(crate) group: Str,
    pub(crate) partition: TopicPartition,
    pub(crate) offset: Option<Offset>,
    pub(crate) begun: Moment,
    pub(crate) ended: Moment,
}

/// Everything that clients attempted, were told and saw.
#[derive(Debug, Default)]
pub struct History {
    pub(crate) producers: BTreeMap<u32, Guarantee>,
    pub(crate) attempts: BTreeMap<TopicPartition, BTreeMap<RecordId, Outcome>>,
    pub(crate) isolation: BTreeMap<ReaderId, Isolation>,
    pub(crate) reads: BTreeMap<(ReaderId, TopicPartition), Vec<Seen>>,
    pub(crate) logs: BTreeMap<TopicPartition, Vec<Seen>>,
    pub(crate) committed_logs: BTreeMap<TopicPartition, Vec<Seen>>,
    pub(crate) transactions: BTreeMap<TransactionId, Transaction>,
    pub(crate) fenced: BTreeMap<u32, Moment>,
    pub(crate) commits: Vec<CommitAttempt>,
    pub(crate) fetched: Vec<FetchedOffset>,
    now: u64,
}

impl History {
    /// A producer begins.
    pub fn producer(&mut self, producer: u32, guarantee: Guarantee) {
        self.producers.insert(producer, guarantee);
    }

    /// A producer sends a record.
    pub fn attempt(&mut self, partition: &TopicPartition, record: RecordId) {
        self.attempts.entry(partition.clone()).or_default().insert(record, Outcome::Unknown);
    }

    /// A producer sends a record in a transaction, which this begins if it is the first of it.
    pub fn attempt_in(&mut self, id: TransactionId, partition: &TopicPartition, record: RecordId) {
        self.attempt(partition, record);
        let sent = Sent { partition: partition.clone(), record, at: self.moment() };
        self.transactions.entry(id).or_default().sent.push(sent);
    }

    /// A group's offset for the partition, which was `from`, is to be `to` if the transaction is committed.
    pub fn consume(
        &mut self,
        id: TransactionId,
        group: &str,
        partition: &TopicPartition,
        from: Offset,
        to: Offset,
    ) {
        let consumed = Consumed { group: group.into(), partition: partition.clone(), from, to };
        self.transactions.entry(id).or_default().consumed.push(consumed);
    }

    /// A transaction is about to be committed. One of which that was never said is to be aborted.
    pub fn committing(&mut self, id: TransactionId) {
        let now = self.moment();
        self.transactions.entry(id).or_default().commit_begun.get_or_insert(now);
    }

    /// A producer is told what became of its transaction.
    pub fn ended(&mut self, id: TransactionId, verdict: Verdict) {
        self.transactions.entry(id).or_default().verdict = verdict;
    }

    /// A producer's successor with the same transactional id has been told its own epoch.
    pub fn fenced(&mut self, producer: u32) {
        let now = self.moment();
        self.fenced.entry(producer).or_insert(now);
    }

    /// A producer is told of a record that it sent.
    pub fn outcome(&mut self, partition: &TopicPartition, record: RecordId, outcome: Outcome) {
        if let Some(known) = self.attempts.get_mut(partition).and_then(|records| records.get_mut(&record)) {
            *known = outcome;
        }
    }

    /// A reader begins; one that never says so is [`Isolation::Uncommitted`].
    pub fn reader(&mut self, reader: ReaderId, isolation: Isolation) {
        self.isolation.insert(reader, isolation);
    }

    /// A reader reads a record.
    pub fn read(
        &mut self,
        reader: ReaderId,
        partition: &TopicPartition,
        offset: Offset,
        value: Option<&[u8]>,
    ) {
        let seen = self.seen(offset, value);
        self.reads.entry((reader, partition.clone())).or_default().push(seen);
    }

    /// At the end, when nothing happens any more, the whole log is read, record by record.
    pub fn log(&mut self, partition: &TopicPartition, offset: Offset, value: Option<&[u8]>) {
        let seen = self.seen(offset, value);
        self.logs.entry(partition.clone()).or_default().push(seen);
    }

    /// At the end, the same by a reader of what is committed. Needed where there are transactions.
    pub fn committed_log(&mut self, partition: &TopicPartition, offset: Offset, value: Option<&[u8]>) {
        let seen = self.seen(offset, value);
        self.committed_logs.entry(partition.clone()).or_default().push(seen);
    }

    /// Now, as a group's offsets are about to be fetched.
    pub const fn moment(&mut self) -> Moment {
        self.now += 1;
        Moment(self.now)
    }

    /// A group's offset is about to be committed.
    pub fn commit(&mut self, group: &str, partition: &TopicPartition, offset: Offset) -> Commit {
        let attempt = CommitAttempt {
            group: group.into(),
            partition: partition.clone(),
            offset,
            begun: self.moment(),
            acknowledged: None,
        };
        self.commits.push(attempt);
        Commit(self.commits.len() - 1)
    }

    /// A commit is acknowledged.
    pub fn committed(&mut self, commit: Commit) {
        let now = self.moment();
        if let Some(attempt) = self.commits.get_mut(commit.0) {
            attempt.acknowledged = Some(now);
        }
    }

    /// A group's offset is fetched, by a request that was `begun` then; `None` where nothing was committed.
    pub fn fetched(
        &mut self,
        begun: Moment,
        group: &str,
        partition: &TopicPartition,
        offset: Option<Offset>,
    ) {
        let ended = self.moment();
        let fetched =
            FetchedOffset { group: group.into(), partition: partition.clone(), offset, begun, ended };
        self.fetched.push(fetched);
    }

    /// A member of a group goes on at `position`. At 0 the group may as well have committed nothing.
    pub fn resumed(&mut self, begun: Moment, group: &str, partition: &TopicPartition, position: Offset) {
        let is_commit = |commit: &CommitAttempt| {
            commit.offset == position && commit.group == group && commit.partition == *partition
        };
        let committed = position > Offset::ZERO || self.commits.iter().any(is_commit);
        self.fetched(begun, group, partition, committed.then_some(position));
    }

    /// How many records were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        let outcomes = self.attempts.values().flat_map(BTreeMap::values);
        outcomes.filter(|outcome| matches!(outcome, Outcome::Acknowledged(_))).count()
    }

    /// All promises that were broken.
    #[must_use]
    pub fn check(&self) -> Vec<Anomaly> {
        let mut anomalies = Vec::new();
        records::check(self, &mut anomalies);
        offsets::check(self, &mut anomalies);
        transactions::check(self, &mut anomalies);
        anomalies
    }

    fn seen(&mut self, offset: Offset, value: Option<&[u8]>) -> Seen {
        let value = value.ok_or_else(|| "it is null".to_owned()).and_then(payload::decode);
        Seen { at: self.moment(), offset, value }
    }
}
