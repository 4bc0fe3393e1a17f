//! From the text of a properties file to the configs of a broker, or to errors that say what to do.

use crate::{BrokerConfig, ConfigSource, SecurityProtocol, broker};
use expect_test::{Expect, expect};

fn start(file: &str) -> BrokerConfig {
    BrokerConfig::parse(file, &[]).unwrap().0
}

fn check_errors(file: &str, overrides: &[&str], expected: Expect) {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    expected.assert_eq(&BrokerConfig::parse(file, &overrides).unwrap_err().to_string());
}

fn check_warnings(file: &str, expected: Expect) {
    let (_, warnings) = BrokerConfig::parse(file, &[]).unwrap();
    let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    expected.assert_eq(&lines.join("\n"));
}

/// The file that Apache Kafka 4.3.1 ships, without its comments.
const STOCK: &str = "
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=data
num.partitions=1
num.recovery.threads.per.data.dir=2
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";

#[test]
fn the_stock_file_of_kafka_starts_a_broker() {
    let config = start(STOCK);
    assert_eq!(config.node_id().0, 1);
    assert_eq!(config.log_dirs(), ["data"]);
    let listeners = config.listeners();
    assert_eq!(listeners.len(), 1, "the controller's listener is not for clients");
    assert_eq!(listeners[0].to_string(), "PLAINTEXT://:9092");
    assert_eq!(listeners[0].security_protocol, SecurityProtocol::Plaintext);
    assert_eq!(config.advertised_listeners()[0].to_string(), "PLAINTEXT://localhost:9092");
    assert_eq!(config.value(broker::OFFSETS_TOPIC_REPLICATION_FACTOR), 1);
    check_warnings(
        STOCK,
        expect![[r#"
            `controller.quorum.bootstrap.servers` (line 4) has no effect: clusters of several nodes come with a later version
            `inter.broker.listener.name` (line 6) has no effect: clusters of several nodes come with a later version
            `share.coordinator.state.topic.replication.factor` (line 19) has no effect: share groups come with a later version
            `share.coordinator.state.topic.min.isr` (line 20) has no effect: share groups come with a later version"#]],
    );
}

#[test]
fn all_errors_are_told_at_once_with_their_lines() {
    check_errors(
        "log.retention.mss=5\nnum.partitions=0\n\nlog.segment.bytes = 1 GiB\nxyzzy=1\nauto.create.topics.enable=yes\n\
         ssl.keystore.password=geheim\nlog.cleanup.policy=purge\nlog.retention.ms=0\nlog.roll.ms=soon",
        &["compression.type=brotli", "no equals sign"],
        expect![[r#"
            unknown config `log.retention.mss` (line 1): did you mean `log.retention.ms`?
            invalid value `0` for `num.partitions` (line 2): Value must be at least 1; expected INT, at least 1; for example `num.partitions=1`
            invalid value `1 GiB` for `log.segment.bytes` (line 4): Not a number of type INT; expected INT, at least 1048576; for example `log.segment.bytes=1073741824`
            unknown config `xyzzy` (line 5)
            invalid value `yes` for `auto.create.topics.enable` (line 6): Expected value to be either true or false; expected BOOLEAN; for example `auto.create.topics.enable=true`
            invalid value `purge` for `log.cleanup.policy` (line 8): String must be one of: compact, delete; expected LIST, some of compact, delete; for example `log.cleanup.policy=delete`
            invalid value `0` for `log.retention.ms` (line 9): Value must be at least 1, or -1 for no limit; expected LONG, at least 1, or -1 for no limit; for example `log.retention.ms=1000`
            invalid value `soon` for `log.roll.ms` (line 10): Not a number of type LONG; expected LONG, at least 1; for example `log.roll.ms=1000`
            override `no equals sign` is not of the form name=value
            invalid value `brotli` for `compression.type` (override): String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer; expected STRING, one of uncompressed, zstd, lz4, snappy, gzip, producer; for example `compression.type=producer`"#]],
    );
}

#[test]
fn values_must_go_together() {
    check_errors(
        "node.id=1\nbroker.id=2\nqueued.max.request.bytes=5\ndohle.memory.max=1000\nmax.connections.per.ip=0\nlog.dirs=\nlog.dir=",
        &[],
        expect![[r#"
            `node.id` and `broker.id` must be equal; leave out `broker.id`
            `log.dirs` must name at least one directory
            `queued.max.request.bytes` must be at least `socket.request.max.bytes`, or -1
            `dohle.memory.max` must be at least 16777216, or 0 for a quarter of the machine's memory
            `max.connections.per.ip` may be 0 only if `max.connections.per.ip.overrides` is set"#]],
    );
}

#[test]
fn single_addresses_may_have_limits_of_their_own() {
    let config = start("max.connections.per.ip.overrides=127.0.0.1:5, ::1:6");
    let limits: Vec<_> = config.max_connections_per_ip_overrides().into_iter().collect();
    assert_eq!(limits, [("127.0.0.1".to_owned(), 5), ("::1".to_owned(), 6)]);
    check_errors(
        "max.connections.per.ip.overrides=a:5,b",
        &[],
        expect!["`max.connections.per.ip.overrides`: `b` is not of the form address:count"],
    );
}

#[test]
fn listeners_are_checked() {
    check_errors(
        "listeners=localhost:9092",
        &[],
        expect![
            "invalid `listeners`: `localhost:9092` is not of the form NAME://host:port, for example PLAINTEXT://localhost:9092"
        ],
    );
    check_errors(
        "listeners=EXTERNAL://:9092",
        &[],
        expect![
            "invalid `listeners`: `listener.security.protocol.map` does not say what EXTERNAL stands for"
        ],
    );
    check_errors(
        "listeners=CONTROLLER://:9093",
        &[],
        expect!["`listeners` must name at least one address for clients, for example PLAINTEXT://:9092"],
    );
    check_errors(
        "listeners=PLAINTEXT://:9092,SSL://:9092",
        &[],
        expect![[r#"
            `listeners`: SSL://:9092 asks for SSL; this version of Dohle serves only PLAINTEXT
            `listeners`: PLAINTEXT://:9092 and SSL://:9092 have the same port"#]],
    );
    check_errors(
        "advertised.listeners=SSL://0.0.0.0:9092",
        &[],
        expect![[r#"
            `advertised.listeners`: no client can connect to SSL://0.0.0.0:9092; name a host that clients can reach
            `advertised.listeners` names SSL, which `listeners` does not"#]],
    );
    let config = start(
        "listeners=PLAINTEXT://[::1]:9092,plaintext2://a.b:1\nlistener.security.protocol.map=PLAINTEXT:PLAINTEXT,Plaintext2:plaintext",
    );
    let listeners: Vec<String> = config.listeners().iter().map(ToString::to_string).collect();
    assert_eq!(listeners, ["PLAINTEXT://[::1]:9092", "PLAINTEXT2://a.b:1"]);
    assert_eq!(config.listeners()[1].security_protocol, SecurityProtocol::Plaintext);
}

#[test]
fn what_does_nothing_is_told() {
    check_warnings(
        "listener.name.external.ssl.keystore.location=x\nzookeeper.connect=localhost\nlog.cleaner.threads=2\n\
         num.io.threads=8\nssl.key.password=geheim\nsuper.users=User:a",
        expect![[r#"
            `listener.name.external.ssl.keystore.location` (line 1) has no effect: settings of single listeners come with TLS and SASL in a later version
            `zookeeper.connect` (line 2) has no effect: Apache Kafka 4 has removed it
            `log.cleaner.threads` (line 3) has no effect: one log is compacted at a time, or none where it is 0
            `ssl.key.password` (line 5) has no effect: TLS, SASL and ACLs come with a later version
            `super.users` (line 6) has no effect: TLS, SASL and ACLs come with a later version"#]],
    );
}

#[test]
fn an_override_goes_before_the_file_and_the_file_before_the_default() {
    assert_eq!(start("").source(broker::NUM_PARTITIONS), ConfigSource::Default);
    let (config, _) = BrokerConfig::parse("num.partitions=2\nnum.partitions=3", &[]).unwrap();
    assert_eq!(config.value(broker::NUM_PARTITIONS), 3, "the last line counts");
    assert_eq!(config.source(broker::NUM_PARTITIONS), ConfigSource::StaticBroker);
    let (config, _) = BrokerConfig::parse("num.partitions=2", &["num.partitions = 4".to_owned()]).unwrap();
    assert_eq!(config.value(broker::NUM_PARTITIONS), 4);
}

#[test]
fn dynamic_configs_go_before_static_ones() {
    let fixed = start("log.segment.bytes=2000000");
    let cluster = fixed.with_dynamic([("log.segment.bytes", "3000000")], []);
    let broker = fixed.with_dynamic([("log.segment.bytes", "3000000")], [("log.segment.bytes", "4000000")]);
    let read = |config: &BrokerConfig| {
        (config.value(broker::LOG_SEGMENT_BYTES), config.source(broker::LOG_SEGMENT_BYTES))
    };
    assert_eq!(read(&fixed), (2_000_000, ConfigSource::StaticBroker));
    assert_eq!(read(&cluster), (3_000_000, ConfigSource::DynamicDefaultBroker));
    assert_eq!(read(&broker), (4_000_000, ConfigSource::DynamicBroker));
    assert_eq!(
        fixed.value(broker::LEADER_REPLICATION_THROTTLED_RATE),
        i64::MAX,
        "it exists only at run time"
    );
    let invalid = fixed.with_dynamic([("log.segment.bytes", "many")], []);
    assert_eq!(read(&invalid), (2_000_000, ConfigSource::StaticBroker), "an invalid one is left out");
}

#[test]
fn the_finer_unit_counts() {
    for (file, retention_ms) in [
        ("", 604_800_000),
        ("log.retention.hours=1", 3_600_000),
        ("log.retention.hours=1\nlog.retention.minutes=2", 120_000),
        ("log.retention.hours=1\nlog.retention.minutes=2\nlog.retention.ms=3", 3),
        ("log.retention.hours=-1", -1),
        ("log.retention.ms=-5", -1),
    ] {
        assert_eq!(start(file).log_retention_ms(), retention_ms, "{file}");
    }
    for (file, roll_ms) in
        [("", 604_800_000), ("log.roll.hours=1", 3_600_000), ("log.roll.hours=1\nlog.roll.ms=7", 7)]
    {
        assert_eq!(start(file).log_roll_ms(), roll_ms, "{file}");
    }
    assert_eq!(start("log.roll.jitter.hours=1").log_roll_jitter_ms(), 3_600_000);
    assert_eq!(start("log.flush.scheduler.interval.ms=5").log_flush_interval_ms(), 5);
    assert_eq!(
        start("log.flush.scheduler.interval.ms=5\nlog.flush.interval.ms=6").log_flush_interval_ms(),
        6
    );
    assert_eq!(start("log.dir=a").log_dirs(), ["a"]);
    assert_eq!(start("log.dir=a\nlog.dirs=b, c").log_dirs(), ["b", "c"]);
    for (file, directories, metadata) in [
        ("log.dirs=b,c", &["b", "c"][..], 0),
        ("log.dirs=b,c\nmetadata.log.dir=c", &["b", "c"], 1),
        ("log.dirs=b,c\nmetadata.log.dir=m", &["b", "c", "m"], 2),
    ] {
        assert_eq!(start(file).directories(), directories);
        assert_eq!(start(file).metadata_log_dir(), metadata, "{file}");
    }
    assert_eq!(start("broker.id=7").node_id().0, 7);
    assert_eq!(start("node.id=7").value(broker::BROKER_ID), 7);
}

#[test]
fn secrets_are_not_shown() {
    let config = start("ssl.key.password=geheim");
    assert_eq!(config.value(broker::SSL_KEY_PASSWORD).unwrap().expose(), "geheim");
    assert!(!format!("{config:?} {:?}", config.value(broker::SSL_KEY_PASSWORD)).contains("geheim"));
}

#[test]
fn metrics_are_served_nowhere_unless_an_address_is_given() {
    assert_eq!(start("").metrics_listeners(), []);
    let config = start("dohle.metrics.listeners=127.0.0.1:9464, [::1]:0,:9465");
    let host = |host: &str| Some(host.to_owned());
    assert_eq!(config.metrics_listeners(), [(host("127.0.0.1"), 9464), (host("::1"), 0), (None, 9465)]);
    check_errors(
        "dohle.metrics.listeners=9464",
        &[],
        expect![
            "invalid `dohle.metrics.listeners`: `9464` is not of the form host:port, for example 127.0.0.1:9464"
        ],
    );
}
