//! `cargo xtask fuzz`: builds the targets of `fuzz/` for libFuzzer and runs each for some seconds. Needs a nightly
//! toolchain, for its sanitizers; without one all targets are skipped, or fail where `DOHLE_FUZZ=require` is set.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::repository::{at, entries, root};

const USAGE: &str = "usage: cargo xtask fuzz [--seconds N] [--seed N] [TARGET]...";
const SECONDS: u32 = 10;

/// What `cargo fuzz` would tell the compiler: coverage for libFuzzer, and the address sanitizer.
const RUSTFLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Zsanitizer=address",
    "--cfg",
    "fuzzing",
];

/// An input that takes so much memory, or so long, is a finding. The largest window of zstd is 128 MiB.
const LIMITS: &[&str] =
    &["-rss_limit_mb=512", "-malloc_limit_mb=192", "-timeout=10", "-max_len=65536", "-detect_leaks=0"];

/// Runs all targets, or those that are named; an error if one failed.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    let Arguments { seconds, seed, named } = parse(arguments)?;
    let mut targets = targets()?;
    if let Some(unknown) = named.iter().find(|name| !targets.iter().any(|target| target == *name)) {
        return Err(format!("there is no target {unknown}; there are {}", targets.join(", ")));
    }
    targets.retain(|target| named.is_empty() || named.contains(&target.as_str()));
    let Some(host) = nightly_host() else {
        return conclude_without_nightly(&targets);
    };
    let programs = build(&host)?;
    let seeds = work("seeds");
    execute(Command::new(programs.join("seeds")).arg(&seeds))?;
    let mut failed = 0;
    for target in &targets {
        match fuzz(&programs, &seeds, target, seconds, seed) {
            Ok(()) => println!("ok      {target} ({seconds} s)"),
            Err(error) => {
                println!("FAILED  {target}: {error}");
                failed += 1;
            }
        }
    }
    println!("fuzz: {} passed, {failed} failed, 0 skipped", targets.len() - failed);
    if failed == 0 { Ok(()) } else { Err("what was found is in fuzz/artifacts".to_owned()) }
}

struct Arguments<'a> {
    seconds: u32,
    /// What the mutations are drawn from; 0 draws it too. CI fixes it: what it meets there it met before.
    seed: u32,
    named: Vec<&'a str>,
}

fn parse<'a>(arguments: &[&'a str]) -> Result<Arguments<'a>, String> {
    let (mut seconds, mut seed) = (SECONDS, 0);
    let mut named = Vec::new();
    let mut words = arguments.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "--seconds" => seconds = words.next().and_then(|n| n.parse().ok()).ok_or(USAGE)?,
            "--seed" => seed = words.next().and_then(|n| n.parse().ok()).ok_or(USAGE)?,
            name if !name.starts_with('-') => named.push(name),
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(Arguments { seconds, seed, named })
}

/// The names of the targets, by their files.
fn targets() -> Result<Vec<String>, String> {
    let files = entries(&root().join("fuzz/src/bin"))?;
    let names = files.iter().filter_map(|path| path.file_stem()?.to_str());
    Ok(names.filter_map(|name| name.strip_prefix("fuzz_")).map(str::to_owned).collect())
}

/// The platform that the nightly toolchain is for; `None` where there is no such toolchain.
fn nightly_host() -> Option<String> {
    let output = Command::new("rustc").args(["+nightly", "--version", "--verbose"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

fn conclude_without_nightly(targets: &[String]) -> Result<(), String> {
    let required = std::env::var("DOHLE_FUZZ").is_ok_and(|mode| mode == "require");
    let word = if required { "FAILED" } else { "skipped" };
    for target in targets {
        println!(
            "{word} {target}: no nightly toolchain (rustup toolchain install nightly --profile minimal)"
        );
    }
    let count = targets.len();
    let (failed, skipped) = if required { (count, 0) } else { (0, count) };
    println!("fuzz: 0 passed, {failed} failed, {skipped} skipped");
    if required { Err("DOHLE_FUZZ=require, but there is no nightly toolchain".to_owned()) } else { Ok(()) }
}

/// Builds all targets; the directory they are in.
fn build(host: &str) -> Result<PathBuf, String> {
    // The toolchain that runs this command says so in the environment, which must not go to the other one. And a
    // target is named so that the flags do not reach build scripts.
    let mut command = Command::new("cargo");
    command
        .args(["+nightly", "build", "--release", "--bins", "--target", host, "--target-dir"])
        .arg(work("target"))
        .current_dir(root().join("fuzz"))
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\u{1f}"))
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN");
    execute(&mut command)?;
    Ok(work("target").join(host).join("release"))
}

/// Runs a target on the seeds and on what earlier runs found.
fn fuzz(programs: &Path, seeds: &Path, target: &str, seconds: u32, seed: u32) -> Result<(), String> {
    let name = format!("fuzz_{target}");
    let corpus = work("corpus").join(&name);
    let artifacts = work("artifacts");
    for directory in [&corpus, &artifacts] {
        std::fs::create_dir_all(directory).map_err(|error| at(directory, &error))?;
    }
    let mut command = Command::new(programs.join(&name));
    command
        .args(LIMITS)
        .args([format!("-max_total_time={seconds}"), format!("-seed={seed}")])
        .arg(format!("-artifact_prefix={}/{target}-", artifacts.display()))
        .args(["-print_final_stats=1", "-print_funcs=0", "-verbosity=0"])
        .args([&corpus, &seeds.join(&name)]);
    execute(&mut command)
}

/// A directory of what is built and found; ignored by git.
fn work(name: &str) -> PathBuf {
    root().join("fuzz").join(name)
}

fn execute(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.status().map_err(|error| format!("cannot start {program}: {error}"))? {
        status if status.success() => Ok(()),
        status => Err(format!("{program}: {status}")),
    }
}
