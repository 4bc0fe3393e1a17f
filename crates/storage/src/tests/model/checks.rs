//! What the log says, compared with what it must say.

use std::collections::BTreeMap;

use bytes::Bytes;
use dohle_records::Record;
use dohle_types::{Offset, Timestamp};

use super::expected::{Known, Stored, producers_of};
use super::ops::Upper;
use super::steps::Wrong;
use super::world::{DIR, Ended, World};
use crate::{ColdRead, Damage, Read, ReadError};

/// What a consumer asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query {
    pub(super) from: Offset,
    pub(super) upper: Offset,
    pub(super) max_bytes: usize,
    pub(super) at_least_one: bool,
}

impl World {
    pub(super) fn read(&mut self, query: Query, slowly: bool) -> Result<Result<(), Ended>, Wrong> {
        let Query { from, upper, max_bytes, at_least_one } = query;
        let is_within = (self.expected.start..=self.expected.end).contains(&from);
        if let Some((job, query)) = self.reading.take()
            && let Err(ended) = self.finish_read(job, query)?
        {
            return Ok(Err(ended));
        }
        if self.log.damage_at(from).is_some() {
            return Ok(Ok(()));
        }
        match self.log.read(from, upper, max_bytes, at_least_one) {
            Err(_) if !is_within => {}
            Err(error) => return Err(format!("{query:?}: {error}")),
            Ok(_) if !is_within => return Err(format!("{query:?} is out of range, but was not refused")),
            Ok(Read::Hot(slices)) => {
                self.seen.hot_reads += 1;
                let expected = self.answer(query);
                if slices != expected.iter().map(|batch| batch.bytes.clone()).collect::<Vec<_>>() {
                    return Err(format!("{query:?} gave {slices:?}, hot, not {expected:?}"));
                }
            }
            Ok(Read::Cold(job)) if slowly => self.reading = Some((job, query)),
            Ok(Read::Cold(job)) => return self.finish_read(job, query),
        }
        Ok(Ok(()))
    }

    pub(super) fn finish_read(&mut self, job: ColdRead, query: Query) -> Result<Result<(), Ended>, Wrong> {
        let read = match self.run(job) {
            Ok(read) => read,
            Err(ended) => return Ok(Err(ended)),
        };
        self.seen.cold_reads += 1;
        match read {
            Ok(slices) => self.check_cold(query, &slices.concat())?,
            Err(ReadError::Gone { path }) if self.disk.length(&path).is_none() => self.seen.reads_gone += 1,
            Err(ReadError::Damaged(damage)) => self.check_damage(&damage)?,
            Err(error) => return Err(format!("{query:?}: {error}")),
        }
        Ok(Ok(()))
    }

    /// A cold read may end early, at the end of a segment, but not before it has something.
    fn check_cold(&self, query: Query, read: &[u8]) -> Result<(), Wrong> {
        let expected = self.answer(query);
        let bytes = expected.iter().map(|batch| &*batch.bytes).collect::<Vec<_>>().concat();
        // Where a bit flipped in an epoch nobody notices.
        let flipped = self.flip.as_ref().filter(|flip| expected.iter().any(|it| it.base() == flip.base));
        if flipped.is_some_and(|flip| flip.is_in_epoch) {
            return Ok(());
        }
        let ends: Vec<usize> = expected
            .iter()
            .scan(0, |end, batch| {
                *end += batch.bytes.len();
                Some(*end)
            })
            .collect();
        let is_whole = ends.contains(&read.len()) || (ends.is_empty() && read.is_empty());
        if is_whole && bytes.starts_with(read) {
            return Ok(());
        }
        Err(format!("{query:?} gave {} bytes, cold: {read:?} of {expected:?}", read.len()))
    }

