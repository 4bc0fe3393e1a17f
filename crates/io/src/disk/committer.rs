//! Group commit: one thread that makes files durable. While it syncs, further requests gather, and the next
//! round serves them together, each file once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use dohle_broker::Input;
use dohle_broker::partition::PartitionKey;
use dohle_storage::disk::FilePath;
use dohle_types::Offset;

use super::files::Files;
use crate::mailbox::Mailbox;

/// A partition's wish to have what it wrote made durable.
#[derive(Debug)]
pub struct SyncRequest {
    /// Whose wish it is.
    pub partition: PartitionKey,
    /// Given back with the completion.
    pub up_to: Offset,
    /// The files that hold what was written.
    pub paths: Vec<FilePath>,
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
    while let Ok(first) = inbox.recv() {
        let group: Vec<SyncRequest> = std::iter::once(first).chain(inbox.try_iter()).collect();
        let paths: BTreeSet<&FilePath> = group.iter().flat_map(|request| &request.paths).collect();
        if let Err(error) = paths.into_iter().try_for_each(|path| files.sync(path)) {
            mailbox.post([Input::DiskFailed { error }]);
            return;
        }
        mailbox.post(
            group
                .into_iter()
                .map(|request| Input::Synced { partition: request.partition, up_to: request.up_to }),
        );
    }
}
