//! Fetch (key 1, versions 4-18): reads record batches as they are stored.
//!
//! A fetch that finds less than it wants is parked and looks again whenever one of its partitions is committed
//! further, until its deadline. What is not in memory is read from files off the loop meanwhile. With isolation level
//! `read_committed` it is told the aborted transactions among the records, whose records the client passes over.
//!
//! A fetch gets no more than the memory for answers has room for, and waits in line when there is none
//! (`answer_line.rs`).
//!
//! Records that are known to be damaged, by a scrub or by the read itself, are answered with CORRUPT_MESSAGE; a consumer
//! goes on behind them when it seeks there.
//!
//! - 4: isolation level. 5: log start offset. 7: incremental sessions (KIP-227). 9: leader epoch fencing (KIP-320).
//! - 10: zstd. 11: rack (KIP-392). 12: flexible; diverging epochs (KIP-595).
//! - 13: topics by id. 15: replica state instead of replica id (KIP-903). 16: node endpoints (KIP-951).
//! - 17: directory ids of followers. 18: high watermark of followers (KIP-1166).
//!
//! Not served yet: fetches of followers (replica id 0 and above), which come with clusters.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use dohle_protocol::Records;
use dohle_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use dohle_protocol::messages::{FetchRequest, FetchResponse};
use dohle_records::Batches;
use dohle_storage::{AbortedTxn, COLD_READ_MAX, Read, ReadError};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Offset, Str, TopicId};

use crate::answer_line;
use crate::connection::Call;
use crate::fetch_session::{FetchContext, FetchKey, FetchedPartition, Told};
use crate::host::DiskJob;
use crate::memory::Share;
use crate::node::Node;
use crate::started_jobs::JobPurpose;
use crate::partition::{Partition, PartitionKey};
use crate::purgatory::{Parked, ParkedId};

pub(super) const VERSIONS: RangeInclusive<i16> = 4..=18;

/// Questions to files that one fetch may have under way. The rest of its cold partitions have their turn next time.
const COLD_READS_MAX: usize = 16;

/// A fetch that waits for data or for files.
#[derive(Debug)]
pub struct ParkedFetch {
    call: Call,
    context: FetchContext,
    min_bytes: usize,
    max_bytes: usize,
    /// Until when it waits for more.
    deadline: Instant,
    read_committed: bool,
    /// What files are asked for, by partition.
    cold: BTreeMap<FetchKey, Asked>,
    /// The partitions that wake it.
    watched: Vec<PartitionKey>,
}

impl ParkedFetch {
    fn may_ask_files(&self) -> bool {
        self.cold.values().filter(|asked| asked.files.is_awaited()).count() < COLD_READS_MAX
    }

    /// Bytes that were read, or are being read, for it.
    fn held(&self) -> usize {
        self.cold.values().map(|asked| asked.bytes).sum()
    }
}

/// What files were asked for.
#[derive(Debug)]
struct Asked {
    files: FromFiles,
    /// Bytes that are taken for it of the memory for answers.
    bytes: usize,
}

/// How far a partition's records have come that are not all in memory.
#[derive(Debug)]
enum FromFiles {
    /// The records are being read.
    Reading,
    /// They were read.
    Read(Result<Vec<Bytes>, ReadError>),
    /// They are here, and the aborted transactions among them are being looked for.
    Finding(Vec<Bytes>),
    /// All is here.
    Found(Vec<Bytes>, Vec<AbortedTxn>),
}

impl FromFiles {
    const fn is_awaited(&self) -> bool {
        matches!(self, Self::Reading | Self::Finding(_))
    }
}

/// The partitions it names whose logs are not open, those of its session among them.
pub(super) fn unopened(node: &Node, request: &FetchRequest) -> Vec<PartitionKey> {
    let named = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|wanted| (TopicId(topic.topic_id), &*topic.topic, wanted.partition))
    });
    let of_session = (request.session_epoch > 0).then(|| node.sessions.partitions(request.session_id));
    let known = of_session.into_iter().flatten().map(|wanted| {
        let key = &wanted.key;
        (key.topic_id, &*key.topic, key.partition)
    });
    node.unopened(named.chain(known))
}

