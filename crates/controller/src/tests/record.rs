use bytes::Bytes;
use dohle_protocol::DecodeError;
use expect_test::{Expect, expect};

use super::bytes;
use crate::{MetadataRecord, RecordError};

/// Decodes what Apache Kafka 4.3.1 has written; `again` says that we write the same bytes, for we write only the
/// newest version of a record.
fn check(hex: &str, again: bool, expected: Expect) {
    let value = bytes(hex);
    let record = MetadataRecord::decode(&value).unwrap();
    expected.assert_eq(&format!("{record:?}"));
    assert_eq!(record.encode().unwrap() == value, again);
    for len in 0..value.len() {
        assert!(MetadataRecord::decode(&value.slice(..len)).is_err(), "cut to {len} bytes");
    }
}

#[test]
fn a_new_log_begins_as_with_kafka() {
    check(
        "01170001001212426f6f747374726170207265636f726473",
        true,
        expect![[r#"BeginTransaction(BeginTransactionRecord { name: Some("Bootstrap records") })"#]],
    );
    check(
        "010c00116d657461646174612e76657273696f6e001e00",
        true,
        expect![[r#"FeatureLevel(FeatureLevelRecord { name: "metadata.version", feature_level: 30 })"#]],
    );
    check("01180000", true, expect!["EndTransaction(EndTransactionRecord)"]);
}

#[test]
fn brokers_are_registered_as_with_kafka() {
    check(
        "0100040000000100e383e0631dbd4af3bec80598943450f7000000000000000b020a504c41494e544558540a3132372e302e302e31
         4af8000000080e67726f75702e76657273696f6e00000001000e6b726166742e76657273696f6e00000001000e73686172652e7665
         7273696f6e0000000100116d657461646174612e76657273696f6e0007001e0021656c696769626c652e6c65616465722e7265706c
         696361732e76657273696f6e0000000100147472616e73616374696f6e2e76657273696f6e00000002001073747265616d732e7665
         7273696f6e0000000100000100010011026afba305dcd13576e5b85893d662de75",
        true,
        expect![[r#"RegisterBroker(RegisterBrokerRecord { broker_id: 1, is_migrating_zk_broker: false, incarnation_id: e383e063-1dbd-4af3-bec8-0598943450f7, broker_epoch: 11, end_points: [BrokerEndpoint { name: "PLAINTEXT", host: "127.0.0.1", port: 19192, security_protocol: 0 }], features: [BrokerFeature { name: "group.version", min_supported_version: 0, max_supported_version: 1 }, BrokerFeature { name: "kraft.version", min_supported_version: 0, max_supported_version: 1 }, BrokerFeature { name: "share.version", min_supported_version: 0, max_supported_version: 1 }, BrokerFeature { name: "metadata.version", min_supported_version: 7, max_supported_version: 30 }, BrokerFeature { name: "eligible.leader.replicas.version", min_supported_version: 0, max_supported_version: 1 }, BrokerFeature { name: "transaction.version", min_supported_version: 0, max_supported_version: 2 }, BrokerFeature { name: "streams.version", min_supported_version: 0, max_supported_version: 1 }], rack: None, fenced: true, in_controlled_shutdown: false, log_dirs: [6afba305-dcd1-3576-e5b8-5893d662de75], cordoned_log_dirs: None })"#]],
    );
    check(
        "01110000000001000000000000000b010001ff",
        false,
        expect![
            "BrokerRegistrationChange(BrokerRegistrationChangeRecord { broker_id: 1, broker_epoch: 11, fenced: -1, in_controlled_shutdown: 0, log_dirs: [], cordoned_log_dirs: None })"
        ],
    );
    check(
        "01110300000001000000000000000b01030101",
        true,
        expect![
            "BrokerRegistrationChange(BrokerRegistrationChangeRecord { broker_id: 1, broker_epoch: 11, fenced: 0, in_controlled_shutdown: 0, log_dirs: [], cordoned_log_dirs: Some([]) })"
        ],
    );
}

#[test]
fn topics_are_created_and_deleted_as_with_kafka() {
    check(
        "010200076f72646572739d86f5e12d3b4a86bd2ec13208b36b2100",
        true,
        expect![[r#"Topic(TopicRecord { name: "orders", topic_id: 9d86f5e1-2d3b-4a86-bd2e-c13208b36b21 })"#]],
    );
    check(
        "01040002076f72646572730d726574656e74696f6e2e6d73053130303000",
        true,
        expect![[
            r#"Config(ConfigRecord { resource_type: 2, resource_name: "orders", name: "retention.ms", value: Some("1000") })"#
        ]],
    );
    check(
        "010302000000009d86f5e12d3b4a86bd2ec13208b36b21020000000102000000010101000000010000000000000000026afba305dc
         d13576e5b85893d662de7500",
        true,
        expect!["Partition(PartitionRecord { partition_id: 0, topic_id: 9d86f5e1-2d3b-4a86-bd2e-c13208b36b21, replicas: [1], isr: [1], removing_replicas: [], adding_replicas: [], leader: 1, leader_recovery_state: 0, leader_epoch: 0, partition_epoch: 0, directories: [6afba305-dcd1-3576-e5b8-5893d662de75], eligible_leader_replicas: None, last_known_elr: None })"],
    );
    check(
        "010900a53dae09201d42cebcf0c180c1a89ce200",
        true,
        expect!["RemoveTopic(RemoveTopicRecord { topic_id: a53dae09-201d-42ce-bcf0-c180c1a89ce2 })"],
    );
}

#[test]
fn leaders_change_as_with_kafka() {
    check(
        "01050200000000dd547a65dcc44c8193e149328a179d25040001010104ffffffff0605020000000107050200000001",
        true,
        expect![
            "PartitionChange(PartitionChangeRecord { partition_id: 0, topic_id: dd547a65-dcc4-4c81-93e1-49328a179d25, isr: Some([]), leader: -1, replicas: None, removing_replicas: None, adding_replicas: None, leader_recovery_state: -1, directories: None, eligible_leader_replicas: Some([1]), last_known_elr: Some([1]) })"
        ],
    );
    check(
        "010f0000000001000000000000006f00000000000003e800",
        true,
        expect!["ProducerIds(ProducerIdsRecord { broker_id: 1, broker_epoch: 111, next_producer_id: 1000 })"],
    );
}

#[test]
fn what_is_only_kept_is_written_as_with_kafka() {
    check(
        "010e0002057573657206616c696365001370726f64756365725f627974655f7261746541cdcd65000000000000",
        true,
        expect![[
            r#"ClientQuota(ClientQuotaRecord { entity: [EntityData { entity_type: "user", entity_name: Some("alice") }], key: "producer_byte_rate", value: 1000000000.0, remove: false })"#
        ]],
    );
}

#[test]
fn what_cannot_be_understood_is_named() {
    for (hex, expected) in [
        ("", RecordError::Frame(DecodeError::UnexpectedEnd)),
        ("02", RecordError::FrameVersion(2)),
        ("01ffffffff0f00", RecordError::Frame(DecodeError::VarintTooLong)),
        ("016300", RecordError::UnknownType { key: 99, version: 0 }),
        (
            "010201",
            RecordError::Message {
                name: "TopicRecord",
                version: 1,
                error: DecodeError::UnsupportedVersion { message: "TopicRecord", version: 1 },
            },
        ),
        (
            "01140000ff",
            RecordError::Message { name: "NoOpRecord", version: 0, error: DecodeError::TrailingBytes(1) },
        ),
    ] {
        assert_eq!(MetadataRecord::decode(&bytes(hex)), Err(expected), "{hex}");
    }
}

proptest::proptest! {
    #[test]
    fn decoding_is_total(value: Vec<u8>, key in 0_u8..30, version in 0_u8..5) {
        let _ = MetadataRecord::decode(&Bytes::from([&[1, key, version], &*value].concat()));
        let _ = MetadataRecord::decode(&Bytes::from(value));
    }
}
