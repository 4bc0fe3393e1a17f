//! The files of metadata snapshots (KIP-630) and the jobs that read and write them.
//!
//! `00000000000000000257-0000000001.checkpoint` in the metadata log's directory stands for the log below offset 257,
//! whose last record is of epoch 1. It holds record batches: a control batch with the snapshot's header and what the
//! quorum must know, the records of the image, and a control batch with the footer. While it is written its name ends
//! with `.part`; what is renamed is complete and synced.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use dohle_controller::{MetadataImage, MetadataRecord};
use dohle_protocol::Message;
use dohle_protocol::messages::{SnapshotFooterRecord, SnapshotHeaderRecord};
use dohle_records::control::control_batch;
use dohle_records::{
    Batch, BatchBuilder, BatchHeader, BatchOptions, Compressor, ControlRecordKey, ControlRecordType,
    Decompressor, HEADER_SIZE,
};
use dohle_storage::disk::{Answer, FilePath, Job, LogDir, Op, Progress};
use dohle_storage::script::{Disk, Script};
use dohle_types::{LeaderEpoch, Now, Offset, Timestamp};

use crate::quorum::Quorum;

/// The directory of the metadata log.
pub(crate) const METADATA_DIRECTORY: &str = "__cluster_metadata-0";
/// What `kafka-storage format` leaves for the first start: records of the levels of features, and more.
const BOOTSTRAP_CHECKPOINT: &str = "bootstrap.checkpoint";
const SUFFIX: &str = ".checkpoint";
/// What a crash has left of a snapshot that was being written, and what Kafka renames before it removes it.
const LEFTOVERS: [&str; 2] = [".checkpoint.part", ".checkpoint.deleted"];
/// Bytes of records that make one batch of a snapshot; Kafka reads batches of up to 8 MiB.
const BATCH_BYTES: usize = 256 << 10;

/// The name of a snapshot: the part of the log that it stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SnapshotId {
    /// The offset behind the last record that it has taken in.
    pub end: Offset,
    /// The epoch of that record.
    pub epoch: LeaderEpoch,
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:010}", self.end.0, self.epoch.0)
    }
}

impl SnapshotId {
    /// The path of its file in the log dir of the metadata log.
    pub(crate) fn path(self, log_dir: LogDir) -> FilePath {
        log_dir.path(&format!("{METADATA_DIRECTORY}/{self}{SUFFIX}"))
    }

    fn in_name(name: &str) -> Option<Self> {
        let (end, epoch) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        let is_number = |digits: &str, len| digits.len() == len && digits.bytes().all(|b| b.is_ascii_digit());
        (is_number(end, 20) && is_number(epoch, 10))
            .then(|| Some(Self { end: Offset(end.parse().ok()?), epoch: LeaderEpoch(epoch.parse().ok()?) }))?
    }
}

/// A snapshot that is on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotFile {
    /// Bytes.
    pub size: u64,
    /// The time of the last record that it has taken in.
    pub timestamp: Timestamp,
}

/// What the snapshots of a directory say.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Those that can be read.
    pub files: BTreeMap<SnapshotId, SnapshotFile>,
    /// The image that the newest of them makes; empty where there is none.
    pub image: MetadataImage,
    /// What it says of the quorum.
    pub quorum: Quorum,
    /// What the directory was formatted with, where the log has not begun yet.
    pub formatted: Vec<MetadataRecord>,
}

/// Loads the newest snapshot that can be read, and removes what a crash has left of others.
#[derive(Debug)]
pub struct LoadSnapshot(Script<Result<Loaded, String>>);

impl LoadSnapshot {
    /// Will load it from the log dir of the metadata log.
    #[must_use]
    pub fn new(log_dir: LogDir) -> Self {
        Self(Script::new(move |disk| load(disk, log_dir)))
    }
}

impl Job for LoadSnapshot {
    type Output = Result<Loaded, String>;

