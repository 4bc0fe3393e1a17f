//! Recovery after a crash: what lies above the recovery point is read batch by batch, the torn end is cut off, and
//! everything that follows from the batches (indexes, producers, epochs) is made anew. Where within a segment that
//! begins is found in `resume.rs`; what counts as torn, and what as damage, is decided in `scan.rs`. What is damaged
//! stays as it is in the files; its offsets are refused to readers (`damage.rs`), and all others are read. Where the
//! end itself is damaged or lost nobody knows which offsets were given out, so that nothing is appended any more.
//!
//! That a batch above the recovery point reads well does not mean that the medium has it: after a sync that failed,
//! the system may take for written what was not, and show it until the power goes ("Can Applications Recover from
//! fsync Failures?", USENIX ATC 2020). A process that starts again would believe it, and its next sync would have
//! nothing to write. So what lies above the recovery point is written once more before it is synced and served.

use std::ops::Range;

use bytes::Bytes;
use dohle_types::Offset;

use crate::checkpoint::{self, LEADER_EPOCH_CHECKPOINT, PARTITION_METADATA};
use crate::disk::{Entry, FilePath, Op};
use crate::fork::own_copy;
use crate::log::Log;
use crate::open::{INDEX_SUFFIXES, Listing, Opener, Opening, needs_records, note, note_epoch};
use crate::resume::Resumed;
use crate::scan::{CHUNK_SIZE, Judgement, Scan, Scanned};
use crate::segment::{Active, INDEX_SUFFIX, LOG_SUFFIX, SNAPSHOT_SUFFIX, Segment, TIME_INDEX_SUFFIX, file};

impl Opener {
    /// Believes nothing from the segment of the recovery point on.
    pub(crate) async fn recover(&self, log: &mut Log, listing: Listing) {
        // What lay below the start was deleted, and need not be there.
        let start = self.opening.start_offset.unwrap_or_default();
        let recovery_point = self.recovery_point();
        let mut first_scanned =
            listing.logs.partition_point(|&(base, _)| base < recovery_point).saturating_sub(1);
        let is_shared =
            |place: usize| listing.logs.get(place).is_some_and(|&(base, _)| listing.is_shared(base));
        let ends_there = listing.logs.get(first_scanned + 1).is_some_and(|&(base, _)| base == recovery_point);
        // What a fork shares was complete and durable, its indexes too, before it was shared.
        first_scanned += usize::from(ends_there && is_shared(first_scanned));
        let (sealed, scanned) = listing.logs.split_at(first_scanned);
        log.segments = self.sealed_segments(log, &listing, sealed).await;
        let resumed = match scanned.first() {
            Some(&(base, length)) if base < recovery_point && !listing.is_shared(base) => {
                self.resume(&listing, base, length, recovery_point).await
            }
            _ => None,
        };
        let scan_from = match (&resumed, scanned.first()) {
            (Some(Resumed { segment, end, .. }), _) => {
                log.segments.push(*segment);
                self.replay_below(log, &listing, *end).await;
                log.segments.pop();
                *end
            }
            (None, Some(&(base, _))) => {
                self.replay_below(log, &listing, base).await;
                base
            }
            (None, None) => Offset::ZERO,
        };
        if let Some(Resumed { segment, .. }) = &resumed {
            self.write_beside_again(log, &listing, segment.base, scan_from).await;
        }
        for &offset in listing.snapshots.range(..=scan_from) {
            log.snapshots.insert(offset);
        }
        for &offset in listing.snapshots.iter().filter(|&&offset| offset > scan_from) {
            self.disk.apply(Op::Remove { path: file(&self.opening.dir, offset, SNAPSHOT_SUFFIX) }).await;
        }
        log.end = scan_from;
        let durable_to = self.opening.durable_to.filter(|&end| end > start).unwrap_or_default();
        let is_cut = self.scan_segments(log, scanned, resumed, recovery_point.max(durable_to)).await;
        self.make_durable(log, &listing, scan_from, is_cut).await;
    }

    /// Writes what is kept beside the records of the recovery point's segment once more. The recovery point tells of the
    /// records alone: where it is the segment's end, the indexes and the snapshot that were written when the segment was
    /// closed may have been in the sync after it, which failed.
    async fn write_beside_again(&self, log: &mut Log, listing: &Listing, base: Offset, end: Offset) {
        let indexes = INDEX_SUFFIXES.map(|suffix| (base, suffix));
        for (offset, suffix) in indexes.into_iter().chain([(end, SNAPSHOT_SUFFIX)]) {
            let length = listing.length(offset, suffix).unwrap_or_default();
            if length > 0 {
                let path = file(&self.opening.dir, offset, suffix);
                self.write_again(&path, 0, length).await;
                log.files.dirty.insert(path);
            }
        }
    }

