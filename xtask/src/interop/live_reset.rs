//! `dohle group reset-offsets --live` under running members of every client: they read all records again, though none
//! of them is stopped, and what they commit meanwhile does not undo it.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::broker::{Broker, Target};
use super::client::{Client, Member, Protocol};
use super::install;
use super::process::{self, Result};
use super::report::{self, Report};

/// How long records may take to come.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long nothing more must come after all has come.
const QUIET: Duration = Duration::from_millis(500);
const RECORDS: usize = 100;
/// How many members are watched at the same time; mostly they wait.
const AT_ONCE: usize = 4;

/// Resets a group of each client by each protocol it speaks. The running broker is `target`.
pub(crate) fn run(report: &Report, broker: &Broker, target: &Target, clients: &[&Client]) {
    let Target::Dohle(binary) = target else { return };
    let classic = clients.iter().map(|&client| (client, Protocol::Classic));
    let modern = clients.iter().filter(|client| client.consumer_protocol);
    let modern = modern.map(|&client| (client, Protocol::Consumer));
    report::each(AT_ONCE, classic.chain(modern), |(client, protocol)| {
        let what = format!("{protocol:?} protocol: offsets reset under a live member");
        report.step(client.name, &what, || reset(binary, &broker.bootstrap(), client, protocol));
    });
}

fn reset(binary: &Path, bootstrap: &str, client: &Client, protocol: Protocol) -> Result<()> {
    let topic = format!("live-reset-{}-{protocol:?}", client.tag);
    let dohle = |words: &[&str]| {
        let mut command = Command::new(binary);
        process::run(command.args(words).args(["--bootstrap-server", bootstrap]), PATIENCE)
    };
    dohle(&["topic", "create", &topic, "--partitions", "2"])?;
    let lines = install::work(&format!("{topic}.txt"));
    let text: String = (0..RECORDS).map(|number| format!("record {number}\n")).collect();
    fs::write(&lines, text).map_err(|error| format!("{}: {error}", lines.display()))?;
    let produce = || {
        let input = File::open(&lines).map_err(|error| format!("{}: {error}", lines.display()))?;
        let mut command = Command::new(binary);
        command.args(["produce", &topic, "--bootstrap-server", bootstrap]);
        process::run_fed(&mut command, input.into(), PATIENCE).map(drop)
    };
    produce()?;
    let mut member = client.member(bootstrap, &topic, &topic, protocol, None)?;
    hears(&mut member, RECORDS)?;
    dohle(&["group", "reset-offsets", &topic, "--topic", &topic, "--to", "earliest", "--live", "--execute"])?;
    hears(&mut member, RECORDS)?;
    member.stop(&mut |_| Ok(()))?;
    let mut again = client.member(bootstrap, &topic, &topic, protocol, None)?;
    produce()?;
    hears(&mut again, RECORDS)?;
    again.stop(&mut |_| Ok(()))
}

/// Waits for exactly so many records.
fn hears(member: &mut Member, count: usize) -> Result<()> {
    let mut heard = 0;
    let deadline = Instant::now() + PATIENCE;
    while heard < count && Instant::now() < deadline {
        member.listen(Duration::from_millis(100), &mut |_| {
            heard += 1;
            Ok(())
        })?;
    }
    member.listen(QUIET, &mut |_| {
        heard += 1;
        Ok(())
    })?;
    if heard == count {
        return Ok(());
    }
    Err(format!("{heard} records came, not {count}\n{}", member.errors()))
}
