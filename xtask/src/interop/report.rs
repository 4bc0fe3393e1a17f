//! What the person who runs the suite reads: one line per step, and the closing line that counts them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use super::process::Result;

/// Counts the steps; shared by the threads that take them.
#[derive(Default)]
pub(crate) struct Report {
    passed: AtomicUsize,
    failed: AtomicUsize,
    skipped: AtomicUsize,
}

impl Report {
    /// Takes one step and tells its outcome; whether it succeeded.
    pub(crate) fn step(&self, who: &str, what: &str, act: impl FnOnce() -> Result<()>) -> bool {
        let begun = Instant::now();
        let outcome = act();
        let took = begun.elapsed().as_secs_f64();
        match &outcome {
            Ok(()) => {
                self.passed.fetch_add(1, Ordering::Relaxed);
                println!("ok      {who:<16} {what} ({took:.1} s)");
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                println!("FAILED  {who:<16} {what} ({took:.1} s)\n      {}", error.trim_end());
            }
        }
        outcome.is_ok()
    }

    /// Tells what is not run, and why.
    pub(crate) fn skip(&self, who: &str, reason: &str) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        println!("SKIPPED {who}: {}", reason.trim_end());
    }

    /// The closing line; an error if anything failed.
    pub(crate) fn close(&self) -> Result<()> {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let (passed, failed, skipped) = (count(&self.passed), count(&self.failed), count(&self.skipped));
        println!("interop: {passed} passed, {failed} failed, {skipped} skipped");
        if failed == 0 && passed > 0 { Ok(()) } else { Err("the interop suite failed".to_owned()) }
    }
}

/// Acts on each of the items, on so many at the same time.
pub(crate) fn each<T: Send>(at_once: usize, items: impl Iterator<Item = T> + Send, act: impl Fn(T) + Sync) {
    let queue = Mutex::new(items);
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(item) = next() {
                    act(item);
                }
            });
        }
    });
}
