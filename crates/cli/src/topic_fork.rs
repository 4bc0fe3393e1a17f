//! `dohle topic fork`: a request that only Dohle knows.

use std::collections::BTreeMap;

use dohle_client::Target;
use dohle_client::metadata::check;
use dohle_protocol::messages::ForkTopicRequest;
use dohle_protocol::messages::fork_topic_request::ForkTopicPartition;
use dohle_types::{ErrorCode, Str, TopicPartition};
use serde_json::json;

use crate::CliError;
use crate::group::{Offsets, list_offsets, log_bounds};
use crate::input::Place;
use crate::output::Table;
use crate::session::Session;
use crate::topic::{first_error, refused};

pub(crate) fn run(
    session: &mut Session,
    source: Str,
    new_name: Str,
    at: &Place,
    json: bool,
) -> Result<(), CliError> {
    let partitions = ends(session, &source, at)?.into_iter().map(|(partition, end)| ForkTopicPartition {
        partition_index: partition.partition.0,
        end_offset: end.0,
    });
    let what = format!("topic {new_name}");
    let request =
        ForkTopicRequest { name: source, new_name: new_name.clone(), partitions: partitions.collect() };
    // A disk without room, or one that failed, is not waited for.
    let response = session.call(Target::Controller, request, |response| {
        let error = first_error([response.error_code].into_iter());
        if error == ErrorCode::KafkaStorageError { ErrorCode::None } else { error }
    })?;
    refused(&what, check(response.error_code), response.error_message)?;
    let mut table = Table::new(["topic", "partition", "start offset", "end offset"]);
    for partition in response.partitions {
        table.row([
            json!(new_name.as_str()),
            json!(partition.partition_index),
            json!(partition.start_offset),
            json!(partition.end_offset),
        ]);
    }
    Ok(table.print(json)?)
}

/// Where the fork leaves each partition; one that is not named it leaves at its end.
fn ends(session: &mut Session, source: &Str, at: &Place) -> Result<Offsets, CliError> {
    if *at == Place::End {
        return Ok(BTreeMap::new());
    }
    let metadata = session.metadata(Some(std::slice::from_ref(source)))?;
    let topic = metadata.topic(source);
    let indexes = topic.into_iter().flat_map(|topic| topic.partitions.iter().map(|it| it.index));
    let partitions: Vec<_> = indexes.map(|index| TopicPartition::new(source.clone(), index)).collect();
    let all = |offset| partitions.iter().map(|partition| (partition.clone(), offset)).collect();
    Ok(match at {
        Place::End => BTreeMap::new(),
        Place::Offset(offset) => all(*offset),
        Place::Timestamp(timestamp) => list_offsets(session, &metadata, &partitions, *timestamp)?,
        Place::Beginning => log_bounds(session, source, &partitions)?.0,
        Place::Shift(by) => {
            let ends = log_bounds(session, source, &partitions)?.1;
            ends.into_iter().map(|(partition, end)| (partition, end.plus(*by))).collect()
        }
    })
}
