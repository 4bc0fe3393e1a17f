//! What is counted of commits, by log dir. The commit thread counts once a round, and the loop reads when it is asked.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dohle_metrics::row::Row;
use dohle_metrics::table::disk as table;
use dohle_metrics::{Histogram, Page};
use dohle_storage::disk::LogDir;

/// Counts since the process was started.
#[derive(Debug, Default)]
pub struct CommitStats(Mutex<BTreeMap<LogDir, OfLogDir>>);

#[derive(Debug, Default)]
struct OfLogDir {
    rounds: Histogram,
    requests: u64,
    file_syncs: u64,
    journal_records: u64,
    journal_bytes: u64,
}

type Count = fn(&OfLogDir) -> u64;

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundDone {
    /// Partitions that asked for it.
    pub requests: usize,
    /// Files that were synced one by one.
    pub file_syncs: usize,
    /// Bytes of the journal's record, if it has one.
    pub journal_bytes: Option<usize>,
}

impl CommitStats {
    /// A round is over.
    pub fn note(&self, log_dir: LogDir, took: Duration, done: RoundDone) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = all.entry(log_dir).or_default();
        stats.rounds.note(took);
        stats.requests += done.requests as u64;
        stats.file_syncs += done.file_syncs as u64;
        stats.journal_records += u64::from(done.journal_bytes.is_some());
        stats.journal_bytes += done.journal_bytes.unwrap_or_default() as u64;
    }

    /// Writes them to a page; `name` tells how a log dir is called.
    pub fn write_metrics(&self, page: &mut Page, name: impl Fn(LogDir) -> String) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named: Vec<(String, &OfLogDir)> =
            all.iter().map(|(&log_dir, stats)| (name(log_dir), stats)).collect();
        let mut family = page.family(table::COMMIT_SECONDS);
        named.iter().for_each(|(name, stats)| family.histogram(&[name], &stats.rounds));
        let rows: [Row<Count>; 4] = [
            (table::COMMIT_REQUESTS, |stats| stats.requests),
            (table::COMMIT_SYNCS, |stats| stats.file_syncs),
            (table::JOURNAL_RECORDS, |stats| stats.journal_records),
            (table::JOURNAL_BYTES, |stats| stats.journal_bytes),
        ];
        for (metric, value) in rows {
            let mut family = page.family(metric);
            named.iter().for_each(|(name, stats)| family.sample(&[name], value(stats)));
        }
    }
}
