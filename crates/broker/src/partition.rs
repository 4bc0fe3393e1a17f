//! One partition on this node: its log, how far it is committed, and who waits for that.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use dohle_configs::Durability;
use dohle_storage::disk::{LogDir, Op};
use dohle_storage::{AppendError, Appended, Codecs, Log, LogId, Origin, SyncPoint, SyncWork};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, LeaderEpoch, Now, Offset, TopicId, TopicPartition};

use crate::boot_facts::KnownLog;
use crate::host::Effect;
use crate::metrics::Traffic;
use crate::purgatory::ParkedId;

/// A partition by its number on this node; never reused while the process lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartitionKey(pub u32);

/// Who else wants to know that a partition was committed further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tenant {
    /// Nobody: it holds users' records.
    None,
    /// The controller: it is the metadata log.
    Metadata,
    /// The group coordinator: it is this partition of `__consumer_offsets`.
    Groups(i32),
    /// The transaction coordinator: it is this partition of `__transaction_state`.
    Transactions(i32),
}

/// Whether a partition can serve.
#[derive(Debug)]
pub enum State {
    /// Its log is not open, for nobody asked for it: this is known of its directory, `None` where there is none.
    Closed(Option<KnownLog>),
    /// Its log is being opened, and recovered if need be.
    Opening,
    /// It serves.
    Online(Box<Log>),
    /// Its log cannot be used; it stays so until the process is started again.
    Offline(String),
}

/// An append that waits to be acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiter {
    /// The log's end after the append.
    pub end: Offset,
    /// The produce request.
    pub parked: ParkedId,
    /// The place of the partition in its response.
    pub place: (usize, usize),
}

/// A partition of this node.
#[derive(Debug)]
pub struct Partition {
    /// Its number on this node.
    pub key: PartitionKey,
    /// Its name, by which its directory is called.
    pub name: TopicPartition,
    /// The log dir that its directory is in.
    pub log_dir: LogDir,
    /// Its topic's id.
    pub topic_id: TopicId,
    /// The term of this node as its leader.
    pub leader_epoch: LeaderEpoch,
    /// When an append counts as committed.
    pub durability: Durability,
    /// Who is told of commits.
    pub tenant: Tenant,
    /// Fetches that wait for more.
    pub fetches: BTreeSet<ParkedId>,
    /// How many producers its log knew when they were last counted.
    pub(crate) producers: usize,
    /// What was appended and fetched since the process was started.
    pub traffic: Traffic,
    state: State,
    high_watermark: Offset,
    /// The log's end as far as the files have it.
    written: Offset,
    sync_in_flight: bool,
    /// Since when something is in the files for which no sync was begun.
    unflushed_since: Option<Instant>,
    /// In the order of their ends.
    until_written: VecDeque<Waiter>,
    until_committed: VecDeque<Waiter>,
}

/// What a completed write or sync changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Appends to acknowledge.
    pub acknowledged: Vec<Waiter>,
    /// Whether the high watermark moved.
    pub committed: bool,
}

impl Partition {
    /// A partition whose log is still to be opened, or is there already.
    #[must_use]
    pub fn new(
        key: PartitionKey,
        name: TopicPartition,
        log_dir: LogDir,
        topic_id: TopicId,
        leader_epoch: LeaderEpoch,
        durability: Durability,
        tenant: Tenant,
    ) -> Self {
        Self {
            key,
            name,
            log_dir,
            topic_id,
            leader_epoch,
            durability,
            tenant,
            fetches: BTreeSet::new(),
            producers: 0,
            traffic: Traffic::default(),
            state: State::Closed(None),
            high_watermark: Offset::ZERO,
            written: Offset::ZERO,
            sync_in_flight: false,
            unflushed_since: None,
            until_written: VecDeque::new(),
            until_committed: VecDeque::new(),
        }
    }

    /// Its log waits until somebody asks for it.
    pub(crate) fn close(&mut self, known: Option<KnownLog>) {
        self.state = State::Closed(known);
    }

