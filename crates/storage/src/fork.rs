//! A fork: a log of its own that begins with what another one has, up to some offset, and shares its files.
//!
//! Segments that end at or below that offset are shared by links, with their indexes. Of the one that it divides the
//! part below is copied, up to the end of a batch. What the fork changes are files of its own: the segment that is
//! appended to, which begins where the fork leaves its source, and the checkpoint of the leader epochs.
//!
//! It is safe to share a file that nobody changes in place, and nobody does that to a segment but the one that is
//! appended to: compaction and recovery write new files, retention and deletion take a name away. So the source begins
//! a new segment first, and what is shared is durable before it gets its second name.
//!
//! A transaction that is open where the fork leaves its source will never end in the fork, since its producer knows
//! nothing of it. It is therefore aborted there, by a marker: else `read_committed` consumers could read nothing of
//! what comes after its beginning. Of the producers themselves the fork knows nothing: to whoever writes to it, it is
//! a partition that he never wrote to, in which he begins with sequence 0.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use dohle_configs::TopicConfig;
use dohle_records::control::control_batch;
use dohle_records::{BatchOptions, BuildError, ControlRecordType, EndTxnMarker};
use dohle_types::{LeaderEpoch, Now, Offset, ProducerEpoch, ProducerId, Sequence, TopicId};

use crate::append::{Codecs, Origin};
use crate::checkpoint::{self, LEADER_EPOCH_CHECKPOINT, PARTITION_METADATA};
use crate::disk::{FilePath, Op};
use crate::epochs::LeaderEpochs;
use crate::index::IndexEntry;
use crate::log::Log;
use crate::open::{INDEX_SUFFIXES, OpenError, Opener, Opening};
use crate::read::{ReadError, start};
use crate::script::Disk;
use crate::segment::{LOG_SUFFIX, SNAPSHOT_SUFFIX, Segment, TXN_INDEX_SUFFIX, file};
use crate::txn_index::AbortedTxn;
use crate::walk::SegmentView;

/// Bytes that are copied at a time.
const COPY_SIZE: u64 = 1 << 20;

/// What a fork is to be.
#[derive(Debug, Clone)]
pub struct ForkTo {
    /// Its directory, in the log dir of the source.
    pub dir: FilePath,
    /// The id of its topic.
    pub topic_id: TopicId,
    /// Its configs.
    pub config: Arc<TopicConfig>,
    /// The epoch of its first leader, later than those of the source.
    pub leader_epoch: LeaderEpoch,
    /// Where it leaves the source; `None` for where the source ends.
    pub at: Option<Offset>,
}

/// How a fork is made of the files of a log. It can be made again as long as that log is as it was.
#[derive(Debug, Clone)]
pub struct ForkLog {
    to: ForkTo,
    now: Now,
    source: FilePath,
    start: Offset,
    /// Where it leaves the source, unless it divides a segment.
    end: Offset,
    has_gaps: bool,
    epochs: LeaderEpochs,
    snapshots: BTreeSet<Offset>,
    shared: Vec<Segment>,
    divided: Option<SegmentView>,
    /// What must be durable before it is shared.
    unsynced: Vec<FilePath>,
}

/// A fork that is there, all of it durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkedLog {
    /// Its first offset.
    pub start: Offset,
    /// Its end: where it leaves the source, and after that the markers of transactions that were open there.
    pub end: Offset,
}

/// Why there is no fork.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForkError {
    /// The source's files were removed or replaced meanwhile: it can be tried again.
    #[error("segments of {dir} were removed or replaced while they were shared; try again")]
    Changed {
        /// The source's directory.
        dir: FilePath,
    },
    /// The source is damaged where the fork divides a segment.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What the files hold makes no log.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An open transaction could not be aborted.
    #[error("the transaction of producer {producer_id}, which is open there, cannot be aborted: {reason}")]
    Abort {
        /// Whose transaction.
        producer_id: ProducerId,
        /// What the log says.
        reason: String,
    },
}

