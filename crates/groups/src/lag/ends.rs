//! How much is left of a log from a committed offset on.

use dohle_types::Offset;

/// Where a partition's log begins and ends for consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnds {
    /// What is below was taken by retention or DeleteRecords.
    pub start: Offset,
    /// The end for `read_committed` consumers.
    pub last_stable: Offset,
    /// The end for all others.
    pub high_watermark: Offset,
}

impl LogEnds {
    /// Records from the committed offset on, as offsets tell: what compaction took away is counted.
    ///
    /// Differs from Kafka: its tools also count what retention or DeleteRecords took away before it was read, and go
    /// below zero where the offset is beyond the log's end, as after the topic was created anew.
    #[must_use]
    pub fn lag(self, committed: Offset) -> i64 {
        self.high_watermark.0.saturating_sub(committed.max(self.start).0).max(0)
    }

    /// Those of them that the consumer can read now. Nobody says whether it is `read_committed`; but one that has
    /// committed an offset beyond the last stable one is not.
    #[must_use]
    pub fn left(self, committed: Offset) -> i64 {
        let end = if committed <= self.last_stable { self.last_stable } else { self.high_watermark };
        end.0.saturating_sub(committed.max(self.start).0).max(0)
    }

    /// Records that were taken away before they were read.
    #[must_use]
    pub fn lost(self, committed: Offset) -> i64 {
        self.start.0.saturating_sub(committed.0).max(0)
    }
}
