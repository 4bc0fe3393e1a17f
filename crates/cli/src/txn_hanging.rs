//! `dohle txn find-hanging`: transactions that are open in partitions, for longer than any may be, and that no
//! coordinator will end. They hold `read_committed` consumers and compaction back for ever.

use std::collections::BTreeSet;
use std::time::Duration;

use dohle_client::Metadata;
use dohle_types::{BrokerId, ErrorCode, PartitionIndex, Str, Timestamp, TopicPartition};
use serde_json::json;

use crate::CliError;
use crate::input::parse_topic_partition;
use crate::open_txns::{
    OpenTxn, Patience, Told, coordinated, coordinator_of, millis, open_transactions, still_open,
};
use crate::output::{Table, say};
use crate::session::Session;
use crate::txn::{parse_duration, seconds_since, time};

/// `dohle txn find-hanging`
#[derive(Clone, Debug, clap::Args)]
pub struct HangingArgs {
    /// Only in this topic, or partition as TOPIC:PARTITION; may be repeated
    #[arg(short, long = "topic", value_name = "TOPIC[:PARTITION]")]
    topics: Vec<String>,
    /// Only in the replicas of this broker, and by what it knows
    #[arg(short, long = "broker", value_name = "ID")]
    broker: Option<i32>,
    /// Only those whose producer has written nothing for longer than this: what transaction.max.timeout.ms of the
    /// brokers is
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse_duration)]
    max_transaction_timeout: Duration,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(session: &mut Session, args: &HangingArgs) -> Result<(), CliError> {
    let broker = args.broker.map(BrokerId);
    let metadata = session.metadata(None)?;
    let partitions = searched(&metadata, &args.topics, broker)?;
    let Told { mut open, unknown } =
        open_transactions(session, &metadata, &partitions, broker, Patience::Waits)?;
    let before = Timestamp(session.now().wall.0.saturating_sub(millis(args.max_transaction_timeout)));
    open.retain(|open| open.last_write < before);
    let producers: BTreeSet<_> = open.iter().map(|open| open.producer_id).collect();
    let known = coordinated(session, &producers)?;
    open.retain(|open| coordinator_of(open, &known).is_none());
    let mut open = still_open(session, &metadata, open, broker, Patience::Waits)?;
    open.sort_by(|a, b| (&a.partition, a.start_offset).cmp(&(&b.partition, b.start_offset)));
    print(session, &open, args.json)?;
    match unknown.as_slice() {
        [] => Ok(()),
        [(partition, error), ..] => Err(CliError::Refused {
            what: format!("{} partitions were not searched, the first of them {partition}", unknown.len()),
            error: *error,
            message: None,
        }),
    }
}

fn print(session: &Session, hanging: &[OpenTxn], json: bool) -> Result<(), CliError> {
    let mut table = Table::new([
        "topic",
        "partition",
        "start offset",
        "producer id",
        "producer epoch",
        "coordinator epoch",
        "last write",
        "silent seconds",
    ]);
    for open in hanging {
        table.row([
            json!(open.partition.topic.as_str()),
            json!(open.partition.partition.0),
            json!(open.start_offset.0),
            json!(open.producer_id.0),
            json!(open.producer_epoch.0),
            json!(open.coordinator_epoch),
            time(open.last_write, json),
            seconds_since(session, open.last_write),
        ]);
    }
    table.print(json)?;
    if let Some(OpenTxn { partition, start_offset, .. }) = hanging.first() {
        say(format_args!(
            "no coordinator will end these: `dohle txn abort --partition {}:{} --start-offset {start_offset}` aborts \
             the first",
            partition.topic, partition.partition
        ));
    }
    Ok(())
}

/// The partitions to look into, Kafka's own topics among them.
fn searched(
    metadata: &Metadata,
    topics: &[String],
    broker: Option<BrokerId>,
) -> Result<Vec<TopicPartition>, CliError> {
    let mut wanted: Vec<(Str, Option<PartitionIndex>)> =
        topics.iter().map(|text| parse_topic_partition(text)).collect();
    if topics.is_empty() {
        wanted = metadata.topics().map(|(topic, _)| (topic.clone(), None)).collect();
    }
    let mut searched = BTreeSet::new();
    for (topic, only) in wanted {
        let all = metadata.topic(&topic).into_iter().flat_map(|described| &described.partitions);
        let mut meant = all.filter(|it| only.is_none_or(|only| only == it.index)).peekable();
        if meant.peek().is_none() && !topics.is_empty() {
            let what =
                only.map_or_else(|| format!("topic {topic}"), |index| format!("partition {topic}-{index}"));
            return Err(CliError::Refused { what, error: ErrorCode::UnknownTopicOrPartition, message: None });
        }
        let meant = meant.filter(|it| broker.is_none_or(|broker| it.replicas.contains(&broker)));
        searched.extend(meant.map(|it| TopicPartition::new(topic.clone(), it.index)));
    }
    Ok(searched.into_iter().collect())
}