    fn start(&mut self) -> Progress<Self::Output> {
        self.0.start()
    }

    fn resume(&mut self, answer: Answer) -> Progress<Self::Output> {
        self.0.resume(answer)
    }
}

async fn load(disk: Disk, log_dir: LogDir) -> Result<Loaded, String> {
    let mut files: BTreeMap<SnapshotId, u64> = BTreeMap::new();
    for entry in disk.list(&log_dir.path(METADATA_DIRECTORY)).await {
        if LEFTOVERS.iter().any(|suffix| entry.name.ends_with(suffix)) {
            let path = log_dir.path(&format!("{METADATA_DIRECTORY}/{}", entry.name));
            disk.apply(Op::Remove { path }).await;
        } else if let Some(id) = SnapshotId::in_name(&entry.name) {
            files.insert(id, entry.length);
        }
    }
    let mut loaded = Loaded::default();
    let mut is_newest = true;
    for (&id, &size) in files.iter().rev() {
        let path = id.path(log_dir);
        // Of the older ones only the time is asked for, which their first batch tells.
        let read = if is_newest { read(&disk, &path, size).await } else { read_header(&disk, &path).await };
        match read {
            Ok(contents) => {
                loaded.files.insert(id, SnapshotFile { size, timestamp: contents.timestamp });
                if std::mem::take(&mut is_newest) {
                    (loaded.image, loaded.quorum) = (contents.image, contents.quorum);
                    loaded.image.finish_snapshot(id.end, id.epoch);
                }
            }
            Err(why) => tracing::error!(file = %path, why, "a snapshot of the metadata cannot be read"),
        }
    }
    if loaded.image.end_offset() == Offset::ZERO {
        loaded.formatted = formatted(&disk, log_dir).await?;
    }
    Ok(loaded)
}

async fn formatted(disk: &Disk, log_dir: LogDir) -> Result<Vec<MetadataRecord>, String> {
    let root = disk.list(&log_dir.root()).await;
    let Some(entry) = root.iter().find(|entry| entry.name == BOOTSTRAP_CHECKPOINT) else {
        return Ok(Vec::new());
    };
    let contents = read(disk, &log_dir.path(BOOTSTRAP_CHECKPOINT), entry.length).await;
    let contents = contents.map_err(|why| format!("{BOOTSTRAP_CHECKPOINT} cannot be read: {why}"))?;
    Ok(contents.image.snapshot_records().collect())
}

/// What is in a snapshot.
#[derive(Default)]
struct Contents {
    image: MetadataImage,
    quorum: Quorum,
    timestamp: Timestamp,
    is_complete: bool,
}

async fn read_header(disk: &Disk, path: &FilePath) -> Result<Contents, String> {
    let mut contents = Contents::default();
    let batch = next_batch(disk, path, 0, u64::MAX).await?;
    contents.take_in(&batch, &mut Decompressor::default())?;
    Ok(contents)
}

/// Reads a snapshot of `size` bytes batch by batch.
async fn read(disk: &Disk, path: &FilePath, size: u64) -> Result<Contents, String> {
    let mut contents = Contents::default();
    let mut decompressor = Decompressor::default();
    let mut position = 0;
    while position < size {
        let batch = next_batch(disk, path, position, size - position).await?;
        contents.take_in(&batch, &mut decompressor).map_err(|why| format!("at byte {position}: {why}"))?;
        position += batch.bytes().len() as u64;
    }
    if contents.is_complete { Ok(contents) } else { Err("it has no footer".to_owned()) }
}

