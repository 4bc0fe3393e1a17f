//! `dohle group lag`: how far groups are behind, as their coordinator tells it.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use dohle_client::Target;
use dohle_client::metadata::{check, error_of};
use dohle_groups::lag::{LagState, LogEnds};
use dohle_protocol::messages::group_lag_response::LaggingPartition;
use dohle_protocol::messages::{GroupLagRequest, GroupLagResponse};
use dohle_types::{ErrorCode, Offset, Str};
use serde_json::{Value, json};

use crate::CliError;
use crate::group::all_groups;
use crate::input::parse_ago;
use crate::output::{Table, say};
use crate::session::Session;
use crate::topic::refused;

/// `dohle group lag`
#[derive(Clone, Debug, clap::Args)]
pub struct LagArgs {
    /// The group's name; without it all groups
    #[arg(value_name = "GROUP")]
    group: Option<Str>,
    /// Show it again and again, until it is interrupted
    #[arg(short, long)]
    watch: bool,
    /// How often: 2s, 1m
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_interval, requires = "watch")]
    interval: Duration,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_ago(text).filter(|interval| !interval.is_zero());
    interval.ok_or_else(|| format!("{text:?} is no time such as 2s or 1m"))
}

pub(crate) fn run(session: &mut Session, args: &LagArgs) -> Result<(), CliError> {
    loop {
        let groups = match &args.group {
            Some(group) => vec![group.clone()],
            None => all_groups(session)?.into_keys().collect(),
        };
        let mut told = Vec::new();
        for group in groups {
            // One of many may be deleted meanwhile.
            if let Some(response) = ask(session, &group, args.group.is_some())? {
                told.push((group, response));
            }
        }
        if args.watch && !args.json && io::stdout().is_terminal() {
            // Clears the screen.
            crate::output::lines(std::iter::once("\u{1b}[H\u{1b}[2J".to_owned()))?;
        }
        if args.json {
            details(&told).print(true)?
        } else {
            overview(&told).print(false)?
        }
        let unknown = partitions(&told).filter(|(.., it)| it.lag > 0 && it.lag_ms < 0).count();
        if unknown > 0 {
            say(format_args!(
                "how old the lag is was not looked up in {unknown} partitions: one request reads only so many files"
            ));
        }
        if !args.watch || !session.wait(args.interval)? {
            return Ok(());
        }
    }
}

/// `None` if there is no such group, unless it `must` be there.
fn ask(session: &mut Session, group: &Str, must: bool) -> Result<Option<GroupLagResponse>, CliError> {
    let request = GroupLagRequest { group_id: group.clone() };
    let response = session
        .call(Target::Coordinator(group.clone()), request, |response| error_of(response.error_code))?;
    match check(response.error_code) {
        Err(ErrorCode::GroupIdNotFound) if !must => Ok(None),
        result => {
            refused(&format!("group {group}"), result, response.error_message.clone())?;
            Ok(Some(response))
        }
    }
}

type Told = [(Str, GroupLagResponse)];

fn partitions(told: &Told) -> impl Iterator<Item = (&Str, &GroupLagResponse, &Str, &LaggingPartition)> {
    told.iter().flat_map(|(group, response)| {
        response.topics.iter().flat_map(move |topic| {
            topic.partitions.iter().map(move |partition| (group, response, &topic.name, partition))
        })
    })
}

fn overview(told: &Told) -> Table {
    let mut table = Table::new([
        "group",
        "topic",
        "partition",
        "current offset",
        "log end offset",
        "lag",
        "lag seconds",
        "state",
        "consumer",
        "host",
        "note",
    ]);
    for (group, _, topic, it) in partitions(told) {
        table.row([
            json!(group.as_str()),
            json!(topic.as_str()),
            json!(it.partition_index),
            known(it.committed_offset),
            known(it.high_watermark),
            known(it.lag),
            seconds(it.lag_ms),
            state(it),
            text(it.group_instance_id.as_ref().or(it.client_id.as_ref())),
            text(it.client_host.as_ref().map(host).as_ref()),
            note(it).map_or(Value::Null, Value::from),
        ]);
    }
    table
}

/// Kafka shows a host with the slash of Java's addresses.
fn host(client_host: &Str) -> Str {
    Str::from(client_host.strip_prefix('/').unwrap_or(client_host))
}

fn details(told: &Told) -> Table {
    let mut table = Table::new([
        "group",
        "group state",
        "group type",
        "topic",
        "partition",
        "error",
        "current offset",
        "committed at ms",
        "log start offset",
        "last stable offset",
        "log end offset",
        "lag",
        "lag seconds",
        "state",
        "commits seen",
        "lost",
        "member id",
        "group instance id",
        "client id",
        "host",
        "note",
    ]);
    for (group, response, topic, it) in partitions(told) {
        table.row([
            json!(group.as_str()),
            json!(response.group_state.as_str()),
            json!(response.group_type.as_str()),
            json!(topic.as_str()),
            json!(it.partition_index),
            check(it.error_code).err().map_or(Value::Null, |error| json!(error.name())),
            known(it.committed_offset),
            known(it.committed_at_ms),
            known(it.log_start_offset),
            known(it.last_stable_offset),
            known(it.high_watermark),
            known(it.lag),
            seconds(it.lag_ms),
            state(it),
            json!(it.commits_seen),
            ends(it).map_or(Value::Null, |ends| json!(ends.lost(Offset(it.committed_offset)))),
            text(it.member_id.as_ref()),
            text(it.group_instance_id.as_ref()),
            text(it.client_id.as_ref()),
            text(it.client_host.as_ref()),
            note(it).map_or(Value::Null, Value::from),
        ]);
    }
    table
}