    /// Its log is being opened from now on. What is known of its directory; `None` where it was not closed.
    pub(crate) fn begin_opening(&mut self) -> Option<Option<KnownLog>> {
        let State::Closed(known) = &mut self.state else { return None };
        let known = known.take();
        self.state = State::Opening;
        Some(known)
    }

    /// Begins to serve `log`. On a single node everything that a log holds when it is opened is committed: the appends
    /// to acknowledge, where some were taken over.
    pub fn open(&mut self, log: Log) -> Vec<Waiter> {
        self.high_watermark = log.end_offset();
        self.written = log.end_offset();
        self.state = State::Online(Box::new(log));
        let mut acknowledged = Vec::new();
        release(&mut self.until_written, self.written, &mut acknowledged);
        release(&mut self.until_committed, self.high_watermark, &mut acknowledged);
        acknowledged
    }

    /// Takes over who waits for another incarnation of this partition, whose log it will open as it is.
    pub fn take_over_waiters(&mut self, other: &mut Self) {
        self.fetches.append(&mut other.fetches);
        self.until_written.append(&mut other.until_written);
        self.until_committed.append(&mut other.until_committed);
    }

    /// Ends serving, for the reason given. A sync that is under way is none of its any more.
    pub fn take_offline(&mut self, reason: String) {
        self.state = State::Offline(reason);
        self.sync_in_flight = false;
    }

