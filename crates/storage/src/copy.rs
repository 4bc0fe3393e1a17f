//! Copying a log to another directory while it is written to (AlterReplicaLogDirs), and putting the copy in its place.
//!
//! Records are copied from where the copy ends up to where the log ended when the piece was made; sealed segments'
//! other files once, all else anew each time. Nothing but appends and retention may change the log meanwhile: while a
//! log is compacted no piece is made. When little is left the log is closed, so that nobody writes to it, and the rest
//! is copied and made durable. Then the two change their names, each durably: the copy gets its own before the log
//! gives it up, so that at each moment one that is whole bears it.

use dohle_types::{FastMap, Offset, TopicId};

use crate::checkpoint::{self, PARTITION_METADATA};
use crate::disk::{Answer, Entry, FilePath, Job, Op, Progress};
use crate::log::Log;
use crate::script::{Disk, Script};
use crate::segment::{LOG_SUFFIX, file};
use crate::swap::DELETED_SUFFIX;

/// Bytes of a piece, so that others have their turn.
const PIECE_BYTES: u64 = 16 << 20;
/// Bytes that are held in memory.
const CHUNK_BYTES: usize = 1 << 20;

/// How a piece of a copy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Bytes that were copied.
    pub bytes: u64,
    /// Whether the copy had all that the log had when the piece was made.
    pub is_complete: bool,
}

/// Copies a piece of a log, or the last one, or puts the copy in the log's place.
pub struct CopyLog(Script<Copied>);

impl std::fmt::Debug for CopyLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CopyLog")
    }
}

impl Job for CopyLog {
    type Output = Copied;

    fn start(&mut self) -> Progress<Copied> {
        self.0.start()
    }

    fn resume(&mut self, answer: Answer) -> Progress<Copied> {
        self.0.resume(answer)
    }
}

/// The names that change when a copy takes the place of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// The directory of the log,
    pub from: FilePath,
    /// and what it is called afterwards; it may be removed.
    pub old: FilePath,
    /// The directory of the copy,
    pub copy: FilePath,
    /// and what it is called afterwards.
    pub to: FilePath,
    /// A durable file beside each of the two, by which their names are made durable.
    pub beside: [FilePath; 2],
}

impl CopyLog {
    /// Copies some of what the log has and the directory `to` has not.
    #[must_use]
    pub fn piece(log: &Log, to: FilePath) -> Self {
        let copying = Copying::new(log, to);
        Self(Script::new(|disk| async move { copying.copy(&disk, PIECE_BYTES).await }))
    }

    /// Copies all that is left of a log that is closed, and makes the copy durable.
    #[must_use]
    pub fn rest(log: &Log, to: FilePath) -> Self {
        let copying = Copying::new(log, to);
        Self(Script::new(|disk| async move {
            let copied = copying.copy(&disk, u64::MAX).await;
            copying.remove_strays(&disk).await;
            if disk.list(&copying.to).await.is_empty() {
                // A power loss has left nothing but the log's directory, and there is to be one in its place.
                let data = checkpoint::format_partition_metadata(copying.topic_id).into();
                let path = path(&copying.to, PARTITION_METADATA);
                disk.apply(Op::Write { path, position: 0, data }).await;
            }
            for entry in disk.list(&copying.to).await {
                disk.sync(&path(&copying.to, &entry.name)).await;
            }
            copied
        }))
    }

    /// Puts a copy that is durable in the place of its log.
    #[must_use]
    pub fn swap(Swap { from, old, copy, to, beside: [beside_from, beside_to] }: Swap) -> Self {
        Self(Script::new(|disk| async move {
            disk.apply(Op::Rename { from: copy, to }).await;
            disk.sync(&beside_to).await;
            disk.apply(Op::Rename { from, to: old }).await;
            disk.sync(&beside_from).await;
            Copied { bytes: 0, is_complete: true }
        }))
    }
}

