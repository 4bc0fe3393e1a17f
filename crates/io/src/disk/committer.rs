//! Group commit: one thread that makes files durable. While it syncs, further requests gather, and the next
//! round serves them together, each file once. In a log dir in which a sync failed nothing is synced any more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use dohle_broker::Input;
use dohle_broker::partition::PartitionKey;
use dohle_storage::SyncWork;
use dohle_storage::disk::{FilePath, LogDir};

use super::files::Files;
use crate::mailbox::Mailbox;

/// A partition's wish to have what it wrote made durable.
#[derive(Debug)]
pub struct SyncRequest {
    /// Whose wish it is.
    pub partition: PartitionKey,
    /// What was written.
    pub work: SyncWork,
}

/// The way to the commit thread. A partition has one sync in flight at most, which bounds the queue.
#[derive(Debug)]
pub struct Committer {
    requests: Sender<SyncRequest>,
}

impl Committer {
    /// Starts the commit thread, which answers through `mailbox`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(files: Arc<Files>, mailbox: Mailbox) -> std::io::Result<Self> {
        let (requests, inbox) = channel();
        thread::Builder::new().name("commit".into()).spawn(move || run(&files, &inbox, &mailbox))?;
        Ok(Self { requests })
    }

    /// Asks for a sync.
    pub fn sync(&self, request: SyncRequest) {
        // The thread ends only with the process, after the loop that calls this.
        let _ = self.requests.send(request);
    }
}

fn run(files: &Files, inbox: &Receiver<SyncRequest>, mailbox: &Mailbox) {
    let mut failed = BTreeSet::new();
    let mut is_synced = |path: &FilePath| {
        let log_dir = LogDir::of(path);
        if failed.contains(&log_dir) {
            return false;
        }
        let synced = files.sync(path);
        if let Err(error) = synced {
            failed.insert(log_dir);
            mailbox.post([Input::DiskFailed { error }]);
            return false;
        }
        true
    };
    while let Ok(first) = inbox.recv() {
        let group: Vec<SyncRequest> = std::iter::once(first).chain(inbox.try_iter()).collect();
        let paths: BTreeSet<&FilePath> = group.iter().flat_map(|request| request.work.paths()).collect();
        let unsynced: BTreeSet<&FilePath> = paths.into_iter().filter(|path| !is_synced(path)).collect();
        let is_synced = |request: &&SyncRequest| request.work.paths().all(|path| !unsynced.contains(path));
        let synced = group.iter().filter(is_synced);
        let flushed = |request: &SyncRequest| Input::Flushed {
            partition: request.partition,
            point: request.work.point,
        };
        mailbox.post(synced.map(flushed));
    }
}