    /// Whether its log cannot be used.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        matches!(self.state, State::Offline(_))
    }

    /// What clients are told while there is no log to serve.
    #[must_use]
    pub fn unavailable(&self) -> ErrorCode {
        if self.is_offline() { ErrorCode::KafkaStorageError } else { ErrorCode::NotLeaderOrFollower }
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The log, where it serves.
    #[must_use]
    pub fn log(&self) -> Option<&Log> {
        match &self.state {
            State::Online(log) => Some(log),
            State::Closed(_) | State::Opening | State::Offline(_) => None,
        }
    }

    /// The log, where it serves.
    pub fn log_mut(&mut self) -> Option<&mut Log> {
        match &mut self.state {
            State::Online(log) => Some(log),
            State::Closed(_) | State::Opening | State::Offline(_) => None,
        }
    }

    /// Whether nothing was ever written to it.
    #[must_use]
    pub fn is_new(&self) -> bool {
        matches!(self.state, State::Closed(None))
    }

    /// What is known of the directory of a log that is closed; `None` where it has none, or is not closed.
    #[must_use]
    pub fn known(&self) -> Option<&KnownLog> {
        if let State::Closed(known) = &self.state { known.as_ref() } else { None }
    }

    /// The end of what is committed: consumers read below it.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The end of what `read_committed` consumers read (KIP-98).
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        self.log().map_or(self.high_watermark, |log| log.last_stable_offset(self.high_watermark))
    }

    /// Appends one produced record set and asks for it to be written.
    ///
    /// # Errors
    /// As [`Log::append`]; `None` where the partition does not serve.
    pub fn append(
        &mut self,
        now: Now,
        records: Bytes,
        origin: Origin,
        codecs: &mut Codecs,
        effects: &mut Vec<Effect>,
    ) -> Result<Appended, Option<AppendError>> {
        let (leader_epoch, partition) = (self.leader_epoch, self.key);
        let log = self.log_mut().ok_or(None)?;
        let mut ops: Vec<Op> = Vec::new();
        let appended = log.append(now, records, origin, leader_epoch, codecs, &mut ops)?;
        effects.extend(ops.into_iter().map(Effect::Disk));
        if !appended.duplicate {
            self.traffic.appended_bytes += appended.bytes as u64;
            let records = appended.next_offset.0 - appended.first_offset.0;
            self.traffic.appended_records += u64::try_from(records).unwrap_or_default();
            effects.push(Effect::Written { partition, end: appended.next_offset });
        }
        Ok(appended)
    }

    /// Whether everything below `end` is in the files.
    #[must_use]
    pub fn is_written(&self, end: Offset) -> bool {
        self.written >= end
    }

    /// Whether everything below `end` is committed.
    #[must_use]
    pub fn is_committed(&self, end: Offset) -> bool {
        self.high_watermark >= end
    }

    /// Has an append acknowledged once it is in the files (acks=1).
    pub fn acknowledge_when_written(&mut self, waiter: Waiter) {
        self.until_written.push_back(waiter);
    }

    /// Has an append acknowledged once it is committed (acks=all).
    pub fn acknowledge_when_committed(&mut self, waiter: Waiter) {
        self.until_committed.push_back(waiter);
    }

    /// Everything below `end` is in the files now.
    pub fn on_written(&mut self, now: Now, end: Offset, effects: &mut Vec<Effect>) -> Progress {
        let mut progress = Progress::default();
        if self.is_offline() {
            return progress;
        }
        self.written = self.written.max(end);
        self.unflushed_since.get_or_insert(now.instant);
        release(&mut self.until_written, self.written, &mut progress.acknowledged);
        self.commit_written(&mut progress, effects);
        progress
    }

    /// The sync under way is done: what it covers survives power loss now.
    pub fn on_synced(&mut self, point: SyncPoint, effects: &mut Vec<Effect>) -> Progress {
        if self.is_offline() {
            return Progress::default();
        }
        if let Some(log) = self.log_mut() {
            log.synced(point);
        }
        self.after_sync(point, effects)
    }

    /// What all syncs up to this one cover is durable in the log's own files; that may end the sync under way.
    pub fn on_flushed(&mut self, point: SyncPoint, effects: &mut Vec<Effect>) -> Progress {
        if !self.is_offline() && self.log_mut().is_some_and(|log| log.flushed(point)) {
            return self.after_sync(point, effects);
        }
        Progress::default()
    }

    fn after_sync(&mut self, point: SyncPoint, effects: &mut Vec<Effect>) -> Progress {
        let mut progress = Progress::default();
        self.sync_in_flight = false;
        self.commit(point.end, &mut progress);
        // What was appended while the sync ran is the next group.
        self.commit_written(&mut progress, effects);
        progress
    }

    /// Commits what is in the files, or asks for the sync that it has to wait for.
    fn commit_written(&mut self, progress: &mut Progress, effects: &mut Vec<Effect>) {
        let is_flush_due = || self.log().is_some_and(is_flush_due);
        if self.durability == Durability::Durable || is_flush_due() {
            self.begin_sync(effects);
        } else {
            self.commit(self.written, progress);
            // As Kafka does when it has rolled a segment.
            self.flush_if_awaited(effects);
        }
    }

    /// Asks for a flush where compaction or retention waits for one.
    pub fn flush_if_awaited(&mut self, effects: &mut Vec<Effect>) {
        if self.log().is_some_and(Log::awaits_flush) {
            self.begin_flush(effects);
        }
    }

    /// When what is in the files is to be flushed by `flush.ms`, though nobody waits for it.
    #[must_use]
    pub fn flush_at(&self) -> Option<Instant> {
        let flush_ms = self.log()?.config().flush_ms;
        if self.durability == Durability::Durable || flush_ms == i64::MAX {
            return None;
        }
        let wait = Duration::from_millis(u64::try_from(flush_ms).unwrap_or_default());
        Some(self.unflushed_since?.saturating_add(wait))
    }

    /// Asks for a sync of what is in the files and not yet durable, where none is under way.
    pub fn begin_sync(&mut self, effects: &mut Vec<Effect>) {
        match (self.tenant, self.durability) {
            // The journal is replayed by what the metadata log says.
            (Tenant::Metadata, _) => self.begin_flush(effects),
            (Tenant::None | Tenant::Groups(_) | Tenant::Transactions(_), Durability::Durable) => {
                self.begin(Log::begin_sync, effects)
            }
            // Nobody waits for it, so that it is not worth being written twice.
            (Tenant::None | Tenant::Groups(_) | Tenant::Transactions(_), Durability::Relaxed) => {
                self.begin_flush(effects)
            }
        }
    }

    /// As [`Partition::begin_sync`], into the log's own files.
    pub fn begin_flush(&mut self, effects: &mut Vec<Effect>) {
        self.begin(Log::begin_flush, effects);
    }

    /// As [`Partition::begin_flush`], but the caller sees to it. Where an earlier sync is in the commit journal alone,
    /// whose files only the commit cycle knows, that is asked instead.
    pub fn flush(&mut self, effects: &mut Vec<Effect>) -> Option<SyncWork> {
        if self.log()?.is_flushed() {
            self.work(Log::begin_flush)
        } else {
            self.begin_flush(effects);
            None
        }
    }

    fn begin(&mut self, begin: fn(&mut Log) -> Option<SyncWork>, effects: &mut Vec<Effect>) {
        let (partition, topic_id, index) = (self.key, self.topic_id, self.name.partition);
        let of = LogId { topic_id, partition: index };
        effects.extend(self.work(begin).map(|work| Effect::Sync { partition, of, work }));
    }

    fn work(&mut self, begin: fn(&mut Log) -> Option<SyncWork>) -> Option<SyncWork> {
        if self.sync_in_flight {
            return None;
        }
        self.unflushed_since = None;
        let work = self.log_mut().and_then(begin)?;
        self.sync_in_flight = true;
        Some(work)
    }

    /// Whether a sync is under way.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        self.sync_in_flight
    }

    /// All appends that will never be acknowledged, for the partition is going away.
    pub fn abandon_waiters(&mut self) -> Vec<Waiter> {
        self.until_written.drain(..).chain(self.until_committed.drain(..)).collect()
    }

    fn commit(&mut self, end: Offset, progress: &mut Progress) {
        if end > self.high_watermark {
            self.high_watermark = end;
            progress.committed = true;
        }
        release(&mut self.until_committed, self.high_watermark, &mut progress.acknowledged);
    }
}