pub(super) fn handle(node: &mut Node, call: Call, request: FetchRequest) {
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        return answer_error(node, &call, ErrorCode::NotLeaderOrFollower);
    }
    let context = match node.sessions.begin(&mut node.rng, &request) {
        Ok(context) => context,
        Err(error) => return answer_error(node, &call, error),
    };
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or_default());
    let fetch = ParkedFetch {
        call,
        context,
        min_bytes: usize::try_from(request.min_bytes).unwrap_or_default(),
        max_bytes: usize::try_from(request.max_bytes).unwrap_or_default().min(node.fixed.fetch_max_bytes),
        deadline: node.now.after(wait),
        read_committed: request.isolation_level == 1,
        cold: BTreeMap::new(),
        watched: Vec::new(),
    };
    let id = node.purgatory.next_id();
    evaluate_in_turn(node, id, fetch);
}

/// One of the fetch's partitions was committed further, or went away.
pub(crate) fn on_woken(node: &mut Node, id: ParkedId) {
    if let Some((Parked::Fetch(fetch), _)) = node.purgatory.take(id) {
        evaluate_in_turn(node, id, *fetch);
    }
}

/// There is memory for its answer.
pub(crate) fn on_turn(node: &mut Node, id: ParkedId) {
    if let Some((Parked::Fetch(fetch), _)) = node.purgatory.take(id) {
        evaluate(node, id, *fetch);
    }
}

/// The fetch has waited long enough.
pub(crate) fn on_expired(node: &mut Node, id: ParkedId, fetch: ParkedFetch) {
    evaluate(node, id, fetch);
}

/// A read from files that the fetch waits for is finished.
pub(crate) fn on_cold_read(
    node: &mut Node,
    id: ParkedId,
    key: FetchKey,
    batches: Result<Vec<Bytes>, ReadError>,
) {
    // What is wanted may lie before or behind it: the fetch looks again.
    if let Err(ReadError::Damaged(damage)) = &batches
        && let Ok(partition) = leading_partition(node, &key, -1).map(|partition| partition.key)
        && node.on_damage_read(partition, damage.clone())
    {
        return on_outdated(node, id, &key);
    }
    if let Some(Parked::Fetch(fetch)) = node.purgatory.parked_mut(id) {
        let bytes = batches.iter().flatten().map(Bytes::len).sum();
        let read = Asked { files: FromFiles::Read(batches), bytes };
        let before = fetch.cold.insert(key, read).map_or(0, |asked| asked.bytes);
        node.memory.take(Share::Answers, bytes);
        node.memory.give_back(Share::Answers, before);
        on_woken(node, id);
    }
}

/// The aborted transactions among the records of a partition are known.
pub(crate) fn on_aborted_found(node: &mut Node, id: ParkedId, key: FetchKey, aborted: Vec<AbortedTxn>) {
    if let Some(Parked::Fetch(fetch)) = node.purgatory.parked_mut(id) {
        if let Some(asked) = fetch.cold.get_mut(&key)
            && let FromFiles::Finding(batches) = &mut asked.files
        {
            asked.files = FromFiles::Found(std::mem::take(batches), aborted);
        }
        on_woken(node, id);
    }
}

/// What was read from files is not there any more.
pub(crate) fn on_outdated(node: &mut Node, id: ParkedId, key: &FetchKey) {
    if let Some(Parked::Fetch(fetch)) = node.purgatory.parked_mut(id) {
        let bytes = fetch.cold.remove(key).map_or(0, |asked| asked.bytes);
        node.memory.give_back(Share::Answers, bytes);
        on_woken(node, id);
    }
}

/// The client of a parked fetch is gone.
pub(crate) fn on_dropped(node: &mut Node, id: ParkedId, mut fetch: ParkedFetch) {
    unwatch(node, id, &mut fetch);
    node.memory.give_back(Share::Answers, fetch.held());
}

