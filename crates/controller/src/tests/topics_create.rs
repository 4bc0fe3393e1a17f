use dohle_protocol::messages::CreateTopicsRequest;
use expect_test::{Expect, expect};

use super::{Cluster, describe, topic};
use crate::{CreateTopicError, MetadataRecord};

/// What one broker answers to topics that are asked for together, and what it has then.
fn check(topics: &[&str], expected: Expect) {
    let mut cluster = Cluster::new();
    let answer = cluster.create(topics);
    expected.assert_eq(&format!("{answer}{}", describe(cluster.image())));
}

#[test]
fn a_topic_has_the_partitions_and_configs_asked_for() {
    check(
        &["orders partitions=2 rf=1 retention.ms=1000 cleanup.policy=compact"],
        expect![[r#"
            orders: created, 2 partitions, 1 replicas
            broker 1 epoch 3 active at localhost:9092
            topic orders
              0: leader 1 epoch 0, replicas [1], isr [1]
              1: leader 1 epoch 0, replicas [1], isr [1]
            configs of topic orders: cleanup.policy=compact, retention.ms=1000
        "#]],
    );
}

#[test]
fn minus_one_means_the_defaults_of_the_broker() {
    let mut cluster = Cluster::with("num.partitions=3\ndefault.replication.factor=2", 3);
    expect![[r#"
        defaults: created, 3 partitions, 2 replicas
        given: created, 1 partitions, 3 replicas
    "#]]
    .assert_eq(&cluster.create(&["defaults", "given partitions=1 rf=3"]));
}

#[test]
fn a_default_replication_factor_does_not_keep_a_single_node_from_working() {
    let mut cluster = Cluster::with("default.replication.factor=3", 1);
    expect![[r#"
        capped: created, 1 partitions, 1 replicas
        asked: INVALID_REPLICATION_FACTOR: Unable to replicate the partition 3 time(s): only 1 broker(s) are registered; ask for a replication factor of at most 1
    "#]].assert_eq(&cluster.create(&["capped", "asked rf=3"]));
}

#[test]
fn each_topic_gets_its_own_error() {
    check(
        &[
            "good",
            "twice",
            "twice rf=1",
            "bad/name",
            "__cluster_metadata",
            "zero-partitions partitions=0",
            "few-partitions partitions=-2",
            "zero-replicas rf=0",
            "many-replicas rf=2",
            "unknown-config nope=1",
            "misspelt-config retention.mss=1",
            "bad-config retention.ms=soon",
            "null-config retention.ms=null",
            "conflicting-configs min.compaction.lag.ms=2 max.compaction.lag.ms=1",
        ],
        expect![[r#"
            good: created, 1 partitions, 1 replicas
            twice: INVALID_REQUEST: Duplicate topic name: the request names 'twice' more than once
            bad/name: INVALID_TOPIC_EXCEPTION: Topic name is invalid: 'bad/name' has characters other than ASCII letters, digits, '.', '_' and '-'
            __cluster_metadata: INVALID_REQUEST: Creation of internal topic __cluster_metadata is prohibited.
            zero-partitions: INVALID_PARTITIONS: Number of partitions was set to 0; it must be larger than 0, or -1 to use the default value
            few-partitions: INVALID_PARTITIONS: Number of partitions was set to -2; it must be larger than 0, or -1 to use the default value
            zero-replicas: INVALID_REPLICATION_FACTOR: Replication factor must be larger than 0, or -1 to use the default value.
            many-replicas: INVALID_REPLICATION_FACTOR: Unable to replicate the partition 2 time(s): only 1 broker(s) are registered; ask for a replication factor of at most 1
            unknown-config: INVALID_CONFIG: Unknown topic config name: nope
            misspelt-config: INVALID_CONFIG: Unknown topic config name: retention.mss (did you mean retention.ms?)
            bad-config: INVALID_CONFIG: Invalid value soon for configuration retention.ms: Not a number of type LONG
            null-config: INVALID_CONFIG: Null value not supported for topic configs: retention.ms
            conflicting-configs: INVALID_CONFIG: conflict topic config setting min.compaction.lag.ms (2) > max.compaction.lag.ms (1)
            broker 1 epoch 3 active at localhost:9092
            topic good
              0: leader 1 epoch 0, replicas [1], isr [1]
        "#]],
    );
}

#[test]
fn topics_do_not_collide_in_metrics() {
    let mut cluster = Cluster::new();
    expect![[r#"
        a.b: created, 1 partitions, 1 replicas
        c.d: created, 1 partitions, 1 replicas
        c_d: INVALID_TOPIC_EXCEPTION: Topic 'c_d' collides with existing topic: c.d; names that differ only in '.' and '_' are one in metrics
        e-f: created, 1 partitions, 1 replicas
        e.f: created, 1 partitions, 1 replicas
    "#]].assert_eq(&cluster.create(&["a.b", "c.d", "c_d", "e-f", "e.f"]));
    expect![[r#"
        a.b: TOPIC_ALREADY_EXISTS: Topic 'a.b' already exists.
        a_b: INVALID_TOPIC_EXCEPTION: Topic 'a_b' collides with existing topic: a.b; names that differ only in '.' and '_' are one in metrics
        a-b: created, 1 partitions, 1 replicas
    "#]].assert_eq(&cluster.create(&["a.b", "a_b", "a-b"]));
}

#[test]
fn replicas_can_be_assigned_by_hand() {
    let mut cluster = Cluster::with("", 2);
    let answer = cluster.create(&[
        "good 1:2,1 0:1,2",
        "numbers partitions=1 0:1",
        "factor rf=1 0:1",
        "gap 0:1 2:1",
        "twice 0:1 0:2",
        "nobody 0:",
        "unknown 0:1,9",
        "same 0:1,1",
        "uneven 0:1 1:1,2",
    ]);
    expect![[r#"
        good: created, 2 partitions, 2 replicas
        numbers: INVALID_REQUEST: A manual partition assignment was specified together with a number of partitions or a replication factor; set both to -1
        factor: INVALID_REQUEST: A manual partition assignment was specified together with a number of partitions or a replication factor; set both to -1
        gap: INVALID_REPLICA_ASSIGNMENT: The partitions of a manual assignment should be a consecutive sequence that begins with 0
        twice: INVALID_REPLICA_ASSIGNMENT: Found multiple manual partition assignments for partition 0
        nobody: INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes an empty replica list.
        unknown: INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes broker 9, but no such broker is registered.
        same: INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes the broker 1 more than once.
        uneven: INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes a partition with 2 replica(s), but the partitions before it have 1
        broker 1 epoch 3 active at localhost:9092
        broker 2 epoch 5 active at localhost:9093
        topic good
          0: leader 1 epoch 0, replicas [1, 2], isr [1, 2]
          1: leader 2 epoch 0, replicas [2, 1], isr [2, 1]
    "#]].assert_eq(&format!("{answer}{}", describe(cluster.image())));
}

#[test]
fn replicas_go_around_brokers_and_racks() {
    let mut cluster = Cluster::with("", 4);
    cluster.create(&["t partitions=4 rf=2"]);
    let image = cluster.image();
    let rack = |id| image.broker(id).unwrap().rack.clone();
    let partitions = &image.topic("t").unwrap().partitions;
    let mut leaders: Vec<_> = partitions.values().map(|partition| partition.leader).collect();
    leaders.sort();
    assert!(leaders.windows(2).all(|pair| pair[0] != pair[1]), "each broker leads one: {leaders:?}");
    for partition in partitions.values() {
        assert_ne!(rack(partition.replicas[0]), rack(partition.replicas[1]), "{partition:?}");
    }
}

#[test]
fn the_answer_tells_id_and_configs() {
    let mut cluster = Cluster::with("log.retention.ms=5000", 1);
    let request =
        CreateTopicsRequest { topics: vec![topic("t segment.bytes=2000000")], ..Default::default() };
    let outcome = cluster.controller.handle_create_topics(&cluster.config, &mut cluster.rng, &request);
    let reply = cluster.run(outcome);
    let created = &reply.topics[0];
    assert_eq!(created.topic_id, cluster.image().topic("t").unwrap().id.0);
    let shown: Vec<String> = created
        .configs
        .iter()
        .flatten()
        .filter(|config| ["cleanup.policy", "retention.ms", "segment.bytes"].contains(&&*config.name))
        .map(|config| {
            format!("{}={} source {}", config.name, config.value.as_ref().unwrap(), config.config_source)
        })
        .collect();
    expect![[r#"
        cleanup.policy=delete source 5
        retention.ms=5000 source 4
        segment.bytes=2000000 source 1"#]]
    .assert_eq(&shown.join("\n"));
}

#[test]
fn validate_only_changes_nothing() {
    let mut cluster = Cluster::new();
    let request = CreateTopicsRequest {
        topics: vec![topic("t"), topic("bad rf=9")],
        validate_only: true,
        ..Default::default()
    };
    let outcome = cluster.controller.handle_create_topics(&cluster.config, &mut cluster.rng, &request);
    assert_eq!(outcome.records, []);
    let reply = cluster.run(outcome);
    assert_eq!(reply.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>(), [0, 38]);
}

#[test]
fn a_request_and_a_cluster_have_limits() {
    let mut cluster = Cluster::new();
    expect![[r#"
        t: POLICY_VIOLATION: Excessively large number of partitions per request: a request may make 10000 records; use several requests
    "#]].assert_eq(&cluster.create(&["t partitions=10001"]));
    expect![[r#"
        t: POLICY_VIOLATION: Excessively large number of partitions per request: a request may make 10000 records; use several requests
        u: POLICY_VIOLATION: Excessively large number of partitions per request: a request may make 10000 records; use several requests
    "#]].assert_eq(&cluster.create(&["t partitions=5000", "u partitions=5001"]));
    expect![[r#"
        t: POLICY_VIOLATION: Excessively large number of partitions per request: a request may make 10000 records; use several requests
        u: POLICY_VIOLATION: Excessively large number of partitions per request: a request may make 10000 records; use several requests
    "#]].assert_eq(&cluster.create(&["t partitions=2147483647", "u partitions=2147483647"]));
    cluster.controller.image.partition_count = crate::PARTITIONS_MAX - 2000;
    expect![[r#"
        last: created, 2000 partitions, 1 replicas
        over: POLICY_VIOLATION: The cluster may have 200000 partitions in total; delete topics that are not needed
    "#]].assert_eq(&cluster.create(&["last partitions=2000", "over"]));
    assert_eq!(cluster.image().partition_count(), crate::PARTITIONS_MAX);
}

#[test]
fn records_stand_in_the_order_that_kafka_writes() {
    let mut cluster = Cluster::new();
    let begin = cluster.log.len();
    cluster.create(&["t partitions=2 retention.ms=1"]);
    let names: Vec<_> = cluster.log[begin..].iter().map(MetadataRecord::name).collect();
    assert_eq!(names, ["TopicRecord", "ConfigRecord", "PartitionRecord", "PartitionRecord"]);
}

#[test]
fn topics_that_brokers_need_are_created_once() {
    let mut cluster = Cluster::with(
        "num.partitions=2\noffsets.topic.num.partitions=3\ntransaction.state.log.num.partitions=1",
        2,
    );
    for name in ["__consumer_offsets", "__consumer_offsets", "__transaction_state", "asked-for", "bad/name"] {
        let outcome = cluster.controller.handle_auto_create_topic(&cluster.config, &mut cluster.rng, name);
        let reply = cluster.run(outcome);
        assert_eq!(reply.is_ok(), name != "bad/name", "{reply:?}");
    }
    expect![[r#"
        broker 1 epoch 3 active at localhost:9092
        broker 2 epoch 5 active at localhost:9093
        topic __consumer_offsets
          0: leader 2 epoch 0, replicas [2, 1], isr [2, 1]
          1: leader 1 epoch 0, replicas [1, 2], isr [1, 2]
          2: leader 2 epoch 0, replicas [2, 1], isr [2, 1]
        topic __transaction_state
          0: leader 2 epoch 0, replicas [2, 1], isr [2, 1]
        topic asked-for
          0: leader 1 epoch 0, replicas [1], isr [1]
          1: leader 2 epoch 0, replicas [2], isr [2]
        configs of topic __consumer_offsets: cleanup.policy=compact, compression.type=producer, segment.bytes=104857600
        configs of topic __transaction_state: cleanup.policy=compact, compression.type=uncompressed, min.insync.replicas=2, segment.bytes=104857600, unclean.leader.election.enable=false
    "#]].assert_eq(&describe(cluster.image()));
}

#[test]
fn nothing_is_created_without_a_broker() {
    let mut cluster = Cluster::with("", 0);
    expect![[r#"
        t: INVALID_REPLICATION_FACTOR: Unable to replicate the partition 1 time(s): All brokers are currently fenced, or have all their log directories cordoned.
        u: INVALID_REPLICA_ASSIGNMENT: The manual partition assignment includes broker 1, but no such broker is registered.
    "#]].assert_eq(&cluster.create(&["t", "u 0:1"]));
}

#[test]
fn a_default_that_is_too_large_is_refused_before_anything_is_made() {
    let mut cluster = Cluster::with("num.partitions=2000000000", 1);
    let outcome = cluster.controller.handle_auto_create_topic(&cluster.config, &mut cluster.rng, "t");
    assert_eq!(cluster.run(outcome), Err(CreateTopicError::RequestTooLarge));
}
