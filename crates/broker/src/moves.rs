//! Moving partitions from one log dir to another while they are served (AlterReplicaLogDirs, KIP-113).
//!
//! 1. The log is copied piece by piece into a directory of the target that Kafka calls the future replica.
//! 2. When little is left the log is closed, and the rest is copied and made durable. Requests wait meanwhile.
//! 3. The checkpoints of the target are written, with what they must know of the log.
//! 4. The two directories change their names, and the log is opened where it is now. The old files are removed.
//!
//! Until its name is taken from it the log stays good where it was, and a move that fails before ends with its being
//! opened there again. A move that was under way when the node stopped begins anew with the next start; if the node
//! ended within step 4 there may be two logs of one name, of which the one counts that the metadata log names.
//!
//! A log is not compacted while it moves, nor does it move while it is compacted.
//!
//! Differs from Kafka: after a restart a move begins at the beginning; one partition moves to a log dir at a time; and
//! one whose topic has a name of more than 200 characters or so does not move.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dohle_configs::broker;
use dohle_storage::disk::{FilePath, LogDir, Op};
use dohle_storage::{Copied, CopyLog, Log, Swap};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Offset, TopicPartition};

use crate::boot_facts::{KnownLog, META_PROPERTIES};
use crate::host::{DiskJob, Effect};
use crate::jobs::ChangeFiles;
use crate::node::{Node, Phase};
use crate::partition::{PartitionKey, State};
use crate::set_aside::{self, NAME_MAX};
use crate::started_jobs::JobPurpose;

/// What the directory of a copy ends with.
pub(crate) const FUTURE_SUFFIX: &str = "-future";

/// What is added to the name of a partition's directory for that of its copy.
const FUTURE_NAME_LEN: usize = 1 + 32 + FUTURE_SUFFIX.len();

/// So much is copied while nobody can write.
const LAST_BYTES_MAX: u64 = 4 << 20;
/// A log that is written to faster than it is copied is closed after so many pieces without an end.
const CATCH_UPS_MAX: u32 = 16;

/// The moves to a log dir.
#[derive(Debug, Default)]
pub struct Moves {
    queue: VecDeque<PartitionKey>,
    current: Option<Move>,
    last_id: u64,
    /// Copies that were given up while a piece of them was being copied.
    forgotten: BTreeMap<MoveId, FilePath>,
}

/// One of the moves to a log dir: what was done for another one is recognised by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MoveId(u64);

/// A partition on its way.
#[derive(Debug)]
struct Move {
    id: MoveId,
    key: PartitionKey,
    /// The directory of the copy.
    future: FilePath,
    copied: u64,
    catch_ups: u32,
    stage: Stage,
}

/// How far it has come.
#[derive(Debug)]
enum Stage {
    /// The log is being opened, or compacted.
    Waiting,
    /// A piece is being copied.
    Copying,
    /// The next piece is copied at this time.
    Resting(Instant),
    /// The log is closed, and the rest is being copied.
    Closing(Arriving),
    /// The checkpoints of the target are being written; or others, after which these are.
    Checkpointing { arriving: Arriving, begun: bool },
    /// The names are being changed; what is left of the log has the old one then.
    Renaming { arriving: Arriving, old: FilePath },
}

/// What a log dir is to know of a log that comes to it.
#[derive(Debug, Clone)]
pub(crate) struct Arriving {
    pub(crate) name: TopicPartition,
    pub(crate) known: KnownLog,
    /// Up to where it is compacted.
    pub(crate) clean_to: Option<Offset>,
}

impl Moves {
    /// When the next piece is copied.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let current = self.current.as_ref()?;
        if let Stage::Resting(until) = current.stage { Some(until) } else { None }
    }

    /// The partition that is copied to this log dir, and the bytes of its copy.
    #[must_use]
    pub fn future(&self) -> Option<(PartitionKey, u64)> {
        self.current.as_ref().map(|current| (current.key, current.copied))
    }

    /// Whether a partition moves here, or is going to.
    fn has(&self, key: PartitionKey) -> bool {
        self.is_current(key) || self.queue.contains(&key)
    }

    fn is_current(&self, key: PartitionKey) -> bool {
        self.current.as_ref().is_some_and(|current| current.key == key)
    }

    /// The log that the checkpoints must know before it has its name here.
    pub(crate) fn arriving(&self) -> Option<&Arriving> {
        match &self.current.as_ref()?.stage {
            Stage::Checkpointing { arriving, .. } | Stage::Renaming { arriving, .. } => Some(arriving),
            Stage::Waiting | Stage::Copying | Stage::Resting(_) | Stage::Closing(_) => None,
        }
    }

    /// Whether names are being changed, which must not be left half done without need.
    pub(crate) fn is_renaming(&self) -> bool {
        self.current.as_ref().is_some_and(|current| matches!(current.stage, Stage::Renaming { .. }))
    }

    /// Gives up the move of a partition, unless its log is closed; the copy that can be removed at once.
    fn forget(&mut self, key: PartitionKey) -> Option<FilePath> {
        self.queue.retain(|&queued| queued != key);
        let current = self.current.take_if(|current| current.key == key && !current.is_closed())?;
        if matches!(current.stage, Stage::Copying) {
            self.forgotten.insert(current.id, current.future);
            return None;
        }
        Some(current.future)
    }
}

