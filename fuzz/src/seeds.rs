//! What the targets begin with: a request of every API in every version, batches under every compression, the files
//! of a log and of a data directory. Generated, so that they follow the code.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use dohle_broker::handlers::{APIS, api};
use dohle_broker::quorum::Quorum;
use dohle_broker::snapshot_file::{Snapshot, WriteSnapshot};
use dohle_configs::{BrokerConfig, TopicConfig};
use dohle_protocol::messages::{self as m, RequestHeader};
use dohle_protocol::{Message as _, Request};
use dohle_records::{BatchBuilder, BatchOptions, Compression, Compressor};
use dohle_storage::disk::LogDir;
use dohle_storage::{Codecs, Log, Origin};
use dohle_types::{LeaderEpoch, Now, Offset, ProducerEpoch, ProducerId, Sequence, Str, Timestamp, TopicId};

use crate::disk::Disk;
use crate::input::{Piece, join};
use crate::world::World;

/// The topic of the prepared disk.
const TOPIC: &str = "t";
/// The directory of the log whose recovery is tested.
pub const LOG_DIR: &str = "t-0";

/// A request of one API in one version.
#[derive(Clone, Debug)]
pub struct RequestSeed {
    /// Its API's number.
    pub key: i16,
    /// Its version.
    pub version: i16,
    /// Whether its header has tagged fields.
    pub header_is_flexible: bool,
    /// What follows the header.
    pub body: Bytes,
}

/// All seeds: the target, a name, and the input.
#[must_use]
pub fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut stream = vec![8];
    for versions in requests() {
        for request in versions {
            let name = format!("{:02}-{:02}", request.key, request.version);
            all.push(("fuzz_requests", name, join(&[piece(request)])));
        }
        if let Some(last) = versions.last() {
            stream.extend_from_slice(&u32::try_from(last.body.len() + 8).unwrap().to_be_bytes());
            stream.extend_from_slice(&last.key.to_be_bytes());
            stream.extend_from_slice(&last.version.to_be_bytes());
            stream.extend_from_slice(&[0, 0, 0, 1]);
            stream.extend_from_slice(&last.body);
        }
    }
    all.push(("fuzz_frame", "requests".to_owned(), stream));
    let last: Vec<Piece> = requests().iter().filter_map(|versions| versions.last()).map(piece).collect();
    for (index, several) in last.chunks(8).enumerate() {
        all.push(("fuzz_requests", format!("several-{index}"), join(several)));
    }
    for compression in Compression::ALL {
        let batch = batch(options(compression), &[1_800_000_000_000, 1_800_000_000_001], 40);
        all.push(("fuzz_batch", compression.to_string(), [&[0], &batch[..]].concat()));
    }
    for (name, flags) in [("unclean", 0), ("clean", 2)] {
        let how = Piece { head: [flags, 255, 255], bytes: Vec::new() };
        let files = log_files().into_iter().map(|(head, bytes)| Piece { head, bytes });
        all.push((
            "fuzz_recovery",
            name.to_owned(),
            join(&[how].into_iter().chain(files).collect::<Vec<_>>()),
        ));
    }
    for (name, file) in disk_files() {
        all.push(("fuzz_disk_files", name, file));
    }
    for (index, (path, bytes)) in (0..).zip(&prepared_disk().files) {
        let name = path.replace('/', "_");
        let bytes = bytes.iter().copied().take(usize::from(u16::MAX)).collect();
        all.push(("fuzz_boot", name, join(&[Piece { head: [index, 0, 0], bytes }])));
    }
    all
}

fn piece(request: &RequestSeed) -> Piece {
    let index = APIS.iter().position(|api| api.key.code() == request.key).unwrap();
    let first = *APIS[index].versions.start();
    let head = [u8::try_from(index).unwrap(), u8::try_from(request.version - first).unwrap(), 0];
    Piece { head, bytes: request.body.to_vec() }
}

/// The configuration of the nodes under test.
pub static CONFIG: LazyLock<BrokerConfig> = LazyLock::new(|| {
    let overrides = ["listeners=PLAINTEXT://127.0.0.1:9092", "offsets.topic.num.partitions=1"];
    BrokerConfig::parse("", &overrides.map(str::to_owned)).unwrap().0
});

