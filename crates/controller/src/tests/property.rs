//! Whatever is asked, the image is what its records say, and what is counted is what there is.

use dohle_protocol::messages::client_quota_record::EntityData;
use dohle_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use dohle_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use dohle_protocol::messages::{
    AccessControlEntryRecord, ClientQuotaRecord, DelegationTokenRecord, FeatureLevelRecord,
    RegisterControllerRecord, RemoveAccessControlEntryRecord, RemoveDelegationTokenRecord,
    RemoveUserScramCredentialRecord, UserScramCredentialRecord,
};
use dohle_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, IncrementalAlterConfigsRequest,
};
use dohle_types::{BrokerId, LeaderEpoch, Offset, Str};
use proptest::prelude::*;
use uuid::Uuid;

use super::{Cluster, topic};
use crate::{MetadataImage, MetadataRecord, Outcome};

#[derive(Debug, Clone)]
enum Request {
    Create(Vec<String>),
    Delete(Vec<Str>),
    Add(Str, i32),
    Alter(i8, Str, Str, i8, Option<Str>),
    Restart(i32),
    ProducerIds(i32),
    Keep(MetadataRecord),
}

fn topic_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["a", "b.c", "b_c", "d", "e/f", "__consumer_offsets"][..])
}

fn request() -> impl Strategy<Value = Request> {
    let created = (topic_name(), -1..4_i32, -1..4_i32, prop::option::of("[0-9x]{1,3}")).prop_map(
        |(name, partitions, replicas, retention)| {
            let retention = retention.map(|value| format!(" retention.ms={value}")).unwrap_or_default();
            format!("{name} partitions={partitions} rf={replicas}{retention}")
        },
    );
    let config = prop::sample::select(&["retention.ms", "cleanup.policy", "log.cleaner.threads", "nope"][..]);
    let value = prop::option::of(prop::sample::select(&["1", "compact", "compact,delete", "x"][..]));
    let resource = prop_oneof![topic_name(), Just("1"), Just("")];
    prop_oneof![
        4 => prop::collection::vec(created, 0..4).prop_map(Request::Create),
        2 => prop::collection::vec(topic_name().prop_map(Str::from), 0..3).prop_map(Request::Delete),
        2 => (topic_name(), -1..8).prop_map(|(name, count)| Request::Add(name.into(), count)),
        3 => (prop::sample::select(&[2_i8, 4, 32][..]), resource, config, 0..4_i8, value).prop_map(
            |(kind, resource, config, op, value)| {
                Request::Alter(kind, resource.into(), config.into(), op, value.map(Str::from))
            }
        ),
        1 => (1..4).prop_map(Request::Restart),
        1 => (1..4).prop_map(Request::ProducerIds),
        1 => kept().prop_map(Request::Keep),
    ]
}

/// What Apache Kafka writes and we only keep.
fn kept() -> impl Strategy<Value = MetadataRecord> {
    let name = || prop::sample::select(&["alice", "bob"][..]).prop_map(Str::from);
    let quota = (prop::option::of(name()), any::<bool>()).prop_map(|(entity_name, remove)| {
        let entity = vec![EntityData { entity_type: "user".into(), entity_name }];
        ClientQuotaRecord { entity, key: "request_percentage".into(), value: 50.0, remove }.into()
    });
    let id = (0..3_u128).prop_map(Uuid::from_u128);
    prop_oneof![
        quota,
        id.clone().prop_map(|id| AccessControlEntryRecord { id, ..Default::default() }.into()),
        id.prop_map(|id| RemoveAccessControlEntryRecord { id }.into()),
        name().prop_map(|name| UserScramCredentialRecord { name, mechanism: 1, ..Default::default() }.into()),
        name().prop_map(|name| RemoveUserScramCredentialRecord { name, mechanism: 1 }.into()),
        name().prop_map(|token_id| DelegationTokenRecord { token_id, ..Default::default() }.into()),
        name().prop_map(|token_id| RemoveDelegationTokenRecord { token_id }.into()),
        (1..3).prop_map(|controller_id| {
            RegisterControllerRecord { controller_id, ..Default::default() }.into()
        }),
        (name(), 1..3_i16)
            .prop_map(|(name, feature_level)| { FeatureLevelRecord { name, feature_level }.into() }),
    ]
}

