//! What a benchmark shows: a line while it runs, numbers at its end.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::CliError;
use crate::output::Table;

/// The longest latency told apart from longer ones, in nanoseconds.
const LATENCY_MAX_NS: u64 = 600_000_000_000;
/// How often the line is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);
/// The kernel's unit of CPU time in `/proc/PID/stat`, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// What was counted so far.
pub(super) struct Report {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) failed: u64,
    pub(super) first_failure: Option<String>,
    /// How long records that were due were not sent, because the client's buffers were full.
    pub(super) blocked: Duration,
    latencies: Histogram<u64>,
    server: Option<ServerCpu>,
    line: ProgressBar,
    drawn: Instant,
    drawn_records: u64,
    started: Instant,
}

/// The CPU time of the server's process.
struct ServerCpu {
    pid: u32,
    before: f64,
}

impl Report {
    /// Begins to count; `server` is the process of which the CPU time is reported.
    pub(super) fn begin(server: Option<u32>) -> Result<Self, CliError> {
        let server =
            server.map(|pid| Ok::<_, CliError>(ServerCpu { pid, before: cpu_seconds(pid)? })).transpose()?;
        let latencies = Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3);
        let latencies = latencies.map_err(|error| CliError::Usage(error.to_string()))?;
        let line = ProgressBar::new_spinner();
        line.set_style(
            ProgressStyle::with_template("{spinner} {elapsed} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        let now = Instant::now();
        Ok(Self {
            records: 0,
            bytes: 0,
            failed: 0,
            first_failure: None,
            blocked: Duration::ZERO,
            latencies,
            server,
            line,
            drawn: now,
            drawn_records: 0,
            started: now,
        })
    }

    /// Counts records that came through, `latency` after the time they were meant for.
    pub(super) fn record(&mut self, latency: Duration) {
        self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Draws the line if it is time.
    pub(super) fn draw(&mut self) {
        let since = self.drawn.elapsed();
        if since < DRAW_EVERY {
            return;
        }
        let rate = as_f64(self.records - self.drawn_records) / since.as_secs_f64();
        let p99 = millis(self.latencies.value_at_quantile(0.99));
        let mut message = format!("{} records, {rate:.0}/s", self.records);
        if !self.latencies.is_empty() {
            message += &format!(", p99 {p99:.2} ms");
        }
        if self.failed > 0 {
            message += &format!(", {} failed", self.failed);
        }
        self.line.set_message(message);
        self.line.tick();
        self.drawn = Instant::now();
        self.drawn_records = self.records;
    }

    /// Prints the numbers; an error if anything failed. `count` of `unit` is what the server's CPU time is reckoned by.
    pub(super) fn conclude(self, json: bool, (count, unit): (u64, &str)) -> Result<(), CliError> {
        self.line.finish_and_clear();
        let elapsed = self.started.elapsed().as_secs_f64();
        let mut table = Table::new(["measure", "value", "unit"]);
        let mut row =
            |name: &str, value: f64, unit: &str| table.row([json!(name), number(value), json!(unit)]);
        row("records", as_f64(self.records), "");
        row("duration", elapsed, "s");
        row("throughput", as_f64(self.records) / elapsed, "records/s");
        row("data rate", as_f64(self.bytes) / 1e6 / elapsed, "MB/s");
        if !self.latencies.is_empty() {
            for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
                row(name, millis(self.latencies.value_at_quantile(quantile)), "ms");
            }
        }
        if let Some(server) = &self.server {
            let used = cpu_seconds(server.pid)? - server.before;
            row("server CPU", used, "s");
            row("server CPU per GB", used / (as_f64(self.bytes) / 1e9), "s");
            row("server CPU per million records", used / (as_f64(self.records) / 1e6), "s");
            row(&format!("server CPU per million {unit}"), used / (as_f64(count) / 1e6), "s");
        }
        if !self.blocked.is_zero() {
            row("blocked", self.blocked.as_secs_f64(), "s");
        }
        row("failed", as_f64(self.failed), "records");
        table.print(json)?;
        match self.failed {
            0 => Ok(()),
            failed => Err(CliError::NotAcknowledged {
                failed,
                total: self.records + failed,
                first: self.first_failure.unwrap_or_default(),
            }),
        }
    }
}

pub(super) fn number(value: f64) -> Value {
    // Three digits behind the point are more than a benchmark repeats.
    json!((value * 1000.0).round() / 1000.0)
}

#[expect(clippy::cast_precision_loss, reason = "numbers for people")]
pub(super) const fn as_f64(count: u64) -> f64 {
    count as f64
}

fn millis(nanos: u64) -> f64 {
    as_f64(nanos) / 1e6
}

/// The CPU time a process used so far, user and system.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64, CliError> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).map_err(crate::error::on_file(path.as_ref()))?;
    parse_cpu_ticks(&text)
        .map(|ticks| as_f64(ticks) / TICKS_PER_SECOND)
        .ok_or_else(|| CliError::Usage(format!("{path} is not understood; leave out --server-pid")))
}

/// Fields 14 and 15 of `/proc/PID/stat`; the second, the name in brackets, may hold anything.
fn parse_cpu_ticks(text: &str) -> Option<u64> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_strange_name() {
        let text = "42 (a) b (c)) S 1 42 42 0 -1 4194560 900 0 0 0 150 25 0 0 20 0 9 0 100 1000 2";
        assert_eq!(parse_cpu_ticks(text), Some(175));
        assert_eq!(parse_cpu_ticks("42 (x) S 1"), None);
    }
}
