//! What must happen sometimes: a simulation that never gets there proves nothing about it.

/// Defines the marks and the list of all.
macro_rules! marks {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Something that some seed must bring about.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Mark {
            $($(#[$doc])* $name,)*
        }

        impl Mark {
            /// All marks.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

marks! {
    /// The process was killed and the page cache stayed.
    ProcessKilled,
    /// The process was killed in the middle of a write, of which a part is in the file.
    KilledInAWrite,
    /// The power went, and something that was not synced went with it.
    UnsyncedLost,
    /// The power went, and of a file's dirty sectors some survived and some did not.
    FileTorn,
    /// The power went, and with it the name of a file.
    NameLost,
    /// Recovery cut a torn end off a log.
    TornEndCut,
    /// The node stopped in good order, and what it left survived power loss.
    StoppedInGoodOrder,
    /// A sync failed, and with it a log dir or the node.
    SyncFailed,
    /// A change to files failed, of which a part may have been made.
    ChangeFailed,
    /// A read failed.
    ReadFailed,
    /// A bit of a durable record flipped.
    BitFlipped,
    /// A bit of an offset index flipped.
    IndexFlipped,
    /// The scrub found an index that was damaged.
    IndexBuiltAnew,
    /// Somebody was refused a record, since it is damaged.
    DamageRefused,
    /// The node started again after a failed sync, with a page cache that has what the disk has not.
    RestartedAfterFailedSync,
    /// A log dir failed, and the node went on with another.
    LogDirFailedAlone,
    /// A write found no room on the disk, of which a part may have been made.
    WriteWithoutRoom,
    /// Records were refused for want of room.
    RefusedForRoom,
    /// A log was copied to another log dir.
    LogCopied,
    /// A log went on in another segment.
    SegmentRolled,
    /// A snapshot of the metadata was written.
    SnapshotWritten,
    /// The node started from a snapshot.
    SnapshotLoaded,
    /// A segment of the metadata log was removed, since a snapshot stands for it.
    MetadataLogShortened,
    /// Compaction replaced segments.
    LogCompacted,
    /// One group commit served several partitions.
    CommittedTogether,
    /// A commit cycle wrote to the journal.
    JournalWritten,
    /// What a part of the journal held was flushed to its files.
    JournalFlushed,
    /// A log was given back what only the journal had.
    TakenFromJournal,
    /// A fetch was answered from files.
    ColdRead,
    /// A fetch waited for memory.
    FetchInLine,
    /// A fetch waited, and was answered when there was something.
    FetchWoken,
    /// A produce request that had been carried out before was answered like the first time.
    DuplicateAnswered,
    /// A record was refused for good.
    RecordRefused,
    /// A connection broke with bytes under way.
    ConnectionBroken,
    /// A request arrived whose client had given its connection up.
    LateRequest,
    /// A client was killed and another took its place.
    ClientKilled,
    /// A topic was made under the name of one that was deleted.
    TopicMadeAgain,
    /// A topic was brought back from the trash.
    TopicUndeleted,
    /// A topic was forked.
    TopicForked,
    /// A topic was forked below its end.
    SegmentDivided,
    /// The node ended while a fork was made.
    EndedWhileForking,
    /// A group gave a member partitions for a second time.
    Rebalanced,
    /// A member of the consumer protocol was given more partitions, and read on in those that it had.
    ReadOnInARebalance,
    /// Members of both protocols owned partitions in the same epoch of a group.
    ProtocolsMixed,
    /// A member committed a higher offset than before in the same generation.
    CommitAdvanced,
    /// A member went on where its group had left off.
    Resumed,
}

/// The marks that were reached.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    reached: std::collections::BTreeSet<Mark>,
}

impl Marks {
    /// The simulation was here, if `condition` holds.
    pub fn sometimes(&mut self, mark: Mark, condition: bool) {
        if condition {
            self.reached.insert(mark);
        }
    }

    /// Takes over those of another run.
    pub fn extend(&mut self, other: &Self) {
        self.reached.extend(&other.reached);
    }

    /// Those that were not reached.
    #[must_use]
    pub fn missing(&self) -> Vec<Mark> {
        Mark::ALL.iter().copied().filter(|mark| !self.reached.contains(mark)).collect()
    }
}
