//! Some hundred worlds, each decided by its seed. See the crate's documentation for how to see one again.

use std::sync::atomic::{AtomicU64, Ordering};

use dohle_sim::{Marks, Report, replay, run, run_on_lying_disk};

const THREADS: usize = 2;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("it is set to a number"))
}

/// Runs all seeds on a few threads; reports in the order of the seeds.
fn run_all(first: u64, count: u64) -> Vec<Report> {
    let next = AtomicU64::new(first);
    let work = || {
        let mut reports = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return reports;
            }
            reports.push(run(seed));
        }
    };
    let mut reports: Vec<Report> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a world that contradicts itself has said how"))
            .collect()
    });
    reports.sort_by_key(|report| report.seed);
    reports
}

#[test]
fn every_seed_keeps_every_promise_and_together_they_reach_every_mark() {
    let (first, count) = (setting("DOHLE_SIM_FIRST_SEED", 1), setting("DOHLE_SIM_SEEDS", 200));
    let mut reports = run_all(first, count);
    let missing = |reports: &[Report]| {
        let mut marks = Marks::default();
        reports.iter().for_each(|report| marks.extend(&report.marks));
        marks.missing()
    };
    // Which seeds reach the rarest marks changes with everything that is sent: a few more of them do.
    while count >= 100 && !missing(&reports).is_empty() && (reports.len() as u64) < 2 * count {
        reports.extend(run_all(first + reports.len() as u64, 20));
    }
    let count = reports.len();
    let failed: Vec<u64> =
        reports.iter().filter(|report| !report.failures.is_empty()).map(|report| report.seed).collect();
    if let Some(&first) = failed.first() {
        panic!("{} of {count} seeds failed: {failed:?}\n{}", failed.len(), replay(first));
    }
    let missing = missing(&reports);
    assert!(count < 100 || missing.is_empty(), "never reached: {missing:?}");
    assert!(reports.iter().map(|report| report.acknowledged).sum::<usize>() > 0);
}

#[test]
fn a_disk_that_lies_is_found_out() {
    let failed = (1..=40).map(run_on_lying_disk).filter(|report| !report.failures.is_empty()).count();
    assert!(failed >= 10, "{failed} of 40 worlds noticed");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 2, 3, 7, 11] {
        let (first, again, told) = (run(seed), run(seed), replay(seed));
        assert_eq!((first.trace_hash, first.events), (again.trace_hash, again.events), "seed {seed}");
        assert_eq!(first.trace_hash, told.trace_hash, "seed {seed}: telling changes nothing");
    }
    assert_ne!(run(1).trace_hash, run(2).trace_hash);
}
