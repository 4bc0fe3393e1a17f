//! Kafka's producer, consumer and admin client as machines: input and time in, effects and results out.
//!
//! What it is not: it opens no socket, reads no clock and starts no thread. A host (`dohle-cli` over real
//! sockets, `dohle-sim` over imagined ones) carries out the [`Effect`]s and reports what came of them as
//! [`Input`]s.
//!
//! Every client is a [`Machine`] around one [`Cluster`], which keeps connections, versions and metadata:
//! [`Producer`] takes records and gives deliveries, [`Consumer`] gives batches of records and
//! events, [`Admin`] takes any request and gives its response. The order of calls is always the same:
//! hand work to the machine (`send`, `assign`, `call`), call [`Machine::handle`] (with [`Input::Wake`] if
//! nothing else happened), carry out the effects, take results until there are none, and sleep until the next
//! input or [`Machine::next_timeout`].
//!
//! Invariants:
//! 1. A [`Peer`] is never used again: inputs about a connection that is gone change nothing.
//! 2. Every request is answered exactly once, by its response or by a failure; responses are matched in order.
//! 3. An idempotent producer's records reach a partition's log in the order of `send`, each at most once,
//!    whatever is lost and sent again; a record whose delivery was reported with an offset is never sent again.
//! 4. A consumer gives a partition's records in ascending order of offset, none twice between two seeks.
//! 5. What waits is bounded: a producer by its buffer, a consumer by its fetch limits, a connection by its
//!    requests in flight.
//!
//! Start reading at [`Machine`], then [`cluster`], then [`admin`], the smallest client.

pub mod admin;
mod backoff;
pub mod cluster;
mod connection;
pub mod consumer;
mod error;
#[cfg(test)]
mod fake;
pub mod group;
mod machine;
pub mod metadata;
pub mod producer;

pub use admin::{Admin, CallId, Target};
pub use backoff::Backoff;
pub use cluster::{Cluster, ClusterConfig, Lane};
pub use connection::ApiVersions;
pub use consumer::{Consumer, ConsumerConfig, ConsumerEvent, Fetched, StartAt};
pub use error::{Failure, Unreachable};
pub use group::offsets::ConsumerGroupMetadata;
pub use machine::{Effect, Effects, Endpoint, Input, InvalidEndpoint, Machine, Peer};
pub use metadata::Metadata;
pub use producer::{Acks, Delivery, Producer, ProducerConfig, ProducerRecord, SendError, TransactionError};
