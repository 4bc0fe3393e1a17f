//! Jobs written as plain sequences of steps.
//!
//! Recovery, a cold read or a lookup is a sequence of questions to the disk with decisions in between.
//! Written as an `async` block it reads as one; the compiler makes the state machine that [`Job`] asks for.
//! Nothing here is concurrent: there is no executor and no waker, the block is polled exactly once per answer,
//! and all it can wait for is the answer to its own last step.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::disk::{Answer, Entry, FilePath, Job, LogDir, Op, Progress, Step};

/// A job made of a sequence of steps.
pub struct Script<T> {
    block: Pin<Box<dyn Future<Output = T> + Send>>,
    disk: Disk,
}

impl<T> std::fmt::Debug for Script<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

impl<T> Script<T> {
    /// The job that runs what `block` makes of the disk it is handed.
    #[must_use]
    pub fn new<F>(block: impl FnOnce(Disk) -> F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let disk = Disk::default();
        Self { block: Box::pin(block(disk.clone())), disk }
    }

    /// Goes on, with the answer to its last step where it asked for one.
    pub(crate) fn advance(&mut self, answer: Option<Answer>) -> Polled<T> {
        if let Some(answer) = answer {
            *self.disk.exchange() = Some(Exchange::Answered(answer));
        }
        match self.block.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Polled::Done(output),
            Poll::Pending => match self.disk.exchange().take() {
                Some(Exchange::Asked(step)) => Polled::Asked(step),
                Some(Exchange::Pausing) => Polled::Paused,
                Some(Exchange::Answered(_) | Exchange::Unpaused) | None => {
                    unreachable!("a script waits only for an answer to its step")
                }
            },
        }
    }

    /// Lets it go on after a pause.
    pub(crate) fn unpause(&mut self) {
        *self.disk.exchange() = Some(Exchange::Unpaused);
    }

    fn progress(&mut self, answer: Option<Answer>) -> Progress<T> {
        match self.advance(answer) {
            Polled::Asked(step) => Progress::Next(step),
            Polled::Done(output) => Progress::Done(output),
            Polled::Paused => unreachable!("only a script that is run in pieces pauses"),
        }
    }
}

/// What a script comes to next.
pub(crate) enum Polled<T> {
    /// It needs this.
    Asked(Step),
    /// It can go on at any time.
    Paused,
    /// It is finished.
    Done(T),
}

impl<T> Job for Script<T> {
    type Output = T;

    fn start(&mut self) -> Progress<T> {
        self.progress(None)
    }

    fn resume(&mut self, answer: Answer) -> Progress<T> {
        self.progress(Some(answer))
    }
}

/// The disk as a script sees it.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    exchange: Arc<Mutex<Option<Exchange>>>,
}

#[derive(Debug)]
enum Exchange {
    Asked(Step),
    Answered(Answer),
    Pausing,
    Unpaused,
}

impl Disk {
    /// The entries of a directory, sorted by name.
    pub async fn list(&self, path: &FilePath) -> Vec<Entry> {
        match self.ask(Step::List { path: path.clone() }).await {
            Answer::Listed(entries) => entries,
            Answer::Read(_) | Answer::Done => unreachable!("a listing is answered by a listing"),
        }
    }

    /// Up to `length` bytes from `position`; `None` where there is no file.
    pub async fn read(&self, path: &FilePath, position: u64, length: usize) -> Option<Bytes> {
        match self.ask(Step::Read { path: path.clone(), position, length }).await {
            Answer::Read(bytes) => bytes,
            Answer::Listed(_) | Answer::Done => unreachable!("a read is answered by bytes"),
        }
    }

    /// Changes a file.
    pub async fn apply(&self, op: Op) {
        self.ask(Step::Apply(op)).await;
    }

    /// Makes a file durable.
    pub async fn sync(&self, path: &FilePath) {
        self.ask(Step::Sync { path: path.clone() }).await;
    }

    /// Makes all that is in a log dir durable.
    pub async fn sync_all(&self, log_dir: LogDir) {
        self.ask(Step::SyncAll { log_dir }).await;
    }

    /// Replaces a small file as a whole, durably.
    pub async fn replace(&self, path: FilePath, data: Bytes) {
        self.ask(Step::Replace { path, data }).await;
    }

    /// Ends a piece of work that is done in pieces; goes on when the next one begins.
    pub(crate) async fn pause(&self) {
        *self.exchange() = Some(Exchange::Pausing);
        std::future::poll_fn(|_| {
            let mut exchange = self.exchange();
            if matches!(*exchange, Some(Exchange::Unpaused)) {
                *exchange = None;
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    async fn ask(&self, step: Step) -> Answer {
        *self.exchange() = Some(Exchange::Asked(step));
        std::future::poll_fn(|_| {
            let mut exchange = self.exchange();
            match exchange.take() {
                Some(Exchange::Answered(answer)) => Poll::Ready(answer),
                asked => {
                    *exchange = asked;
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The slot is never contended; the lock only makes the job movable between threads.
    fn exchange(&self) -> MutexGuard<'_, Option<Exchange>> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::drive;

    #[test]
    fn a_script_asks_one_step_at_a_time_and_returns_its_result() {
        let path: FilePath = "a".into();
        let mut job = Script::new(|disk| async move {
            let first = disk.read(&path, 0, 4).await.map_or(0, |bytes| bytes.len());
            disk.sync(&path).await;
            first + disk.list(&path).await.len()
        });
        let mut steps = Vec::new();
        let total = drive(&mut job, |step| {
            steps.push(step.clone());
            Ok(match step {
                Step::Read { .. } => Answer::Read(Some(Bytes::from_static(b"abc"))),
                Step::List { .. } => Answer::Listed(Vec::new()),
                Step::Apply(_) | Step::Replace { .. } | Step::Sync { .. } | Step::SyncAll { .. } => {
                    Answer::Done
                }
            })
        });
        assert_eq!((total, steps.len()), (Ok(3), 3));
    }
}
