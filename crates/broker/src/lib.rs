//! One node as a machine: it takes [`host::Input`]s and gives [`host::Effect`]s, and two hosts drive it:
//! `dohle-io` in the real world and `dohle-sim` in an imagined one.
//!
//! What it is not: it owns no socket, no file, no thread and no clock. It is the only crate that knows both the
//! wire and the logs; what a batch, a log, a group or a topic is and may become is decided in the crates below it.
//!
//! Invariants:
//! 1. A request is answered once, and the answers of a connection leave in the order of its requests.
//! 2. An answer speaks of records only after they are written (acks=1), committed (acks=all), and, where
//!    `dohle.durability` is `durable`, synced. Answers of ledgers wait for the commit of all that they may speak of.
//! 3. Consumers see records below the high watermark only.
//! 4. Whatever waits is woken by what it waits for, or by a deadline; an idle node is never woken.
//! 5. After a failed write or sync in a log dir nothing is acknowledged that it may hold.
//! 6. What clients can make large is counted in the budget ([`memory`]), and given back once.
//!
//! Start reading at [`node`], then `handlers/k12_heartbeat.rs` for the smallest way through, and
//! `handlers/k00_produce.rs` and `handlers/k01_fetch.rs` for the two that matter most.

mod answer_line;
pub mod boot;
pub mod boot_facts;
mod checkpoints;
pub mod cleaner;
mod cluster;
mod commit_journal;
pub mod connection;
mod damage;
mod disk_space;
pub mod fetch_session;
mod fixed_configs;
mod flush;
pub mod fork;
mod gathered;
pub mod group_hosts;
pub mod group_journal;
mod group_lag;
mod group_txns;
mod groups_cluster;
pub mod handlers;
pub mod host;
pub mod jobs;
pub mod ledger_hosts;
mod ledger_load;
mod left_open;
pub mod log_dirs;
pub mod maintenance;
pub mod memory;
pub mod metadata_log;
mod metrics;
pub mod moves;
pub mod node;
mod opening;
pub mod partition;
pub mod partitions;
pub mod producer_ids;
mod producer_limit;
pub mod purgatory;
pub mod quorum;
pub mod scrub;
mod set_aside;
pub mod snapshot_file;
pub mod snapshots;
mod started_jobs;
mod topics;
pub mod trash;
pub mod trash_files;
pub mod txn_hosts;
mod txn_markers;
pub mod txn_produce;

pub use host::{Effect, Input};
pub use node::Node;