    /// The batches that a query must be answered with, if all of them are at hand.
    fn answer(&self, query: Query) -> &[Stored] {
        let Query { from, upper, max_bytes, at_least_one } = query;
        if from >= upper {
            return &[];
        }
        let batches = self.expected.between(from, self.expected.end);
        let mut bytes = 0;
        let fits = |(index, batch): (usize, &Stored)| {
            bytes += batch.bytes.len();
            batch.next() <= upper
                && (bytes <= max_bytes || (at_least_one && index == 0))
                && (max_bytes > 0 || at_least_one)
        };
        let count = batches.iter().enumerate().map(fits).take_while(|fits| *fits).count();
        &batches[..count]
    }

    pub(super) fn find_timestamp(&mut self, target: u16, upper: Upper) -> Result<Result<(), Ended>, Wrong> {
        let records: Vec<&Record> = self.expected.visible().collect();
        let target = match records.get(usize::from(target) % (records.len() + 1)) {
            Some(record) => Timestamp(record.timestamp.0 + i64::from(target % 3) - 1),
            None => Timestamp(i64::from(target) * 40),
        };
        let upper = self.upper(upper);
        let job = self.log.find_by_timestamp(target, upper);
        let found = match job.map(|job| self.run(job)) {
            None => None,
            Some(Err(ended)) => return Ok(Err(ended)),
            Some(Ok(Ok(found))) => found,
            Some(Ok(Err(_))) if self.flip.is_some() => return Ok(Ok(())),
            Some(Ok(Err(error))) => return Err(format!("looking for {target:?}: {error}")),
        };
        let expected = self.expected.find(target, upper).map(|record| (record.offset, record.timestamp));
        if found.map(|found| (found.offset, found.timestamp)) != expected
            && self.flip.is_none()
            && !self.ages_unsure
        {
            return Err(format!("looking for {target:?} below {upper} gave {found:?}, not {expected:?}"));
        }
        Ok(Ok(()))
    }

    pub(super) fn find_max_timestamp(&mut self) -> Result<Result<(), Ended>, Wrong> {
        let Some(job) = self.log.find_max_timestamp(self.expected.end) else { return Ok(Ok(())) };
        let found = match self.run(job) {
            Err(ended) => return Ok(Err(ended)),
            Ok(Ok(found)) => found,
            Ok(Err(_)) if self.flip.is_some() => return Ok(Ok(())),
            Ok(Err(error)) => return Err(format!("looking for the greatest timestamp: {error}")),
        };
        // The records of a segment that begins before the start count, though they are not found.
        let begins_at_segment = self.log.segments().any(|segment| segment.base_offset == self.expected.start);
        let greatest = self.expected.visible().map(|record| record.timestamp).max();
        let expected = greatest.and_then(|greatest| self.expected.find(greatest, self.expected.end));
        let expected = expected.map(|record| (record.offset, record.timestamp));
        let is_right = found.map(|found| (found.offset, found.timestamp)) == expected;
        if begins_at_segment && self.flip.is_none() && !self.ages_unsure && !is_right {
            return Err(format!("the greatest timestamp is at {found:?}, not at {expected:?}"));
        }
        Ok(Ok(()))
    }

    /// Where the log must begin when all segments are gone that its configs do not retain.
    pub(super) fn retained_from(&self) -> Offset {
        let mut start = self.expected.start;
        if !self.config.cleanup_policy.delete {
            return start;
        }
        let segments: Vec<_> = self.log.segments().collect();
        let ends = segments.iter().skip(1).map(|segment| segment.base_offset).chain([self.expected.end]);
        let visible: Vec<_> = segments.iter().zip(ends).filter(|&(_, end)| end > start).collect();
        let mut size: u64 = visible.iter().map(|(segment, _)| segment.size_in_bytes).sum();
        for (segment, end) in visible {
            let left = size - segment.size_in_bytes;
            let is_excess = self.config.retention_bytes.is_some_and(|max| left >= max);
            let age_ms = self.now().wall.0 - segment.max_timestamp.0;
            let is_old = self.config.retention_ms.is_some_and(|max| age_ms > max);
            if end > self.high_watermark || !(is_excess || is_old) {
                break;
            }
            size = left;
            start = end;
        }
        start
    }

