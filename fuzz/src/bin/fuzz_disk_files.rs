//! Each kind of file that is read whole from a data directory: it is refused, or what it says survives being written and
//! read again. The first byte says which kind it is.
//!
//! (Segments with their indexes are the subject of `fuzz_recovery`, whole directories that of `fuzz_boot`.)

#![no_main]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::LazyLock;
use std::time::Duration;

use dohle_broker::boot_facts::MetaProperties;
use dohle_broker::snapshot_file::{LoadSnapshot, Snapshot, WriteSnapshot};
use dohle_broker::trash_files::ReadTrash;
use dohle_fuzz::disk::Disk;
use dohle_fuzz::input::repair_checksums;
use dohle_fuzz::seeds::{self, DiskFile};
use dohle_protocol::Message as _;
use dohle_protocol::messages::TrashManifest;
use dohle_storage::disk::LogDir;
use dohle_storage::{OpenLog, Opening, checkpoint, producer_snapshot};
use dohle_types::{Now, Offset, Timestamp};
use libfuzzer_sys::fuzz_target;

static LOG: LazyLock<Disk> = LazyLock::new(seeds::log_disk);

fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else { return };
    match DiskFile::ALL[usize::from(kind) % DiskFile::ALL.len()] {
        DiskFile::Offsets => survives(
            bytes,
            |file| checkpoint::parse_offsets(file).ok(),
            |offsets| checkpoint::format_offsets(offsets.iter().map(|(name, &at)| (name, at))).into(),
        ),
        DiskFile::Epochs => survives(
            bytes,
            |file| checkpoint::parse_epochs(file).ok(),
            |epochs| checkpoint::format_epochs(epochs).into(),
        ),
        DiskFile::PartitionMetadata => survives(bytes, checkpoint::parse_partition_metadata, |topic_id| {
            checkpoint::format_partition_metadata(*topic_id).into()
        }),
        DiskFile::MetaProperties => survives(
            bytes,
            |file| MetaProperties::parse(str::from_utf8(file).ok()?).ok(),
            |meta| meta.format().into(),
        ),
        DiskFile::ProducerSnapshot => {
            survives(
                &with_crc(bytes),
                |file| producer_snapshot::decode(file).ok(),
                |states| producer_snapshot::encode(states.iter().map(|(id, state)| (*id, state))).into(),
            );
        }
        DiskFile::TrashManifest => survives(&with_crc(bytes), read_manifest, |manifest| {
            let body = manifest.to_bytes(0).expect("what was read can be written");
            with_crc(&[&[0; 6], &body[..]].concat())
        }),
        DiskFile::MetadataSnapshot => metadata_snapshot(bytes.to_vec()),
        DiskFile::TransactionIndex => transaction_index(bytes),
    }
});

/// What can be read reads the same after it was written.
fn survives<T: PartialEq + Debug>(
    file: &[u8],
    read: impl Fn(&[u8]) -> Option<T>,
    write: impl Fn(&T) -> Vec<u8>,
) {
    if let Some(read_first) = read(file) {
        let written = write(&read_first);
        assert_eq!(read(&written), Some(read_first), "written as {written:?}");
    }
}

/// The file with the CRC that it should have after its version: a fuzzer does not find it.
fn with_crc(file: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    if let Some((head, rest)) = file.split_first_chunk_mut::<6>() {
        head[2..].copy_from_slice(&crc32c::crc32c(rest).to_be_bytes());
    }
    file
}

fn read_manifest(file: &[u8]) -> Option<TrashManifest> {
    let mut disk = Disk::default();
    disk.files.insert("a.trash".into(), file.to_vec());
    disk.run(&mut ReadTrash::new(LogDir::FIRST, BTreeMap::new())).manifests.pop()
}

/// The image that a snapshot makes is that of the snapshot that it makes.
fn metadata_snapshot(mut bytes: Vec<u8>) {
    repair_checksums(&mut bytes);
    let mut disk = Disk::default();
    disk.files.insert(seeds::SNAPSHOT.into(), bytes);
    let load = |disk: &mut Disk| disk.run(&mut LoadSnapshot::new(LogDir::FIRST));
    let Ok(loaded) = load(&mut disk) else { return };
    let Some(file) = loaded.files.values().next() else { return };
    let snapshot = Snapshot {
        image: loaded.image.clone(),
        quorum: loaded.quorum.clone(),
        last_appended: file.timestamp,
    };
    let mut other = Disk::default();
    other.run(&mut WriteSnapshot::new(snapshot, LogDir::FIRST, now()));
    let again = load(&mut other).expect("what was written can be read");
    assert_eq!(again.image, loaded.image);
    assert_eq!(again.quorum, loaded.quorum);
}

/// Whatever the index of a log says, a consumer is told of transactions in its range only.
fn transaction_index(bytes: &[u8]) {
    let mut disk = LOG.clone();
    disk.files.insert(seeds::log_file(4, 0).into(), bytes.to_vec());
    let opening = Opening {
        dir: seeds::LOG_DIR.into(),
        topic_id: seeds::topic_id(),
        config: seeds::small_segments().into(),
        clean: true,
        recovery_point: None,
        start_offset: None,
        durable_to: None,
        cleaned: None,
        now: now(),
    };
    let log = disk.run(&mut OpenLog::new(opening)).expect("the records of the log are good");
    for (from, to) in [(0, 16), (3, 4), (9, 16)].map(|(from, to)| (Offset(from), Offset(to))) {
        let job = log.find_aborted(from, to);
        for aborted in job.map(|mut job| disk.run(&mut job)).unwrap_or_default() {
            assert!(aborted.last_offset >= from && aborted.first_offset < to, "{aborted:?}");
        }
    }
}

fn now() -> Now {
    Now { instant: Duration::from_secs(1), wall: Timestamp(1_800_000_000_000) }
}
