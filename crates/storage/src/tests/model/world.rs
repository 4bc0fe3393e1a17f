//! The log, the disk that it is on, and the host between them: what a broker does around a log, with faults.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dohle_configs::TopicConfig;
use dohle_types::{LeaderEpoch, Now, Offset, Rng, Timestamp};

use super::checks::Query;
use super::expected::Expected;
use super::ops::Fault;
use crate::disk::{Answer, DiskError, FilePath, Job, Op as DiskOp, Step as DiskStep, drive};
use crate::memory_disk::{MemoryDisk, SyncUnderWay};
use crate::{Codecs, ColdRead, Log, Opening, SyncPoint};

pub(super) const DIR: &str = "orders-0";

/// The log, what it must hold, and everything around it.
pub(super) struct World {
    pub(super) expected: Expected,
    pub(super) log: Log,
    pub(super) disk: MemoryDisk,
    pub(super) codecs: Codecs,
    pub(super) config: TopicConfig,
    pub(super) relaxed: bool,
    pub(super) high_watermark: Offset,
    pub(super) epoch: LeaderEpoch,
    pub(super) now_ms: u64,
    /// What the checkpoint files say.
    pub(super) recovery_point: Option<Offset>,
    pub(super) checkpointed_start: Option<Offset>,
    pub(super) syncing: Option<(Vec<SyncUnderWay>, SyncPoint)>,
    /// A read whose job has not run yet.
    pub(super) reading: Option<(ColdRead, Query)>,
    pub(super) broken: Option<(Fault, u32)>,
    pub(super) flip: Option<Flip>,
    /// A bit of a time index or of a batch flipped: the log may take a segment for older or newer than it is.
    pub(super) ages_unsure: bool,
    /// A bit of a batch flipped, perhaps of its leader epoch, which its CRC does not cover.
    pub(super) epochs_unsure: bool,
    /// A bit of a batch flipped, perhaps of its producer, and recovery believed it.
    pub(super) producers_unsure: bool,
    pub(super) dice: Rng,
    pub(super) seen: Seen,
    story: Option<Story>,
}

/// What happened, line by line; whoever reads it does so though the log panicked.
pub(super) type Story = Arc<Mutex<Vec<String>>>;

/// A bit of a `.log` file that differs from what was written.
#[derive(Clone, Debug)]
pub(super) struct Flip {
    pub(super) path: FilePath,
    pub(super) position: usize,
    pub(super) bit: u8,
    /// The first offset of the batch it is in.
    pub(super) base: Offset,
    /// It is in the leader epoch, which no CRC covers.
    pub(super) is_in_epoch: bool,
}

macro_rules! seen {
    ($($name:ident,)*) => {
        /// How often things came about that a run must bring about.
        #[derive(Clone, Copy, Debug, Default)]
        pub(super) struct Seen {
            $(pub(super) $name: u64,)*
        }

        impl Seen {
            pub(super) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// What did not come about.
            pub(super) fn never(&self) -> Vec<&'static str> {
                let all = [$((stringify!($name), self.$name),)*];
                all.into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
            }
        }
    };
}

seen! {
    appended,
    duplicates,
    refused,
    rolled,
    hot_reads,
    cold_reads,
    reads_gone,
    segments_deleted,
    killed,
    power_lost,
    lost_batches,
    recoveries_interrupted,
    clean_restarts,
    disk_errors,
    flips,
    damage_reported,
}

/// The process is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Killed,
    PowerLost,
    /// The disk refused, and the node stopped.
    Failed,
}

impl World {
    pub(super) fn new(lies: bool, story: Option<Story>) -> Self {
        let mut disk = MemoryDisk::default();
        disk.lies = lies;
        let config = TopicConfig {
            segment_bytes: 1000,
            index_interval_bytes: 200,
            file_delete_delay_ms: 0,
            ..TopicConfig::default()
        };
        Self {
            expected: Expected::default(),
            log: Log::create(DIR.into(), super::super::node::topic_id(), config.clone().into()),
            disk,
            codecs: Codecs::default(),
            config,
            relaxed: false,
            high_watermark: Offset::ZERO,
            epoch: LeaderEpoch(0),
            now_ms: 0,
            recovery_point: None,
            checkpointed_start: None,
            syncing: None,
            reading: None,
            broken: None,
            flip: None,
            ages_unsure: false,
            epochs_unsure: false,
            producers_unsure: false,
            dice: Rng::from_seed(0),
            seen: Seen::default(),
            story,
        }
    }

    pub(super) fn now(&self) -> Now {
        let wall = Timestamp(1_000_000 + i64::try_from(self.now_ms).unwrap());
        Now { instant: Duration::from_millis(self.now_ms), wall }
    }

    pub(super) fn opening(&self, clean: bool) -> Opening {
        Opening {
            cleaned: None,
            durable_to: None,
            dir: DIR.into(),
            topic_id: super::super::node::topic_id(),
            config: self.config.clone().into(),
            clean,
            recovery_point: self.recovery_point,
            start_offset: self.checkpointed_start,
            now: self.now(),
        }
    }

    /// Carries out what the log wants written.
    pub(super) fn change_all(&mut self, ops: Vec<DiskOp>) -> Result<(), Ended> {
        ops.iter().try_for_each(|op| self.change(op))?;
        self.expected.written = self.log.end_offset();
        self.commit();
        Ok(())
    }

    /// The high watermark follows what is in the files, or what is durable.
    pub(super) fn commit(&mut self) {
        let committed = if self.relaxed { self.expected.written } else { self.expected.durable };
        self.high_watermark = self.high_watermark.max(committed);
    }