    /// Takes note of the epochs and producers of what lies below `end` and is believed.
    async fn replay_below(&self, log: &mut Log, listing: &Listing, end: Offset) {
        let epochs = self.epochs(listing).await;
        let has_epochs = epochs.is_some();
        log.epochs = epochs.unwrap_or_default();
        log.epochs.truncate_from_end(end);
        let from = self.load_producers(log, listing, end).await;
        let first_base = listing.logs.first().map_or(end, |&(base, _)| base);
        let epochs_from = if has_epochs { end } else { first_base };
        self.replay(log, epochs_from, from, end).await;
    }

    /// Everything below it is durable in the files, by the checkpoint.
    fn recovery_point(&self) -> Offset {
        let start = self.opening.start_offset.unwrap_or_default();
        self.opening.recovery_point.filter(|&point| point > start).unwrap_or_default()
    }

    /// Reads the segments from the recovery point's on, but for what is `resumed` of the first one, and cuts the log
    /// where it was torn. Whether anything was cut off.
    async fn scan_segments(
        &self,
        log: &mut Log,
        scanned: &[(Offset, u64)],
        mut resumed: Option<Resumed>,
        recovery_point: Offset,
    ) -> bool {
        let (mut torn, mut is_cut) = (false, false);
        for (index, &(base, length)) in scanned.iter().enumerate() {
            let is_first = index == 0;
            // Of the segments below the start, which were deleted, a power loss may have brought any back.
            let is_deleted = self.opening.start_offset.is_some_and(|start| base <= start);
            let is_gap = base > log.end && !is_deleted && base > self.compacted_to();
            let is_lost = is_gap && !torn && log.end < recovery_point;
            // What follows a torn end was not durable either. What begins before the end of the segment before
            // it was cut off once already, and its removal was lost.
            if !is_first && !is_lost && (torn || is_gap || base < log.end) {
                torn |= is_gap;
                is_cut = true;
                self.remove_segment(base).await;
                continue;
            }
            if is_lost {
                log.note_lost_end(base, format!("the records before offset {base} are missing"));
            }
            if !is_first {
                self.seal(log).await;
            }
            let follower = scanned.iter().skip(index + 1).find(|&&(next, length)| length > 0 && next >= base);
            let follower = follower.map(|&(next, _)| next);
            let known = match resumed.take() {
                Some(resumed) => resumed,
                None => self.begin_anew(base, base.max(log.end)).await,
            };
            torn = self.scan_segment(log, known, length, follower, recovery_point).await;
            is_cut |= torn;
        }
        if log.end < recovery_point {
            let reason = format!("the file ends there, but it was durable up to offset {recovery_point}");
            log.note_lost_end(recovery_point, reason);
            log.end = recovery_point;
            log.is_end_lost = true;
        }
        is_cut
    }

    /// A segment of which nothing is believed, which goes on from `end`.
    async fn begin_anew(&self, base: Offset, end: Offset) -> Resumed {
        let Opening { dir, now, .. } = &self.opening;
        // The transaction index is compared with the markers first: see `recovered_txns.rs`.
        for suffix in [INDEX_SUFFIX, TIME_INDEX_SUFFIX] {
            self.disk.apply(Op::Remove { path: file(dir, base, suffix) }).await;
        }
        let mut active = Active::new(dir, base, now.wall);
        active.is_file_created = true;
        Resumed { segment: Segment::new(base, now.wall), active, end }
    }

    /// Reads the rest of a segment, which becomes the active one; whether its end was torn, and cut off. The next
    /// segment that holds anything is its `follower`.
    async fn scan_segment(
        &self,
        log: &mut Log,
        Resumed { mut segment, mut active, end }: Resumed,
        length: u64,
        follower: Option<Offset>,
        recovery_point: Offset,
    ) -> bool {
        let Opening { dir, config, .. } = &self.opening;
        let base = segment.base;
        let path = file(dir, base, LOG_SUFFIX);
        // The journal's records were written to the file again, and may be in the cache alone.
        let (mut durable_to, mut synced_to) = (u64::from(segment.size), u64::from(segment.size));
        let synced = self.recovery_point();
        let scan = Scan::new(&self.disk, path.clone(), length, base, self.compacted_to());
        let mut scan = scan.go_on(durable_to, end).before(follower);
        let (mut damage, mut aborted) = (Vec::new(), Vec::new());
        let torn = loop {
            let (reason, is_short) = match scan.next().await {
                Scanned::Batch(header) => {
                    if header.next_offset() <= recovery_point {
                        durable_to = scan.position;
                    }
                    if header.next_offset() <= synced {
                        synced_to = scan.position;
                    }
                    let batch =
                        if needs_records(&header) { scan.passed(&header).await } else { Bytes::new() };
                    note_epoch(log, &header);
                    aborted.extend(note(log, &header, &batch, Offset::ZERO));
                    active.note(&mut segment, &header, config.index_interval_bytes);
                    if active.index.is_write_due() || active.time_index.is_write_due() {
                        for op in active.write_indexes(&mut segment, dir) {
                            self.disk.apply(op).await;
                        }
                    }
                    continue;
                }
                Scanned::End => break false,
                Scanned::Short(reason) => (reason, true),
                Scanned::Invalid(reason) => (reason, false),
            };
            if scan.expected >= recovery_point
                && scan.judge(is_short, follower.is_some()).await == Judgement::Torn
            {
                self.cut(path.clone(), scan.position).await;
                break true;
            }
            let end = follower.unwrap_or(Offset(i64::MAX));
            let lost_to = follower.unwrap_or(scan.expected.plus(1).max(recovery_point));
            let found = scan.pass_damage(base, end, lost_to, reason).await;
            log.is_end_lost = follower.is_none() && scan.position == length;
            segment.size = u32::try_from(scan.position).unwrap_or(u32::MAX);
            damage.push(found);
        };
        log.end = scan.expected;
        let damaged: Vec<Range<Offset>> =
            log.damage().iter().chain(&damage).map(|damage| damage.from..damage.to).collect();
        log.files.dirty.extend(self.write_txn_index(&mut segment, aborted, log.end, &damaged).await);
        log.segments.push(segment);
        log.active = active;
        for damage in damage {
            log.note_damage(damage);
        }
        if torn {
            // What they say of the batches that are cut off must not come back when others have these offsets.
            log.files.dirty.extend(INDEX_SUFFIXES.map(|suffix| file(dir, base, suffix)));
        }
        if torn || scan.position > durable_to {
            self.write_again(&path, durable_to, scan.position).await;
        }
        if torn || scan.position > synced_to {
            log.files.dirty.insert(path);
        }
        torn
    }

