//! The border between the node and its host: what comes in ([`Input`]) and what goes out ([`Effect`]).
//!
//! A host is a loop: read the clocks, hand over an input, carry out the effects in their order, and call
//! again no later than [`Node::next_timeout`](crate::Node::next_timeout) says. Order matters in one place:
//! a [`Effect::Written`] is answered only after every [`Effect::Disk`] before it was carried out.

use bytes::Bytes;
use dohle_metrics::{Format, Page};
use dohle_protocol::Frame;
use dohle_storage::disk::{Answer, DiskError, Job, LogDir, Op, Progress};
use dohle_storage::{LogId, SyncPoint, SyncWork};
use dohle_types::Offset;

use crate::boot_facts::{BootFacts, ReadBootFacts};
use crate::fork::ForkTopic;
use crate::jobs::{
    ChangeFiles, CheckpointWritten, DirectorySynced, FilesChanged, FilesSynced, SyncDirectory, SyncFiles,
    WriteCheckpoints,
};
use crate::partition::PartitionKey;
use crate::snapshot_file::{LoadSnapshot, Loaded, SnapshotFile, SnapshotId, WriteSnapshot};
use crate::trash_files::{ReadTrash, TrashFacts};

/// A connection, numbered by its host; never reused while the process lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

/// What happens to the node.
#[derive(Debug)]
pub enum Input {
    /// The process starts: read what the data directory holds.
    Boot,
    /// A client connected.
    Opened {
        /// Its connection.
        connection: ConnectionId,
        /// The address it comes from, without the port, as `describe` calls show it.
        client_host: String,
        /// The address and port it called, which is what it is told to call again where
        /// `advertised.listeners` is unset.
        local: (String, u16),
    },
    /// One whole request frame, without its length prefix.
    Received {
        /// Where it came from.
        connection: ConnectionId,
        /// The frame.
        frame: Bytes,
    },
    /// A connection is gone, by whichever side.
    Closed {
        /// Which.
        connection: ConnectionId,
    },
    /// Frames of [`Effect::Send`] have left the process, or never will because their connection is gone: they take no
    /// memory any more.
    Sent {
        /// Bytes of all of them.
        bytes: usize,
    },
    /// All disk operations before [`Effect::Written`] are in the files.
    Written {
        /// The partition that was written to.
        partition: PartitionKey,
        /// The log's end when the effect was emitted.
        end: Offset,
    },
    /// What [`Effect::Sync`] asked for survives power loss, though the files may not have it yet.
    Synced {
        /// The partition it was for.
        partition: PartitionKey,
        /// As given in the effect.
        point: SyncPoint,
    },
    /// What the partition's effects up to this [`Effect::Sync`] asked for is durable in the files themselves. This
    /// answers the effect too, unless [`Input::Synced`] did.
    Flushed {
        /// The partition it was for.
        partition: PartitionKey,
        /// As given in the effect.
        point: SyncPoint,
    },
    /// A job is finished.
    JobDone {
        /// As given in [`Effect::Start`].
        token: JobToken,
        /// What it came to.
        output: JobOutput,
    },
    /// A write or a sync failed, and nobody knows what is stored now: the log dir that the error's path is in goes
    /// offline. What else was asked for in the same round, in other log dirs, was carried out. Where there was no
    /// room, what else was asked for of the same file was not.
    DiskFailed {
        /// What failed.
        error: DiskError,
    },
    /// A step of a job failed, which is the end of the job.
    JobFailed {
        /// As given in [`Effect::Start`].
        token: JobToken,
        /// What failed.
        error: DiskError,
    },
    /// How much room a log dir has: told before [`Input::Boot`], and every second or so while anything happens.
    DiskSpace {
        /// Which.
        log_dir: LogDir,
        /// Bytes of its volume.
        total: u64,
        /// Bytes that can be used.
        usable: u64,
    },
    /// [`Node::next_timeout`](crate::Node::next_timeout) has come.
    Tick,
    /// The operator asks the node to stop in good order.
    Stop,
    /// Somebody asks for the metrics.
    Scrape {
        /// To be given back.
        scrape: ScrapeId,
        /// How they are to be written.
        format: Format,
    },
}