impl Move {
    fn is_closed(&self) -> bool {
        match self.stage {
            Stage::Waiting | Stage::Copying | Stage::Resting(_) => false,
            Stage::Closing(_) | Stage::Checkpointing { .. } | Stage::Renaming { .. } => true,
        }
    }
}

impl Node {
    /// Begins to move a partition, or to do so when those before it have moved.
    pub(crate) fn request_move(&mut self, key: PartitionKey, target: LogDir) -> ErrorCode {
        let Some(partition) = self.partitions.by_key(key) else {
            return ErrorCode::UnknownTopicOrPartition;
        };
        // The name of a copy must tell whose it is, or the next start could not go on with its move.
        if partition.name.to_string().len() + FUTURE_NAME_LEN > NAME_MAX {
            return ErrorCode::InvalidTopicException;
        }
        if partition.is_offline() {
            return ErrorCode::KafkaStorageError;
        }
        let log_dir = partition.log_dir;
        if self.log_dirs.state(target).is_some_and(|state| state.moves.has(key)) {
            return ErrorCode::None;
        }
        for log_dir in self.log_dirs.online().collect::<Vec<_>>() {
            let forgotten = self.log_dirs.state_mut(log_dir).and_then(|state| state.moves.forget(key));
            self.remove_in_background(forgotten);
            self.start_next_move(log_dir);
        }
        // Its log may be closed to change its place by now.
        if log_dir == target && !self.is_moving(key) {
            self.mark_for_cleaning(key);
            return ErrorCode::None;
        }
        // As in Kafka: a copy might be left in a log dir that cannot be read, and nobody knew.
        if self.log_dirs.for_partitions().any(|(_, state)| state.offline.is_some()) {
            return ErrorCode::KafkaStorageError;
        }
        if let Some(state) = self.log_dirs.state_mut(target) {
            state.moves.queue.push_back(key);
            self.start_next_move(target);
        }
        ErrorCode::None
    }

    /// Begins the moves anew that did not end before the node did.
    pub(crate) fn resume_moves(&mut self, copies: Vec<(LogDir, String)>) {
        for (log_dir, directory) in copies {
            let key = moving_partition(&directory).and_then(|name| {
                let topic_id = self.image().topic(&name.topic)?.id;
                self.partitions.key(topic_id, name.partition.0)
            });
            let resumed = key.map(|key| self.request_move(key, log_dir));
            let log_dir = self.log_dirs.name(log_dir);
            match resumed {
                Some(ErrorCode::None) => {
                    tracing::info!(directory, log_dir, "the move of a partition begins anew");
                }
                Some(error) => {
                    tracing::warn!(directory, log_dir, %error, "the move of a partition is given up");
                }
                None => {}
            }
        }
    }

    /// Whether a partition is on its way to some log dir.
    pub(crate) fn is_moving(&self, key: PartitionKey) -> bool {
        self.log_dirs.usable().any(|(_, state)| state.moves.is_current(key))
    }

    /// Copies where that is due.
    pub(crate) fn go_on_with_moves(&mut self) {
        let now = self.now.instant;
        for log_dir in self.log_dirs.online().collect::<Vec<_>>() {
            let next = self.log_dirs.state(log_dir).and_then(|state| state.moves.next_timeout());
            if next.is_some_and(|next| next <= now) {
                self.copy_piece(log_dir);
            }
        }
    }

    /// A log was opened, or is gone, or is not being compacted any more: its move goes on, or ends.
    pub(crate) fn go_on_with_move_of(&mut self, key: PartitionKey) {
        for log_dir in self.log_dirs.online().collect::<Vec<_>>() {
            let current = self.log_dirs.state(log_dir).and_then(|state| state.moves.current.as_ref());
            let Some(current) = current.filter(|current| current.key == key) else { continue };
            if matches!(current.stage, Stage::Waiting | Stage::Resting(_)) {
                self.copy_piece(log_dir);
            }
        }
    }

