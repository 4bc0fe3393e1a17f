//! Forks of topics, on their way from the files of their sources to being topics.
//!
//! A fork is made in the trash, from where it comes as a topic does that was deleted (`trash.rs`):
//!
//! 1. A manifest is written that says of which topic it will be, and that this was never deleted.
//! 2. For each partition that has records a directory is made of the source's segments (`dohle_storage`'s `fork.rs`),
//!    under the name it would have in the trash. The manifest is written again, with what the directories have.
//! 3. The topic's records are committed; then the directories get their names, and when the checkpoints know them the
//!    manifest goes.
//!
//! Whenever the node ends in between, the metadata log tells at the next start what becomes of it: of a fork whose topic
//! is there the directories are put in place, one whose topic is not there is removed.

use dohle_protocol::messages::TrashManifest;
use dohle_storage::disk::{Answer, FilePath, Job, Progress};
use dohle_storage::script::Script;
use dohle_storage::{ForkError, ForkLog};

use crate::trash_files::encode;

/// Makes the files of a fork.
pub struct ForkTopic(Script<Result<TrashManifest, ForkError>>);

impl std::fmt::Debug for ForkTopic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ForkTopic")
    }
}

impl Job for ForkTopic {
    type Output = Result<TrashManifest, ForkError>;

    fn start(&mut self) -> Progress<Self::Output> {
        self.0.start()
    }

    fn resume(&mut self, answer: Answer) -> Progress<Self::Output> {
        self.0.resume(answer)
    }
}

impl ForkTopic {
    /// Will write the manifest to `path` and make the logs of its partitions, each at its place in the manifest.
    #[must_use]
    pub fn new(path: FilePath, manifest: TrashManifest, logs: Vec<(usize, ForkLog)>) -> Self {
        Self(Script::new(|disk| async move {
            let mut manifest = manifest;
            disk.replace(path.clone(), encoded(&manifest)).await;
            for (place, log) in &logs {
                let forked = log.run(&disk).await?;
                if let Some(partition) = manifest.partitions.get_mut(*place) {
                    partition.log_start_offset = forked.start.0;
                    partition.recovery_point = forked.end.0;
                }
            }
            disk.replace(path, encoded(&manifest)).await;
            Ok(manifest)
        }))
    }
}

fn encoded(manifest: &TrashManifest) -> bytes::Bytes {
    encode(manifest)
        .unwrap_or_else(|error| unreachable!("what the metadata log says of a topic is short: {error}"))
}