impl Log {
    /// Begins a fork: what it shares of the segment that is appended to is closed. `None` where it would be a log that
    /// nobody wrote to.
    pub fn begin_fork(&mut self, now: Now, to: ForkTo, ops: &mut Vec<Op>) -> Option<ForkLog> {
        let end = to.at.unwrap_or(self.end).clamp(self.start, self.end);
        if end == Offset::ZERO {
            return None;
        }
        if end == self.end && self.files.exist {
            self.roll(now.wall, ops);
            // In its place, lest the one before it were taken for the one to append to after a crash.
            self.create_active_file(ops);
        }
        let mut fork = ForkLog {
            now,
            source: self.dir.clone(),
            start: self.start,
            end,
            has_gaps: self.has_gaps,
            epochs: self.epochs.clone(),
            snapshots: self.snapshots.range(..=end).copied().collect(),
            shared: Vec::new(),
            divided: None,
            unsynced: vec![self.active.log_path.clone()],
            to,
        };
        for (index, segment) in self.segments.iter().enumerate().skip(self.first_visible()) {
            let segment_end = self.segment_end(index);
            if segment.base >= end || segment.size == 0 {
                continue;
            }
            if segment_end >= self.recovery_point() {
                let suffixes = [LOG_SUFFIX].into_iter().chain(INDEX_SUFFIXES);
                fork.unsynced.extend(suffixes.map(|suffix| file(&self.dir, segment.base, suffix)));
            }
            if segment_end <= end {
                fork.shared.push(*segment);
            } else {
                fork.divided = Some(SegmentView::new(&self.dir, segment));
            }
        }
        Some(fork)
    }

    /// Forgets the producers, and ends the transactions that are open.
    fn leave_source(&mut self, now: Now, epoch: LeaderEpoch, ops: &mut Vec<Op>) -> Result<(), ForkError> {
        self.producers.forget_batches();
        self.roll(now.wall, ops);
        // The source's knows all producers.
        self.snapshots.remove(&self.end);
        self.take_snapshot(ops);
        self.create_active_file(ops);
        let open = self.producers.iter().map(|(id, state)| (id, state.epoch, state.coordinator_epoch));
        for (producer_id, producer_epoch, coordinator_epoch) in open.collect::<Vec<_>>() {
            let refused = |reason| ForkError::Abort { producer_id, reason };
            let marker = abort_marker(now, producer_id, producer_epoch, coordinator_epoch);
            let marker = marker.map_err(|error| refused(error.to_string()))?;
            self.append(now, marker, Origin::Coordinator, epoch, &mut Codecs::default(), ops)
                .map_err(|error| refused(error.to_string()))?;
        }
        self.close(ops);
        Ok(())
    }
}

fn abort_marker(
    now: Now,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    coordinator_epoch: i32,
) -> Result<Bytes, BuildError> {
    let options = BatchOptions {
        producer_id,
        producer_epoch,
        base_sequence: Sequence(-1),
        transactional: true,
        ..BatchOptions::default()
    };
    let marker = EndTxnMarker::new(coordinator_epoch.max(0)).to_bytes();
    control_batch(options, now.wall, &[(ControlRecordType::Abort, &marker)])
}

impl ForkLog {
    /// How much of it is copied at most; all else is shared.
    #[must_use]
    pub fn bytes_to_copy(&self) -> u64 {
        self.divided.as_ref().map_or(0, |segment| u64::from(segment.size))
    }

    /// Makes the fork; what an earlier attempt left in its directory goes.
    ///
    /// # Errors
    /// There is no fork, but there may be files in its directory.
    pub async fn run(&self, disk: &Disk) -> Result<ForkedLog, ForkError> {
        disk.apply(Op::Remove { path: self.to.dir.clone() }).await;
        for path in &self.unsynced {
            disk.sync(path).await;
        }
        let copied = match &self.divided {
            Some(segment) => self.copy(disk, segment).await?,
            None => None,
        };
        // Where the segment begins that is the fork's own.
        let base = self.divided.as_ref().map_or(self.end, |segment| match copied {
            Some(_) => segment.base,
            None => segment.base.max(self.start),
        });
        self.share(disk, base).await;
        self.check_shared(disk).await?;
        if copied.is_none() {
            self.write(disk, &format!("{:020}{LOG_SUFFIX}", base.0), Bytes::new()).await;
        }
        let opening = Opening {
            dir: self.to.dir.clone(),
            topic_id: self.to.topic_id,
            config: self.to.config.clone(),
            // What was copied is read, and gets indexes of its own.
            clean: copied.is_none(),
            recovery_point: Some(if copied.is_none() { base } else { base.plus(1) }),
            start_offset: Some(self.start),
            cleaned: self.has_gaps.then_some(self.end),
            durable_to: None,
            now: self.now,
        };
        let mut log = Opener { disk: disk.clone(), opening }.open().await?;
        if log.is_end_lost {
            let (path, position) = (log.active.log_path.clone(), u64::from(log.active_segment().size));
            let reason = "the last records of the part that was copied cannot be read".to_owned();
            return Err(ReadError::Corrupt { path, position, reason }.into());
        }
        if copied.is_some_and(|length| u64::from(log.active_segment().size) != length) {
            return Err(self.changed());
        }
        let mut ops = Vec::new();
        log.leave_source(self.now, self.to.leader_epoch, &mut ops)?;
        for op in ops {
            disk.apply(op).await;
        }
        let written =
            log.begin_flush().into_iter().flat_map(|work| work.paths().cloned().collect::<Vec<_>>());
        let first = [PARTITION_METADATA, LEADER_EPOCH_CHECKPOINT].map(|name| self.path(name));
        for path in first.into_iter().chain(written) {
            disk.sync(&path).await;
        }
        Ok(ForkedLog { start: log.start, end: log.end })
    }

