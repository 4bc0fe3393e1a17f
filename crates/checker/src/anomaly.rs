//! What a correct broker cannot cause.

use dohle_types::{Offset, Str, TopicPartition};

use crate::{RecordId, TransactionId};

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Anomaly {
    /// A value is not what any producer wrote.
    #[error("{partition} offset {offset}: the value is damaged: {reason}")]
    Corrupt {
        /// Where.
        partition: TopicPartition,
        /// Where in it.
        offset: Offset,
        /// What is wrong.
        reason: String,
    },
    /// A record that was never produced to this partition can be read there.
    #[error("{partition} offset {offset}: {record} was never produced to this partition")]
    Phantom {
        /// Where.
        partition: TopicPartition,
        /// Where in it.
        offset: Offset,
        /// What was read.
        record: RecordId,
    },
    /// A record can be read though its producer was told that it was not written.
    #[error("{partition} offset {offset}: {record} was refused and is there all the same")]
    Refused {
        /// Where.
        partition: TopicPartition,
        /// Where in it.
        offset: Offset,
        /// What was read.
        record: RecordId,
    },
    /// A record that was acknowledged is not in the log.
    #[error("{partition}: {record} was acknowledged{} and is not in the log", at(*.acknowledged))]
    Lost {
        /// Where it should be.
        partition: TopicPartition,
        /// The record.
        record: RecordId,
        /// The offset that its producer was told.
        acknowledged: Option<Offset>,
    },
    /// A record is not where its producer was told that it is.
    #[error("{partition}: {record} was acknowledged at offset {acknowledged} and stands at {found:?}")]
    Moved {
        /// Where.
        partition: TopicPartition,
        /// The record.
        record: RecordId,
        /// The offset that its producer was told.
        acknowledged: Offset,
        /// Where it is.
        found: Vec<Offset>,
    },
    /// A record is in the log more than once.
    #[error("{partition}: {record} stands at {offsets:?}")]
    Duplicated {
        /// Where.
        partition: TopicPartition,
        /// The record.
        record: RecordId,
        /// Everywhere it is.
        offsets: Vec<Offset>,
    },
    /// A record stands behind one that its producer sent later.
    #[error("{partition} offset {offset}: {record} stands behind {before}, which was sent later")]
    Reordered {
        /// Where.
        partition: TopicPartition,
        /// The offset of the earlier record.
        offset: Offset,
        /// The earlier record.
        record: RecordId,
        /// The later record, which stands before it.
        before: RecordId,
    },
    /// A reader, or the log, goes on at another offset than the next one.
    #[error("{partition}: after offset {after} comes {next}")]
    Skipped {
        /// Where.
        partition: TopicPartition,
        /// The offset of a record.
        after: Offset,
        /// That of the record that was read next.
        next: Offset,
    },
    /// A reader comes to an offset that it has passed.
    #[error("{partition}: after offset {after} comes {next}, which is not behind it")]
    WentBack {
        /// Where.
        partition: TopicPartition,
        /// The offset of a record.
        after: Offset,
        /// That of the record that was read next.
        next: Offset,
    },
    /// What was once read at an offset is not there any more.
    #[error("{partition} offset {offset}: {read} was read there, and now {}", found.map_or("there is nothing".to_owned(), |found| format!("it is {found}")))]
    Changed {
        /// Where.
        partition: TopicPartition,
        /// Where in it.
        offset: Offset,
        /// What was read.
        read: RecordId,
        /// What is there at the end.
        found: Option<RecordId>,
    },
    /// A committed offset was lost, or went back to one that was overwritten.
    #[error("group {group} {partition}: {} was fetched after {committed} was committed", fetched.map_or("nothing".to_owned(), |fetched| fetched.to_string()))]
    LostCommit {
        /// The group.
        group: Str,
        /// Of which partition.
        partition: TopicPartition,
        /// What was fetched.
        fetched: Option<Offset>,
        /// What had been committed, and acknowledged, after that.
        committed: Offset,
    },
    /// An offset was fetched that nobody committed.
    #[error("group {group} {partition}: {fetched} was fetched and never committed")]
    PhantomCommit {
        /// The group.
        group: Str,
        /// Of which partition.
        partition: TopicPartition,
        /// What was fetched.
        fetched: Offset,
    },
    /// A record was read that is not committed, and never will be.
    #[error(
        "{partition} offset {offset}: {record} of {transaction}, which is aborted, was read as committed"
    )]
    AbortedRead {
        /// Where.
        partition: TopicPartition,
        /// Where in it.
        offset: Offset,
        /// What was read.
        record: RecordId,
        /// Its transaction.
        transaction: TransactionId,
    },
    /// A record was read as committed before its producer asked for that.
    #[error("{partition} offset {offset}: {record} of {transaction} was read before it was to be committed")]
    PrecommittedRead {
        /// Where.
        partition: TopicPartition,
        /// Where in it.
        offset: Offset,
        /// What was read.
        record: RecordId,
        /// Its transaction.
        transaction: TransactionId,
    },
    /// Of one transaction some records are committed and others are not.
    #[error("{transaction} is committed, and {record} of it in {partition} is not")]
    Torn {
        /// The transaction.
        transaction: TransactionId,
        /// Where a record of it is missing.
        partition: TopicPartition,
        /// The record.
        record: RecordId,
    },
    /// A record is in the log and committed, and a reader of what is committed never comes to see it.
    #[error("{partition} offset {offset}: {record} is committed, and is not read")]
    Unseen {
        /// Where.
        partition: TopicPartition,
        /// Where in it.
        offset: Offset,
        /// The record.
        record: RecordId,
    },
    /// What a producer did after it had been fenced is committed.
    #[error("{transaction} is committed, though its producer had been fenced before it {}", if *.sent { "sent to it" } else { "asked for that" })]
    Zombie {
        /// The transaction.
        transaction: TransactionId,
        /// Whether it also sent the records after that.
        sent: bool,
    },
    /// Two transactions have consumed the same record for one group, and both are committed.
    #[error("group {group} {partition} offset {offset}: consumed by {first} and by {second}")]
    ConsumedTwice {
        /// The group.
        group: Str,
        /// Where.
        partition: TopicPartition,
        /// The first offset that both have consumed.
        offset: Offset,
        /// The one.
        first: TransactionId,
        /// The other.
        second: TransactionId,
    },
    /// A group's transactions have consumed what is before a record and what is behind it, and not the record.
    #[error(
        "group {group} {partition} offset {offset}: no transaction has consumed it, and {next} went on behind it"
    )]
    PassedOver {
        /// The group.
        group: Str,
        /// Where.
        partition: TopicPartition,
        /// Of a committed record.
        offset: Offset,
        /// What consumed the records behind it.
        next: TransactionId,
    },
    /// Transactions have each consumed what the next one has written, in a circle.
    #[error("each of these has consumed what the next one wrote, and the last one what the first wrote: {}", list(.0))]
    Circle(Vec<TransactionId>),
}

fn list(transactions: &[TransactionId]) -> String {
    transactions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn at(offset: Option<Offset>) -> String {
    offset.map(|offset| format!(" at offset {offset}")).unwrap_or_default()
}
