//! The crate from outside, against the facts of Apache Kafka 4.3.1 in `testdata`.

mod alter;
mod describe;
mod docs;
mod start;
mod table;
