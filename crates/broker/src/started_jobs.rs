//! The jobs that the node has under way off the loop: what each is for, and where its result goes.

use dohle_storage::SyncPoint;
use dohle_storage::disk::{DiskError, LogDir};
use dohle_types::Offset;

use crate::boot_facts::BootFacts;
use crate::handlers;
use crate::host::{DiskJob, Effect, JobOutput, JobToken};
use crate::moves::MoveId;
use crate::node::{Node, Phase};
use crate::partition::{Partition, PartitionKey};
use crate::purgatory::ParkedId;
use crate::trash_files::TrashFacts;

/// A job under way.
#[derive(Debug)]
pub(crate) struct StartedJob {
    pub(crate) purpose: JobPurpose,
    /// The partition it reads the files of, and the generation of its log when it began.
    reads: Option<(PartitionKey, u32)>,
}

/// What is to be done when a job is finished.
#[derive(Debug, Clone)]
pub(crate) enum JobPurpose {
    /// Go on booting, with what a log dir says about itself.
    Boot(LogDir),
    /// Go on booting, with log dirs that were new.
    FormatLogDirs,
    /// Go on booting, with what is in the trash.
    ReadTrash,
    /// Go on booting, with nothing left of forks that were not finished.
    RemoveUnfinished,
    /// Go on booting, with logs that have what the journal of their log dir had.
    ReplayJournal(LogDir),
    /// Use the journal of a log dir, in which nothing is left that logs lack.
    EraseJournal(LogDir),
    /// Delete topics whose manifests are written.
    Delete(Box<handlers::k20_delete_topics::Deletion>),
    /// Make a topic of a fork whose files are made.
    Fork(Box<handlers::k20002_fork_topic::Forking>),
    /// Nothing in the commit journal is needed any more for a topic in the trash.
    Settle(LogDir),
    /// Nothing: what was in the trash is gone.
    Purge,
    /// Go on booting with the newest snapshot of the metadata.
    LoadSnapshot,
    /// Take note of a new snapshot of the metadata.
    WriteSnapshot,
    /// Put the partition online.
    OpenPartition(PartitionKey),
    /// Go on loading a ledger from its log, with what is there from the offset on.
    LoadLedger(PartitionKey, Offset),
    /// Go on with a fetch.
    Fetch(ParkedId, crate::fetch_session::FetchKey),
    /// Go on with a fetch whose aborted transactions were looked for.
    FetchAborted(ParkedId, crate::fetch_session::FetchKey),
    /// Go on with a look-up of offsets, for the partition at this place of the response.
    ListOffsets(ParkedId, (usize, usize)),
    /// Go on with the lag of a group, for the partition at this place.
    GroupLag(ParkedId, usize),
    /// Go on with the move of a partition to a log dir.
    Move(LogDir, MoveId),
    /// Go on with the scrub of a log dir.
    Scrub(LogDir),
    /// Go on compacting a log.
    Clean(PartitionKey),
    /// Go on with a checkpoint of a log dir, once all is in the files that these syncs cover.
    Flush(LogDir, Vec<(PartitionKey, SyncPoint)>),
    /// A checkpoint of a log dir.
    Checkpoint(LogDir),
    /// Its last checkpoint before the end.
    LastCheckpoint(LogDir),
}

impl Node {
    /// Runs a job off the loop.
    pub(crate) fn start_job(&mut self, purpose: JobPurpose, job: DiskJob) {
        self.start(StartedJob { purpose, reads: None }, job);
    }

    /// Runs a job off the loop that reads the files of a partition's segments.
    pub(crate) fn start_read(&mut self, key: PartitionKey, purpose: JobPurpose, job: DiskJob) {
        let log = self.partitions.by_key(key).and_then(Partition::log);
        let reads = log.map(|log| (key, log.generation()));
        self.start(StartedJob { purpose, reads }, job);
    }

    fn start(&mut self, started: StartedJob, job: DiskJob) {
        self.next_job += 1;
        let token = JobToken(self.next_job);
        let in_background = self.is_in_background(&started.purpose);
        self.jobs.insert(token, started);
        self.effects.push(Effect::Start { token, job, in_background });
    }

