//! GroupLag (key 20011, versions 0-0): how far a group is behind in each partition that it has committed an offset of, or
//! is assigned. Dohle's own.
//!
//! - `Lag`: records from the committed offset to the high watermark, without those that retention or DeleteRecords took;
//!   those that compaction took are counted.
//! - `LagMs`: the age of the first of them that is no control record, by its timestamp; 0 where there is none.
//! - `State`: 0 ok, 1 slow, 2 stuck, 3 stopped (`dohle_groups`' `lag/judge.rs`), by `CommitsSeen` commits.
//! - -1 is what is not known: of a partition with an `ErrorCode`, and what is behind the bounds of one request. It opens at
//!   most 100 logs that are closed, and of others tells what was known when they were closed; and it looks up ages for five
//!   seconds, four at a time.

use std::ops::RangeInclusive;
use std::time::Duration;

use dohle_groups::lag::{Backlog, GroupPartition, LogEnds, WatchedGroup};
use dohle_metrics::Format;
use dohle_protocol::messages::group_lag_response::{LaggingPartition, LaggingTopic};
use dohle_protocol::messages::{GroupLagRequest, GroupLagResponse};
use dohle_records::{BatchHeader, TimestampType};
use dohle_storage::{FindTimestamp, Read, ReadError, TimestampOffset};
use dohle_types::{ErrorCode, Now, Offset, Str, Timestamp};

use crate::connection::Call;
use crate::host::{DiskJob, ScrapeId};
use crate::metrics::{GroupsSeen, Lag};
use crate::node::Node;
use crate::partition::PartitionKey;
use crate::purgatory::{Parked, ParkedId};
use crate::started_jobs::JobPurpose;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=0;

/// Closed logs that one request opens at most.
const OPENED_MAX: usize = 100;

/// Look-ups of one request at a time.
const LOOK_UPS_MAX: usize = 4;

/// How long one request looks for ages.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who wants to know.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A client, of one group.
    Client(Call),
    /// Somebody who wants metrics, of all groups.
    Scrape(ScrapeId, Format),
}

/// A request whose ages are not all known.
#[derive(Debug)]
pub struct ParkedGroupLag {
    asker: Asker,
    groups: Vec<(Str, WatchedGroup)>,
    partitions: Vec<Measured>,
    /// Partitions that are too many.
    left_out: u64,
    /// Places in `partitions` whose age is still to be looked for.
    unknown: Vec<usize>,
    under_way: usize,
}

/// A partition of the group, as far as is known.
#[derive(Debug)]
struct Measured {
    /// The place of the group.
    group: usize,
    topic: Str,
    lagging: LaggingPartition,
    ends: Option<LogEnds>,
    key: Option<PartitionKey>,
    age: Age,
}

/// How long the first record that is left has been there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Unknown,
    /// There is none, or it is a control record.
    NothingLeft,
    Since(Timestamp),
}

enum LookUp {
    Found(Age),
    Search(FindTimestamp),
}

/// The closed logs that the group is behind in, as many as are opened for one request. Which these are does not depend on
/// what is open already, so that a request that has waited for them waits for no others.
pub(super) fn unopened(node: &Node, request: &GroupLagRequest) -> Vec<PartitionKey> {
    let Ok(ledger) = node.ledger_of(&request.group_id) else { return Vec::new() };
    let offsets = ledger.state().group(&request.group_id).into_iter().flat_map(|group| &group.offsets);
    let committed = offsets.flat_map(|(topic, partitions)| {
        partitions.iter().map(move |(&index, committed)| (topic, index, committed.offset))
    });
    let behind = committed.filter_map(|(topic, index, offset)| {
        let partition = node.partition_of(topic, index).ok()?;
        let is_read = node.log_ends(partition).is_some_and(|ends| ends.high_watermark <= offset);
        (!is_read).then_some(partition.key)
    });
    behind.take(OPENED_MAX).filter(|&key| node.is_unopened(key)).collect()
}

pub(super) fn handle(node: &mut Node, call: Call, request: GroupLagRequest) {
    let group_id = request.group_id;
    let group = match node.watched_group(&group_id) {
        Ok(Some(group)) => group,
        Ok(None) => {
            let message = format!("there is no group {group_id}");
            return node.reply(&call, &refusal(ErrorCode::GroupIdNotFound, Some(message)));
        }
        Err(error) => return node.reply(&call, &refusal(error, None)),
    };
    ask(node, Asker::Client(call), vec![(group_id, group)], usize::MAX, PATIENCE);
}

