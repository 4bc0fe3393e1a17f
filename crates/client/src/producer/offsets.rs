//! Offsets of a consumer group that are committed with a transaction (KIP-98, KIP-447): what was consumed counts as
//! consumed if, and only if, what was made of it is committed.
//!
//! Since transactions v2 the group's coordinator has the transaction's coordinator know of them (KIP-890).

use std::collections::{BTreeMap, VecDeque};

use dohle_protocol::messages::TxnOffsetCommitRequest;
use dohle_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Now, Offset, Str, TopicPartition};

use super::coordinator::Coordinator;
use super::sender::Token;
use super::transaction::TransactionError;
use super::{DeliveryError, Identification, Identity, Producer};
use crate::cluster::Reply;
use crate::group::coordinator::Kind;
use crate::metadata::error_of;
use crate::{ConsumerGroupMetadata, Effects};

/// The offsets that the transaction is to commit and that no coordinator has acknowledged yet.
#[derive(Debug)]
pub(super) struct OffsetCommits {
    /// The first one is, or will next be, under way. Of a member there is at most one behind it.
    waiting: VecDeque<OffsetCommit>,
    in_flight: bool,
    /// Nothing is sent before this.
    at: Instant,
    failures: u32,
    /// Whose coordinator is known.
    group: Str,
    coordinator: Coordinator,
}

#[derive(Debug)]
struct OffsetCommit {
    group: ConsumerGroupMetadata,
    offsets: BTreeMap<TopicPartition, Offset>,
}

impl OffsetCommits {
    pub(super) const fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            in_flight: false,
            at: Instant::ZERO,
            failures: 0,
            group: Str::const_new(""),
            coordinator: Coordinator::wanted(),
        }
    }

    /// Whether all offsets are acknowledged or given up.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.in_flight
    }

    /// When something is to be done that no input brings about.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        if self.waiting.is_empty() || self.in_flight {
            return None;
        }
        Some(self.coordinator.next_timeout().map_or(self.at, |at| at.max(self.at)))
    }

    /// Gives up what is not under way; of what is, the answer does not matter any more.
    pub(super) fn drop_unsent(&mut self) {
        self.waiting.clear();
    }

    fn add(&mut self, group: &ConsumerGroupMetadata, offsets: BTreeMap<TopicPartition, Offset>) {
        let unsent = self.waiting.iter_mut().skip(usize::from(self.in_flight));
        match unsent.into_iter().find(|commit| commit.group == *group) {
            Some(commit) => commit.offsets.extend(offsets),
            None => self.waiting.push_back(OffsetCommit { group: group.clone(), offsets }),
        }
    }
}

impl Producer {
    /// Has `offsets` of the group be committed with the transaction that is open: of each partition that of the next
    /// record to be consumed. [`Self::end_transaction`] waits until they are on their way. Who was not a member any
    /// more when it consumed has its transaction aborted, so `group` is to be what
    /// [`crate::Consumer::group_metadata`] was when the records were taken.
    ///
    /// # Errors
    /// No transaction is open, or it can only be aborted.
    pub fn send_offsets_to_transaction(
        &mut self,
        group: &ConsumerGroupMetadata,
        offsets: BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), TransactionError> {
        let Some(transactions) = &mut self.transactions else { return Err(TransactionError::OutOfTurn) };
        transactions.check_open()?;
        if !offsets.is_empty() {
            transactions.on_taken();
            transactions.offsets.add(group, offsets);
        }
        Ok(())
    }

    /// Sends the offsets whose turn it is.
    pub(super) fn commit_offsets(&mut self, now: Now, effects: &mut Effects) {
        let Some(transactions) = &mut self.transactions else { return };
        let Identification::Known(Some(Identity { id, epoch })) = self.identification else { return };
        let transactional_id = transactions.id().clone();
        let commits = &mut transactions.offsets;
        let Some(OffsetCommit { group, offsets }) = commits.waiting.front() else { return };
        if commits.in_flight || commits.at > now.instant {
            return;
        }
        if commits.group != group.group_id {
            commits.group = group.group_id.clone();
            commits.coordinator = Coordinator::wanted();
        }
        let route = commits.coordinator.route(now, &mut self.cluster, Kind::Group, &group.group_id, effects);
        let Some(route) = route else { return };
        let request = TxnOffsetCommitRequest {
            transactional_id,
            group_id: group.group_id.clone(),
            producer_id: id.0,
            producer_epoch: epoch.0,
            generation_id: group.member.generation,
            member_id: group.member.member_id.clone(),
            group_instance_id: group.member.instance_id.clone(),
            topics: topics(offsets),
        };
        match self.cluster.send(now, route, &request, Token::CommitOffsets, effects) {
            Ok(()) => commits.in_flight = true,
            Err(failure) => self.give_up_offsets(failure.into()),
        }
    }

    pub(super) fn on_group_coordinator_found(&mut self, now: Now, reply: &Reply<Token>) {
        let Some(transactions) = &mut self.transactions else { return };
        if let Err(error) = transactions.offsets.coordinator.on_found(now, &mut self.cluster, reply) {
            transactions.offsets.coordinator = Coordinator::wanted();
            self.give_up_offsets(error);
        }
    }

    pub(super) fn on_offsets_committed(&mut self, now: Now, reply: &Reply<Token>) {
        let Some(commits) = self.transactions.as_mut().map(|it| &mut it.offsets) else { return };
        commits.in_flight = false;
        let error = match reply.decode::<TxnOffsetCommitRequest>() {
            Ok(response) => {
                let partitions = response.topics.into_iter().flat_map(|topic| topic.partitions);
                let errors = partitions.map(|partition| error_of(partition.error_code));
                Some(errors.fold(ErrorCode::None, |first, next| if first.is_none() { next } else { first }))
            }
            Err(failure) if failure.is_retriable() => None,
            Err(failure) => return self.give_up_offsets(failure.into()),
        };
        match error {
            Some(ErrorCode::None) => {
                commits.waiting.pop_front();
                commits.failures = 0;
            }
            Some(error) if !error.is_retriable() => {
                self.give_up_offsets(DeliveryError::Refused { error, message: None });
            }
            error => {
                commits.coordinator.on_error(now, error);
                commits.failures += 1;
                let backoff = self.config.cluster.retry_backoff;
                commits.at = now.after(backoff.after(commits.failures, self.cluster.rng()));
            }
        }
    }

    /// The transaction can only be aborted.
    fn give_up_offsets(&mut self, reason: DeliveryError) {
        let Some(transactions) = &mut self.transactions else { return };
        transactions.offsets.drop_unsent();
        transactions.on_given_up(&reason);
    }
}

fn topics(offsets: &BTreeMap<TopicPartition, Offset>) -> Vec<TxnOffsetCommitRequestTopic> {
    let mut topics: Vec<TxnOffsetCommitRequestTopic> = Vec::new();
    for (TopicPartition { topic, partition }, offset) in offsets {
        let item = TxnOffsetCommitRequestPartition {
            partition_index: partition.0,
            committed_offset: offset.0,
            committed_metadata: Some(Str::default()),
            ..TxnOffsetCommitRequestPartition::default()
        };
        match topics.last_mut().filter(|last| last.name == *topic) {
            Some(last) => last.partitions.push(item),
            None => {
                topics.push(TxnOffsetCommitRequestTopic { name: topic.clone(), partitions: vec![item] });
            }
        }
    }
    topics
}