    /// Whether nobody waits for a job.
    fn is_in_background(&self, purpose: &JobPurpose) -> bool {
        match purpose {
            JobPurpose::OpenPartition(key) => self.openings.is_in_background(*key),
            JobPurpose::Purge
            | JobPurpose::Settle(_)
            | JobPurpose::WriteSnapshot
            | JobPurpose::Scrub(_)
            | JobPurpose::Clean(_)
            | JobPurpose::Move(..)
            | JobPurpose::EraseJournal(_)
            | JobPurpose::Flush(..) => true,
            // Partitions may wait for a checkpoint (`checkpoints.rs`), and it is short.
            JobPurpose::Checkpoint(_)
            | JobPurpose::LastCheckpoint(_)
            | JobPurpose::Boot(_)
            | JobPurpose::FormatLogDirs
            | JobPurpose::ReadTrash
            | JobPurpose::ReplayJournal(_)
            | JobPurpose::Delete(_)
            | JobPurpose::LoadSnapshot
            | JobPurpose::LoadLedger(..)
            | JobPurpose::Fetch(..)
            | JobPurpose::FetchAborted(..)
            | JobPurpose::Fork(_)
            | JobPurpose::RemoveUnfinished
            | JobPurpose::ListOffsets(..)
            | JobPurpose::GroupLag(..) => false,
        }
    }

    /// Whether compaction has replaced segments under a job that reads them, or the log is gone or elsewhere.
    pub(crate) fn is_outdated(&self, job: &StartedJob) -> bool {
        job.reads.is_some_and(|(key, generation)| {
            let log = self.partitions.by_key(key).and_then(Partition::log);
            log.is_none_or(|log| log.generation() != generation)
        })
    }

    /// What a job has read may be of a segment that is not there any more: whoever wanted it asks again.
    pub(crate) fn on_read_outdated(&mut self, purpose: JobPurpose) {
        if let JobPurpose::Fetch(id, key) | JobPurpose::FetchAborted(id, key) = purpose {
            handlers::k01_fetch::on_outdated(self, id, &key);
        } else if let JobPurpose::ListOffsets(id, place) = purpose {
            handlers::k02_list_offsets::on_outdated(self, id, place);
        } else if let JobPurpose::GroupLag(id, place) = purpose {
            handlers::k20011_group_lag::on_outdated(self, id, place);
        } else if let JobPurpose::LoadLedger(key, from) = purpose {
            self.load_ledger(key, from);
        } else if let JobPurpose::Scrub(log_dir) = purpose {
            self.on_scrub_outdated(log_dir);
        } else {
            unreachable!("a job for {purpose:?} reads no segments in place");
        }
    }

    pub(crate) fn on_job_done(&mut self, purpose: JobPurpose, output: JobOutput) {
        match (purpose, output) {
            (JobPurpose::Clean(key), JobOutput::Clean(piece)) => self.on_cleaned(key, *piece),
            (JobPurpose::Boot(log_dir), JobOutput::Boot(facts)) => self.on_boot_facts(log_dir, *facts),
            (JobPurpose::ReadTrash, JobOutput::ReadTrash(facts)) => self.on_trash_read(*facts),
            (JobPurpose::RemoveUnfinished, JobOutput::Change(_)) => self.replay_journals(),
            (JobPurpose::ReplayJournal(log_dir), JobOutput::ReplayJournal(replayed)) => {
                self.on_journal_replayed(log_dir, &replayed);
            }
            (JobPurpose::EraseJournal(log_dir), JobOutput::EraseJournal(_)) => {
                self.on_journal_erased(log_dir);
            }
            (JobPurpose::Delete(deletion), JobOutput::Checkpoint(_)) => {
                handlers::k20_delete_topics::on_manifests_written(self, *deletion);
            }
            (JobPurpose::Fork(forking), JobOutput::Fork(forked)) => {
                handlers::k20002_fork_topic::on_forked(self, *forking, *forked);
            }
            (JobPurpose::Settle(log_dir), JobOutput::SyncDirectory(_)) => self.on_trash_settled(log_dir),
            (JobPurpose::Purge, JobOutput::Change(_)) => {}
            (JobPurpose::FormatLogDirs, JobOutput::Checkpoint(_)) => self.load_snapshot(),
            (JobPurpose::LoadSnapshot, JobOutput::LoadSnapshot(loaded)) => self.on_snapshot_loaded(*loaded),
            (JobPurpose::WriteSnapshot, JobOutput::WriteSnapshot(written)) => {
                self.on_snapshot_written(*written)
            }
            (JobPurpose::OpenPartition(key), JobOutput::Open(opened)) => self.on_log_opened(key, *opened),
            (JobPurpose::LoadLedger(key, from), JobOutput::ColdRead(batches)) => {
                self.on_ledger_piece(key, from, *batches)
            }
            (JobPurpose::Fetch(id, key), JobOutput::ColdRead(batches)) => {
                handlers::k01_fetch::on_cold_read(self, id, key, *batches);
            }
            (JobPurpose::FetchAborted(id, key), JobOutput::FindAborted(aborted)) => {
                handlers::k01_fetch::on_aborted_found(self, id, key, *aborted);
            }
            (JobPurpose::ListOffsets(id, place), JobOutput::FindTimestamp(found)) => {
                handlers::k02_list_offsets::on_found(self, id, place, *found);
            }
            (JobPurpose::GroupLag(id, place), JobOutput::FindTimestamp(found)) => {
                handlers::k20011_group_lag::on_found(self, id, place, *found);
            }
            (JobPurpose::Move(target, id), JobOutput::Copy(copied)) => self.on_copied(target, id, *copied),
            (JobPurpose::Scrub(log_dir), JobOutput::Scrub(scrubbed)) => self.on_scrubbed(log_dir, *scrubbed),
            (JobPurpose::Flush(log_dir, points), JobOutput::Sync(_)) => {
                for (key, point) in points {
                    self.on_synced(key, point, Partition::on_flushed);
                }
                self.on_flushed_for_checkpoint(log_dir);
            }
            (JobPurpose::Checkpoint(log_dir), JobOutput::Checkpoint(_)) => {
                self.on_checkpoint_written(log_dir);
                self.end_when_flushed();
            }
            (JobPurpose::LastCheckpoint(log_dir), JobOutput::Checkpoint(_)) => {
                self.on_last_checkpoint(log_dir);
            }
            (purpose, output) => unreachable!("a job for {purpose:?} gave {output:?}"),
        }
    }