/// Whether `flush.messages` records are not on the disk yet, so that the last of them has to wait for that.
fn is_flush_due(log: &Log) -> bool {
    log.end_offset().0 - log.durable_offset().0 >= log.config().flush_messages
}

fn release(waiting: &mut VecDeque<Waiter>, end: Offset, released: &mut Vec<Waiter>) {
    while let Some(waiter) = waiting.pop_front_if(|waiter| waiter.end <= end) {
        released.push(waiter);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dohle_configs::TopicConfig;
    use dohle_records::{BatchBuilder, BatchOptions};
    use dohle_types::Timestamp;

    use super::*;

    #[test]
    fn only_the_commit_cycle_flushes_what_it_has_in_its_journal() {
        let name = TopicPartition::new("orders", 0);
        let (id, epoch) = (TopicId::default(), LeaderEpoch(0));
        let mut partition = Partition::new(
            PartitionKey(1),
            name,
            LogDir::FIRST,
            id,
            epoch,
            Durability::Durable,
            Tenant::None,
        );
        partition.open(Log::create("orders-0".into(), id, Arc::new(TopicConfig::default())));
        let now = Now { instant: Duration::ZERO, wall: Timestamp(0) };
        let append = |partition: &mut Partition| {
            let mut batch = BatchBuilder::new(BatchOptions::default());
            batch.append(now.wall, None, Some(b"an order"), &[]).unwrap();
            let mut codecs = Codecs::default();
            let records = batch.build(&mut codecs.compressor).unwrap();
            let mut effects = Vec::new();
            let appended =
                partition.append(now, records, Origin::Coordinator, &mut codecs, &mut effects).unwrap();
            effects.clear();
            partition.on_written(now, appended.next_offset, &mut effects);
            effects
        };
        let sync = |effects: Vec<Effect>| match <[Effect; 1]>::try_from(effects) {
            Ok([Effect::Sync { work, .. }]) => work,
            other => panic!("{other:?}"),
        };
        let journaled = sync(append(&mut partition));
        assert!(!journaled.in_files);
        partition.on_synced(journaled.point, &mut Vec::new());
        partition.durability = Durability::Relaxed;
        append(&mut partition);
        let mut effects = Vec::new();
        assert!(partition.flush(&mut effects).is_none());
        let flushed = sync(effects);
        assert!(flushed.in_files);
        partition.on_flushed(flushed.point, &mut Vec::new());
        append(&mut partition);
        let mut effects = Vec::new();
        let last = partition.flush(&mut effects).unwrap();
        assert_eq!((last.point.end, effects.len()), (Offset(3), 0));
    }
}