/// What one partition has for a fetch.
struct Found {
    data: PartitionData,
    bytes: usize,
    /// Where it is, as far as the partition is there.
    told: Option<Told>,
    partition: Option<PartitionKey>,
}

/// Looks at a fetch when those that wait for memory have had their turn.
fn evaluate_in_turn(node: &mut Node, id: ParkedId, mut fetch: ParkedFetch) {
    // What it has read is memory that nobody else gets before it is answered.
    if fetch.cold.is_empty() && node.must_stand_in_line() {
        unwatch(node, id, &mut fetch);
        node.stand_in_line(id);
        let deadline = fetch.deadline.max(node.now.after(answer_line::PATIENCE));
        let connection = fetch.call.connection;
        return node.purgatory.park(id, Some(connection), Parked::Fetch(Box::new(fetch)), Some(deadline));
    }
    evaluate(node, id, fetch);
}

/// Looks at all partitions of a fetch and answers it, or parks it.
fn evaluate(node: &mut Node, id: ParkedId, mut fetch: ParkedFetch) {
    unwatch(node, id, &mut fetch);
    let partitions: Vec<FetchedPartition> = match &fetch.context {
        FetchContext::Full { partitions, .. } => partitions.clone(),
        FetchContext::Incremental { session_id } => node.sessions.partitions(*session_id).cloned().collect(),
    };
    let mut found = Vec::with_capacity(partitions.len());
    let room = node.answer_room(fetch.held());
    let max_bytes = fetch.max_bytes.min(room.unwrap_or_default());
    if max_bytes < fetch.max_bytes && max_bytes < fetch.min_bytes {
        node.memory.note_shortage(Share::Answers);
    }
    // What is being read counts as well, though it is not here yet.
    let (mut bytes, mut expected) = (0, 0);
    let mut failed = false;
    for wanted in &partitions {
        let first = room.is_some() && expected == 0;
        let one = look(node, id, &mut fetch, wanted, max_bytes.saturating_sub(expected), first);
        let being_read = fetch.cold.get(&wanted.key).filter(|asked| asked.files.is_awaited());
        expected += one.bytes.max(being_read.map_or(0, |asked| asked.bytes));
        bytes += one.bytes;
        failed |= one.data.error_code != 0;
        found.push(one);
    }
    let reading = fetch.cold.values().any(|asked| asked.files.is_awaited());
    let satisfied = bytes >= fetch.min_bytes.min(max_bytes.max(1)) || failed || partitions.is_empty() && fetch.min_bytes == 0;
    if reading || !satisfied && fetch.deadline > node.now.instant {
        watch(node, id, &mut fetch, &partitions);
        // A fetch whose files are being read is answered by what they give, however late it is.
        let deadline = (!reading).then_some(fetch.deadline);
        let connection = fetch.call.connection;
        node.purgatory.park(id, Some(connection), Parked::Fetch(Box::new(fetch)), deadline);
    } else {
        answer(node, &fetch, &partitions, found);
    }
}

