//! `cargo xtask oracle` runs Apache Kafka in the foreground, to be asked how it behaves; `cargo xtask tool` runs one of its tools.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use super::process::Result;
use super::{broker, install, java};

const USAGE: &str = "usage: cargo xtask oracle [--port N] [--data DIR] [--override NAME=VALUE]...";

/// Formats a single node and becomes it. Without `--data` it begins with no data.
pub(crate) fn oracle(arguments: &[&str]) -> Result<()> {
    let mut port = 9092;
    let mut directory: Option<PathBuf> = None;
    let mut overrides = Vec::new();
    let mut words = arguments.iter();
    while let Some(&word) = words.next() {
        let &value = words.next().ok_or(USAGE)?;
        match word {
            "--port" => port = value.parse().map_err(|_| format!("{value} is no port\n{USAGE}"))?,
            "--data" => directory = Some(PathBuf::from(value)),
            "--override" => overrides.push(value),
            _ => return Err(USAGE.to_owned()),
        }
    }
    java::install()?;
    let directory = directory.unwrap_or_else(|| {
        let fresh = install::work(&format!("oracle-{port}"));
        let _ = fs::remove_dir_all(&fresh);
        fresh
    });
    fs::create_dir_all(&directory)
        .map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
    let directory = directory.canonicalize().map_err(|error| error.to_string())?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    broker::format(&directory, address, &overrides)?;
    println!(
        "Apache Kafka will listen on {address}; its data is in {}; Ctrl-C ends it",
        directory.join("data").display()
    );
    let error = broker::server(&broker::properties(&directory)).exec();
    Err(format!("cannot run java: {error}"))
}

/// Becomes one of Apache Kafka's tools, with its arguments.
pub(crate) fn tool(arguments: &[&str]) -> Result<()> {
    java::install()?;
    let (name, rest) = arguments.split_first().ok_or("usage: cargo xtask tool NAME [ARGUMENT]...")?;
    let error = java::tool(name)?.args(rest).exec();
    Err(format!("cannot run java: {error}"))
}