fn known(number: i64) -> Value {
    if number < 0 { Value::Null } else { json!(number) }
}

fn seconds(millis: i64) -> Value {
    // Milliseconds of many thousand years are exact.
    if millis < 0 { Value::Null } else { json!(Duration::from_millis(millis.unsigned_abs()).as_secs_f64()) }
}

fn text(text: Option<&Str>) -> Value {
    text.map_or(Value::Null, |text| json!(text.as_str()))
}

fn state(it: &LaggingPartition) -> Value {
    LagState::from_code(it.state).map_or(Value::Null, |state| json!(state.name()))
}

fn ends(it: &LaggingPartition) -> Option<LogEnds> {
    (it.committed_offset >= 0 && it.log_start_offset >= 0).then_some(LogEnds {
        start: Offset(it.log_start_offset),
        last_stable: Offset(it.last_stable_offset),
        high_watermark: Offset(it.high_watermark),
    })
}

/// What else is to be known of a partition.
fn note(it: &LaggingPartition) -> Option<String> {
    match check(it.error_code) {
        Err(ErrorCode::UnknownTopicOrPartition) => return Some("there is no such partition".to_owned()),
        Err(ErrorCode::UnknownTopicId) => {
            return Some("committed to an earlier topic of this name".to_owned());
        }
        Err(error) => return Some(error.name().to_owned()),
        Ok(()) => {}
    }
    let committed = Offset(it.committed_offset);
    if committed < Offset::ZERO {
        return Some("nothing committed".to_owned());
    }
    let ends = ends(it)?;
    let lost = ends.lost(committed);
    if lost > 0 {
        Some(format!("{lost} records were deleted unread"))
    } else if committed > ends.high_watermark {
        Some("beyond the log's end".to_owned())
    } else if it.lag > 0 && ends.left(committed) == 0 {
        Some("a transaction is open".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use dohle_protocol::messages::group_lag_response::LaggingTopic;

    use super::*;

    fn partition(committed: i64, start: i64, stable: i64, end: i64) -> LaggingPartition {
        let ends = LogEnds { start: Offset(start), last_stable: Offset(stable), high_watermark: Offset(end) };
        LaggingPartition {
            committed_offset: committed,
            log_start_offset: start,
            last_stable_offset: stable,
            high_watermark: end,
            lag: ends.lag(Offset(committed)),
            lag_ms: 12_345,
            state: LagState::Slow.code(),
            client_id: Some("billing".into()),
            client_host: Some("/10.0.0.7".into()),
            ..LaggingPartition::default()
        }
    }

    #[test]
    fn each_partition_has_its_row_and_what_is_not_known_is_left_out() {
        let mut partitions = vec![
            partition(40, 0, 100, 100),
            partition(10, 30, 100, 100),
            partition(60, 0, 60, 100),
            partition(200, 0, 100, 100),
            LaggingPartition { high_watermark: 7, ..LaggingPartition::default() },
            LaggingPartition {
                error_code: ErrorCode::KafkaStorageError.code(),
                ..LaggingPartition::default()
            },
            LaggingPartition {
                committed_offset: 12,
                high_watermark: 7,
                error_code: ErrorCode::UnknownTopicId.code(),
                ..LaggingPartition::default()
            },
        ];
        for (index, partition) in (0..).zip(&mut partitions) {
            partition.partition_index = index;
        }
        let topics = vec![LaggingTopic { name: "orders".into(), partitions }];
        let response = GroupLagResponse { topics, ..GroupLagResponse::default() };
        expect_test::expect![[r#"
            GROUP  TOPIC   PARTITION  CURRENT OFFSET  LOG END OFFSET  LAG  LAG SECONDS  STATE  CONSUMER  HOST      NOTE
            g      orders  0          40              100             60   12.345       slow   billing   10.0.0.7  -
            g      orders  1          10              100             70   12.345       slow   billing   10.0.0.7  20 records were deleted unread
            g      orders  2          60              100             40   12.345       slow   billing   10.0.0.7  a transaction is open
            g      orders  3          200             100             0    12.345       slow   billing   10.0.0.7  beyond the log's end
            g      orders  4          -               7               -    -            -      -         -         nothing committed
            g      orders  5          -               -               -    -            -      -         -         KAFKA_STORAGE_ERROR
            g      orders  6          12              7               -    -            -      -         -         committed to an earlier topic of this name
        "#]].assert_eq(&overview(&[("g".into(), response)]).to_text(false));
    }
}
