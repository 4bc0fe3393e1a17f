//! Group commit: one thread that makes durable what partitions ask for. While a round is under way further requests
//! gather, and the next one serves them together: by a sync of each file, or by one write to the log dir's journal, as
//! `dohle_storage::journal` decides. What follows behind the journal is done by a second thread. In a log dir in which
//! anything of that failed nothing is synced any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use dohle_broker::Input;
use dohle_broker::partition::PartitionKey;
use dohle_storage::LogKey;
use dohle_storage::disk::{Answer, DiskError, FilePath, LogDir, Op, Step};
use dohle_storage::journal::{CommitCycle, Done, JournalConfig, Round, SyncRequest, Task};
use dohle_types::Rng;

use super::files::Files;
use super::stats::{CommitStats, RoundDone};
use crate::mailbox::Mailbox;

/// From how many files on the whole file system is synced at once instead of each of them.
const SYNC_ALL_FROM: usize = 16;

/// The way to the commit thread. A partition has one sync in flight at most, which bounds the queue.
#[derive(Debug)]
pub struct Committer {
    messages: Sender<Message>,
    stats: Arc<CommitStats>,
}

#[derive(Debug)]
enum Message {
    Sync(SyncRequest),
    UseJournal(LogDir),
    TaskDone(LogDir, Result<(), DiskError>),
}

impl Committer {
    /// Starts the threads, which answer through `mailbox`.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(
        files: Arc<Files>,
        mailbox: Mailbox,
        config: JournalConfig,
        mut rng: Rng,
    ) -> std::io::Result<Self> {
        let (messages, inbox) = channel();
        let (side, tasks) = channel();
        let cycles = files.log_dirs().map(|log_dir| {
            (log_dir, Cycle { commits: CommitCycle::new(log_dir, config, rng.fork()), renames: 0 })
        });
        let stats = Arc::new(CommitStats::default());
        let commit = Commit {
            files: Arc::clone(&files),
            mailbox,
            side,
            cycles: cycles.collect(),
            stats: Arc::clone(&stats),
        };
        thread::Builder::new().name("commit".into()).spawn(move || commit.run(&inbox))?;
        let done = messages.clone();
        thread::Builder::new().name("flush".into()).spawn(move || run_tasks(&files, &tasks, &done))?;
        Ok(Self { messages, stats })
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> &CommitStats {
        &self.stats
    }

    /// Has the journal of a log dir used from now on.
    pub fn use_journal(&self, log_dir: LogDir) {
        let _ = self.messages.send(Message::UseJournal(log_dir));
    }

    /// Asks for a sync.
    pub fn sync(&self, request: SyncRequest) {
        // The thread ends only with the process, after the loop that calls this.
        let _ = self.messages.send(Message::Sync(request));
    }
}

/// The commit thread.
struct Commit {
    files: Arc<Files>,
    mailbox: Mailbox,
    side: Sender<(LogDir, Task)>,
    /// Those of the log dirs that have not failed.
    cycles: BTreeMap<LogDir, Cycle>,
    stats: Arc<CommitStats>,
}

/// The commit cycle of a log dir.
struct Cycle {
    commits: CommitCycle,
    /// How often directories were renamed that it knows of.
    renames: u64,
}

impl Cycle {
    /// Whether directories were renamed since it was last asked.
    fn notice_renames(&mut self, files: &Files, log_dir: LogDir) -> bool {
        let renames = files.directories_renamed(log_dir);
        let is_news = renames != self.renames;
        if is_news {
            self.renames = renames;
            self.commits.note_renamed();
        }
        is_news
    }
}

impl Commit {
    fn run(mut self, inbox: &Receiver<Message>) {
        while let Ok(first) = inbox.recv() {
            let mut requests: BTreeMap<LogDir, Vec<SyncRequest>> = BTreeMap::new();
            for message in std::iter::once(first).chain(inbox.try_iter()) {
                match message {
                    Message::Sync(request) => {
                        requests.entry(LogDir::of(&request.work.dir)).or_default().push(request);
                    }
                    Message::UseJournal(log_dir) => {
                        if let Some(cycle) = self.cycles.get_mut(&log_dir) {
                            cycle.commits.use_journal();
                        }
                    }
                    Message::TaskDone(log_dir, Ok(())) => {
                        let Some(cycle) = self.cycles.get_mut(&log_dir) else { continue };
                        cycle.notice_renames(&self.files, log_dir);
                        let done = cycle.commits.on_task_done();
                        self.tell(done);
                    }
                    // Without room the journal is not made, or not used any further.
                    Message::TaskDone(_, Err(error)) if error.is_full => {
                        tracing::warn!(%error, "no room for the commit journal: files are synced instead");
                    }
                    Message::TaskDone(log_dir, Err(error)) => self.fail(log_dir, error),
                }
            }
            for (log_dir, requests) in requests {
                self.commit(log_dir, requests);
            }
            for (&log_dir, cycle) in &mut self.cycles {
                if let Some(task) = cycle.commits.next_task() {
                    let _ = self.side.send((log_dir, task));
                }
            }
        }
    }

