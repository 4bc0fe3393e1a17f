//! `cargo xtask verify`: everything that is checked besides the tests; it never writes. `cargo xtask fix` mends what
//! can be mended by a program.

use std::process::Command;
use std::time::Instant;

use crate::repository::root;
use crate::{codegen, docs, layers, tidy};

/// A name and what is done under it.
type Step = (&'static str, fn() -> Result<(), String>);

const CHECKS: [Step; 6] = [
    ("format", || cargo(&["fmt", "--all", "--check"])),
    ("layers", || layers::run(&[])),
    ("tidy", || tidy::run(&[])),
    ("codegen", codegen::check),
    ("docs", docs::check),
    ("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
];

/// Format last: what the others write is formatted too.
const MENDS: [Step; 3] =
    [("codegen", codegen::write), ("docs", docs::write), ("format", || cargo(&["fmt", "--all"]))];

/// Takes every check, also after one that failed.
pub(crate) fn verify(arguments: &[&str]) -> Result<(), String> {
    let [] = arguments else { return Err("usage: cargo xtask verify".to_owned()) };
    let failed: Vec<&str> = CHECKS.iter().filter(|step| !take(step)).map(|(name, _)| *name).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("verify: failed: {}", failed.join(", "))) }
}

/// Writes what is generated, and formats.
pub(crate) fn fix(arguments: &[&str]) -> Result<(), String> {
    let [] = arguments else { return Err("usage: cargo xtask fix".to_owned()) };
    MENDS.iter().try_for_each(|(name, mend)| mend().map_err(|error| format!("{name}: {error}")))
}

/// Takes one check and tells its outcome; whether it passed.
fn take((name, check): &Step) -> bool {
    let begun = Instant::now();
    let outcome = check();
    let took = begun.elapsed().as_secs_f64();
    match &outcome {
        Ok(()) => println!("ok      {name} ({took:.1} s)"),
        Err(error) => println!("FAILED  {name} ({took:.1} s)\n{error}"),
    }
    outcome.is_ok()
}

/// Runs a command of cargo, which says itself what is wrong.
fn cargo(arguments: &[&str]) -> Result<(), String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program).args(arguments).current_dir(root()).status();
    match status.map_err(|error| format!("cargo: {error}"))? {
        status if status.success() => Ok(()),
        status => Err(format!("cargo {}: {status}", arguments.join(" "))),
    }
}
