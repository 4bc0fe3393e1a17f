use dohle_protocol::messages::{AlterConfigsRequest, FeatureLevelRecord, IncrementalAlterConfigsRequest};
use dohle_protocol::messages::{alter_configs_request, incremental_alter_configs_request};
use dohle_types::Str;
use expect_test::{Expect, expect};

use super::{Cluster, describe, error};

/// The resource types on the wire.
const TYPES: &[(&str, i8)] = &[("topic", 2), ("broker", 4), ("logger", 8), ("metrics", 16), ("group", 32)];

/// `topic/name retention.ms=1 cleanup.policy+=compact flush.ms-`: set, append, (`-=`) subtract, delete.
fn parse(text: &str) -> incremental_alter_configs_request::AlterConfigsResource {
    let mut words = text.split(' ');
    let (kind, name) = words.next().unwrap().split_once('/').unwrap();
    let change = |word: &str| {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let (name, config_operation) = match (name.strip_suffix(['+', '-', '?']), name.chars().last(), value)
        {
            (Some(name), Some('+'), Some(_)) => (name, 2),
            (Some(name), Some('-'), Some(_)) => (name, 3),
            (Some(name), Some('-'), None) => (name, 1),
            (Some(name), Some('?'), _) => (name, 9),
            _ => (name, 0),
        };
        incremental_alter_configs_request::AlterableConfig {
            name: name.into(),
            config_operation,
            value: value.filter(|value| *value != "null").map(Str::from),
        }
    };
    incremental_alter_configs_request::AlterConfigsResource {
        resource_type: TYPES.iter().find(|(known, _)| *known == kind).unwrap().1,
        resource_name: name.into(),
        configs: words.map(change).collect(),
    }
}

fn alter(cluster: &mut Cluster, validate_only: bool, resources: &[&str]) -> String {
    let resources = resources.iter().map(|text| parse(text)).collect();
    let request = IncrementalAlterConfigsRequest { resources, validate_only };
    let outcome = cluster.controller.handle_incremental_alter_configs(&cluster.config, &request);
    let responses = cluster.run(outcome).responses;
    responses
        .iter()
        .map(|resource| {
            format!(
                "{} '{}': {}\n",
                resource.resource_type,
                resource.resource_name,
                error(resource.error_code, resource.error_message.as_ref())
            )
        })
        .collect()
}

/// Replaces the configs of resources, told as for [`alter`].
fn replace(cluster: &mut Cluster, resources: &[&str]) -> String {
    let resource = |text: &&str| {
        let parsed = parse(text);
        let config = |config: &incremental_alter_configs_request::AlterableConfig| {
            alter_configs_request::AlterableConfig { name: config.name.clone(), value: config.value.clone() }
        };
        alter_configs_request::AlterConfigsResource {
            resource_type: parsed.resource_type,
            resource_name: parsed.resource_name,
            configs: parsed.configs.iter().map(config).collect(),
        }
    };
    let request =
        AlterConfigsRequest { resources: resources.iter().map(resource).collect(), ..Default::default() };
    let outcome = cluster.controller.handle_alter_configs(&cluster.config, &request);
    let responses = cluster.run(outcome).responses;
    responses
        .iter()
        .map(|resource| {
            format!(
                "{} '{}': {}\n",
                resource.resource_type,
                resource.resource_name,
                error(resource.error_code, resource.error_message.as_ref())
            )
        })
        .collect()
}

/// What becomes of a topic's configs by one step after the other.
fn check(before: &str, steps: &[&str], expected: Expect) {
    let mut cluster = Cluster::new();
    cluster.create(&[format!("t {before}").trim_end()]);
    let answers: String =
        steps.iter().map(|step| alter(&mut cluster, false, &[&format!("topic/t {step}")])).collect();
    let image = describe(cluster.image());
    let configs = image.lines().filter(|line| line.starts_with("configs")).collect::<Vec<_>>().join("\n");
    expected.assert_eq(&format!("{answers}{configs}"));
}