    fn commit(&mut self, log_dir: LogDir, requests: Vec<SyncRequest>) {
        let Some(cycle) = self.cycles.get_mut(&log_dir) else { return };
        let begun = Instant::now();
        let mut round_done = RoundDone { requests: requests.len(), ..RoundDone::default() };
        cycle.notice_renames(&self.files, log_dir);
        let mut round = cycle.commits.begin(requests);
        let carried_out = encode(&self.files, &round).and_then(|mut record| {
            // What was read may be of other logs that have the names now.
            if cycle.notice_renames(&self.files, log_dir) && round.write.is_some() {
                round = cycle.commits.without_journal(std::mem::take(&mut round));
                record = None;
            }
            round_done.file_syncs = round.paths.len();
            round_done.journal_bytes = record.as_ref().map(Bytes::len);
            carry_out(&self.files, &round, record)
        });
        match carried_out {
            Ok(()) => {
                cycle.notice_renames(&self.files, log_dir);
                let done = cycle.commits.finish(round);
                self.tell(done);
                self.stats.note(log_dir, begun.elapsed(), round_done);
            }
            Err(error) => self.fail(log_dir, error),
        }
    }

    fn fail(&mut self, log_dir: LogDir, error: DiskError) {
        self.cycles.remove(&log_dir);
        self.mailbox.post([Input::DiskFailed { error }]);
    }

    fn tell(&self, done: Vec<Done>) {
        if !done.is_empty() {
            self.mailbox.post(done.into_iter().map(|done| match done {
                Done::Synced(LogKey(key), point) => Input::Synced { partition: PartitionKey(key), point },
                Done::Flushed(LogKey(key), point) => Input::Flushed { partition: PartitionKey(key), point },
            }));
        }
    }
}

/// The bytes of a round's record, where it has one.
fn encode(files: &Files, round: &Round) -> Result<Option<Bytes>, DiskError> {
    let Some(write) = &round.write else { return Ok(None) };
    let read = |path: &FilePath, position, length| match files.perform(Step::Read {
        path: path.clone(),
        position,
        length,
    })? {
        Answer::Read(bytes) => Ok(bytes),
        Answer::Listed(_) | Answer::Done => Ok(None),
    };
    write.encode(read).map(Some)
}

fn carry_out(files: &Files, round: &Round, record: Option<Bytes>) -> Result<(), DiskError> {
    round.paths.iter().try_for_each(|path| files.sync(path))?;
    let (Some(write), Some(record)) = (&round.write, record) else { return Ok(()) };
    // It has all its room already: without some there is no way to tell what was written.
    let failed = |error| DiskError { is_full: false, ..error };
    files.write(&write.path, write.position, &[record]).map_err(failed)?;
    files.sync(&write.path)
}

fn run_tasks(files: &Files, tasks: &Receiver<(LogDir, Task)>, done: &Sender<Message>) {
    while let Ok((log_dir, task)) = tasks.recv() {
        let result = match task {
            Task::Prepare { path, length, head } => {
                let prepared = prepare(files, &path, length, head);
                if prepared.as_ref().is_err_and(|error| error.is_full) {
                    // What little room there was is for others.
                    prepared.or_else(|error| files.apply(Op::Remove { path }).and(Err(error)))
                } else {
                    prepared
                }
            }
            Task::Flush { paths, all } if all || paths.len() >= SYNC_ALL_FROM => files.sync_all(log_dir),
            Task::Flush { paths, .. } => paths.iter().try_for_each(|path| files.sync(path)),
        };
        if done.send(Message::TaskDone(log_dir, result)).is_err() {
            return;
        }
    }
}

