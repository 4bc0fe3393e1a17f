//! What a ledger asks about the cluster: topics, and configs that may change at any time.

use dohle_types::{Now, Rng, Str, TopicId};

use crate::Effects;

/// What a ledger asks about the cluster. The host answers from its metadata image.
pub trait Cluster {
    /// Grows whenever any of the answers may have changed.
    fn version(&self) -> i64;

    /// The topic of this name.
    fn topic(&self, name: &str) -> Option<Topic>;

    /// The topic of this id.
    fn topic_by_id(&self, id: TopicId) -> Option<Topic>;

    /// The racks of the brokers that have a replica of a partition, sorted.
    fn racks(&self, topic: &Topic, partition: i32) -> Vec<Str>;

    /// The names of all topics, sorted.
    fn topic_names(&self) -> Box<dyn Iterator<Item = &Str> + '_>;

    /// What is set for the members of a consumer group.
    fn consumer_group_settings(&self, group_id: &str) -> ConsumerGroupSettings;
}

/// A topic, as far as groups are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: Str,
    /// How many partitions it has.
    pub partitions: i32,
}

/// The configs that can be set for one consumer group, with the broker's where they are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerGroupSettings {
    /// `consumer.session.timeout.ms`
    pub session_timeout_ms: i32,
    /// `consumer.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `consumer.assignment.interval.ms`
    pub assignment_interval_ms: i32,
}

/// What a call may use beside the ledger's own state, and where it puts its effects.
pub struct Turn<'a> {
    /// The time.
    pub now: Now,
    /// Where new ids come from.
    pub rng: &'a mut Rng,
    /// The cluster as it is now.
    pub cluster: &'a dyn Cluster,
    /// What is to follow.
    pub effects: &'a mut Effects,
}

impl std::fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").field("now", &self.now).finish_non_exhaustive()
    }
}
