//! The table: every metric, by subject. A new metric is one row in the file of its subject, and a line where it is
//! written to the page.

pub mod disk;
pub mod groups;
pub mod memory;
pub mod network;
pub mod process;
pub mod requests;
pub mod scrapes;
pub mod storage;
pub mod topics;
pub mod transactions;

use crate::row::Metric;

/// The metrics of one subject.
#[derive(Debug)]
pub struct Area {
    /// The subject, as the heading in the docs.
    pub title: &'static str,
    /// What is to be known of all of them.
    pub text: &'static str,
    /// Its metrics.
    pub rows: &'static [&'static Metric],
}

/// All metrics, by subject.
pub const AREAS: &[Area] = &[
    Area {
        title: "The process",
        text: "Those that begin with `process_` are named as all of Prometheus' clients name them.",
        rows: process::ROWS,
    },
    Area { title: "Connections and the event loop", text: "", rows: network::ROWS },
    Area { title: "Requests", text: "", rows: requests::ROWS },
    Area {
        title: "Topics",
        text: "Counted since the process was started, or the topic was made.",
        rows: topics::ROWS,
    },
    Area {
        title: "Logs and log dirs",
        text: "Of a log that is closed its size is not known.",
        rows: storage::ROWS,
    },
    Area { title: "Commits, files and jobs", text: "", rows: disk::ROWS },
    Area { title: "Memory, caches and queues", text: "", rows: memory::ROWS },
    Area {
        title: "Groups",
        text: "What lag, its states and causes mean is told in [groups.md](groups.md).",
        rows: groups::ROWS,
    },
    Area { title: "Producers and transactions", text: "", rows: transactions::ROWS },
    Area { title: "Metrics", text: "", rows: scrapes::ROWS },
];

/// All metrics.
pub fn metrics() -> impl Iterator<Item = &'static Metric> {
    AREAS.iter().flat_map(|area| area.rows).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::row::Kind;

    #[test]
    fn names_are_as_prometheus_and_openmetrics_want_them() {
        let is_word = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_lowercase())
                && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let mut families = BTreeSet::new();
        for Metric { name, kind, labels, help } in metrics() {
            assert!(is_word(name), "{name}");
            assert!(name.starts_with("dohle_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(families.insert(name.strip_suffix("_total").unwrap_or(name)), "{name} is there twice");
            let reserved = ["_bucket", "_count", "_sum", "_info", "_created"];
            assert!(*name == "dohle_build_info" || !reserved.iter().any(|end| name.ends_with(end)), "{name}");
            assert!(labels.iter().all(|label| is_word(label) && *label != "le"), "{name}");
            assert!(help.ends_with('.') && !help.contains(['\n', '\\', '|']), "{name}");
        }
    }
}
