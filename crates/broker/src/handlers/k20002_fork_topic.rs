//! ForkTopic (key 20002, versions 0-0): a new topic that begins with the records of another one, which it shares with it.
//! Dohle's own.
//!
//! Each partition has the records of its source at the same offsets, up to where the source ends, or up to the end
//! offset that the request names for it: up to the last batch that lies below it as a whole. Segments are shared by hard
//! links, which takes no room, and time by their number, not by their size; of one that an end offset divides the part
//! below is copied. The new topic has an id of its own, the configs of the source, and greater leader epochs. No group has
//! offsets in it, and it knows no producers: whoever writes to it begins with sequence 0. Transactions that are open where
//! it leaves the source are aborted there by markers, which are its first records of its own.
//!
//! Retention is as in the source, whose configs it has: what was too old there is too old here.
//!
//! Errors are those of CreateTopics for the new name. A source whose logs are being recovered is
//! NOT_LEADER_OR_FOLLOWER, one in a log dir that failed, or where there is no room, KAFKA_STORAGE_ERROR. Internal topics
//! have no forks (INVALID_TOPIC_EXCEPTION).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use dohle_controller::{MetadataRecord, is_internal_topic};
use dohle_ledger::Outcome;
use dohle_protocol::messages::fork_topic_response::ForkedPartition;
use dohle_protocol::messages::{ForkTopicRequest, ForkTopicResponse, TrashManifest};
use dohle_storage::disk::{DiskError, FilePath, LogDir};
use dohle_storage::{ForkError, ForkLog, ForkTo};
use dohle_types::{ErrorCode, LeaderEpoch, Offset, TopicId, TopicPartition};

use crate::connection::Call;
use crate::fork::ForkTopic;
use crate::host::{DiskJob, Effect};
use crate::node::{Node, Phase};
use crate::partition::{Partition, PartitionKey, State};
use crate::set_aside;
use crate::started_jobs::JobPurpose;
use crate::trash_files::manifest_path;

pub(super) const VERSIONS: RangeInclusive<i16> = 0..=0;

/// How often a fork is begun anew whose source's segments were removed or replaced while they were shared.
const ATTEMPTS_MAX: u32 = 20;

/// A fork whose files are being made.
#[derive(Debug, Clone)]
pub struct Forking {
    call: Call,
    request: ForkTopicRequest,
    topic_id: TopicId,
    /// The partitions that it is made of, with the generations of their logs.
    sources: Vec<(PartitionKey, u32)>,
    directories: Vec<FilePath>,
    attempts: u32,
}

/// What a fork is made of.
#[derive(Default)]
struct Plan {
    manifest: TrashManifest,
    sources: Vec<(PartitionKey, u32)>,
    directories: Vec<FilePath>,
    logs: Vec<(usize, ForkLog)>,
    /// Bytes that are copied in each log dir.
    copied: BTreeMap<LogDir, u64>,
}

/// The partitions of the source whose logs are not open.
pub(super) fn unopened(node: &Node, request: &ForkTopicRequest) -> Vec<PartitionKey> {
    let topic = node.image().topic(&request.name);
    let named = topic.into_iter().flat_map(|topic| {
        topic.partitions.keys().map(|index| (topic.id, topic.name.as_str(), index.0))
    });
    node.unopened(named)
}

pub(super) fn handle(node: &mut Node, call: Call, request: ForkTopicRequest) {
    let topic_id = node.metadata.controller().new_topic_id(&mut node.rng);
    let (sources, directories) = (Vec::new(), Vec::new());
    begin(node, Forking { call, request, topic_id, sources, directories, attempts: 0 });
}

fn begin(node: &mut Node, forking: Forking) {
    let plan = plan(node, &forking.request, forking.topic_id).and_then(|plan| {
        let is_elsewhere = forking.attempts > 0 && plan.directories != forking.directories;
        let moved = || refusal(ErrorCode::NotLeaderOrFollower, "a partition of the source was moved; try again");
        if is_elsewhere { Err(moved()) } else { Ok(plan) }
    });
    match plan {
        Ok(Plan { manifest, sources, directories, logs, .. }) => {
            let path = manifest_path(node.log_dirs.of_metadata_log(), forking.topic_id);
            let attempts = forking.attempts + 1;
            let purpose = JobPurpose::Fork(Box::new(Forking { sources, directories, attempts, ..forking }));
            node.start_job(purpose, DiskJob::Fork(Box::new(ForkTopic::new(path, manifest, logs))));
        }
        Err(response) => give_up(node, &forking, &response),
    }
}

