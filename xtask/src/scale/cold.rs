//! `cargo xtask scale cold`: how long producers wait for their acknowledgements while others read what was written long
//! ago and is not in the page cache any more, and how much of the page cache that takes.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};

use super::{Node, PATIENCE};
use crate::interop::process::{self, Process, Result};

const PARTITIONS: &str = "4";

/// Writes so much, and measures producers beside 0, 1, 2, 4 and again 0 readers of it.
pub(super) fn run(node: &Node<'_>, gigabytes: u64) -> Result<()> {
    let records = (gigabytes * 1_000_000).to_string();
    let words = ["bench", "produce", "--topic", "old", "--partitions", PARTITIONS, "--size", "1000"];
    let more = ["--batch-size", "100000", "--duration", "3600", "-n", &records];
    process::run(&mut node.command(&[&words[..], &more[..]].concat()), PATIENCE)?;
    node.tell(&format!("{gigabytes} GB written"))?;
    for readers in [0, 1, 2, 4, 0] {
        forget_pages(&node.broker.data())?;
        let cached = page_cache()?;
        let read = ["bench", "consume", "--topic", "old"];
        let begun = Instant::now();
        let mut reading = (0..readers)
            .map(|_| Process::spawn(node.command(&read).stdout(Stdio::null()).stderr(Stdio::null())))
            .collect::<Result<Vec<_>>>()?;
        thread::sleep(Duration::from_millis(200));
        let load =
            ["bench", "latency", "--topic", "new", "--rate", "1000", "--size", "1000", "--duration", "5"];
        let printed = node.dohle(&load)?;
        for process in &mut reading {
            process.wait(PATIENCE)?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        println!("{readers} readers:\n{printed}");
        if readers > 0 {
            let rate = 1000.0 * gigabytes as f64 * f64::from(readers) / seconds;
            println!("read at {rate:.0} MB/s together, page cache {:+.0} MB", page_cache()? - cached);
        }
    }
    node.tell("in the end")
}

/// Takes the records of the old topic out of the page cache.
fn forget_pages(data: &Path) -> Result<()> {
    let failed = |error: std::io::Error| format!("{}: {error}", data.display());
    for partition in fs::read_dir(data).map_err(failed)? {
        let partition = partition.map_err(failed)?;
        if !partition.file_name().to_string_lossy().starts_with("old-") {
            continue;
        }
        for file in fs::read_dir(partition.path()).map_err(failed)? {
            let file = File::open(file.map_err(failed)?.path()).map_err(failed)?;
            file.sync_data().map_err(failed)?;
            fadvise(&file, 0, None, Advice::DontNeed).map_err(|error| failed(error.into()))?;
        }
    }
    Ok(())
}

/// The size of the page cache, in MB.
fn page_cache() -> Result<f64> {
    let text = fs::read_to_string("/proc/meminfo").map_err(|error| format!("/proc/meminfo: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Cached:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.map(|kib| kib * 1024.0 / 1e6).ok_or_else(|| "/proc/meminfo has no Cached".to_owned())
}
