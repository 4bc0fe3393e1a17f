//! The node under its host: effects carried out in the order and the groups in which `dohle-io` does it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dohle_broker::Node;
use dohle_broker::host::{ConnectionId, DiskJob, Effect, Input, JobOutput, JobToken};
use dohle_broker::memory::Share;
use dohle_broker::snapshot_file::Loaded;
use dohle_protocol::messages::AlterReplicaLogDirsRequest;
use dohle_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use dohle_protocol::{FrameDecoder, encode_request};
use dohle_storage::disk::{Answer, DiskError, FilePath, Job, LogDir, Op, Progress, Step};
use dohle_storage::journal::{JournalConfig, SyncRequest};
use dohle_storage::memory_disk::{replacement, temporary};
use dohle_storage::{CleanNext, LogKey};
use dohle_types::time::Instant;
use dohle_types::{Now, Timestamp};

use crate::commits::Commits;
use crate::invariants::describe;
use crate::marks::Mark;
use crate::network::End as LinkEnd;
use crate::plan::End;
use crate::world::{Event, World};

/// Jobs that run at the same time.
const JOBS_AT_ONCE: usize = 2;

/// Memory of the imagined machine.
const MACHINE_BYTES: u64 = 1 << 30;

/// The longest frame that either side takes.
const FRAME_BYTES_MAX: usize = 100 << 20;

/// A running process.
pub(crate) struct Process {
    pub(crate) node: Node,
    /// Which of the node's lives this is: what an earlier one began is not this one's.
    pub(crate) life: u32,
    /// It listens.
    pub(crate) is_ready: bool,
    effects: Vec<Effect>,
    /// By how much its wall clock is ahead, in milliseconds.
    skew: i64,
    pub(crate) commits: Commits,
    jobs: VecDeque<(JobToken, DiskJob)>,
    running: BTreeMap<JobToken, (DiskJob, Progress<JobOutput>)>,
    tick_at: Option<Instant>,
    next_space_check: Instant,
}

/// What leaves when all disk effects of a round are carried out.
enum Outgoing {
    Frame(ConnectionId, Bytes),
    Close(ConnectionId),
}

/// The process ended in the middle of something.
pub(crate) struct Ended;

impl World {
    /// The process starts, with whatever the disk holds.
    pub(crate) fn start_node(&mut self) {
        if self.process.is_some() {
            return;
        }
        self.life += 1;
        let config = self.plan.config();
        let log_dirs =
            (0..config.directories().len()).filter_map(|place| u16::try_from(place).ok()).map(LogDir);
        let commits = Commits::new(log_dirs, JournalConfig::of(&config), &mut self.rng);
        let mut node = Node::new(config, MACHINE_BYTES, self.rng.next_u64());
        if let Some(left) = self.plan.answer_bytes {
            let memory = node.memory_mut();
            memory.take(
                Share::Answers,
                memory.limit(Share::Answers) - usize::try_from(left).unwrap_or_default(),
            );
        }
        let skew = i64::try_from(self.rng.below(4000)).unwrap_or(0) - 2000;
        self.process = Some(Process {
            node,
            life: self.life,
            is_ready: false,
            effects: Vec::new(),
            skew,
            commits,
            jobs: VecDeque::new(),
            running: BTreeMap::new(),
            tick_at: None,
            next_space_check: self.now,
        });
        self.invariants.on_start(self.plan.durable);
        self.trace.note(self.now, "start", u64::from(self.life), 0, || format!("life {}", self.life));
        self.tell_space();
        self.handle(Input::Boot);
        self.finish_round();
    }

