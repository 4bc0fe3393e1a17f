//! `dohle group journal`: the internal topic that the broker keeps the journal of groups in, as people read it.

use std::io::{self, Write as _};
use std::time::Duration;

use dohle_client::{Consumer, ConsumerConfig, ConsumerEvent, Fetched, StartAt};
use dohle_groups::journal::entry::Entry;
use dohle_groups::journal::stats::JournalStats;
use dohle_records::Decompressor;
use dohle_types::{ErrorCode, PartitionIndex, Str, Timestamp, TopicPartition};
use serde_json::json;

use crate::driver::Driver;
use crate::input::{Place, parse_ago};
use crate::output::{Table, say};
use crate::session::{Outage, cluster_config, seed};
use crate::{CliError, Connection};

/// Where a broker keeps it.
const TOPIC: &str = "__dohle_group_journal";

/// `dohle group journal`
#[derive(Clone, Debug, clap::Args)]
pub struct JournalArgs {
    /// The group's name; without it all groups
    #[arg(value_name = "GROUP")]
    group: Option<Str>,
    /// Go on with what happens from now on
    #[arg(short, long)]
    follow: bool,
    /// Begin at a time, such as 2026-11-22T10:00:00Z, or so long ago: 90s, 15m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Option<Since>,
    /// Count by cause, instead of telling each event
    #[arg(long, conflicts_with = "follow")]
    summary: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// From when on something is shown.
#[derive(Clone, Copy, Debug)]
enum Since {
    At(Timestamp),
    Ago(Duration),
}

fn parse_since(text: &str) -> Result<Since, String> {
    if let Some(ago) = parse_ago(text) {
        return Ok(Since::Ago(ago));
    }
    match text.parse() {
        Ok(Place::Timestamp(at)) => Ok(Since::At(at)),
        _ => {
            Err(format!("{text:?} is neither a time such as 2026-11-22T10:00:00Z nor one such as 15m or 2h"))
        }
    }
}

pub(crate) fn run(connection: &Connection, args: &JournalArgs) -> Result<(), CliError> {
    let config = ConsumerConfig {
        cluster: cluster_config(),
        // What is older than the log reaches back is not there any more.
        reset: Some(StartAt::Earliest),
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(config, connection.endpoints()?, seed());
    let mut reader = Reader {
        args,
        driver: Driver::new()?,
        consumer,
        decompressor: Decompressor::default(),
        outage: Outage::default(),
        stats: JournalStats::default(),
        has_begun: false,
    };
    reader.read()?;
    if args.summary {
        let JournalStats { storms, poisons, dropped, .. } = reader.stats;
        summary(&reader.stats).print(args.json)?;
        if storms > 0 {
            say(format_args!("storms: {storms}; the journal itself tells what to change"));
        }
        if poisons > 0 {
            say(format_args!("records that were set aside: {poisons}; the journal itself tells which"));
        }
        if dropped > 0 {
            say(format_args!("entries that are missing: {dropped}"));
        }
    }
    Ok(())
}

/// One run of the command.
struct Reader<'a> {
    args: &'a JournalArgs,
    driver: Driver,
    consumer: Consumer,
    decompressor: Decompressor,
    outage: Outage,
    stats: JournalStats,
    has_begun: bool,
}

impl Reader<'_> {
    fn read(&mut self) -> Result<(), CliError> {
        loop {
            if !self.has_begun && !self.begin()? {
                return Ok(());
            }
            while let Some(event) = self.consumer.next_event() {
                match event {
                    ConsumerEvent::Records(fetched) => self.on_records(&fetched)?,
                    ConsumerEvent::End { .. } if !self.args.follow => return Ok(()),
                    ConsumerEvent::PartitionFailed { partition, error } => {
                        return Err(CliError::Partition { partition, error });
                    }
                    ConsumerEvent::End { .. }
                    | ConsumerEvent::Assigned(_)
                    | ConsumerEvent::Revoked(_)
                    | ConsumerEvent::Committed(_)
                    | ConsumerEvent::GroupFailed(_) => {}
                }
            }
            if self.driver.is_interrupted() {
                return Ok(());
            }
            match self.consumer.unreachable() {
                Some(unreachable) if !self.has_begun => return Err(unreachable.clone().into()),
                unreachable => self.outage.note(unreachable),
            }
            self.driver.turn(std::slice::from_mut(&mut self.consumer), None)?;
        }
    }