    pub(super) fn check_offsets(&self) -> Result<(), Wrong> {
        let is = (self.log.start_offset(), self.log.end_offset(), self.log.durable_offset());
        let expected = (self.expected.start, self.expected.end, self.expected.durable);
        if is != expected {
            return Err(format!("start, end and durable offset are {is:?}, not {expected:?}"));
        }
        for high_watermark in [self.high_watermark, self.expected.end] {
            let stable = self.log.last_stable_offset(high_watermark);
            let expected = self.expected.last_stable(high_watermark);
            if stable != expected {
                return Err(format!("last stable offset {stable} at {high_watermark}, not {expected}"));
            }
        }
        Ok(())
    }

    /// The log knows exactly the producers that it must know.
    pub(super) fn check_producers(&self) -> Result<(), Wrong> {
        let known = self.known_producers();
        if known == self.expected.producers {
            return Ok(());
        }
        Err(format!("the producers are {known:?}, not {:?}", self.expected.producers))
    }

    fn known_producers(&self) -> BTreeMap<i64, Known> {
        self.log.producers().map(|(id, state)| (id.0, Known::of(state))).collect()
    }

    /// A log was opened: everything that was durable is there, and of the rest a beginning.
    pub(super) fn check_opened(&mut self, clean: bool, how: Ended) -> Result<(), Wrong> {
        let (start, end) = (self.log.start_offset(), self.log.end_offset());
        let kept = match (clean, how) {
            (true, _) => self.expected.end,
            (false, Ended::Killed) => self.expected.written,
            (false, Ended::PowerLost | Ended::Failed) => self.expected.durable,
        };
        // Deleted up to an offset that was lost again.
        let begins_anew = start == end && Some(start) == self.checkpointed_start;
        let is_boundary = end == self.expected.end || self.expected.batches.iter().any(|it| it.base() == end);
        if end < kept && !self.is_damaged_end(end, kept) {
            return Err(format!("opened with end {end} though everything below {kept} was stored"));
        }
        if end > self.expected.end || !(is_boundary || begins_anew) {
            return Err(format!("opened with end {end}, where no batch of {} ended", self.expected.end));
        }
        let starts = self.checkpointed_start.unwrap_or_default()..=self.expected.start;
        // Where nothing was durable, the power may take the name of the first segment and leave that of a later one.
        let lost_beginning = how == Ended::PowerLost
            && self.expected.durable <= self.expected.start
            && self.log.segments().next().is_some_and(|first| first.base_offset == start);
        if !(starts.contains(&start) || lost_beginning) || (clean && start != self.expected.start) {
            return Err(format!("opened with start {start}, not within {starts:?}"));
        }
        self.seen.lost_batches += u64::from(end < self.expected.end);
        self.expected.truncate(end);
        self.expected.start = start;
        self.expected.written = end;
        self.expected.durable = end;
        self.expected.ended.clear();
        self.high_watermark = end;
        self.forget_lost_flip();
        // Below the recovery point headers are believed, whose producers may then be in a snapshot.
        self.producers_unsure |= self.flip.as_ref().is_some_and(|flip| Some(flip.base) < self.recovery_point);
        if lost_beginning && !starts.contains(&start) || self.producers_unsure {
            // Then a snapshot may tell of producers as they were at any time.
            self.expected.producers = self.known_producers();
        } else {
            self.check_known_producers()?;
        }
        self.check_segments()?;
        self.check_offsets()?;
        self.check_epochs()?;
        self.check_all()
    }

    /// Damage to the last batch cannot be told from a torn end above the recovery point (`scan.rs`).
    fn is_damaged_end(&self, end: Offset, kept: Offset) -> bool {
        let Some(base) = self.flip.as_ref().map(|flip| flip.base) else { return false };
        let next = self.expected.between(base, base.plus(1)).first().map_or(end, Stored::next);
        end == base && next >= kept && base >= self.recovery_point.unwrap_or_default()
    }

