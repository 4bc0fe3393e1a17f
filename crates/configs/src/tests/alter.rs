//! Changing configs while the broker runs: the same answers as Apache Kafka 4.3.1 gives, where it has one.

use crate::{
    AlterOp, BrokerConfig, Compression, ConfigSource, Durability, GroupConfig, MessageTimestampType, Target,
    TopicConfig, apply_alter_op, describe_group, validate_broker_config, validate_configs,
    validate_topic_config,
};

#[test]
fn group_configs_are_checked_against_the_limits_of_the_broker() {
    let (broker, _) = BrokerConfig::parse("group.consumer.min.heartbeat.interval.ms=1000", &[]).unwrap();
    let check = |entries: &[(&str, &str)]| {
        let checked = validate_configs(&broker, Target::Group, entries.iter().copied());
        checked.map_err(|error| error.to_string())
    };
    assert_eq!(
        check(&[("consumer.session.timeout.ms", "60000"), ("consumer.assignment.interval.ms", "0")]),
        Ok(())
    );
    for (entry, error) in [
        (
            ("consumer.session.timeout.ms", "44999"),
            "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms, \
             which is 45000",
        ),
        (
            ("consumer.heartbeat.interval.ms", "15001"),
            "consumer.heartbeat.interval.ms must be less than or equal to \
             group.consumer.max.heartbeat.interval.ms, which is 15000",
        ),
        (
            ("share.delivery.count.limit", "1"),
            "Invalid value 1 for configuration share.delivery.count.limit: Value must be at least 2",
        ),
        (
            ("share.delivery.count.limit", "11"),
            "share.delivery.count.limit must be less than or equal to group.share.max.delivery.count.limit, which is 10",
        ),
        (
            ("consumer.heartbeat.interval.ms", "x"),
            "Invalid value x for configuration consumer.heartbeat.interval.ms: Not a number of type INT",
        ),
        (
            ("consumer.sesion.timeout.ms", "45000"),
            "Unknown group config name: consumer.sesion.timeout.ms (did you mean consumer.session.timeout.ms?)",
        ),
    ] {
        assert_eq!(check(&[entry]), Err(error.to_owned()));
    }
}

#[test]
fn a_group_has_its_own_values_over_those_of_the_broker() {
    let (broker, _) = BrokerConfig::parse("group.consumer.heartbeat.interval.ms=6000", &[]).unwrap();
    let overrides = [
        ("consumer.session.timeout.ms", "50000"),
        ("consumer.assignment.interval.ms", "-1"),
        ("errors.deadletterqueue.topic.name", "dlq.orders"),
    ];
    let config = GroupConfig::resolve(&broker, overrides);
    let expected = GroupConfig {
        consumer_session_timeout_ms: 50_000,
        consumer_heartbeat_interval_ms: 6_000,
        consumer_assignment_interval_ms: 1_000,
    };
    assert_eq!(config, expected);
    let told: Vec<String> = describe_group(&broker, overrides)
        .into_iter()
        .map(|entry| format!("{}={} {}", entry.name, entry.value.unwrap(), entry.source.name()))
        .collect();
    assert_eq!(
        told,
        [
            "consumer.assignment.interval.ms=1000 DEFAULT_CONFIG",
            "consumer.heartbeat.interval.ms=6000 STATIC_BROKER_CONFIG",
            "consumer.session.timeout.ms=50000 GROUP_CONFIG",
            "errors.deadletterqueue.topic.name=dlq.orders GROUP_CONFIG",
            "share.delivery.count.limit=5 DEFAULT_CONFIG",
        ]
    );
    // Nothing gives it a default but itself.
    let entries = describe_group(&broker, []);
    let topic = entries.iter().find(|entry| entry.name == "errors.deadletterqueue.topic.name").unwrap();
    assert_eq!((topic.value.as_deref(), topic.source), (Some(""), ConfigSource::Default));
}

