//! A fetch session with one broker (KIP-227): after the first request only what changed is said.

use std::collections::BTreeMap;

use dohle_protocol::messages::FetchRequest;
use dohle_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use dohle_types::{ErrorCode, LeaderEpoch, Offset, TopicId, TopicPartition};

/// What is wanted of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub(super) topic_id: TopicId,
    pub(super) offset: Offset,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) max_bytes: i32,
}

/// The session as this side knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct FetchSession {
    /// 0 while there is none.
    id: i32,
    /// 0 for a request that says everything and begins a session.
    epoch: i32,
    /// What the broker was told.
    told: BTreeMap<TopicPartition, Wanted>,
}

impl FetchSession {
    /// Puts what is wanted now into a request, as briefly as the session allows.
    pub(super) fn fill(&mut self, request: &mut FetchRequest, wanted: BTreeMap<TopicPartition, Wanted>) {
        request.session_id = self.id;
        request.session_epoch = self.epoch;
        let is_full = self.epoch == 0;
        for (partition, wanted) in &wanted {
            if is_full || self.told.get(partition) != Some(wanted) {
                push(&mut request.topics, partition, *wanted);
            }
        }
        if !is_full {
            for (partition, told) in
                self.told.iter().filter(|(partition, _)| !wanted.contains_key(*partition))
            {
                forget(&mut request.forgotten_topics_data, partition, told.topic_id);
            }
            // A topic that was created anew under its name has another id: the old one is to be forgotten.
            for (partition, told) in &self.told {
                if wanted.get(partition).is_some_and(|now| now.topic_id != told.topic_id) {
                    forget(&mut request.forgotten_topics_data, partition, told.topic_id);
                }
            }
        }
        self.told = wanted;
    }

    /// What was asked of a partition in the request that is being answered.
    pub(super) fn asked(&self, partition: &TopicPartition) -> Option<&Wanted> {
        self.told.get(partition)
    }

    /// The partition that an answer speaks of by its topic's id.
    pub(super) fn topic_of(&self, topic_id: TopicId) -> Option<&TopicPartition> {
        self.told.iter().find(|(_, told)| told.topic_id == topic_id).map(|(partition, _)| partition)
    }

    /// Takes in what an answer says of the session.
    pub(super) fn on_answer(&mut self, error: ErrorCode, session_id: i32) {
        if error == ErrorCode::FetchSessionIdNotFound || (error.is_none() && session_id == 0) {
            self.id = 0;
            self.epoch = 0;
        } else if error.is_none() {
            self.id = session_id;
            // The first epoch after the greatest is 1: 0 would begin a session.
            self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        } else {
            self.on_failure();
        }
    }

    /// After a failure nobody knows how far the other side is: the session, if it is still there, is replaced.
    pub(super) const fn on_failure(&mut self) {
        self.epoch = 0;
    }
}

fn push(topics: &mut Vec<FetchTopic>, partition: &TopicPartition, wanted: Wanted) {
    let item = FetchPartition {
        partition: partition.partition.0,
        current_leader_epoch: wanted.leader_epoch.0,
        fetch_offset: wanted.offset.0,
        partition_max_bytes: wanted.max_bytes,
        ..FetchPartition::default()
    };
    match topics.last_mut().filter(|last| last.topic == partition.topic) {
        Some(last) => last.partitions.push(item),
        None => topics.push(FetchTopic {
            topic: partition.topic.clone(),
            topic_id: wanted.topic_id.0,
            partitions: vec![item],
        }),
    }
}

fn forget(topics: &mut Vec<ForgottenTopic>, partition: &TopicPartition, topic_id: TopicId) {
    match topics.last_mut().filter(|last| last.topic == partition.topic && last.topic_id == topic_id.0) {
        Some(last) => last.partitions.push(partition.partition.0),
        None => topics.push(ForgottenTopic {
            topic: partition.topic.clone(),
            topic_id: topic_id.0,
            partitions: vec![partition.partition.0],
        }),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// The request for `wanted`, given as `topic-partition@offset`.
    fn check(session: &mut FetchSession, wanted: &str, expected: Expect) {
        let wanted = wanted.split_whitespace().map(|item| {
            let (name, offset) = item.split_once('@').unwrap();
            let (topic, partition) = name.split_once('-').unwrap();
            let wanted = Wanted {
                topic_id: TopicId::ZERO,
                offset: Offset(offset.parse().unwrap()),
                leader_epoch: LeaderEpoch::NONE,
                max_bytes: 1,
            };
            (TopicPartition::new(topic, partition.parse::<i32>().unwrap()), wanted)
        });
        let mut request = FetchRequest::default();
        session.fill(&mut request, wanted.collect());
        let topics = request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|it| format!(" {}-{}@{}", topic.topic, it.partition, it.fetch_offset))
        });
        let forgotten = request
            .forgotten_topics_data
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|it| format!(" -{}-{it}", topic.topic)));
        let said: String = topics.chain(forgotten).collect();
        expected.assert_eq(&format!("{}/{}{said}", request.session_id, request.session_epoch));
    }

    #[test]
    fn a_session_says_only_what_changed() {
        let mut session = FetchSession::default();
        check(&mut session, "a-0@0 a-1@0 b-0@7", expect!["0/0 a-0@0 a-1@0 b-0@7"]);
        session.on_answer(ErrorCode::None, 42);
        check(&mut session, "a-0@5 a-1@0 b-0@7", expect!["42/1 a-0@5"]);
        session.on_answer(ErrorCode::None, 42);
        check(&mut session, "a-1@0", expect!["42/2 -a-0 -b-0"]);
        session.on_answer(ErrorCode::None, 42);
        check(&mut session, "a-1@0", expect!["42/3"]);
    }

    #[test]
    fn a_lost_session_is_begun_anew() {
        let mut session = FetchSession::default();
        check(&mut session, "a-0@0", expect!["0/0 a-0@0"]);
        session.on_answer(ErrorCode::None, 42);
        check(&mut session, "a-0@3", expect!["42/1 a-0@3"]);
        session.on_failure();
        check(&mut session, "a-0@3", expect!["42/0 a-0@3"]);
        session.on_answer(ErrorCode::FetchSessionIdNotFound, 0);
        check(&mut session, "a-0@3", expect!["0/0 a-0@3"]);
    }

    #[test]
    fn a_broker_without_sessions_is_told_everything() {
        let mut session = FetchSession::default();
        for _ in 0..2 {
            check(&mut session, "a-0@0", expect!["0/0 a-0@0"]);
            session.on_answer(ErrorCode::None, 0);
        }
    }
}