/// What the partition has, starting a read from files where it is not in memory.
fn look(
    node: &mut Node,
    id: ParkedId,
    fetch: &mut ParkedFetch,
    wanted: &FetchedPartition,
    room: usize,
    first: bool,
) -> Found {
    let key = &wanted.key;
    let error = |error: ErrorCode| Found {
        data: PartitionData {
            partition_index: key.partition,
            error_code: error.code(),
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            records: Some(Records::default()),
            ..PartitionData::default()
        },
        bytes: 0,
        told: None,
        partition: None,
    };
    let partition = match leading_partition(node, key, wanted.current_leader_epoch) {
        Ok(partition) => partition,
        Err(code) => return error(code),
    };
    let Some(log) = partition.log() else { return error(partition.unavailable()) };
    let partition_key = partition.key;
    let high_watermark = partition.high_watermark();
    let last_stable_offset = partition.last_stable_offset();
    let log_start_offset = log.start_offset();
    let upper_bound = if fetch.read_committed { last_stable_offset } else { high_watermark };
    let from = Offset(wanted.fetch_offset);
    // Kafka fences by the log's end, so that a consumer just behind the high watermark waits and is not reset.
    if from < log_start_offset || from > log.end_offset() {
        return error(ErrorCode::OffsetOutOfRange);
    }
    if log.damage_at(from).is_some() {
        return error(ErrorCode::CorruptMessage);
    }
    let max_bytes = usize::try_from(wanted.max_bytes).unwrap_or_default().min(room);
    let batches = match fetch.cold.get(key).map(|asked| &asked.files) {
        Some(FromFiles::Read(Ok(batches)) | FromFiles::Found(batches, _)) => batches.clone(),
        Some(FromFiles::Read(Err(read_error))) => return error(read_error.error_code()),
        Some(FromFiles::Reading | FromFiles::Finding(_)) => Vec::new(),
        None if from >= upper_bound || max_bytes == 0 && !first => Vec::new(),
        None => match log.read(from, upper_bound, max_bytes, first) {
            Ok(Read::Hot(batches)) => batches,
            Ok(Read::Cold(job)) => {
                if fetch.may_ask_files() {
                    let asked = Asked { files: FromFiles::Reading, bytes: max_bytes.min(COLD_READ_MAX) };
                    let (job, partition) = (DiskJob::ColdRead(Box::new(job)), partition.key);
                    node.memory.take(Share::Answers, asked.bytes);
                    fetch.cold.insert(key.clone(), asked);
                    node.start_read(partition, JobPurpose::Fetch(id, key.clone()), job);
                }
                Vec::new()
            }
            Err(_) => return error(ErrorCode::OffsetOutOfRange),
        },
    };
    let (batches, aborted) = if fetch.read_committed {
        with_aborted(node, id, fetch, key, from, batches)
    } else {
        (batches, None)
    };
    let mut records = Records::default();
    batches.into_iter().for_each(|batch| records.push(batch));
    let bytes = records.len();
    let data = PartitionData {
        partition_index: key.partition,
        high_watermark: high_watermark.0,
        last_stable_offset: last_stable_offset.0,
        log_start_offset: log_start_offset.0,
        aborted_transactions: aborted,
        records: Some(records),
        ..PartitionData::default()
    };
    let told = Told { high_watermark: high_watermark.0, log_start_offset: log_start_offset.0 };
    Found { data, bytes, told: Some(told), partition: Some(partition_key) }
}

/// The batches and the aborted transactions among them; nothing while these are looked for.
fn with_aborted(
    node: &mut Node,
    id: ParkedId,
    fetch: &mut ParkedFetch,
    key: &FetchKey,
    from: Offset,
    batches: Vec<Bytes>,
) -> (Vec<Bytes>, Option<Vec<AbortedTransaction>>) {
    // A fetch that is woken while its files are being read goes on waiting for them.
    if fetch.cold.get(key).is_some_and(|asked| asked.files.is_awaited()) {
        return (batches, Some(Vec::new()));
    }
    if let Some(Asked { files: FromFiles::Found(_, aborted), .. }) = fetch.cold.get(key) {
        let told = |txn: &AbortedTxn| AbortedTransaction {
            producer_id: txn.producer_id.0,
            first_offset: txn.first_offset.0,
        };
        return (batches, Some(aborted.iter().map(told).collect()));
    }
    let Ok(partition) = leading_partition(node, key, -1) else { return (batches, Some(Vec::new())) };
    let last = batches.last().and_then(|bytes| Batches::new(bytes.clone()).map_while(Result::ok).last());
    let job = last.and_then(|last| partition.log()?.find_aborted(from, last.header().next_offset()));
    let Some(job) = job else {
        // Should the fetch go on waiting, it must not ask again by when the records and the index may differ.
        if let Some(asked) = fetch.cold.get_mut(key) {
            asked.files = FromFiles::Found(batches.clone(), Vec::new());
        }
        return (batches, Some(Vec::new()));
    };
    if fetch.may_ask_files() {
        let bytes = fetch.cold.get(key).map_or(0, |asked| asked.bytes);
        fetch.cold.insert(key.clone(), Asked { files: FromFiles::Finding(batches), bytes });
        let (job, partition) = (DiskJob::FindAborted(Box::new(job)), partition.key);
        node.start_read(partition, JobPurpose::FetchAborted(id, key.clone()), job);
    } else {
        let bytes = fetch.cold.remove(key).map_or(0, |asked| asked.bytes);
        node.memory.give_back(Share::Answers, bytes);
    }
    (Vec::new(), Some(Vec::new()))
}

