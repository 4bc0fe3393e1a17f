//! A disk in memory: what the page cache has, and what of it survives power loss. It is the contract of
//! [`disk`](crate::disk) as a machine, for the simulator, tests and benchmarks; no node runs on it.
//!
//! Of every file there is what the cache has, what the medium has, and the changes between the two. Names change
//! in the cache at once and on the medium when their directory is synced. A crash of the process loses nothing.
//! Power loss leaves each sector as it was at some moment since it was last synced, and any length in between; of
//! the name changes a prefix in the order in which they were made (as a journaling file system has it) or, where
//! chance says so, any subset.

#![expect(clippy::indexing_slicing, reason = "a disk that contradicts itself should stop at once")]

mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use dohle_types::Rng;

use self::file::{Change, File};
use crate::disk::{Answer, DiskError, Entry, FilePath, Job, LogDir, Op, Step, drive};

/// What a disk writes at once or not at all.
pub const SECTOR_SIZE: usize = 512;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct InodeId(u64);

const ROOT: InodeId = InodeId(0);

#[derive(Debug, Clone)]
enum Inode {
    File(File),
    Directory(Directory),
}

#[derive(Debug, Default, Clone)]
struct Directory {
    cached: BTreeMap<String, InodeId>,
    durable: BTreeMap<String, InodeId>,
    /// Changes that are not on the medium, with their place in the order of all changes.
    changes: Vec<(u64, NameChange)>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(String, InodeId),
    Remove(String),
    Rename(String, String, InodeId),
}

/// The disk.
#[derive(Debug, Clone)]
pub struct MemoryDisk {
    /// Syncs are said to be done and are not, as some disks have it: what tests on it must notice.
    pub lies: bool,
    /// Bytes that its files may take together.
    pub capacity: Option<usize>,
    inodes: BTreeMap<InodeId, Inode>,
    next_inode: u64,
    next_change: u64,
}

/// A sync that has begun: what it will have made durable when it is done.
#[derive(Debug)]
pub struct SyncUnderWay {
    inode: InodeId,
    /// The number of the first change of the file that it does not take.
    file_changes_before: u64,
    directories: Vec<InodeId>,
    changes_before: u64,
}

/// What power loss took.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub struct PowerLoss {
    /// Files that are not as the cache had them.
    pub files_changed: usize,
    /// Files of which some of what was dirty survived and some did not.
    pub files_torn: usize,
    /// Name changes that were lost.
    pub names_lost: usize,
}

impl Default for MemoryDisk {
    fn default() -> Self {
        let inodes = BTreeMap::from([(ROOT, Inode::Directory(Directory::default()))]);
        Self { lies: false, capacity: None, inodes, next_inode: 1, next_change: 0 }
    }
}

impl MemoryDisk {
    /// Carries out a change in the cache.
    ///
    /// # Errors
    /// What a real file system would refuse too.
    pub fn apply(&mut self, op: &Op) -> Result<(), DiskError> {
        match op {
            Op::Write { path, position, data } => self.write(path, index(*position), data.clone()),
            Op::Allocate { path, .. } => self.file_to_write(path, "allocate").map(|_| ()),
            Op::Truncate { path, length } => {
                self.file_to_write(path, "truncate")?.change(Change::Length(index(*length)));
                Ok(())
            }
            Op::Link { from, to } => self.link(from, to),
            Op::Rename { from, to } => self.rename(from, to),
            Op::Remove { path } => {
                if let Some((parent, name)) = self.parent(path)
                    && self.directory_mut(parent).cached.remove(&name).is_some()
                {
                    self.note(parent, NameChange::Remove(name));
                }
                Ok(())
            }
        }
    }

    /// Carries out a step of a job.
    ///
    /// # Errors
    /// What a real file system would refuse too.
    pub fn perform(&mut self, step: &Step) -> Result<Answer, DiskError> {
        match step {
            Step::List { path } => return Ok(Answer::Listed(self.list(path))),
            Step::Read { path, position, length } => {
                return Ok(Answer::Read(self.read(path, *position, *length)));
            }
            Step::Apply(op) => self.apply(op)?,
            Step::Sync { path } => self.sync(path),
            Step::SyncAll { log_dir } => self.sync_all(*log_dir),
            Step::Replace { path, data } => {
                for op in replacement(path, data) {
                    self.apply(&op)?;
                    self.sync(&temporary(path));
                }
                self.sync(path);
            }
        }
        Ok(Answer::Done)
    }

