//! AlterReplicaLogDirs (key 34, versions 1-2): moves partitions between the log dirs of this node (KIP-113).
//!
//! Answered at once; how far a move has come is told by DescribeLogDirs. A log dir that is not of this node is
//! LOG_DIR_NOT_FOUND, one that is cordoned INVALID_REPLICA_ASSIGNMENT (KIP-1066), and while any is offline it is
//! KAFKA_STORAGE_ERROR. A move to where the partition is ends one to elsewhere that is under way.
//!
//! - 2: flexible.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use dohle_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use dohle_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};
use dohle_storage::disk::LogDir;
use dohle_types::{ErrorCode, Str};

use crate::connection::Call;
use crate::node::Node;

pub(super) const VERSIONS: RangeInclusive<i16> = 1..=2;

pub(super) fn handle(node: &mut Node, call: Call, request: AlterReplicaLogDirsRequest) {
    let mut results: BTreeMap<Str, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for dir in request.dirs {
        let target = target(node, &dir.path);
        for topic in dir.topics {
            let of_topic = results.entry(topic.name.clone()).or_default();
            for partition_index in topic.partitions {
                let error = match target {
                    Ok(target) => alter(node, &topic.name, partition_index, target),
                    Err(error) => error,
                };
                of_topic.push(AlterReplicaLogDirPartitionResult { partition_index, error_code: error.code() });
            }
        }
    }
    let results = results
        .into_iter()
        .map(|(topic_name, partitions)| AlterReplicaLogDirTopicResult { topic_name, partitions })
        .collect();
    node.reply(&call, &AlterReplicaLogDirsResponse { results, ..AlterReplicaLogDirsResponse::default() });
}

/// The log dir of this path, as it is configured.
fn target(node: &Node, path: &str) -> Result<LogDir, ErrorCode> {
    let without_slash = |path: &str| path.trim_end_matches('/').to_owned();
    let found = node
        .log_dirs
        .for_partitions()
        .find(|(_, state)| without_slash(&state.name) == without_slash(path));
    let (log_dir, state) = found.ok_or(ErrorCode::LogDirNotFound)?;
    if state.is_cordoned {
        return Err(ErrorCode::InvalidReplicaAssignment);
    }
    if state.offline.is_some() { Err(ErrorCode::KafkaStorageError) } else { Ok(log_dir) }
}

fn alter(node: &mut Node, topic: &str, partition: i32, target: LogDir) -> ErrorCode {
    let topic_id = node.image().topic(topic).map(|topic| topic.id);
    match topic_id.and_then(|topic_id| node.partitions.key(topic_id, partition)) {
        Some(key) => node.request_move(key, target),
        None => ErrorCode::UnknownTopicOrPartition,
    }
}
