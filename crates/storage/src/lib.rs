//! One partition's log as a pure state machine, in Apache Kafka's on-disk format.
//!
//! What it is not: it opens no file, reads no clock and starts no thread; it knows no topics' metadata, no
//! replicas and no requests (`dohle-broker` does).
//!
//! Inputs: batches, time, configs. Effects: [`disk::Op`]s, which the host carries out in order, and
//! [`disk::Job`]s, which it drives on a thread of its choice. After an append the host asks
//! [`Log::begin_sync`] what to make durable; [`Log::synced`] moves the durable offset, [`Log::flushed`] the
//! recovery point, which is behind it where a commit journal has what the files may not have yet.
//!
//! Invariants, checked in release too:
//! 1. A log has a segment; the last one is the one that is appended to. Segments ascend by base offset.
//! 2. Offsets ascend without gaps: a batch gets the log's end as base offset. The start is at or before the end.
//! 3. The durable offset moves only when a sync that was begun after the append completes; one sync is under
//!    way at a time.
//! 4. The hot tail has no gaps and ends at the log's end: what it cannot answer is in the files.
//! 5. The keys of an index ascend strictly. An index entry is a hint: it may be missing, and a wrong one is noticed.
//! 6. Positions in a segment fit into 31 bits.
//! 7. Recovery cuts off only what was never acknowledged as durable; damage to anything else is reported.
//! 8. Compaction replaces consecutive segments, never the active one, by one that reaches as far; a file that is in
//!    place is never changed.
//! 9. A file that a fork shares is never changed in place: nothing is appended to it, and none of it is cut off.
//!
//! Start reading at [`Log`], then `append.rs` and `read.rs`; how a log comes back is in `open.rs` and
//! `recovery.rs`.

pub mod checkpoint;
pub mod disk;
pub mod epochs;
pub mod journal;
pub mod memory_disk;
pub mod producer_snapshot;
pub mod producer_state;
pub mod script;

mod append;
mod clean;
mod cleanable;
mod cleaned_txns;
mod copy;
mod damage;
mod fork;
mod index;
mod log;
mod offset_map;
mod open;
mod read;
mod recovered_txns;
mod recovery;
mod replace;
mod resume;
mod retention;
mod scan;
mod scrub;
mod scrub_indexes;
mod segment;
mod segment_writer;
mod swap;
mod tail;
mod timestamp_lookup;
mod txn_index;
mod walk;

#[cfg(test)]
mod tests;

pub use append::{AppendError, Appended, Codecs, Origin};
pub use clean::{CleanError, CleanLog, CleanNext, CleanPiece, CleanedSegment, CleanerLimits};
pub use cleanable::Cleanable;
pub use copy::{Copied, CopyLog, Swap};
pub use damage::Damage;
pub use fork::{ForkError, ForkLog, ForkTo, ForkedLog};
pub use journal::LogId;
pub use log::{Log, LogRange, SegmentDescription, SyncPoint, SyncWork};
pub use offset_map::HashSecret;
pub use open::{OpenError, OpenLog, Opening};
pub use producer_state::{ProducerBatch, ProducerError, ProducerState};
pub use read::{COLD_READ_MAX, ColdRead, OffsetOutOfRange, Read, ReadError};
pub use scrub::{ScrubPiece, ScrubPoint, Scrubbed};
pub use scrub_indexes::IndexesAnew;
pub use tail::{LogKey, TailBudget};
pub use timestamp_lookup::{FindTimestamp, TimestampOffset};
pub use txn_index::{AbortedTxn, FindAborted};
