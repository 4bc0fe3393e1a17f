//! The commit cycles of a node's log dirs, and what follows behind their journals.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dohle_broker::Input;
use dohle_broker::partition::PartitionKey;
use dohle_storage::LogKey;
use dohle_storage::disk::{Answer, DiskError, FilePath, LogDir, Op, Step};
use dohle_storage::journal::{CommitCycle, Done, JournalConfig, Round, SyncRequest, Task};
use dohle_storage::memory_disk::SyncUnderWay;
use dohle_types::Rng;

use crate::marks::Mark;
use crate::process::Ended;
use crate::world::{Event, World};

/// The commit threads of a process.
#[derive(Debug)]
pub(crate) struct Commits {
    cycles: BTreeMap<LogDir, CommitCycle>,
    waiting: Vec<SyncRequest>,
    under_way: Option<(Vec<(LogDir, Round)>, Syncs)>,
    tasks: BTreeMap<LogDir, (Task, Syncs)>,
}

type Syncs = Vec<(FilePath, SyncUnderWay)>;

impl Commits {
    pub(crate) fn new(log_dirs: impl Iterator<Item = LogDir>, config: JournalConfig, rng: &mut Rng) -> Self {
        let cycles = log_dirs.map(|log_dir| (log_dir, CommitCycle::new(log_dir, config, rng.fork())));
        Self { cycles: cycles.collect(), waiting: Vec::new(), under_way: None, tasks: BTreeMap::new() }
    }

    pub(crate) fn ask(&mut self, request: SyncRequest) {
        self.waiting.push(request);
    }

    /// A directory is renamed.
    pub(crate) fn use_journal(&mut self, log_dir: LogDir) {
        if let Some(cycle) = self.cycles.get_mut(&log_dir) {
            cycle.use_journal();
        }
    }

    pub(crate) fn note_renamed(&mut self, log_dir: LogDir) {
        if let Some(cycle) = self.cycles.get_mut(&log_dir) {
            cycle.note_renamed();
        }
    }
}

impl World {
    /// Begins the next commit cycle, where none is under way.
    pub(crate) fn begin_sync(&mut self) {
        // A process that ends in the middle of it has nothing under way any more.
        let _ = self.begin_round();
    }