    /// What may be copied in a second was changed: where it is waited for, it is waited for no longer.
    pub(crate) fn hurry_moves(&mut self) {
        let now = self.now.instant;
        for log_dir in self.log_dirs.online().collect::<Vec<_>>() {
            if self.log_dirs.state(log_dir).is_some_and(|state| state.moves.next_timeout().is_some()) {
                self.enter(log_dir, Stage::Resting(now));
            }
        }
    }

    fn start_next_move(&mut self, target: LogDir) {
        loop {
            let uuid = self.rng.uuid();
            let Some(state) = self.log_dirs.state_mut(target) else { return };
            if state.moves.current.is_some() {
                return;
            }
            let Some(key) = state.moves.queue.pop_front() else { return };
            let Some(partition) = self.partitions.by_key_mut(key) else { continue };
            let name = partition.name.to_string();
            match partition.state() {
                State::Offline(_) => continue,
                State::Closed(None) => {
                    partition.log_dir = target;
                    self.tell_log_dirs();
                    continue;
                }
                State::Online(log) if !log.has_files() && log.end_offset() == Offset::ZERO => {
                    let moved = Log::create(target.path(&name), log.topic_id(), log.config().clone());
                    partition.log_dir = target;
                    partition.open(moved);
                    self.tell_log_dirs();
                    continue;
                }
                State::Closed(Some(_)) | State::Opening | State::Online(_) => {}
            }
            let future = target.path(&format!("{name}.{}{FUTURE_SUFFIX}", uuid.simple()));
            tracing::info!(partition = name, log_dir = &*state.name, "a move to another log dir begins");
            state.moves.last_id += 1;
            let id = MoveId(state.moves.last_id);
            let stage = Stage::Waiting;
            state.moves.current = Some(Move { id, key, future, copied: 0, catch_ups: 0, stage });
            self.open_log(key);
            return self.copy_piece(target);
        }
    }

    /// Copies a piece, as soon as the log is open and is not being compacted.
    fn copy_piece(&mut self, target: LogDir) {
        let Some(current) = self.log_dirs.state(target).and_then(|state| state.moves.current.as_ref()) else {
            return;
        };
        let (id, key, future) = (current.id, current.key, current.future.clone());
        let (stage, job) = match self.partitions.by_key(key).map(|partition| partition.state()) {
            Some(State::Online(_)) if self.cleaner.is_cleaning(key) => (Stage::Waiting, None),
            Some(State::Online(log)) => (Stage::Copying, Some(CopyLog::piece(log, future))),
            Some(State::Opening | State::Closed(_)) => (Stage::Waiting, None),
            Some(State::Offline(_)) | None => return self.give_up_move(target, "the partition is gone"),
        };
        self.enter(target, stage);
        if let Some(job) = job {
            self.start_job(JobPurpose::Move(target, id), DiskJob::Copy(Box::new(job)));
        }
    }

    /// A step of a move is done.
    pub(crate) fn on_copied(&mut self, target: LogDir, id: MoveId, copied: Copied) {
        if self.is_forgotten(target, id) {
            return;
        }
        let rate = u64::try_from(self.config.value(broker::REPLICA_ALTER_LOG_DIRS_RATE));
        let pause = copied.bytes.saturating_mul(1000) / rate.unwrap_or(u64::MAX).max(1);
        let next = self.now.after(Duration::from_millis(pause));
        let is_serving = matches!(self.phase, Phase::Serving);
        let current = self.log_dirs.state_mut(target).and_then(|state| state.moves.current.as_mut());
        let Some(current) = current else { return };
        current.copied += copied.bytes;
        match &current.stage {
            Stage::Renaming { .. } => self.finish_move(target),
            // What is not renamed yet is not renamed any more: the next start begins anew.
            _ if !is_serving => {}
            Stage::Closing(arriving) => {
                let arriving = arriving.clone();
                self.enter(target, Stage::Checkpointing { arriving, begun: false });
                self.write_checkpoints_for_move(target);
            }
            Stage::Copying => {
                current.catch_ups += u32::from(copied.is_complete);
                let is_close = copied.is_complete && copied.bytes <= LAST_BYTES_MAX;
                let (key, is_enough) = (current.key, is_close || current.catch_ups >= CATCH_UPS_MAX);
                if self.partitions.by_key(key).is_none_or(|partition| partition.log().is_none()) {
                    self.give_up_move(target, "the partition is gone");
                } else if is_enough {
                    self.close_moving_log(target);
                } else {
                    self.enter(target, Stage::Resting(next));
                }
            }
            Stage::Waiting | Stage::Resting(_) | Stage::Checkpointing { .. } => {
                unreachable!("nothing is being copied")
            }
        }
    }

