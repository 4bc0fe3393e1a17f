//! Committed offsets of many groups: how they are written, compacted and loaded.

use std::collections::BTreeMap;
use std::path::Path;

use dohle_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use dohle_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use dohle_protocol::messages::{
    FindCoordinatorRequest, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
};
use dohle_records::Batches;
use dohle_types::ErrorCode;

use crate::client::Client;
use crate::process::{Broker, Directory, until};

const COMMIT_VERSION: i16 = 9;

/// A broker with one partition of `__consumer_offsets`, and a topic of eight partitions.
fn start(data: &Path, overrides: &[&str]) -> (Broker, Client) {
    let broker = Broker::start(data, &[&["offsets.topic.num.partitions=1"], overrides].concat());
    let client = Client::connect(&broker.address);
    (broker, client)
}

fn create_topics(client: &mut Client) {
    client.create_topic("orders", 8, &[]);
    let request = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
    until("groups have a coordinator", || {
        (client.call(&request, 6).coordinators[0].error_code == 0).then_some(())
    });
    // Its ledger is loaded a moment later.
    until("the coordinator serves", || committed(client, "nobody").ok());
}

fn commit_request(group: &str, offset: i64, metadata: &str) -> OffsetCommitRequest {
    let partition = |partition_index| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: offset,
        committed_metadata: Some(metadata.into()),
        ..Default::default()
    };
    let partitions = (0..8).map(partition).collect();
    let topics = vec![OffsetCommitRequestTopic { name: "orders".into(), partitions, ..Default::default() }];
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics,
        ..Default::default()
    }
}

fn assert_committed(response: &OffsetCommitResponse) {
    assert!(response.topics[0].partitions.iter().all(|partition| partition.error_code == 0), "{response:?}");
}

/// What a group has committed for partition 0, or the error.
fn committed(client: &mut Client, group: &str) -> Result<Option<i64>, i16> {
    let group = OffsetFetchRequestGroup { group_id: group.into(), topics: None, ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let group = client.call(&request, 9).groups.remove(0);
    if group.error_code != 0 {
        return Err(group.error_code);
    }
    let partitions = group.topics.first().map(|topic| &topic.partitions);
    Ok(partitions.and_then(|partitions| partitions.first()).map(|partition| partition.committed_offset))
}

/// The log of the offsets topic, as it is in the files.
fn log(data: &Path) -> Vec<u8> {
    let directory = data.join("__consumer_offsets-0");
    let mut segments: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        // Compaction may remove it meanwhile.
        if name.ends_with(".log")
            && let Ok(bytes) = std::fs::read(entry.path())
        {
            segments.insert(name, bytes);
        }
    }
    segments.into_values().flatten().collect()
}

/// 1,000 groups commit at the same moment: what comes in while a sync is under way is one batch of the next.
#[test]
fn commits_that_come_together_are_written_together() {
    const CLIENTS: usize = 10;
    const GROUPS: usize = 100;
    let data = Directory::new();
    let (broker, mut client) = start(&data.0, &[]);
    create_topics(&mut client);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(&broker.address)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        for group in 0..GROUPS {
            client.send(&commit_request(&format!("g-{number}-{group}"), 7, ""), COMMIT_VERSION).unwrap();
        }
    }
    for client in &mut clients {
        for _ in 0..GROUPS {
            assert_committed(&client.receive::<OffsetCommitRequest>(COMMIT_VERSION).unwrap().1);
        }
    }
    broker.stop();
    let batches = Batches::new(log(&data.0).into()).map(Result::unwrap);
    let (mut count, mut records) = (0, 0_i32);
    for batch in batches {
        count += 1;
        records += batch.header().record_count;
    }
    assert_eq!(records, 8_000);
    assert!(count <= CLIENTS * GROUPS / 4, "{count} batches for {} commits", CLIENTS * GROUPS);
}

/// Ten groups that commit for ever take the room of ten groups, and are right after each end of the broker.
#[test]
fn the_offsets_topic_stays_small_and_loads_what_was_committed_last() {
    let data = Directory::new();
    let overrides = ["offsets.topic.segment.bytes=1048576", "log.cleaner.backoff.ms=1"];
    let (mut broker, mut client) = start(&data.0, &overrides);
    create_topics(&mut client);
    let metadata = "m".repeat(4000);
    let mut offset = 0;
    for end in ["kill", "stop", "kill"] {
        for _ in 0..20 {
            offset += 1;
            for group in 0..10 {
                let request = commit_request(&format!("g-{group}"), offset, &metadata);
                client.send(&request, COMMIT_VERSION).unwrap();
            }
            for _ in 0..10 {
                assert_committed(&client.receive::<OffsetCommitRequest>(COMMIT_VERSION).unwrap().1);
            }
        }
        // 20 commits of ten groups take 6.4 MB before they are compacted; the segment that is written to is not.
        until("the log is compacted", || (log(&data.0).len() < 2_500_000).then_some(()));
        if end == "kill" {
            broker.kill();
        } else {
            broker.stop();
        }
        (broker, client) = start(&data.0, &overrides);
        for group in 0..10 {
            let group = format!("g-{group}");
            let loaded = until("the group is loaded", || match committed(&mut client, &group) {
                Err(error) => {
                    assert_eq!(error, ErrorCode::CoordinatorLoadInProgress.code());
                    None
                }
                Ok(committed) => Some(committed),
            });
            assert_eq!(loaded, Some(offset), "{group} after {end}");
        }
    }
}
