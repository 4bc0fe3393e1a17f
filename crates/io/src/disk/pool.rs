//! A small pool of threads for jobs: opening logs, cold reads, checkpoints.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use dohle_broker::Input;
use dohle_broker::host::{DiskJob, JobToken};
use dohle_storage::disk::drive;

use super::files::Files;
use crate::mailbox::Mailbox;

/// Threads that run jobs. Two keep a disk busy while one of them waits; more would take cores from the loop.
const THREADS: usize = 2;

/// The way to the pool. At start it holds a job for each partition, later at most those that fetches in flight
/// may have under way.
#[derive(Debug)]
pub struct JobPool {
    jobs: Sender<(JobToken, DiskJob)>,
}

impl JobPool {
    /// Starts the pool, which answers through `mailbox`.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(files: &Arc<Files>, mailbox: &Mailbox) -> std::io::Result<Self> {
        let (jobs, inbox) = channel();
        let inbox = Arc::new(Mutex::new(inbox));
        for number in 0..THREADS {
            let (files, inbox, mailbox) = (Arc::clone(files), Arc::clone(&inbox), mailbox.clone());
            thread::Builder::new()
                .name(format!("job-{number}"))
                .spawn(move || run(&files, &inbox, &mailbox))?;
        }
        Ok(Self { jobs })
    }

    /// Runs a job on one of the threads.
    pub fn start_job(&self, token: JobToken, job: DiskJob) {
        // The threads end only with the process, after the loop that calls this.
        let _ = self.jobs.send((token, job));
    }
}

fn run(files: &Files, inbox: &Mutex<Receiver<(JobToken, DiskJob)>>, mailbox: &Mailbox) {
    loop {
        let next = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((token, mut job)) = next else { return };
        let input = match drive(&mut job, |step| files.perform(step)) {
            Ok(output) => Input::JobDone { token, output },
            Err(error) => Input::JobFailed { token, error },
        };
        mailbox.post([input]);
    }
}
