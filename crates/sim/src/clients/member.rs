//! A member of a consumer group, which commits what it has read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dohle_checker::{Commit, Moment, ReaderId};
use dohle_client::group::{GroupConfig, GroupProtocol};
use dohle_client::{Consumer, ConsumerConfig, ConsumerEvent, Effects, Input, Machine, StartAt};
use dohle_records::Decompressor;
use dohle_types::time::Instant;
use dohle_types::{Now, Offset, Str, TopicPartition};

use super::reader::{cluster, each};
use super::{Actor, Shared, bootstrap};
use crate::marks::Mark;

/// A commit that was not answered yet.
struct UnderWay {
    attempts: BTreeMap<TopicPartition, (Offset, Commit)>,
    /// Until when its answer may come: after that its connection is gone.
    until: Instant,
}

/// The consumer and what it has committed.
pub struct Member {
    group: Str,
    protocol: GroupProtocol,
    consumer: Consumer,
    topics: Option<BTreeSet<Str>>,
    reader: ReaderId,
    /// The partitions it has, with the moment from which on their offsets were fetched until something is read.
    assigned: BTreeMap<TopicPartition, Option<Moment>>,
    assignments: usize,
    commit_at: Instant,
    commit_every: Duration,
    under_way: Option<UnderWay>,
    decompressor: Decompressor,
}

impl Member {
    /// A member that will subscribe to these topics.
    #[must_use]
    pub fn new(group: &str, protocol: GroupProtocol, topics: BTreeSet<Str>, shared: &mut Shared) -> Self {
        let reader = ReaderId(shared.next_id());
        let session_timeout = Duration::from_millis(2000 + shared.rng.below(4000));
        let config = ConsumerConfig {
            cluster: cluster(format!("{group}-{}", reader.0)),
            reset: Some(StartAt::Earliest),
            auto_commit: None,
            group: Some(GroupConfig {
                protocol,
                session_timeout,
                rebalance_timeout: Duration::from_secs(5),
                heartbeat_interval: session_timeout / 4,
                ..GroupConfig::new(group)
            }),
            ..ConsumerConfig::default()
        };
        Self {
            group: group.into(),
            protocol,
            consumer: Consumer::new(config, bootstrap(), shared.rng.fork()),
            topics: Some(topics),
            reader,
            assigned: BTreeMap::new(),
            assignments: 0,
            commit_at: Duration::ZERO,
            commit_every: Duration::from_millis(50 + shared.rng.below(2000)),
            under_way: None,
            decompressor: Decompressor::default(),
        }
    }

    /// The group it is a member of.
    #[must_use]
    pub const fn group(&self) -> &Str {
        &self.group
    }

    /// What it speaks with its group.
    #[must_use]
    pub const fn protocol(&self) -> GroupProtocol {
        self.protocol
    }

    /// Whether the group gave it this partition.
    #[must_use]
    pub fn has(&self, partition: &TopicPartition) -> bool {
        self.assigned.contains_key(partition)
    }

