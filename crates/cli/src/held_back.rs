//! In `dohle topic describe`: which transaction holds a partition's last stable offset back, and with it
//! `read_committed` consumers and compaction.

use std::collections::BTreeMap;

use dohle_client::{Failure, Metadata};
use dohle_types::{Str, Timestamp, TopicPartition};
use serde_json::{Value, json};

use crate::CliError;
use crate::group::{LATEST, list_offsets};
use crate::open_txns::{OpenTxn, Patience, Told, coordinated, coordinator_of, open_transactions, still_open};
use crate::output::{Table, say};
use crate::session::Session;
use crate::txn::time;

/// Prints the first open transaction of each partition that has one, if any has.
pub(crate) fn print(
    session: &mut Session,
    metadata: &Metadata,
    topics: &[Str],
    json: bool,
) -> Result<(), CliError> {
    let described = topics.iter().filter_map(|name| Some((name, metadata.topic(name)?)));
    let partitions: Vec<TopicPartition> = described
        .flat_map(|(name, topic)| {
            let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
            led.map(|partition| TopicPartition::new(name.clone(), partition.index))
        })
        .collect();
    let found = match open_transactions(session, metadata, &partitions, None, Patience::None) {
        // A broker before Kafka 2.8 knows less of its partitions; all else of them is shown.
        Err(CliError::Failed { failure: Failure::Unsupported { .. }, .. }) => return Ok(()),
        found => found?,
    };
    let Told { open, unknown } = found;
    if let [(partition, error), ..] = unknown.as_slice() {
        say(format_args!(
            "open transactions are not shown of {} partitions, the first of them {partition}: {error}",
            unknown.len()
        ));
    }
    let first = first_of_each(open);
    if first.is_empty() {
        return Ok(());
    }
    let known = coordinated(session, &first.iter().map(|open| open.producer_id).collect())?;
    let (hanging, coordinated): (Vec<_>, Vec<_>) =
        first.into_iter().partition(|open| coordinator_of(open, &known).is_none());
    let hanging = still_open(session, metadata, hanging, None, Patience::None)?;
    let mut first = [coordinated, hanging.clone()].concat();
    first.sort_by(|a, b| a.partition.cmp(&b.partition));
    let partitions: Vec<TopicPartition> = first.iter().map(|open| open.partition.clone()).collect();
    let high_watermarks = list_offsets(session, metadata, &partitions, LATEST)?;
    let mut table = Table::new([
        "topic",
        "partition",
        "last stable offset",
        "high watermark",
        "held back by",
        "state",
        "producer id",
        "producer epoch",
        "began",
        "last write",
    ]);
    for open in &first {
        let coordinator = coordinator_of(open, &known);
        let began = coordinator.map(|transaction| Timestamp(transaction.transaction_start_time_ms));
        table.row([
            json!(open.partition.topic.as_str()),
            json!(open.partition.partition.0),
            json!(open.start_offset.0),
            json!(high_watermarks.get(&open.partition).map(|offset| offset.0)),
            json!(coordinator.map(|transaction| transaction.transactional_id.as_str())),
            json!(coordinator.map_or("hangs", |transaction| transaction.transaction_state.as_str())),
            json!(open.producer_id.0),
            json!(open.producer_epoch.0),
            began.map_or(Value::Null, |at| time(at, json)),
            time(open.last_write, json),
        ]);
    }
    if !first.is_empty() {
        table.print(json)?;
    }
    if let Some(OpenTxn { partition, start_offset, .. }) = hanging.first() {
        say(format_args!(
            "no coordinator will end what hangs: `dohle txn abort --partition {}:{} --start-offset {start_offset}` \
             aborts the first",
            partition.topic, partition.partition
        ));
    }
    Ok(())
}

/// The open transaction of each partition by which its last stable offset is held: the one that begins first.
fn first_of_each(open: Vec<OpenTxn>) -> Vec<OpenTxn> {
    let mut first: BTreeMap<TopicPartition, OpenTxn> = BTreeMap::new();
    for open in open {
        let is_earlier =
            first.get(&open.partition).is_none_or(|other| open.start_offset < other.start_offset);
        if is_earlier {
            first.insert(open.partition.clone(), open);
        }
    }
    first.into_values().collect()
}

#[cfg(test)]
mod tests {
    use dohle_types::{Offset, PartitionIndex, ProducerEpoch, ProducerId};

    use super::*;

    #[test]
    fn the_transaction_that_begins_first_holds_a_partition_back() {
        let open = |partition: i32, producer_id: i64, start_offset: i64| OpenTxn {
            partition: TopicPartition::new("orders", PartitionIndex(partition)),
            producer_id: ProducerId(producer_id),
            producer_epoch: ProducerEpoch(0),
            coordinator_epoch: None,
            start_offset: Offset(start_offset),
            last_write: Timestamp(0),
        };
        let first = first_of_each(vec![open(1, 1, 9), open(0, 2, 5), open(0, 1, 3), open(0, 3, 7)]);
        assert_eq!(first, [open(0, 1, 3), open(1, 1, 9)]);
    }
}