    /// Closes the log, and has the rest of it copied. The partition goes on under another number, so that nothing
    /// that is under way for it so far counts; whoever waits for it goes on waiting.
    fn close_moving_log(&mut self, target: LogDir) {
        let Some(Move { id, key, future, .. }) =
            self.log_dirs.state(target).and_then(|state| state.moves.current.as_ref())
        else {
            return;
        };
        let (id, key, future) = (*id, *key, future.clone());
        let Some(mut partition) = self.partitions.remove(key) else { return };
        let Some(log) = partition.log_mut() else { return };
        let mut ops = Vec::new();
        log.close(&mut ops);
        self.effects.extend(ops.into_iter().map(Effect::Disk));
        let Some(log) = partition.log() else { return };
        let name = partition.name.clone();
        let checkpoints = self.log_dirs.state(partition.log_dir).map(|state| &state.checkpoints);
        let arriving = Arriving {
            clean_to: checkpoints.and_then(|checkpoints| checkpoints.clean_to(&name)),
            name,
            known: KnownLog {
                clean: true,
                recovery_point: Some(log.end_offset()),
                start_offset: Some(log.start_offset()),
                durable_to: None,
                cleaned: log.has_gaps().then(|| log.recovery_point()),
            },
        };
        // Where it is, not all of it may be durable.
        let stays =
            KnownLog { clean: false, recovery_point: Some(log.recovery_point()), ..arriving.known.clone() };
        let job = CopyLog::rest(log, future);
        let key = self.renumber(&partition, stays);
        if let Some(added) = self.partitions.by_key_mut(key) {
            added.take_over_waiters(&mut partition);
            let known = added.begin_opening().flatten();
            self.note_opening(key, known);
        }
        if let Some(current) = self.log_dirs.state_mut(target).and_then(|state| state.moves.current.as_mut())
        {
            current.key = key;
            current.stage = Stage::Closing(arriving);
        }
        self.start_job(JobPurpose::Move(target, id), DiskJob::Copy(Box::new(job)));
    }

    /// Has the target's checkpoints tell of the log before it has its name there: where it starts, and what of it is
    /// durable.
    fn write_checkpoints_for_move(&mut self, target: LogDir) {
        let Some(state) = self.log_dirs.state_mut(target) else { return };
        let is_being_written = state.checkpoints.is_being_written();
        if let Some(Move { stage: Stage::Checkpointing { begun, .. }, .. }) = &mut state.moves.current {
            *begun = !is_being_written;
        }
        if !is_being_written {
            self.write_checkpoints(target, JobPurpose::Checkpoint(target), None);
        }
    }

    /// The checkpoints of a log dir are durable: if a move waited for them, names can be changed.
    pub(crate) fn on_checkpoint_for_move(&mut self, target: LogDir) {
        let Some(state) = self.log_dirs.state(target) else { return };
        let Some(Move { id, key, future, stage, .. }) = &state.moves.current else { return };
        let Stage::Checkpointing { arriving, begun } = stage else { return };
        if !begun {
            return self.write_checkpoints_for_move(target);
        }
        let (id, key, copy, arriving) = (*id, *key, future.clone(), arriving.clone());
        let partition = self.partitions.by_key(key).filter(|partition| !partition.is_offline());
        let Some(partition) = partition else {
            return self.give_up_move(target, "the partition is gone");
        };
        let name = arriving.name.to_string();
        let source = partition.log_dir;
        let from = source.path(&name);
        let swap = Swap {
            old: set_aside::deleted(&from, self.rng.uuid()),
            from,
            copy,
            to: target.path(&name),
            beside: [source.path(META_PROPERTIES), target.path(META_PROPERTIES)],
        };
        self.enter(target, Stage::Renaming { arriving, old: swap.old.clone() });
        self.start_job(JobPurpose::Move(target, id), DiskJob::Copy(Box::new(CopyLog::swap(swap))));
    }

