//! A disk in memory that never fails.

use std::collections::BTreeMap;

use bytes::Bytes;
use dohle_storage::disk::{Answer, Entry, FilePath, Job, Op, Step, drive};

/// No file of an input grows beyond this: a write further out would be a finding.
const FILE_BYTES_MAX: usize = 64 << 20;

/// Files by path.
#[derive(Clone, Default)]
pub struct Disk {
    /// What they hold.
    pub files: BTreeMap<FilePath, Vec<u8>>,
}

impl Disk {
    /// Changes files.
    pub fn apply(&mut self, op: Op) {
        match op {
            Op::Write { path, position, data } => {
                let content = self.files.entry(path).or_default();
                let from = usize::try_from(position).unwrap();
                let end = from + data.len();
                assert!(end <= FILE_BYTES_MAX, "a file of {end} bytes");
                content.resize(content.len().max(end), 0);
                content[from..end].copy_from_slice(&data);
            }
            Op::Allocate { path, .. } => {
                self.files.entry(path).or_default();
            }
            Op::Truncate { path, length } => {
                if let Some(content) = self.files.get_mut(&path) {
                    content.truncate(usize::try_from(length).unwrap());
                }
            }
            Op::Link { from, to } => {
                if let Some(content) = self.files.get(&from).cloned() {
                    self.files.insert(to, content);
                }
            }
            Op::Rename { from, to } => {
                for (path, content) in self.take(&from) {
                    self.files.insert(format!("{to}{}", &path[from.len()..]).into(), content);
                }
            }
            Op::Remove { path } => drop(self.take(&path)),
        }
    }

    /// Runs a job to its end.
    pub fn run<J: Job>(&mut self, job: &mut J) -> J::Output {
        drive(job, |step| Ok(self.perform(step))).expect("this disk has no faults")
    }

    fn perform(&mut self, step: Step) -> Answer {
        match step {
            Step::List { path } => Answer::Listed(self.list(&path)),
            Step::Read { path, position, length } => Answer::Read(self.files.get(&path).map(|content| {
                let from = usize::try_from(position).unwrap_or(usize::MAX).min(content.len());
                Bytes::copy_from_slice(&content[from..content.len().min(from.saturating_add(length))])
            })),
            Step::Apply(op) => {
                self.apply(op);
                Answer::Done
            }
            Step::Replace { path, data } => {
                self.files.insert(path, data.to_vec());
                Answer::Done
            }
            Step::Sync { .. } | Step::SyncAll { .. } => Answer::Done,
        }
    }

    /// Takes away a file, or a directory with all that is in it.
    fn take(&mut self, path: &str) -> Vec<(FilePath, Vec<u8>)> {
        let is_below =
            |file: &str| file.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let paths: Vec<FilePath> = self.files.keys().filter(|file| is_below(file)).cloned().collect();
        paths.into_iter().filter_map(|path| self.files.remove_entry(&path)).collect()
    }

    fn list(&self, directory: &str) -> Vec<Entry> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let mut entries: Vec<Entry> = Vec::new();
        for (path, content) in &self.files {
            let Some(rest) = path.strip_prefix(&prefix) else { continue };
            let entry = match rest.split_once('/') {
                Some((name, _)) => {
                    Entry { name: name.to_owned(), length: 0, is_directory: true, is_shared: false }
                }
                None => {
                    let length = content.len() as u64;
                    Entry { name: rest.to_owned(), length, is_directory: false, is_shared: false }
                }
            };
            if entries.last() != Some(&entry) {
                entries.push(entry);
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }
}
