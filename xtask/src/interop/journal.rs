//! Members of Apache Kafka's Java consumer join, leave and are killed, with both protocols, and `dohle group journal`
//! tells who it was and why.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::broker::{Broker, Target};
use super::client::{Client, Member, Protocol};
use super::process::{self, Result};
use super::report::Report;
use super::{OVERRIDES, install};

const NAME: &str = "group-journal";
/// So that members of the consumer protocol that are killed are missed as soon as those of the classic one.
const SESSIONS: &[&str] =
    &["group.consumer.min.session.timeout.ms=6000", "group.consumer.session.timeout.ms=6000"];
const PATIENCE: Duration = Duration::from_secs(45);

/// Takes Java consumers of both protocols through it.
pub(crate) fn run(report: &Report, target: &Target, java: &Client) {
    let mut broker = None;
    let started = report.step(NAME, "start", || {
        broker = Some(Broker::start(target, &install::work("journal"), &[OVERRIDES, SESSIONS].concat())?);
        Ok(())
    });
    let (Some(mut broker), Target::Dohle(dohle), true) = (broker, target, started) else { return };
    for (protocol, group) in [(Protocol::Classic, "by-classic"), (Protocol::Consumer, "by-consumer")] {
        let what =
            format!("a Java consumer is killed, another one leaves: the journal tells it ({protocol:?})");
        report.step(NAME, &what, || {
            java.run(&["create", &broker.bootstrap(), group, "4"])?;
            members_come_and_go(&broker.bootstrap(), java, group, protocol)?;
            let left = format!("left: consumer-{group}-1 (127.0.0.1)");
            let text = until_told(|| journal(dohle, &broker.bootstrap(), group), &left)?;
            for told in [
                &format!("joined: consumer-{group}-1 (127.0.0.1)"),
                "joined: doomed (127.0.0.1)",
                "session expired: doomed (127.0.0.1)",
                "2 of 4 partitions moved, longest without owner ",
                "no member is left",
            ] {
                if !text.contains(told) {
                    return Err(format!("the journal does not tell \"{told}\":\n{text}"));
                }
            }
            Ok(())
        });
    }
    report.step(NAME, "it tells the same after a restart", || {
        let before = journal(dohle, &broker.bootstrap(), "by-classic")?;
        broker.stop()?;
        broker.resume()?;
        let after = journal(dohle, &broker.bootstrap(), "by-classic")?;
        if before == after { Ok(()) } else { Err(format!("before\n{before}after\n{after}")) }
    });
    report.step(NAME, "stop", || broker.stop());
}

fn journal(dohle: &Path, bootstrap: &str, group: &str) -> Result<String> {
    let mut command = Command::new(dohle);
    command.args(["group", "journal", group, "--bootstrap-server", bootstrap]);
    process::run(&mut command, Duration::from_secs(20))
}

/// One joins, and another one, which has an instance id; that one is killed, and later the first one leaves.
fn members_come_and_go(bootstrap: &str, java: &Client, group: &str, protocol: Protocol) -> Result<()> {
    let mut first = java.member(bootstrap, group, group, protocol, None)?;
    has(&mut first, 4)?;
    let mut doomed = java.member(bootstrap, group, group, protocol, Some("doomed"))?;
    has(&mut first, 2)?;
    has(&mut doomed, 2)?;
    // Dropping it kills its process.
    drop(doomed);
    has(&mut first, 4)?;
    first.stop(&mut |_| Ok(()))
}

/// Waits until a member has so many partitions.
fn has(member: &mut Member, partitions: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while member.assigned.len() != partitions {
        if Instant::now() > deadline {
            return Err(format!("a member has {:?}\n{}", member.assigned, member.errors()));
        }
        member.listen(Duration::from_millis(200), &mut |_| Ok(()))?;
    }
    Ok(())
}

/// Asks for the journal until it tells this.
fn until_told(journal: impl Fn() -> Result<String>, told: &str) -> Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = journal()?;
        if text.contains(told) {
            return Ok(text);
        }
        if Instant::now() > deadline {
            return Err(format!("the journal does not tell \"{told}\":\n{text}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