/// A data directory with a topic of records, a group with an offset, and a producer, left in good order.
#[must_use]
pub fn prepared_disk() -> Disk {
    let mut world = World::boot(Disk::default());
    for request in [
        encode_newest(&create_topics()),
        encode_newest(&find_coordinator()),
        encode_newest(&produce(TopicId::ZERO, ProducerId(0))),
        encode_newest(&offset_commit(TopicId::ZERO)),
        encode_newest(&m::InitProducerIdRequest::default()),
    ] {
        world.request(request.key, request.version, request.header_is_flexible, &request.body);
    }
    let topic_id = world.node.image().topic(TOPIC).expect("the topic is created").id;
    for request in [encode_newest(&produce(topic_id, ProducerId(0))), encode_newest(&offset_commit(topic_id))]
    {
        world.request(request.key, request.version, request.header_is_flexible, &request.body);
    }
    world.close();
    world.pass(Duration::from_secs(1));
    world.stop();
    assert_eq!(world.stopped(), Some(&None));
    world.disk
}

/// For each API a request in each of its versions.
#[must_use]
pub fn requests() -> &'static [Vec<RequestSeed>] {
    &REQUESTS
}

static REQUESTS: LazyLock<Vec<Vec<RequestSeed>>> = LazyLock::new(|| {
    let world = World::boot(prepared_disk());
    let id = world.node.image().topic(TOPIC).expect("the topic is there").id;
    let (topic, group) = (Str::from(TOPIC), Str::from("g"));
    let assignment = Bytes::from_static(b"\0\x03\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\xff\xff\xff\xff");
    vec![
        versions(&produce(id, ProducerId(1))),
        versions(&m::FetchRequest {
            max_wait_ms: 10,
            min_bytes: 1,
            max_bytes: 1 << 20,
            topics: vec![m::fetch_request::FetchTopic {
                topic: topic.clone(),
                topic_id: id.0,
                partitions: vec![m::fetch_request::FetchPartition {
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        }),
        versions(&m::ListOffsetsRequest {
            replica_id: -1,
            topics: vec![m::list_offsets_request::ListOffsetsTopic {
                name: topic.clone(),
                partitions: [-1, -2, -3, 1_800_000_000_000]
                    .map(|timestamp| m::list_offsets_request::ListOffsetsPartition {
                        timestamp,
                        ..Default::default()
                    })
                    .into(),
            }],
            ..Default::default()
        }),
        versions(&m::MetadataRequest {
            topics: Some(vec![m::metadata_request::MetadataRequestTopic {
                topic_id: id.0,
                name: Some("new".into()),
            }]),
            allow_auto_topic_creation: true,
            ..Default::default()
        }),
        versions(&offset_commit(id)),
        versions(&m::OffsetFetchRequest {
            group_id: group.clone(),
            topics: Some(vec![m::offset_fetch_request::OffsetFetchRequestTopic {
                name: topic.clone(),
                partition_indexes: vec![0, 1],
            }]),
            groups: vec![m::offset_fetch_request::OffsetFetchRequestGroup {
                group_id: group.clone(),
                topics: Some(vec![m::offset_fetch_request::OffsetFetchRequestTopics {
                    name: topic.clone(),
                    topic_id: id.0,
                    partition_indexes: vec![0],
                }]),
                ..Default::default()
            }],
            ..Default::default()
        }),
        versions(&find_coordinator()),
        versions(&m::JoinGroupRequest {
            group_id: group.clone(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 20_000,
            group_instance_id: Some("i".into()),
            protocol_type: "consumer".into(),
            protocols: vec![m::join_group_request::JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: Bytes::from_static(b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff\0\0\0\0"),
            }],
            ..Default::default()
        }),
        versions(&m::HeartbeatRequest {
            group_id: group.clone(),
            generation_id: 1,
            member_id: "m".into(),
            ..Default::default()
        }),
        versions(&m::LeaveGroupRequest {
            group_id: group.clone(),
            member_id: "m".into(),
            members: vec![m::leave_group_request::MemberIdentity {
                group_instance_id: Some("i".into()),
                ..Default::default()
            }],
        }),
        versions(&m::SyncGroupRequest {
            group_id: group.clone(),
            generation_id: 1,
            member_id: "m".into(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: vec![m::sync_group_request::SyncGroupRequestAssignment {
                member_id: "m".into(),
                assignment,
            }],
            ..Default::default()
        }),
        versions(&m::DescribeGroupsRequest { groups: vec![group.clone()], ..Default::default() }),
        versions(&m::ListGroupsRequest::default()),
        versions(&m::ApiVersionsRequest {
            client_software_name: "fuzz".into(),
            client_software_version: "1".into(),
        }),
        versions(&create_topics()),
        versions(&m::DeleteTopicsRequest {
            topics: vec![m::delete_topics_request::DeleteTopicState { name: None, topic_id: id.0 }],
            topic_names: vec![topic.clone()],
            ..Default::default()
        }),
        versions(&m::DeleteRecordsRequest {
            topics: vec![m::delete_records_request::DeleteRecordsTopic {
                name: topic.clone(),
                partitions: vec![m::delete_records_request::DeleteRecordsPartition {
                    partition_index: 0,
                    offset: 1,
                }],
            }],
            timeout_ms: 1000,
        }),
        versions(&m::InitProducerIdRequest::default()),
        versions(&m::OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![m::offset_for_leader_epoch_request::OffsetForLeaderTopic {
                topic: topic.clone(),
                partitions: vec![Default::default()],
            }],
        }),
        versions(&m::DescribeConfigsRequest {
            resources: [(2, TOPIC), (4, "1"), (4, "")]
                .map(|(resource_type, name)| m::describe_configs_request::DescribeConfigsResource {
                    resource_type,
                    resource_name: name.into(),
                    configuration_keys: None,
                })
                .into(),
            ..Default::default()
        }),
        versions(&m::AlterConfigsRequest {
            resources: vec![m::alter_configs_request::AlterConfigsResource {
                resource_type: 2,
                resource_name: topic.clone(),
                configs: vec![m::alter_configs_request::AlterableConfig {
                    name: "retention.ms".into(),
                    value: Some("1000".into()),
                }],
            }],
            ..Default::default()
        }),
        versions(&m::DescribeLogDirsRequest::default()),
        versions(&m::CreatePartitionsRequest {
            topics: vec![m::create_partitions_request::CreatePartitionsTopic {
                name: topic.clone(),
                count: 3,
                assignments: None,
            }],
            timeout_ms: 1000,
            ..Default::default()
        }),
        versions(&m::DeleteGroupsRequest { groups_names: vec![group.clone()] }),
        versions(&m::IncrementalAlterConfigsRequest {
            resources: vec![m::incremental_alter_configs_request::AlterConfigsResource {
                resource_type: 2,
                resource_name: topic.clone(),
                configs: vec![m::incremental_alter_configs_request::AlterableConfig {
                    name: "segment.bytes".into(),
                    config_operation: 0,
                    value: Some("1048576".into()),
                }],
            }],
            ..Default::default()
        }),
        versions(&m::OffsetDeleteRequest {
            group_id: group,
            topics: vec![m::offset_delete_request::OffsetDeleteRequestTopic {
                name: topic.clone(),
                partitions: vec![Default::default()],
            }],
        }),
        versions(&m::DescribeClusterRequest::default()),
        versions(&m::DescribeProducersRequest {
            topics: vec![m::describe_producers_request::TopicRequest {
                name: topic.clone(),
                partition_indexes: vec![0, 1],
            }],
        }),
        versions(&m::DescribeTopicPartitionsRequest {
            topics: vec![m::describe_topic_partitions_request::TopicRequest { name: topic }],
            response_partition_limit: 10,
            cursor: None,
        }),
    ]
});

fn create_topics() -> m::CreateTopicsRequest {
    m::CreateTopicsRequest {
        topics: vec![m::create_topics_request::CreatableTopic {
            name: TOPIC.into(),
            num_partitions: 2,
            replication_factor: 1,
            configs: vec![m::create_topics_request::CreatableTopicConfig {
                name: "cleanup.policy".into(),
                value: Some("delete".into()),
            }],
            ..Default::default()
        }],
        timeout_ms: 1000,
        validate_only: false,
    }
}

fn find_coordinator() -> m::FindCoordinatorRequest {
    m::FindCoordinatorRequest { key: "g".into(), key_type: 0, coordinator_keys: vec!["g".into()] }
}

fn produce(topic_id: TopicId, producer_id: ProducerId) -> m::ProduceRequest {
    let options = BatchOptions {
        producer_id,
        producer_epoch: ProducerEpoch(0),
        base_sequence: Sequence(0),
        ..BatchOptions::default()
    };
    let records = batch(options, &[1_800_000_000_000, 1_800_000_000_001], 10);
    m::ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 1000,
        topic_data: vec![m::produce_request::TopicProduceData {
            name: TOPIC.into(),
            topic_id: topic_id.0,
            partition_data: vec![m::produce_request::PartitionProduceData {
                index: 0,
                records: Some(records.into()),
            }],
        }],
    }
}

fn offset_commit(topic_id: TopicId) -> m::OffsetCommitRequest {
    m::OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        retention_time_ms: -1,
        topics: vec![m::offset_commit_request::OffsetCommitRequestTopic {
            name: TOPIC.into(),
            topic_id: topic_id.0,
            partitions: vec![m::offset_commit_request::OffsetCommitRequestPartition {
                committed_offset: 1,
                committed_metadata: Some("m".into()),
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}

/// The request in each version that can express it.
fn versions<R: Request>(request: &R) -> Vec<RequestSeed> {
    let versions = api(R::KEY).expect("only what is served is here").1.versions.clone();
    let seeds: Vec<_> = versions.filter_map(|version| encode(request, version)).collect();
    assert!(!seeds.is_empty(), "{} cannot be expressed in any version", R::NAME);
    seeds
}

fn encode_newest<R: Request>(request: &R) -> RequestSeed {
    versions(request).pop().expect("there is a version")
}

fn encode<R: Request>(request: &R, version: i16) -> Option<RequestSeed> {
    let header_is_flexible = R::KEY.request_header_version(version) >= RequestHeader::FLEXIBLE_FROM;
    let body = request.to_bytes(version).ok()?;
    Some(RequestSeed { key: R::KEY.code(), version, header_is_flexible, body })
}

fn options(compression: Compression) -> BatchOptions {
    BatchOptions { compression: compression.into(), ..BatchOptions::default() }
}

/// A batch of records with these timestamps and values of this size.
#[must_use]
pub fn batch(options: BatchOptions, timestamps: &[i64], size: usize) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for &timestamp in timestamps {
        let headers: [(&[u8], Option<&[u8]>); 2] = [(b"h", Some(b"v")), (b"n", None)];
        builder.append(Timestamp(timestamp), Some(b"key"), Some(&vec![b'v'; size]), &headers).unwrap();
    }
    builder.build(&mut Compressor::default()).unwrap()
}

/// The id of the topic whose log is tested.
#[must_use]
pub fn topic_id() -> TopicId {
    "EjRWeJCrze8P7cuph2VDIQ".parse().unwrap()
}

/// Configs under which a few batches fill a segment.
#[must_use]
pub fn small_segments() -> TopicConfig {
    let config = TopicConfig::resolve(&CONFIG, []);
    TopicConfig { segment_bytes: 600, index_interval_bytes: 100, file_delete_delay_ms: 0, ..config }
}

/// The suffixes of a log's files; behind them come the files that have no offset in their name.
const SUFFIXES: [&str; 7] =
    [".log", ".index", ".timeindex", ".snapshot", ".txnindex", ".log.swap", ".log.deleted"];
const OTHERS: [&str; 2] = ["leader-epoch-checkpoint", "partition.metadata"];

/// The path of a file by the two numbers of a piece's head.
#[must_use]
pub fn log_file(suffix: u8, base: u8) -> String {
    let index = usize::from(suffix) % (SUFFIXES.len() + OTHERS.len());
    match SUFFIXES.get(index) {
        Some(suffix) => format!("{LOG_DIR}/{base:020}{suffix}"),
        None => format!("{LOG_DIR}/{}", OTHERS[index - SUFFIXES.len()]),
    }
}

/// A kind of file that is read whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFile {
    /// `recovery-point-offset-checkpoint` and its like.
    Offsets,
    /// `leader-epoch-checkpoint`.
    Epochs,
    /// `partition.metadata`.
    PartitionMetadata,
    /// `meta.properties`.
    MetaProperties,
    /// `.snapshot`: the producers.
    ProducerSnapshot,
    /// `.trash`: a deleted topic.
    TrashManifest,
    /// `.checkpoint`: a snapshot of the metadata.
    MetadataSnapshot,
    /// `.txnindex`: the aborted transactions of a segment.
    TransactionIndex,
}

impl DiskFile {
    /// All of them, by the byte that inputs begin with.
    pub const ALL: [Self; 8] = [
        Self::Offsets,
        Self::Epochs,
        Self::PartitionMetadata,
        Self::MetaProperties,
        Self::ProducerSnapshot,
        Self::TrashManifest,
        Self::MetadataSnapshot,
        Self::TransactionIndex,
    ];

    /// What files of the prepared disk are of this kind, by the end of their names.
    fn suffix(self) -> &'static str {
        match self {
            Self::Offsets => "-offset-checkpoint",
            Self::Epochs => "leader-epoch-checkpoint",
            Self::PartitionMetadata => "partition.metadata",
            Self::MetaProperties => "meta.properties",
            Self::ProducerSnapshot => ".snapshot",
            Self::TrashManifest => ".trash",
            Self::MetadataSnapshot => ".checkpoint",
            Self::TransactionIndex => ".txnindex",
        }
    }
}

/// Where the metadata snapshot is that is tested.
pub const SNAPSHOT: &str = "__cluster_metadata-0/00000000000000000009-0000000002.checkpoint";

/// The seeds of `fuzz_disk_files`.
fn disk_files() -> Vec<(String, Vec<u8>)> {
    let mut disk = prepared_disk();
    let manifest = m::TrashManifest {
        name: TOPIC.into(),
        topic_id: topic_id().0,
        deleted_at_ms: 1_800_000_000_000,
        partitions: vec![Default::default()],
        ..Default::default()
    };
    // The target sees to the CRC.
    let manifest = [&[0; 6], &manifest.to_bytes(0).unwrap()[..]].concat();
    disk.files.insert("a.trash".into(), manifest);
    let aborted =
        [(1, 2, 3, 4), (0, 8, 11, 12)].map(|(producer, first, last, stable): (i64, i64, i64, i64)| {
            [&[0; 2][..], &[producer, first, last, stable].map(i64::to_be_bytes).concat()].concat()
        });
    disk.files.insert("a.txnindex".into(), aborted.concat());
    let mut world = World::boot(disk.clone());
    let strange = b"version=1\nnode.id=1\ncluster.id=\\ a\\\\b\\n\\u0041".to_vec();
    disk.files.insert("strange/meta.properties".into(), strange);
    let snapshot = Snapshot {
        image: world.node.image().clone(),
        quorum: Quorum::default(),
        last_appended: Timestamp(1_800_000_000_000),
    };
    let now = Now { instant: Duration::from_secs(1), wall: Timestamp(1_800_000_000_000) };
    disk.run(&mut WriteSnapshot::new(snapshot, LogDir::FIRST, now));
    world.close();
    let mut seeds = Vec::new();
    for (kind, of_kind) in (0..).zip(DiskFile::ALL) {
        let files = disk.files.iter().filter(|(path, _)| path.ends_with(of_kind.suffix()));
        let mut files =
            files.map(|(path, content)| (path.replace('/', "_"), [&[kind], &content[..]].concat()));
        let before = seeds.len();
        seeds.extend(&mut files);
        assert!(seeds.len() > before, "there is no file of the kind {of_kind:?}");
    }
    seeds
}

/// The files of a log of several segments, as pieces have them.
fn log_files() -> Vec<([u8; 3], Vec<u8>)> {
    let mut disk = log_disk();
    let names = (0..=u8::MAX).flat_map(|suffix| (0..=16).map(move |base| [suffix, base, 0]));
    let mut files = Vec::new();
    for head in names.take_while(|[suffix, ..]| usize::from(*suffix) < SUFFIXES.len() + OTHERS.len()) {
        if let Some(content) = disk.files.remove(log_file(head[0], head[1]).as_str()) {
            files.push((head, content));
        }
    }
    assert!(disk.files.is_empty(), "a file that the target cannot name: {:?}", disk.files.keys());
    files
}

/// A log of several segments that was closed.
#[must_use]
pub fn log_disk() -> Disk {
    let mut log = Log::create(LOG_DIR.into(), topic_id(), Arc::new(small_segments()));
    let (mut disk, mut ops) = (Disk::default(), Vec::new());
    let now = Now { instant: Duration::from_secs(1), wall: Timestamp(1_800_000_000_000) };
    for index in 0..8 {
        let options = BatchOptions {
            producer_id: ProducerId(i64::from(index % 2)),
            producer_epoch: ProducerEpoch(0),
            base_sequence: Sequence(index / 2 * 2),
            ..options(Compression::ALL[usize::try_from(index).unwrap() % 5])
        };
        let batch = batch(options, &[1_800_000_000_000 + i64::from(index); 2], 60);
        let origin = Origin::Client { zstd_allowed: true };
        let epoch = LeaderEpoch(index / 4);
        log.append(now, batch, origin, epoch, &mut Codecs::default(), &mut ops).unwrap();
    }
    assert_eq!(log.end_offset(), Offset(16));
    log.close(&mut ops);
    ops.into_iter().for_each(|op| disk.apply(op));
    disk
}
