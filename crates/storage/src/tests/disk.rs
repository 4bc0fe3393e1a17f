//! A disk in memory that knows what was synced, and can crash.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::disk::{Answer, Entry, FilePath, Job, Op, Step, drive};

/// Files by path: as they read now, and as they would read after a power loss.
#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) files: Files,
    durable: Files,
    /// Changes that are not durable, in order.
    pending: Vec<Op>,
}

type Files = BTreeMap<FilePath, Vec<u8>>;

impl Disk {
    pub(super) fn apply(&mut self, op: Op) {
        change(&mut self.files, &op);
        self.pending.push(op);
    }

    pub(super) fn sync(&mut self, path: &FilePath) {
        let Some(content) = self.files.get(path) else { return };
        self.durable.insert(path.clone(), content.clone());
        self.pending.retain(|op| match op {
            Op::Write { path: changed, .. }
            | Op::Allocate { path: changed, .. }
            | Op::Truncate { path: changed, .. }
            | Op::Remove { path: changed } => changed != path,
            Op::Rename { to, .. } | Op::Link { to, .. } => to != path,
        });
    }

    pub(super) fn perform(&mut self, step: Step) -> Answer {
        match step {
            Step::List { path } => Answer::Listed(self.list(&path)),
            Step::Read { path, position, length } => Answer::Read(self.files.get(&path).map(|content| {
                let from = usize::try_from(position).unwrap().min(content.len());
                Bytes::copy_from_slice(&content[from..content.len().min(from.saturating_add(length))])
            })),
            Step::Apply(op) => {
                self.apply(op);
                Answer::Done
            }
            Step::Replace { path, data } => {
                self.apply(Op::Remove { path: path.clone() });
                self.apply(Op::Write { path: path.clone(), position: 0, data });
                self.sync(&path);
                // The directory is synced with it: whatever was removed stays removed.
                let removed: Vec<Op> =
                    self.pending.iter().filter(|op| matches!(op, Op::Remove { .. })).cloned().collect();
                removed.iter().for_each(|op| change(&mut self.durable, op));
                self.pending.retain(|op| !matches!(op, Op::Remove { .. }));
                Answer::Done
            }
            Step::Sync { path } => {
                self.sync(&path);
                Answer::Done
            }
            Step::SyncAll { .. } => {
                self.files.clone().into_keys().for_each(|path| self.sync(&path));
                Answer::Done
            }
        }
    }

    pub(super) fn run<J: Job>(&mut self, mut job: J) -> J::Output {
        drive(&mut job, |step| Ok(self.perform(step))).expect("this disk has no faults")
    }

    /// Changes that a crash may take.
    pub(super) fn pending(&self) -> &[Op] {
        &self.pending
    }

    /// The disk after a crash that kept the first `count` changes and `bytes` of the next one, if that is a write.
    pub(super) fn crash_after(&self, count: usize, bytes: usize) -> Self {
        let mut files = self.durable.clone();
        self.pending.iter().take(count).for_each(|op| change(&mut files, op));
        if let Some(Op::Write { path, position, data }) = self.pending.get(count) {
            let data = data.slice(..bytes.min(data.len()));
            change(&mut files, &Op::Write { path: path.clone(), position: *position, data });
        }
        Self { durable: files.clone(), files, pending: Vec::new() }
    }

    fn list(&self, directory: &str) -> Vec<Entry> {
        let prefix = format!("{directory}/");
        self.files
            .iter()
            .filter_map(|(path, content)| {
                let name = path.strip_prefix(&prefix)?.to_owned();
                Some(Entry { name, length: content.len() as u64, is_directory: false, is_shared: false })
            })
            .collect()
    }
}

fn change(files: &mut Files, op: &Op) {
    match op {
        Op::Write { path, position, data } => {
            let content = files.entry(path.clone()).or_default();
            let from = usize::try_from(*position).unwrap();
            content.resize(content.len().max(from + data.len()), 0);
            content[from..from + data.len()].copy_from_slice(data);
        }
        Op::Allocate { path, .. } => {
            files.entry(path.clone()).or_default();
        }
        Op::Truncate { path, length } => {
            if let Some(content) = files.get_mut(path) {
                content.truncate(usize::try_from(*length).unwrap());
            }
        }
        Op::Rename { from, to } => {
            if let Some(content) = files.remove(from) {
                files.insert(to.clone(), content);
            }
        }
        Op::Link { from, to } => {
            if let Some(content) = files.get(from).cloned() {
                files.insert(to.clone(), content);
            }
        }
        Op::Remove { path } => {
            files.remove(path);
        }
    }
}
