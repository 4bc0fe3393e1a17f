//! Forks of a topic that others write to: a fork has what its source has below some offset, batch by batch, with all
//! that was acknowledged before; and it still has that after it was written to, whatever happened meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use dohle_client::{Admin, CallId, Effects, Failure, Input, Machine, Target};
use dohle_protocol::messages::delete_topics_request::DeleteTopicState;
use dohle_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use dohle_protocol::messages::fork_topic_request::ForkTopicPartition;
use dohle_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use dohle_protocol::messages::metadata_request::MetadataRequestTopic;
use dohle_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use dohle_protocol::messages::{
    DeleteTopicsRequest, FetchRequest, FetchResponse, ForkTopicRequest, ListOffsetsRequest, MetadataRequest,
    ProduceRequest, ProduceResponse,
};
use dohle_records::{BatchBuilder, BatchOptions, Batches, Compressor};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Now, Str, TopicId};

use super::reader::cluster;
use super::{Actor, Shared, bootstrap};
use crate::marks::Mark;

/// Stands between a topic's name and the number of its fork.
pub(crate) const FORK: &str = ".fork.";

/// What ListOffsets takes for the end of a partition.
const LATEST: i64 = -1;

/// What is done next, or is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Where does the source end?
    Ask,
    Fork,
    /// What ids have they?
    Find,
    /// Reads the fork, from this offset on.
    ReadFork(i64),
    /// Reads the source, from this offset up to where the fork ended.
    ReadSource(i64),
    Write,
    /// Reads the fork again, after it was written to.
    ReadAgain(i64),
    Delete,
}

/// Offset and CRC of each batch, and the offset after it.
type Batched = BTreeMap<i64, (u32, i64)>;

/// The client that does it.
pub struct Forker {
    admin: Admin,
    source: Str,
    partition: i32,
    step: Step,
    call: Option<CallId>,
    next_at: Instant,
    number: u32,
    /// The source's end before it was forked.
    committed: i64,
    at: Option<i64>,
    ids: [TopicId; 2],
    fork: Batched,
    other: Batched,
}

impl Forker {
    /// Will fork this topic again and again.
    #[must_use]
    pub fn new(source: &str, partition: i32, shared: &mut Shared) -> Self {
        let timeout = Duration::from_secs(600);
        Self {
            admin: Admin::new(cluster("forker".to_owned()), timeout, bootstrap(), shared.rng.fork()),
            source: Str::from(source),
            partition,
            step: Step::Ask,
            call: None,
            next_at: Duration::from_millis(shared.rng.below(3000)),
            number: 0,
            committed: 0,
            at: None,
            ids: [TopicId::ZERO; 2],
            fork: Batched::new(),
            other: Batched::new(),
        }
    }

    fn name(&self) -> Str {
        Str::from(format!("{}{FORK}{}", self.source, self.number))
    }

    fn begin(&mut self, now: Now) -> CallId {
        match self.step {
            Step::Ask => {
                let partition = ListOffsetsPartition {
                    partition_index: self.partition,
                    timestamp: LATEST,
                    ..ListOffsetsPartition::default()
                };
                let topic = ListOffsetsTopic { name: self.source.clone(), partitions: vec![partition] };
                let request = ListOffsetsRequest {
                    replica_id: -1,
                    topics: vec![topic],
                    ..ListOffsetsRequest::default()
                };
                self.admin.call(now, Target::Controller, request, |it| {
                    let partition = it.topics.first().and_then(|topic| topic.partitions.first());
                    retriable(error(partition.map(|partition| partition.error_code)))
                })
            }
            Step::Fork => {
                let at = self
                    .at
                    .map(|end_offset| ForkTopicPartition { partition_index: self.partition, end_offset });
                let request = ForkTopicRequest {
                    name: self.source.clone(),
                    new_name: self.name(),
                    partitions: at.into_iter().collect(),
                };
                self.admin.call(now, Target::Controller, request, |it| retriable(error(Some(it.error_code))))
            }
            Step::Find => {
                let topic =
                    |name| MetadataRequestTopic { name: Some(name), ..MetadataRequestTopic::default() };
                let request = MetadataRequest {
                    topics: Some(vec![topic(self.source.clone()), topic(self.name())]),
                    ..MetadataRequest::default()
                };
                self.admin.call(now, Target::Controller, request, |_| ErrorCode::None)
            }
            Step::ReadFork(from) | Step::ReadAgain(from) => self.fetch(now, self.ids[1], from),
            Step::ReadSource(from) => self.fetch(now, self.ids[0], from),
            Step::Write => {
                let mut batch = BatchBuilder::new(BatchOptions::default());
                let built = batch.append(now.wall, None, Some(&[9; 100]), &[]);
                let records = built.and_then(|_| batch.build(&mut Compressor::default())).unwrap_or_default();
                let partition = PartitionProduceData { index: self.partition, records: Some(records.into()) };
                let topic = TopicProduceData {
                    name: self.name(),
                    topic_id: self.ids[1].0,
                    partition_data: vec![partition],
                };
                let request = ProduceRequest {
                    acks: -1,
                    timeout_ms: 5000,
                    topic_data: vec![topic],
                    ..ProduceRequest::default()
                };
                self.admin.call(now, Target::Controller, request, |it| retriable(produced(it).0))
            }
            Step::Delete => {
                let topic = DeleteTopicState { name: Some(self.name()), ..DeleteTopicState::default() };
                let request = DeleteTopicsRequest {
                    topics: vec![topic],
                    timeout_ms: 5000,
                    ..DeleteTopicsRequest::default()
                };
                self.admin.call(now, Target::Controller, request, |it| {
                    retriable(error(it.responses.first().map(|topic| topic.error_code)))
                })
            }
        }
    }

