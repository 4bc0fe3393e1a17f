//! `dohle group reset-offsets`: where a group goes on from, with or without members.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dohle_client::group::offsets::{Committer, commit_request};
use dohle_client::metadata::{check, error_of};
use dohle_client::{Metadata, Target};
use dohle_protocol::messages::ResetGroupOffsetsRequest;
use dohle_protocol::messages::reset_group_offsets_request::{ResetPartition, ResetTopic};
use dohle_types::{ErrorCode, Offset, PartitionIndex, Str, TopicPartition};
use serde_json::json;

use crate::CliError;
use crate::group::{EARLIEST, LATEST, Offsets, committed, list_offsets};
use crate::input::{Place, parse_topic_partition};
use crate::output::{Table, say};
use crate::session::Session;
use crate::topic::{first_error, refused};

/// `dohle group reset-offsets ...`
#[derive(Clone, Debug, clap::Args)]
pub struct ResetArgs {
    /// The group's name
    #[arg(value_name = "GROUP")]
    group: Str,
    /// Which topics, or partitions as TOPIC:PARTITION; may be repeated. Without it all that the group has offsets of
    #[arg(short, long = "topic", value_name = "TOPIC[:PARTITION]", conflicts_with = "from_file")]
    topics: Vec<String>,
    /// earliest, latest, OFFSET, a time such as 2026-11-22T10:00:00Z, a duration such as PT1H or P2D to go back, or +N or
    /// -N to go on from where it is
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true, required_unless_present = "from_file")]
    to: Option<Place>,
    /// The offsets of a file with a line TOPIC,PARTITION,OFFSET for each partition, as --export and
    /// kafka-consumer-groups write them
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    from_file: Option<PathBuf>,
    /// Also while members run: they drop their partitions and go on from the new offsets
    #[arg(long)]
    live: bool,
    /// Do it; without this only what would be done is shown
    #[arg(long, conflicts_with = "dry_run")]
    execute: bool,
    /// Only show what would be done, which is the default
    #[arg(long)]
    dry_run: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// A line TOPIC,PARTITION,OFFSET for each partition, to be kept for --from-file
    #[arg(long, conflicts_with = "json")]
    export: bool,
}

