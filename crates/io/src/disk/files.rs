//! Files below the log dirs: a bounded set of open handles, and which directories a sync must include.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use dohle_storage::disk::{Answer, DiskError, Entry, FilePath, LogDir, Op, Step};
use dohle_types::FastSet;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// Handles that stay open between uses.
pub const OPEN_FILES_MAX: usize = 4096;

/// Slices that one gathered write may have (Linux's `IOV_MAX`).
const SLICES_PER_WRITE_MAX: usize = 1024;

/// The log dirs of a node, held exclusively while this lives. Shared by all threads that do I/O.
#[derive(Debug)]
pub struct Files {
    roots: Vec<Root>,
    state: Mutex<State>,
    syncing_directories: Mutex<()>,
}

/// A log dir.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Holds the lock on the directory; or why it cannot be used, which whoever asks for a file in it is told.
    held: Result<File, String>,
    /// How often directories in it were renamed.
    renames: AtomicU64,
}

/// A log dir that keeps the node from starting.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the log dir {path}: {error}")]
pub struct LogDirError {
    /// The directory.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

#[derive(Debug, Default)]
struct State {
    /// By path, so that those below a directory stand together.
    open: BTreeMap<FilePath, OpenFile>,
    uses: u64,
    /// How often handles were closed because names changed: what was opened before that is not kept after it.
    names_changed: u64,
    /// Directories in which a name was created, changed or removed since they were last synced.
    changed_directories: FastSet<PathBuf>,
}

#[derive(Debug)]
struct OpenFile {
    file: Arc<File>,
    last_used: u64,
}

impl Files {
    /// Opens the log dirs, creating those that are not there, and locks them against other processes. One of several
    /// that cannot be created or written is left out, as in Kafka: every use of it fails.
    ///
    /// # Errors
    /// None of them can be used, one is named twice, or another process holds it.
    pub fn open(directories: &[PathBuf]) -> Result<Self, LogDirError> {
        let mut roots: Vec<Root> = Vec::new();
        let mut seen = Vec::new();
        for path in directories {
            let held = fs::create_dir_all(path).and_then(|()| {
                let canonical = path.canonicalize()?;
                if seen.contains(&canonical) {
                    return Err(io::Error::new(ErrorKind::ResourceBusy, "log.dirs names it twice"));
                }
                seen.push(canonical);
                lock(path)
            });
            let is_fatal = |error: &io::Error| error.kind() == ErrorKind::ResourceBusy;
            match held {
                Err(error) if directories.len() == 1 || is_fatal(&error) => {
                    return Err(LogDirError { path: path.clone(), error });
                }
                held => {
                    let held = held.map_err(|error| error.to_string());
                    roots.push(Root { path: path.clone(), held, renames: AtomicU64::new(0) });
                }
            }
        }
        Ok(Self { roots, state: Mutex::default(), syncing_directories: Mutex::default() })
    }

    /// Carries out one step of a job.
    ///
    /// # Errors
    /// What the system said.
    pub fn perform(&self, step: Step) -> Result<Answer, DiskError> {
        match step {
            Step::List { path } => self.list(&path).map(Answer::Listed).map_err(failed("list", &path)),
            Step::Read { path, position, length } => {
                self.read(&path, position, length).map(Answer::Read).map_err(failed("read", &path))
            }
            Step::Apply(op) => self.apply(op).map(|()| Answer::Done),
            Step::Replace { path, data } => {
                self.replace(&path, &data).map(|()| Answer::Done).map_err(failed("replace", &path))
            }
            Step::Sync { path } => self.sync(&path).map(|()| Answer::Done),
            Step::SyncAll { log_dir } => self.sync_all(log_dir).map(|()| Answer::Done),
        }
    }

    /// Carries out a change to files.
    ///
    /// # Errors
    /// What the system said.
    pub fn apply(&self, op: Op) -> Result<(), DiskError> {
        match op {
            Op::Write { path, position, data } => self.write(&path, position, &[data]),
            Op::Allocate { path, length } => self
                .handle(&path, true)
                .and_then(|file| allocate(&file, length))
                .map_err(failed("allocate", &path)),
            Op::Truncate { path, length } => self
                .handle(&path, true)
                .and_then(|file| file.set_len(length))
                .map_err(failed("truncate", &path)),
            Op::Link { from, to } => self.link(&from, &to).map_err(failed("link", &to)),
            Op::Rename { from, to } => self.rename(&from, &to).map_err(failed("rename", &from)),
            Op::Remove { path } => self.remove(&path).map_err(failed("remove", &path)),
        }
    }

