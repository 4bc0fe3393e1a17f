//! Whatever a crash leaves, every log can be opened, with all its records: where no bit flipped, the simulated disk loses
//! what was not synced, and damages nothing (invariant 7 of `dohle-storage`). A directory whose removal was lost may belong to a
//! deleted topic.

use dohle_storage::disk::LogDir;
use dohle_storage::{Log, OpenError};

pub(super) fn check(
    opened: &Result<Log, OpenError>,
    is_damaged: impl Fn(&str) -> bool,
) -> Result<(), String> {
    match opened {
        Ok(log) if !log.damage().is_empty() && !is_damaged(LogDir::split(log.dir()).1) => {
            Err(format!("a log is damaged after a crash: {:?}", log.damage()))
        }
        Ok(_) | Err(OpenError::OtherTopic { .. }) => Ok(()),
    }
}
