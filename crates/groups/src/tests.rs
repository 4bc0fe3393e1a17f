//! Tests of the ledger as a whole: scripts that a Kafka user can read, and random histories.

mod consumer_random;
mod consumer_script;
pub(crate) mod host;
mod intervals;
mod journal;
mod random;
mod script;