    /// Writes consecutive slices at `position` in as few system calls as can be.
    ///
    /// # Errors
    /// What the system said; part of the data may have been written.
    pub fn write(&self, path: &FilePath, position: u64, slices: &[Bytes]) -> Result<(), DiskError> {
        self.handle(path, true)
            .and_then(|file| write_all_vectored_at(&file, position, slices))
            .map_err(failed("write", path))
    }

    /// Makes a file's content, length and name durable.
    ///
    /// # Errors
    /// What the system said. It must not be tried again: the kernel may have dropped what it failed to write.
    pub fn sync(&self, path: &FilePath) -> Result<(), DiskError> {
        let file = match self.handle(path, false) {
            Ok(file) => file,
            // Removed since the sync was asked for: nothing is left to make durable.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("sync", path)(error)),
        };
        file.sync_data().and_then(|()| self.sync_directories_of(path)).map_err(failed("sync", path))
    }

    /// Writes zeros from the end of a file on until it is of this length.
    ///
    /// # Errors
    /// What the system said.
    pub fn fill(&self, path: &FilePath, length: u64) -> Result<(), DiskError> {
        const CHUNK: u64 = 1 << 20;
        let fill = || {
            let file = self.handle(path, true)?;
            let zeros = vec![0; usize::try_from(CHUNK.min(length)).unwrap_or_default()];
            let mut position = file.metadata()?.len();
            while position < length {
                let count = usize::try_from(length - position).unwrap_or(usize::MAX).min(zeros.len());
                file.write_all_at(zeros.get(..count).unwrap_or_default(), position)?;
                position += count as u64;
            }
            Ok(())
        };
        fill().map_err(failed("write", path))
    }

    /// Makes everything in the file system of a log dir durable.
    ///
    /// # Errors
    /// What the system said; see [`Files::sync`].
    pub fn sync_all(&self, log_dir: LogDir) -> Result<(), DiskError> {
        // By a handle that is open from the start on: it is told of errors that others were told of before.
        let reason = |reason: &String| io::Error::other(reason.clone());
        let lock = self.root(log_dir).and_then(|root| root.held.as_ref().map_err(reason));
        lock.and_then(|lock| rustix::fs::syncfs(lock).map_err(io::Error::from))
            .map_err(failed("sync", &log_dir.root()))
    }

    /// How often directories in a log dir were renamed, or were about to be.
    pub fn directories_renamed(&self, log_dir: LogDir) -> u64 {
        self.root(log_dir).map_or(0, |root| root.renames.load(Ordering::SeqCst))
    }

    /// The log dirs, by their places.
    pub fn log_dirs(&self) -> impl Iterator<Item = LogDir> + use<> {
        (0..self.roots.len()).filter_map(|place| u16::try_from(place).ok()).map(LogDir)
    }

    /// The path of a log dir, as it is configured.
    #[must_use]
    pub fn name(&self, log_dir: LogDir) -> String {
        let root = self.roots.get(usize::from(log_dir.0));
        root.map_or_else(String::new, |root| root.path.display().to_string())
    }

    /// How many files are open.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.state().open.len()
    }

