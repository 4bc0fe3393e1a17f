//! The real network: listeners and connections on one poll loop.

pub mod event_loop;
pub mod intake;
pub mod pace;
pub mod stream;
