//! Whatever a crash leaves, every log can be opened, with all its records: the simulated disk loses what was not
//! synced, and damages nothing (invariant 7 of `dohle-storage`). A directory whose removal was lost may belong to a
//! deleted topic.

use dohle_storage::{Log, OpenError};

pub(super) fn check(opened: &Result<Log, OpenError>) -> Result<(), String> {
    match opened {
        Ok(log) if !log.damage().is_empty() => {
            Err(format!("a log is damaged after a crash: {:?}", log.damage()))
        }
        Ok(_) | Err(OpenError::OtherTopic { .. }) => Ok(()),
    }
}
