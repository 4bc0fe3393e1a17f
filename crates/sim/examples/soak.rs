//! Runs many seeds, or one with its story: `soak --seeds 10000 [--first 1]`, `soak --seed 42`.

use std::process::ExitCode;

use dohle_sim::{Marks, replay, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)?.parse::<u64>().ok()
    };
    if let Some(seed) = number("--seed") {
        // The node's own log lines, without the time of this world.
        tracing_subscriber::fmt()
            .without_time()
            .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
            .init();
        let report = replay(seed);
        println!("{report}");
        return if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let (first, count) = (number("--first").unwrap_or(1), number("--seeds").unwrap_or(1000));
    let (mut marks, mut failed, mut events, mut acknowledged) = (Marks::default(), 0, 0, 0);
    for seed in first..first.saturating_add(count) {
        let report = run(seed);
        events += report.events;
        acknowledged += report.acknowledged;
        marks.extend(&report.marks);
        if !report.failures.is_empty() {
            failed += 1;
            println!("seed {seed}: {}", report.failures.join("\n    "));
        }
    }
    println!("{count} seeds, {failed} failed; {events} events, {acknowledged} acknowledged records");
    println!("never reached: {:?}", marks.missing());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
