//! One partition's log as a pure state machine.

pub mod disk;
