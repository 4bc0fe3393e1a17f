//! Long disk work that is the node's own: checkpoints.

use bytes::Bytes;
use dohle_storage::disk::{Answer, FilePath, Job, Progress, Step};

/// Writes small files, one after the other, each as a whole.
#[derive(Debug)]
pub struct WriteCheckpoints {
    files: std::vec::IntoIter<(FilePath, Bytes)>,
}

/// All checkpoint files of a [`WriteCheckpoints`] are durable.
#[derive(Debug)]
pub struct CheckpointWritten;

impl WriteCheckpoints {
    /// Will write these.
    #[must_use]
    pub fn new(files: Vec<(FilePath, Bytes)>) -> Self {
        Self { files: files.into_iter() }
    }

    fn next(&mut self) -> Progress<CheckpointWritten> {
        match self.files.next() {
            Some((path, data)) => Progress::Next(Step::Replace { path, data }),
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