    /// Begins to read once it is known that there is a journal. Whether there is any use in going on.
    fn begin(&mut self) -> Result<bool, CliError> {
        let now = self.driver.now();
        match self.consumer.partition_count(now, &Str::const_new(TOPIC)) {
            None => return Ok(true),
            Some(Err(ErrorCode::UnknownTopicOrPartition)) => {
                if !self.args.follow {
                    say("nothing has happened to any group yet, or the broker keeps no journal");
                }
                return Ok(self.args.follow);
            }
            Some(Err(error)) if error.is_retriable() => return Ok(true),
            Some(Err(error)) => {
                return Err(CliError::Refused { what: format!("topic {TOPIC}"), error, message: None });
            }
            Some(Ok(_)) => {}
        }
        let start = match self.args.since {
            Some(Since::At(at)) => StartAt::Timestamp(at),
            Some(Since::Ago(ago)) => StartAt::Timestamp(before(now.wall, ago)),
            None => StartAt::Earliest,
        };
        let partition = TopicPartition::new(Str::const_new(TOPIC), PartitionIndex(0));
        self.consumer.assign(now, [(partition, start)]);
        self.has_begun = true;
        Ok(true)
    }

    fn on_records(&mut self, fetched: &Fetched) -> Result<(), CliError> {
        let unreadable = |reason: dohle_records::BatchError| CliError::Partition {
            partition: fetched.partition().clone(),
            error: dohle_client::consumer::ConsumerError::Unreadable {
                offset: fetched.batch().header().base_offset,
                reason: reason.to_string(),
            },
        };
        let mut out = io::stdout().lock();
        for record in fetched.records(&mut self.decompressor).map_err(unreadable)? {
            let record = record.map_err(unreadable)?;
            let value = record.value.unwrap_or_default();
            // What is about no group is about all of them.
            let is_meant = match (&self.args.group, &record.key) {
                (Some(group), Some(key)) => group.as_bytes() == key.as_ref(),
                (None, _) | (_, None) => true,
            };
            if !is_meant {
                continue;
            }
            match Entry::from_json(&value) {
                Ok(entry) if self.args.summary => self.stats.note(&entry),
                Ok(entry) if !self.args.json => {
                    writeln!(out, "{}", line(&entry, self.args.group.is_none()))?;
                }
                Ok(_) => {
                    out.write_all(&value)?;
                    out.write_all(b"\n")?;
                }
                Err(error) => say(format_args!("the entry at offset {} is left out: {error}", record.offset)),
            }
        }
        Ok(out.flush()?)
    }
}

fn before(at: Timestamp, ago: Duration) -> Timestamp {
    Timestamp(at.0.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)))
}

fn line(entry: &Entry, names_group: bool) -> String {
    let at = jiff::Timestamp::from_millisecond(entry.at.0).unwrap_or_default();
    let at = at.strftime("%FT%TZ");
    if names_group && !entry.group_id.is_empty() {
        format!("{at} {}: {}", entry.group_id.escape_debug(), entry.event)
    } else {
        format!("{at} {}", entry.event)
    }
}

fn summary(stats: &JournalStats) -> Table {
    let mut table = Table::new([
        "cause",
        "rebalances",
        "interrupted",
        "other changes",
        "partitions moved",
        "total ms",
        "longest ms",
        "longest without owner ms",
    ]);
    for (kind, stats) in &stats.by_cause {
        table.row([
            json!(kind.name()),
            json!(stats.rebalances),
            json!(stats.superseded),
            json!(stats.memberships),
            json!(stats.moved),
            json!(stats.duration.sum_ms),
            json!(stats.duration.max_ms),
            json!(stats.without_owner.max_ms),
        ]);
    }
    table
}
