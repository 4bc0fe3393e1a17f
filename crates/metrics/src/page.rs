//! The text of a scrape: Prometheus' format 0.0.4, or OpenMetrics 1.0.0.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::histogram::Histogram;
use crate::row::{Kind, Metric};
use crate::table::scrapes::SERIES_LEFT_OUT;

/// The longest label in bytes. Clients name groups and transactional ids, and may do so in 32 KiB.
pub const LABEL_BYTES_MAX: usize = 300;

/// How a page is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// Prometheus' text format, version 0.0.4.
    #[default]
    Prometheus,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Its media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// How much a page may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Series of one metric.
    pub series: usize,
    /// Bytes, beyond which metrics have no more series with labels.
    pub bytes: usize,
}

/// A value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Number {
    /// What is counted.
    Count(u64),
    /// What may be below zero.
    Signed(i64),
    /// What is measured.
    Real(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Count(value)
    }
}

impl From<u32> for Number {
    fn from(value: u32) -> Self {
        Self::Count(value.into())
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self::Count(value as u64)
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Count(value.into())
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::Signed(value)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

/// In seconds.
impl From<Duration> for Number {
    fn from(value: Duration) -> Self {
        Self::Real(value.as_secs_f64())
    }
}

/// The text of a scrape, metric by metric.
#[derive(Debug)]
pub struct Page {
    text: String,
    format: Format,
    limits: Limits,
    /// The metrics that were written, and how many series of each were left out.
    written: BTreeMap<&'static str, u64>,
}

impl Page {
    /// A page without metrics.
    #[must_use]
    pub const fn new(format: Format, limits: Limits) -> Self {
        Self { text: String::new(), format, limits, written: BTreeMap::new() }
    }

    /// How it is written.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Writes a metric without labels.
    pub fn value(&mut self, metric: &'static Metric, value: impl Into<Number>) {
        self.family(metric).sample(&[], value);
    }

    /// Begins a metric, whose series follow.
    pub fn family(&mut self, metric: &'static Metric) -> Family<'_> {
        let is_first = self.written.insert(metric.name, 0).is_none();
        assert!(is_first, "invariant 2: {} is written once", metric.name);
        let (name, unit) = match self.format {
            Format::Prometheus => (metric.name, None),
            Format::OpenMetrics if metric.kind == Kind::Counter => (metric.family(), metric.unit()),
            Format::OpenMetrics => (metric.name, metric.unit()),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# TYPE {name} {}", metric.kind.name());
        if let Some(unit) = unit {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.text, "# HELP {name} {}", metric.help);
        Family { page: self, metric, series: 0 }
    }

    /// Ends the page.
    #[must_use]
    pub fn finish(mut self) -> String {
        let left_out: Vec<_> = self.written.iter().map(|(&name, &count)| (name, count)).collect();
        let mut family = self.family(SERIES_LEFT_OUT);
        // These are as many as there are metrics at the most, and who reads the page has to know of them.
        for (name, count) in left_out.into_iter().filter(|&(_, count)| count > 0) {
            family.write(&[name], count.into());
        }
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// The series of one metric.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut Page,
    metric: &'static Metric,
    series: usize,
}

impl Family<'_> {
    /// Writes one series; `labels` are the values of those that the row names, and differ from those of all others.
    pub fn sample(&mut self, labels: &[&str], value: impl Into<Number>) {
        if self.admits(labels) {
            self.write(labels, value.into());
        }
    }

    /// Writes one series of a histogram in seconds.
    pub fn histogram(&mut self, labels: &[&str], histogram: &Histogram) {
        let bounds = Histogram::BOUNDS.iter().map(Duration::as_secs_f64);
        self.counts(labels, bounds, histogram.counts(), histogram.sum().into());
    }

    /// Writes one series of a histogram: how many there are in each range, by its upper bound, the last range without.
    pub fn counts(
        &mut self,
        labels: &[&str],
        bounds: impl Iterator<Item = f64>,
        counts: &[u64],
        sum: Number,
    ) {
        if !self.admits(labels) {
            return;
        }
        let bounds = bounds.map(|bound| bound.to_string()).chain(["+Inf".to_owned()]);
        let mut below = 0;
        for (bound, count) in bounds.zip(counts) {
            below += count;
            self.line("_bucket", labels, Some(&bound), below.into());
        }
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, below.into());
    }

    /// Tells of series that are not even offered.
    pub fn leave_out(&mut self, count: u64) {
        *self.page.written.entry(self.metric.name).or_default() += count;
    }

    /// Whether there is room for another series with these labels.
    fn admits(&mut self, labels: &[&str]) -> bool {
        let limits = self.page.limits;
        let is_full = self.series >= limits.series || self.page.text.len() >= limits.bytes;
        if !labels.is_empty() && (is_full || labels.iter().any(|label| label.len() > LABEL_BYTES_MAX)) {
            self.leave_out(1);
            return false;
        }
        self.series += 1;
        true
    }

    fn write(&mut self, labels: &[&str], value: Number) {
        self.line("", labels, None, value);
    }

    fn line(&mut self, ending: &str, labels: &[&str], bound: Option<&str>, value: Number) {
        let Metric { name, labels: names, .. } = self.metric;
        assert_eq!(names.len(), labels.len(), "invariant 2: {name} has the labels of its row");
        let text = &mut self.page.text;
        text.push_str(name);
        text.push_str(ending);
        let mut before = '{';
        for (name, value) in names.iter().zip(labels).chain(bound.as_ref().map(|bound| (&"le", bound))) {
            text.push(before);
            text.push_str(name);
            text.push_str("=\"");
            escape(value, text);
            text.push('"');
            before = ',';
        }
        if before == ',' {
            text.push('}');
        }
        let _ = match value {
            Number::Count(value) => writeln!(text, " {value}"),
            Number::Signed(value) => writeln!(text, " {value}"),
            Number::Real(value) if value.is_infinite() => {
                writeln!(text, " {}Inf", if value > 0.0 { '+' } else { '-' })
            }
            Number::Real(value) => writeln!(text, " {value}"),
        };
    }
}

fn escape(value: &str, text: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            _ => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const PLAIN: &Metric =
        &Metric { name: "dohle_files", kind: Kind::Gauge, labels: &[], help: "Files that are open." };
    const BY_TOPIC: &Metric = &Metric {
        name: "dohle_read_bytes_total",
        kind: Kind::Counter,
        labels: &["topic", "client"],
        help: "Bytes that were read.",
    };
    const TIMES: &Metric = &Metric {
        name: "dohle_work_seconds",
        kind: Kind::Histogram,
        labels: &["what"],
        help: "How long it took.",
    };

    const PLENTY: Limits = Limits { series: 1000, bytes: 1 << 20 };

    fn check(format: Format, limits: Limits, write: impl FnOnce(&mut Page), expected: &Expect) {
        let mut page = Page::new(format, limits);
        write(&mut page);
        expected.assert_eq(&page.finish());
    }

    #[test]
    fn counters_are_named_by_their_family_in_openmetrics_only() {
        let write = |page: &mut Page| {
            page.value(PLAIN, 3_usize);
            page.family(BY_TOPIC).sample(&["orders", "a"], 7_u64);
        };
        check(
            Format::Prometheus,
            PLENTY,
            write,
            &expect![[r#"
                # TYPE dohle_files gauge
                # HELP dohle_files Files that are open.
                dohle_files 3
                # TYPE dohle_read_bytes_total counter
                # HELP dohle_read_bytes_total Bytes that were read.
                dohle_read_bytes_total{topic="orders",client="a"} 7
                # TYPE dohle_metrics_series_left_out gauge
                # HELP dohle_metrics_series_left_out Series that this page lacks, by metric, for there were more than a page may have (`dohle.metrics.series.max`), or because one of their labels was too long.
            "#]],
        );
        check(
            Format::OpenMetrics,
            PLENTY,
            write,
            &expect![[r#"
                # TYPE dohle_files gauge
                # HELP dohle_files Files that are open.
                dohle_files 3
                # TYPE dohle_read_bytes counter
                # UNIT dohle_read_bytes bytes
                # HELP dohle_read_bytes Bytes that were read.
                dohle_read_bytes_total{topic="orders",client="a"} 7
                # TYPE dohle_metrics_series_left_out gauge
                # HELP dohle_metrics_series_left_out Series that this page lacks, by metric, for there were more than a page may have (`dohle.metrics.series.max`), or because one of their labels was too long.
                # EOF
            "#]],
        );
    }

    #[test]
    fn the_buckets_of_a_histogram_count_all_below_their_bound() {
        let write = |page: &mut Page| {
            let sum = Duration::from_millis(2500).into();
            page.family(TIMES).counts(&["sync"], [0.1, 1.0].into_iter(), &[2, 0, 3], sum);
        };
        check(
            Format::OpenMetrics,
            PLENTY,
            write,
            &expect![[r#"
                # TYPE dohle_work_seconds histogram
                # UNIT dohle_work_seconds seconds
                # HELP dohle_work_seconds How long it took.
                dohle_work_seconds_bucket{what="sync",le="0.1"} 2
                dohle_work_seconds_bucket{what="sync",le="1"} 2
                dohle_work_seconds_bucket{what="sync",le="+Inf"} 5
                dohle_work_seconds_sum{what="sync"} 2.5
                dohle_work_seconds_count{what="sync"} 5
                # TYPE dohle_metrics_series_left_out gauge
                # HELP dohle_metrics_series_left_out Series that this page lacks, by metric, for there were more than a page may have (`dohle.metrics.series.max`), or because one of their labels was too long.
                # EOF
            "#]],
        );
    }

    /// The samples of a page, without what is told of the metrics.
    fn samples(limits: Limits, write: impl FnOnce(&mut Page)) -> Vec<String> {
        let mut page = Page::new(Format::Prometheus, limits);
        write(&mut page);
        page.finish().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn whatever_clients_call_things_stays_within_its_label() {
        let found = samples(PLENTY, |page| {
            page.family(BY_TOPIC).sample(&["a\"} 1\nforged 2", "back\\slash"], 1_u64);
        });
        assert_eq!(found, [r#"dohle_read_bytes_total{topic="a\"} 1\nforged 2",client="back\\slash"} 1"#]);
    }

    #[test]
    fn what_is_too_much_is_left_out_and_told() {
        let found = samples(Limits { series: 2, ..PLENTY }, |page| {
            let mut family = page.family(BY_TOPIC);
            for topic in ["a", "b", "c", "d"] {
                family.sample(&[topic, ""], 1_u64);
            }
            page.family(TIMES).histogram(&[&"x".repeat(LABEL_BYTES_MAX + 1)], &Histogram::default());
        });
        assert_eq!(
            found,
            [
                r#"dohle_read_bytes_total{topic="a",client=""} 1"#,
                r#"dohle_read_bytes_total{topic="b",client=""} 1"#,
                r#"dohle_metrics_series_left_out{metric="dohle_read_bytes_total"} 2"#,
                r#"dohle_metrics_series_left_out{metric="dohle_work_seconds"} 1"#,
            ]
        );
    }

    #[test]
    fn a_page_that_is_full_has_still_all_that_has_no_labels() {
        let found = samples(Limits { bytes: 1, ..PLENTY }, |page| {
            page.family(BY_TOPIC).sample(&["a", ""], 1_u64);
            page.value(PLAIN, -1_i64);
        });
        assert_eq!(
            found,
            ["dohle_files -1", r#"dohle_metrics_series_left_out{metric="dohle_read_bytes_total"} 1"#]
        );
    }

    #[test]
    fn numbers_are_written_as_both_formats_have_them() {
        let written = |value: Number| samples(PLENTY, |page| page.value(PLAIN, value))[0].clone();
        assert_eq!(written(f64::INFINITY.into()), "dohle_files +Inf");
        assert_eq!(written(f64::NEG_INFINITY.into()), "dohle_files -Inf");
        assert_eq!(written(f64::NAN.into()), "dohle_files NaN");
        assert_eq!(written(Duration::from_millis(1500).into()), "dohle_files 1.5");
        assert_eq!(written(true.into()), "dohle_files 1");
    }
}