/// The files are there, or cannot be.
pub(crate) fn on_forked(node: &mut Node, forking: Forking, forked: Result<TrashManifest, ForkError>) {
    if !matches!(node.phase, Phase::Serving) {
        // What there is of it goes at the next start.
        return;
    }
    match forked {
        Ok(_) | Err(ForkError::Changed { .. }) if !is_as_it_was(node, &forking) => begin(node, forking),
        Err(ForkError::Changed { .. }) if forking.attempts < ATTEMPTS_MAX => begin(node, forking),
        Err(error) => {
            tracing::warn!(topic = %forking.request.name, %error, "a topic cannot be forked");
            give_up(node, &forking, &refusal(ErrorCode::KafkaStorageError, &error.to_string()));
        }
        Ok(manifest) => match records(node, &manifest) {
            Ok(outcome) => {
                node.trash.put_back(&manifest, forking.directories, true);
                node.commit_metadata(forking.call, outcome);
            }
            Err(response) => give_up(node, &forking, &response),
        },
    }
}

/// A step failed: a log dir did, or has no room.
pub(crate) fn on_failed(node: &mut Node, forking: &Forking, error: &DiskError) {
    let message = match error.is_full {
        true => format!("there is no room for the fork's own files: {error}; delete topics, or shorten retention"),
        false => error.to_string(),
    };
    give_up(node, forking, &refusal(ErrorCode::KafkaStorageError, &message));
}

/// There will be no fork: what there is of it goes.
fn give_up(node: &mut Node, forking: &Forking, response: &ForkTopicResponse) {
    if forking.attempts > 0 {
        node.remove_from_trash(forking.topic_id, forking.directories.clone());
    }
    node.reply(&forking.call, response);
}

/// Whether the logs that were forked are those that there are, and had the same segments all the time.
fn is_as_it_was(node: &Node, forking: &Forking) -> bool {
    forking.sources.iter().all(|&(key, generation)| {
        let log = node.partitions.by_key(key).and_then(Partition::log);
        log.is_some_and(|log| log.generation() == generation)
    })
}

fn plan(node: &mut Node, request: &ForkTopicRequest, topic_id: TopicId) -> Result<Plan, ForkTopicResponse> {
    for name in [&request.name, &request.new_name] {
        if is_internal_topic(name) {
            let message = format!("{name} is an internal topic: it is no fork and has none");
            return Err(refusal(ErrorCode::InvalidTopicException, &message));
        }
    }
    let unknown = || refusal(ErrorCode::UnknownTopicOrPartition, &format!("there is no topic {}", request.name));
    let topic = node.image().topic(&request.name).ok_or_else(unknown)?.clone();
    let mut ends = BTreeMap::new();
    for partition in &request.partitions {
        let index = partition.partition_index;
        if !topic.partitions.keys().any(|known| known.0 == index) {
            let message = format!("topic {} has no partition {index}", request.name);
            return Err(refusal(ErrorCode::UnknownTopicOrPartition, &message));
        }
        if ends.insert(index, Offset(partition.end_offset)).is_some() {
            let message = format!("the request names partition {index} more than once");
            return Err(refusal(ErrorCode::InvalidRequest, &message));
        }
    }
    let mut manifest = TrashManifest {
        name: request.new_name.clone(),
        topic_id: topic_id.0,
        is_fork: true,
        ..node.description_of(&topic)
    };
    for partition in &mut manifest.partitions {
        // Those that get a log are told when it is there.
        (partition.log_start_offset, partition.recovery_point) = (0, 0);
    }
    records(node, &manifest)?;
    let mut sources = Vec::new();
    for &index in topic.partitions.keys() {
        sources.push(source(node, &TopicPartition::new(topic.name.clone(), index), topic.id)?);
    }
    let mut plan = Plan { manifest, ..Plan::default() };
    for ((place, (&index, image)), key) in topic.partitions.iter().enumerate().zip(sources) {
        let epoch = LeaderEpoch(image.leader_epoch.0.saturating_add(1));
        let to = TopicPartition::new(request.new_name.clone(), index);
        plan_partition(node, &mut plan, place, key, &to, epoch, ends.get(&index.0).copied())?;
    }
    Ok(plan)
}

