//! Transcripts of Apache Kafka's tools (`interop/transcripts`): what they print with every option must be, line by line,
//! what they print against Apache Kafka. `interop/java/Transcript.java` runs the commands of one in a single JVM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::broker::{Broker, Target};
use super::process::{self, Result};
use super::report::Report;
use super::{OVERRIDES, install, java};

const NAME: &str = "transcripts";
const PATIENCE: Duration = Duration::from_secs(180);
/// A batch of a transaction is taken without asking its coordinator: so are transactions made that hang.
const UNVERIFIED: &str = "transaction.partition.verification.enable=false";

/// Runs each transcript against a broker of its own.
pub(crate) fn run(report: &Report, target: &Target) {
    let found = fs::read_dir(install::source(NAME)).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = found.map(|entry| entry.path()).collect();
    files.sort();
    if files.is_empty() {
        report.step(NAME, "find them", || Err(format!("none in {}", install::source(NAME).display())));
    }
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        report.step(NAME, &format!("{name}: what the tools print with every option"), || {
            let mut broker =
                Broker::start(target, &install::work(NAME), &[OVERRIDES, &[UNVERIFIED]].concat())?;
            let compared = compare(&broker.bootstrap(), &file, target);
            broker.stop()?;
            compared
        });
    }
}

/// What is printed now is left beside the broker's data, with the name of the target: to change a transcript, run it
/// with Apache Kafka and take that.
fn compare(bootstrap: &str, transcript: &Path, target: &Target) -> Result<()> {
    let expected = read(transcript)?;
    let files = install::work("transcripts-files");
    fs::create_dir_all(&files).map_err(|error| format!("cannot create {}: {error}", files.display()))?;
    let mut command = java::command("Transcript");
    command.arg(bootstrap).args([transcript, &files]);
    command.args(java::TOOLS.iter().map(|(name, class)| format!("{name}={class}")));
    let printed = process::run_fed(&mut command, Stdio::null(), PATIENCE)?.stdout;
    let name = transcript.file_stem().unwrap_or_default().to_string_lossy();
    let now = files.join(format!("{name}-{}.txt", target.name().replace(' ', "-")));
    fs::write(&now, &printed).map_err(|error| format!("cannot write {}: {error}", now.display()))?;
    let differing: Vec<String> = commands(&expected)
        .zip(commands(&printed))
        .filter(|(expected, printed)| expected != printed)
        .map(|(expected, printed)| format!("expected\n{expected}printed\n{printed}"))
        .collect();
    match differing.as_slice() {
        [] if commands(&expected).count() == commands(&printed).count() => Ok(()),
        [] => Err(format!("not all commands were run: {}", now.display())),
        differing => {
            Err(format!("{} differ, see {}\n{}", differing.len(), now.display(), differing.join("\n")))
        }
    }
}

/// The commands of a transcript, each with what it printed.
fn commands(transcript: &str) -> impl Iterator<Item = &str> {
    transcript.split("\n$ ").skip(1).map(|part| part.split("\n\n").next().unwrap_or(part))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}