    fn fetch(&mut self, now: Now, topic_id: TopicId, from: i64) -> CallId {
        let partition = FetchPartition {
            partition: self.partition,
            fetch_offset: from,
            partition_max_bytes: 20_000,
            ..FetchPartition::default()
        };
        let topic = FetchTopic { topic_id: topic_id.0, partitions: vec![partition], ..FetchTopic::default() };
        let request = FetchRequest {
            max_wait_ms: 0,
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics: vec![topic],
            ..FetchRequest::default()
        };
        self.admin.call(now, Target::Controller, request, |it| retriable(fetched(it)))
    }

    /// Takes the answer to the step that is under way; what is next.
    fn take(&mut self, call: CallId, shared: &mut Shared) -> Option<Result<Step, Failure>> {
        let next = match self.step {
            Step::Ask => self.admin.take::<ListOffsetsRequest>(call)?.map(|response| {
                let partition = response.topics.first().and_then(|topic| topic.partitions.first());
                let is_there = partition.is_some_and(|partition| partition.error_code == 0);
                self.committed = partition.map_or(0, |partition| partition.offset.max(0));
                self.at = shared.rng.chance(1, 2).then(|| draw(shared, self.committed));
                self.number += u32::from(is_there);
                if is_there { Step::Fork } else { Step::Ask }
            }),
            Step::Fork => self.admin.take::<ForkTopicRequest>(call)?.map(|response| {
                // An earlier attempt may have made it.
                self.expect(error(Some(response.error_code)), &[ErrorCode::TopicAlreadyExists], shared);
                let end = response.partitions.iter().find(|it| it.partition_index == self.partition);
                let end = end.map_or(0, |it| it.end_offset);
                shared.marks.sometimes(Mark::TopicForked, end > 0 && self.at.is_none());
                shared.marks.sometimes(Mark::SegmentDivided, end > 0 && end < self.committed);
                Step::Find
            }),
            Step::Find => self.admin.take::<MetadataRequest>(call)?.map(|response| {
                let id = |name: &Str| {
                    let topic = response.topics.iter().find(|topic| topic.name.as_ref() == Some(name));
                    topic.map_or(TopicId::ZERO, |topic| TopicId(topic.topic_id))
                };
                self.ids = [id(&self.source), id(&self.name())];
                if self.ids.iter().any(|id| id.is_zero()) {
                    shared.violations.push(format!("{} or its source is not there", self.name()));
                }
                self.fork.clear();
                self.other.clear();
                Step::ReadFork(0)
            }),
            Step::ReadFork(from) => self.admin.take::<FetchRequest>(call)?.map(|response| {
                match self.note(&response, true, from, shared) {
                    Some(next) => Step::ReadFork(next),
                    None => {
                        self.check_end(shared);
                        Step::ReadSource(0)
                    }
                }
            }),
            Step::ReadSource(from) => self.admin.take::<FetchRequest>(call)?.map(|response| {
                // A fork may have what is not committed in its source yet, but will be.
                let next = self.note(&response, false, from, shared).unwrap_or(from);
                if next < self.end() {
                    Step::ReadSource(next)
                } else {
                    self.compare("its source has", shared);
                    Step::Write
                }
            }),
            Step::Write => self.admin.take::<ProduceRequest>(call)?.map(|response| {
                let (result, offset) = produced(&response);
                self.expect(result, &[], shared);
                if result.is_none() && offset < self.end() {
                    shared.violations.push(format!("{}: written at {offset} again", self.name()));
                }
                self.other.clear();
                Step::ReadAgain(0)
            }),
            Step::ReadAgain(from) => self.admin.take::<FetchRequest>(call)?.map(|response| {
                let end = self.end();
                match self.note(&response, false, from, shared).filter(|&next| next < end) {
                    Some(next) => Step::ReadAgain(next),
                    None => {
                        self.compare("it has later", shared);
                        Step::Delete
                    }
                }
            }),
            Step::Delete => self.admin.take::<DeleteTopicsRequest>(call)?.map(|response| {
                let result = error(response.responses.first().map(|topic| topic.error_code));
                self.expect(result, &[ErrorCode::UnknownTopicOrPartition], shared);
                Step::Ask
            }),
        };
        Some(next)
    }

