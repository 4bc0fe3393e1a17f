//! Long disk work that is the node's own: small files written as a whole, many changes, and what is in a directory
//! made durable.

use bytes::Bytes;
use dohle_storage::disk::{Answer, FilePath, Job, Op, Progress, Step};
use dohle_storage::script::Script;

/// Writes small files, one after the other, each as a whole.
#[derive(Debug)]
pub struct WriteCheckpoints {
    files: std::vec::IntoIter<(FilePath, Bytes)>,
    last: Option<Last>,
}

/// What a [`WriteCheckpoints`] does in the end.
#[derive(Debug)]
struct Last {
    removed: std::vec::IntoIter<FilePath>,
    file: (FilePath, Bytes),
}

/// All checkpoint files of a [`WriteCheckpoints`] are durable.
#[derive(Debug)]
pub struct CheckpointWritten;

/// Changes files, one after the other.
#[derive(Debug)]
pub struct ChangeFiles {
    ops: std::vec::IntoIter<Op>,
}

/// All of [`ChangeFiles`] is done.
#[derive(Debug)]
pub struct FilesChanged;

/// Makes files durable, one after the other.
#[derive(Debug)]
pub struct SyncFiles {
    paths: std::vec::IntoIter<FilePath>,
}

/// All of [`SyncFiles`] are durable.
#[derive(Debug)]
pub struct FilesSynced;

impl SyncFiles {
    /// Will sync these.
    #[must_use]
    pub fn new(paths: Vec<FilePath>) -> Self {
        Self { paths: paths.into_iter() }
    }
}

impl Job for SyncFiles {
    type Output = FilesSynced;

    fn start(&mut self) -> Progress<FilesSynced> {
        self.paths.next().map_or(Progress::Done(FilesSynced), |path| Progress::Next(Step::Sync { path }))
    }

    fn resume(&mut self, _done: Answer) -> Progress<FilesSynced> {
        self.start()
    }
}

/// Makes the files in a directory durable.
pub struct SyncDirectory(Script<DirectorySynced>);

/// They are.
#[derive(Debug)]
pub struct DirectorySynced;

impl std::fmt::Debug for SyncDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SyncDirectory")
    }
}

impl Job for SyncDirectory {
    type Output = DirectorySynced;

    fn start(&mut self) -> Progress<DirectorySynced> {
        self.0.start()
    }

    fn resume(&mut self, answer: Answer) -> Progress<DirectorySynced> {
        self.0.resume(answer)
    }
}

impl SyncDirectory {
    /// Will do so; what is gone meanwhile need not be.
    #[must_use]
    pub fn new(path: FilePath) -> Self {
        Self(Script::new(|disk| async move {
            for entry in disk.list(&path).await.iter().filter(|entry| !entry.is_directory) {
                disk.sync(&format!("{path}/{}", entry.name).into()).await;
            }
            DirectorySynced
        }))
    }
}

impl ChangeFiles {
    /// Will do this.
    #[must_use]
    pub fn new(ops: Vec<Op>) -> Self {
        Self { ops: ops.into_iter() }
    }
}

impl Job for ChangeFiles {
    type Output = FilesChanged;

    fn start(&mut self) -> Progress<FilesChanged> {
        self.ops.next().map_or(Progress::Done(FilesChanged), |op| Progress::Next(Step::Apply(op)))
    }

    fn resume(&mut self, _done: Answer) -> Progress<FilesChanged> {
        self.start()
    }
}

impl WriteCheckpoints {
    /// Will write these.
    #[must_use]
    pub fn new(files: Vec<(FilePath, Bytes)>) -> Self {
        Self { files: files.into_iter(), last: None }
    }

    /// Will remove these files when all others are durable, and write one more when they are gone.
    #[must_use]
    pub fn then(mut self, removed: Vec<FilePath>, file: (FilePath, Bytes)) -> Self {
        self.last = Some(Last { removed: removed.into_iter(), file });
        self
    }

    fn next(&mut self) -> Progress<CheckpointWritten> {
        if let Some((path, data)) = self.files.next() {
            return Progress::Next(Step::Replace { path, data });
        }
        if let Some(path) = self.last.as_mut().and_then(|last| last.removed.next()) {
            return Progress::Next(Step::Apply(Op::Remove { path }));
        }
        match self.last.take() {
            Some(Last { file: (path, data), .. }) => Progress::Next(Step::Replace { path, data }),
            None => Progress::Done(CheckpointWritten),
        }
    }
}

impl Job for WriteCheckpoints {
    type Output = CheckpointWritten;

    fn start(&mut self) -> Progress<CheckpointWritten> {
        self.next()
    }

    fn resume(&mut self, _done: Answer) -> Progress<CheckpointWritten> {
        self.next()
    }
}
