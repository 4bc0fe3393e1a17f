//! `cargo xtask scale cold`: how long producers wait for their acknowledgements while others read what was written long
//! ago and is in no cache any more.
//!
//! So that it is the reading from the disk that is seen, and not the readers' share of the machine, the same reading is
//! done of what is in memory, at the same rate, with the broker on one core and all clients on another one. The kinds
//! of readers alternate, there and back again, so that a machine that becomes slower on the way does so for all of
//! them. What counts are the ratios of neighbours.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::fs::{Advice, fadvise};
use serde_json::Value;

use super::{Node, PATIENCE};
use crate::interop::broker::Target;
use crate::interop::process::{self, BROKER_CORE, CLIENT_CORE, Process, Result, pin};

const PARTITIONS: &str = "4";
/// Of each producers' load, in seconds.
const SECONDS: &str = "5";
/// Readers begin before and end after it.
const READ_SECONDS: &str = "6";
const SIZE: u64 = 1000;
/// What is small enough for the hot tails, in records.
const RECENT: &str = "16000";

/// Whom the producers have beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Beside {
    Nobody,
    /// Readers of what was just written.
    Recent,
    /// Readers of what was written long ago and is in the page cache.
    Cached,
    /// Readers of what is on the disk only.
    Cold,
}

impl Beside {
    const ALL: [Self; 4] = [Self::Nobody, Self::Recent, Self::Cached, Self::Cold];

    const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Recent => "readers of what was just written",
            Self::Cached => "catch-up readers, from the page cache",
            Self::Cold => "catch-up readers, from the disk",
        }
    }
}

/// What the broker must be told, which will be on one core alone.
pub(super) fn overrides(target: &Target, relaxed: bool) -> Result<&'static [&'static str]> {
    pin(BROKER_CORE)?;
    Ok(match (target, relaxed) {
        (Target::Dohle(_), true) => &["dohle.durability=relaxed"],
        (Target::Kafka, false) => &["log.flush.interval.messages=1"],
        (Target::Dohle(_), false) | (Target::Kafka, true) => &[],
    })
}

/// Writes so many gigabytes, and measures producers beside readers of each kind, who read so many MB a second.
pub(super) fn run(node: &Node<'_>, gigabytes: u64, rate: u64, rounds: u64) -> Result<()> {
    pin(CLIENT_CORE)?;
    write(node, "old", &(gigabytes * 1_000_000_000 / SIZE).to_string())?;
    node.tell(&format!("{gigabytes} GB written"))?;
    let mut passes: BTreeMap<Beside, Vec<Figures>> = BTreeMap::new();
    for round in 1..=rounds {
        let there = Beside::ALL.into_iter();
        for (number, beside) in there.clone().chain(there.rev()).enumerate() {
            let figures = pass(node, beside, rate, &format!("recent-{round}-{number}"))?;
            println!("round {round} of {rounds}, beside {}: {}", beside.name(), figures.told());
            passes.entry(beside).or_default().push(figures);
        }
    }
    println!("\n{}", table(&passes));
    node.tell("in the end")
}

/// Measures producers once.
fn pass(node: &Node<'_>, beside: Beside, rate: u64, recent: &str) -> Result<Figures> {
    let old = files(&node.broker.data(), "old-")?;
    let topic = match beside {
        Beside::Nobody => None,
        Beside::Recent => {
            write(node, recent, RECENT)?;
            Some(recent)
        }
        Beside::Cached => {
            old.iter().try_for_each(|file| {
                std::io::copy(&mut open(file)?, &mut std::io::sink()).map(drop).map_err(failed(file))
            })?;
            Some("old")
        }
        Beside::Cold => {
            old.iter().try_for_each(|file| forget(file))?;
            Some("old")
        }
    };
    let before = read_bytes(node)?;
    let rate = (rate * 1_000_000 / SIZE).to_string();
    let said = node.broker.log().with_file_name("readers.txt");
    let mut reader = match topic {
        Some(topic) => {
            let words = ["bench", "consume", "--topic", topic, "-c", PARTITIONS, "--json"];
            let more = ["--rate", &rate, "--duration", READ_SECONDS];
            let mut command = node.command(&[&words[..], &more[..]].concat());
            let output = File::create(&said).map_err(failed(&said))?;
            Some((Process::spawn(command.stdout(output).stderr(Stdio::null()))?, topic))
        }
        None => None,
    };
    thread::sleep(Duration::from_millis(500));
    let printed = node.dohle(&[
        "bench",
        "latency",
        "--topic",
        "new",
        "--rate",
        "1000",
        "--size",
        "1000",
        "--duration",
        SECONDS,
        "--json",
    ])?;
    let mut read = 0.0;
    if let Some((process, topic)) = &mut reader {
        let status = process.wait(PATIENCE)?;
        if !status.success() {
            return Err(format!("the readers of {topic} ended with {status}"));
        }
        read = figure(&fs::read_to_string(&said).map_err(failed(&said))?, "data rate")?;
    }
    Ok(Figures {
        p50: figure(&printed, "p50")?,
        p99: figure(&printed, "p99")?,
        max: figure(&printed, "max")?,
        read,
        from_disk: (read_bytes(node)? - before) / 1e6,
        cached: cached(&old)? / 1e6,
    })
}

