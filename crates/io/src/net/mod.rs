//! The real network: listeners and connections on one poll loop.

pub mod event_loop;
pub mod http;
pub mod intake;
pub mod pace;
pub mod scrape_connection;
pub mod stats;
pub mod stream;
