//! `cargo xtask bench kafka`: Apache Kafka and Dohle side by side, driven by the same client on the same machine in
//! one run.
//!
//! The broker has one core to itself and the client another one, so that CPU time is comparable and neither disturbs
//! the other. The two sides alternate A B B A, each time with a new process and an empty data directory, so that a
//! machine that becomes slower or faster on the way does so for both. What counts are the ratios of neighbours and
//! their range. `--against itself` measures Apache Kafka against Apache Kafka: what that gives besides 1.00 is the
//! noise of the machine.

mod loads;
mod pass;
mod table;

use std::path::PathBuf;

use crate::interop::broker::Target;
use crate::interop::process::{self, Result};
use crate::interop::{dohle_binary, java};
use loads::{LOADS, Load};
use pass::Durability;

const USAGE: &str = "usage: cargo xtask bench kafka [--rounds N] [--seconds N] [--warm-up REQUESTS] \
     [--durability relaxed|durable] [--only LOAD]... [--against dohle|itself] [--bin PATH]";

/// What is measured, and how long.
pub(crate) struct Options<'a> {
    /// How often A B B A.
    rounds: usize,
    /// Of each load, besides the warm-up.
    pub(crate) seconds: u32,
    /// Requests that a JVM is given before it is measured, which also take half a minute at the least.
    pub(crate) warm_up_requests: u64,
    pub(crate) durability: Durability,
    only: Vec<&'a str>,
    against_itself: bool,
    bin: Option<PathBuf>,
}

/// Runs the loads on both brokers and prints the comparison as a table in Markdown.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let options = Options::parse(arguments)?;
    process::end_with_us()?;
    java::install()?;
    let binary = dohle_binary(options.bin.as_deref())?;
    let other = if options.against_itself { Target::Kafka } else { Target::Dohle(binary.clone()) };
    let loads: Vec<&Load> = LOADS.iter().filter(|load| options.includes(load)).collect();
    let (mut kafka, mut others) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let order = [(&Target::Kafka, false), (&other, true), (&other, true), (&Target::Kafka, false)];
        for (target, is_other) in order {
            println!("round {round} of {}: {}", options.rounds, target.name());
            let measured = pass::run(target, &binary, &loads, &options)?;
            if is_other { &mut others } else { &mut kafka }.push(measured);
        }
    }
    println!("\n{}", table::compare(other.name(), &kafka, &others));
    Ok(())
}

impl<'a> Options<'a> {
    fn parse(arguments: &[&'a str]) -> Result<Self> {
        let mut options = Self {
            rounds: 5,
            seconds: 5,
            warm_up_requests: 1_000_000,
            durability: Durability::Relaxed,
            only: Vec::new(),
            against_itself: false,
            bin: None,
        };
        let mut words = arguments.iter().copied();
        if words.next() != Some("kafka") {
            return Err(USAGE.to_owned());
        }
        while let Some(word) = words.next() {
            let value = words.next().ok_or(USAGE)?;
            let invalid = |_| format!("{word} {value}: not a number\n{USAGE}");
            match (word, value) {
                ("--rounds", number) => options.rounds = number.parse().map_err(invalid)?,
                ("--seconds", number) => options.seconds = number.parse().map_err(invalid)?,
                ("--warm-up", number) => options.warm_up_requests = number.parse().map_err(invalid)?,
                ("--durability", "relaxed") => options.durability = Durability::Relaxed,
                ("--durability", "durable") => options.durability = Durability::Durable,
                ("--only", name) if LOADS.iter().any(|load| load.name == name) => options.only.push(name),
                ("--only", name) => {
                    let names: Vec<&str> = LOADS.iter().map(|load| load.name).collect();
                    return Err(format!("no load {name}; there are {}", names.join(", ")));
                }
                ("--against", "itself") => options.against_itself = true,
                ("--against", "dohle") => options.against_itself = false,
                ("--bin", path) => options.bin = Some(PathBuf::from(path)),
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(options)
    }

    fn includes(&self, load: &Load) -> bool {
        if self.only.is_empty() { !load.by_name_only } else { self.only.contains(&load.name) }
    }
}
