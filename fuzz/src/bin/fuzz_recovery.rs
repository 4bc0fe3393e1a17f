//! The directory of a partition with arbitrary files: the log opens or is refused. One that was checked while it
//! opened can be read from its start to its end, takes another batch, and opens again with the same records.
//!
//! A piece's head names the suffix and the base offset of a file; the first piece's bytes say how to open.

#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use dohle_fuzz::disk::Disk;
use dohle_fuzz::input::{pieces, repair_checksums};
use dohle_fuzz::seeds::{self, LOG_DIR};
use dohle_records::Batches;
use dohle_storage::disk::{FilePath, Op};
use dohle_storage::{Codecs, Log, OpenLog, Opening, Origin, Read, ReadError};
use dohle_types::{LeaderEpoch, Now, Offset, Timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut pieces = pieces(data).into_iter();
    let Some(how) = pieces.next() else { return };
    let [flags, recovery_point, start_offset] = how.head;
    let mut disk = Disk::default();
    for mut piece in pieces.take(16) {
        let path: FilePath = seeds::log_file(piece.head[0], piece.head[1]).into();
        if path.ends_with(".log") && flags & 1 == 0 {
            repair_checksums(&mut piece.bytes);
        }
        disk.files.insert(path, piece.bytes);
    }
    let offset = |byte: u8| (byte != 255).then_some(Offset(byte.into()));
    let opening = Opening {
        dir: LOG_DIR.into(),
        topic_id: seeds::topic_id(),
        config: Arc::new(seeds::small_segments()),
        clean: flags & 2 != 0,
        recovery_point: offset(recovery_point),
        start_offset: offset(start_offset),
        cleaned: (flags & 4 != 0).then_some(Offset(i64::MAX)),
        durable_to: None,
        now: now(),
    };
    let Ok(mut log) = disk.run(&mut OpenLog::new(opening.clone())) else { return };
    let checked = !opening.clean && opening.recovery_point.is_none_or(|point| point == Offset::ZERO);
    let before = read_all(&mut log, &mut disk, checked, opening.cleaned.is_some());
    for timestamp in [0, 900, i64::MAX] {
        if let Some(mut job) = log.find_by_timestamp(Timestamp(timestamp), log.end_offset()) {
            let _ = disk.run(&mut job);
        }
    }
    if let Some(mut job) = log.find_max_timestamp(log.end_offset()) {
        let _ = disk.run(&mut job);
    }
    if let Some(mut job) = log.find_aborted(log.start_offset(), log.end_offset()) {
        disk.run(&mut job);
    }
    let mut ops = Vec::new();
    append(&mut log, &mut ops, checked);
    let high_watermark = log.end_offset();
    log.retain(now(), high_watermark, Offset::ZERO, &mut ops);
    log.close(&mut ops);
    ops.into_iter().for_each(|op| disk.apply(op));
    let cleaned = opening.cleaned;
    let again = Opening { clean: false, start_offset: Some(log.start_offset()), ..opening };
    let reopened = disk.run(&mut OpenLog::new(again));
    if checked {
        let mut reopened = reopened.expect("what was recovered opens");
        assert_eq!(reopened.end_offset(), log.end_offset());
        let after = read_all(&mut reopened, &mut disk, true, cleaned.is_some());
        assert!(log.start_offset() > reopened_start(&before) || after.starts_with(&before));
    }
});

/// Where the batches begin.
fn reopened_start(batches: &[Bytes]) -> Offset {
    let first = batches.first().and_then(|bytes| Batches::new(bytes.clone()).next());
    first.and_then(Result::ok).map_or(Offset::ZERO, |batch| batch.header().base_offset)
}

fn append(log: &mut Log, ops: &mut Vec<Op>, must: bool) {
    let batch = seeds::batch(Default::default(), &[1_800_000_000_000], 10);
    let origin = Origin::Client { zstd_allowed: true };
    let appended = log.append(now(), batch, origin, LeaderEpoch(i32::MAX), &mut Codecs::default(), ops);
    assert!(!must || appended.is_ok(), "{appended:?}");
}

/// All batches that are not damaged, one slice each, read as a fetch does: around the damage that is known, and telling the
/// log of what is found. Of a log that was cleaned the last records may be gone.
fn read_all(log: &mut Log, disk: &mut Disk, must: bool, cleaned: bool) -> Vec<Bytes> {
    let mut batches: Vec<Bytes> = Vec::new();
    let mut next = log.start_offset();
    while next < log.end_offset() {
        if let Some(damage) = log.damage_at(next) {
            next = damage.to;
            continue;
        }
        let read = log.read(next, log.end_offset(), 1 << 20, true).expect("inside of the log");
        let slices = match read {
            Read::Hot(slices) => Ok(slices),
            Read::Cold(mut job) => disk.run(&mut job),
        };
        let slices = match slices {
            Ok(slices) if !slices.is_empty() => slices,
            Ok(_) if cleaned => break,
            Err(ReadError::Damaged(damage)) => {
                // Known already: records before it are missing as well, and a fetch is refused.
                if !log.note_damage(damage.clone()) {
                    assert!(damage.to > next, "damage at {next} is not before it: {damage:?}");
                    next = damage.to;
                }
                continue;
            }
            other => {
                assert!(!must, "nothing at {next}: {other:?}");
                break;
            }
        };
        for batch in slices.into_iter().flat_map(Batches::new) {
            let batch = batch.expect("whole batches are read");
            // What was closed in good order is trusted when it is opened; damage to it is met when it is read.
            if !must && batch.header().next_offset() <= next {
                return batches;
            }
            assert!(batch.header().next_offset() > next, "reading goes forward");
            next = batch.header().next_offset();
            batches.push(batch.into_bytes());
        }
    }
    batches
}

fn now() -> Now {
    Now { instant: std::time::Duration::from_secs(1), wall: Timestamp(1_800_000_000_000) }
}