/// What a pass came to.
struct Figures {
    p50: f64,
    p99: f64,
    max: f64,
    /// What the readers read, in MB a second.
    read: f64,
    /// What the broker has had the disk read, in MB.
    from_disk: f64,
    /// What is in the page cache of what was written long ago, in MB.
    cached: f64,
}

impl Figures {
    fn told(&self) -> String {
        format!(
            "p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms; read {:.0} MB/s, {:.0} MB from the disk, {:.0} MB in the page cache",
            self.p50, self.p99, self.max, self.read, self.from_disk, self.cached
        )
    }
}

/// One figure of what `dohle bench` printed.
fn figure(printed: &str, name: &str) -> Result<f64> {
    let rows = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut found = rows.filter(|row| row.get("measure").and_then(Value::as_str) == Some(name));
    let value = found.next().and_then(|row| row.get("value").and_then(Value::as_f64));
    value.ok_or_else(|| format!("no {name} in the result\n{printed}"))
}

/// The medians, and how many times the p99 is that beside readers who do the same without the disk.
fn table(passes: &BTreeMap<Beside, Vec<Figures>>) -> String {
    let mut text = String::from(
        "| beside | p50, ms | p99, ms | max, ms | read, MB/s | p99, times that beside readers from the page cache |\n|---|---|---|---|---|---|\n",
    );
    for (beside, figures) in passes {
        let of = |value: fn(&Figures) -> f64| median(figures.iter().map(value).collect());
        let neighbours = passes.get(&Beside::Cached).into_iter().flatten();
        let mut ratios: Vec<f64> =
            figures.iter().zip(neighbours).map(|(pass, cached)| pass.p99 / cached.p99).collect();
        ratios.sort_by(f64::total_cmp);
        let (low, high) = (ratios.first().unwrap_or(&0.0), ratios.last().unwrap_or(&0.0));
        text.push_str(&format!(
            "| {} | {:.2} | {:.2} | {:.1} | {:.0} | {:.2} ({low:.2} to {high:.2}) |\n",
            beside.name(),
            of(|pass| pass.p50),
            of(|pass| pass.p99),
            of(|pass| pass.max),
            of(|pass| pass.read),
            median(ratios.clone()),
        ));
    }
    text
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    if values.len().is_multiple_of(2) {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    } else {
        at(middle)
    }
}

fn write(node: &Node<'_>, topic: &str, records: &str) -> Result<()> {
    let size = SIZE.to_string();
    let words = ["bench", "produce", "--topic", topic, "--partitions", PARTITIONS, "--size", &size];
    let more = ["--batch-size", "100000", "--duration", "3600", "-n", records];
    process::run(&mut node.command(&[&words[..], &more[..]].concat()), PATIENCE).map(drop)
}

/// The files of the partitions whose names begin so.
fn files(data: &Path, prefix: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for partition in fs::read_dir(data).map_err(failed(data))? {
        let partition = partition.map_err(failed(data))?;
        if partition.file_name().to_string_lossy().starts_with(prefix) {
            for file in fs::read_dir(partition.path()).map_err(failed(data))? {
                files.push(file.map_err(failed(data))?.path());
            }
        }
    }
    Ok(files)
}

/// Takes a file out of the page cache.
fn forget(path: &Path) -> Result<()> {
    let file = open(path)?;
    file.sync_data().map_err(failed(path))?;
    fadvise(&file, 0, None, Advice::DontNeed).map_err(|error| failed(path)(error.into()))
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(failed(path))
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> String + use<'_> {
    |error| format!("{}: {error}", path.display())
}

/// How many bytes of files are in the page cache.
fn cached(files: &[PathBuf]) -> Result<f64> {
    let mut command = Command::new("fincore");
    command.args(["--bytes", "--noheadings", "--output", "RES"]).args(files);
    let printed = process::run(&mut command, PATIENCE)?;
    Ok(printed.lines().filter_map(|line| line.trim().parse::<f64>().ok()).sum())
}

/// What the broker has had disks read so far.
fn read_bytes(node: &Node<'_>) -> Result<f64> {
    let path = format!("/proc/{}/io", node.broker.pid()?);
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("read_bytes:"));
    line.and_then(|line| line.trim().parse().ok()).ok_or_else(|| format!("{path} has no read_bytes"))
}