    /// Writes bytes of a file as they read, so that the next sync has them to write.
    async fn write_again(&self, path: &FilePath, mut from: u64, to: u64) {
        while from < to {
            let length = usize::try_from(to - from).unwrap_or(usize::MAX).min(CHUNK_SIZE);
            let Some(data) = self.disk.read(path, from, length).await.filter(|data| !data.is_empty()) else {
                return;
            };
            let position = from;
            from += data.len() as u64;
            self.disk.apply(Op::Write { path: path.clone(), position, data }).await;
        }
    }

    /// Cuts off what follows `length` bytes of a segment's file; where it has other names what remains is copied.
    async fn cut(&self, path: FilePath, length: u64) {
        let entries = self.disk.list(&self.opening.dir).await;
        let is_shared = |entry: &Entry| entry.is_shared && path.ends_with(&format!("/{}", entry.name));
        if !entries.iter().any(is_shared) {
            return self.disk.apply(Op::Truncate { path, length }).await;
        }
        own_copy(&self.disk, &path, length).await;
    }

    /// Closes the active segment: another follows.
    async fn seal(&self, log: &mut Log) {
        let mut ops = Vec::new();
        log.finish_indexes(&mut ops);
        log.take_snapshot(&mut ops);
        for op in ops {
            self.disk.apply(op).await;
        }
    }

    /// What recovery has found above `scan_from` must not be lost by the next crash, since it is served from now on.
    /// What lies below it is durable already.
    async fn make_durable(&self, log: &mut Log, listing: &Listing, scan_from: Offset, is_cut: bool) {
        let data = Bytes::from(checkpoint::format_partition_metadata(self.opening.topic_id));
        // Of a log that no checkpoint knows the file may be in the cache alone; the next start would take its directory
        // for that of a deleted topic.
        if log.files.exist && self.opening.recovery_point.unwrap_or_default() == Offset::ZERO {
            let path = self.path(PARTITION_METADATA);
            self.disk.apply(Op::Write { path: path.clone(), position: 0, data: data.clone() }).await;
            log.files.dirty.insert(path);
        }
        for path in std::mem::take(&mut log.files.dirty) {
            self.disk.sync(&path).await;
        }
        if !log.files.exist {
            self.disk.replace(self.path(PARTITION_METADATA), data).await;
            log.files.exist = true;
        }
        let is_durable = log.epochs.entries().last().is_some_and(|last| last.start < scan_from);
        if is_cut || !is_durable || self.epochs(listing).await.as_ref() != Some(&log.epochs) {
            // As the last step, since it makes the removal of files durable too.
            let data = checkpoint::format_epochs(log.epochs.entries());
            self.disk.replace(self.path(LEADER_EPOCH_CHECKPOINT), data.into()).await;
        }
        log.settle();
    }

    /// Gives up what there is and begins anew at `start`.
    pub(crate) async fn restart_at(&self, log: Log, start: Offset) -> Log {
        for segment in &log.segments {
            self.remove_segment(segment.base).await;
        }
        for &offset in &log.snapshots {
            self.disk.apply(Op::Remove { path: file(&self.opening.dir, offset, SNAPSHOT_SUFFIX) }).await;
        }
        let Opening { dir, topic_id, config, .. } = self.opening.clone();
        Log::at(dir, topic_id, config, start)
    }
}
