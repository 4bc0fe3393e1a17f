//! The words every crate shares: ids, offsets, epochs, error codes, time, seeded randomness.
//!
//! What it is not: it knows no bytes (see `dohle-protocol`, `dohle-records`) and does no I/O.
//!
//! Start reading at [`ids`]; the wire's error codes are one table in [`error`].

pub mod error;
pub mod ids;
pub mod rng;
pub mod time;

pub use error::ErrorCode;
pub use ids::{
    BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, TopicId,
    TopicPartition,
};
pub use rng::Rng;
pub use time::{Now, Timestamp};

/// An immutable-by-habit string that stores up to 24 bytes inline, so that the names in a request
/// (topics, groups, client ids) are decoded without an allocation and without pinning the receive buffer.
pub type Str = compact_str::CompactString;

/// A hash map with a fixed seed: the same inputs give the same layout in every run.
///
/// Its iteration order means nothing; clippy refuses to iterate it. Never key it by what a stranger
/// can choose freely and in bulk (group ids, client ids): use a `BTreeMap` there.
#[expect(clippy::disallowed_types, reason = "this is the fixed-seed replacement the ban points to")]
pub type FastMap<K, V> = std::collections::HashMap<K, V, rustc_hash::FxBuildHasher>;

/// A hash set with a fixed seed; see [`FastMap`].
#[expect(clippy::disallowed_types, reason = "this is the fixed-seed replacement the ban points to")]
pub type FastSet<K> = std::collections::HashSet<K, rustc_hash::FxBuildHasher>;