    /// Copies what lies below the end of the segment that it divides; how many bytes that are, `None` where it is
    /// nothing that can be read.
    async fn copy(&self, disk: &Disk, segment: &SegmentView) -> Result<Option<u64>, ForkError> {
        let visible = segment.find_offset(disk, self.start).await;
        let first = start(disk, segment, visible).await?.next_at(self.start).await?;
        if first.is_none_or(|first| first.header.last_offset() >= self.end) {
            return Ok(None);
        }
        let entry = segment.find_offset(disk, self.end).await;
        let above = start(disk, segment, entry).await?.next_at(self.end).await?;
        let length = above.map_or(u64::from(segment.size), |above| above.position);
        let to = file(&self.to.dir, segment.base, LOG_SUFFIX);
        copy(disk, &segment.log_path(), to.clone(), length).await;
        disk.sync(&to).await;
        Ok(Some(length))
    }

    /// Gives the files that are shared their second names, and writes what the fork begins with.
    async fn share(&self, disk: &Disk, own_base: Offset) {
        let metadata = checkpoint::format_partition_metadata(self.to.topic_id);
        self.write(disk, PARTITION_METADATA, metadata.into()).await;
        let mut epochs = self.epochs.clone();
        epochs.truncate_from_end(own_base);
        let epochs = checkpoint::format_epochs(epochs.entries());
        self.write(disk, LEADER_EPOCH_CHECKPOINT, epochs.into()).await;
        for segment in &self.shared {
            for suffix in [LOG_SUFFIX].into_iter().chain(INDEX_SUFFIXES) {
                self.link(disk, segment.base, suffix).await;
            }
        }
        for &offset in self.snapshots.range(..=own_base) {
            self.link(disk, offset, SNAPSHOT_SUFFIX).await;
        }
    }

    async fn link(&self, disk: &Disk, offset: Offset, suffix: &str) {
        let (from, to) = (file(&self.source, offset, suffix), file(&self.to.dir, offset, suffix));
        disk.apply(Op::Link { from, to }).await;
    }

    /// Checks that all is there that the source had: it may have removed or replaced some of it meanwhile.
    async fn check_shared(&self, disk: &Disk) -> Result<(), ForkError> {
        let entries = disk.list(&self.to.dir).await;
        let lengths: BTreeMap<&str, u64> =
            entries.iter().map(|entry| (entry.name.as_str(), entry.length)).collect();
        let has = |segment: &Segment, suffix: &str, length: u64| {
            lengths.get(format!("{:020}{suffix}", segment.base.0).as_str()) == Some(&length)
        };
        let aborted_bytes = |segment: &Segment| u64::from(segment.aborted_txns) * AbortedTxn::SIZE as u64;
        let is_whole = self.shared.iter().all(|segment| {
            has(segment, LOG_SUFFIX, u64::from(segment.size))
                && (segment.aborted_txns == 0 || has(segment, TXN_INDEX_SUFFIX, aborted_bytes(segment)))
        });
        if is_whole { Ok(()) } else { Err(self.changed()) }
    }

    async fn write(&self, disk: &Disk, name: &str, data: Bytes) {
        disk.apply(Op::Write { path: self.path(name), position: 0, data }).await;
    }

    fn path(&self, name: &str) -> FilePath {
        format!("{}/{name}", self.to.dir).into()
    }

    fn changed(&self) -> ForkError {
        ForkError::Changed { dir: self.source.clone() }
    }
}

/// Puts a file of its own in the place of one that has other names, with the first `length` bytes of it.
pub(crate) async fn own_copy(disk: &Disk, path: &FilePath, length: u64) {
    let beside: FilePath = format!("{path}.tmp").into();
    disk.apply(Op::Write { path: beside.clone(), position: 0, data: Bytes::new() }).await;
    copy(disk, path, beside.clone(), length).await;
    disk.sync(&beside).await;
    disk.apply(Op::Rename { from: beside, to: path.clone() }).await;
}

/// Copies the beginning of a file.
async fn copy(disk: &Disk, from: &FilePath, to: FilePath, length: u64) {
    let mut position = 0;
    while position < length {
        let wanted = usize::try_from((length - position).min(COPY_SIZE)).unwrap_or(usize::MAX);
        let Some(data) = disk.read(from, position, wanted).await.filter(|data| !data.is_empty()) else {
            return;
        };
        let read = data.len() as u64;
        disk.apply(Op::Write { path: to.clone(), position, data }).await;
        position += read;
    }
}