/// Kafka's answers; an empty one is its consent.
#[test]
fn topic_configs_are_checked_as_kafka_does() {
    for (name, value, expected) in [
        ("retention.ms", "x", "Invalid value x for configuration retention.ms: Not a number of type LONG"),
        ("retention.ms", "-2", "Invalid value -2 for configuration retention.ms: Value must be at least -1"),
        ("retention.ms", "-1", ""),
        ("retention.ms", " 5 ", ""),
        ("retention.ms", "", "Invalid value  for configuration retention.ms: Not a number of type LONG"),
        (
            "segment.bytes",
            "3000000000",
            "Invalid value 3000000000 for configuration segment.bytes: Not a number of type INT",
        ),
        (
            "segment.bytes",
            "1",
            "Invalid value 1 for configuration segment.bytes: Value must be at least 1048576",
        ),
        (
            "cleanup.policy",
            "foo",
            "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete",
        ),
        ("cleanup.policy", "", ""),
        ("cleanup.policy", "compact, delete", ""),
        ("cleanup.policy", "compact,compact", ""),
        (
            "compression.type",
            "GZIP",
            "Invalid value GZIP for configuration compression.type: \
             String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer",
        ),
        (
            "preallocate",
            "yes",
            "Invalid value yes for configuration preallocate: Expected value to be either true or false",
        ),
        ("preallocate", "TRUE", ""),
        (
            "min.cleanable.dirty.ratio",
            "1.5",
            "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: Value must be no more than 1",
        ),
        (
            "compression.gzip.level",
            "0",
            "Invalid value 0 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1",
        ),
        ("compression.gzip.level", "-1", ""),
        (
            "compression.zstd.level",
            "23",
            "Invalid value 23 for configuration compression.zstd.level: Value must be no more than 22",
        ),
        ("leader.replication.throttled.replicas", "*", ""),
        ("leader.replication.throttled.replicas", "0:1,1:2", ""),
        ("leader.replication.throttled.replicas", "", ""),
    ] {
        let answer =
            validate_topic_config(name, value).err().map_or_else(String::new, |error| error.to_string());
        assert_eq!(answer, expected, "{name}={value}");
    }
}

#[test]
fn an_unknown_topic_config_is_told_with_the_nearest_one() {
    let answer = |name| validate_topic_config(name, "1").unwrap_err().to_string();
    assert_eq!(answer("nope"), "Unknown topic config name: nope");
    assert_eq!(
        answer("retention.mss"),
        "Unknown topic config name: retention.mss (did you mean retention.ms?)"
    );
}

#[test]
fn broker_configs_are_checked_as_kafka_does() {
    use Target::{Broker, ClusterDefault};
    let per_listener =
        "These security configs can be dynamically updated only per-listener using the listener prefix: ";
    let per_broker = "Cannot update these configs at default cluster level, broker id must be specified: ";
    for (target, name, value, expected) in [
        (Broker, "log.dirs", "x", "Cannot update these configs dynamically: [log.dirs]"),
        (
            Broker,
            "log.retention.hours",
            "1",
            "Cannot update these configs dynamically: [log.retention.hours]",
        ),
        (Broker, "broker.id", "2", "Cannot update these configs dynamically: [broker.id]"),
        (
            Broker,
            "message.max.bytes",
            "x",
            "Invalid value x for configuration message.max.bytes: Not a number of type INT",
        ),
        (Broker, "message.max.bytes", "5", ""),
        (ClusterDefault, "message.max.bytes", "5", ""),
        (Broker, "ssl.keystore.location", "x", &format!("{per_listener}[ssl.keystore.location]")),
        (ClusterDefault, "ssl.keystore.location", "x", &format!("{per_listener}[ssl.keystore.location]")),
        (ClusterDefault, "listeners", "PLAINTEXT://x:1", &format!("{per_broker}[listeners]")),
        (Broker, "listeners", "PLAINTEXT://x:1", ""),
        (Broker, "listener.name.external.ssl.keystore.location", "x", ""),
        (
            ClusterDefault,
            "listener.name.external.ssl.keystore.location",
            "x",
            &format!("{per_broker}[listener.name.external.ssl.keystore.location]"),
        ),
        (ClusterDefault, "listener.name.external.max.connections", "5", ""),
        (
            ClusterDefault,
            "listener.name.external.max.connections",
            "x",
            "Invalid value x for configuration max.connections: Not a number of type INT",
        ),
        (Broker, "leader.replication.throttled.rate", "5", ""),
        (
            Broker,
            "leader.replication.throttled.rate",
            "-5",
            "Invalid value -5 for configuration leader.replication.throttled.rate: Value must be at least 0",
        ),
        (
            Broker,
            "log.segment.byte",
            "5",
            "Unknown broker config name: log.segment.byte (did you mean log.segment.bytes?)",
        ),
    ] {
        let answer = validate_broker_config(target, name, value);
        let answer = answer.err().map_or_else(String::new, |error| error.to_string());
        assert_eq!(answer, expected, "{target:?} {name}={value}");
    }
}

