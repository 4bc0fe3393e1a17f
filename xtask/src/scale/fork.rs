//! `cargo xtask scale fork`: how long it takes to fork a topic, and how much disk that takes, when it is small and when
//! it has several GB.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use super::{Node, PATIENCE};
use crate::interop::process::{self, Result};

const PARTITIONS: &str = "8";

/// Forks a topic of a tenth of that, and again when it has all of it.
pub(super) fn run(node: &mut Node<'_>, gigabytes: u64) -> Result<()> {
    let megabytes = gigabytes * 1000;
    node.dohle(&["topic", "create", "much", "--partitions", PARTITIONS])?;
    let mut written = 0;
    for (name, size) in [("early", megabytes / 10), ("late", megabytes)] {
        let records = ((size - written) * 1000).to_string();
        let words = ["bench", "produce", "--topic", "much", "--size", "1000", "--batch-size", "100000"];
        let more = ["--duration", "3600", "-n", &records];
        process::run(&mut node.command(&[&words[..], &more[..]].concat()), PATIENCE)?;
        written = size;
        // Twice, since the first one also syncs what the journal has of the source.
        for fork in [name.to_owned(), format!("{name}.again")] {
            let before = used(&node.broker.data())?;
            let begun = Instant::now();
            node.dohle(&["topic", "fork", "much", &fork])?;
            let took = begun.elapsed();
            let kilobytes = used(&node.broker.data())?.saturating_sub(before) / 1000;
            println!("{size} MB forked in {took:.1?}, which took {kilobytes} kB of the disk");
        }
        let begun = Instant::now();
        node.dohle(&["topic", "describe", "much"])?;
        println!("a topic described in {:.1?}: most of that is the client's start", begun.elapsed());
    }
    node.broker.kill();
    node.resume("killed", "late")
}

/// Bytes that a directory takes on the disk, each file counted once however many names it has.
fn used(directory: &Path) -> Result<u64> {
    let mut files = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let metadata = entry.metadata().map_err(failed)?;
            if metadata.is_dir() {
                directories.push(entry.path());
            }
            files.insert(metadata.ino(), metadata.blocks() * 512);
        }
    }
    Ok(files.values().sum())
}
