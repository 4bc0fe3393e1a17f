//! The metrics of a broker that has done something, read by the parsers of Prometheus' Python client, of which that for
//! OpenMetrics is strict.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::broker::{Broker, Target, free_address};
use super::process::{self, Result};
use super::report::Report;
use super::{OVERRIDES, client, install};

const NAME: &str = "metrics";

/// Samples that must be above 0, whatever their labels.
const WANTED: [&str; 7] = [
    "process_cpu_seconds_total",
    "dohle_requests_total",
    "dohle_request_seconds_count",
    "dohle_topic_appended_records_total",
    "dohle_commit_seconds_bucket",
    "dohle_partition_high_watermark",
    "dohle_groups",
];

/// Has a topic written and read, and the metrics parsed.
pub(crate) fn run(report: &Report, target: &Target) {
    if !install::found("python3") {
        return report.skip(NAME, "no python3 here");
    }
    let Target::Dohle(dohle) = target else { return };
    report.step(NAME, "Prometheus' parsers read both formats", || {
        client::install_python("prometheus")?;
        let address = free_address()?;
        let served = format!("dohle.metrics.listeners={address}");
        let overrides = [OVERRIDES, &[&served]].concat();
        let mut broker = Broker::start(target, &install::work("metrics"), &overrides)?;
        let run = |arguments: &[&str]| cli(dohle, &broker, arguments);
        run(&["bench", "produce", "--topic", "orders", "--records", "1000", "--duration", "5"])?;
        run(&["consume", "orders", "--group", "billing", "--from", "beginning", "--exit-at-end"])?;
        let mut parse = client::python("prometheus");
        process::run(parse.arg(format!("http://{address}/metrics")).args(WANTED), Duration::from_secs(60))?;
        broker.stop()
    });
}

fn cli(dohle: &Path, broker: &Broker, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(dohle);
    command.args(arguments).args(["--bootstrap-server", &broker.bootstrap()]);
    process::run(&mut command, Duration::from_secs(60))
}
