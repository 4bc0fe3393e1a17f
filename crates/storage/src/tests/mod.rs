//! Tests of the log as a whole, on a disk in memory.

mod commit_cycle;
mod compaction;
mod copy;
mod crash;
mod damage;
mod disk;
mod fork;
mod journal;
mod log;
mod model;
mod node;
mod resume;
mod transactions;