#[test]
fn configs_are_set_and_deleted() {
    check(
        "retention.ms=1 segment.bytes=2000000",
        &["retention.ms=5 flush.ms=7", "retention.ms- segment.bytes- unset- flush.ms=9"],
        expect![[r#"
            2 't': NONE
            2 't': NONE
            configs of topic t: flush.ms=9"#]],
    );
}

#[test]
fn lists_are_appended_to_and_subtracted_from() {
    check(
        "",
        &["cleanup.policy+=compact"],
        expect![[r#"
        2 't': NONE
        configs of topic t: cleanup.policy=delete,compact"#]],
    );
    check(
        "cleanup.policy=compact,delete",
        &["cleanup.policy-=delete"],
        expect![[r#"
        2 't': NONE
        configs of topic t: cleanup.policy=compact"#]],
    );
    check(
        "",
        &["cleanup.policy+=compact", "cleanup.policy+=compact"],
        expect![[r#"
        2 't': NONE
        2 't': NONE
        configs of topic t: cleanup.policy=delete,compact"#]],
    );
    check(
        "",
        &["cleanup.policy+=bogus", "retention.ms+=1", "nope-=1"],
        expect![[r#"
        2 't': INVALID_CONFIG: Invalid value delete,bogus for configuration cleanup.policy: String must be one of: compact, delete
        2 't': INVALID_CONFIG: Can't APPEND to key retention.ms because its type is not LIST.
        2 't': INVALID_CONFIG: Unknown topic config name: nope
    "#]],
    );
}

#[test]
fn each_resource_gets_its_own_error() {
    let mut cluster = Cluster::new();
    cluster.create(&["t", "u", "v", "w"]);
    let before = describe(cluster.image());
    let answer = alter(
        &mut cluster,
        false,
        &[
            "topic/t retention.ms=x",
            "topic/u retention.ms=1",
            "topic/u retention.ms=2",
            "topic/v retention.ms=1 retention.ms=2",
            "topic/w retention.ms=null",
            "topic/unknown retention.ms=1",
            "topic/ retention.ms=1",
            "topic/a/b retention.ms=1",
            "broker/7 log.cleaner.threads=2",
            "broker/one log.cleaner.threads=2",
            "broker/ node.id=2",
            "broker/1 nope=2",
            "logger/1 root=DEBUG",
            "group/g consumer.session.timeout.ms=45",
            "metrics/m interval.ms=1000",
        ],
    );
    expect![[r#"
        2 't': INVALID_CONFIG: Invalid value x for configuration retention.ms: Not a number of type LONG
        2 'u': INVALID_REQUEST: Each resource must appear at most once.
        2 'v': INVALID_REQUEST: The config retention.ms appears more than once for this resource
        2 'w': INVALID_REQUEST: Null value not supported for: retention.ms
        2 'unknown': UNKNOWN_TOPIC_OR_PARTITION: The topic 'unknown' does not exist.
        2 '': INVALID_REQUEST: the resource needs a name; defaults for all topics are set as configs of the brokers
        2 'a/b': INVALID_TOPIC_EXCEPTION: Topic name is invalid: 'a/b' has characters other than ASCII letters, digits, '.', '_' and '-'
        4 '7': BROKER_ID_NOT_REGISTERED: Broker 7 is not registered; name one that is, or all brokers by an empty name
        4 'one': INVALID_REQUEST: 'one' is no broker id; name a broker by its node.id, or all brokers by an empty name
        4 '': INVALID_REQUEST: Cannot update these configs dynamically: [node.id]
        4 '1': INVALID_REQUEST: Unknown broker config name: nope
        8 '1': INVALID_REQUEST: configs cannot be set for resource type 8; use 2 for a topic, 4 for a broker or 32 for a group
        32 'g': INVALID_CONFIG: consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms, which is 45000
        16 'm': INVALID_REQUEST: configs of a client metrics subscription cannot be set on this broker; it has configs of topics, brokers and groups
    "#]].assert_eq(&answer);
    expect![[r#"
        2 't': INVALID_REQUEST: 9 is no operation on a config; use 0 to set, 1 to delete, 2 to append or 3 to subtract
    "#]].assert_eq(&alter(&mut cluster, false, &["topic/t retention.ms?=1"]));
    assert_eq!(describe(cluster.image()), before);
}

#[test]
fn brokers_have_configs_of_their_own_and_together() {
    let mut cluster = Cluster::new();
    let answer = alter(
        &mut cluster,
        false,
        &["broker/ log.cleaner.threads=2 log.retention.ms=1000", "broker/1 log.cleaner.threads=3"],
    );
    expect![[r#"
        4 '': NONE
        4 '1': NONE
        broker 1 epoch 3 active at localhost:9092
        configs of default broker: log.cleaner.threads=2, log.retention.ms=1000
        configs of broker 1: log.cleaner.threads=3
    "#]]
    .assert_eq(&format!("{answer}{}", describe(cluster.image())));
}

#[test]
fn the_old_api_replaces_everything() {
    let mut cluster = Cluster::new();
    cluster.create(&["t retention.ms=1 flush.ms=2", "u retention.ms=1"]);
    let answer =
        replace(&mut cluster, &["topic/t flush.ms=2 segment.ms=3", "topic/u", "broker/ nope=1", "topic/zz"]);
    expect![[r#"
        2 't': NONE
        2 'u': NONE
        4 '': INVALID_REQUEST: Unknown broker config name: nope
        2 'zz': UNKNOWN_TOPIC_OR_PARTITION: The topic 'zz' does not exist.
        broker 1 epoch 3 active at localhost:9092
        topic t
          0: leader 1 epoch 0, replicas [1], isr [1]
        topic u
          0: leader 1 epoch 0, replicas [1], isr [1]
        configs of topic t: flush.ms=2, segment.ms=3
    "#]]
    .assert_eq(&format!("{answer}{}", describe(cluster.image())));
    let answer = replace(
        &mut cluster,
        &["topic/t retention.ms=null", "topic/u a=1 a=2", "broker/ a=1", "broker/ a=2"],
    );
    expect![[r#"
        2 't': INVALID_REQUEST: Null value not supported for: retention.ms
        2 'u': INVALID_REQUEST: The config a appears more than once for this resource
        4 '': INVALID_REQUEST: Each resource must appear at most once.
    "#]]
    .assert_eq(&answer);
}

#[test]
fn only_what_changes_is_written() {
    let mut cluster = Cluster::new();
    cluster.create(&["t retention.ms=1"]);
    let end = cluster.image().end_offset();
    alter(&mut cluster, false, &["topic/t retention.ms=1 flush.ms-"]);
    assert_eq!(cluster.image().end_offset(), end);
    assert_eq!(alter(&mut cluster, true, &["topic/t retention.ms=2"]), "2 't': NONE\n");
    assert_eq!(cluster.image().end_offset(), end);
}

#[test]
fn a_value_fits_a_record() {
    let mut cluster = Cluster::new();
    cluster.create(&["t"]);
    let replicas = |from: usize| (from..from + 3000).map(|n| format!("{n}:1")).collect::<Vec<_>>().join(",");
    let name = "follower.replication.throttled.replicas";
    assert_eq!(alter(&mut cluster, false, &[&format!("topic/t {name}={}", replicas(0))]), "2 't': NONE\n");
    expect![[r#"
        2 't': INVALID_CONFIG: The value of follower.replication.throttled.replicas is longer than 32767 bytes
    "#]]
    .assert_eq(&alter(&mut cluster, false, &[&format!("topic/t {name}+={}", replicas(3000))]));
}

#[test]
fn log_dirs_are_cordoned_where_the_metadata_log_has_words_for_it() {
    let mut cluster = Cluster::with("log.dirs=a,b", 1);
    expect![[r#"
        4 '1': NONE
        4 '1': INVALID_REQUEST: All entries in `cordoned.log.dirs` must be present in `log.dirs` or `log.dir`. Missing entries: c, d
        4 '1': INVALID_REQUEST: When `cordoned.log.dirs` is set to *, it must not contain other values
        4 '1': NONE
        4 '': INVALID_REQUEST: Cannot update these configs at default cluster level, broker id must be specified: [cordoned.log.dirs]
    "#]]
    .assert_eq(
        &["broker/1 cordoned.log.dirs=b", "broker/1 cordoned.log.dirs=c,a,d", "broker/1 cordoned.log.dirs=*,a"]
            .into_iter()
            .chain(["broker/1 cordoned.log.dirs=*", "broker/ cordoned.log.dirs=a"])
            .map(|change| alter(&mut cluster, false, &[change]))
            .collect::<String>(),
    );
    let records = vec![FeatureLevelRecord { name: "metadata.version".into(), feature_level: 29 }.into()];
    cluster.run(dohle_ledger::Outcome { records, reply: () });
    expect![[r"
        4 '1': INVALID_CONFIG: The cordoned.log.dirs configuration value cannot be set because it requires metadata.version >= 4.3-IV0
    "]]
    .assert_eq(&alter(&mut cluster, false, &["broker/1 cordoned.log.dirs-"]));
}

#[test]
fn a_group_s_dead_letter_topic_is_one_that_there_can_be() {
    let mut cluster = Cluster::new();
    let name = "errors.deadletterqueue.topic.name";
    let values = ["dlq.orders", "", "dlq/orders", "__consumer_offsets", "__cluster_metadata"];
    let answers: String = values
        .iter()
        .map(|value| alter(&mut cluster, false, &[&format!("group/g {name}={value}")]))
        .collect();
    alter(&mut cluster, false, &[&format!("group/g {name}=dlq.payments share.delivery.count.limit=3")]);
    let image = describe(cluster.image());
    let configs: Vec<&str> = image.lines().filter(|line| line.starts_with("configs")).collect();
    expect![[r#"
        32 'g': NONE
        32 'g': NONE
        32 'g': INVALID_CONFIG: Invalid value dlq/orders for configuration errors.deadletterqueue.topic.name: Topic name is invalid: 'dlq/orders' has characters other than ASCII letters, digits, '.', '_' and '-'
        32 'g': INVALID_CONFIG: Invalid value __consumer_offsets for configuration errors.deadletterqueue.topic.name: Topic is internal
        32 'g': INVALID_CONFIG: Invalid value __cluster_metadata for configuration errors.deadletterqueue.topic.name: Topic is internal
        configs of group g: errors.deadletterqueue.topic.name=dlq.payments, share.delivery.count.limit=3"#]].assert_eq(&format!("{answers}{}", configs.join("\n")));
}
