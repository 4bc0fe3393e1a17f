//! Reading: `dohle bench consume`.

use std::collections::BTreeSet;

use dohle_client::{Consumer, ConsumerConfig, ConsumerEvent, StartAt};
use dohle_types::{PartitionIndex, TopicPartition};

use super::ConsumeBench;
use super::report::Report;
use crate::driver::Driver;
use crate::session::{Session, cluster_config, seed};
use crate::topic::refused;
use crate::{CliError, Connection};

pub(super) fn run(connection: &Connection, bench: &ConsumeBench) -> Result<(), CliError> {
    let common = &bench.common;
    let metadata = Session::new(connection)?.metadata(Some(std::slice::from_ref(&common.topic)))?;
    let error =
        metadata.topic(&common.topic).map_or(dohle_types::ErrorCode::UnknownTopicOrPartition, |it| it.error);
    refused(&format!("topic {}", common.topic), if error.is_none() { Ok(()) } else { Err(error) }, None)?;
    let count = metadata.topic(&common.topic).map_or(0, |topic| topic.partitions.len());
    let mut driver = Driver::new()?;
    let config = ConsumerConfig {
        cluster: cluster_config(),
        partition_max_bytes: bench.fetch_size,
        ..ConsumerConfig::default()
    };
    let endpoints = connection.endpoints()?;
    let connections = usize::from(common.connections).min(count.max(1));
    let mut reading = BTreeSet::new();
    let mut consumers: Vec<Consumer> = (0..connections)
        .map(|number| {
            let mut consumer = Consumer::new(config.clone(), endpoints.clone(), seed());
            let own = (number..count).step_by(connections).map(|index| {
                TopicPartition::new(
                    common.topic.clone(),
                    PartitionIndex(i32::try_from(index).unwrap_or(i32::MAX)),
                )
            });
            let own: Vec<_> = own.collect();
            reading.extend(own.iter().cloned());
            consumer.assign(driver.now(), own.into_iter().map(|partition| (partition, StartAt::Earliest)));
            consumer
        })
        .collect();
    let mut report = Report::begin(common.server_pid)?;
    let mut fetched_batches = 0;
    while !reading.is_empty() && bench.records.is_none_or(|records| report.records < records) {
        for consumer in &mut consumers {
            while let Some(event) = consumer.next_event() {
                match event {
                    ConsumerEvent::Records(fetched) => {
                        fetched_batches += 1;
                        let count = fetched.batch().header().record_count;
                        report.records += u64::try_from(count).unwrap_or(0);
                        report.bytes += fetched.size_in_bytes() as u64;
                    }
                    ConsumerEvent::End { partition, .. } => {
                        reading.remove(&partition);
                    }
                    ConsumerEvent::PartitionFailed { partition, error } => {
                        return Err(CliError::Partition { partition, error });
                    }
                    ConsumerEvent::Assigned(_)
                    | ConsumerEvent::Revoked(_)
                    | ConsumerEvent::Committed(_)
                    | ConsumerEvent::GroupFailed(_) => {}
                }
            }
        }
        report.draw();
        if driver.is_interrupted() {
            break;
        }
        driver.turn(&mut consumers, None)?;
    }
    report.conclude(common.json, (fetched_batches, "batches"))
}
