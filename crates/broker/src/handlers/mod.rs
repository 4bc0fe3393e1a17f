//! What the node serves: a file for each API key, and the one table from which dispatch, ApiVersions and
//! `docs/protocol.md` follow.
//!
//! A handler opens with what it serves, by version, and what it does not. It answers at once, or parks the
//! request and is entered again when what it waits for has come.

use std::ops::RangeInclusive;

use bytes::Bytes;
use dohle_protocol::{ApiKey, DecodeError, Message, Reader, Request};

use crate::connection::Call;
use crate::node::Node;
use crate::opening::Turn;

/// One row of the table.
#[derive(Debug)]
pub struct Api {
    /// Which API.
    pub key: ApiKey,
    /// The versions that are served.
    pub versions: RangeInclusive<i16>,
    /// The lowest version that ApiVersions tells; see [`k18_api_versions`].
    pub advertised_from: i16,
    pub(crate) run: Run,
}

/// Decodes a request and handles it; the whole frame is kept where it has to wait for logs.
type Run = fn(&mut Node, Call, Reader<'_>, &Bytes, Turn) -> Result<(), DecodeError>;

/// Declares the handlers' modules and the table, in the order of the keys. Those `with` something have
/// the logs opened first that it names.
macro_rules! apis {
    ($($module:ident: $request:ident $(with $logs:ident)?,)*) => {
        $(pub mod $module;)*

        /// Everything that is served, ascending by key.
        pub static APIS: &[Api] = &[$(
            Api {
                key: <dohle_protocol::messages::$request as Request>::KEY,
                versions: $module::VERSIONS,
                advertised_from: advertised_from(
                    <dohle_protocol::messages::$request as Request>::KEY,
                    $module::VERSIONS,
                ),
                run: |node, call, mut reader, _frame, _turn| {
                    let request = dohle_protocol::messages::$request::decode(&mut reader, call.version)?;
                    reader.finish()?;
                    $(
                        let missing = $module::$logs(node, &request);
                        if node.waits_for_logs(&call, missing, _frame, _turn) {
                            return Ok(());
                        }
                    )?
                    $module::handle(node, call, request);
                    Ok(())
                },
            },
        )*];
    };
}

mod authorized_operations;

apis! {
    k00_produce: ProduceRequest with unopened,
    k01_fetch: FetchRequest with unopened,
    k02_list_offsets: ListOffsetsRequest with unopened,
    k03_metadata: MetadataRequest,
    k08_offset_commit: OffsetCommitRequest,
    k09_offset_fetch: OffsetFetchRequest,
    k10_find_coordinator: FindCoordinatorRequest,
    k11_join_group: JoinGroupRequest,
    k12_heartbeat: HeartbeatRequest,
    k13_leave_group: LeaveGroupRequest,
    k14_sync_group: SyncGroupRequest,
    k15_describe_groups: DescribeGroupsRequest,
    k16_list_groups: ListGroupsRequest,
    k18_api_versions: ApiVersionsRequest,
    k19_create_topics: CreateTopicsRequest,
    k20_delete_topics: DeleteTopicsRequest,
    k21_delete_records: DeleteRecordsRequest with unopened,
    k22_init_producer_id: InitProducerIdRequest,
    k23_offset_for_leader_epoch: OffsetForLeaderEpochRequest with unopened,
    k24_add_partitions_to_txn: AddPartitionsToTxnRequest,
    k25_add_offsets_to_txn: AddOffsetsToTxnRequest,
    k26_end_txn: EndTxnRequest,
    k27_write_txn_markers: WriteTxnMarkersRequest with unopened,
    k28_txn_offset_commit: TxnOffsetCommitRequest,
    k32_describe_configs: DescribeConfigsRequest,
    k33_alter_configs: AlterConfigsRequest,
    k34_alter_replica_log_dirs: AlterReplicaLogDirsRequest,
    k35_describe_log_dirs: DescribeLogDirsRequest with unopened,
    k37_create_partitions: CreatePartitionsRequest,
    k42_delete_groups: DeleteGroupsRequest,
    k44_incremental_alter_configs: IncrementalAlterConfigsRequest,
    k45_alter_partition_reassignments: AlterPartitionReassignmentsRequest,
    k46_list_partition_reassignments: ListPartitionReassignmentsRequest,
    k47_offset_delete: OffsetDeleteRequest,
    k57_update_features: UpdateFeaturesRequest,
    k60_describe_cluster: DescribeClusterRequest,
    k61_describe_producers: DescribeProducersRequest with unopened,
    k65_describe_transactions: DescribeTransactionsRequest,
    k66_list_transactions: ListTransactionsRequest,
    k68_consumer_group_heartbeat: ConsumerGroupHeartbeatRequest,
    k69_consumer_group_describe: ConsumerGroupDescribeRequest,
    k74_list_config_resources: ListConfigResourcesRequest,
    k75_describe_topic_partitions: DescribeTopicPartitionsRequest,
    k20000_list_trash: ListTrashRequest,
    k20001_undelete_topic: UndeleteTopicRequest,
    k20002_fork_topic: ForkTopicRequest with unopened,
    k20011_group_lag: GroupLagRequest with unopened,
    k20012_reset_group_offsets: ResetGroupOffsetsRequest,
}

/// The row of an API, and its place in the table; `None` where it is not served.
#[must_use]
pub fn api(key: ApiKey) -> Option<(usize, &'static Api)> {
    let place = APIS.binary_search_by_key(&key.code(), |api| api.key.code()).ok()?;
    Some((place, APIS.get(place)?))
}

/// librdkafka takes a broker that does not name Produce from version 0 for one of before 0.10 and switches
/// compression off, so that Kafka names versions it refuses (KAFKA-18659), and so does Dohle.
const fn advertised_from(key: ApiKey, versions: RangeInclusive<i16>) -> i16 {
    if matches!(key, ApiKey::Produce) { 0 } else { *versions.start() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_api_is_served_in_all_versions_that_kafka_serves_and_is_found_by_its_key() {
        for served in APIS {
            assert_eq!(served.versions, served.key.versions(), "{}", served.key.name());
            assert_eq!(api(served.key).map(|(_, found)| found.key), Some(served.key));
        }
    }
}
