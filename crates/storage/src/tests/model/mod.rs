//! The log against a model of it: whatever happens to it and to its disk, nothing that was acknowledged as durable
//! is lost or changed, and reads give exactly what was appended.
//!
//! A case is a list of things that happen ([`ops`]), drawn from a seed; [`world`] has the log, its disk and the
//! host between them, [`expected`] what the log must hold, [`steps`] how things happen, and [`checks`] what must
//! be true. A case that fails is told with its seed and with only those things that its failure needs.
//!
//! `DOHLE_MODEL_CASES=1000000 cargo test --release -p dohle-storage model` runs more cases than every run of the
//! tests does, `DOHLE_MODEL_FIRST_SEED` other ones.

mod checks;
mod expected;
mod ops;
mod steps;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use dohle_types::Rng;

use ops::{Op, Step};
use world::{Ended, Seen, Story, World};

/// Runs the steps on a disk that may lie; what came about, or what is wrong.
fn run(steps: &[Step], lies: bool) -> Result<Seen, String> {
    tell_of(steps, lies, None)
}

/// As [`run`], and writes down what happens to the files.
fn tell_of(steps: &[Step], lies: bool, story: Option<Story>) -> Result<Seen, String> {
    let run = || {
        let mut world = World::new(lies, story);
        for &step in steps {
            world.step(step).map_err(|wrong| format!("{:?}: {wrong}", step.op))?;
        }
        world.check_all()?;
        world.step(Step { op: Op::Evict { batches: u8::MAX }, dice: 0 })?;
        world.check_all()?;
        world.check_producers()?;
        world.restore();
        let ended = world.end(Ended::PowerLost);
        world.open(ended)?;
        Ok(world.seen)
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| Some((*panic.downcast_ref::<&str>()?).to_owned())).unwrap_or_default())
    })
}

fn steps_of(seed: u64) -> Vec<Step> {
    ops::draw(&mut Rng::from_seed(seed))
}

/// Leaves out what the failure does not need.
fn shrink(mut steps: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut length = steps.len() / 2;
    while length > 0 {
        let mut from = 0;
        while from < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + length).min(steps.len()));
            if fails(&fewer) {
                steps = fewer;
            } else {
                from += length;
            }
        }
        length /= 2;
    }
    steps
}

/// The failure of a seed, as somebody can read it.
fn tell(seed: u64) -> String {
    let steps = shrink(steps_of(seed), |steps| run(steps, false).is_err());
    let list: String = steps.iter().map(|Step { op, dice }| format!("  {op:?} ({dice:#x})\n")).collect();
    let story = Story::default();
    let wrong = tell_of(&steps, false, Some(story.clone())).err().unwrap_or_default();
    let story = story.lock().map(|lines| lines.join("\n")).unwrap_or_default();
    format!("{story}\nseed {seed} fails by:\n{list}{wrong}")
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("it is set to a number"))
}

/// Runs cases on as many threads as there are processors; the seeds that failed.
fn run_all(first: u64, count: u64) -> (Vec<u64>, Seen) {
    let next = AtomicU64::new(first);
    let work = || {
        let (mut failed, mut seen) = (Vec::new(), Seen::default());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count || failed.len() > 20 {
                return (failed, seen);
            }
            match run(&steps_of(seed), false) {
                Ok(case) => seen.add(&case),
                Err(_) => failed.push(seed),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let (mut failed, mut seen) = (Vec::new(), Seen::default());
        for worker in workers {
            let (more, case) = worker.join().expect("a case's panic is caught");
            failed.extend(more);
            seen.add(&case);
        }
        failed.sort_unstable();
        (failed, seen)
    })
}

#[test]
fn whatever_happens_nothing_durable_is_lost_and_reads_give_what_was_appended() {
    let count = setting("DOHLE_MODEL_CASES", 10_000);
    let (failed, seen) = run_all(setting("DOHLE_MODEL_FIRST_SEED", 1), count);
    if let Some(&first) = failed.first() {
        panic!("{} of {count} cases failed: {failed:?}\n{}", failed.len(), tell(first));
    }
    println!("{seen:#?}");
    let never = seen.never();
    assert!(count < 1000 || never.is_empty(), "never came about: {never:?}");
}

#[test]
fn a_disk_whose_syncs_do_nothing_is_found_out() {
    let failed = (1..=200).filter(|&seed| run(&steps_of(seed), true).is_err()).count();
    assert!(failed >= 60, "{failed} of 200 cases noticed");
}
