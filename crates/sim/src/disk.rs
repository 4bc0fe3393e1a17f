//! A disk in memory: what the page cache has, and what of it survives power loss.
//!
//! Files are kept twice: as the cache has them, and as the medium has them; sectors that differ are dirty. Names
//! change in the cache at once and on the medium when their directory is synced. A crash of the process loses
//! nothing; power loss keeps any part of what is dirty: any subset of the sectors, any length between the two,
//! and, of the name changes, a prefix in the order in which they were made (as a journaling file system has it)
//! or, where the seed says so, any subset.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use dohle_storage::disk::{Answer, DiskError, Entry, FilePath, Op, Step};
use dohle_types::Rng;

/// What a disk writes at once or not at all.
pub const SECTOR_SIZE: usize = 512;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct InodeId(u64);

const ROOT: InodeId = InodeId(0);

#[derive(Debug)]
enum Inode {
    File(File),
    Directory(Directory),
}

#[derive(Debug, Default)]
struct File {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors of `cached` that were written and are not on the medium.
    dirty: BTreeSet<usize>,
}

#[derive(Debug, Default)]
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
#[derive(Debug)]
pub struct Disk {
    /// Syncs are said to be done and are not, as some disks have it: what the simulator must notice.
    pub lies: bool,
    inodes: BTreeMap<InodeId, Inode>,
    next_inode: u64,
    next_change: u64,
}

