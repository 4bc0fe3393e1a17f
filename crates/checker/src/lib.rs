//! What clients did to a cluster and what came of it, held against what they were promised.
//!
//! What it is not: it runs no client and knows no wire format. Whoever runs clients (`dohle-sim`, a test against
//! a real server) gives every record's value the form of [`payload`], writes down in a [`History`] what the
//! clients attempted, were told and saw, and asks [`History::check`] at the end.
//!
//! Input: a history. Output: [`Anomaly`]s, none of which a correct broker can cause, whatever was killed or
//! lost on the way. There are no effects.
//!
//! What is promised:
//! 1. A record that was acknowledged is in the log at the end, at the offset that was told; one that was refused
//!    for good is not.
//! 2. A record is in the log at most once, unless its producer is [`Guarantee::AtLeastOnce`].
//! 3. A producer's records stand in a partition in the order in which it sent them.
//! 4. What is read was produced to that partition, byte by byte.
//! 5. What was read once stays where it was, and nothing is passed over.
//! 6. A committed offset that is fetched is one that was committed, and none that was certainly overwritten.
//!
//! Start reading at [`History`], then `records.rs` and `offsets.rs`, one for each half of the promises.

mod anomaly;
mod history;
mod offsets;
pub mod payload;
mod records;
#[cfg(test)]
mod tests;

pub use anomaly::Anomaly;
pub use history::{Commit, Guarantee, History, Moment, Outcome, ReaderId, RecordId};
