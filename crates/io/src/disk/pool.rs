//! A small pool of threads for jobs: opening logs, cold reads, checkpoints.
//!
//! What somebody waits for goes first, and what nobody waits for has some of the threads at most: recovery, compaction
//! and scrubbing never keep a request waiting for longer than the pieces that are under way.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use dohle_broker::Input;
use dohle_broker::host::{DiskJob, JobToken};
use dohle_storage::disk::drive;

use super::files::Files;
use crate::mailbox::Mailbox;

/// Threads that run jobs. They wait for the disk most of the time; more would take cores from the loop, and memory.
const THREADS: usize = 3;
/// Threads that may run what nobody waits for at the same time.
const IN_BACKGROUND_MAX: usize = 2;

/// The way to the pool. At start it holds a job for each partition, later at most those that fetches in flight
/// may have under way.
#[derive(Debug)]
pub struct JobPool {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queues: Mutex<Queues>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Queues {
    awaited: VecDeque<(JobToken, DiskJob)>,
    background: VecDeque<(JobToken, DiskJob)>,
    in_background: usize,
}

impl Queues {
    /// The next job, and whether it is in the background.
    fn next(&mut self) -> Option<(JobToken, DiskJob, bool)> {
        if let Some((token, job)) = self.awaited.pop_front() {
            return Some((token, job, false));
        }
        if self.in_background >= IN_BACKGROUND_MAX {
            return None;
        }
        let (token, job) = self.background.pop_front()?;
        self.in_background += 1;
        Some((token, job, true))
    }
}

impl JobPool {
    /// Starts the pool, which answers through `mailbox`.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(files: &Arc<Files>, mailbox: &Mailbox) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        for number in 0..THREADS {
            let (files, shared, mailbox) = (Arc::clone(files), Arc::clone(&shared), mailbox.clone());
            thread::Builder::new()
                .name(format!("job-{number}"))
                .spawn(move || run(&files, &shared, &mailbox))?;
        }
        Ok(Self { shared })
    }

    /// How many jobs wait for a thread: of those that somebody waits for, and in the background.
    #[must_use]
    pub fn queued(&self) -> (usize, usize) {
        let queues = self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        (queues.awaited.len(), queues.background.len())
    }

    /// Runs a job on one of the threads.
    pub fn start_job(&self, token: JobToken, job: DiskJob, in_background: bool) {
        let mut queues = self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = if in_background { &mut queues.background } else { &mut queues.awaited };
        queue.push_back((token, job));
        self.shared.filled.notify_one();
    }
}

/// The threads end only with the process.
fn run(files: &Files, shared: &Shared, mailbox: &Mailbox) {
    let mut queues = shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let Some((token, mut job, in_background)) = queues.next() else {
            queues = shared.filled.wait(queues).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(queues);
        let input = match drive(&mut job, |step| files.perform(step)) {
            Ok(output) => Input::JobDone { token, output },
            Err(error) => Input::JobFailed { token, error },
        };
        mailbox.post([input]);
        queues = shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever was passed over for too much in the background has this thread now.
        queues.in_background -= usize::from(in_background);
    }
}

#[cfg(test)]
mod tests {
    use dohle_broker::jobs::ChangeFiles;

    use super::*;

    #[test]
    fn what_is_awaited_goes_first_and_the_background_has_some_of_the_threads() {
        let mut queues = Queues::default();
        let job = |token| (JobToken(token), DiskJob::Change(Box::new(ChangeFiles::new(Vec::new()))));
        queues.background.extend([1, 2, 3].map(job));
        queues.awaited.extend([4, 5].map(job));
        let mut next = || queues.next().map(|(JobToken(token), _, in_background)| (token, in_background));
        let started = [next(), next(), next(), next(), next()];
        assert_eq!(started, [Some((4, false)), Some((5, false)), Some((1, true)), Some((2, true)), None]);
    }
}