    /// The node is told how much room there is, at most once a second.
    pub(crate) fn tell_space(&mut self) {
        const PLENTY: usize = 1 << 40;
        let now = self.now;
        let Some(process) = self.process.as_mut().filter(|process| process.next_space_check <= now) else {
            return;
        };
        process.next_space_check = now + Duration::from_secs(1);
        let capacity = self.disk.capacity.filter(|_| self.plan.disk.tells_room);
        let total = capacity.unwrap_or(PLENTY);
        let usable = capacity.map_or(PLENTY, |capacity| capacity.saturating_sub(self.disk.used()));
        for log_dir in [LogDir(0), LogDir(1), LogDir(2)] {
            self.handle(Input::DiskSpace { log_dir, total: total as u64, usable: usable as u64 });
        }
    }

    /// The node takes in what happened. Its effects are carried out by [`World::finish_round`].
    pub(crate) fn handle(&mut self, input: Input) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        let now = Now { instant: now, wall: wall(now, process.skew) };
        process.node.handle(now, input, &mut process.effects);
        self.shared.marks.sometimes(Mark::FetchInLine, process.node.waits_for_answers());
    }

    /// Bytes arrive at the node.
    pub(crate) fn on_bytes_at_node(&mut self, id: ConnectionId, bytes: &Bytes) {
        let Some(link) = self.network.link(id).filter(|link| link.node_open) else { return };
        let is_late = !link.client_open;
        link.node_buffer.extend_from_slice(bytes);
        self.shared.marks.sometimes(Mark::LateRequest, is_late);
        self.take_frames(id);
    }

    /// An operator, who does not wait for the answer, moves partitions to a log dir.
    pub(crate) fn move_partitions(&mut self, drawn: u64) {
        let Some(process) = self.process.as_ref().filter(|process| process.is_ready) else { return };
        let log_dirs = self.plan.config().log_dirs();
        let path = log_dirs[usize::try_from(drawn % 7).unwrap_or(0) % log_dirs.len()].as_str().into();
        let topics = process.node.image().topics().map(|topic| AlterReplicaLogDirTopic {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .keys()
                .map(|index| index.0)
                .filter(|index| drawn >> index & 8 == 0)
                .collect(),
        });
        let request =
            AlterReplicaLogDirsRequest { dirs: vec![AlterReplicaLogDir { path, topics: topics.collect() }] };
        let Ok(frame) = encode_request(0, Some("operator"), &request, 2) else { return };
        let frame = frame.into_bytes().slice(size_of::<i32>()..);
        let connection = ConnectionId(u64::MAX - drawn % 1_000_000);
        let (client_host, local) = ("10.0.1.1".to_owned(), ("broker.sim".to_owned(), 9092));
        self.handle(Input::Opened { connection, client_host, local });
        self.invariants.on_received(self.now, connection, &frame);
        self.handle(Input::Received { connection, frame });
        self.handle(Input::Closed { connection });
        self.finish_round();
    }

    /// Hands the whole frames of a connection to the node, as long as it wants them.
    fn take_frames(&mut self, id: ConnectionId) {
        loop {
            let Some(link) = self.network.link(id).filter(|link| link.node_open && !link.paused) else {
                return;
            };
            let frame = match FrameDecoder::new(FRAME_BYTES_MAX).next(&mut link.node_buffer) {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(error) => return self.invariants.violate(format!("a client sent no frame: {error}")),
            };
            // A request's memory is its own, as it is with a real socket's buffer that was handed over.
            let frame = BytesMut::from(&*frame).freeze();
            self.trace.note(self.now, "request", id.0, frame.len() as u64, || {
                format!("{id:?} {}", describe::request(&frame))
            });
            self.invariants.on_received(self.now, id, &frame);
            self.handle(Input::Received { connection: id, frame });
            self.apply_flow();
        }
    }

    fn apply_flow(&mut self) {
        for effect in self.process.iter().flat_map(|process| &process.effects) {
            if let Effect::Pause { connection } = effect
                && let Some(link) = self.network.link(*connection)
            {
                link.paused = true;
            }
        }
    }

    /// Carries out the node's effects, and what follows from them, until there are none.
    pub(crate) fn finish_round(&mut self) {
        let mut outgoing = Vec::new();
        let mut resumed = Vec::new();
        loop {
            let effects = match &mut self.process {
                Some(process) if !process.effects.is_empty() => std::mem::take(&mut process.effects),
                _ => break,
            };
            if self.carry_out(effects, &mut outgoing, &mut resumed).is_err() {
                return;
            }
        }
        let mut sent = 0;
        for outgoing in outgoing {
            match outgoing {
                Outgoing::Frame(id, bytes) => {
                    sent += bytes.len();
                    self.send(id, LinkEnd::Client, bytes);
                }
                Outgoing::Close(id) => self.close_by_node(id),
            }
        }
        if sent > 0 {
            self.handle(Input::Sent { bytes: sent });
        }
        self.schedule_tick();
        for id in resumed {
            if let Some(link) = self.network.link(id) {
                link.paused = false;
            }
            self.take_frames(id);
        }
        if self.process.as_ref().is_some_and(|process| !process.effects.is_empty()) {
            self.finish_round();
        }
    }

    fn carry_out(
        &mut self,
        effects: Vec<Effect>,
        outgoing: &mut Vec<Outgoing>,
        resumed: &mut Vec<ConnectionId>,
    ) -> Result<(), Ended> {
        let mut written = Vec::new();
        let mut started = Vec::new();
        let mut stopped = None;
        let mut failed_files: Vec<FilePath> = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send { connection, frame } => {
                    let bytes = frame.into_bytes();
                    if let Some(process) = &self.process {
                        let marks = &mut self.shared.marks;
                        let text =
                            self.invariants.on_sent(self.now, &process.node, connection, &bytes, marks);
                        let length = bytes.len() as u64;
                        self.trace.note(self.now, "response", connection.0, length, || {
                            format!("{connection:?} {}", text())
                        });
                    }
                    outgoing.push(Outgoing::Frame(connection, bytes));
                }
                Effect::Close { connection } => outgoing.push(Outgoing::Close(connection)),
                Effect::Pause { connection } => {
                    if let Some(link) = self.network.link(connection) {
                        link.paused = true;
                    }
                }
                Effect::Resume { connection } => resumed.push(connection),
                Effect::Disk(op) => {
                    if let Op::Write { path, .. } | Op::Truncate { path, .. } | Op::Rename { from: path, .. } =
                        &op
                        && failed_files.contains(path)
                    {
                        continue;
                    }
                    if let Err(error) = self.change_disk(&op)? {
                        self.shared.marks.sometimes(Mark::WriteWithoutRoom, error.is_full);
                        failed_files.push(error.path.clone());
                        self.handle(Input::DiskFailed { error });
                    }
                }
                Effect::Written { partition, end } => written.push(Input::Written { partition, end }),
                Effect::Sync { partition, of: id, work } => {
                    self.invariants.on_sync(partition, &work);
                    if let Some(process) = &mut self.process {
                        process.commits.ask(SyncRequest { key: LogKey(partition.0), id, work });
                    }
                }
                Effect::UseJournal { log_dir } => {
                    if let Some(process) = &mut self.process {
                        process.commits.use_journal(log_dir);
                    }
                }
                Effect::Start { token, job, in_background: _ } => started.push((token, job)),
                // Nobody asks for metrics here.
                Effect::Scraped { .. } => {}
                Effect::Ready => {
                    if let Some(process) = &mut self.process {
                        process.is_ready = true;
                    }
                }
                Effect::Stopped { error } => stopped = Some(error),
            }
        }
        if let Some(error) = stopped {
            self.on_stopped(error);
            return Err(Ended);
        }
        written.into_iter().for_each(|input| self.handle(input));
        self.begin_sync();
        if let Some(process) = &mut self.process {
            process.jobs.extend(started);
        }
        self.start_jobs();
        Ok(())
    }

    /// Changes files, unless the process ends before, or in the middle of, that.
    pub(crate) fn change_disk(&mut self, op: &Op) -> Result<Result<(), DiskError>, Ended> {
        if let Op::Write { path, .. } = op {
            let is_later_segment = path.ends_with(".log") && !path.ends_with("/00000000000000000000.log");
            self.shared.marks.sometimes(Mark::SegmentRolled, is_later_segment);
        }
        if let Op::Rename { from, .. } = op
            && !LogDir::split(from).1.contains('/')
            && let Some(process) = &mut self.process
        {
            process.commits.note_renamed(LogDir::of(from));
        }
        if let Op::Remove { path } = op {
            let is_metadata = path.starts_with("__cluster_metadata-0/") && path.ends_with(".log");
            self.shared.marks.sometimes(Mark::MetadataLogShortened, is_metadata);
        }
        match &mut self.end_after {
            Some((0, end)) => {
                let end = *end;
                if let Op::Write { path, position, data } = op {
                    let kept = usize::try_from(self.rng.below(data.len() as u64 + 1)).unwrap_or(0);
                    let is_part = kept > 0 && kept < data.len();
                    let (path, data) = (path.clone(), data.slice(..kept));
                    let _ = self.disk.apply(&Op::Write { path, position: *position, data });
                    self.shared.marks.sometimes(Mark::KilledInAWrite, is_part);
                }
                self.shared.marks.sometimes(Mark::EndedWhileForking, matches!(op, Op::Link { .. }));
                self.end_after = None;
                self.end_node(end);
                return Err(Ended);
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        if is_due(&mut self.fail_change) {
            self.shared.marks.sometimes(Mark::ChangeFailed, true);
            if let Op::Write { path, position, data } = op {
                let kept = usize::try_from(self.rng.below(data.len() as u64 + 1)).unwrap_or(0);
                let part = Op::Write { path: path.clone(), position: *position, data: data.slice(..kept) };
                let _ = self.disk.apply(&part);
            }
            let (Op::Write { path, .. }
            | Op::Truncate { path, .. }
            | Op::Allocate { path, .. }
            | Op::Rename { from: path, .. }
            | Op::Link { from: path, .. }
            | Op::Remove { path }) = op;
            return Ok(Err(self.fail_log_dir("change", path)));
        }
        Ok(self.disk.apply(op))
    }

    /// The disk of a log dir fails; the node is not to use it any more until it starts again.
    pub(crate) fn fail_log_dir(&mut self, operation: &'static str, path: &FilePath) -> DiskError {
        self.failed_log_dirs.insert(LogDir::of(path));
        let reason = "input/output error".to_owned();
        DiskError { operation, path: path.clone(), reason, is_full: false }
    }

    /// Reads files, unless that fails.
    pub(crate) fn read_disk(&mut self, path: &FilePath, step: &Step) -> Result<Answer, DiskError> {
        if is_due(&mut self.fail_read) {
            self.shared.marks.sometimes(Mark::ReadFailed, true);
            return Err(self.fail_log_dir("read", path));
        }
        self.disk.perform(step)
    }

    fn start_jobs(&mut self) {
        loop {
            let Some(process) = &mut self.process else { return };
            if process.running.len() >= JOBS_AT_ONCE {
                return;
            }
            let Some((token, mut job)) = process.jobs.pop_front() else { return };
            let progress = job.start();
            process.running.insert(token, (job, progress));
            let (at, life) = (self.now + self.step_duration(), self.life);
            self.schedule(at, Event::JobStep(life, token));
        }
    }

    /// A job does its next step.
    pub(crate) fn on_job_step(&mut self, token: JobToken) {
        let running = self.process.as_mut().and_then(|process| process.running.remove(&token));
        let Some((mut job, progress)) = running else { return };
        let input = match progress {
            Progress::Done(output) => {
                let is_snapshot = matches!(&output, JobOutput::WriteSnapshot(_));
                self.shared.marks.sometimes(Mark::SnapshotWritten, is_snapshot);
                let is_start = matches!(&output, JobOutput::LoadSnapshot(loaded) if is_from_snapshot(loaded));
                self.shared.marks.sometimes(Mark::SnapshotLoaded, is_start);
                let is_copied = matches!(&output, JobOutput::Copy(copied) if copied.is_complete);
                self.shared.marks.sometimes(Mark::LogCopied, is_copied);
                let is_cold_read = matches!(&output, JobOutput::ColdRead(read) if read.is_ok());
                self.shared.marks.sometimes(Mark::ColdRead, is_cold_read);
                let is_compacted = matches!(&output, JobOutput::Clean(piece) if matches!(piece.next, CleanNext::Replace(..)));
                self.shared.marks.sometimes(Mark::LogCompacted, is_compacted);
                let is_anew = matches!(&output, JobOutput::Scrub(scrubbed) if scrubbed.indexes.is_some());
                self.shared.marks.sometimes(Mark::IndexBuiltAnew, is_anew);
                if let JobOutput::Open(opened) = &output
                    && let Ok(log) = &**opened
                {
                    let (_, directory) = LogDir::split(log.dir());
                    self.shared.beginnings.insert(directory.to_owned(), log.start_offset());
                }
                self.invariants.on_job_done(&output);
                Input::JobDone { token, output }
            }
            Progress::Next(step) => {
                if matches!(job, DiskJob::Open(_))
                    && let Step::Apply(Op::Truncate { path, length }) = &step
                {
                    let is_cut = self.disk.length(path).is_some_and(|before| (before as u64) > *length);
                    self.shared.marks.sometimes(Mark::TornEndCut, is_cut);
                }
                if matches!(job, DiskJob::ReplayJournal(_))
                    && let Step::Apply(Op::Write { path, position, data }) = &step
                {
                    let there = self.disk.perform(&Step::Read {
                        path: path.clone(),
                        position: *position,
                        length: data.len(),
                    });
                    let is_there = matches!(there, Ok(Answer::Read(Some(there))) if there == *data);
                    self.shared.marks.sometimes(Mark::TakenFromJournal, !is_there);
                }
                match self.perform(&step) {
                    Err(Ended) => return,
                    Ok(Err(error)) => Input::JobFailed { token, error },
                    Ok(Ok(answer)) => {
                        let progress = job.resume(answer);
                        if let Some(process) = &mut self.process {
                            process.running.insert(token, (job, progress));
                        }
                        let (at, life) = (self.now + self.step_duration(), self.life);
                        return self.schedule(at, Event::JobStep(life, token));
                    }
                }
            }
        };
        self.handle(input);
        self.finish_round();
        self.start_jobs();
    }

    fn perform(&mut self, step: &Step) -> Result<Result<Answer, DiskError>, Ended> {
        match step {
            Step::Apply(op) => {
                return Ok(self.change_disk(op)?.map(|()| Answer::Done));
            }
            Step::Replace { path, data } => {
                for op in replacement(path, data) {
                    if let Err(error) = self.change_disk(&op)? {
                        return Ok(Err(error));
                    }
                    self.disk.sync(&temporary(path));
                }
                self.disk.sync(path);
            }
            Step::Sync { path } => self.disk.sync(path),
            Step::SyncAll { log_dir } => self.disk.sync_all(*log_dir),
            Step::List { path } | Step::Read { path, .. } => {
                return Ok(self.read_disk(path, step));
            }
        }
        Ok(Ok(Answer::Done))
    }

    fn schedule_tick(&mut self) {
        let Some(process) = &mut self.process else { return };
        let Some(due) = process.node.next_timeout() else { return };
        let due = due.max(self.now);
        if process.tick_at.is_none_or(|at| at > due) {
            process.tick_at = Some(due);
            // A loop is never exactly in time.
            let late = Duration::from_micros(self.rng.below(999));
            let life = process.life;
            self.schedule(due + late, Event::Tick(life));
        }
    }

    /// The node's timeout has come.
    pub(crate) fn on_tick(&mut self) {
        let Some(process) = &mut self.process else { return };
        process.tick_at = None;
        if process.node.next_timeout().is_some_and(|due| due <= self.now) {
            self.handle(Input::Tick);
            self.finish_round();
            if let Some(process) = &self.process {
                self.invariants.on_tick(self.now, process.node.next_timeout());
            }
        }
        self.schedule_tick();
    }

    /// The node says that it is finished.
    fn on_stopped(&mut self, error: Option<String>) {
        match error {
            Some(_) if !self.failed_log_dirs.is_empty() || self.disk.capacity.is_some() => {
                self.end_failed_node();
            }
            Some(error) => {
                self.invariants.violate(format!("the node stopped of its own accord: {error}"));
                self.end_node(End::Kill);
            }
            None => {
                self.shared.marks.sometimes(Mark::StoppedInGoodOrder, true);
                self.end_node(End::PowerLoss);
            }
        }
    }

    /// The process of a node whose disk has failed comes to its end, with the power or without: what a sync did not
    /// write may still read well at the next start.
    pub(crate) fn end_failed_node(&mut self) {
        let end = if self.rng.chance(1, 2) { End::Kill } else { End::PowerLoss };
        self.shared.marks.sometimes(Mark::RestartedAfterFailedSync, end == End::Kill);
        self.end_node(end);
    }

    /// The process is gone from one moment to the next.
    pub(crate) fn end_node(&mut self, end: End) {
        if self.process.take().is_none() {
            return;
        }
        self.end_after = None;
        self.failed_log_dirs.clear();
        let lost = if end == End::Kill || !self.plan.durable {
            self.shared.marks.sometimes(Mark::ProcessKilled, self.disk.is_dirty());
            None
        } else {
            let loss = self.disk.lose_power(&mut self.rng);
            self.shared.marks.sometimes(Mark::UnsyncedLost, loss.files_changed > 0);
            self.shared.marks.sometimes(Mark::FileTorn, loss.files_torn > 0);
            self.shared.marks.sometimes(Mark::NameLost, loss.names_lost > 0);
            Some(loss)
        };
        self.trace.note(self.now, "end", u64::from(lost.is_some()), 0, || format!("{end:?} {lost:?}"));
        self.drop_connections_of_node(end == End::Kill);
        let down = Duration::from_millis(1 + self.rng.below(3000));
        self.schedule(self.now + down, Event::StartNode);
    }

    pub(crate) fn sync_duration(&mut self) -> Duration {
        let usual = self.plan.disk.sync_max.mul_f64((1 + self.rng.below(1000)) as f64 / 1000.0);
        if self.stage.is_healed() || !self.rng.chance(self.plan.disk.slow_syncs, 100) {
            return usual;
        }
        usual + Duration::from_millis(self.rng.below(2000))
    }

    fn step_duration(&mut self) -> Duration {
        self.plan.disk.step_max.mul_f64((1 + self.rng.below(1000)) as f64 / 1000.0)
    }
}

/// The wall clock's time of an instant: it begins on 2026-11-22.
pub(crate) fn wall(now: Instant, skew: i64) -> Timestamp {
    const BEGIN_MS: i64 = 1_795_305_600_000;
    Timestamp(BEGIN_MS + skew + i64::try_from(now.as_millis()).unwrap_or(0))
}

/// Whether what was to come after so many others has come.
fn is_due(after: &mut Option<u64>) -> bool {
    match after {
        Some(0) => after.take().is_some(),
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

fn is_from_snapshot(loaded: &Result<Loaded, String>) -> bool {
    loaded.as_ref().is_ok_and(|loaded| !loaded.files.is_empty())
}