pub(crate) fn run(session: &mut Session, args: &ResetArgs) -> Result<(), CliError> {
    let group = &args.group;
    let metadata = session.metadata(None)?;
    let committed = committed(session, &metadata, group)?;
    let from_file = args.from_file.as_deref().map(read_file).transpose()?;
    let partitions: Vec<TopicPartition> = match &from_file {
        Some(offsets) => offsets.keys().cloned().collect(),
        None => chosen(&metadata, &args.topics, &committed)?,
    };
    if partitions.is_empty() {
        return Err(CliError::Usage(format!("group {group} has no offsets: name topics with --topic")));
    }
    let first = list_offsets(session, &metadata, &partitions, EARLIEST)?;
    let end = list_offsets(session, &metadata, &partitions, LATEST)?;
    let at_time = match args.to {
        Some(Place::Timestamp(timestamp)) => list_offsets(session, &metadata, &partitions, timestamp)?,
        Some(Place::Beginning | Place::End | Place::Offset(_) | Place::Shift(_)) | None => BTreeMap::new(),
    };
    let mut table = Table::new(["group", "topic", "partition", "current offset", "new offset"]);
    let mut offsets = BTreeMap::new();
    for partition in partitions {
        let (Some(&first), Some(&end)) = (first.get(&partition), end.get(&partition)) else { continue };
        let current = committed.get(&partition).copied();
        let listed = from_file.as_ref().and_then(|offsets| offsets.get(&partition).copied());
        let wanted = match args.to {
            None => listed.unwrap_or(end),
            Some(Place::Beginning) => first,
            Some(Place::End) => end,
            Some(Place::Offset(offset)) => offset,
            Some(Place::Timestamp(_)) => at_time.get(&partition).copied().unwrap_or(end),
            Some(Place::Shift(by)) => current.unwrap_or(end).plus(by),
        };
        // Beyond the log there is nothing to go on from.
        let new = wanted.clamp(first, end.max(first));
        table.row([
            json!(group.as_str()),
            json!(partition.topic.as_str()),
            json!(partition.partition.0),
            json!(current.map(|offset| offset.0)),
            json!(new.0),
        ]);
        offsets.insert(partition, new);
    }
    match (args.execute, args.live) {
        (true, true) => reset_live(session, group, &offsets)?,
        (true, false) => commit(session, &metadata, group, &offsets)?,
        (false, _) => {}
    }
    if args.export {
        crate::output::lines(offsets.iter().map(|(partition, offset)| {
            format!("{},{},{}", partition.topic, partition.partition.0, offset.0)
        }))?;
    } else {
        table.print(args.json)?;
    }
    if !args.execute {
        say("nothing was changed; --execute does it");
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<Offsets, CliError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?;
    parse_offsets(&text)
        .map_err(|line| CliError::Usage(format!("{}: `{line}` is no TOPIC,PARTITION,OFFSET", path.display())))
}

/// The offset of each partition, or the line that has none.
fn parse_offsets(text: &str) -> Result<Offsets, &str> {
    let parse = |line: &str| {
        let mut fields = line.split(',').map(|field| field.trim().trim_matches('"'));
        let (topic, partition, offset) = (fields.next()?, fields.next()?, fields.next()?);
        let partition = TopicPartition::new(topic, PartitionIndex(partition.parse().ok()?));
        fields.next().is_none().then_some((partition, Offset(offset.parse().ok()?)))
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| parse(line).ok_or(line)).collect()
}

/// The partitions that the arguments name.
fn chosen(
    metadata: &Metadata,
    topics: &[String],
    committed: &Offsets,
) -> Result<Vec<TopicPartition>, CliError> {
    if topics.is_empty() {
        return Ok(committed.keys().cloned().collect());
    }
    let mut partitions = Vec::new();
    for text in topics {
        let (name, partition) = parse_topic_partition(text);
        let topic = metadata.topic(&name).ok_or_else(|| CliError::Refused {
            what: format!("topic {name}"),
            error: ErrorCode::UnknownTopicOrPartition,
            message: None,
        })?;
        let all = topic.partitions.iter().map(|it| it.index);
        let wanted = all.filter(|index| partition.is_none_or(|partition| partition == *index));
        partitions.extend(wanted.map(|index| TopicPartition::new(name.clone(), index)));
    }
    Ok(partitions)
}

fn commit(
    session: &mut Session,
    metadata: &Metadata,
    group: &Str,
    offsets: &Offsets,
) -> Result<(), CliError> {
    let request = commit_request(metadata, group, Committer::default(), offsets);
    let response = session.call(Target::Coordinator(group.clone()), request, |response| {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        first_error(partitions.map(|partition| partition.error_code))
    })?;
    for partition in response.topics.into_iter().flat_map(|topic| topic.partitions) {
        // A group with members answers that the commit is from no member of it.
        let result = check(partition.error_code).map_err(|error| match error == ErrorCode::UnknownMemberId {
            true => ErrorCode::NonEmptyGroup,
            false => error,
        });
        let advice =
            (result == Err(ErrorCode::NonEmptyGroup)).then(|| "--live resets under its members".into());
        refused(&format!("offsets of group {group}"), result, advice)?;
    }
    Ok(())
}

/// Sets the offsets under the members; waits for a rebalance to end.
fn reset_live(session: &mut Session, group: &Str, offsets: &Offsets) -> Result<(), CliError> {
    let mut topics: BTreeMap<Str, Vec<ResetPartition>> = BTreeMap::new();
    for (partition, offset) in offsets {
        let reset = ResetPartition { partition_index: partition.partition.0, offset: offset.0 };
        topics.entry(partition.topic.clone()).or_default().push(reset);
    }
    let request = ResetGroupOffsetsRequest {
        group_id: group.clone(),
        topics: topics.into_iter().map(|(name, partitions)| ResetTopic { name, partitions }).collect(),
    };
    let response = session.call(Target::Coordinator(group.clone()), request, |response| {
        let error = error_of(response.error_code);
        // No error that clients try again for, but a rebalance ends soon.
        if error == ErrorCode::RebalanceInProgress { ErrorCode::CoordinatorLoadInProgress } else { error }
    })?;
    refused(&format!("offsets of group {group}"), check(response.error_code), response.error_message)?;
    say(format_args!("{} members drop their partitions and go on from there", response.member_count));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_those_of_kafkas_tool() {
        let offsets = parse_offsets("orders,0,5\n\"orders\",1,\"7\"\n\n").unwrap();
        let told: Vec<_> = offsets.iter().map(|(at, offset)| format!("{at}@{}", offset.0)).collect();
        assert_eq!(told, ["orders-0@5", "orders-1@7"]);
        for line in ["orders,0", "orders,x,5", "orders,0,5,6", "orders"] {
            assert_eq!(parse_offsets(&format!("orders,0,5\n{line}\n")), Err(line));
        }
    }
}