    /// The bytes of a log dir's volume, and those of them that can be used.
    ///
    /// # Errors
    /// What the system said.
    pub fn space(&self, log_dir: LogDir) -> io::Result<(u64, u64)> {
        let volume = rustix::fs::statvfs(&self.root(log_dir)?.path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
        Ok((bytes(volume.f_blocks), bytes(volume.f_bavail)))
    }

    fn list(&self, path: &FilePath) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let absolute = self.absolute(path)?;
        let directory = match self.with_handle(|| fs::read_dir(&absolute)) {
            Ok(directory) => directory,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(entries),
            Err(error) => return Err(error),
        };
        for entry in directory {
            let entry = entry?;
            let metadata = entry.metadata()?;
            // A name that is not UTF-8, or looks like the prefix of another log dir, is none of ours.
            if let Ok(name) = entry.file_name().into_string()
                && !name.starts_with('@')
            {
                let is_directory = metadata.is_dir();
                let length = if is_directory { 0 } else { metadata.len() };
                let is_shared = !is_directory && metadata.nlink() > 1;
                entries.push(Entry { name, length, is_directory, is_shared });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn read(&self, path: &FilePath, position: u64, length: usize) -> io::Result<Option<Bytes>> {
        let file = match self.handle(path, false) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let available = file.metadata()?.len().saturating_sub(position);
        let length = length.min(usize::try_from(available).unwrap_or(usize::MAX));
        let mut buffer = BytesMut::zeroed(length);
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, position + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(filled);
        Ok(Some(buffer.freeze()))
    }

    fn replace(&self, path: &FilePath, data: &[u8]) -> io::Result<()> {
        let target = self.absolute(path)?;
        let mut temporary = target.clone().into_os_string();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        self.create_directories(&target)?;
        let mut file = self.with_handle(|| File::create(&temporary))?;
        file.write_all(data)?;
        file.sync_data()?;
        fs::rename(&temporary, &target)?;
        self.close_below(path);
        self.note_changed_name(&target);
        self.sync_directories_of(path)
    }

    fn link(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        let (source, target) = (self.absolute(from)?, self.absolute(to)?);
        self.create_directories(&target)?;
        match fs::hard_link(&source, &target) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(error),
            // Some file systems have no hard links, and all of them have a limit to how many a file may have.
            Err(_) => copy_durably(&source, &target)?,
        }
        self.note_changed_name(&target);
        Ok(())
    }

    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        let (from_path, to_path) = (self.absolute(from)?, self.absolute(to)?);
        if !LogDir::split(from).1.contains('/') {
            self.root(LogDir::of(from))?.renames.fetch_add(1, Ordering::SeqCst);
        }
        fs::rename(&from_path, &to_path)?;
        // Other threads may have opened the old files meanwhile.
        self.close_below(from);
        self.close_below(to);
        self.note_changed_name(&from_path);
        self.note_changed_name(&to_path);
        Ok(())
    }

    fn remove(&self, path: &FilePath) -> io::Result<()> {
        self.close_below(path);
        let target = self.absolute(path)?;
        let removed = match fs::symlink_metadata(&target) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&target),
            Ok(_) => fs::remove_file(&target),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map(|()| {
                // Other threads may have opened it meanwhile.
                self.close_below(path);
                self.note_changed_name(&target);
            }),
        }
    }

    /// Forgets the handles of a path and of everything below it.
    fn close_below(&self, path: &FilePath) {
        let below = format!("{path}/");
        let mut state = self.state();
        state.names_changed += 1;
        state.open.remove(path);
        let from: FilePath = below.as_str().into();
        while let Some((open, _)) = state.open.range(Arc::clone(&from)..).next()
            && open.starts_with(&below)
        {
            let open = Arc::clone(open);
            state.open.remove(&open);
        }
    }

    fn handle(&self, path: &FilePath, create: bool) -> io::Result<Arc<File>> {
        let names_changed = {
            let mut state = self.state();
            state.uses += 1;
            let uses = state.uses;
            if let Some(open) = state.open.get_mut(path) {
                open.last_used = uses;
                return Ok(Arc::clone(&open.file));
            }
            state.names_changed
        };
        let absolute = self.absolute(path)?;
        let open =
            |create_new| OpenOptions::new().read(true).write(true).create_new(create_new).open(&absolute);
        let file = match self.with_handle(|| open(false)) {
            Err(error) if error.kind() == ErrorKind::NotFound && create => {
                self.create_directories(&absolute)?;
                let file = self.with_handle(|| open(true))?;
                // After the fact: a sync that runs meanwhile on its thread must not take the note for done.
                self.note_changed_name(&absolute);
                file
            }
            other => other?,
        };
        let file = Arc::new(file);
        let mut state = self.state();
        if state.names_changed != names_changed {
            return Ok(file);
        }
        if state.open.len() >= OPEN_FILES_MAX {
            state.close_oldest();
        }
        let last_used = state.uses;
        state.open.insert(Arc::clone(path), OpenFile { file: Arc::clone(&file), last_used });
        Ok(file)
    }

    /// Opens something, after closing what is unused where the process has no handle left.
    fn with_handle<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match open() {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
                self.state().close_oldest();
                open()
            }
            other => other,
        }
    }

    /// Creates the directories above `target`, remembering which names a sync must make durable.
    fn create_directories(&self, target: &Path) -> io::Result<()> {
        let Some(parent) = target.parent() else { return Ok(()) };
        match fs::create_dir(parent) {
            Ok(()) => {
                self.note_changed_name(parent);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.create_directories(parent)?;
                self.create_directories(target)
            }
            Err(error) => Err(error),
        }
    }

    fn note_changed_name(&self, target: &Path) {
        if let Some(parent) = target.parent() {
            self.state().changed_directories.insert(parent.to_path_buf());
        }
    }

    /// Syncs the directories between the log dir and `path` in which names changed.
    fn sync_directories_of(&self, path: &FilePath) -> io::Result<()> {
        let target = self.absolute(path)?;
        let root = self.root(LogDir::of(path))?;
        // Whoever finds a directory unchanged must not go on while another thread is still syncing it.
        let _one_at_a_time = self.syncing_directories.lock().unwrap_or_else(PoisonError::into_inner);
        for directory in target.ancestors().skip(1) {
            if self.state().changed_directories.remove(directory) {
                self.with_handle(|| File::open(directory))?.sync_all()?;
            }
            if directory == root.path {
                break;
            }
        }
        Ok(())
    }

    fn absolute(&self, path: &FilePath) -> io::Result<PathBuf> {
        let (log_dir, name) = LogDir::split(path);
        let root = &self.root(log_dir)?.path;
        Ok(if name.is_empty() { root.clone() } else { root.join(name) })
    }

    fn root(&self, log_dir: LogDir) -> io::Result<&Root> {
        let root = self.roots.get(usize::from(log_dir.0));
        let root = root.ok_or_else(|| io::Error::other(format!("there is no {log_dir:?}")))?;
        match &root.held {
            Ok(_) => Ok(root),
            Err(reason) => Err(io::Error::other(reason.clone())),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Closes the quarter of the handles that was unused for longest.
    fn close_oldest(&mut self) {
        let mut uses: Vec<u64> = self.open.values().map(|open| open.last_used).collect();
        uses.sort_unstable();
        let limit = uses.get(uses.len() / 4).copied().unwrap_or_default();
        self.open.retain(|_, open| open.last_used > limit);
    }
}

/// Locks a log dir for this process.
fn lock(directory: &Path) -> io::Result<File> {
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(directory.join(".lock"))?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => {
            let hint = "another process uses this data directory: stop it, or choose another with --data";
            Err(io::Error::new(ErrorKind::ResourceBusy, hint))
        }
        Err(error) => Err(error.into()),
    }
}

