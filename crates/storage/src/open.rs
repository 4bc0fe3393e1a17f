//! Opening a log that is on disk: after a clean shutdown what is there is believed, after a crash it is
//! recovered.

use std::sync::Arc;

use dohle_configs::TopicConfig;
use dohle_types::{Now, Offset, TopicId};

use crate::disk::{Answer, FilePath, Job, Progress};
use crate::log::Log;
use crate::script::Script;

/// What is known of a log before its files are read.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Its directory.
    pub dir: FilePath,
    /// The id its topic has in the metadata.
    pub topic_id: TopicId,
    /// Its configs.
    pub config: Arc<TopicConfig>,
    /// Whether the node was shut down cleanly, so that the files need no check.
    pub clean: bool,
    /// The offset below which everything was durable, by the recovery point checkpoint.
    pub recovery_point: Option<Offset>,
    /// The start of the log, by the log start offset checkpoint.
    pub start_offset: Option<Offset>,
    /// The time.
    pub now: Now,
}

/// Why a log cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Records that may have been acknowledged cannot be read. Nothing was changed.
    #[error(
        "{path} is damaged at byte {position}, where offset {offset} should be: {reason}; restore the file, or \
         delete the partition's directory to give up its records"
    )]
    Damaged {
        /// The file.
        path: FilePath,
        /// Where in it.
        position: u64,
        /// The first offset that cannot be read.
        offset: Offset,
        /// What is wrong.
        reason: String,
    },
    /// The directory belongs to a topic that was deleted, and another has its name now.
    #[error("{dir} belongs to topic id {found}, not {expected}: it is left over from a deleted topic")]
    OtherTopic {
        /// The directory.
        dir: FilePath,
        /// The id in its `partition.metadata`.
        found: TopicId,
        /// The id in the cluster's metadata.
        expected: TopicId,
    },
}

/// Opens a log.
pub struct OpenLog(Script<Result<Log, OpenError>>);

impl std::fmt::Debug for OpenLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenLog")
    }
}

impl Job for OpenLog {
    type Output = Result<Log, OpenError>;

    fn start(&mut self) -> Progress<Self::Output> {
        self.0.start()
    }

    fn resume(&mut self, answer: Answer) -> Progress<Self::Output> {
        self.0.resume(answer)
    }
}

impl OpenLog {
    /// Will open the log in `opening.dir`, or create one where there is none.
    #[must_use]
    pub fn new(opening: Opening) -> Self {
        Self(Script::new(
            |_disk| async move { Ok(Log::create(opening.dir, opening.topic_id, opening.config)) },
        ))
    }
}