    /// The copy has the log's name: open it.
    fn finish_move(&mut self, target: LogDir) {
        let Some(state) = self.log_dirs.state_mut(target) else { return };
        let Some(Move { key, stage: Stage::Renaming { arriving, old }, .. }) = state.moves.current.take()
        else {
            return;
        };
        let offline = state.offline.clone();
        if let (None, Some(clean_to)) = (&offline, arriving.clean_to) {
            state.checkpoints.set_clean_to(arriving.name.clone(), clean_to);
        }
        let log_dir = state.name.clone();
        self.remove_in_background(Some(old));
        let Some(partition) = self.partitions.by_key_mut(key) else {
            self.on_deleted_log_moved(key, target);
            return self.start_next_move(target);
        };
        tracing::info!(partition = %arriving.name, log_dir = &*log_dir, "moved to another log dir");
        let source = std::mem::replace(&mut partition.log_dir, target);
        self.forget_clean_to(source, &arriving.name);
        self.note_opening(key, Some(arriving.known));
        if let Some(reason) = offline {
            return self.take_offline(key, format!("the log dir {log_dir} failed: {reason}"));
        }
        if !matches!(self.phase, Phase::Serving) {
            return self.end_when_flushed();
        }
        self.open_again(key);
        self.tell_log_dirs();
        self.start_next_move(target);
    }

    /// A step of a move failed.
    pub(crate) fn on_move_failed(&mut self, target: LogDir, id: MoveId, why: &str) {
        if !self.is_forgotten(target, id) {
            self.give_up_move(target, why);
        }
        self.end_when_flushed();
    }

    /// The target's checkpoints cannot be written.
    pub(crate) fn on_no_checkpoint_for_move(&mut self, target: LogDir) {
        let current = self.log_dirs.state(target).and_then(|state| state.moves.current.as_ref());
        if current.is_some_and(|current| matches!(current.stage, Stage::Checkpointing { .. })) {
            self.give_up_move(target, "the checkpoints of the log dir cannot be written");
        }
    }

    /// A log dir failed: what moves there stays where it is. What is being renamed does not until that has ended, for
    /// its directory might be renamed after it was opened again.
    pub(crate) fn give_up_moves(&mut self, target: LogDir) {
        let Some(state) = self.log_dirs.state_mut(target) else { return };
        state.moves.queue.clear();
        if !state.moves.is_renaming() {
            self.give_up_move(target, "the log dir failed");
        }
    }

    /// Whether something was done for a move that was given up; then its copy goes now.
    fn is_forgotten(&mut self, target: LogDir, id: MoveId) -> bool {
        let Some(state) = self.log_dirs.state_mut(target) else { return true };
        let forgotten = state.moves.forgotten.remove(&id).filter(|_| state.offline.is_none());
        let is_current = state.moves.current.as_ref().is_some_and(|current| current.id == id);
        self.remove_in_background(forgotten);
        !is_current
    }

    /// A move ends where it began.
    fn give_up_move(&mut self, target: LogDir, why: &str) {
        let Some(state) = self.log_dirs.state_mut(target) else { return };
        let Some(current) = state.moves.current.take() else { return };
        let is_online = state.offline.is_none();
        tracing::warn!(log_dir = &*state.name, why, "a move to another log dir is given up");
        let (key, is_closed) = (current.key, current.is_closed());
        let stays = self.partitions.by_key(key).is_none_or(|partition| !partition.is_offline());
        if let Stage::Renaming { arriving, .. } = &current.stage
            && is_online
            && stays
        {
            // Whether the copy has its name is not known: another must not find it there.
            let path = target.path(&arriving.name.to_string());
            self.effects.push(Effect::Disk(Op::Remove { path }));
        }
        self.remove_in_background(Some(current.future).filter(|_| is_online));
        if is_closed && stays {
            self.open_again(key);
        }
        self.mark_for_cleaning(key);
        self.start_next_move(target);
    }

    fn enter(&mut self, target: LogDir, stage: Stage) {
        if let Some(current) = self.log_dirs.state_mut(target).and_then(|state| state.moves.current.as_mut())
        {
            current.stage = stage;
        }
    }

    /// Removes a directory off the loop, for there may be much in it.
    pub(crate) fn remove_in_background(&mut self, directory: Option<FilePath>) {
        let Some(path) = directory else { return };
        let job = ChangeFiles::new(vec![Op::Remove { path }]);
        self.start_job(JobPurpose::Purge, DiskJob::Change(Box::new(job)));
    }
}

/// Whose copy a directory is.
fn moving_partition(directory: &str) -> Option<TopicPartition> {
    let (partition, _) = directory.strip_suffix(FUTURE_SUFFIX)?.rsplit_once('.')?;
    let (topic, index) = partition.rsplit_once('-')?;
    Some(TopicPartition::new(topic.to_owned(), index.parse::<i32>().ok()?))
}
