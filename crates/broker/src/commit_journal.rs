//! What the commit journals mean to the node: at start each log is given back what only a journal has of it. That is made
//! durable, and the journal erased, while the node serves; until then the journal is not used. What is replaced in a
//! log's files lies below the recovery point that its checkpoint durably has.
//!
//! The metadata log is in no journal: it tells which logs there are.

use std::collections::BTreeMap;

use dohle_storage::LogId;
use dohle_storage::disk::{FilePath, LogDir};
use dohle_storage::journal::{EraseJournal, GivenBack, Piece, ReplayJournal};
use dohle_types::{Offset, TopicPartition};

use crate::boot_facts::{BootFacts, meta_properties};
use crate::host::{DiskJob, Effect};
use crate::node::{Node, Phase};
use crate::set_aside;
use crate::started_jobs::JobPurpose;

impl Node {
    /// The job that gives logs back what only the journal of a log dir has of them, and the journal's files; `None` where
    /// it has no journal.
    pub(crate) fn replay_journal(
        &mut self,
        log_dir: LogDir,
        facts: &mut BTreeMap<LogDir, BootFacts>,
    ) -> Option<(ReplayJournal, Vec<FilePath>)> {
        let journal = std::mem::take(&mut facts.get_mut(&log_dir)?.journal);
        if journal.files.is_empty() {
            return None;
        }
        let trash = self.trash.directories_in(log_dir);
        let mut logs = Vec::new();
        for (id, pieces) in journal.logs {
            let mut elsewhere = Vec::new();
            let (dir, known) = match trash.get(&id) {
                Some(there) => {
                    self.trash.note_durable(id, end_of(&pieces));
                    there.clone()
                }
                None => match self.owner(id, log_dir, facts) {
                    Some(name) => {
                        let dir = log_dir.path(&name.to_string());
                        elsewhere = directories_elsewhere(&name, log_dir, facts);
                        (dir, note_journaled(id, &name, &pieces, facts.get_mut(&log_dir)?))
                    }
                    None => match self.trash.take_in(id, log_dir) {
                        Some(there) => there,
                        // It was deleted for good.
                        None => continue,
                    },
                },
            };
            let aside = set_aside::stray(&dir, self.rng.uuid());
            logs.push(GivenBack { dir, id, elsewhere, aside, known, pieces });
        }
        Some((ReplayJournal::new(logs), journal.files))
    }

    /// Has the journals erased that were replayed, and the others used. Logs are recovered in the background after that,
    /// so that one sync of everything leaves theirs little to do.
    pub(crate) fn erase_journals(&mut self, mut replayed: BTreeMap<LogDir, Vec<FilePath>>) {
        for log_dir in self.log_dirs.online().collect::<Vec<_>>() {
            let Some(journal) = replayed.remove(&log_dir) else {
                self.effects.push(Effect::UseJournal { log_dir });
                continue;
            };
            if let Some(state) = self.log_dirs.state_mut(log_dir) {
                state.is_erasing_journal = true;
            }
            let job = EraseJournal::new(log_dir, journal, meta_properties(log_dir));
            self.start_job(JobPurpose::EraseJournal(log_dir), DiskJob::EraseJournal(Box::new(job)));
        }
        if !self.is_erasing_journals() {
            self.begin_recovery();
        }
    }

    /// Whether a journal is being erased.
    pub(crate) fn is_erasing_journals(&self) -> bool {
        let mut online = self.log_dirs.online();
        online.any(|log_dir| self.log_dirs.state(log_dir).is_some_and(|state| state.is_erasing_journal))
    }

    /// Nothing is in the journal of a log dir any more that its logs lack.
    pub(crate) fn on_journal_erased(&mut self, log_dir: LogDir) {
        self.effects.push(Effect::UseJournal { log_dir });
        self.on_journal_not_erased(log_dir);
    }

    /// The log dir has failed, and keeps its journal until the next start.
    pub(crate) fn on_journal_not_erased(&mut self, log_dir: LogDir) {
        if let Some(state) = self.log_dirs.state_mut(log_dir) {
            state.is_erasing_journal = false;
        }
        if matches!(self.phase, Phase::Serving) && !self.is_erasing_journals() {
            self.begin_recovery();
        }
        self.end_when_flushed();
    }

    /// The partition that a journal has records of, unless its log is in another log dir, as the metadata log has it too:
    /// it was flushed before it was moved there.
    fn owner(
        &self,
        id: LogId,
        log_dir: LogDir,
        facts: &BTreeMap<LogDir, BootFacts>,
    ) -> Option<TopicPartition> {
        let topic = self.image().topic_by_id(id.topic_id)?;
        let name = TopicPartition { topic: topic.name.clone(), partition: id.partition };
        topic.partitions.get(&id.partition)?;
        let directory = name.to_string();
        let is_in = |facts: &BootFacts| facts.directories.contains(&directory);
        let is_elsewhere = !facts.get(&log_dir).is_some_and(is_in) && facts.values().any(is_in);
        (!is_elsewhere || self.log_dir_for(&name) == log_dir).then_some(name)
    }
}

/// Directories of a partition's name in other log dirs, where there is none in this one. The metadata log may not know
/// yet that the log is in one of them.
fn directories_elsewhere(
    name: &TopicPartition,
    log_dir: LogDir,
    facts: &BTreeMap<LogDir, BootFacts>,
) -> Vec<FilePath> {
    let name = name.to_string();
    if facts.get(&log_dir).is_some_and(|facts| facts.directories.contains(&name)) {
        return Vec::new();
    }
    let others = facts.iter().filter(|(_, facts)| facts.directories.contains(&name));
    others.map(|(other, _)| other.path(&name)).collect()
}

/// Takes note of what the journal has of a log; up to where the log's files have everything.
fn note_journaled(id: LogId, name: &TopicPartition, pieces: &[Piece], facts: &mut BootFacts) -> Offset {
    let recovery_point = facts.recovery_points.get(name).copied().unwrap_or_default();
    let known = recovery_point.max(facts.log_start_offsets.get(name).copied().unwrap_or_default());
    let durable_to = end_of(pieces);
    if durable_to <= known {
        return known;
    }
    // A power loss may have taken the name of the directory.
    facts.directories.insert(name.to_string());
    facts.durable_to.insert(id, durable_to);
    known
}

fn end_of(pieces: &[Piece]) -> Offset {
    pieces.iter().map(|piece| piece.end).max().unwrap_or_default()
}
