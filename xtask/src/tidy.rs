//! `cargo xtask tidy`: what no compiler looks at. Paths in the pages lead somewhere, no file names a directory of
//! the machine it was written on, and files that grow too long are named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::repository::{at, crates, entries, read, root, rust_files, shown};

/// A file with more lines of production code than this is named; it is no failure, but it wants a reason.
const PRODUCTION_LINES_MAX: usize = 600;

/// In code spans of the pages, what begins like this is a path from the top of the repository.
const PATH_PREFIXES: [&str; 7] = [".ci/", "crates/", "docs/", "examples/", "fuzz/", "interop/", "xtask/"];

/// Fails if a page has a dead path or a file a machine's.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    let [] = arguments else { return Err("usage: cargo xtask tidy".to_owned()) };
    for (path, lines) in long_files()? {
        println!("warning: {} has {lines} lines of production code", shown(&path));
    }
    let mut faults = dead_paths()?;
    faults.extend(machine_paths()?);
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// Files of the crates that are longer than they should be. Tests and generated code do not count.
fn long_files() -> Result<Vec<(PathBuf, usize)>, String> {
    let mut folders = crates()?;
    folders.extend(["examples/bank-transfer", "xtask"].map(|folder| root().join(folder)));
    let mut long = Vec::new();
    for folder in folders {
        for path in rust_files(&folder.join("src"))? {
            let name = shown(&path);
            if name.contains("/tests/") || name.ends_with("/tests.rs") || name.contains("/generated/") {
                continue;
            }
            let text = read(&path)?;
            let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
            if lines > PRODUCTION_LINES_MAX {
                long.push((path, lines));
            }
        }
    }
    Ok(long)
}

/// Links and paths in the pages that lead nowhere.
fn dead_paths() -> Result<Vec<String>, String> {
    let mut pages = Vec::new();
    let folders = ["", "docs", "docs/adr", "examples/bank-transfer", "interop"];
    for folder in folders.map(|folder| root().join(folder)) {
        let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
        pages.extend(entries(&folder)?.into_iter().filter(is_page));
    }
    let mut dead = Vec::new();
    for page in pages {
        let text = read(&page)?;
        let folder = page.parent().unwrap_or_else(|| Path::new(""));
        let spans = code_spans(&text).map(|path| (root().join(path), path));
        let links = links(&text).map(|path| (folder.join(path), path));
        for (path, written) in spans.chain(links) {
            if !path.exists() {
                dead.push(format!("{}: {written} does not exist", shown(&page)));
            }
        }
    }
    Ok(dead)
}

/// The paths that stand in code spans. A pattern is none, and what the interop suite makes need not be there.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.filter(|span| {
        PATH_PREFIXES.iter().any(|prefix| span.starts_with(prefix))
            && !span.contains([' ', '*', '<'])
            && !span.starts_with("interop/.work/")
    })
}

/// The targets of links to files, without their anchors.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .filter(|target| !target.contains(':') && !target.starts_with('#'))
        .filter_map(|target| target.split('#').next())
}

/// Files that name the directory of this working copy, the one it lies in, or the user's home.
fn machine_paths() -> Result<Vec<String>, String> {
    let top = root().canonicalize().map_err(|e| at(root(), &e))?;
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let mut machine = vec![format!("{}/", top.display())];
    // The directory of all temporary files is no machine's own.
    machine.extend(
        [home.as_path(), top.parent().unwrap_or(&top)]
            .into_iter()
            .filter(|path| path.components().count() > 1 && *path != std::env::temp_dir())
            .map(|path| format!("{}/", path.display())),
    );
    let mut faults = Vec::new();
    for path in files()? {
        // What is not text names nothing.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if let Some(named) = machine.iter().find(|named| text.contains(named.as_str())) {
            faults.push(format!("{}: names {named}, a directory of this machine", shown(&path)));
        }
    }
    Ok(faults)
}

/// The files that git has or would take.
fn files() -> Result<Vec<PathBuf>, String> {
    let mut command = Command::new("git");
    command
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root());
    let output = command.output().map_err(|e| format!("git: {e}"))?;
    if !output.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
    }
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(names.split_terminator('\0').map(|name| root().join(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        assert_eq!(run(&[]), Ok(()));
    }

    #[test]
    fn paths_in_pages_are_found() {
        let text = "See `crates/a/b.rs` and `crates/*/x.rs`, `cargo test`,\n[c](docs/c.md#d), [e](#e), [f](https://f/g).";
        assert_eq!(code_spans(text).collect::<Vec<_>>(), ["crates/a/b.rs"]);
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/c.md"]);
    }
}