    /// Runs a job to its end.
    ///
    /// # Errors
    /// What a real file system would refuse too.
    pub fn run<J: Job>(&mut self, mut job: J) -> Result<J::Output, DiskError> {
        drive(&mut job, |step| self.perform(&step))
    }

    /// Makes all files in a log dir, and the names above them, durable.
    pub fn sync_all(&mut self, log_dir: LogDir) {
        let here = self.files().into_keys().filter(|path| LogDir::of(path) == log_dir);
        for path in here.collect::<Vec<_>>() {
            self.sync(&path);
        }
    }

    /// Begins to make a file and the names above it durable; `None` where there is no such file.
    #[must_use]
    pub fn begin_sync(&self, path: &str) -> Option<SyncUnderWay> {
        let mut directories = vec![ROOT];
        let mut inode = ROOT;
        for part in path.split('/') {
            let Inode::Directory(directory) = self.inodes.get(&inode)? else { return None };
            inode = *directory.cached.get(part)?;
            directories.push(inode);
        }
        directories.pop();
        let Inode::File(file) = self.inodes.get(&inode)? else { return None };
        let file_changes_before = file.changes_so_far();
        Some(SyncUnderWay { inode, file_changes_before, directories, changes_before: self.next_change })
    }

    /// The sync is done.
    pub fn finish_sync(&mut self, sync: SyncUnderWay) {
        if self.lies {
            return;
        }
        if let Some(Inode::File(file)) = self.inodes.get_mut(&sync.inode) {
            file.finish_sync(sync.file_changes_before);
        }
        for id in sync.directories {
            let Some(Inode::Directory(directory)) = self.inodes.get_mut(&id) else { continue };
            for (order, change) in std::mem::take(&mut directory.changes) {
                if order < sync.changes_before {
                    change.apply(&mut directory.durable);
                } else {
                    directory.changes.push((order, change));
                }
            }
        }
    }

    /// The sync fails: some of the file's changes reached the medium, and the system takes all of them for
    /// written, so that a later sync succeeds without them (as Linux has it).
    pub fn fail_sync(&mut self, sync: SyncUnderWay, rng: &mut Rng) {
        if let Some(Inode::File(file)) = self.inodes.get_mut(&sync.inode) {
            file.fail_sync(sync.file_changes_before, rng);
        }
    }

    /// Makes a file durable at once.
    pub fn sync(&mut self, path: &str) {
        if let Some(sync) = self.begin_sync(path) {
            self.finish_sync(sync);
        }
    }

    /// The power goes: what is not on the medium stays or goes as the dice fall.
    pub fn lose_power(&mut self, rng: &mut Rng) -> PowerLoss {
        let mut loss = PowerLoss::default();
        let first = rng.below(self.next_change + 1);
        let last_kept = if rng.chance(1, 2) { first.max(rng.below(self.next_change + 1)) } else { first };
        let ordered = !rng.chance(1, 4);
        for inode in self.inodes.values_mut() {
            match inode {
                Inode::File(file) => file.lose_power(rng, &mut loss),
                Inode::Directory(directory) => {
                    for (order, change) in std::mem::take(&mut directory.changes) {
                        if if ordered { order < last_kept } else { rng.chance(1, 2) } {
                            change.apply(&mut directory.durable);
                        } else {
                            loss.names_lost += 1;
                        }
                    }
                    directory.cached.clone_from(&directory.durable);
                }
            }
        }
        self.forget_unnamed();
        loss
    }

