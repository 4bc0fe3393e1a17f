//! Reading: `dohle bench consume`.

use std::collections::BTreeSet;
use std::time::Duration;

use dohle_client::{Consumer, ConsumerConfig, ConsumerEvent, StartAt};
use dohle_types::time::Instant;
use dohle_types::{PartitionIndex, TopicPartition};

use super::report::Report;
use super::{ConsumeBench, positive, seconds};
use crate::driver::Driver;
use crate::session::{Session, cluster_config, seed};
use crate::topic::refused;
use crate::{CliError, Connection};

pub(super) fn run(connection: &Connection, bench: &ConsumeBench) -> Result<(), CliError> {
    let common = &bench.common;
    let rate = positive(bench.rate)?;
    let duration = bench.duration.map(seconds).transpose()?;
    let metadata = Session::new(connection)?.metadata(Some(std::slice::from_ref(&common.topic)))?;
    let error =
        metadata.topic(&common.topic).map_or(dohle_types::ErrorCode::UnknownTopicOrPartition, |it| it.error);
    refused(&format!("topic {}", common.topic), if error.is_none() { Ok(()) } else { Err(error) }, None)?;
    let count = metadata.topic(&common.topic).map_or(0, |topic| topic.partitions.len());
    let mut driver = Driver::new()?;
    let defaults = ConsumerConfig::default();
    let config = ConsumerConfig {
        cluster: cluster_config(),
        partition_max_bytes: bench.fetch_size,
        // Whoever begins again must not wait for what may come at the end.
        fetch_max_wait: duration.map_or(defaults.fetch_max_wait, |_| Duration::from_millis(1)),
        // At a rate it must not fetch in bursts what it takes evenly.
        buffer_max: rate.map_or(defaults.buffer_max, |_| usize::try_from(bench.fetch_size).unwrap_or(1)),
        ..defaults
    };
    let endpoints = connection.endpoints()?;
    let connections = usize::from(common.connections).min(count.max(1));
    let mut reading = Reading {
        own: (0..connections)
            .map(|number| {
                let indexes = (number..count).step_by(connections);
                indexes
                    .map(|index| PartitionIndex(i32::try_from(index).unwrap_or(i32::MAX)))
                    .map(|index| TopicPartition::new(common.topic.clone(), index))
                    .collect()
            })
            .collect(),
        left: vec![BTreeSet::new(); connections],
    };
    let mut consumers: Vec<Consumer> =
        (0..connections).map(|_| Consumer::new(config.clone(), endpoints.clone(), seed())).collect();
    for (number, consumer) in consumers.iter_mut().enumerate() {
        reading.begin(&driver, number, consumer);
    }
    let started = driver.now().instant;
    let mut report = Report::begin(common.server_pid)?;
    let mut fetched_batches = 0;
    while bench.records.is_none_or(|records| report.records < records) && !driver.is_interrupted() {
        let elapsed = driver.now().instant.saturating_sub(started);
        match duration {
            Some(duration) if elapsed >= duration => break,
            None if reading.left.iter().all(BTreeSet::is_empty) => break,
            Some(_) | None => {}
        }
        let mut until_due = Duration::ZERO;
        for (number, consumer) in consumers.iter_mut().enumerate() {
            loop {
                until_due =
                    rate.map_or(Duration::ZERO, |rate| due(report.records, rate).saturating_sub(elapsed));
                if !until_due.is_zero() {
                    break;
                }
                let Some(event) = consumer.next_event() else { break };
                match event {
                    ConsumerEvent::Records(fetched) => {
                        fetched_batches += 1;
                        let count = fetched.batch().header().record_count;
                        report.records += u64::try_from(count).unwrap_or(0);
                        report.bytes += fetched.size_in_bytes() as u64;
                    }
                    ConsumerEvent::End { partition, .. } => reading.end(number, &partition),
                    ConsumerEvent::PartitionFailed { partition, error } => {
                        return Err(CliError::Partition { partition, error });
                    }
                    ConsumerEvent::Assigned(_)
                    | ConsumerEvent::Revoked(_)
                    | ConsumerEvent::Committed(_)
                    | ConsumerEvent::GroupFailed(_) => {}
                }
            }
            if duration.is_some() && reading.left.get(number).is_some_and(BTreeSet::is_empty) {
                reading.begin(&driver, number, consumer);
            }
        }
        report.draw();
        let patience = (!until_due.is_zero()).then_some(until_due);
        driver.turn(&mut consumers, patience)?;
    }
    report.conclude(common.json, (fetched_batches, "batches"))
}

/// When a reader at this rate is to have taken so many records.
fn due(records: u64, rate: f64) -> Instant {
    #[expect(clippy::cast_precision_loss, reason = "exact for years of microseconds")]
    let records = records as f64;
    Duration::from_secs_f64(records / rate)
}

/// What each consumer reads.
struct Reading {
    own: Vec<Vec<TopicPartition>>,
    /// Those of which it has not reached the end yet.
    left: Vec<BTreeSet<TopicPartition>>,
}

impl Reading {
    /// Has a consumer read its partitions from their beginning.
    fn begin(&mut self, driver: &Driver, number: usize, consumer: &mut Consumer) {
        let (Some(own), Some(left)) = (self.own.get(number), self.left.get_mut(number)) else { return };
        left.extend(own.iter().cloned());
        consumer.assign(driver.now(), own.iter().map(|partition| (partition.clone(), StartAt::Earliest)));
    }

    fn end(&mut self, number: usize, partition: &TopicPartition) {
        if let Some(left) = self.left.get_mut(number) {
            left.remove(partition);
        }
    }
}
