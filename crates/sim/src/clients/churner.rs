//! A topic that is made, written to and deleted, again and again under the same name: whatever a crash leaves of
//! one of its lives must not be taken for the next one's. Now and then it is brought back from the trash, with all
//! that was acknowledged.

use std::collections::BTreeMap;
use std::time::Duration;

use dohle_client::{Admin, CallId, Effects, Failure, Input, Machine, Target};
use dohle_protocol::messages::create_topics_request::CreatableTopic;
use dohle_protocol::messages::delete_topics_request::DeleteTopicState;
use dohle_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use dohle_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use dohle_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, ListOffsetsRequest,
    ListOffsetsResponse, ProduceRequest, ProduceResponse, UndeleteTopicRequest,
};
use dohle_records::{BatchBuilder, BatchOptions, Compressor};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Now, Str, TopicId};

use super::reader::cluster;
use super::{Actor, Shared, bootstrap};
use crate::marks::Mark;

const TOPIC: &str = "scratch";
const PARTITIONS: i32 = 2;
/// What ListOffsets takes for the end of a partition.
const LATEST: i64 = -1;

/// What is done next, or is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Create,
    /// So many batches are still to be written.
    Write(TopicId, u64),
    Delete,
    Undelete,
    /// So many partitions are still to be held against what was acknowledged.
    Check(TopicId, i32),
}

/// What the plan says of the topic.
#[derive(Clone, Copy, Debug)]
pub struct Promises {
    /// What was acknowledged survives power loss.
    pub durable: bool,
    /// What was deleted stays in the trash for longer than the simulation lasts, and no disk runs short.
    pub trash: bool,
}

/// The client that does it.
pub struct Churner {
    admin: Admin,
    step: Step,
    call: Option<CallId>,
    next_at: Instant,
    lives: u64,
    promises: Promises,
    /// Batches that were acknowledged, by partition.
    acknowledged: BTreeMap<i32, i64>,
    /// Whether the topic was in the trash when it was looked for last, and the partition that is checked was short.
    is_missing: bool,
}

impl Churner {
    /// Nothing is made yet.
    #[must_use]
    pub fn new(shared: &mut Shared, promises: Promises) -> Self {
        let timeout = Duration::from_secs(600);
        let admin = Admin::new(cluster("churner".to_owned()), timeout, bootstrap(), shared.rng.fork());
        Self {
            admin,
            step: Step::Create,
            call: None,
            next_at: Duration::ZERO,
            lives: 0,
            promises,
            acknowledged: BTreeMap::new(),
            is_missing: false,
        }
    }

    fn begin(&mut self, now: Now) -> CallId {
        match self.step {
            Step::Create => {
                let topic = CreatableTopic {
                    name: Str::from(TOPIC),
                    num_partitions: PARTITIONS,
                    replication_factor: 1,
                    ..CreatableTopic::default()
                };
                let request = CreateTopicsRequest {
                    topics: vec![topic],
                    timeout_ms: 5000,
                    ..CreateTopicsRequest::default()
                };
                self.admin.call(now, Target::Controller, request, |it| retriable(created(it)))
            }
            Step::Write(topic_id, left) => {
                let index = i32::try_from(left).unwrap_or(0) % PARTITIONS;
                let mut batch = BatchBuilder::new(BatchOptions::default());
                let built = batch.append(now.wall, None, Some(&[7; 300]), &[]);
                let records = built.and_then(|_| batch.build(&mut Compressor::default())).unwrap_or_default();
                let partition = PartitionProduceData { index, records: Some(records.into()) };
                let topic = TopicProduceData {
                    name: Str::from(TOPIC),
                    topic_id: topic_id.0,
                    partition_data: vec![partition],
                };
                let request = ProduceRequest {
                    acks: -1,
                    timeout_ms: 5000,
                    topic_data: vec![topic],
                    ..ProduceRequest::default()
                };
                self.admin.call(now, Target::Controller, request, |it| retriable(produced(it)))
            }
            Step::Delete => {
                let topic = DeleteTopicState { name: Some(Str::from(TOPIC)), ..DeleteTopicState::default() };
                let request = DeleteTopicsRequest {
                    topics: vec![topic],
                    timeout_ms: 5000,
                    ..DeleteTopicsRequest::default()
                };
                self.admin.call(now, Target::Controller, request, |it| retriable(deleted(it)))
            }
            Step::Undelete => {
                let request =
                    UndeleteTopicRequest { name: Str::from(TOPIC), ..UndeleteTopicRequest::default() };
                self.admin.call(now, Target::Controller, request, |it| retriable(error(Some(it.error_code))))
            }
            Step::Check(_, left) => {
                let partition = ListOffsetsPartition {
                    partition_index: left - 1,
                    timestamp: LATEST,
                    ..ListOffsetsPartition::default()
                };
                let topic = ListOffsetsTopic { name: Str::from(TOPIC), partitions: vec![partition] };
                let request = ListOffsetsRequest {
                    replica_id: -1,
                    topics: vec![topic],
                    ..ListOffsetsRequest::default()
                };
                self.admin.call(now, Target::Controller, request, |it| retriable(listed(it).0))
            }
        }
    }