#[test]
fn configs_are_checked_together_with_those_in_force() {
    let broker = BrokerConfig::default();
    let entries = [("min.compaction.lag.ms", "100"), ("max.compaction.lag.ms", "50")];
    assert_eq!(
        validate_configs(&broker, Target::Topic, entries).unwrap_err().to_string(),
        "conflict topic config setting min.compaction.lag.ms (100) > max.compaction.lag.ms (50)"
    );
    let broker = broker.with_dynamic([("log.cleaner.max.compaction.lag.ms", "70")], []);
    let entries = [("min.compaction.lag.ms", "100")];
    assert_eq!(
        validate_configs(&broker, Target::Topic, entries).unwrap_err().to_string(),
        "conflict topic config setting min.compaction.lag.ms (100) > max.compaction.lag.ms (70)"
    );
    let entries = [("log.cleaner.min.compaction.lag.ms", "100")];
    assert!(validate_configs(&broker, Target::Broker, entries).is_err());
    assert!(validate_configs(&broker, Target::ClusterDefault, entries).is_ok(), "it replaces what was set");
    assert!(validate_configs(&broker, Target::Topic, [("remote.storage.enable", "true")]).is_err());
}

#[test]
fn lists_can_be_appended_to_and_subtracted_from() {
    use AlterOp::{Append, Delete, Set, Subtract};
    let apply = |name, current, op, value| {
        apply_alter_op(Target::Topic, name, current, op, value).map_err(|error| error.to_string())
    };
    let some = |text: &str| Ok(Some(text.to_owned()));
    let policy = "cleanup.policy";
    assert_eq!(apply(policy, None, Set, Some("compact")), some("compact"));
    assert_eq!(apply(policy, Some("compact"), Delete, None), Ok(None));
    assert_eq!(apply(policy, None, Append, Some("compact")), some("delete,compact"), "to the default");
    assert_eq!(apply(policy, Some("compact"), Append, Some("compact")), some("compact"));
    assert_eq!(apply(policy, Some("compact,delete"), Subtract, Some("delete")), some("compact"));
    assert_eq!(apply(policy, Some("compact"), Subtract, Some("delete")), some("compact"));
    assert_eq!(
        apply("retention.ms", None, Append, Some("5")),
        Err("Can't APPEND to key retention.ms because its type is not LIST.".to_owned())
    );
    assert_eq!(
        apply(policy, None, Set, None),
        Err("Null value not supported for: cleanup.policy".to_owned())
    );
}

#[test]
fn a_topic_takes_from_its_broker_what_it_does_not_set() {
    let file = "log.roll.hours=1\nlog.retention.minutes=2\nmessage.max.bytes=77\ncompression.type=zstd\n\
                log.flush.scheduler.interval.ms=9\ndohle.durability=relaxed\ncompression.gzip.level=5";
    let (broker, _) = BrokerConfig::parse(file, &[]).unwrap();
    let topic = TopicConfig::resolve(&broker, []);
    assert_eq!(topic.segment_ms, 3_600_000);
    assert_eq!(topic.retention_ms, Some(120_000));
    assert_eq!(topic.retention_bytes, None);
    assert_eq!(topic.max_message_bytes, 77);
    assert_eq!(topic.compression, Compression::Zstd(3));
    assert_eq!(topic.flush_ms, 9);
    assert_eq!(topic.durability, Durability::Relaxed);

    let own = [
        ("retention.ms", "-1"),
        ("retention.bytes", "10"),
        ("cleanup.policy", "compact"),
        ("compression.type", "gzip"),
        ("message.timestamp.type", "LogAppendTime"),
        ("dohle.durability", "durable"),
        ("segment.bytes", "not a number"),
    ];
    let topic = TopicConfig::resolve(&broker, own);
    assert_eq!(topic.retention_ms, None);
    assert_eq!(topic.retention_bytes, Some(10));
    assert!(topic.cleanup_policy.compact && !topic.cleanup_policy.delete);
    assert_eq!(topic.compression, Compression::Gzip(5), "the level is the broker's");
    assert_eq!(topic.message_timestamp_type, MessageTimestampType::LogAppendTime);
    assert_eq!(topic.durability, Durability::Durable);
    assert_eq!(topic.segment_bytes, 1 << 30, "what is not valid counts as not set");
}