/// A sync that has begun: what it will have made durable when it is done.
#[derive(Debug)]
pub struct SyncUnderWay {
    inode: InodeId,
    length: usize,
    sectors: Vec<(usize, Vec<u8>)>,
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

impl Default for Disk {
    fn default() -> Self {
        let inodes = BTreeMap::from([(ROOT, Inode::Directory(Directory::default()))]);
        Self { lies: false, inodes, next_inode: 1, next_change: 0 }
    }
}

impl Disk {
    /// Carries out a change in the cache.
    ///
    /// # Errors
    /// What a real file system would refuse too.
    pub fn apply(&mut self, op: &Op) -> Result<(), DiskError> {
        match op {
            Op::Write { path, position, data } => self.write(path, *position, data),
            Op::Truncate { path, length } => {
                self.file_to_write(path, "truncate")?.truncate(index(*length));
                Ok(())
            }
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

    /// Writes into the cache.
    ///
    /// # Errors
    /// The path is that of a directory.
    pub fn write(&mut self, path: &FilePath, position: u64, data: &[u8]) -> Result<(), DiskError> {
        self.file_to_write(path, "write")?.write(index(position), data);
        Ok(())
    }

    /// Answers the steps of jobs that change nothing.
    #[must_use]
    pub fn perform(&self, step: &Step) -> Answer {
        match step {
            Step::List { path } => Answer::Listed(self.list(path)),
            Step::Read { path, position, length } => Answer::Read(self.read(path, *position, *length)),
            Step::Apply(_) | Step::Sync { .. } | Step::Replace { .. } => {
                unreachable!("the host makes changes one at a time, so that it can end between them")
            }
        }
    }

    /// Begins to make a file and the names above it durable; `None` where there is no such file.
    pub fn begin_sync(&self, path: &FilePath) -> Option<SyncUnderWay> {
        let inode = self.resolve(path)?;
        let mut directories = vec![ROOT];
        let parts: Vec<&str> = path.split('/').collect();
        for depth in 1..parts.len() {
            directories.extend(self.resolve(&parts.get(..depth)?.join("/")));
        }
        let Inode::File(file) = self.inodes.get(&inode)? else { return None };
        let sectors = file.dirty.iter().map(|&sector| (sector, file.sector(sector).to_vec())).collect();
        let (length, changes_before) = (file.cached.len(), self.next_change);
        Some(SyncUnderWay { inode, length, sectors, directories, changes_before })
    }

    /// The sync is done.
    pub fn finish_sync(&mut self, sync: SyncUnderWay) {
        if self.lies {
            return;
        }
        if let Some(Inode::File(file)) = self.inodes.get_mut(&sync.inode) {
            file.durable.resize(sync.length, 0);
            for (sector, bytes) in sync.sectors {
                let start = sector * SECTOR_SIZE;
                file.durable[start..start + bytes.len()].copy_from_slice(&bytes);
                if file.sector(sector) == bytes {
                    file.dirty.remove(&sector);
                }
            }
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

    /// Makes a file durable at once.
    pub fn sync(&mut self, path: &FilePath) {
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
            Inode::File(file) => !file.dirty.is_empty() || file.cached.len() != file.durable.len(),
            Inode::Directory(directory) => !directory.changes.is_empty(),
        })
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
        let entry = |(name, id): (&String, &InodeId)| match self.inodes.get(id)? {
            Inode::File(file) => {
                Some(Entry { name: name.clone(), length: file.cached.len() as u64, is_directory: false })
            }
            Inode::Directory(_) => Some(Entry { name: name.clone(), length: 0, is_directory: true }),
        };
        directory.cached.iter().filter_map(entry).collect()
    }

    fn read(&self, path: &FilePath, position: u64, length: usize) -> Option<Bytes> {
        let Inode::File(file) = self.inodes.get(&self.resolve(path)?)? else { return None };
        let start = index(position).min(file.cached.len());
        let end = start.saturating_add(length).min(file.cached.len());
        file.cached.get(start..end).map(Bytes::copy_from_slice)
    }

    fn rename(&mut self, from: &FilePath, to: &FilePath) -> Result<(), DiskError> {
        let missing = || DiskError {
            operation: "rename",
            path: Arc::clone(from),
            reason: "no such file or directory".to_owned(),
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
        let refused = || DiskError { operation, path: Arc::clone(path), reason: "is a directory".to_owned() };
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

impl File {
    fn sector(&self, sector: usize) -> &[u8] {
        let start = (sector * SECTOR_SIZE).min(self.cached.len());
        &self.cached[start..self.cached.len().min(start + SECTOR_SIZE)]
    }

    fn write(&mut self, position: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let end = position + data.len();
        let changed_from = position.min(self.cached.len());
        if self.cached.len() < end {
            self.cached.resize(end, 0);
        }
        self.cached[position..end].copy_from_slice(data);
        self.dirty.extend(changed_from / SECTOR_SIZE..=(end - 1) / SECTOR_SIZE);
    }

    fn truncate(&mut self, length: usize) {
        self.cached.resize(length, 0);
        self.dirty.retain(|&sector| sector * SECTOR_SIZE < length);
        if length > 0 {
            self.dirty.insert((length - 1) / SECTOR_SIZE);
        }
    }

    fn lose_power(&mut self, rng: &mut Rng, loss: &mut PowerLoss) {
        if self.dirty.is_empty() && self.cached.len() == self.durable.len() {
            return;
        }
        let length = self.surviving_length(rng);
        let chance = match rng.below(4) {
            0 => 0,
            1 => 100,
            _ => 20 + rng.below(80),
        };
        let mut survived = std::mem::take(&mut self.durable);
        survived.resize(length, 0);
        let mut kept = 0;
        for &sector in &self.dirty {
            let start = sector * SECTOR_SIZE;
            if start >= length || !rng.chance(chance, 100) {
                continue;
            }
            kept += 1;
            let end = length.min(start + SECTOR_SIZE);
            let cached = self.sector(sector);
            let cached = &cached[..cached.len().min(end - start)];
            survived[start..end].fill(0);
            survived[start..start + cached.len()].copy_from_slice(cached);
        }
        loss.files_changed += usize::from(survived != self.cached);
        loss.files_torn += usize::from(survived != self.cached && kept > 0);
        self.dirty.clear();
        self.cached.clone_from(&survived);
        self.durable = survived;
    }

    fn surviving_length(&self, rng: &mut Rng) -> usize {
        const PAGE_SIZE: usize = 4096;
        let (low, high) =
            (self.durable.len().min(self.cached.len()), self.durable.len().max(self.cached.len()));
        let anywhere = low + index(rng.below((high - low) as u64 + 1));
        match rng.below(5) {
            0 => self.durable.len(),
            1 => anywhere,
            2 => (anywhere / PAGE_SIZE * PAGE_SIZE).clamp(low, high),
            3 => (anywhere / SECTOR_SIZE * SECTOR_SIZE).clamp(low, high),
            _ => self.cached.len(),
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

    fn read(disk: &Disk, name: &str) -> Option<Vec<u8>> {
        disk.read(&path(name), 0, usize::MAX).map(|bytes| bytes.to_vec())
    }

    fn ones(length: usize) -> Vec<u8> {
        vec![1; length]
    }

    #[test]
    fn what_is_synced_survives_and_of_the_rest_any_part_does() {
        let (mut changed, mut torn, mut whole) = (false, false, false);
        for seed in 0..200 {
            let mut disk = Disk::default();
            disk.write(&path("t-0/0.log"), 0, &ones(1000)).unwrap();
            disk.sync(&path("t-0/0.log"));
            disk.write(&path("t-0/0.log"), 1000, &ones(5000)).unwrap();
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
            let mut disk = Disk::default();
            disk.write(&path("log"), 0, b"abc").unwrap();
            let sync = disk.begin_sync(&path("log")).unwrap();
            disk.write(&path("log"), 3, b"def").unwrap();
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
            let mut disk = Disk::default();
            disk.write(&path("t-0/a"), 0, b"a").unwrap();
            disk.sync(&path("t-0/a"));
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
    fn the_host_refuses_what_a_file_system_refuses() {
        let mut disk = Disk::default();
        assert!(disk.apply(&Op::Rename { from: path("a"), to: path("b") }).is_err());
        disk.apply(&Op::Remove { path: path("a/b") }).unwrap();
        disk.write(&path("a/b"), 0, b"x").unwrap();
        assert!(disk.write(&path("a"), 0, b"x").is_err());
        disk.apply(&Op::Remove { path: path("a") }).unwrap();
        assert_eq!(disk.list(&path("")), []);
    }
}
