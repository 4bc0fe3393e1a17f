//! `cargo xtask pipe`: a real file of at least 200 MB goes through the broker by lines while the broker is killed again and again, and the same
//! bytes must come back.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::broker::{Broker, Target};
use super::install;
use super::java;
use super::process::{self, Conversation, Result};

/// The file is at least this long.
const BYTES: u64 = 200 * 1000 * 1000;
/// Longer lines than this do not fit a record with the default limits.
const LINE_MAX: usize = 500_000;
/// The broker is killed when so many hundredths of the lines have been acknowledged.
const KILLS: [u64; 3] = [20, 45, 75];
const PATIENCE: Duration = Duration::from_secs(180);

/// Pipes the file through; an error if other bytes come back, or too few.
pub(crate) fn run(target: &Target) -> Result<()> {
    java::install()?;
    let (file, lines) = text_file()?;
    let size = fs::metadata(&file).map_err(|error| error.to_string())?.len();
    println!("pipe: {size} bytes in {lines} lines of text of this machine");
    let mut broker = Broker::start(target, &install::work("pipe"), &[])?;
    let begun = Instant::now();
    produce(&mut broker, &file, lines)?;
    println!(
        "pipe: all lines acknowledged after {:.1} s, {} kills among them",
        begun.elapsed().as_secs_f64(),
        KILLS.len()
    );
    broker.kill();
    broker.resume()?;
    let back = install::work("pipe.back");
    let output = File::create(&back).map_err(|error| format!("cannot create {}: {error}", back.display()))?;
    let mut command = java::server_command("warn");
    command.args(["Client", "drain", &broker.bootstrap(), "pipe", &lines.to_string()]);
    process::run_into(&mut command, output.into(), PATIENCE)
        .map_err(|error| format!("{error}\n{}", broker.said()))?;
    broker.stop()?;
    let (sent, received) = (sha256(&file)?, sha256(&back)?);
    if sent != received {
        return Err(format!("sent {}, received {}\n{sent}{received}", file.display(), back.display()));
    }
    println!("pipe: the same bytes came back after {:.1} s: sha256 {sent}", begun.elapsed().as_secs_f64());
    // They are large; the broker's data too.
    let _ = fs::remove_file(&back);
    let _ = fs::remove_dir_all(broker.data());
    Ok(())
}

/// Produces the file's lines in order, and kills and restarts the broker on the way.
fn produce(broker: &mut Broker, file: &Path, lines: u64) -> Result<()> {
    let mut command = java::server_command("warn");
    command.args(["Client", "fill", &broker.bootstrap(), "pipe"]).arg(file);
    let producer = Conversation::start(&mut command)?;
    let deadline = Instant::now() + PATIENCE;
    let mut kills = KILLS.iter().map(|hundredth| lines * hundredth / 100).peekable();
    loop {
        match producer.hear(deadline) {
            // Each line says how many have been acknowledged so far.
            Ok(Some(line)) => {
                let acknowledged: u64 = line.parse().map_err(|_| format!("the producer says {line}"))?;
                if acknowledged == lines {
                    break;
                }
                if kills.next_if(|&kill| acknowledged >= kill).is_some() {
                    broker.kill();
                    let took = broker.resume()?;
                    println!(
                        "pipe: killed after {acknowledged} lines; listens again after {:.2} s",
                        took.as_secs_f64()
                    );
                }
            }
            Ok(None) => {
                return Err(format!(
                    "not all lines acknowledged after {PATIENCE:?}\n{}\n{}",
                    producer.errors(),
                    broker.said()
                ));
            }
            Err(error) => return Err(format!("{error}\n{}", broker.said())),
        }
    }
    if kills.next().is_some() {
        return Err("the broker was not killed as often as it should have been".to_owned());
    }
    Ok(())
}

/// A file of the text that is on every machine with a Rust toolchain: sources, documentation; again and again until it is large enough.
fn text_file() -> Result<(PathBuf, u64)> {
    let file = install::work("pipe.txt");
    let output = File::create(&file).map_err(|error| format!("cannot create {}: {error}", file.display()))?;
    let mut output = BufWriter::new(output);
    let sysroot = process::run(Command::new("rustc").args(["--print", "sysroot"]), Duration::from_secs(30))?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let roots = [
        home.map(|home| home.join("registry/src")),
        Some(PathBuf::from(sysroot.trim())),
        Some(PathBuf::from("/usr/share")),
    ];
    let (mut written, mut lines) = (0, 0);
    while written < BYTES {
        let before = written;
        for root in roots.iter().flatten() {
            append(root, &mut output, &mut written, &mut lines)?;
        }
        if written == before {
            return Err("there is no text on this machine".to_owned());
        }
    }
    output.flush().map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    Ok((file, lines))
}

/// Appends the text files below a folder until there is enough.
fn append(folder: &Path, output: &mut impl Write, written: &mut u64, lines: &mut u64) -> Result<()> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if *written >= BYTES {
            break;
        }
        let Ok(kind) = path.symlink_metadata() else { continue };
        if kind.is_dir() {
            append(&path, output, written, lines)?;
        } else if kind.is_file()
            && let Ok(mut text) = fs::read_to_string(&path)
            && !text.is_empty()
            && text.lines().all(|line| line.len() < LINE_MAX)
        {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            output.write_all(text.as_bytes()).map_err(|error| format!("cannot write the text: {error}"))?;
            *written += text.len() as u64;
            *lines += text.bytes().filter(|&byte| byte == b'\n').count() as u64;
        }
    }
    Ok(())
}

fn sha256(file: &Path) -> Result<String> {
    let text =
        process::run(Command::new("sha256sum").arg("--binary").stdin(Stdio::null()).arg(file), PATIENCE)?;
    text.split(' ').next().map(str::to_owned).ok_or_else(|| "sha256sum said nothing".to_owned())
}