fn prepare(files: &Files, path: &FilePath, length: u64, head: Bytes) -> Result<(), DiskError> {
    files.fill(path, length)?;
    files.sync(path)?;
    files.write(path, 0, &[head])?;
    files.sync(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use dohle_storage::{LogId, LogRange, SyncPoint, SyncWork};
    use dohle_types::{Offset, PartitionIndex, TopicId};

    use super::*;

    /// Longer than anything takes.
    const EVER: Duration = Duration::from_secs(60);

    /// Two log dirs with a log in each, and their commit thread.
    struct World {
        root: PathBuf,
        files: Arc<Files>,
        committer: Committer,
        inputs: Receiver<Input>,
        /// What wakes the loop.
        _poll: mio::Poll,
        number: u64,
    }

    impl World {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("dohle-committer-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            let files = Arc::new(Files::open(&[root.join("a"), root.join("b")]).unwrap());
            let poll = mio::Poll::new().unwrap();
            let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
            let (mailbox, inputs) = Mailbox::new(waker);
            let config = JournalConfig { bytes: 1 << 20, files_min: 1 };
            let committer = Committer::start(Arc::clone(&files), mailbox, config, Rng::from_seed(1)).unwrap();
            [0, 1].into_iter().for_each(|log_dir| committer.use_journal(LogDir(log_dir)));
            Self { root, files, committer, inputs, _poll: poll, number: 0 }
        }

        /// Writes to the log of a log dir, and asks for a sync.
        fn commit(&mut self, log_dir: u16) {
            self.number += 1;
            let dir = LogDir(log_dir).path("t-0");
            let path: FilePath = format!("{dir}/00000000000000000000.log").into();
            let position = u32::try_from(self.number * 10).unwrap();
            let end = Offset(i64::try_from(self.number).unwrap());
            self.files.write(&path, u64::from(position), &[Bytes::from_static(b"0123456789")]).unwrap();
            let range = LogRange { path, base: Offset::ZERO, position, length: 10, end };
            let mut point = SyncPoint::default();
            point.end = end;
            let work = SyncWork { point, dir, ranges: vec![range], files: Vec::new(), in_files: false };
            let id = LogId { topic_id: TopicId::default(), partition: PartitionIndex(0) };
            self.committer.sync(SyncRequest { key: LogKey(u32::from(log_dir)), id, work });
        }

        /// What the node is told next.
        fn told(&self) -> Input {
            self.inputs.recv_timeout(EVER).unwrap()
        }

        /// Commits until the journal of the first log dir takes it.
        fn journal(&mut self) -> PathBuf {
            loop {
                self.commit(0);
                let told = self.told();
                if matches!(told, Input::Synced { .. }) {
                    break;
                }
                assert!(matches!(told, Input::Flushed { .. }), "{told:?}");
            }
            self.root.join("a/dohle-journal-0")
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    /// What is in the place of the journal fails in this way; whoever asked is never told that it is durable, and the
    /// log dir is not tried again.
    fn check(name: &str, fail: impl FnOnce(&Path)) {
        let mut world = World::new(name);
        let journal = world.journal();
        // Through the node's own files, so that no handle of it stays open.
        world.files.apply(Op::Remove { path: "dohle-journal-0".into() }).unwrap();
        fail(&journal);
        world.commit(0);
        let told = world.told();
        let Input::DiskFailed { error } = told else { panic!("{name}: {told:?}") };
        assert!(!error.is_full && &*error.path == "dohle-journal-0", "{name}: {error:?}");
        // It would work again.
        world.files.apply(Op::Remove { path: "dohle-journal-0".into() }).unwrap();
        for _ in 0..3 {
            world.commit(0);
            world.commit(1);
            let told = world.told();
            let is_of_other = |partition: PartitionKey| partition == PartitionKey(1);
            assert!(
                matches!(told, Input::Synced { partition, .. } | Input::Flushed { partition, .. } if is_of_other(partition)),
                "{name}: {told:?}"
            );
        }
    }

    #[test]
    fn a_journal_that_cannot_be_written_fails_its_log_dir_for_good() {
        check("write", |journal| fs::create_dir(journal).unwrap());
        // Its room was made beforehand: that there is none is no want of room.
        check("room", |journal| symlink("/dev/full", journal).unwrap());
    }

    #[test]
    fn a_journal_whose_sync_fails_fails_its_log_dir_for_good() {
        // Which takes everything, and has nothing to sync.
        check("sync", |journal| symlink("/dev/null", journal).unwrap());
    }
}
