//! Administration: making the topics, and asking for what groups committed.

use std::time::Duration;

use dohle_checker::Moment;
use dohle_client::group::offsets::fetch_request;
use dohle_client::{Admin, CallId, Effects, Input, Machine, Target};
use dohle_protocol::messages::create_topics_request::CreatableTopic;
use dohle_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Now, Offset, Str, TopicId, TopicPartition};

use super::reader::cluster;
use super::{Actor, Shared, bootstrap};

fn admin(shared: &mut Shared) -> Admin {
    Admin::new(cluster("admin".to_owned()), Duration::from_secs(600), bootstrap(), shared.rng.fork())
}

/// Makes the topics.
pub struct TopicCreator {
    admin: Admin,
    topics: Vec<(String, i32)>,
    call: Option<CallId>,
    done: bool,
}

impl TopicCreator {
    /// Will make these topics, each with so many partitions.
    #[must_use]
    pub fn new(topics: Vec<(String, i32)>, shared: &mut Shared) -> Self {
        Self { admin: admin(shared), topics, call: None, done: false }
    }
}

impl Actor for TopicCreator {
    fn step(&mut self, now: Now, input: Input, shared: &mut Shared, effects: &mut Effects) {
        if self.call.is_none() && !self.done {
            let topics = self.topics.iter().map(|(name, partitions)| CreatableTopic {
                name: Str::from(name),
                num_partitions: *partitions,
                replication_factor: 1,
                ..CreatableTopic::default()
            });
            let request = CreateTopicsRequest {
                topics: topics.collect(),
                timeout_ms: 5000,
                ..CreateTopicsRequest::default()
            };
            self.call = Some(self.admin.call(now, Target::Controller, request, retriable));
        }
        self.admin.handle(now, input, effects);
        let Some(result) = self.call.and_then(|call| self.admin.take::<CreateTopicsRequest>(call)) else {
            return;
        };
        (self.call, self.done) = (None, true);
        match result {
            Ok(response) => {
                for topic in response.topics {
                    // One that exists was made by an earlier attempt, whose answer was lost.
                    let error = ErrorCode::from_code(topic.error_code);
                    if !matches!(error, Some(ErrorCode::None | ErrorCode::TopicAlreadyExists)) {
                        let message = topic.error_message.unwrap_or_default();
                        shared
                            .violations
                            .push(format!("topic {} cannot be made: {error:?} {message}", topic.name));
                    }
                }
            }
            Err(failure) => shared.violations.push(format!("topics cannot be made: {failure}")),
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.admin.next_timeout()
    }

    fn waits_for(&self, _shared: &Shared) -> Option<String> {
        (!self.done).then(|| "the topics are not made".to_owned())
    }
}

fn retriable(response: &CreateTopicsResponse) -> ErrorCode {
    let errors = response.topics.iter().filter_map(|topic| ErrorCode::from_code(topic.error_code));
    errors.into_iter().find(|error| error.is_retriable()).unwrap_or(ErrorCode::None)
}

/// Asks, at the end, what a group committed.
pub struct OffsetReader {
    admin: Admin,
    group: Str,
    call: Option<(CallId, Moment)>,
    done: bool,
}

impl OffsetReader {
    /// Will ask for the offsets of this group.
    #[must_use]
    pub fn new(group: &str, shared: &mut Shared) -> Self {
        Self { admin: admin(shared), group: group.into(), call: None, done: false }
    }

    fn on_response(&self, begun: Moment, response: &OffsetFetchResponse, shared: &mut Shared) {
        let mut fetched = std::collections::BTreeMap::new();
        for topic in response.groups.iter().flat_map(|group| &group.topics) {
            let Some(name) = shared.topic_names.get(&TopicId(topic.topic_id)) else { continue };
            for partition in &topic.partitions {
                let offset = Offset(partition.committed_offset);
                fetched.insert(TopicPartition::new(name.clone(), partition.partition_index), offset);
            }
        }
        let partitions: Vec<TopicPartition> = shared.ends.keys().cloned().collect();
        for partition in partitions {
            let offset = fetched.get(&partition).copied().filter(|&offset| offset >= Offset::ZERO);
            shared.history.fetched(begun, &self.group, &partition, offset);
        }
    }
}

impl Actor for OffsetReader {
    fn step(&mut self, now: Now, input: Input, shared: &mut Shared, effects: &mut Effects) {
        if self.call.is_none() && !self.done {
            let request = fetch_request(self.admin.metadata(), &self.group, None);
            let target = Target::Coordinator(self.group.clone());
            let begun = shared.history.moment();
            self.call = Some((self.admin.call(now, target, request, first_error), begun));
        }
        self.admin.handle(now, input, effects);
        let Some((call, begun)) = self.call else { return };
        let Some(result) = self.admin.take::<OffsetFetchRequest>(call) else { return };
        (self.call, self.done) = (None, true);
        match result {
            Ok(response) if first_error(&response).is_none() => self.on_response(begun, &response, shared),
            Ok(response) => {
                let error = first_error(&response);
                shared.violations.push(format!("the offsets of group {} cannot be had: {error}", self.group));
            }
            Err(failure) => {
                shared
                    .violations
                    .push(format!("the offsets of group {} cannot be had: {failure}", self.group));
            }
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.admin.next_timeout()
    }

    fn waits_for(&self, _shared: &Shared) -> Option<String> {
        (!self.done).then(|| format!("nobody told the offsets of group {}", self.group))
    }
}

fn first_error(response: &OffsetFetchResponse) -> ErrorCode {
    let groups = response.groups.iter();
    let codes = groups.flat_map(|group| {
        let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
        std::iter::once(group.error_code).chain(partitions.map(|partition| partition.error_code))
    });
    let errors = std::iter::once(response.error_code).chain(codes).filter_map(ErrorCode::from_code);
    errors.into_iter().find(|error| !error.is_none()).unwrap_or(ErrorCode::None)
}
