//! A topic that is made, written to and deleted, again and again under the same name: whatever a crash leaves of
//! one of its lives must not be taken for the next one's.

use std::time::Duration;

use dohle_client::{Admin, CallId, Effects, Failure, Input, Machine, Target};
use dohle_protocol::messages::create_topics_request::CreatableTopic;
use dohle_protocol::messages::delete_topics_request::DeleteTopicState;
use dohle_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use dohle_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, ProduceRequest,
    ProduceResponse,
};
use dohle_records::{BatchBuilder, BatchOptions, Compressor};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Now, Str, TopicId};

use super::reader::cluster;
use super::{Actor, Shared, bootstrap};
use crate::marks::Mark;

const TOPIC: &str = "scratch";
const PARTITIONS: i32 = 2;

/// What is done next, or is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Create,
    /// So many batches are still to be written.
    Write(TopicId, u64),
    Delete,
}

/// The client that does it.
pub struct Churner {
    admin: Admin,
    step: Step,
    call: Option<CallId>,
    next_at: Instant,
    lives: u64,
}

impl Churner {
    /// Nothing is made yet.
    #[must_use]
    pub fn new(shared: &mut Shared) -> Self {
        let timeout = Duration::from_secs(600);
        let admin = Admin::new(cluster("churner".to_owned()), timeout, bootstrap(), shared.rng.fork());
        Self { admin, step: Step::Create, call: None, next_at: Duration::ZERO, lives: 0 }
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
        }
    }

    /// Takes the answer to the step that is under way; what is next.
    fn take(&mut self, call: CallId, shared: &mut Shared) -> Option<Result<Step, Failure>> {
        let next = match self.step {
            Step::Create => self.admin.take::<CreateTopicsRequest>(call)?.map(|response| {
                let id = response.topics.first().map_or(TopicId::ZERO, |topic| TopicId(topic.topic_id));
                self.expect(created(&response), &[ErrorCode::TopicAlreadyExists], shared);
                self.lives += 1;
                shared.marks.sometimes(Mark::TopicMadeAgain, self.lives > 1 && !id.is_zero());
                // One that an earlier attempt made has an id that nobody told.
                if id.is_zero() { Step::Delete } else { Step::Write(id, shared.rng.below(4)) }
            }),
            Step::Write(id, left) => self.admin.take::<ProduceRequest>(call)?.map(|response| {
                self.expect(produced(&response), &[], shared);
                if left > 0 { Step::Write(id, left - 1) } else { Step::Delete }
            }),
            Step::Delete => self.admin.take::<DeleteTopicsRequest>(call)?.map(|response| {
                // An earlier attempt may have deleted it.
                self.expect(deleted(&response), &[ErrorCode::UnknownTopicOrPartition], shared);
                Step::Create
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
