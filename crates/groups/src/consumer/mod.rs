//! Groups of the consumer protocol (KIP-848): the coordinator assigns, and each member moves towards its target
//! in steps of its own, one heartbeat at a time.
//!
//! A group has two epochs. The *group epoch* grows when something changes that the assignment depends on: members,
//! subscriptions, topics. The *assignment epoch* follows when a target assignment was computed for it. Each member
//! has an epoch of its own, which follows when it has given up what its target no longer has:
//!
//! | member state | meaning | goes on when |
//! |---|---|---|
//! | `Stable` | it has its target of its epoch | there is a newer target |
//! | `UnrevokedPartitions` | it was asked to give up partitions, in its old epoch | it no longer reports them |
//! | `UnreleasedPartitions` | it is in the new epoch, and some of its target still belong to others | they are free |
//!
//! Almost everything is durable, so the handlers read [`state::ConsumerGroup`] and write records; what is soft is
//! when each member was heard of ([`sessions`]).
//!
//! While a group moves from one protocol to the other it has members of both ([`classic`], [`migrate`]).
//!
//! Start reading at [`heartbeat`].

pub(crate) mod assignor;
mod classic;
mod describe;
pub(crate) mod fence;
mod heartbeat;
pub(crate) mod member;
mod migrate;
mod offsets;
pub(crate) mod reconcile;
pub(crate) mod records;
pub(crate) mod replay;
pub(crate) mod sessions;
pub mod state;
pub(crate) mod subscription;
pub(crate) mod target;
pub(crate) mod update;

pub use assignor::Assignor;
pub(crate) use describe::responsible_for;
pub use migrate::MigrationPolicy;
pub(crate) use migrate::{read_assignment, read_subscription};
pub(crate) use offsets::OffsetsError;
