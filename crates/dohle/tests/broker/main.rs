//! The binary as its users have it: a process, its sockets, its files and its exit codes.
//!
//! `durable.rs` kills it: `DOHLE_CRASH_ROUNDS=200 cargo test --package dohle --test broker durable` does so longer
//! than a run of all tests has time for. `DOHLE_CRASH_SEED` draws other moments.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that stumbles has failed"
)]

mod client;
mod command_line;
mod compaction;
mod configs;
mod consumer_groups;
mod damage;
mod delayed_end_txn;
mod durable;
mod fork;
mod full_disk;
mod group_journal;
mod group_lag;
mod hostile;
mod left_open;
mod log_dirs;
mod memory;
mod metrics;
mod moves;
mod offsets;
mod process;
mod transactional_producer;
mod transactions;
mod trash;
mod txn_tools;