struct Copying {
    from: FilePath,
    to: FilePath,
    topic_id: TopicId,
    /// The segments by their base offsets, and how long their records are.
    segments: Vec<(Offset, u64)>,
}

impl Copying {
    fn new(log: &Log, to: FilePath) -> Self {
        let segments = log.segments().map(|segment| (segment.base_offset, segment.size_in_bytes));
        Self { from: log.dir().clone(), to, topic_id: log.topic_id(), segments: segments.collect() }
    }

    async fn copy(&self, disk: &Disk, bytes_max: u64) -> Copied {
        let there: FastMap<String, u64> =
            disk.list(&self.to).await.into_iter().map(|entry| (entry.name, entry.length)).collect();
        let mut bytes = 0;
        for &(base, size) in &self.segments {
            let source = file(&self.from, base, LOG_SUFFIX);
            let target = path(&self.to, name_of(&source));
            let mut position = match there.get(name_of(&source)) {
                Some(&copied) if copied == size => continue,
                copied => copied.copied().unwrap_or_default().min(size),
            };
            loop {
                let wanted = usize::try_from(size - position).unwrap_or(usize::MAX).min(CHUNK_BYTES);
                // A segment that is gone was deleted meanwhile: what is copied of it goes with the rest.
                let Some(data) = disk.read(&source, position, wanted).await else { break };
                let length = data.len() as u64;
                disk.apply(Op::Write { path: target.clone(), position, data }).await;
                position += length;
                bytes += length;
                if position >= size || length == 0 {
                    break;
                }
                if bytes >= bytes_max {
                    disk.sync(&target).await;
                    return Copied { bytes, is_complete: false };
                }
            }
            disk.sync(&target).await;
        }
        for entry in disk.list(&self.from).await.iter().filter(|entry| self.is_beside_records(entry)) {
            let copied = there.get(&entry.name);
            if !(copied == Some(&entry.length) && self.is_of_sealed_segment(&entry.name)) {
                bytes += self.copy_anew(disk, &entry.name, copied.is_some()).await;
            }
        }
        Copied { bytes, is_complete: true }
    }

    async fn copy_anew(&self, disk: &Disk, name: &str, is_there: bool) -> u64 {
        let (source, target) = (path(&self.from, name), path(&self.to, name));
        if is_there {
            disk.apply(Op::Remove { path: target.clone() }).await;
        }
        let mut position = 0;
        while let Some(data) = disk.read(&source, position, CHUNK_BYTES).await {
            let length = data.len() as u64;
            if length > 0 || position == 0 {
                disk.apply(Op::Write { path: target.clone(), position, data }).await;
            }
            position += length;
            if length < CHUNK_BYTES as u64 {
                break;
            }
        }
        disk.sync(&target).await;
        position
    }

    /// Removes from a copy what its log does not have, for it was deleted meanwhile.
    async fn remove_strays(&self, disk: &Disk) {
        let listed = disk.list(&self.from).await;
        for entry in disk.list(&self.to).await {
            if listed.binary_search_by(|known| known.name.cmp(&entry.name)).is_err() {
                disk.apply(Op::Remove { path: path(&self.to, &entry.name) }).await;
            }
        }
    }

    /// What is `.deleted` is there only for those who read it still.
    fn is_beside_records(&self, entry: &Entry) -> bool {
        !entry.is_directory && ![LOG_SUFFIX, DELETED_SUFFIX].iter().any(|suffix| entry.name.ends_with(suffix))
    }

    /// Files of a segment are named by its base offset, so that they come before the `.log` of the last one.
    fn is_of_sealed_segment(&self, name: &str) -> bool {
        let last = self.segments.last().map(|&(base, _)| format!("{:020}", base.0)).unwrap_or_default();
        name.starts_with(|first: char| first.is_ascii_digit()) && name < last.as_str()
    }
}

fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn path(directory: &FilePath, name: &str) -> FilePath {
    format!("{directory}/{name}").into()
}
