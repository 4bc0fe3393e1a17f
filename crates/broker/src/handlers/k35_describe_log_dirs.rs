//! DescribeLogDirs (key 35, versions 1-5): what the partitions take up on disk.
//!
//! - 2: flexible. 3: a top-level error. 4: the size of the volume (KIP-827).
//! - A partition that moves to another log dir is told there too, as its future replica; its lag is an estimate.
//! - 5: whether a log dir is cordoned (KIP-1066).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use dohle_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use dohle_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use dohle_storage::Log;
use dohle_storage::disk::LogDir;
use dohle_types::{ErrorCode, Str, TopicId};

use crate::connection::Call;
use crate::log_dirs::LogDirState;
use crate::node::Node;
use crate::partition::{PartitionKey, Tenant};

pub(super) const VERSIONS: RangeInclusive<i16> = 1..=5;

/// The partitions it asks about whose logs are not open though they have files: how long those are is not known.
pub(super) fn unopened(node: &Node, request: &DescribeLogDirsRequest) -> Vec<PartitionKey> {
    let has_files = |key: &PartitionKey| node.partitions.by_key(*key).is_none_or(|it| !it.is_new());
    match &request.topics {
        Some(topics) => {
            let named = topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|&index| (TopicId::ZERO, &*topic.topic, index))
            });
            node.unopened(named).into_iter().filter(has_files).collect()
        }
        None => {
            let all = node.partitions.iter().map(|partition| partition.key);
            all.filter(|&key| node.is_unopened(key)).filter(has_files).collect()
        }
    }
}

pub(super) fn handle(node: &mut Node, call: Call, request: DescribeLogDirsRequest) {
    let is_wanted = |topic: &Str, partition: i32| {
        request.topics.as_ref().is_none_or(|topics| {
            topics.iter().any(|wanted| wanted.topic == *topic && wanted.partitions.contains(&partition))
        })
    };
    let mut topics: BTreeMap<LogDir, BTreeMap<Str, Vec<DescribeLogDirsPartition>>> = BTreeMap::new();
    for partition in node.partitions.iter().filter(|partition| partition.tenant != Tenant::Metadata) {
        let (topic, index) = (&partition.name.topic, partition.name.partition.0);
        let size = match partition.log() {
            Some(log) => log.size_in_bytes(),
            None if partition.is_new() => 0,
            None => continue,
        };
        if !is_wanted(topic, index) {
            continue;
        }
        let in_log_dir = topics.entry(partition.log_dir).or_default();
        in_log_dir.entry(topic.clone()).or_default().push(DescribeLogDirsPartition {
            partition_index: index,
            partition_size: i64::try_from(size).unwrap_or(i64::MAX),
            offset_lag: 0,
            is_future_key: false,
        });
    }
    for (target, state) in node.log_dirs.usable() {
        let Some((key, copied)) = state.moves.future() else { continue };
        let Some(partition) = node.partitions.by_key(key) else { continue };
        let (topic, index) = (&partition.name.topic, partition.name.partition.0);
        let Some(log) = partition.log().filter(|_| is_wanted(topic, index)) else { continue };
        let in_log_dir = topics.entry(target).or_default();
        in_log_dir.entry(topic.clone()).or_default().push(DescribeLogDirsPartition {
            partition_index: index,
            partition_size: i64::try_from(copied).unwrap_or(i64::MAX),
            offset_lag: lag(log, copied),
            is_future_key: true,
        });
    }
    let bytes = |bytes: Option<u64>| bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let describe = |(log_dir, state): (LogDir, &LogDirState)| {
        let topics = topics.remove(&log_dir).unwrap_or_default().into_iter();
        let topics = topics.map(|(name, partitions)| DescribeLogDirsTopic { name, partitions });
        let error = if state.offline.is_some() { ErrorCode::KafkaStorageError } else { ErrorCode::None };
        DescribeLogDirsResult {
            error_code: error.code(),
            log_dir: state.name.clone(),
            is_cordoned: state.is_cordoned,
            total_bytes: bytes(state.room.told.map(|(total, _)| total)),
            usable_bytes: bytes(state.room.told.map(|(_, usable)| usable)),
            topics: topics.collect(),
        }
    };
    let results = node.log_dirs.for_partitions().map(describe).collect();
    node.reply(&call, &DescribeLogDirsResponse { results, ..DescribeLogDirsResponse::default() });
}

/// About how many records a copy lacks, by the bytes that it lacks.
fn lag(log: &Log, copied: u64) -> i64 {
    let size = u128::from(log.size_in_bytes().max(1));
    let missing = u128::from(log.size_in_bytes().saturating_sub(copied));
    let records = u128::try_from(log.end_offset().0 - log.start_offset().0).unwrap_or_default();
    i64::try_from(records * missing / size).unwrap_or(i64::MAX)
}
