//! Membership by the consumer protocol (KIP-848): one request, ConsumerGroupHeartbeat, says everything.
//!
//! The coordinator assigns. A member is told what it is to own, gives up what it shall not own any more, says so with
//! its next heartbeat, which it sends at once, and gets what others have given up. It reads on meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use dohle_protocol::messages::ConsumerGroupHeartbeatRequest;
use dohle_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use dohle_protocol::messages::consumer_group_heartbeat_response::Assignment;
use dohle_types::{Now, PartitionIndex, Str, TopicId, TopicPartition};

use super::{GroupEvent, GroupToken, Membership, Phase, millis};
use crate::cluster::Reply;
use crate::metadata::check;
use crate::{Cluster, Effects, Failure, Metadata};

/// The member epoch of one that joins.
pub(super) const JOINING: i32 = 0;
/// Of one that leaves.
const LEAVING: i32 = -1;

/// Partitions by topic.
type Partitions = BTreeMap<TopicId, BTreeSet<i32>>;

/// What a member owns by the consumer protocol.
#[derive(Debug, Default)]
pub(super) struct Owned {
    partitions: Partitions,
    /// What it is to own, until all its topics are known.
    target: Option<Partitions>,
    /// Whether the coordinator does not know yet what it owns.
    untold: bool,
    /// Whether the coordinator is to be told everything, for it may not have heard the last heartbeat.
    unheard: bool,
}

impl Membership {
    /// Says that the member lives, and what the coordinator does not know of it yet.
    pub(super) fn beat<T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        effects: &mut Effects,
    ) {
        if self.member_id.is_empty() {
            self.member_id = Str::from(TopicId(cluster.rng().uuid()).to_string());
        }
        let joins = !self.is_stable();
        let tells_all = joins || self.owned.unheard;
        let mut request = ConsumerGroupHeartbeatRequest {
            group_id: self.config.group_id.clone(),
            member_id: self.member_id.clone(),
            member_epoch: if joins { JOINING } else { self.generation },
            instance_id: self.config.instance_id.clone(),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        if tells_all {
            request.rebalance_timeout_ms = millis(self.config.rebalance_timeout);
            request.subscribed_topic_names = Some(self.topics.iter().cloned().collect());
        }
        if tells_all || self.owned.untold {
            request.topic_partitions = Some(reported(&self.owned.partitions));
        }
        if self.send(now, cluster, &request, GroupToken::Beat { joins }, effects) {
            (self.owned.untold, self.owned.unheard) = (false, false);
            let heartbeat_at = now.after(self.config.heartbeat_interval);
            self.phase = if joins {
                Phase::Joining
            } else {
                Phase::Stable { heartbeat_at, heartbeat_in_flight: true }
            };
        }
    }

    /// The heartbeat of a member that leaves; whether it was sent.
    pub(super) fn beat_last<T: From<GroupToken>>(
        &mut self,
        now: Now,
        cluster: &mut Cluster<T>,
        effects: &mut Effects,
    ) -> bool {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.config.group_id.clone(),
            member_id: self.member_id.clone(),
            member_epoch: LEAVING,
            ..ConsumerGroupHeartbeatRequest::default()
        };
        self.send(now, cluster, &request, GroupToken::Leave, effects)
    }

    /// Which heartbeat was answered counts: when a commit has told the member that it is none any more, it joins again
    /// before it is told the same of the heartbeat that it has sent before.
    pub(super) fn on_beat<T>(&mut self, now: Now, cluster: &mut Cluster<T>, joins: bool, reply: &Reply<T>) {
        match &mut self.phase {
            Phase::Joining if joins => {}
            Phase::Stable { heartbeat_in_flight, .. } => *heartbeat_in_flight = false,
            Phase::Joining
            | Phase::Unjoined { .. }
            | Phase::Assigning { .. }
            | Phase::Syncing
            | Phase::Leaving { .. }
            | Phase::Failed => return,
        }
        let response = match reply.decode::<ConsumerGroupHeartbeatRequest>() {
            Ok(response) => response,
            Err(failure) => return self.on_beat_lost(now, failure),
        };
        if let Err(error) = check(response.error_code) {
            self.owned.unheard = true;
            return self.on_error(now, cluster, error);
        }
        self.failures = 0;
        self.generation = response.member_epoch;
        if let Ok(interval) = u64::try_from(response.heartbeat_interval_ms) {
            self.config.heartbeat_interval = std::time::Duration::from_millis(interval);
        }
        if let Some(assignment) = response.assignment {
            self.owned.target = Some(partitions_of(assignment));
        }
        let heartbeat_at = now.after(self.config.heartbeat_interval);
        self.phase = Phase::Stable { heartbeat_at, heartbeat_in_flight: false };
        self.take_up(now, cluster);
    }

    fn on_beat_lost(&mut self, now: Now, failure: Failure) {
        self.owned.unheard = true;
        if failure.is_retriable()
            && let Phase::Stable { heartbeat_at, .. } = &mut self.phase
        {
            *heartbeat_at = self.retry_at.max(now.instant);
        } else {
            self.on_failure(now, failure);
        }
    }

    /// Owns what it is told to own, once it knows the topics, and says so at once.
    pub(super) fn take_up<T>(&mut self, now: Now, cluster: &mut Cluster<T>) {
        let (Some(target), Phase::Stable { heartbeat_at, .. }) = (&self.owned.target, &mut self.phase) else {
            return;
        };
        if *target == self.owned.partitions {
            self.owned.target = None;
            return;
        }
        let Some(named) = named(cluster.metadata(), target) else { return cluster.refresh_metadata(now) };
        *heartbeat_at = now.instant;
        self.owned.partitions = self.owned.target.take().unwrap_or_default();
        self.owned.untold = true;
        self.events.push(GroupEvent::Reconciled(named));
    }
}

fn partitions_of(assignment: Assignment) -> Partitions {
    let topics = assignment.topic_partitions.into_iter();
    topics.map(|topic| (TopicId(topic.topic_id), topic.partitions.into_iter().collect())).collect()
}

fn reported(partitions: &Partitions) -> Vec<TopicPartitions> {
    let topics = partitions.iter().map(|(topic_id, partitions)| TopicPartitions {
        topic_id: topic_id.0,
        partitions: partitions.iter().copied().collect(),
    });
    topics.collect()
}

/// The partitions by the names of their topics; none where one is not known.
fn named(metadata: &Metadata, partitions: &Partitions) -> Option<Vec<TopicPartition>> {
    let mut named = Vec::new();
    for (&topic_id, indexes) in partitions {
        let (name, _) = metadata.topic_by_id(topic_id)?;
        named.extend(indexes.iter().map(|&index| TopicPartition::new(name.clone(), PartitionIndex(index))));
    }
    Some(named)
}