    fn begin_round(&mut self) -> Result<(), Ended> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let commits = &mut process.commits;
        if commits.under_way.is_some() || commits.waiting.is_empty() {
            return Ok(());
        }
        let mut requests: BTreeMap<LogDir, Vec<SyncRequest>> = BTreeMap::new();
        for request in commits.waiting.drain(..) {
            let log_dir = LogDir::of(&request.work.dir);
            if !self.failed_log_dirs.contains(&log_dir) {
                requests.entry(log_dir).or_default().push(request);
            }
        }
        let is_group = requests.values().any(|requests| requests.len() > 1);
        let rounds: Vec<(LogDir, Round)> = requests
            .into_iter()
            .filter_map(|(log_dir, requests)| {
                Some((log_dir, commits.cycles.get_mut(&log_dir)?.begin(requests)))
            })
            .collect();
        self.shared.marks.sometimes(Mark::CommittedTogether, is_group);
        let mut syncs = Vec::new();
        for (_, round) in &rounds {
            self.begin_syncs(&round.paths, &mut syncs);
            let Some(write) = &round.write else { continue };
            let record = write.encode(|path, position, length| {
                match self.read_disk(path, &Step::Read { path: path.clone(), position, length })? {
                    Answer::Read(bytes) => Ok(bytes),
                    Answer::Listed(_) | Answer::Done => Ok(None),
                }
            });
            self.shared.marks.sometimes(Mark::JournalWritten, true);
            let written = match record {
                Ok(data) => {
                    let (path, position) = (write.path.clone(), write.position);
                    self.change_disk(&Op::Write { path, position, data })?
                }
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                if !self.failed_log_dirs.contains(&LogDir::of(&write.path)) {
                    self.invariants
                        .violate(format!("the journal, which has all its room, cannot be written: {error}"));
                }
                self.handle(Input::DiskFailed { error });
            }
            self.begin_syncs(&BTreeSet::from([write.path.clone()]), &mut syncs);
        }
        if let Some(process) = &mut self.process {
            process.commits.under_way = Some((rounds, syncs));
        }
        let (at, life) = (self.now + self.sync_duration(), self.life);
        self.schedule(at, Event::SyncDone(life));
        Ok(())
    }

    fn begin_syncs(&self, paths: &BTreeSet<FilePath>, syncs: &mut Syncs) {
        syncs.extend(paths.iter().filter_map(|path| Some((path.clone(), self.disk.begin_sync(path)?))));
    }

    /// The commit cycle is done.
    pub(crate) fn on_sync_done(&mut self) {
        let Some((rounds, syncs)) =
            self.process.as_mut().and_then(|process| process.commits.under_way.take())
        else {
            return;
        };
        if std::mem::take(&mut self.fail_next_sync)
            && let Some((log_dir, _)) = rounds.last()
        {
            let path = log_dir.path("dohle-journal-0");
            let error = self.fail_log_dir("sync", &path);
            self.shared.marks.sometimes(Mark::SyncFailed, true);
            self.handle(Input::DiskFailed { error });
        }
        self.finish_syncs(syncs);
        for (log_dir, round) in rounds {
            if !self.failed_log_dirs.contains(&log_dir) {
                let is_alone = !self.failed_log_dirs.is_empty();
                self.shared.marks.sometimes(Mark::LogDirFailedAlone, is_alone);
                let cycle =
                    self.process.as_mut().and_then(|process| process.commits.cycles.get_mut(&log_dir));
                let done = cycle.map(|cycle| cycle.finish(round));
                self.tell(done.unwrap_or_default());
            }
        }
        self.begin_tasks();
        self.finish_round();
        self.begin_sync();
        // The next round may have failed at its beginning.
        self.finish_round();
    }

    fn finish_syncs(&mut self, syncs: Syncs) {
        for (path, sync) in syncs {
            if self.failed_log_dirs.contains(&LogDir::of(&path)) {
                self.disk.fail_sync(sync, &mut self.rng);
            } else {
                self.disk.finish_sync(sync);
            }
        }
    }

    fn tell(&mut self, done: Vec<Done>) {
        for done in done {
            let (Done::Synced(LogKey(key), point) | Done::Flushed(LogKey(key), point)) = done;
            let partition = PartitionKey(key);
            self.invariants.on_synced(partition, point.end);
            self.handle(match done {
                Done::Synced(..) => Input::Synced { partition, point },
                Done::Flushed(..) => Input::Flushed { partition, point },
            });
        }
    }

    fn begin_tasks(&mut self) {
        let Some(process) = &mut self.process else { return };
        let cycles = process.commits.cycles.iter_mut();
        let tasks: Vec<(LogDir, Task)> =
            cycles.filter_map(|(&log_dir, cycle)| Some((log_dir, cycle.next_task()?))).collect();
        for (log_dir, task) in tasks {
            let mut syncs = Vec::new();
            if let Task::Flush { paths, all } = &task {
                self.begin_syncs(paths, &mut syncs);
                if *all {
                    let files = self.disk.files().into_keys().map(FilePath::from);
                    let here = files.filter(|path| LogDir::of(path) == log_dir).collect();
                    self.begin_syncs(&here, &mut syncs);
                }
            }
            if let Some(process) = &mut self.process {
                process.commits.tasks.insert(log_dir, (task, syncs));
            }
            let (at, life) = (self.now + self.sync_duration() * 2, self.life);
            self.schedule(at, Event::TaskDone(life, log_dir));
        }
    }

    /// What follows behind the journal of a log dir is done.
    pub(crate) fn on_task_done(&mut self, log_dir: LogDir) {
        let task = self.process.as_mut().and_then(|process| process.commits.tasks.remove(&log_dir));
        let Some((task, syncs)) = task.filter(|_| !self.failed_log_dirs.contains(&log_dir)) else { return };
        if let Task::Prepare { path, length, head } = task {
            let prepared = self.prepare(&path, length, head).and_then(|prepared| match prepared {
                // Without room there is no journal.
                Err(error) if error.is_full => Ok(self.change_disk(&Op::Remove { path })?.and(Err(error))),
                prepared => Ok(prepared),
            });
            match prepared {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    if !error.is_full {
                        self.handle(Input::DiskFailed { error });
                        self.finish_round();
                    }
                    return;
                }
                Err(Ended) => return,
            }
        } else {
            self.shared.marks.sometimes(Mark::JournalFlushed, true);
        }
        self.finish_syncs(syncs);
        let cycle = self.process.as_mut().and_then(|process| process.commits.cycles.get_mut(&log_dir));
        let done = cycle.map(CommitCycle::on_task_done);
        self.tell(done.unwrap_or_default());
        self.begin_tasks();
        self.finish_round();
        self.begin_sync();
        // The next round may have failed at its beginning.
        self.finish_round();
    }

    fn prepare(&mut self, path: &FilePath, length: u64, head: Bytes) -> Result<Result<(), DiskError>, Ended> {
        let from = self.disk.length(path).unwrap_or(0) as u64;
        let zeros = usize::try_from(length.saturating_sub(from)).unwrap_or_default();
        for (position, data) in [(from, Bytes::from(vec![0; zeros])), (0, head)] {
            if let Err(error) = self.change_disk(&Op::Write { path: path.clone(), position, data })? {
                return Ok(Err(error));
            }
            self.disk.sync(path);
        }
        Ok(Ok(()))
    }
}