    /// Takes note of the batches of an answer; where the next one begins, `None` at the end.
    fn note(
        &mut self,
        response: &FetchResponse,
        of_fork: bool,
        from: i64,
        shared: &mut Shared,
    ) -> Option<i64> {
        self.expect(fetched(response), &[], shared);
        let partition = response.responses.first().and_then(|topic| topic.partitions.first());
        let records = partition.and_then(|partition| partition.records.clone());
        let batched = if of_fork { &mut self.fork } else { &mut self.other };
        let mut next = from;
        for batch in Batches::new(records.map(|records| records.into_bytes()).unwrap_or_default()).flatten() {
            let header = batch.header();
            next = header.next_offset().0;
            batched.insert(header.base_offset.0, (header.crc, next));
        }
        (next > from).then_some(next)
    }

    /// Where the fork ended when it was read first.
    fn end(&self) -> i64 {
        self.fork.last_key_value().map_or(0, |(_, &(_, next))| next)
    }

    fn check_end(&self, shared: &mut Shared) {
        let end = self.end();
        let is_right = match self.at {
            None => end >= self.committed,
            Some(at) => end <= at,
        };
        if !is_right {
            let (at, committed) = (self.at, self.committed);
            shared.violations.push(format!(
                "{} ends at {end}, forked at {at:?} when its source ended at {committed}",
                self.name()
            ));
        }
    }

    /// Holds what the fork has against what it should have.
    fn compare(&self, what: &str, shared: &mut Shared) {
        let end = self.end();
        let below: Batched =
            self.other.iter().filter(|(_, (_, next))| *next <= end).map(|(&base, &it)| (base, it)).collect();
        if below != self.fork {
            let different = below.iter().find(|&(base, it)| self.fork.get(base) != Some(it));
            let missing = self.fork.keys().find(|base| !below.contains_key(base));
            shared.violations.push(format!(
                "{} has {} batches below {end}, {what} {}; first {different:?}, missing {missing:?}",
                self.name(),
                self.fork.len(),
                below.len()
            ));
        }
        // The source may have reached an offset beyond its end since. What the fork has of its own comes later.
        if let (Some(at), Step::ReadSource(_)) = (self.at, self.step)
            && at <= self.committed
            && self.other.iter().any(|(&base, &(_, next))| base >= end && next <= at)
        {
            shared.violations.push(format!("{} ends at {end}, but could at {at}", self.name()));
        }
    }

    fn expect(&self, error: ErrorCode, others: &[ErrorCode], shared: &mut Shared) {
        if !error.is_none() && !others.contains(&error) {
            shared.violations.push(format!("{}: {:?}: {error}", self.name(), self.step));
        }
    }
}

impl Actor for Forker {
    fn step(&mut self, now: Now, input: Input, shared: &mut Shared, effects: &mut Effects) {
        let rests = self.step == Step::Ask && shared.quiet;
        if self.call.is_none() && now.instant >= self.next_at && !rests {
            self.call = Some(self.begin(now));
        }
        self.admin.handle(now, input, effects);
        let Some(result) = self.call.and_then(|call| self.take(call, shared)) else { return };
        self.call = None;
        let pause = if self.step == Step::Ask || self.step == Step::Write { 1000 } else { 30 };
        self.next_at = now.after(Duration::from_millis(shared.rng.below(pause)));
        match result {
            Ok(next) => self.step = next,
            Err(failure) => {
                shared.violations.push(format!("{}: {:?}: {failure}", self.name(), self.step));
            }
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let next = self.call.is_none().then_some(self.next_at);
        self.admin.next_timeout().into_iter().chain(next).min()
    }

    fn waits_for(&self, _shared: &Shared) -> Option<String> {
        let is_busy = self.call.is_some() || self.step != Step::Ask;
        is_busy.then(|| format!("{}: {:?} does not end", self.name(), self.step))
    }
}

/// An offset that the source has, or a little more.
fn draw(shared: &mut Shared, committed: i64) -> i64 {
    i64::try_from(shared.rng.below(committed.unsigned_abs() + 3)).unwrap_or(0)
}

fn error(code: Option<i16>) -> ErrorCode {
    code.and_then(ErrorCode::from_code).unwrap_or(ErrorCode::UnknownServerError)
}

fn produced(response: &ProduceResponse) -> (ErrorCode, i64) {
    let partition = response.responses.first().and_then(|topic| topic.partition_responses.first());
    (error(partition.map(|it| it.error_code)), partition.map_or(-1, |it| it.base_offset))
}

fn fetched(response: &FetchResponse) -> ErrorCode {
    let partition = response.responses.first().and_then(|topic| topic.partitions.first());
    error(partition.map(|partition| partition.error_code))
}

/// The error, if the same request may fare better later. That a topic is not there does not pass by itself.
fn retriable(error: ErrorCode) -> ErrorCode {
    let is_gone = matches!(error, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId);
    if error.is_retriable() && !is_gone { error } else { ErrorCode::None }
}