async fn next_batch(disk: &Disk, path: &FilePath, position: u64, left: u64) -> Result<Batch, String> {
    let damaged = |why: &dyn fmt::Display| format!("at byte {position}: {why}");
    let header = disk.read(path, position, HEADER_SIZE).await.unwrap_or_default();
    let size = BatchHeader::parse(&header).map_err(|error| damaged(&error))?.size_in_bytes();
    if size as u64 > left {
        return Err(damaged(&"a batch is cut off"));
    }
    let bytes = disk.read(path, position, size).await.unwrap_or_default();
    let batch = Batch::parse(&bytes).map_err(|error| damaged(&error))?;
    batch.check_crc().map_err(|error| damaged(&error))?;
    Ok(batch)
}

impl Contents {
    fn take_in(&mut self, batch: &Batch, decompressor: &mut Decompressor) -> Result<(), String> {
        if self.is_complete {
            return Err("there is more behind the footer".to_owned());
        }
        let header = batch.header();
        for record in batch.records(decompressor).map_err(|error| error.to_string())? {
            let record = record.map_err(|error| error.to_string())?;
            let value = record.value.unwrap_or_default();
            if header.attributes.is_control() {
                let key = ControlRecordKey::parse(&record.key.unwrap_or_default());
                self.take_in_control(key.map_err(|error| error.to_string())?.record_type, &value)?;
            } else {
                let record = MetadataRecord::decode(&value).map_err(|error| error.to_string())?;
                let offset = self.image.end_offset();
                let replayed = self.image.replay(&record, offset, LeaderEpoch(0));
                replayed.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn take_in_control(&mut self, record_type: ControlRecordType, value: &Bytes) -> Result<(), String> {
        match record_type {
            ControlRecordType::SnapshotHeader => {
                let header = SnapshotHeaderRecord::from_bytes(value, 0).map_err(|error| error.to_string())?;
                self.timestamp = Timestamp(header.last_contained_log_timestamp);
            }
            ControlRecordType::SnapshotFooter => self.is_complete = true,
            ControlRecordType::LeaderChange
            | ControlRecordType::KRaftVersion
            | ControlRecordType::KRaftVoters
            | ControlRecordType::Abort
            | ControlRecordType::Commit
            | ControlRecordType::Unknown(_) => self.quorum.replay(record_type, value)?,
        }
        Ok(())
    }
}

/// What a new snapshot is made of.
#[derive(Debug)]
pub struct Snapshot {
    /// The committed image.
    pub image: MetadataImage,
    /// What must be known of the quorum.
    pub quorum: Quorum,
    /// When the image's last record was appended.
    pub last_appended: Timestamp,
}

/// Writes a snapshot.
#[derive(Debug)]
pub struct WriteSnapshot(Script<(SnapshotId, SnapshotFile)>);

impl WriteSnapshot {
    /// Will write it.
    #[must_use]
    pub fn new(snapshot: Snapshot, log_dir: LogDir, now: Now) -> Self {
        Self(Script::new(move |disk| write(disk, snapshot, log_dir, now)))
    }
}

impl Job for WriteSnapshot {
    type Output = (SnapshotId, SnapshotFile);

    fn start(&mut self) -> Progress<Self::Output> {
        self.0.start()
    }

    fn resume(&mut self, answer: Answer) -> Progress<Self::Output> {
        self.0.resume(answer)
    }
}

async fn write(disk: Disk, snapshot: Snapshot, log_dir: LogDir, now: Now) -> (SnapshotId, SnapshotFile) {
    let Snapshot { image, quorum, last_appended } = snapshot;
    let id = SnapshotId { end: image.end_offset(), epoch: image.last_epoch() };
    let path = id.path(log_dir);
    let part: FilePath = format!("{path}.part").into();
    disk.apply(Op::Remove { path: part.clone() }).await;
    let mut writer = Writer { disk: &disk, path: part.clone(), position: 0, id, now, next: Offset::ZERO };

    let header = SnapshotHeaderRecord { version: 0, last_contained_log_timestamp: last_appended.0 };
    let mut controls = vec![(ControlRecordType::SnapshotHeader, encode(&header))];
    controls.extend(quorum.records());
    writer.control(&controls).await;
    let mut records = image.snapshot_records().peekable();
    while records.peek().is_some() {
        let mut batch = writer.begin();
        while batch.size_in_bytes() < BATCH_BYTES
            && let Some(record) = records.next()
        {
            let value = record.encode().unwrap_or_else(|error| unreachable!("{ENCODES}: {error}"));
            if let Err(error) = batch.append(now.wall, None, Some(&value), &[]) {
                unreachable!("a batch of a snapshot is short: {error}");
            }
        }
        writer.end(batch).await;
    }
    writer
        .control(&[(ControlRecordType::SnapshotFooter, encode(&SnapshotFooterRecord { version: 0 }))])
        .await;

    let size = writer.position;
    disk.sync(&part).await;
    disk.apply(Op::Rename { from: part, to: path.clone() }).await;
    disk.sync(&path).await;
    (id, SnapshotFile { size, timestamp: last_appended })
}

/// Why encoding cannot fail.
const ENCODES: &str = "what was decoded, or encoded for the log, can be encoded again";

fn encode(message: &impl Message) -> Bytes {
    message.to_bytes(0).unwrap_or_else(|error| unreachable!("{ENCODES}: {error}"))
}

/// The end of a file that batches are appended to.
struct Writer<'a> {
    disk: &'a Disk,
    path: FilePath,
    position: u64,
    id: SnapshotId,
    now: Now,
    /// The records of a snapshot are counted from 0.
    next: Offset,
}

impl Writer<'_> {
    fn options(&self) -> BatchOptions {
        BatchOptions {
            base_offset: self.next,
            partition_leader_epoch: self.id.epoch,
            ..BatchOptions::default()
        }
    }

    fn begin(&self) -> BatchBuilder {
        BatchBuilder::new(self.options())
    }

    async fn end(&mut self, batch: BatchBuilder) {
        let records = batch.record_count();
        let bytes = batch.build(&mut Compressor::default());
        self.write(bytes.unwrap_or_else(|error| unreachable!("{ENCODES}: {error}")), records).await;
    }

    async fn control(&mut self, records: &[(ControlRecordType, Bytes)]) {
        let values: Vec<_> = records.iter().map(|(record_type, value)| (*record_type, &**value)).collect();
        let bytes = control_batch(self.options(), self.now.wall, &values);
        let count = i32::try_from(records.len()).unwrap_or(i32::MAX);
        self.write(bytes.unwrap_or_else(|error| unreachable!("{ENCODES}: {error}")), count).await;
    }

    async fn write(&mut self, data: Bytes, records: i32) {
        let (path, position) = (self.path.clone(), self.position);
        self.position += data.len() as u64;
        self.next = self.next.plus(i64::from(records));
        self.disk.apply(Op::Write { path, position, data }).await;
    }
}

#[cfg(test)]
mod tests {
    use dohle_controller::Controller;
    use dohle_protocol::messages::TopicRecord;
    use dohle_storage::disk::Step;
    use dohle_storage::memory_disk::MemoryDisk;
    use dohle_types::Rng;

