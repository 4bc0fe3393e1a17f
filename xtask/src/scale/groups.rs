//! `cargo xtask scale groups`: thousands of members of groups, by both protocols: how long until all have their
//! partitions, what that and their heartbeats and commits cost the broker, and how long these take. The same client
//! does it to Apache Kafka and to Dohle, A B B A, each time with a new process and an empty data directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{PATIENCE, Side};
use crate::interop::broker::{Broker, Target};
use crate::interop::process::{self, Result};
use crate::interop::{install, java};

/// How many groups of how many members.
const SHAPES: [(u32, u32); 3] = [(1, 1000), (100, 100), (1000, 1)];
const PROTOCOLS: [&str; 2] = ["classic", "consumer"];
/// What is compared; all of it is better where it is less.
const FIGURES: [&str; 7] = [
    "join",
    "join CPU",
    "heartbeat p99",
    "live CPU per heartbeat",
    "commit p99",
    "commit CPU per commit",
    "memory",
];

/// The figures by what was measured and which figure.
type Figures = BTreeMap<(String, &'static str), f64>;

/// Measures the broker that was asked for, or both side by side.
pub(super) fn run(binary: &Path, side: Side, rounds: u64) -> Result<()> {
    let dohle = Target::Dohle(binary.to_owned());
    if side != Side::Dohle {
        java::install()?;
    }
    let order = match side {
        Side::Dohle => vec![&dohle],
        Side::Kafka => vec![&Target::Kafka],
        Side::Both => vec![&Target::Kafka, &dohle, &dohle, &Target::Kafka],
    };
    let (mut kafka, mut dohles) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        for target in &order {
            println!("round {round} of {rounds}: {}", target.name());
            let figures = pass(target, binary)?;
            if let Target::Kafka = target { &mut kafka } else { &mut dohles }.push(figures);
        }
    }
    if side == Side::Both {
        compare(&kafka, &dohles);
    }
    Ok(())
}

fn pass(target: &Target, binary: &Path) -> Result<Figures> {
    let directory = install::work("scale");
    let broker = Broker::start(target, &directory, &[])?;
    let mut figures = Figures::new();
    if let Target::Kafka = target {
        // A JVM compiles what it has run often.
        for _ in 0..3 {
            for protocol in PROTOCOLS {
                bench(&broker, binary, (20, 50), protocol, "warm")?;
            }
        }
    }
    for shape @ (groups, members) in SHAPES {
        for protocol in PROTOCOLS {
            let measured = bench(&broker, binary, shape, protocol, protocol)?;
            let what = format!("{groups} x {members} {protocol}");
            let mut told = Vec::new();
            for name in FIGURES {
                let (value, unit) = measured.get(name).ok_or_else(|| format!("{what}: no {name}"))?;
                told.push(format!("{name} {value:.3} {unit}"));
                figures.insert((what.clone(), name), *value);
            }
            println!("  {what}: {}", told.join(", "));
        }
    }
    drop(broker);
    let _ = fs::remove_dir_all(&directory);
    Ok(figures)
}

fn bench(
    broker: &Broker,
    binary: &Path,
    (groups, members): (u32, u32),
    protocol: &str,
    prefix: &str,
) -> Result<BTreeMap<String, (f64, String)>> {
    let prefix = format!("{prefix}-{groups}");
    let topic = format!("members-{members}");
    let (groups, members, pid) = (groups.to_string(), members.to_string(), broker.pid()?.to_string());
    let mut command = Command::new(binary);
    command.args(["bench", "groups", "--json", "--protocol", protocol, "--prefix", &prefix]);
    command.args(["--topic", &topic, "--groups", &groups, "--members", &members, "--server-pid", &pid]);
    command.args(["--bootstrap-server", &broker.bootstrap()]);
    let printed = process::run(&mut command, PATIENCE)?;
    let mut figures = BTreeMap::new();
    for line in printed.lines() {
        let row: Value = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
        let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
        if let (Some(name), Some(value)) = (text("measure"), row.get("value").and_then(Value::as_f64)) {
            figures.insert(name, (value, text("unit").unwrap_or_default()));
        }
    }
    Ok(figures)
}

/// Prints the medians and their ratios as a table in Markdown.
fn compare(kafka: &[Figures], dohle: &[Figures]) {
    println!("\n| | figure | Apache Kafka | Dohle | ratio |\n|---|---|---|---|---|");
    for (what, name) in kafka.iter().chain(dohle).flat_map(Figures::keys).collect::<BTreeSet<_>>() {
        let key = (what.clone(), *name);
        let (theirs, ours) = (median(kafka, &key), median(dohle, &key));
        println!("| {what} | {name} | {theirs:.3} | {ours:.3} | {:.3} |", ours / theirs);
    }
}

fn median(passes: &[Figures], key: &(String, &'static str)) -> f64 {
    let mut values: Vec<f64> = passes.iter().filter_map(|figures| figures.get(key).copied()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    if values.len().is_multiple_of(2) {
        f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
    } else {
        at(middle)
    }
}