/// The partition to fork, if its log is open.
fn source(node: &Node, name: &TopicPartition, topic_id: TopicId) -> Result<PartitionKey, ForkTopicResponse> {
    let key = node.partitions.key(topic_id, name.partition.0);
    let partition = key.and_then(|key| node.partitions.by_key(key));
    let error = match partition {
        Some(partition) if partition.log().is_some_and(|log| !log.is_end_lost()) => return Ok(partition.key),
        Some(partition) if partition.log().is_some() => ErrorCode::KafkaStorageError,
        Some(partition) => partition.unavailable(),
        None => ErrorCode::NotLeaderOrFollower,
    };
    let reason = match partition.map(Partition::state) {
        Some(State::Offline(reason)) => format!("it is offline: {reason}"),
        Some(State::Online(_)) => "it is damaged at its end, which nobody knows".to_owned(),
        Some(State::Closed(_) | State::Opening) | None => {
            "its log is still being recovered; try again".to_owned()
        }
    };
    Err(refusal(error, &format!("partition {name} cannot be forked: {reason}")))
}

/// Adds a partition that has records.
fn plan_partition(
    node: &mut Node,
    plan: &mut Plan,
    place: usize,
    key: PartitionKey,
    name: &TopicPartition,
    leader_epoch: LeaderEpoch,
    at: Option<Offset>,
) -> Result<(), ForkTopicResponse> {
    let Some(partition) = node.partitions.by_key_mut(key) else { return Ok(()) };
    let log_dir = partition.log_dir;
    let Some(log) = partition.log_mut() else { return Ok(()) };
    plan.sources.push((key, log.generation()));
    let topic_id = TopicId(plan.manifest.topic_id);
    let dir = set_aside::trashed(&log_dir.path(&name.to_string()), topic_id);
    let to = ForkTo { dir: dir.clone(), topic_id, config: log.config().clone(), leader_epoch, at };
    let mut ops = Vec::new();
    let fork = log.begin_fork(node.now, to, &mut ops);
    node.effects.extend(ops.into_iter().map(Effect::Disk));
    let Some(fork) = fork else { return Ok(()) };
    let copied = plan.copied.entry(log_dir).or_default();
    *copied += fork.bytes_to_copy();
    if *copied > 0 && !node.log_dirs.has_room_now(log_dir, *copied, node.disk_reserve()) {
        let message = format!(
            "there is no room to copy {copied} bytes: segments are shared, but not those that an end offset divides; \
             fork the whole topic, or make room"
        );
        return Err(refusal(ErrorCode::KafkaStorageError, &message));
    }
    plan.directories.push(dir);
    plan.logs.push((place, fork));
    Ok(())
}

/// The records that make it a topic, and the answer.
fn records(
    node: &Node,
    manifest: &TrashManifest,
) -> Result<Outcome<MetadataRecord, ForkTopicResponse>, ForkTopicResponse> {
    let Outcome { records, reply } =
        node.metadata.controller().handle_undelete_topic(manifest, &manifest.name);
    reply.map_err(|error| refusal(error.error_code(), &error.to_string()))?;
    let partitions = manifest.partitions.iter().map(|partition| ForkedPartition {
        partition_index: partition.index,
        start_offset: partition.log_start_offset,
        end_offset: partition.recovery_point,
    });
    let reply = ForkTopicResponse {
        topic_id: manifest.topic_id,
        partitions: partitions.collect(),
        ..ForkTopicResponse::default()
    };
    Ok(Outcome { records, reply })
}

fn refusal(error: ErrorCode, message: &str) -> ForkTopicResponse {
    ForkTopicResponse {
        error_code: error.code(),
        error_message: Some(message.into()),
        ..ForkTopicResponse::default()
    }
}
