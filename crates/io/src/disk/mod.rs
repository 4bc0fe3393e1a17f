//! The real disk: one data directory, carried out by the loop (writes), the commit thread (syncs) and a
//! small pool (jobs).

pub mod committer;
pub mod files;
pub mod pool;
pub mod stats;
