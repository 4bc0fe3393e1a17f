//! What the fuzz targets share: a disk in memory, the node under a host of virtual time, the form of the inputs, and
//! the seeds.
//!
//! The targets are `src/bin/fuzz_*.rs`, each with what it holds to be true. `cargo xtask fuzz` builds and runs them;
//! `src/bin/seeds.rs` writes what they begin with.

pub mod disk;
pub mod input;
pub mod seeds;
pub mod world;