/// Measures at most so many partitions of groups, looks for their ages for so long, and then tells who asked.
pub(crate) fn ask(
    node: &mut Node,
    asker: Asker,
    groups: Vec<(Str, WatchedGroup)>,
    partitions_max: usize,
    patience: Duration,
) {
    let (mut partitions, mut left_out) = (Vec::new(), 0);
    for (place, (_, group)) in groups.iter().enumerate() {
        for (topic, of_topic) in &group.topics {
            for (&index, partition) in of_topic {
                if partitions.len() < partitions_max {
                    partitions.push(measure(node, place, topic, index, partition));
                } else {
                    left_out += 1;
                }
            }
        }
    }
    let is_unknown = |measured: &Measured| measured.age == Age::Unknown && measured.lagging.lag > 0;
    let unknown =
        (0..partitions.len()).rev().filter(|&place| partitions.get(place).is_some_and(is_unknown)).collect();
    let connection = match &asker {
        Asker::Client(call) => Some(call.connection),
        Asker::Scrape(..) => None,
    };
    let parked = ParkedGroupLag { asker, groups, partitions, left_out, unknown, under_way: 0 };
    let id = node.purgatory.next_id();
    let deadline = node.now.after(patience);
    node.purgatory.park(id, connection, Parked::GroupLag(Box::new(parked)), Some(deadline));
    go_on(node, id);
}

/// Begins the next look-ups, or answers where none is left.
fn go_on(node: &mut Node, id: ParkedId) {
    loop {
        let Some(Parked::GroupLag(parked)) = node.purgatory.parked_mut(id) else { return };
        if parked.unknown.is_empty() && parked.under_way == 0 {
            break;
        }
        if parked.under_way == LOOK_UPS_MAX {
            return;
        }
        let Some(place) = parked.unknown.pop() else { return };
        let Some(measured) = parked.partitions.get(place) else { continue };
        let (Some(key), from) = (measured.key, Offset(measured.lagging.committed_offset)) else { continue };
        match look_up(node, key, from) {
            LookUp::Found(age) => set_age(node, id, place, age),
            LookUp::Search(job) => {
                if let Some(Parked::GroupLag(parked)) = node.purgatory.parked_mut(id) {
                    parked.under_way += 1;
                }
                let job = DiskJob::FindTimestamp(Box::new(job));
                node.start_read(key, JobPurpose::GroupLag(id, place), job);
            }
        }
    }
    if let Some((Parked::GroupLag(parked), _)) = node.purgatory.take(id) {
        answer(node, *parked);
    }
}

/// A look-up is finished.
pub(crate) fn on_found(
    node: &mut Node,
    id: ParkedId,
    place: usize,
    found: Result<Option<TimestampOffset>, ReadError>,
) {
    let age = match found {
        Ok(Some(found)) => Age::Since(found.timestamp),
        Ok(None) => Age::NothingLeft,
        // Whoever reads it is told of the damage.
        Err(_) => Age::Unknown,
    };
    set_age(node, id, place, age);
    on_ended(node, id);
}

/// A look-up cannot be finished: the log dir has failed.
pub(crate) fn on_failed(node: &mut Node, id: ParkedId) {
    on_ended(node, id);
}

/// The files that a look-up has read are not there any more: it is made again.
pub(crate) fn on_outdated(node: &mut Node, id: ParkedId, place: usize) {
    if let Some(Parked::GroupLag(parked)) = node.purgatory.parked_mut(id) {
        parked.unknown.push(place);
    }
    on_ended(node, id);
}

/// It took too long: the ages that are not found are not told.
pub(crate) fn on_expired(node: &mut Node, parked: ParkedGroupLag) {
    answer(node, parked);
}

fn on_ended(node: &mut Node, id: ParkedId) {
    if let Some(Parked::GroupLag(parked)) = node.purgatory.parked_mut(id) {
        parked.under_way -= 1;
    }
    go_on(node, id);
}

fn set_age(node: &mut Node, id: ParkedId, place: usize, age: Age) {
    if let Some(Parked::GroupLag(parked)) = node.purgatory.parked_mut(id)
        && let Some(measured) = parked.partitions.get_mut(place)
    {
        measured.age = age;
    }
}

/// What is left to read of a partition.
fn measure(node: &Node, group: usize, topic: &Str, index: i32, of_group: &GroupPartition) -> Measured {
    let mut lagging = LaggingPartition { partition_index: index, ..LaggingPartition::default() };
    if let Some(committed) = &of_group.committed {
        lagging.committed_offset = committed.offset.0;
        lagging.committed_at_ms = committed.committed_at.0;
    }
    if let Some(owner) = of_group.owner.clone() {
        lagging.member_id = Some(owner.member_id);
        lagging.group_instance_id = owner.instance_id;
        lagging.client_id = Some(owner.client_id);
        lagging.client_host = Some(owner.client_host);
    }
    let age = Age::Unknown;
    let mut measured = Measured { group, topic: topic.clone(), lagging, ends: None, key: None, age };
    let lagging = &mut measured.lagging;
    let partition = match node.partition_of(topic, index) {
        Ok(partition) => partition,
        Err(error) => {
            lagging.error_code = error.code();
            return measured;
        }
    };
    let Some(ends) = node.log_ends(partition) else {
        lagging.error_code = partition.unavailable().code();
        return measured;
    };
    lagging.high_watermark = ends.high_watermark.0;
    measured.key = partition.log().map(|_| partition.key);
    if measured.key.is_some() || partition.is_new() {
        lagging.log_start_offset = ends.start.0;
        lagging.last_stable_offset = ends.last_stable.0;
    }
    let Some(committed) = &of_group.committed else { return measured };
    if !committed.topic_id.is_zero() && committed.topic_id != partition.topic_id {
        // It is of an earlier topic of this name.
        lagging.error_code = ErrorCode::UnknownTopicId.code();
        return measured;
    }
    lagging.lag = ends.lag(committed.offset);
    measured.ends = Some(ends);
    if lagging.lag == 0 {
        measured.age = Age::NothingLeft;
    }
    measured
}