    /// Takes the answer to the step that is under way; what is next.
    fn take(&mut self, call: CallId, shared: &mut Shared) -> Option<Result<Step, Failure>> {
        let next = match self.step {
            Step::Create => self.admin.take::<CreateTopicsRequest>(call)?.map(|response| {
                let id = response.topics.first().map_or(TopicId::ZERO, |topic| TopicId(topic.topic_id));
                self.expect(created(&response), &[ErrorCode::TopicAlreadyExists], shared);
                if std::mem::take(&mut self.is_missing) && !id.is_zero() && self.promises.trash {
                    shared.violations.push(format!("topic {TOPIC} was deleted and is not in the trash"));
                }
                self.acknowledged.clear();
                self.lives += 1;
                shared.marks.sometimes(Mark::TopicMadeAgain, self.lives > 1 && !id.is_zero());
                // One that an earlier attempt made has an id that nobody told.
                if id.is_zero() { Step::Delete } else { Step::Write(id, shared.rng.below(4)) }
            }),
            Step::Write(id, left) => self.admin.take::<ProduceRequest>(call)?.map(|response| {
                self.expect(produced(&response), &[], shared);
                let index = i32::try_from(left).unwrap_or(0) % PARTITIONS;
                *self.acknowledged.entry(index).or_default() += 1;
                if left > 0 { Step::Write(id, left - 1) } else { Step::Delete }
            }),
            Step::Delete => self.admin.take::<DeleteTopicsRequest>(call)?.map(|response| {
                // An earlier attempt may have deleted it.
                self.expect(deleted(&response), &[ErrorCode::UnknownTopicOrPartition], shared);
                if shared.rng.chance(1, 2) { Step::Undelete } else { Step::Create }
            }),
            Step::Undelete => self.admin.take::<UndeleteTopicRequest>(call)?.map(|response| {
                // An earlier attempt may have brought it back.
                let others = [ErrorCode::UnknownTopicOrPartition, ErrorCode::TopicAlreadyExists];
                let result = error(Some(response.error_code));
                self.expect(result, &others, shared);
                self.is_missing = result == ErrorCode::UnknownTopicOrPartition;
                shared.marks.sometimes(Mark::TopicUndeleted, result.is_none());
                if result.is_none() {
                    Step::Check(TopicId(response.topic_id), PARTITIONS)
                } else {
                    Step::Create
                }
            }),
            Step::Check(id, left) => self.admin.take::<ListOffsetsRequest>(call)?.map(|response| {
                let (result, end) = listed(&response);
                self.expect(result, &[], shared);
                let acknowledged = self.acknowledged.get(&(left - 1)).copied().unwrap_or(0);
                if self.promises.durable && end < acknowledged {
                    shared.violations.push(format!(
                        "topic {TOPIC}: partition {} came back with {end} of {acknowledged} records",
                        left - 1
                    ));
                }
                if left > 1 { Step::Check(id, left - 1) } else { Step::Write(id, shared.rng.below(4)) }
            }),
        };
        Some(next)
    }

    fn expect(&self, error: ErrorCode, others: &[ErrorCode], shared: &mut Shared) {
        if !error.is_none() && !others.contains(&error) {
            shared.violations.push(format!("topic {TOPIC}: {:?}: {error}", self.step));
        }
    }
}

impl Actor for Churner {
    fn step(&mut self, now: Now, input: Input, shared: &mut Shared, effects: &mut Effects) {
        if self.call.is_none() && now.instant >= self.next_at && !shared.quiet {
            self.call = Some(self.begin(now));
        }
        self.admin.handle(now, input, effects);
        let Some(result) = self.call.and_then(|call| self.take(call, shared)) else { return };
        self.call = None;
        self.next_at = now.after(Duration::from_millis(shared.rng.below(400)));
        match result {
            Ok(next) => self.step = next,
            Err(failure) => shared.violations.push(format!("topic {TOPIC}: {:?}: {failure}", self.step)),
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let next = self.call.is_none().then_some(self.next_at);
        self.admin.next_timeout().into_iter().chain(next).min()
    }

    fn waits_for(&self, _shared: &Shared) -> Option<String> {
        self.call.map(|_| format!("topic {TOPIC}: {:?} does not end", self.step))
    }
}

fn error(code: Option<i16>) -> ErrorCode {
    code.and_then(ErrorCode::from_code).unwrap_or(ErrorCode::UnknownServerError)
}

fn listed(response: &ListOffsetsResponse) -> (ErrorCode, i64) {
    let partition = response.topics.first().and_then(|topic| topic.partitions.first());
    let offset = partition.map_or(-1, |partition| partition.offset);
    (error(partition.map(|partition| partition.error_code)), offset)
}

fn created(response: &CreateTopicsResponse) -> ErrorCode {
    error(response.topics.first().map(|topic| topic.error_code))
}

fn deleted(response: &DeleteTopicsResponse) -> ErrorCode {
    error(response.responses.first().map(|topic| topic.error_code))
}

fn produced(response: &ProduceResponse) -> ErrorCode {
    let partition = response.responses.first().and_then(|topic| topic.partition_responses.first());
    error(partition.map(|partition| partition.error_code))
}

/// The error, if the same request may fare better later. That a topic is not there does not pass by itself.
fn retriable(error: ErrorCode) -> ErrorCode {
    let is_gone = matches!(error, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId);
    if error.is_retriable() && !is_gone { error } else { ErrorCode::None }
}