    /// A job failed, and its log dir with it unless there was no room: what it was for cannot be.
    pub(crate) fn on_job_failed(&mut self, purpose: JobPurpose, error: &DiskError) {
        if matches!(self.phase, Phase::Stopped) {
            return;
        }
        match purpose {
            JobPurpose::Boot(log_dir) => {
                let meta = Err(error.to_string());
                self.on_boot_facts(log_dir, BootFacts { meta, ..BootFacts::default() });
            }
            JobPurpose::FormatLogDirs | JobPurpose::LoadSnapshot => self.fail_to_boot(error.to_string()),
            JobPurpose::WriteSnapshot => self.on_snapshot_failed(),
            JobPurpose::Clean(key) => self.on_cleaning_failed(key),
            // The partition is offline with its log dir, which is what the request is told.
            JobPurpose::Fetch(id, key) => handlers::k01_fetch::on_cold_read(self, id, key, Ok(Vec::new())),
            JobPurpose::FetchAborted(id, key) => {
                handlers::k01_fetch::on_aborted_found(self, id, key, Vec::new());
            }
            JobPurpose::ListOffsets(id, place) => handlers::k02_list_offsets::on_failed(self, id, place),
            JobPurpose::GroupLag(id, _) => handlers::k20011_group_lag::on_failed(self, id),
            // What is in the trash stays there, and is known again after the next start.
            JobPurpose::ReadTrash => self.on_trash_read(TrashFacts::default()),
            JobPurpose::RemoveUnfinished => self.replay_journals(),
            JobPurpose::ReplayJournal(log_dir) => self.on_journal_not_replayed(log_dir, error),
            JobPurpose::Delete(deletion) => handlers::k20_delete_topics::on_no_room(self, *deletion),
            JobPurpose::Fork(forking) => handlers::k20002_fork_topic::on_failed(self, &forking, error),
            // The log dir is offline.
            JobPurpose::Settle(log_dir) => self.on_trash_settled(log_dir),
            JobPurpose::Purge => {}
            JobPurpose::OpenPartition(key) if error.is_full => self.on_no_room_to_open(key, error),
            JobPurpose::Move(target, id) => self.on_move_failed(target, id, &error.to_string()),
            JobPurpose::OpenPartition(_) | JobPurpose::LoadLedger(..) | JobPurpose::Scrub(_) => {}
            // The log dir is offline, and will have no checkpoint any more.
            JobPurpose::Flush(..) => {}
            JobPurpose::EraseJournal(log_dir) => self.on_journal_not_erased(log_dir),
            JobPurpose::Checkpoint(log_dir) => {
                self.on_checkpoint_failed(log_dir);
                self.end_when_flushed();
            }
            JobPurpose::LastCheckpoint(log_dir) => self.on_last_checkpoint(log_dir),
        }
    }
}
