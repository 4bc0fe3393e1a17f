//! Installing the clients, each by name from its registry, in the versions that stand in `interop/`. Everything installed lies under `interop/.work`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::{self, Result};

/// The folder of the client programs in the repository.
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop").join(name)
}

/// The folder for what is installed or made on the way; ignored by git.
pub(crate) fn work(name: &str) -> PathBuf {
    let root = source(".work");
    // Programs are started in other directories and print paths: no `..` in them.
    let _ = fs::create_dir_all(&root);
    root.canonicalize().unwrap_or(root).join(name)
}

/// Runs `install` unless it has succeeded before with exactly these `inputs`.
pub(crate) fn once(name: &str, inputs: &[PathBuf], install: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut key = Vec::new();
    for path in inputs {
        key.extend(fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?);
    }
    let stamp = work(&format!("{name}.installed"));
    if fs::read(&stamp).is_ok_and(|installed| installed == key) {
        return Ok(());
    }
    install()?;
    fs::write(&stamp, key).map_err(|error| format!("cannot write {}: {error}", stamp.display()))
}

/// One step of an installation; a registry may fail once.
pub(crate) fn step(command: &mut Command, patience: Duration) -> Result<()> {
    process::run(command, patience).or_else(|_| process::run(command, patience)).map(drop)
}

/// Whether a program of this name is on the `PATH`.
pub(crate) fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
