//! Whatever a crash leaves, every log can be opened: the simulated disk loses what was not synced, and damages
//! nothing (invariant 7 of `dohle-storage`).

use dohle_storage::{Log, OpenError};

pub(super) fn check(opened: &Result<Log, OpenError>) -> Result<(), String> {
    opened.as_ref().map(|_| ()).map_err(|error| format!("a log cannot be opened after a crash: {error}"))
}
