//! What the log asks of a disk, as values that a host carries out: `dohle-io` on a real file system,
//! `dohle-sim` in memory with faults.
//!
//! There are two shapes. An [`Op`] changes files and is carried out inline, in the order it was emitted,
//! before anything emitted later; it is in the page cache afterwards, not on the medium. A [`Job`] is
//! longer work that needs answers (opening a log, a cold read, a checkpoint): a machine that asks for one
//! bounded [`Step`] at a time and is driven by [`drive`] on a thread of the host's choice.
//!
//! Durability is asked for by naming paths (the broker's `Sync` effect, [`Step::Sync`]). A completed sync of
//! a file means that its content, its length and its name survive power loss: the host syncs the directory
//! too when the file was created or renamed since it last did.

use std::sync::Arc;

use bytes::Bytes;

/// A file or directory, `/`-separated and relative to its log dir: `orders-0/…0.log` in the first one,
/// `@1/orders-0/…0.log` in the second; see [`LogDir`].
pub type FilePath = Arc<str>;

/// One of the directories of a node, by its place among them. Paths below the first bear no prefix, those below
/// the n-th (n >= 1) begin with `@n/`, which no name of a partition can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogDir(pub u16);

impl LogDir {
    /// The first one.
    pub const FIRST: Self = Self(0);

    /// The path of the directory itself.
    #[must_use]
    pub fn root(self) -> FilePath {
        match self {
            Self::FIRST => FilePath::from(""),
            Self(place) => FilePath::from(format!("@{place}")),
        }
    }

    /// The path of something in it.
    #[must_use]
    pub fn path(self, name: &str) -> FilePath {
        match self {
            Self::FIRST => FilePath::from(name),
            Self(place) => FilePath::from(format!("@{place}/{name}")),
        }
    }

    /// Where a path is, and what it is called there.
    #[must_use]
    pub fn split(path: &str) -> (Self, &str) {
        let prefixed = path.strip_prefix('@').and_then(|rest| {
            let (place, name) = rest.split_once('/').unwrap_or((rest, ""));
            Some((Self(place.parse().ok()?), name))
        });
        prefixed.unwrap_or((Self::FIRST, path))
    }

    /// The log dir that a path is in.
    #[must_use]
    pub fn of(path: &str) -> Self {
        Self::split(path).0
    }
}

/// A change to files. The directories a path needs are created on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes `data` at byte `position`, creating the file where there is none.
    Write {
        /// The file.
        path: FilePath,
        /// Where the first byte goes.
        position: u64,
        /// What to write.
        data: Bytes,
    },
    /// Takes room on the disk for a file of `length` bytes, and leaves its content and its length as they are. Where
    /// there is no such room, or no such thing, nothing happens: the writes will tell.
    Allocate {
        /// The file.
        path: FilePath,
        /// Bytes it is to have room for.
        length: u64,
    },
    /// Cuts the file to `length` bytes, and gives back what room it has beyond them.
    Truncate {
        /// The file.
        path: FilePath,
        /// Bytes that remain.
        length: u64,
    },
    /// Gives a file one more name, under which nothing is yet; where the file system has no such names it gets a
    /// durable copy. A file that is gone is passed over.
    ///
    /// Both names are one file from then on ([`Entry::is_shared`]), which nobody may change in place.
    Link {
        /// A name it has.
        from: FilePath,
        /// The name it gets too.
        to: FilePath,
    },
    /// Renames a file or directory, replacing what is there.
    Rename {
        /// The name it has.
        from: FilePath,
        /// The name it gets.
        to: FilePath,
    },
    /// Removes a file, or a directory with all that is in it; it may be gone already.
    Remove {
        /// The file or directory.
        path: FilePath,
    },
}

/// One bounded request of a [`Job`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The entries of a directory, by name; none where it does not exist. Answered by [`Answer::Listed`].
    List {
        /// The directory, which may be a log dir itself ([`LogDir::root`]).
        path: FilePath,
    },
    /// Up to `length` bytes from `position`; fewer at the end of the file, `None` where there is no file.
    /// Answered by [`Answer::Read`].
    Read {
        /// The file.
        path: FilePath,
        /// The first byte wanted.
        position: u64,
        /// The most bytes wanted.
        length: usize,
    },
    /// A change. Answered by [`Answer::Done`].
    Apply(Op),
    /// Replaces a small file as a whole: written beside it, synced, renamed, directory synced, so that a
    /// reader after a crash finds the old or the new content. Answered by [`Answer::Done`].
    Replace {
        /// The file.
        path: FilePath,
        /// Its new content.
        data: Bytes,
    },
    /// Makes a file durable. Answered by [`Answer::Done`].
    Sync {
        /// The file.
        path: FilePath,
    },
    /// Makes all that is in a log dir durable, whatever its name is by now. Answered by [`Answer::Done`].
    SyncAll {
        /// Which.
        log_dir: LogDir,
    },
}

/// The answer to a [`Step`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The entries of a directory, sorted by name.
    Listed(Vec<Entry>),
    /// The bytes there were; `None` where there is no such file.
    Read(Option<Bytes>),
    /// It is done.
    Done,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, without its directory.
    pub name: String,
    /// Bytes in it; 0 for a directory.
    pub length: u64,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Whether it is a file that has other names too.
    pub is_shared: bool,
}

/// A disk refused. Unless it was for want of room the log dir is taken offline: after a failed write or sync nobody
/// knows what is stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation} {path}: {reason}")]
pub struct DiskError {
    /// What was tried: `write`, `sync`, `read` ...
    pub operation: &'static str,
    /// On which file.
    pub path: FilePath,
    /// What the system said.
    pub reason: String,
    /// Whether there was no room for the change, of which a part may have been made. Never true of a sync.
    pub is_full: bool,
}

/// Long work on files as a machine of bounded steps.
pub trait Job {
    /// What it comes to.
    type Output;

    /// The first step, or the result where there is nothing to do.
    fn start(&mut self) -> Progress<Self::Output>;

    /// The next step after `answer` to the last one. `answer` is always of the kind the step asked for.
    fn resume(&mut self, answer: Answer) -> Progress<Self::Output>;
}

/// How far a [`Job`] has come.
#[derive(Debug)]
pub enum Progress<T> {
    /// It needs this.
    Next(Step),
    /// It is finished.
    Done(T),
}

/// Runs `job` to its end with `perform` answering its steps.
///
/// # Errors
/// The first step's failure; the job is abandoned.
pub fn drive<J: Job>(
    job: &mut J,
    mut perform: impl FnMut(Step) -> Result<Answer, DiskError>,
) -> Result<J::Output, DiskError> {
    let mut progress = job.start();
    loop {
        match progress {
            Progress::Next(step) => progress = job.resume(perform(step)?),
            Progress::Done(output) => return Ok(output),
        }
    }
}
