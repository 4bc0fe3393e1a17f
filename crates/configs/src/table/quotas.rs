//! Quotas and metrics.

use crate::row::Effect::{InForce, WithoutEffect};
use crate::row::Update::{ClusterWide, ReadOnly};
use crate::row::configs;
use crate::table::reasons::{METRICS, PLUGINS, QUOTAS};
use crate::valid::Valid::{Any, AtLeast};
use crate::value::{Class, Int, List, Long};

configs! {
    QUOTA_WINDOW_NUM "quota.window.num": Int = 11, AtLeast(1), ReadOnly, WithoutEffect(QUOTAS),
        "How many windows client quotas are measured over.";

    QUOTA_WINDOW_SIZE_SECONDS "quota.window.size.seconds": Int = 1,
        AtLeast(1), ReadOnly, WithoutEffect(QUOTAS),
        "How long a window of client quotas is.";

    REPLICATION_QUOTA_WINDOW_NUM "replication.quota.window.num": Int = 11,
        AtLeast(1), ReadOnly, WithoutEffect(QUOTAS),
        "How many windows replication quotas are measured over.";

    REPLICATION_QUOTA_WINDOW_SIZE_SECONDS "replication.quota.window.size.seconds": Int = 1,
        AtLeast(1), ReadOnly, WithoutEffect(QUOTAS),
        "How long a window of replication quotas is.";

    ALTER_LOG_DIRS_REPLICATION_QUOTA_WINDOW_NUM "alter.log.dirs.replication.quota.window.num": Int = 11,
        AtLeast(1), ReadOnly, WithoutEffect(QUOTAS),
        "How many windows the quota for moves between log directories is measured over.";

    ALTER_LOG_DIRS_REPLICATION_QUOTA_WINDOW_SIZE_SECONDS "alter.log.dirs.replication.quota.window.size.seconds": Int = 1,
        AtLeast(1), ReadOnly, WithoutEffect(QUOTAS),
        "How long a window of the quota for moves between log directories is.";

    CONTROLLER_QUOTA_WINDOW_NUM "controller.quota.window.num": Int = 11,
        AtLeast(1), ReadOnly, WithoutEffect(QUOTAS),
        "How many windows the quotas on topic changes are measured over.";

    CONTROLLER_QUOTA_WINDOW_SIZE_SECONDS "controller.quota.window.size.seconds": Int = 1,
        AtLeast(1), ReadOnly, WithoutEffect(QUOTAS),
        "How long a window of the quotas on topic changes is.";

    CLIENT_QUOTA_CALLBACK_CLASS "client.quota.callback.class": Option<Class>,
        Any, ReadOnly, WithoutEffect(PLUGINS),
        "A class that decides on client quotas.";

    DOHLE_METRICS_LISTENERS "dohle.metrics.listeners": List = "", Any, ReadOnly, InForce,
        "Where metrics are served over HTTP, to everybody who asks: a list of `host:port`. By default nowhere. An empty \
         host means all interfaces.";

    DOHLE_METRICS_SERIES_MAX "dohle.metrics.series.max": Int = 10000, AtLeast(0), ReadOnly, InForce,
        "How many series of one metric are told at the most, such as of partitions or groups.";

    METRIC_REPORTERS "metric.reporters": List = "org.apache.kafka.common.metrics.JmxReporter",
        Any, ClusterWide, WithoutEffect(PLUGINS),
        "Classes that report metrics.";

    METRICS_NUM_SAMPLES "metrics.num.samples": Int = 2, AtLeast(1), ReadOnly, WithoutEffect(METRICS),
        "How many samples a metric is computed from.";

    METRICS_RECORDING_LEVEL "metrics.recording.level": String = "INFO", Any, ReadOnly, WithoutEffect(METRICS),
        "How detailed metrics are.";

    METRICS_SAMPLE_WINDOW_MS "metrics.sample.window.ms": Long = 30000,
        AtLeast(1), ReadOnly, WithoutEffect(METRICS),
        "How long a sample of a metric is.";

    KAFKA_METRICS_REPORTERS "kafka.metrics.reporters": List = "", Any, ReadOnly, WithoutEffect(PLUGINS),
        "Classes that report the broker's older metrics.";

    KAFKA_METRICS_POLLING_INTERVAL_SECS "kafka.metrics.polling.interval.secs": Int = 10,
        AtLeast(1), ReadOnly, WithoutEffect(METRICS),
        "How often the reporters of the broker's older metrics are called.";

    TELEMETRY_MAX_BYTES "telemetry.max.bytes": Int = 1048576, AtLeast(1), ReadOnly, WithoutEffect(METRICS),
        "The largest batch of metrics a client may push (KIP-714).";
}
