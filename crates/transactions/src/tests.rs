//! Tests of the ledger as a whole: scripts that a Kafka user can read, and random histories.

mod host;
mod random;
mod records;
mod script;