fn handle(cluster: &mut Cluster, request: Request) {
    match request {
        Request::Create(topics) => {
            let topics = topics.iter().map(|text| topic(text)).collect();
            let request = CreateTopicsRequest { topics, ..Default::default() };
            let outcome =
                cluster.controller.handle_create_topics(&cluster.config, &mut cluster.rng, &request);
            cluster.run(outcome);
        }
        Request::Delete(topic_names) => {
            let request = DeleteTopicsRequest { topic_names, ..Default::default() };
            cluster.run(cluster.controller.handle_delete_topics(&cluster.config, 5, &request));
        }
        Request::Add(name, count) => {
            let topics = vec![CreatePartitionsTopic { name, count, assignments: None }];
            let request = CreatePartitionsRequest { topics, ..Default::default() };
            let outcome = cluster.controller.handle_create_partitions(&mut cluster.rng, &request);
            cluster.run(outcome);
        }
        Request::Alter(resource_type, resource_name, name, config_operation, value) => {
            let configs = vec![AlterableConfig { name, config_operation, value }];
            let resources = vec![AlterConfigsResource { resource_type, resource_name, configs }];
            let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
            cluster.run(cluster.controller.handle_incremental_alter_configs(&cluster.config, &request));
        }
        Request::Restart(id) => cluster.register(id),
        Request::ProducerIds(id) => {
            let epoch = cluster.image().broker(BrokerId(id)).map_or(0, |broker| broker.epoch);
            let _ = cluster.run(cluster.controller.handle_allocate_producer_ids(BrokerId(id), epoch));
        }
        Request::Keep(record) => cluster.run(Outcome { records: vec![record], reply: () }),
    }
}

proptest! {
    #[test]
    fn the_image_is_what_the_log_says(requests in prop::collection::vec(request(), 0..40)) {
        let mut cluster = Cluster::new();
        for request in requests {
            handle(&mut cluster, request);
        }
        let image = cluster.image();
        let mut replayed = MetadataImage::default();
        for (offset, record) in (0..).zip(&cluster.log) {
            replayed.replay(record, Offset(offset), LeaderEpoch(1)).unwrap();
        }
        prop_assert_eq!(&replayed, image);

        let mut loaded = MetadataImage::default();
        for (offset, record) in (1..).zip(image.snapshot_records()) {
            let record = MetadataRecord::decode(&record.encode().unwrap()).unwrap();
            loaded.replay(&record, Offset(offset), LeaderEpoch(1)).unwrap();
        }
        loaded.finish_snapshot(image.end_offset(), LeaderEpoch(1));
        prop_assert_eq!(&loaded, image);

        let partitions = image.topics().map(|topic| topic.partitions.len()).sum::<usize>();
        prop_assert_eq!(image.partition_count(), partitions);
        let with_dots = image.topics().filter(|topic| topic.name.contains(['.', '_'])).count();
        prop_assert_eq!(image.topics_by_metric_name.len(), with_dots);
        for topic in image.topics() {
            prop_assert_eq!(image.topic_by_id(topic.id), Some(topic));
            let numbers: Vec<i32> = topic.partitions.keys().map(|index| index.0).collect();
            prop_assert_eq!(numbers, (0..).take(topic.partitions.len()).collect::<Vec<_>>());
            for partition in topic.partitions.values() {
                prop_assert!(partition.isr.contains(&partition.leader), "{:?}", partition);
                prop_assert!(partition.isr.iter().all(|id| partition.replicas.contains(id)), "{:?}", partition);
                prop_assert_eq!(partition.directories.len(), partition.replicas.len());
            }
        }
    }
}