    fn on_event(&mut self, event: ConsumerEvent, shared: &mut Shared) {
        match event {
            ConsumerEvent::Assigned(partitions) => {
                self.reader = ReaderId(shared.next_id());
                let now = shared.history.moment();
                self.assignments += 1;
                shared.marks.sometimes(Mark::Rebalanced, self.assignments > 1 && !partitions.is_empty());
                let goes_on = !self.assigned.is_empty() && self.assigned.len() < partitions.len();
                shared.marks.sometimes(Mark::ReadOnInARebalance, goes_on);
                for partition in partitions {
                    self.assigned.entry(partition).or_insert(Some(now));
                }
            }
            ConsumerEvent::Revoked(revoked) => {
                revoked.iter().for_each(|partition| {
                    self.assigned.remove(partition);
                });
            }
            ConsumerEvent::Records(fetched) => {
                let partition = fetched.partition();
                let mut begun = self.assigned.get_mut(partition).and_then(Option::take);
                let (group, reader) = (&self.group, self.reader);
                each(&fetched, &mut self.decompressor, shared, |shared, offset, value| {
                    if let Some(begun) = begun.take() {
                        shared.marks.sometimes(Mark::Resumed, offset > Offset::ZERO);
                        let begins_there = shared.beginnings.get(&partition.to_string()) == Some(&offset);
                        let resumed = if begins_there { Offset::ZERO } else { offset };
                        shared.history.resumed(begun, group, partition, resumed);
                    }
                    shared.history.read(reader, partition, offset, value);
                });
            }
            ConsumerEvent::Committed(Ok(offsets)) => {
                let attempts = self.under_way.take().map(|commit| commit.attempts).unwrap_or_default();
                for (partition, offset) in offsets {
                    match attempts.get(&partition) {
                        Some(&(attempted, commit)) if attempted == offset => {
                            shared.history.committed(commit);
                            shared.committed.insert((self.group.clone(), partition), offset);
                        }
                        _ => {
                            let group = &self.group;
                            let told = format!("group {group}: {partition} {offset} was committed by nobody");
                            shared.violations.push(told);
                        }
                    }
                }
            }
            ConsumerEvent::Committed(Err(_)) => self.under_way = None,
            ConsumerEvent::PartitionFailed { partition, error } => {
                shared.violations.push(format!("group {}: {partition}: {error}", self.group));
            }
            ConsumerEvent::GroupFailed(error) => {
                shared.violations.push(format!("group {}: {error}", self.group));
            }
            // It begins at the end: the commit took effect though perhaps nobody was told.
            ConsumerEvent::End { partition, offset } if offset > Offset::ZERO => {
                if let Some(begun) = self.assigned.get_mut(&partition).and_then(Option::take) {
                    shared.history.resumed(begun, &self.group, &partition, offset);
                    shared.committed.insert((self.group.clone(), partition), offset);
                }
            }
            ConsumerEvent::End { .. } => {}
        }
    }

    fn commit(&mut self, now: Now, shared: &mut Shared, effects: &mut Effects) {
        if now.instant < self.commit_at {
            return;
        }
        self.commit_at = now.after(self.commit_every);
        if self.under_way.as_ref().is_some_and(|commit| now.instant < commit.until) {
            return;
        }
        let positions = self.assigned.keys().filter_map(|it| Some((it.clone(), self.consumer.position(it)?)));
        let positions: BTreeMap<TopicPartition, Offset> = positions.collect();
        let before = effects.len();
        let attempts = positions.into_iter().map(|(partition, offset)| {
            let commit = shared.history.commit(&self.group, &partition, offset);
            (partition, (offset, commit))
        });
        let attempts = attempts.collect();
        self.consumer.commit(now, effects);
        if effects.len() > before {
            self.under_way = Some(UnderWay { attempts, until: now.after(Duration::from_secs(15)) });
        }
    }
}

impl Actor for Member {
    fn step(&mut self, now: Now, input: Input, shared: &mut Shared, effects: &mut Effects) {
        if let Some(topics) = self.topics.take() {
            self.consumer.subscribe(now, topics);
        }
        self.consumer.handle(now, input, effects);
        let mut took = false;
        while let Some(event) = self.consumer.next_event() {
            took = true;
            self.on_event(event, shared);
        }
        self.commit(now, shared, effects);
        if took {
            self.consumer.handle(now, Input::Wake, effects);
            // What that gave is taken the next time.
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.consumer.next_timeout().into_iter().chain([self.commit_at]).min()
    }

    fn waits_for(&self, shared: &Shared) -> Option<String> {
        shared.ends.iter().filter(|(_, end)| **end > Offset::ZERO).find_map(|(partition, &end)| {
            let key = (self.group.clone(), partition.clone());
            let committed = shared.committed.get(&key).copied().unwrap_or_default();
            (committed < end).then(|| {
                format!("group {}: {partition} is committed up to {committed} and ends at {end}", self.group)
            })
        })
    }
}