/// The partition, where this node leads it in the epoch that the client believes in (KIP-320).
pub(super) fn leading_partition<'a>(
    node: &'a Node,
    key: &FetchKey,
    current_leader_epoch: i32,
) -> Result<&'a Partition, ErrorCode> {
    let topic_id = node.topic_id(key.topic_id, &key.topic)?;
    let partition = node
        .partitions
        .key(topic_id, key.partition)
        .and_then(|key| node.partitions.by_key(key))
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    match current_leader_epoch {
        ..0 => Ok(partition),
        epoch if epoch < partition.leader_epoch.0 => Err(ErrorCode::FencedLeaderEpoch),
        epoch if epoch > partition.leader_epoch.0 => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(partition),
    }
}

fn watch(node: &mut Node, id: ParkedId, fetch: &mut ParkedFetch, partitions: &[FetchedPartition]) {
    for wanted in partitions {
        let key = &wanted.key;
        let partition = node
            .topic_id(key.topic_id, &key.topic)
            .ok()
            .and_then(|topic_id| node.partitions.key(topic_id, key.partition));
        if let Some(partition) = partition.and_then(|key| node.partitions.by_key_mut(key)) {
            partition.fetches.insert(id);
            fetch.watched.push(partition.key);
        }
    }
}

fn unwatch(node: &mut Node, id: ParkedId, fetch: &mut ParkedFetch) {
    for key in fetch.watched.drain(..) {
        if let Some(partition) = node.partitions.by_key_mut(key) {
            partition.fetches.remove(&id);
        }
    }
}

fn answer(node: &mut Node, fetch: &ParkedFetch, partitions: &[FetchedPartition], found: Vec<Found>) {
    node.memory.give_back(Share::Answers, fetch.held());
    let (session_id, incremental) = match fetch.context {
        FetchContext::Full { session_id, .. } => (session_id, false),
        FetchContext::Incremental { session_id } => (session_id, true),
    };
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    for (wanted, found) in partitions.iter().zip(found) {
        let gave_data = found.bytes > 0;
        if let Some(partition) = found.partition.and_then(|key| node.partitions.by_key_mut(key)) {
            partition.traffic.fetched_bytes += found.bytes as u64;
        }
        let is_news = gave_data
            || match found.told {
                Some(told) => node.sessions.is_news(session_id, &wanted.key, told),
                None => true,
            };
        match found.told {
            Some(told) => node.sessions.tell(session_id, &wanted.key, told, gave_data),
            None => node.sessions.forget_told(session_id, &wanted.key),
        }
        if is_news || !incremental {
            push(&mut responses, &wanted.key, found.data);
        }
    }
    let response = FetchResponse { session_id, responses, ..FetchResponse::default() };
    node.reply(&fetch.call, &response);
}

/// Adds a partition to the response, in a new topic unless it follows one of the same.
fn push(responses: &mut Vec<FetchableTopicResponse>, key: &FetchKey, data: PartitionData) {
    let is_same = |last: &FetchableTopicResponse| {
        TopicId(last.topic_id) == key.topic_id && last.topic == key.topic
    };
    if !responses.last().is_some_and(is_same) {
        responses.push(FetchableTopicResponse {
            topic: Str::clone(&key.topic),
            topic_id: key.topic_id.0,
            ..FetchableTopicResponse::default()
        });
    }
    if let Some(topic) = responses.last_mut() {
        topic.partitions.push(data);
    }
}

fn answer_error(node: &mut Node, call: &Call, error: ErrorCode) {
    node.reply(call, &FetchResponse { error_code: error.code(), ..FetchResponse::default() });
}
