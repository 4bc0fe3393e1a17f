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
//!    Only markers, and for a reader of what is committed also records that are not, may be left out.
//! 6. A committed offset that is fetched is one that was committed, and none that was certainly overwritten.
//! 7. What is read as committed is in a transaction whose producer has asked for that, before it was read, and was
//!    not told otherwise; and a producer that was fenced has nothing committed any more.
//! 8. Of a transaction all records are committed or none is, and a reader of what is committed sees them.
//! 9. The committed transactions of a group consume each record once, and pass none over; and none of them has
//!    consumed, even by way of others, what depends on itself.
//!
//! Those who know Jepsen's anomalies find them here so: aborted read is [`Anomaly::AbortedRead`], lost write
//! [`Anomaly::Lost`], duplicate [`Anomaly::Duplicated`], reordered write [`Anomaly::Reordered`], torn transaction
//! [`Anomaly::Torn`], precommitted read [`Anomaly::PrecommittedRead`], non-monotonic poll [`Anomaly::WentBack`],
//! non-monotonic send [`Anomaly::Reordered`] and [`Anomaly::Moved`], poll skip [`Anomaly::Skipped`], inconsistent
//! offsets [`Anomaly::Changed`], circular information flow (G1c of what is written and read) [`Anomaly::Circle`],
//! unseen [`Anomaly::Unseen`].
//!
//! Start reading at [`History`], then `records.rs` (promises 1 to 5), `offsets.rs` (6) and `transactions.rs`.

mod anomaly;
mod history;
mod offsets;
pub mod payload;
mod records;
#[cfg(test)]
mod tests;
mod transactions;

pub use anomaly::Anomaly;
pub use history::{Commit, Guarantee, History, Isolation, Moment, Outcome, ReaderId, RecordId};
pub use transactions::{TransactionId, Verdict};
