//! `dohle group lag` beside the lag that `kafka-consumer-groups --describe` computes: of the groups that all clients have
//! left behind, of live members of both protocols, and where records were deleted before they were read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::broker::{Broker, Target};
use super::client::{Client, Member, Protocol};
use super::process::{self, Result};
use super::report::Report;
use super::{install, java};

const NAME: &str = "group-lag";
/// How long members may take to join, and to read and commit what there is.
const PATIENCE: Duration = Duration::from_secs(45);
const PARTITIONS: usize = 3;

/// Compares both for all groups of the running broker, which is `target`.
pub(crate) fn run(report: &Report, broker: &Broker, target: &Target, java: &Client) {
    let Target::Dohle(dohle) = target else { return };
    let asked = Asked { dohle, bootstrap: broker.bootstrap(), java };
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        let what = format!("{protocol:?} protocol: live, then behind, then beyond deleted records");
        report.step(NAME, &what, || falls_behind(&asked, protocol));
    }
    report.step(NAME, "every group of every client has the lag of kafka-consumer-groups", || {
        let rows = asked.compare(&["--all-groups"], None)?;
        if rows < 2 * PARTITIONS { Err(format!("there are only {rows} rows")) } else { Ok(()) }
    });
}

/// A member reads all there is and stays, then leaves; records are produced, and then deleted.
fn falls_behind(asked: &Asked<'_>, protocol: Protocol) -> Result<()> {
    let group = format!("lag-{protocol:?}").to_lowercase();
    let select = ["--group", group.as_str()];
    asked.java.run(&["create", &asked.bootstrap, &group, &PARTITIONS.to_string()])?;
    asked.produce(&group, "0", "300")?;
    let mut member = asked.java.member(&asked.bootstrap, &group, &group, protocol, None)?;
    asked.until_read(&mut member, &group)?;
    asked.compare(&select, Some(&group))?;
    member.stop(&mut |_| Ok(()))?;
    asked.produce(&group, "300", "90")?;
    asked.compare(&select, Some(&group))?;
    let lag: i64 = asked.lag(Some(&group))?.iter().filter_map(|row| row["lag"].as_i64()).sum();
    if lag != 90 {
        return Err(format!("90 records were produced, and the lag is {lag}"));
    }
    // The tool goes on counting what nobody can read any more.
    let rows = asked.lag(Some(&group))?;
    let first = rows.iter().find(|row| row["partition"] == 0).ok_or("there is no partition 0")?;
    let end = first["log_end_offset"].as_i64().ok_or("the log has no end")?;
    let deleted = format!(r#"{{"partitions":[{{"topic":"{group}","partition":0,"offset":{}}}]}}"#, end - 1);
    let file = install::work(&format!("{group}.json"));
    fs::write(&file, deleted).map_err(|error| format!("{}: {error}", file.display()))?;
    asked.tool("kafka-delete-records", &["--offset-json-file", &file.to_string_lossy()])?;
    asked.compare(&select, Some(&group))?;
    let rows = asked.lag(Some(&group))?;
    let first = rows.iter().find(|row| row["partition"] == 0);
    match first.map(|row| (row["lag"].as_i64(), row["lost"].as_i64())) {
        Some((Some(1), Some(lost))) if lost > 0 => Ok(()),
        other => Err(format!("of partition 0 one record is left, and some were lost: {other:?}")),
    }
}

/// The running broker, and both who tell of it.
struct Asked<'a> {
    dohle: &'a Path,
    bootstrap: String,
    java: &'a Client,
}

impl Asked<'_> {
    fn produce(&self, topic: &str, first: &str, count: &str) -> Result<()> {
        self.java.run(&["produce", &self.bootstrap, topic, first, count, "1", "none"]).map(drop)
    }

    fn tool(&self, name: &str, words: &[&str]) -> Result<String> {
        let mut command = java::tool(name)?;
        process::run(command.args(["--bootstrap-server", &self.bootstrap]).args(words), PATIENCE)
    }

    fn lag(&self, group: Option<&str>) -> Result<Vec<Value>> {
        let mut command = Command::new(self.dohle);
        command.args(["group", "lag", "--json", "--bootstrap-server", &self.bootstrap]).args(group);
        let told = process::run(&mut command, PATIENCE)?;
        told.lines()
            .map(|line| serde_json::from_str(line).map_err(|error| format!("{error}: {line}")))
            .collect()
    }

    /// Waits until a member has read everything and committed it.
    fn until_read(&self, member: &mut Member, group: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            member.listen(Duration::from_millis(200), &mut |_| Ok(()))?;
            let rows = if member.assigned.len() == PARTITIONS { self.lag(Some(group))? } else { Vec::new() };
            if rows.len() == PARTITIONS && rows.iter().all(|row| row["lag"] == 0) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("the member has not read all: {rows:?}\n{}", member.errors()));
            }
        }
    }

    /// Holds each row of the tool against what the broker says. Returns how many there were.
    fn compare(&self, select: &[&str], group: Option<&str>) -> Result<usize> {
        let table = self.tool("kafka-consumer-groups", &[&["--describe"], select].concat())?;
        let told = self.lag(group)?;
        let theirs: BTreeMap<Place, [String; 5]> = table.lines().filter_map(row).collect();
        let ours: BTreeMap<Place, [String; 5]> = told.iter().map(as_the_tool_has_it).collect();
        let differing: Vec<String> = theirs
            .iter()
            .filter(|&(place, theirs)| ours.get(place) != Some(theirs))
            .map(|(place, theirs)| format!("{place:?}: the tool has {theirs:?}, Dohle {:?}", ours.get(place)))
            .collect();
        if !differing.is_empty() || theirs.len() != ours.len() {
            return Err(format!("{}\n{table}\n{told:?}", differing.join("\n")));
        }
        Ok(theirs.len())
    }
}

/// Group, topic, partition.
type Place = (String, String, String);

/// A row of the tool: committed offset, end of the log, lag, host, client id.
fn row(line: &str) -> Option<(Place, [String; 5])> {
    let cells: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let [group, topic, partition, committed, end, lag, _, host, client] =
        <[String; 9]>::try_from(cells).ok()?;
    partition.parse::<i32>().ok()?;
    Some(((group, topic, partition), [committed, end, lag, host, client]))
}

/// What the broker says of a partition, as the tool would: to it, records that were deleted unread are lag like others.
fn as_the_tool_has_it(row: &Value) -> (Place, [String; 5]) {
    let text = |name: &str| {
        let value = row.get(name).filter(|value| !value.is_null());
        value.map_or("-".to_owned(), |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let lag = row["lag"].as_i64().map(|lag| lag + row["lost"].as_i64().unwrap_or_default());
    let lag = lag.map_or("-".to_owned(), |lag| lag.to_string());
    let place = (text("group"), text("topic"), text("partition"));
    (place, [text("current_offset"), text("log_end_offset"), lag, text("host"), text("client_id")])
}