/// Takes room for a file of `length` bytes, where there is any.
fn allocate(file: &File, length: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, length) {
        Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        other => other.map_err(io::Error::from),
    }
}

fn copy_durably(source: &Path, target: &Path) -> io::Result<()> {
    let mut copy = File::create_new(target)?;
    io::copy(&mut File::open(source)?, &mut copy)?;
    copy.sync_data()
}

fn write_all_vectored_at(file: &File, mut position: u64, slices: &[Bytes]) -> io::Result<()> {
    if let [only] = slices {
        return file.write_all_at(only, position);
    }
    let mut slices = slices;
    let mut skip = 0;
    while let Some(first) = slices.first() {
        if skip >= first.len() {
            skip -= first.len();
            slices = slices.split_first().map_or(&[], |(_, rest)| rest);
            continue;
        }
        let gathered: Vec<IoSlice<'_>> = slices
            .iter()
            .take(SLICES_PER_WRITE_MAX)
            .enumerate()
            .map(|(index, slice)| {
                IoSlice::new(slice.get(if index == 0 { skip } else { 0 }..).unwrap_or_default())
            })
            .collect();
        match rustix::io::pwritev(file, &gathered, position) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                position += count as u64;
                skip += count;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn failed<'a>(operation: &'static str, path: &'a FilePath) -> impl Fn(io::Error) -> DiskError + 'a {
    move |error| {
        let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        DiskError {
            operation,
            path: Arc::clone(path),
            reason: error.to_string(),
            // A sync that failed for want of room is still one that must not be tried again.
            is_full: is_full && operation != "sync",
        }
    }
}

/// Reads a whole small file that lies outside the data directory, such as `server.properties`.
///
/// # Errors
/// What the system said, or that the file is larger than a megabyte.
pub fn read_small_file(path: &Path) -> io::Result<String> {
    const LIMIT: u64 = 1 << 20;
    let mut text = String::new();
    File::open(path)?.take(LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn temporary() -> PathBuf {
        let name = format!("dohle-files-{}-{:?}", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        path
    }

    fn path(name: &str) -> FilePath {
        Arc::from(name)
    }

    #[test]
    fn what_is_written_is_read_listed_and_removed() {
        let root = temporary();
        let files = Files::open(std::slice::from_ref(&root)).unwrap();
        let log = path("t-0/0.log");
        files
            .write(&log, 0, &[Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defg")])
            .unwrap();
        files.sync(&log).unwrap();
        let read = |position, length| files.perform(Step::Read { path: path("t-0/0.log"), position, length });
        assert_eq!(read(2, 3), Ok(Answer::Read(Some(Bytes::from_static(b"cde")))));
        assert_eq!(read(5, 100), Ok(Answer::Read(Some(Bytes::from_static(b"fg")))));
        assert_eq!(read(50, 100), Ok(Answer::Read(Some(Bytes::new()))));
        let entry = Entry { name: "0.log".into(), length: 7, is_directory: false, is_shared: false };
        assert_eq!(files.perform(Step::List { path: path("t-0") }), Ok(Answer::Listed(vec![entry])));
        files.apply(Op::Rename { from: path("t-0"), to: path("t-0.gone") }).unwrap();
        assert_eq!(read(0, 1), Ok(Answer::Read(None)));
        files.apply(Op::Remove { path: path("t-0.gone") }).unwrap();
        files.apply(Op::Remove { path: path("t-0.gone") }).unwrap();
        assert_eq!(files.perform(Step::List { path: path("t-0.gone") }), Ok(Answer::Listed(vec![])));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn allocated_room_does_not_show_in_a_files_length_and_is_given_back() {
        let root = temporary();
        let files = Files::open(std::slice::from_ref(&root)).unwrap();
        let log = path("t-0/0.log");
        let facts = || {
            let metadata = fs::metadata(root.join("t-0/0.log")).unwrap();
            (metadata.len(), metadata.blocks() * 512 >= 1 << 20)
        };
        files.apply(Op::Allocate { path: log.clone(), length: 1 << 20 }).unwrap();
        assert_eq!(facts(), (0, true));
        files.write(&log, 0, &[Bytes::from_static(b"abc")]).unwrap();
        assert_eq!(facts(), (3, true));
        files.apply(Op::Truncate { path: log.clone(), length: 3 }).unwrap();
        assert_eq!(facts(), (3, false));
        // There is no such room: what is written will say so.
        files.apply(Op::Allocate { path: log.clone(), length: 1 << 60 }).unwrap();
        assert_eq!(facts(), (3, false));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_link_is_the_same_file_and_one_of_nothing_is_passed_over() {
        let root = temporary();
        let files = Files::open(std::slice::from_ref(&root)).unwrap();
        files.write(&path("t-0/0.log"), 0, &[Bytes::from_static(b"abc")]).unwrap();
        let link = |from: &str, to: &str| files.apply(Op::Link { from: path(from), to: path(to) });
        link("t-0/0.log", "t-1/0.log").unwrap();
        link("t-0/none.log", "t-1/none.log").unwrap();
        assert!(link("t-0/0.log", "t-1/0.log").is_err(), "there is one of that name");
        files.apply(Op::Remove { path: path("t-0") }).unwrap();
        let entry = |is_shared| Entry { name: "0.log".into(), length: 3, is_directory: false, is_shared };
        assert_eq!(files.list(&path("t-1")).unwrap(), [entry(false)]);
        link("t-1/0.log", "t-2/0.log").unwrap();
        assert_eq!(files.list(&path("t-1")).unwrap(), [entry(true)]);
        // Where there can be no link.
        copy_durably(&root.join("t-1/0.log"), &root.join("t-1/1.log")).unwrap();
        assert_eq!(fs::read(root.join("t-1/1.log")).unwrap(), b"abc");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_log_dir_has_one_user_and_is_named_once() {
        let root = temporary();
        let directories = [root.join("a"), root.join("b")];
        let refused = |directories: &[PathBuf]| Files::open(directories).unwrap_err().to_string();
        let first = Files::open(&directories).unwrap();
        assert!(refused(&directories[1..]).contains("--data"));
        drop(first);
        Files::open(&directories).unwrap();
        assert!(refused(&[root.join("a"), root.join("b/../a")]).contains("twice"));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn each_log_dir_has_its_own_files_and_one_that_is_gone_fails_alone() {
        let root = temporary();
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("file"), "in the way").unwrap();
        let files = Files::open(&[root.join("a"), root.join("b"), root.join("file")]).unwrap();
        for (log_dir, content) in [(LogDir(0), "first"), (LogDir(1), "second")] {
            let path = log_dir.path("t-0/0.log");
            files.write(&path, 0, &[Bytes::from_static(content.as_bytes())]).unwrap();
            files.sync(&path).unwrap();
            let listed = files.perform(Step::List { path: log_dir.root() }).unwrap();
            let entry = |name: &str, is_directory| Entry {
                name: name.into(),
                length: 0,
                is_directory,
                is_shared: false,
            };
            assert_eq!(listed, Answer::Listed(vec![entry(".lock", false), entry("t-0", true)]));
        }
        assert_eq!(fs::read_to_string(root.join("a/t-0/0.log")).unwrap(), "first");
        assert_eq!(fs::read_to_string(root.join("b/t-0/0.log")).unwrap(), "second");
        let path = LogDir(2).path("t-0/0.log");
        let error = files.write(&path, 0, &[Bytes::from_static(b"x")]).unwrap_err();
        assert_eq!((error.operation, &*error.path), ("write", "@2/t-0/0.log"));
        fs::remove_dir_all(root).unwrap();
    }
}