/// What the node wants done.
#[derive(Debug)]
pub enum Effect {
    /// Sends a response. Frames of one connection leave in the order in which they were emitted.
    Send {
        /// To whom.
        connection: ConnectionId,
        /// The whole frame with its length prefix.
        frame: Frame,
    },
    /// Closes a connection after what was sent before.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// Stops reading from a connection that has too many requests in flight.
    Pause {
        /// Which.
        connection: ConnectionId,
    },
    /// Reads from a paused connection again.
    Resume {
        /// Which.
        connection: ConnectionId,
    },
    /// Changes files, now and in this order.
    Disk(Op),
    /// Asks for [`Input::Written`] once all that was emitted before is in the files.
    Written {
        /// Given back.
        partition: PartitionKey,
        /// Given back.
        end: Offset,
    },
    /// Makes records durable, in the files or in the log dir's journal, and answers with [`Input::Synced`] or
    /// [`Input::Flushed`]. Those that wait while a sync runs are one group, of which the host makes one commit cycle.
    Sync {
        /// Given back.
        partition: PartitionKey,
        /// By what name the journal knows the log.
        of: LogId,
        /// What to make durable.
        work: SyncWork,
    },
    /// Has the journal of a log dir used from now on: what a process before this one wrote to it is erased.
    UseJournal {
        /// Which.
        log_dir: LogDir,
    },
    /// Runs a job off the loop and answers with [`Input::JobDone`].
    Start {
        /// Given back.
        token: JobToken,
        /// The work.
        job: DiskJob,
        /// Whether nobody waits for it: then it must not keep others from having their turn.
        in_background: bool,
    },
    /// The node's metrics, which the host completes with its own.
    Scraped {
        /// As given in [`Input::Scrape`].
        scrape: ScrapeId,
        /// What the node has written.
        page: Box<Page>,
    },
    /// The node serves: listen.
    Ready,
    /// The node is finished: end the process, with an error where there is one.
    Stopped {
        /// Why, where it was not asked for.
        error: Option<String>,
    },
}

/// A request for metrics, numbered by its host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ScrapeId(pub u64);

/// The identity of a job; stale completions are recognised by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobToken(pub u64);

/// Defines the closed set of jobs and their outputs, with one dispatcher for both.
macro_rules! disk_jobs {
    ($($(#[$doc:meta])* $name:ident($job:ty) -> $output:ty,)*) => {
        /// Every kind of long disk work.
        #[derive(Debug)]
        pub enum DiskJob {
            $($(#[$doc])* $name(Box<$job>),)*
        }

        /// What a [`DiskJob`] comes to.
        #[derive(Debug)]
        pub enum JobOutput {
            $($(#[$doc])* $name(Box<$output>),)*
        }

        impl Job for DiskJob {
            type Output = JobOutput;

            fn start(&mut self) -> Progress<JobOutput> {
                match self {
                    $(Self::$name(job) => match job.start() {
                        Progress::Next(step) => Progress::Next(step),
                        Progress::Done(output) => Progress::Done(JobOutput::$name(Box::new(output))),
                    },)*
                }
            }

            fn resume(&mut self, answer: Answer) -> Progress<JobOutput> {
                match self {
                    $(Self::$name(job) => match job.resume(answer) {
                        Progress::Next(step) => Progress::Next(step),
                        Progress::Done(output) => Progress::Done(JobOutput::$name(Box::new(output))),
                    },)*
                }
            }
        }
    };
}

disk_jobs! {
    /// What a log dir holds, at start.
    Boot(ReadBootFacts) -> BootFacts,
    /// Loads the newest snapshot of the metadata, at start.
    LoadSnapshot(LoadSnapshot) -> Result<Loaded, String>,
    /// Writes a snapshot of the metadata.
    WriteSnapshot(WriteSnapshot) -> (SnapshotId, SnapshotFile),
    /// Opens, and where needed recovers, one log.
    Open(dohle_storage::OpenLog) -> Result<dohle_storage::Log, dohle_storage::OpenError>,
    /// Reads batches from files.
    ColdRead(dohle_storage::ColdRead) -> Result<Vec<Bytes>, dohle_storage::ReadError>,
    /// Finds an offset by timestamp.
    FindTimestamp(dohle_storage::FindTimestamp)
        -> Result<Option<dohle_storage::TimestampOffset>, dohle_storage::ReadError>,
    /// Finds the aborted transactions of a range of offsets.
    FindAborted(dohle_storage::FindAborted) -> Vec<dohle_storage::AbortedTxn>,
    /// Copies a log to another log dir.
    Copy(dohle_storage::CopyLog) -> dohle_storage::Copied,
    /// Checks a piece of a segment.
    Scrub(dohle_storage::ScrubPiece) -> dohle_storage::Scrubbed,
    /// Compacts a log, a piece at a time.
    Clean(dohle_storage::CleanLog) -> dohle_storage::CleanPiece,
    /// Writes checkpoint files.
    Checkpoint(WriteCheckpoints) -> CheckpointWritten,
    /// Makes files durable.
    Sync(SyncFiles) -> FilesSynced,
    /// Changes files.
    Change(ChangeFiles) -> FilesChanged,
    /// Makes the files in a directory durable.
    SyncDirectory(SyncDirectory) -> DirectorySynced,
    /// Makes the files of a fork.
    Fork(ForkTopic) -> Result<dohle_protocol::messages::TrashManifest, dohle_storage::ForkError>,
    /// Gives logs back what only a commit journal has of them, at start.
    ReplayJournal(dohle_storage::journal::ReplayJournal) -> dohle_storage::journal::Replayed,
    /// Makes that durable, and removes the journal.
    EraseJournal(dohle_storage::journal::EraseJournal) -> dohle_storage::journal::Erased,
    /// What the files of the trash say, at start.
    ReadTrash(ReadTrash) -> TrashFacts,
}