    /// Whether anything would be lost with the power.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.inodes.values().any(|inode| match inode {
            Inode::File(file) => !file.changes.is_empty(),
            Inode::Directory(directory) => !directory.changes.is_empty(),
        })
    }

    /// Whether the medium has a file as it reads now.
    #[must_use]
    pub fn is_on_medium(&self, path: &str) -> bool {
        match self.resolve(path).and_then(|inode| self.inodes.get(&inode)) {
            Some(Inode::File(file)) => file.changes.is_empty() && file.cached == file.durable,
            Some(Inode::Directory(_)) | None => false,
        }
    }

    /// Flips a bit of a file, on the medium and in the cache; whether there is such a bit on both.
    pub fn flip_bit(&mut self, path: &str, position: usize, bit: u8) -> bool {
        let inode = self.resolve(path).and_then(|inode| self.inodes.get_mut(&inode));
        let Some(Inode::File(file)) = inode else { return false };
        let (Some(cached), Some(durable)) = (file.cached.get_mut(position), file.durable.get_mut(position))
        else {
            return false;
        };
        *cached ^= 1 << (bit % 8);
        *durable ^= 1 << (bit % 8);
        true
    }

    /// The files, by path, as they read now.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, &[u8]> {
        let mut files = BTreeMap::new();
        let mut open = vec![(String::new(), ROOT)];
        while let Some((path, inode)) = open.pop() {
            match self.inodes.get(&inode) {
                Some(Inode::File(file)) => {
                    files.insert(path, file.cached.as_slice());
                }
                Some(Inode::Directory(directory)) => {
                    open.extend(directory.cached.iter().map(|(name, &id)| {
                        (if path.is_empty() { name.clone() } else { format!("{path}/{name}") }, id)
                    }))
                }
                None => {}
            }
        }
        files
    }

    /// The length of a file, where there is one.
    #[must_use]
    pub fn length(&self, path: &str) -> Option<usize> {
        match self.inodes.get(&self.resolve(path)?)? {
            Inode::File(file) => Some(file.cached.len()),
            Inode::Directory(_) => None,
        }
    }

    fn forget_unnamed(&mut self) {
        let mut named = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            if let Some(Inode::Directory(directory)) = self.inodes.get(&id) {
                let below = directory.cached.values().chain(directory.durable.values());
                open.extend(below.filter(|id| named.insert(**id)));
            }
        }
        self.inodes.retain(|id, _| named.contains(id));
    }

    fn list(&self, path: &FilePath) -> Vec<Entry> {
        let inode = self.resolve(path).and_then(|id| self.inodes.get(&id));
        let Some(Inode::Directory(directory)) = inode else { return Vec::new() };
        let shared = self.shared();
        let entry = |(name, id): (&String, &InodeId)| {
            let (length, is_directory) = match self.inodes.get(id)? {
                Inode::File(file) => (file.cached.len() as u64, false),
                Inode::Directory(_) => (0, true),
            };
            Some(Entry { name: name.clone(), length, is_directory, is_shared: shared.contains(id) })
        };
        directory.cached.iter().filter_map(entry).collect()
    }

    /// The files that have several names.
    fn shared(&self) -> BTreeSet<InodeId> {
        let mut seen = BTreeSet::new();
        self.named().into_iter().filter(|id| !seen.insert(*id)).collect()
    }

    /// The files, once for each of their names.
    fn named(&self) -> Vec<InodeId> {
        let mut files = Vec::new();
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            match self.inodes.get(&id) {
                Some(Inode::Directory(directory)) => open.extend(directory.cached.values()),
                Some(Inode::File(_)) => files.push(id),
                None => {}
            }
        }
        files
    }

    fn write(&mut self, path: &FilePath, position: usize, data: Bytes) -> Result<(), DiskError> {
        let used = self.capacity.map(|capacity| (capacity, self.used()));
        let file = self.file_to_write(path, "write")?;
        let Some((capacity, used)) = used else {
            file.change(Change::Write(position, data));
            return Ok(());
        };
        let grows = (position + data.len()).saturating_sub(file.cached.len());
        let lacks = (used + grows).saturating_sub(capacity).min(grows).min(data.len());
        let fitting = data.slice(..data.len() - lacks);
        file.change(Change::Write(position, fitting));
        if lacks == 0 {
            return Ok(());
        }
        let reason = "no space left on device".to_owned();
        Err(DiskError { operation: "write", path: Arc::clone(path), reason, is_full: true })
    }

    /// Bytes that all files take.
    #[must_use]
    pub fn used(&self) -> usize {
        let files: BTreeSet<InodeId> = self.named().into_iter().collect();
        let length = |id: &InodeId| match self.inodes.get(id) {
            Some(Inode::File(file)) => file.cached.len(),
            Some(Inode::Directory(_)) | None => 0,
        };
        files.iter().map(length).sum()
    }

    fn read(&self, path: &FilePath, position: u64, length: usize) -> Option<Bytes> {
        let Inode::File(file) = self.inodes.get(&self.resolve(path)?)? else { return None };
        let start = index(position).min(file.cached.len());
        let end = start.saturating_add(length).min(file.cached.len());
        file.cached.get(start..end).map(Bytes::copy_from_slice)
    }

    fn link(&mut self, from: &FilePath, to: &FilePath) -> Result<(), DiskError> {
        let Some(inode) = self.resolve(from) else { return Ok(()) };
        let exists = || DiskError {
            operation: "link",
            path: Arc::clone(to),
            reason: "file exists".to_owned(),
            is_full: false,
        };
        let mut parent = ROOT;
        let (above, name) = to.rsplit_once('/').unwrap_or(("", to));
        for part in above.split('/').filter(|part| !part.is_empty()) {
            let known = self.directory_mut(parent).cached.get(part).copied();
            parent =
                known.unwrap_or_else(|| self.create(parent, part, Inode::Directory(Directory::default())));
        }
        if self.directory_mut(parent).cached.contains_key(name) {
            return Err(exists());
        }
        self.directory_mut(parent).cached.insert(name.to_owned(), inode);
        self.note(parent, NameChange::Set(name.to_owned(), inode));
        Ok(())
    }

    fn rename(&mut self, from: &FilePath, to: &FilePath) -> Result<(), DiskError> {
        let missing = || DiskError {
            operation: "rename",
            path: Arc::clone(from),
            reason: "no such file or directory".to_owned(),
            is_full: false,
        };
        let (parent, name) = self.parent(from).ok_or_else(missing)?;
        let (new_parent, new_name) = self.parent(to).ok_or_else(missing)?;
        let inode = self.directory_mut(parent).cached.remove(&name).ok_or_else(missing)?;
        self.directory_mut(new_parent).cached.insert(new_name.clone(), inode);
        if parent == new_parent {
            self.note(parent, NameChange::Rename(name, new_name, inode));
        } else {
            self.note(parent, NameChange::Remove(name));
            self.note(new_parent, NameChange::Set(new_name, inode));
        }
        Ok(())
    }

    fn resolve(&self, path: &str) -> Option<InodeId> {
        path.split('/').filter(|part| !part.is_empty()).try_fold(ROOT, |id, part| {
            match self.inodes.get(&id)? {
                Inode::Directory(directory) => directory.cached.get(part).copied(),
                Inode::File(_) => None,
            }
        })
    }

    /// The directory that a path's last name is in, and that name.
    fn parent(&self, path: &str) -> Option<(InodeId, String)> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let id = self.resolve(directory)?;
        matches!(self.inodes.get(&id)?, Inode::Directory(_)).then(|| (id, name.to_owned()))
    }

    /// The file at a path, made with the directories above it where there is none.
    fn file_to_write(&mut self, path: &FilePath, operation: &'static str) -> Result<&mut File, DiskError> {
        let refused = || DiskError {
            operation,
            path: Arc::clone(path),
            reason: "is a directory".to_owned(),
            is_full: false,
        };
        let mut at = ROOT;
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            let known = match self.inodes.get(&at) {
                Some(Inode::Directory(directory)) => directory.cached.get(part).copied(),
                Some(Inode::File(_)) | None => return Err(refused()),
            };
            at = known.unwrap_or_else(|| {
                let inode = match parts.peek() {
                    Some(_) => Inode::Directory(Directory::default()),
                    None => Inode::File(File::default()),
                };
                self.create(at, part, inode)
            });
        }
        match self.inodes.get_mut(&at) {
            Some(Inode::File(file)) => Ok(file),
            Some(Inode::Directory(_)) | None => Err(refused()),
        }
    }

    fn create(&mut self, parent: InodeId, name: &str, inode: Inode) -> InodeId {
        let id = InodeId(self.next_inode);
        self.next_inode += 1;
        self.inodes.insert(id, inode);
        self.directory_mut(parent).cached.insert(name.to_owned(), id);
        self.note(parent, NameChange::Set(name.to_owned(), id));
        id
    }

    fn note(&mut self, directory: InodeId, change: NameChange) {
        let order = self.next_change;
        self.next_change += 1;
        self.directory_mut(directory).changes.push((order, change));
    }

    fn directory_mut(&mut self, id: InodeId) -> &mut Directory {
        match self.inodes.get_mut(&id) {
            Some(Inode::Directory(directory)) => directory,
            Some(Inode::File(_)) | None => unreachable!("the caller has seen that it is a directory"),
        }
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, InodeId>) {
        match self {
            Self::Set(name, inode) => {
                names.insert(name, inode);
            }
            Self::Remove(name) => {
                names.remove(&name);
            }
            Self::Rename(from, to, inode) => {
                names.remove(&from);
                names.insert(to, inode);
            }
        }
    }
}

