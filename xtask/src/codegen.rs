//! `cargo xtask codegen`: `crates/protocol/src/generated/` from `crates/protocol/schemas/`.
//!
//! The output is committed; `--check`, and a test, compare it with what would be generated and never write.

mod api_keys;
mod rust;
mod schema;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) use api_keys::Api;

use crate::repository::{at, entries, read, root};

/// `codegen` writes, `codegen --check` compares.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    match arguments {
        [] => write(),
        ["--check"] => check(),
        _ => Err("usage: cargo xtask codegen [--check]".to_owned()),
    }
}

/// Writes what is not current and removes what no schema stands for any more.
pub(crate) fn write() -> Result<(), String> {
    let directory = generated_directory();
    let wanted = generate()?;
    for path in stale(&directory, &wanted)? {
        match wanted.get(&path) {
            Some(text) => {
                fs::write(directory.join(&path), text).map_err(|e| at(&directory.join(&path), &e))?
            }
            None => fs::remove_file(directory.join(&path)).map_err(|e| at(&directory.join(&path), &e))?,
        }
    }
    Ok(())
}

/// Fails if anything would be written or removed.
pub(crate) fn check() -> Result<(), String> {
    let stale = stale(&generated_directory(), &generate()?)?;
    if stale.is_empty() {
        return Ok(());
    }
    Err(format!("not current: {}; run `cargo xtask codegen` and commit the result", stale.join(", ")))
}

/// Every API that Apache Kafka 4.3.1 or Dohle knows, in the order of the keys.
pub(crate) fn apis() -> Result<Vec<Api>, String> {
    let path = root().join("crates/protocol/schemas/apis.tsv");
    api_keys::parse(&read(&path)?).map_err(|e| at(&path, &e))
}

fn generated_directory() -> PathBuf {
    root().join("crates/protocol/src/generated")
}

/// The names of the files that are missing, differ, or should not exist.
fn stale(directory: &Path, wanted: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let mut stale = Vec::new();
    for (name, text) in wanted {
        if fs::read_to_string(directory.join(name)).ok().as_ref() != Some(text) {
            stale.push(name.clone());
        }
    }
    for path in entries(directory)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !wanted.contains_key(&name) {
            stale.push(name);
        }
    }
    Ok(stale)
}

/// All generated files: name and text.
fn generate() -> Result<BTreeMap<String, String>, String> {
    let schemas = root().join("crates/protocol/schemas");
    let mut messages = BTreeMap::new();
    for folder in entries(&schemas)?.into_iter().filter(|path| path.is_dir()) {
        for path in entries(&folder)? {
            let mut message = schema::parse(&read(&path)?).map_err(|e| at(&path, &e))?;
            message.ours = folder.ends_with("dohle");
            messages.insert(message.name.clone(), message);
        }
    }
    let apis = apis()?;

    let mut files = BTreeMap::new();
    for message in messages.values() {
        api_keys::check(&apis, message)?;
        let text = rust::message(message).map_err(|e| format!("{}: {e}", message.name))?;
        files.insert(format!("{}.rs", rust::snake(&message.name)), text);
    }
    files.insert("mod.rs".to_owned(), rust::module(messages.values()));
    files.insert("api_key.rs".to_owned(), api_keys::rust(&apis));
    for text in files.values_mut() {
        *text = rustfmt(text)?;
    }
    Ok(files)
}

/// The text as `cargo fmt` would leave it.
fn rustfmt(text: &str) -> Result<String, String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("rustfmt: {e}; install it with `rustup component add rustfmt`"))?;
    // Dropping stdin behind the write lets rustfmt begin; it prints only when it has read everything.
    let mut stdin = child.stdin.take().ok_or("rustfmt has no stdin")?;
    stdin.write_all(text.as_bytes()).map_err(|e| format!("rustfmt: {e}"))?;
    drop(stdin);
    let output = child.wait_with_output().map_err(|e| format!("rustfmt: {e}"))?;
    if !output.status.success() {
        return Err(format!("rustfmt refuses the generated text:\n{text}"));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("rustfmt: {e}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_generated_code_is_current() {
        assert_eq!(super::check(), Ok(()));
    }
}
