//! Whatever a crash leaves, every log can be opened: the simulated disk loses what was not synced, and damages
//! nothing (invariant 7 of `dohle-storage`). A directory whose removal was lost may belong to a deleted topic.

use dohle_storage::{Log, OpenError};

pub(super) fn check(opened: &Result<Log, OpenError>) -> Result<(), String> {
    match opened {
        Ok(_) | Err(OpenError::OtherTopic { .. }) => Ok(()),
        Err(error) => Err(format!("a log cannot be opened after a crash: {error}")),
    }
}