    /// Whether the next access of a kind is the one at which something breaks.
    fn breaks(&mut self, kinds: &[Fault]) -> Option<Fault> {
        let (fault, left) = self.broken.as_mut().filter(|(fault, _)| kinds.contains(fault))?;
        match left.checked_sub(1) {
            Some(less) => {
                *left = less;
                None
            }
            None => {
                let fault = *fault;
                self.broken = None;
                Some(fault)
            }
        }
    }

    pub(super) fn tell(&self, line: impl FnOnce() -> String) {
        if let Some(story) = &self.story {
            story.lock().unwrap().push(line());
        }
    }

    fn change(&mut self, op: &DiskOp) -> Result<(), Ended> {
        self.tell(|| match op {
            DiskOp::Write { path, position, data } => {
                format!("    write {} bytes at {position} of {path}", data.len())
            }
            DiskOp::Allocate { .. }
            | DiskOp::Truncate { .. }
            | DiskOp::Link { .. }
            | DiskOp::Rename { .. }
            | DiskOp::Remove { .. } => format!("    {op:?}"),
        });
        let fault = self.breaks(&[Fault::Killed, Fault::PowerLost, Fault::WriteFails, Fault::DiskFull]);
        if fault == Some(Fault::DiskFull) {
            let used: usize = self.disk.files().values().map(|content| content.len()).sum();
            self.disk.capacity = Some(used + usize::try_from(self.dice.below(300)).unwrap());
        } else if let Some(fault) = fault {
            if let DiskOp::Write { path, position, data } = op {
                let part = usize::try_from(self.dice.below(data.len() as u64 + 1)).unwrap();
                let part =
                    DiskOp::Write { path: path.clone(), position: *position, data: data.slice(..part) };
                let _ = self.disk.apply(&part);
            }
            return Err(match fault {
                Fault::Killed => Ended::Killed,
                Fault::PowerLost => Ended::PowerLost,
                Fault::WriteFails | Fault::ReadFails | Fault::SyncFails | Fault::DiskFull => Ended::Failed,
            });
        }
        self.disk.apply(op).map_err(|_: DiskError| Ended::Failed)
    }

    /// Makes files durable that are given as a sync under way.
    pub(super) fn finish_sync(&mut self, syncs: Vec<SyncUnderWay>) -> Result<(), Ended> {
        let failing = self.breaks(&[Fault::SyncFails]).is_some();
        self.tell(|| format!("    sync {} files, failing: {failing}", syncs.len()));
        let failing = failing.then(|| usize::try_from(self.dice.below(syncs.len().max(1) as u64)).unwrap());
        for (index, sync) in syncs.into_iter().enumerate() {
            if Some(index) == failing {
                self.disk.fail_sync(sync, &mut self.dice);
                return Err(Ended::Failed);
            }
            self.disk.finish_sync(sync);
        }
        Ok(())
    }

    /// Runs a job; `None` where the node ended before it did.
    pub(super) fn run<J: Job>(&mut self, mut job: J) -> Result<J::Output, Ended> {
        let mut ended = Ended::Failed;
        let result = drive(&mut job, |step| {
            self.perform(step).map_err(|how| {
                ended = how;
                let (path, reason) = (FilePath::from(DIR), "the node ended".to_owned());
                DiskError { operation: "drive", path, reason, is_full: false }
            })
        });
        result.map_err(|_| ended)
    }

    fn perform(&mut self, step: DiskStep) -> Result<Answer, Ended> {
        match step {
            DiskStep::Apply(op) => self.change(&op)?,
            DiskStep::Sync { path } => {
                let sync = self.disk.begin_sync(&path);
                self.finish_sync(sync.into_iter().collect())?;
            }
            DiskStep::SyncAll { .. } => {
                let syncs = self.disk.files().into_keys().filter_map(|path| self.disk.begin_sync(&path));
                self.finish_sync(syncs.collect())?;
            }
            DiskStep::Replace { path, data } => {
                for op in crate::memory_disk::replacement(&path, &data) {
                    self.change(&op)?;
                    self.disk.sync(&crate::memory_disk::temporary(&path));
                }
                let sync = self.disk.begin_sync(&path);
                self.finish_sync(sync.into_iter().collect())?;
            }
            DiskStep::List { .. } | DiskStep::Read { .. } => {
                if self.breaks(&[Fault::ReadFails]).is_some() {
                    return Err(Ended::Failed);
                }
                return self.disk.perform(&step).map_err(|_| Ended::Failed);
            }
        }
        Ok(Answer::Done)
    }

    /// The process is gone, and everything with it that was in its memory.
    pub(super) fn end(&mut self, how: Ended) -> Ended {
        self.syncing = None;
        self.reading = None;
        self.broken = None;
        self.disk.capacity = None;
        self.seen.disk_errors += u64::from(how == Ended::Failed);
        let how = match how {
            Ended::Failed if self.dice.chance(1, 2) => Ended::Killed,
            Ended::Failed | Ended::PowerLost => Ended::PowerLost,
            Ended::Killed => Ended::Killed,
        };
        if how == Ended::PowerLost {
            self.seen.power_lost += 1;
            self.disk.lose_power(&mut self.dice);
        } else {
            self.seen.killed += 1;
        }
        self.tell(|| {
            let lengths = self.disk.files().into_iter().map(|(path, content)| (path, content.len()));
            format!("    {how:?}, which leaves {:?}", lengths.collect::<Vec<_>>())
        });
        how
    }

    /// Flips the bit back. A file that was removed may come back with it.
    pub(super) fn restore(&mut self) {
        let disk = &mut self.disk;
        self.flip.take_if(|flip| disk.flip_bit(&flip.path, flip.position, flip.bit));
    }
}
