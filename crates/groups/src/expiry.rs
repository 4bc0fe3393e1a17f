//! Offsets that nobody needs any more: of topics that were deleted, or not used for `offsets.retention.minutes`.
//!
//! The clock of an offset starts when it is committed and, in a group that has had members, stands still while
//! it has any: it starts when the last one leaves (KIP-211). A consumer group's offsets of topics that it no
//! longer subscribes to expire even while it has members. A group without members and offsets is deleted.
//!
//! Where an open transaction wants to commit an offset, the partition's does not expire, and its group is not deleted. The
//! offsets of a deleted topic go, whoever wants to commit them.

use std::collections::BTreeSet;

use dohle_types::{Now, Str, Timestamp, TopicId};

use crate::admin::group_tombstones;
use crate::group::{Group, Phase};
use crate::offsets_fetch::is_same_topic;
use crate::pending::Place;
use crate::state::{CommittedOffset, DurableGroup};
use crate::{Effects, GroupLedger, Progress, Record, records};

/// When the clock of a group's offsets starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RetentionStart {
    Commit,
    Since(Timestamp),
    Never,
}

impl GroupLedger {
    /// Deletes what has expired, as far as one batch goes. To be called every
    /// `offsets.retention.check.interval.ms`.
    pub fn expire_offsets(&self, now: Now, effects: &mut Effects) -> Progress {
        let mut batch = Batch::new(self.config.batch_bytes_max, effects);
        let pending_groups = self.state.pending.groups();
        for (group_id, durable) in self.state.groups() {
            let group = self.groups.get(group_id);
            let is_pending = pending_groups.contains(group_id);
            let start = retention_start(durable, group);
            let is_needed = |topic: &Str, partition: i32| {
                group.is_some_and(|group| group.is_subscribed_to(topic))
                    || durable.consumer.as_ref().is_some_and(|group| group.is_subscribed_to(topic))
                    || is_pending && self.state.pending.contains(group_id, topic, partition)
            };
            let mut expired = 0;
            for (topic, partition, committed) in offsets(durable) {
                if self.is_expired(start, committed, now) && !is_needed(topic, partition) {
                    expired += 1;
                    if batch.push(records::offset_commit_tombstone(group_id, topic, partition)).is_err() {
                        return Progress::More;
                    }
                }
            }
            let has_members = durable.consumer.as_ref().is_some_and(|group| !group.members().is_empty());
            if group.is_some() || has_members || is_pending || expired < durable.offset_count {
                continue;
            }
            let mut tombstones = Vec::new();
            group_tombstones(group_id, durable, &mut tombstones);
            for tombstone in tombstones {
                if batch.push(tombstone).is_err() {
                    return Progress::More;
                }
            }
        }
        Progress::Done
    }

    /// Deletes the offsets of topics that were deleted, as far as one batch goes. Offsets that are known to
    /// belong to another topic of the same name stay.
    pub fn on_topics_deleted(&self, topics: &[(Str, TopicId)], effects: &mut Effects) -> Progress {
        let mut batch = Batch::new(self.config.batch_bytes_max, effects);
        let is_of =
            |committed: &CommittedOffset, topic_id: TopicId| is_same_topic(committed.topic_id, topic_id);
        for (topic, topic_id) in topics {
            for (group_id, durable) in self.state.groups() {
                let partitions = durable.offsets.get(topic).into_iter().flatten();
                for (&partition, _) in partitions.filter(|(_, committed)| is_of(committed, *topic_id)) {
                    if batch.push(records::offset_commit_tombstone(group_id, topic, partition)).is_err() {
                        return Progress::More;
                    }
                }
            }
            let pending = self.state.pending.places().filter(|((group_id, of, partition), committed)| {
                let is_done = || self.state.group(group_id)?.offset(topic, *partition);
                of == topic
                    && is_of(committed, *topic_id)
                    && !is_done().is_some_and(|it| is_of(it, *topic_id))
            });
            let pending: BTreeSet<&Place> = pending.map(|(place, _)| place).collect();
            for (group_id, _, partition) in pending {
                if batch.push(records::offset_commit_tombstone(group_id, topic, *partition)).is_err() {
                    return Progress::More;
                }
            }
        }
        Progress::Done
    }

    fn is_expired(&self, start: RetentionStart, committed: &CommittedOffset, now: Now) -> bool {
        let start = match start {
            RetentionStart::Never => return false,
            RetentionStart::Commit => committed.committed_at,
            RetentionStart::Since(since) => since,
        };
        now.wall >= committed.expires_at.unwrap_or_else(|| start.plus(self.config.offsets_retention))
    }
}

fn offsets(durable: &DurableGroup) -> impl Iterator<Item = (&Str, i32, &CommittedOffset)> {
    durable.offsets.iter().flat_map(|(topic, partitions)| {
        partitions.iter().map(move |(&partition, committed)| (topic, partition, committed))
    })
}

fn retention_start(durable: &DurableGroup, group: Option<&Group>) -> RetentionStart {
    match group {
        // Members that were given an id are about to join.
        Some(group) if group.phase == Phase::Empty => RetentionStart::Never,
        Some(group) if group.phase == Phase::Stable && group.subscribed_topics.is_some() => {
            RetentionStart::Commit
        }
        Some(_) => RetentionStart::Never,
        None => match &durable.metadata {
            Some(metadata) if metadata.protocol_type.is_some() => {
                metadata.state_timestamp.map_or(RetentionStart::Commit, RetentionStart::Since)
            }
            _ => RetentionStart::Commit,
        },
    }
}

/// Fills a batch.
pub(crate) struct Batch<'a> {
    bytes_left: usize,
    effects: &'a mut Effects,
}

/// The batch has no room for another record.
pub(crate) struct Full;

impl<'a> Batch<'a> {
    pub(crate) fn new(bytes_max: usize, effects: &'a mut Effects) -> Self {
        Self { bytes_left: bytes_max, effects }
    }

    /// Takes at least one record, so that every batch makes progress.
    pub(crate) fn push(&mut self, record: Record) -> Result<(), Full> {
        match self.bytes_left.checked_sub(record.size()) {
            Some(left) => self.bytes_left = left,
            None if self.effects.records.is_empty() => self.bytes_left = 0,
            None => return Err(Full),
        }
        self.effects.records.push(record);
        Ok(())
    }
}