/// The changes that replace a file; the temporary file is synced in between.
pub fn replacement(path: &FilePath, data: &Bytes) -> [Op; 3] {
    let beside = temporary(path);
    [
        Op::Truncate { path: beside.clone(), length: 0 },
        Op::Write { path: beside.clone(), position: 0, data: data.clone() },
        Op::Rename { from: beside, to: path.clone() },
    ]
}

/// Where a file's replacement is written.
pub fn temporary(path: &FilePath) -> FilePath {
    format!("{path}.tmp").into()
}

fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> FilePath {
        Arc::from(name)
    }

    fn read(disk: &MemoryDisk, name: &str) -> Option<Vec<u8>> {
        disk.read(&path(name), 0, usize::MAX).map(|bytes| bytes.to_vec())
    }

    fn ones(length: usize) -> Vec<u8> {
        vec![1; length]
    }

    #[test]
    fn what_is_synced_survives_and_of_the_rest_any_part_does() {
        let (mut changed, mut torn, mut whole) = (false, false, false);
        for seed in 0..200 {
            let mut disk = MemoryDisk::default();
            disk.write(&path("t-0/0.log"), 0, ones(1000).into()).unwrap();
            disk.sync("t-0/0.log");
            disk.write(&path("t-0/0.log"), 1000, ones(5000).into()).unwrap();
            assert_eq!(read(&disk, "t-0/0.log"), Some(ones(6000)));
            let loss = disk.lose_power(&mut Rng::from_seed(seed));
            let left = read(&disk, "t-0/0.log").unwrap();
            assert!((1000..=6000).contains(&left.len()));
            assert_eq!(left[..1000], ones(1000));
            changed |= loss.files_changed == 1;
            torn |= loss.files_torn == 1;
            whole |= left == ones(6000);
            assert!(!disk.is_dirty());
        }
        assert!(changed && torn && whole);
    }

    #[test]
    fn what_is_written_while_a_sync_runs_is_not_made_durable_by_it() {
        let mut lost = false;
        for seed in 0..50 {
            let mut disk = MemoryDisk::default();
            disk.write(&path("log"), 0, Bytes::from_static(b"abc")).unwrap();
            let sync = disk.begin_sync("log").unwrap();
            disk.write(&path("log"), 3, Bytes::from_static(b"def")).unwrap();
            disk.finish_sync(sync);
            assert!(disk.is_dirty());
            disk.lose_power(&mut Rng::from_seed(seed));
            let left = read(&disk, "log").unwrap();
            assert!(left.starts_with(b"abc"));
            lost |= left != b"abcdef";
        }
        assert!(lost);
    }

    #[test]
    fn a_name_is_durable_once_its_file_was_synced() {
        let (mut lost, mut kept) = (false, false);
        for seed in 0..50 {
            let mut disk = MemoryDisk::default();
            disk.write(&path("t-0/a"), 0, Bytes::from_static(b"a")).unwrap();
            disk.sync("t-0/a");
            disk.apply(&Op::Rename { from: path("t-0"), to: path("t-1") }).unwrap();
            disk.lose_power(&mut Rng::from_seed(seed));
            let names = (read(&disk, "t-0/a").is_some(), read(&disk, "t-1/a").is_some());
            lost |= names == (true, false);
            kept |= names == (false, true);
            assert!(names.0 != names.1, "a rename is done or not done");
        }
        assert!(lost && kept);
    }

    #[test]
    fn a_file_with_two_names_is_one_file_that_takes_its_room_once() {
        let mut disk = MemoryDisk::default();
        disk.write(&path("t-0/a"), 0, ones(700).into()).unwrap();
        let link = Op::Link { from: path("t-0/a"), to: path("t-1/b") };
        disk.apply(&link).unwrap();
        assert!(disk.apply(&link).is_err(), "there is one of that name");
        disk.apply(&Op::Link { from: path("t-0/x"), to: path("t-1/x") }).unwrap();
        let names = |disk: &MemoryDisk, directory: &str| {
            let entries = disk.list(&path(directory)).into_iter();
            entries.map(|entry| (entry.name, entry.is_shared)).collect::<Vec<_>>()
        };
        assert_eq!(names(&disk, "t-1"), [("b".to_owned(), true)]);
        assert_eq!(disk.used(), 700);
        disk.sync("t-1/b");
        disk.apply(&Op::Remove { path: path("t-0") }).unwrap();
        disk.lose_power(&mut Rng::from_seed(1));
        assert_eq!(read(&disk, "t-1/b"), Some(ones(700)));
        disk.apply(&Op::Remove { path: path("t-0") }).unwrap();
        assert_eq!(names(&disk, "t-1"), [("b".to_owned(), false)]);
    }

    #[test]
    fn the_host_refuses_what_a_file_system_refuses() {
        let mut disk = MemoryDisk::default();
        assert!(disk.apply(&Op::Rename { from: path("a"), to: path("b") }).is_err());
        disk.apply(&Op::Remove { path: path("a/b") }).unwrap();
        disk.write(&path("a/b"), 0, Bytes::from_static(b"x")).unwrap();
        assert!(disk.write(&path("a"), 0, Bytes::from_static(b"x")).is_err());
        disk.apply(&Op::Remove { path: path("a") }).unwrap();
        assert_eq!(disk.list(&path("")), []);
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_is_usable_when_something_is_removed() {
        let mut disk = MemoryDisk { capacity: Some(1000), ..MemoryDisk::default() };
        disk.write(&path("a"), 0, ones(600).into()).unwrap();
        disk.write(&path("a"), 0, ones(600).into()).expect("overwriting takes no room");
        let error = disk.write(&path("b"), 0, ones(600).into()).unwrap_err();
        assert!(error.to_string().contains("no space"), "{error}");
        assert_eq!(disk.length("b"), Some(400));
        disk.apply(&Op::Remove { path: path("a") }).unwrap();
        disk.write(&path("b"), 400, ones(600).into()).unwrap();
    }

    #[test]
    fn after_a_failed_sync_the_next_one_succeeds_and_writes_nothing() {
        let mut lost = false;
        for seed in 0..20 {
            let rng = &mut Rng::from_seed(seed);
            let mut disk = MemoryDisk::default();
            disk.write(&path("log"), 0, ones(3000).into()).unwrap();
            disk.sync("log");
            disk.write(&path("log"), 3000, ones(3000).into()).unwrap();
            let sync = disk.begin_sync("log").unwrap();
            disk.fail_sync(sync, rng);
            assert_eq!(read(&disk, "log"), Some(ones(6000)));
            disk.sync("log");
            disk.lose_power(rng);
            let left = read(&disk, "log").unwrap();
            assert_eq!(left[..3000], ones(3000));
            lost |= left != ones(6000);
        }
        assert!(lost);
    }

    #[test]
    fn a_flipped_bit_stays_flipped() {
        let mut disk = MemoryDisk::default();
        disk.write(&path("log"), 0, Bytes::from_static(b"abc")).unwrap();
        assert!(!disk.flip_bit("log", 1, 0) && !disk.is_on_medium("log"), "the medium has none of it yet");
        disk.sync("log");
        assert!(disk.is_on_medium("log"));
        assert!(disk.flip_bit("log", 1, 0));
        disk.lose_power(&mut Rng::from_seed(0));
        assert_eq!(read(&disk, "log"), Some(b"acc".to_vec()));
    }
}