/// How long the first record from an offset on has been there.
fn look_up(node: &Node, key: PartitionKey, from: Offset) -> LookUp {
    let Some(partition) = node.partitions.by_key(key) else { return LookUp::Found(Age::Unknown) };
    let Some(log) = partition.log() else { return LookUp::Found(Age::Unknown) };
    let (from, end) = (from.max(log.start_offset()), partition.high_watermark());
    // Records that were just written are in memory, and mostly it is a batch that begins with the one in question.
    if let Ok(Read::Hot(batches)) = log.read(from, end, 1, true)
        && let Some(Ok(header)) = batches.first().map(|batch| BatchHeader::parse(batch))
        && header.base_offset == from
        && !header.attributes.is_control()
        && !header.attributes.has_delete_horizon()
    {
        let is_appended = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
        let timestamp = if is_appended { header.max_timestamp } else { header.base_timestamp };
        return LookUp::Found(Age::Since(timestamp));
    }
    log.find_first(from, end).map_or(LookUp::Found(Age::NothingLeft), LookUp::Search)
}

/// Judges each partition, and tells who asked.
fn answer(node: &mut Node, parked: ParkedGroupLag) {
    let ParkedGroupLag { asker, groups, mut partitions, left_out, .. } = parked;
    for measured in &mut partitions {
        if let Some((group_id, group)) = groups.get(measured.group) {
            judge(node, group_id, group, measured);
        }
    }
    match asker {
        Asker::Client(call) => answer_client(node, call, &groups, partitions),
        Asker::Scrape(scrape, format) => {
            let lags = partitions.into_iter().filter(|measured| measured.lagging.lag >= 0).filter_map(|measured| {
                let Measured { group, topic, lagging, .. } = measured;
                let group = groups.get(group)?.0.clone();
                let LaggingPartition { partition_index: partition, lag, lag_ms, state, .. } = lagging;
                Some(Lag { group, topic, partition, lag, lag_ms, state })
            });
            let lags = lags.collect();
            node.finish_scrape(scrape, format, &GroupsSeen { groups, lags, left_out });
        }
    }
}

/// Answers once what the ledger knows is committed.
fn answer_client(node: &mut Node, call: Call, groups: &[(Str, WatchedGroup)], partitions: Vec<Measured>) {
    let Some((group_id, group)) = groups.first() else { return };
    let index = match node.coordinator_of(group_id) {
        Ok(index) => index,
        Err(error) => return node.reply(&call, &refusal(error, None)),
    };
    let mut response = GroupLagResponse {
        group_state: group.state.clone(),
        group_type: group.group_type.clone(),
        ..GroupLagResponse::default()
    };
    for Measured { topic, lagging, .. } in partitions {
        match response.topics.last_mut().filter(|last| last.name == topic) {
            Some(last) => last.partitions.push(lagging),
            None => response.topics.push(LaggingTopic { name: topic, partitions: vec![lagging] }),
        }
    }
    node.answer_from_group(index, call, &response);
}

/// Fills in the lag in time, and the state.
fn judge(node: &Node, group_id: &Str, group: &WatchedGroup, measured: &mut Measured) {
    let Measured { topic, lagging, ends: Some(ends), age, .. } = measured else { return };
    let of_group = group.topics.get(topic).and_then(|topic| topic.get(&lagging.partition_index));
    let Some(committed) = of_group.and_then(|it| it.committed.as_ref()) else { return };
    lagging.lag_ms = match *age {
        Age::Unknown => -1,
        Age::NothingLeft => 0,
        Age::Since(timestamp) => lag_ms(node.now, timestamp),
    };
    let backlog = Backlog {
        left: if *age == Age::NothingLeft { 0 } else { ends.left(committed.offset) },
        age: u64::try_from(lagging.lag_ms).ok().map(Duration::from_millis),
        is_abandoned: group.is_abandoned,
    };
    let place = (group_id.clone(), topic.clone(), lagging.partition_index);
    let windows = &node.groups.windows;
    lagging.state = windows.state(node.now, &place, committed, backlog).code();
    lagging.commits_seen = i32::try_from(windows.commits(&place, committed)).unwrap_or(i32::MAX);
}

/// -1 where the record has no time; 0 where a producer's clock is ahead.
fn lag_ms(now: Now, timestamp: Timestamp) -> i64 {
    if timestamp < Timestamp(0) { -1 } else { now.wall.0.saturating_sub(timestamp.0).max(0) }
}

fn refusal(error: ErrorCode, message: Option<String>) -> GroupLagResponse {
    GroupLagResponse {
        error_code: error.code(),
        error_message: message.map(Into::into),
        ..GroupLagResponse::default()
    }
}