    /// A flipped bit is gone with what it was in.
    fn forget_lost_flip(&mut self) {
        let end = self.expected.end;
        self.flip.take_if(|flip| flip.base >= end);
    }

    /// What the log knows of producers follows from the batches that it has, or is what it knew before.
    fn check_known_producers(&mut self) -> Result<(), Wrong> {
        let bases = self.log.segments().map(|segment| segment.base_offset);
        let first = bases.filter(|base| *base <= self.expected.start).last().unwrap_or(self.expected.end);
        let all = producers_of(&self.expected.batches);
        let there: Vec<Stored> = self.expected.between(first, self.expected.end).to_vec();
        let is_remembered = |batch: &Stored| {
            let forgotten = self.expected.forgotten.get(&batch.header.producer_id.0);
            forgotten.is_none_or(|before| batch.base() >= *before)
        };
        let there = producers_of(there.iter().filter(|batch| is_remembered(batch)));
        let known = self.known_producers();
        for (id, known) in &known {
            let Some(expected) = all.get(id) else {
                return Err(format!("producer {id} is known as {known:?}, but nothing is there of it"));
            };
            // Of one whose records were deleted, or which was forgotten once, any snapshot may tell.
            let Some(oldest) = there.get(id) else { continue };
            let is_right = known.epoch == expected.epoch
                && known.last_timestamp == expected.last_timestamp
                && (oldest.coordinator_epoch..=expected.coordinator_epoch).contains(&known.coordinator_epoch)
                && ([expected.transaction, oldest.transaction].contains(&known.transaction)
                    // Its marker was deleted, and a power loss brought a segment before that back.
                    || known.transaction.is_some_and(|begun| begun < self.expected.start))
                && known.batches.len() >= oldest.batches.len()
                && known.batches.iter().rev().zip(oldest.batches.iter().rev()).all(|(is, must)| is == must)
                && known.batches.iter().all(|batch| expected.batches.contains(batch));
            if !is_right {
                return Err(format!("producer {id} is known as {known:?}, not {expected:?} or {oldest:?}"));
            }
        }
        let missing =
            there.keys().find(|id| !known.contains_key(id) && self.expected.producers.contains_key(id));
        if let Some(id) = missing {
            return Err(format!("producer {id} is not known, but must be as {:?}", there.get(id)));
        }
        self.expected.producers = known;
        Ok(())
    }

    fn check_segments(&self) -> Result<(), Wrong> {
        let segments: Vec<_> = self.log.segments().collect();
        let ends = segments.iter().skip(1).map(|segment| segment.base_offset).chain([self.expected.end]);
        // Of those below the start a power loss may bring any back.
        for (segment, end) in segments.iter().zip(ends).filter(|&(_, end)| end > self.expected.start) {
            let batches = self.expected.between(segment.base_offset, end);
            let size: u64 = batches.iter().map(|batch| batch.bytes.len() as u64).sum();
            let newest = batches.iter().map(|batch| batch.header.max_timestamp).max();
            let is_right =
                segment.size_in_bytes == size && segment.max_timestamp == newest.unwrap_or(Timestamp::NONE);
            if !is_right && self.flip.is_none() && !self.ages_unsure {
                return Err(format!("{segment:?} has {size} bytes up to {newest:?}"));
            }
        }
        Ok(())
    }

    fn check_epochs(&self) -> Result<(), Wrong> {
        for batch in self.expected.between(self.expected.start, self.expected.end) {
            let (epoch, expected) = (self.log.epoch_at(batch.base()), batch.header.partition_leader_epoch);
            if epoch != expected && !self.epochs_unsure {
                return Err(format!("offset {} has leader epoch {epoch}, not {expected}", batch.base()));
            }
        }
        Ok(())
    }

