//! What can be set about groups.

use std::time::Duration;

use crate::consumer::{Assignor, MigrationPolicy};

/// No group has more members than this, whatever `group.max.size` says. Members that were given an id and
/// have not joined yet count.
pub const GROUP_SIZE_CAP: usize = 10_000;

/// The broker configs that concern groups, and limits that Kafka does not have.
#[derive(Clone, Debug)]
pub struct GroupsConfig {
    /// `group.min.session.timeout.ms`
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`
    pub session_timeout_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay: Duration,
    /// `group.max.size`, at most [`GROUP_SIZE_CAP`].
    pub group_size_max: usize,
    /// `group.consumer.max.size`, at most [`GROUP_SIZE_CAP`].
    pub consumer_group_size_max: usize,
    /// `group.consumer.assignors`, the default first.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.migration.policy`
    pub migration: MigrationPolicy,
    /// `offset.metadata.max.bytes`: in fact UTF-16 code units, as Kafka counts them.
    pub offset_metadata_len_max: usize,
    /// `offsets.retention.minutes`
    pub offsets_retention: Duration,
    /// Groups in this partition of `__consumer_offsets`.
    pub groups_max: usize,
    /// Offsets of one group.
    pub offsets_per_group_max: usize,
    /// Bytes of all the subscriptions that one member offers.
    pub subscription_bytes_max: usize,
    /// Bytes that the members of all groups of this partition may take up in memory, about.
    pub members_bytes_max: usize,
    /// Bytes of the records of one batch: the `max.message.bytes` of `__consumer_offsets` without what a
    /// batch adds.
    pub batch_bytes_max: usize,
}

impl Default for GroupsConfig {
    fn default() -> Self {
        Self {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay: Duration::from_secs(3),
            group_size_max: GROUP_SIZE_CAP,
            consumer_group_size_max: GROUP_SIZE_CAP,
            assignors: vec![Assignor::Uniform, Assignor::Range],
            migration: MigrationPolicy::Bidirectional,
            offset_metadata_len_max: 4096,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            groups_max: 100_000,
            offsets_per_group_max: 200_000,
            subscription_bytes_max: 512 * 1024,
            members_bytes_max: 64 * 1024 * 1024,
            batch_bytes_max: 1_000_000,
        }
    }
}

impl GroupsConfig {
    /// Members that a group may have.
    pub(crate) fn group_size_max(&self) -> usize {
        self.group_size_max.min(GROUP_SIZE_CAP)
    }

    /// Members that a group of the consumer protocol may have.
    pub(crate) fn consumer_group_size_max(&self) -> usize {
        self.consumer_group_size_max.min(GROUP_SIZE_CAP)
    }
}