    use super::*;

    /// The metadata log need not be in the first log dir.
    const PLACE: LogDir = LogDir(1);

    /// An image of so many topics, which ends at that offset.
    fn image(topics: u128) -> MetadataImage {
        let mut controller = Controller::default();
        for number in 0..topics {
            let topic_id = uuid::Uuid::from_u128(1 + number);
            let name = format!("topic-{number}-{}", "x".repeat(100));
            let record = TopicRecord { name: name.into(), topic_id }.into();
            let offset = controller.image().end_offset();
            controller.replay(&record, offset, LeaderEpoch(7)).unwrap();
        }
        controller.image().clone()
    }

    fn now() -> Now {
        Now { instant: dohle_types::time::Instant::ZERO, wall: Timestamp(5000) }
    }

    fn job(topics: u128) -> WriteSnapshot {
        let last_appended = Timestamp(4000);
        let snapshot = Snapshot { image: image(topics), quorum: Quorum::default(), last_appended };
        WriteSnapshot::new(snapshot, PLACE, now())
    }

    fn load(disk: &mut MemoryDisk) -> Loaded {
        disk.run(LoadSnapshot::new(PLACE)).unwrap().unwrap()
    }

    #[test]
    fn names_are_kafkas() {
        let id = SnapshotId { end: Offset(257), epoch: LeaderEpoch(1) };
        assert_eq!(
            &*id.path(LogDir::FIRST),
            "__cluster_metadata-0/00000000000000000257-0000000001.checkpoint"
        );
        assert_eq!(SnapshotId::in_name("00000000000000000257-0000000001.checkpoint"), Some(id));
        for other in ["quorum-state", "257-1.checkpoint", "00000000000000000257-0000000001.checkpoint.part"] {
            assert_eq!(SnapshotId::in_name(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_written_is_loaded_in_batches_of_bounded_size() {
        let mut disk = MemoryDisk::default();
        let mut largest = 0;
        let mut job = job(10_000);
        let written = dohle_storage::disk::drive(&mut job, |step| {
            if let Step::Apply(Op::Write { data, .. }) = &step {
                largest = largest.max(data.len());
            }
            disk.perform(&step)
        });
        let (id, file) = written.unwrap();
        assert_eq!((id.end, id.epoch), (Offset(10_000), LeaderEpoch(7)));
        assert!((BATCH_BYTES..BATCH_BYTES + 1000).contains(&largest), "{largest}");
        let loaded = load(&mut disk);
        assert_eq!(loaded.files, BTreeMap::from([(id, file)]));
        assert_eq!(loaded.image, image(10_000));
    }

    /// At any moment the power may go: the new snapshot is there, or the old one is.
    #[test]
    fn a_crash_leaves_the_old_snapshot_or_the_new_one() {
        for seed in 0..40 {
            let mut steps_left = seed / 2;
            let mut disk = MemoryDisk::default();
            disk.run(job(10)).unwrap();
            let mut is_cut = false;
            let written = dohle_storage::disk::drive(&mut job(3000), |step| {
                is_cut = steps_left == 0;
                steps_left -= usize::from(!is_cut);
                if is_cut { Err(crashed()) } else { disk.perform(&step) }
            });
            if seed % 2 == 0 {
                disk.lose_power(&mut Rng::from_seed(seed as u64));
            }
            let loaded = load(&mut disk);
            let expected = if loaded.files.len() == 2 { 3000 } else { 10 };
            assert_eq!(loaded.image, image(expected), "seed {seed}");
            assert!(is_cut || (written.is_ok() && expected == 3000), "seed {seed}: it was written");
            assert!(disk.files().keys().all(|path| !path.ends_with(".part")), "seed {seed}");
        }
    }

    fn crashed() -> dohle_storage::disk::DiskError {
        let (path, reason) = ("".into(), "the process has ended".to_owned());
        dohle_storage::disk::DiskError { operation: "write", path, reason, is_full: false }
    }

    #[test]
    fn a_damaged_snapshot_is_passed_over_for_an_older_one() {
        let mut disk = MemoryDisk::default();
        disk.run(job(10)).unwrap();
        let (newer, file) = disk.run(job(20)).unwrap();
        let size = usize::try_from(file.size).unwrap();
        for position in [20, 300, size - 1] {
            assert!(disk.flip_bit(&newer.path(PLACE), position, 3));
            let loaded = load(&mut disk);
            assert_eq!((loaded.files.len(), loaded.image), (1, image(10)), "byte {position}");
            assert!(disk.flip_bit(&newer.path(PLACE), position, 3));
        }
        disk.apply(&Op::Truncate { path: newer.path(PLACE), length: file.size - 75 }).unwrap();
        assert_eq!(load(&mut disk).image, image(10), "without its footer");
    }
}