    /// Reads everything.
    pub(super) fn check_all(&mut self) -> Result<(), Wrong> {
        let mut next = self.expected.start;
        let upper = self.expected.end;
        while next < upper {
            if let Some(damage) = self.log.damage_at(next) {
                next = damage.to;
                continue;
            }
            let query = Query { from: next, upper, max_bytes: 1 << 20, at_least_one: true };
            let slices: Vec<Bytes> = match self.log.read(next, upper, 1 << 20, true) {
                Ok(Read::Hot(slices)) => slices,
                Ok(Read::Cold(job)) => match self.disk.run(job).map_err(|error| error.to_string())? {
                    Ok(slices) => slices,
                    Err(ReadError::Damaged(damage)) => {
                        self.check_damage(&damage)?;
                        if !self.log.note_damage(damage.clone()) {
                            return Err(format!("{query:?} finds damage that is known: {damage:?}"));
                        }
                        continue;
                    }
                    Err(error) => return Err(format!("{query:?}: {error}")),
                },
                Err(error) => return Err(format!("{query:?}: {error}")),
            };
            let read = slices.concat();
            self.check_cold(query, &read)?;
            let batches = self.expected.between(next, upper);
            let mut bytes = 0;
            let last = batches.iter().take_while(|batch| {
                bytes += batch.bytes.len();
                bytes <= read.len().max(1)
            });
            next = last.last().or(batches.first()).map_or(upper, Stored::next);
        }
        Ok(())
    }

    /// Damage is where a bit flipped, and takes one batch.
    fn check_damage(&self, damage: &Damage) -> Result<(), Wrong> {
        let base = self.flip.as_ref().filter(|flip| flip.path == damage.path).map(|flip| flip.base);
        let batch = base.and_then(|base| self.expected.between(base, base.plus(1)).first());
        match batch {
            Some(batch) if (batch.base(), batch.next()) == (damage.from, damage.to) => Ok(()),
            _ => Err(format!("a flip at {:?} is reported as {damage:?}", self.flip)),
        }
    }

    /// The log was opened with damage: all else is there.
    pub(super) fn check_damaged(&mut self) -> Result<(), Wrong> {
        for damage in self.log.damage() {
            self.check_damage(damage)?;
        }
        let (mut next, end) = (self.log.start_offset(), self.log.end_offset());
        while next < end {
            if let Some(damage) = self.log.damage_at(next) {
                next = damage.to;
                continue;
            }
            let Ok(Read::Cold(job)) = self.log.read(next, end, 1 << 20, true) else {
                return Err(format!("{next} is not in the files"));
            };
            let read = self.disk.run(job).map_err(|error| error.to_string())?;
            let read = read.map_err(|error| format!("{next}: {error}"))?.concat();
            let query = Query { from: next, upper: end, max_bytes: 1 << 20, at_least_one: true };
            self.check_cold(query, &read)?;
            let batches = dohle_records::Batches::new(read.into()).map_while(Result::ok);
            next = batches.last().map(|batch| batch.header().next_offset()).ok_or("nothing was read")?;
        }
        Ok(())
    }

    /// After a stop in good order there is no file that no segment accounts for.
    pub(super) fn check_files(&self) -> Result<(), Wrong> {
        let segments: Vec<Offset> = self.log.segments().map(|segment| segment.base_offset).collect();
        for (path, _) in self.disk.files() {
            let name = path.strip_prefix(DIR).unwrap_or(&path).trim_start_matches('/');
            let (stem, suffix) = name.split_once('.').unwrap_or((name, ""));
            let base = stem.parse().map(Offset);
            let is_ours = match (suffix, base) {
                ("log" | "index" | "timeindex" | "txnindex", Ok(base)) => segments.contains(&base),
                ("snapshot", Ok(base)) => segments.contains(&base) || base == self.log.end_offset(),
                _ => ["leader-epoch-checkpoint", "partition"].contains(&stem),
            };
            if !is_ours {
                return Err(format!("{path} belongs to no segment of {segments:?}"));
            }
        }
        Ok(())
    }
}
