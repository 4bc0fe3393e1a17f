//! Carrying out what happens, and comparing what the log says with what it must say.

use bytes::Bytes;
use dohle_configs::{CleanupPolicy, Compression as TopicCompression, MessageTimestampType};
use dohle_records::{
    Batch, BatchBuilder, BatchHeader, BatchOptions, Compression, Compressor, ControlRecordType, EndTxnMarker,
    Record,
};
use dohle_types::{ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Rng, Sequence, Timestamp};

use super::checks::Query;
use super::expected::{Known, Stored, Verdict, judge, judge_marker, records_of};
use super::ops::{Fault, Flippable, Op, PRODUCERS, Setting, Step, TRANSACTIONAL, Upper, Writer, pick};
use super::world::{Ended, Flip, World};
use crate::{OpenError, OpenLog, Origin, Read};

/// What is wrong.
pub(super) type Wrong = String;

impl World {
    /// Does one thing; where that ends the node, it starts again.
    pub(super) fn step(&mut self, step: Step) -> Result<(), Wrong> {
        self.dice = Rng::from_seed(step.dice);
        self.now_ms += self.dice.below(20);
        self.tell(|| format!("{:?}", step.op));
        match self.carry_out(step.op)? {
            Ok(()) => self.check_offsets(),
            Err(ended) => {
                let how = self.end(ended);
                self.open(how)
            }
        }
    }

    fn carry_out(&mut self, op: Op) -> Result<Result<(), Ended>, Wrong> {
        match op {
            Op::Append { writer, records, padding } => return self.append(writer, records, padding),
            Op::EndTransaction { producer, commit, next_epoch, coordinator_step } => {
                return self.end_transaction(producer, commit, next_epoch, coordinator_step);
            }
            Op::Sync => return Ok(self.sync()),
            Op::BeginSync => self.begin_sync(),
            Op::FinishSync => return Ok(self.complete_sync()),
            Op::Read { from, upper, max_bytes, at_least_one, slowly } => {
                let (from, upper) = (self.any_offset(from), self.upper(upper));
                let query = Query { from, upper, max_bytes: max_bytes.into(), at_least_one };
                return self.read(query, slowly);
            }
            Op::FinishRead => {
                if let Some((job, query)) = self.reading.take() {
                    return self.finish_read(job, query);
                }
            }
            Op::FindTimestamp { target, upper } => return self.find_timestamp(target, upper),
            Op::FindMaxTimestamp => return self.find_max_timestamp(),
            Op::Retain => {
                if self.dice.chance(1, 2) {
                    let (from, upper) = (self.expected.start, self.expected.end);
                    let query = Query { from, upper, max_bytes: 1000, at_least_one: true };
                    if let Err(ended) = self.read(query, true)? {
                        return Ok(Err(ended));
                    }
                }
                // Files go when the checkpoint knows of it.
                if self.dice.chance(1, 2) {
                    match self.retain()? {
                        Ok(()) => self.write_checkpoints(),
                        ended => return Ok(ended),
                    }
                }
                return self.retain();
            }
            Op::DeleteRecords { before } => {
                let before = self.any_offset(before).min(self.high_watermark);
                if before >= Offset::ZERO {
                    self.log.delete_records_before(self.now(), before);
                    self.expected.start = self.expected.start.max(before);
                }
            }
            Op::ExpireProducers { after_ms } => {
                let (now, after) = (self.now(), i64::from(after_ms));
                self.log.expire_producers(now, after);
                let is_silent = |known: &Known| {
                    known.transaction.is_none() && now.wall.0 - known.last_timestamp.0 >= after
                };
                for (id, _) in self.expected.producers.extract_if(.., |_, known| is_silent(known)) {
                    self.expected.forgotten.insert(id, self.expected.end);
                }
                self.check_producers()?;
            }
            Op::Configure(setting) => self.configure(setting),
            Op::NewEpoch { announced } => {
                self.epoch = LeaderEpoch(self.epoch.0 + 1);
                if announced {
                    self.log.begin_leader_epoch(self.epoch);
                }
            }
            Op::Pass { ms } => self.now_ms += u64::from(ms),
            Op::WriteCheckpoints => {
                let mut ops = Vec::new();
                self.log.snapshot_producers(400, &mut ops);
                self.write_checkpoints();
                return Ok(self.change_all(ops));
            }
            Op::Evict { batches } => (0..batches).for_each(|_| self.log.evict_oldest()),
            Op::Restart { power_lost } => return self.restart(power_lost),
            Op::Crash { power_lost } => {
                return Ok(Err(if power_lost { Ended::PowerLost } else { Ended::Killed }));
            }
            Op::Break { what, after } => self.broken = Some((what, after.into())),
            Op::FlipBit { file, at } => self.flip_bit(file, at),
            Op::Restore => self.restore(),
        }
        Ok(Ok(()))
    }

    fn append(&mut self, writer: Writer, count: u8, padding: u16) -> Result<Result<(), Ended>, Wrong> {
        let repeated = match writer {
            Writer::Repeat { producer, back } => self.count_of(producer, back),
            Writer::Plain
            | Writer::Keyless
            | Writer::Next(_)
            | Writer::Gap(_)
            | Writer::Stale(_)
            | Writer::Renewed(_)
            | Writer::Outside(_) => None,
        };
        let count = repeated.unwrap_or(count);
        let records = self.draw_records(writer, count, padding);
        let options = self.options(writer, i32::from(count));
        let mut builder = BatchBuilder::new(options);
        for (timestamp, key, value) in &records {
            builder.append(*timestamp, key.as_deref(), value.as_deref(), &[]).unwrap();
        }
        let plain_size = builder.size_in_bytes();
        let sent = builder.build(&mut Compressor::default()).unwrap();
        let header = BatchHeader::parse(&sent).unwrap();
        let keys_missing = self.config.cleanup_policy.compact && writer == Writer::Keyless;
        let verdict = if keys_missing {
            Verdict::Refused(ErrorCode::InvalidRecord)
        } else {
            judge(&self.expected.producers, &header)
        };
        let recompressed = self.config.compression != TopicCompression::Producer;
        let limit = self.config.segment_bytes as usize;
        let size = Size {
            may_be_too_large: sent.len() > limit || (recompressed && plain_size + 40 > limit),
            is_too_large: sent.len() > limit && !recompressed,
        };
        self.append_batch(sent, Origin::Client { zstd_allowed: true }, verdict, size, None)
    }

    fn end_transaction(
        &mut self,
        producer: u8,
        commit: bool,
        next_epoch: bool,
        coordinator_step: i8,
    ) -> Result<Result<(), Ended>, Wrong> {
        let known = self.expected.producers.get(&i64::from(producer));
        let epoch = known.map_or(0, |known| known.epoch) + i16::from(next_epoch);
        let coordinator_epoch =
            known.map_or(0, |known| known.coordinator_epoch.max(0)) + i32::from(coordinator_step);
        let options = BatchOptions {
            producer_id: ProducerId(producer.into()),
            producer_epoch: ProducerEpoch(epoch),
            transactional: true,
            ..BatchOptions::default()
        };
        let kind = if commit { ControlRecordType::Commit } else { ControlRecordType::Abort };
        let value = EndTxnMarker::new(coordinator_epoch).to_bytes();
        let marker =
            dohle_records::control::control_batch(options, self.now().wall, &[(kind, &value)]).unwrap();
        let header = BatchHeader::parse(&marker).unwrap();
        let verdict = judge_marker(&self.expected.producers, &header, coordinator_epoch);
        self.append_batch(marker, Origin::Coordinator, verdict, Size::default(), Some(coordinator_epoch))
    }

    fn append_batch(
        &mut self,
        sent: Bytes,
        origin: Origin,
        verdict: Verdict,
        size: Size,
        coordinator_epoch: Option<i32>,
    ) -> Result<Result<(), Ended>, Wrong> {
        let (now, end, segments) = (self.now(), self.expected.end, self.log.segments().count());
        let batch = Batch::parse(&sent).unwrap();
        let mut ops = Vec::new();
        let result = self.log.append(now, sent, origin, self.epoch, &mut self.codecs, &mut ops);
        let appended = match (result, verdict) {
            (Ok(appended), Verdict::New) if !size.is_too_large => appended,
            (Ok(appended), Verdict::Duplicate(first)) => {
                self.seen.duplicates += 1;
                let is_right = appended.duplicate && appended.first_offset == first && ops.is_empty();
                return or_wrong(is_right, || format!("a duplicate of offset {first} gave {appended:?}"));
            }
            (Err(error), Verdict::Refused(code)) if error.error_code() == code && ops.is_empty() => {
                self.seen.refused += 1;
                return Ok(Ok(()));
            }
            (Err(error), Verdict::New)
                if size.may_be_too_large && error.error_code() == ErrorCode::RecordListTooLarge =>
            {
                self.seen.refused += 1;
                return Ok(Ok(()));
            }
            (result, verdict) => return Err(format!("{result:?} instead of {verdict:?}")),
        };
        self.seen.appended += 1;
        self.seen.rolled += u64::from(self.log.segments().count() > segments);
        if appended.duplicate || appended.first_offset != end {
            return Err(format!("appended at {end}: {appended:?}"));
        }
        self.expect_appended(&batch, appended.next_offset, coordinator_epoch)?;
        Ok(self.change_all(ops))
    }

    /// Takes what the log has just taken, as it is in the hot tail, and compares its records with those sent.
    fn expect_appended(
        &mut self,
        sent: &Batch,
        next: Offset,
        coordinator_epoch: Option<i32>,
    ) -> Result<(), Wrong> {
        let base = self.expected.end;
        let slices = match self.log.read(base, next, usize::MAX, true) {
            Ok(Read::Hot(slices)) => slices,
            other => return Err(format!("what was just appended is not hot: {other:?}")),
        };
        let [bytes] = slices.as_slice() else { return Err(format!("{} slices", slices.len())) };
        let batch = Batch::parse(bytes).map_err(|error| error.to_string())?;
        let (header, log_append_time) = (*batch.header(), self.now().wall);
        let is_stamped = coordinator_epoch.is_none()
            && self.config.message_timestamp_type == MessageTimestampType::LogAppendTime;
        let stamp = |record: Record| Record {
            offset: record.offset.plus(base.0),
            timestamp: if is_stamped { log_append_time } else { record.timestamp },
            ..record
        };
        let records: Vec<Record> = records_of(sent)?.into_iter().map(stamp).collect();
        if records_of(&batch)? != records || !batch.crc_is_valid() || header.next_offset() != next {
            return Err(format!("what was sent as {records:?} is stored as {header:?}"));
        }
        if header.partition_leader_epoch != self.epoch {
            return Err(format!("appended in epoch {}, stored as {header:?}", self.epoch));
        }
        self.expected.push(Stored { header, bytes: bytes.clone(), records, coordinator_epoch });
        Ok(())
    }

    /// How many records an earlier batch of a producer has.
    fn count_of(&self, producer: u8, back: u8) -> Option<u8> {
        let known = self.expected.producers.get(&i64::from(producer))?;
        let &(first, last, _) = known.batches.iter().rev().nth(back.into())?;
        u8::try_from(last.checked_sub(first)? + 1).ok()
    }

    fn draw_records(&mut self, writer: Writer, count: u8, padding: u16) -> Vec<Drawn> {
        let now = self.now().wall.0;
        (0..count)
            .map(|index| {
                let timestamp = Timestamp(now + i64::try_from(self.dice.below(100)).unwrap() - 50);
                let key = (writer != Writer::Keyless)
                    .then(|| vec![b'a' + self.dice.next_u64().to_be_bytes()[0] % 6]);
                let mut value = self.dice.next_u64().to_be_bytes().to_vec();
                value.resize(8 + usize::from(padding / u16::from(count)), b'a' + index);
                (timestamp, key, (!self.dice.chance(1, 8)).then_some(value))
            })
            .collect()
    }

    fn options(&mut self, writer: Writer, count: i32) -> BatchOptions {
        let compression = match self.dice.below(16) {
            0 => Compression::Lz4,
            1 => Compression::Snappy,
            2 => Compression::Gzip,
            3 => Compression::Zstd,
            _ => Compression::None,
        };
        let compression = compression.into();
        let plain = BatchOptions { compression, ..BatchOptions::default() };
        let producer = match writer {
            Writer::Plain | Writer::Keyless => return plain,
            Writer::Next(producer)
            | Writer::Repeat { producer, .. }
            | Writer::Gap(producer)
            | Writer::Stale(producer)
            | Writer::Renewed(producer)
            | Writer::Outside(producer) => producer % PRODUCERS,
        };
        let known = self.expected.producers.get(&i64::from(producer));
        let first = pick(&mut self.dice, &[0, 0, 0, 5, i32::MAX - 1]);
        let (epoch, due) = known.map_or((0, first), |known| (known.epoch, known.next_sequence()));
        let (epoch, sequence) = match writer {
            Writer::Repeat { back, .. } => {
                let batches = known.map(|known| &known.batches);
                let at = |batches: &std::collections::VecDeque<(i32, i32, Offset)>| {
                    batches.iter().rev().nth(back.into()).map(|&(first, _, _)| first)
                };
                (epoch, batches.and_then(at).unwrap_or(due))
            }
            Writer::Gap(_) => (epoch, Sequence(due).plus(count).0),
            Writer::Stale(_) => (epoch.max(1) - 1, due),
            Writer::Renewed(_) => (epoch + 1, 0),
            Writer::Plain | Writer::Keyless | Writer::Next(_) | Writer::Outside(_) => (epoch, due),
        };
        BatchOptions {
            producer_id: ProducerId(producer.into()),
            producer_epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(sequence),
            transactional: producer >= TRANSACTIONAL && !matches!(writer, Writer::Outside(_)),
            ..plain
        }
    }

    fn begin_sync(&mut self) {
        if let Some(work) = self.log.begin_sync() {
            let syncs = work.paths().filter_map(|path| self.disk.begin_sync(path)).collect();
            self.syncing = Some((syncs, work.point));
        }
    }

    fn complete_sync(&mut self) -> Result<(), Ended> {
        if let Some((syncs, point)) = self.syncing.take() {
            self.finish_sync(syncs)?;
            self.log.flushed(point);
            self.expected.durable = point.end;
            self.commit();
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Ended> {
        self.complete_sync()?;
        self.begin_sync();
        self.complete_sync()
    }

    fn write_checkpoints(&mut self) {
        self.recovery_point = Some(self.log.recovery_point());
        self.checkpointed_start = self.log.start_offset_to_checkpoint();
    }

    fn retain(&mut self) -> Result<Result<(), Ended>, Wrong> {
        let (now, high_watermark) = (self.now(), self.high_watermark);
        let checkpointed = self.checkpointed_start.unwrap_or_default();
        let expected = self.retained_from();
        let before = self.log.segments().count();
        let mut ops = Vec::new();
        self.log.retain(now, high_watermark, checkpointed, &mut ops);
        let start = self.log.start_offset();
        if !self.ages_unsure && start != expected {
            return Err(format!("retention begins the log at {start}, not at {expected}"));
        }
        self.expected.start = start;
        self.seen.segments_deleted += before.saturating_sub(self.log.segments().count()) as u64;
        Ok(self.change_all(ops))
    }

    fn configure(&mut self, setting: Setting) {
        let config = &mut self.config;
        match setting {
            Setting::SegmentBytes(bytes) => config.segment_bytes = bytes,
            Setting::SegmentMs(ms) => config.segment_ms = ms,
            Setting::SegmentIndexBytes(bytes) => config.segment_index_bytes = bytes,
            Setting::IndexIntervalBytes(bytes) => config.index_interval_bytes = bytes,
            Setting::RetentionMs(ms) => config.retention_ms = ms,
            Setting::RetentionBytes(bytes) => config.retention_bytes = bytes,
            Setting::CleanupPolicy { delete, compact } => {
                config.cleanup_policy = CleanupPolicy { delete, compact };
            }
            Setting::FileDeleteDelayMs(ms) => config.file_delete_delay_ms = ms,
            Setting::LogAppendTime(on) => {
                config.message_timestamp_type =
                    if on { MessageTimestampType::LogAppendTime } else { MessageTimestampType::CreateTime };
            }
            Setting::Compression(which) => {
                config.compression = match which {
                    0 => TopicCompression::Uncompressed,
                    1 => TopicCompression::Gzip(1),
                    2 => TopicCompression::Snappy,
                    3 => TopicCompression::Lz4(1),
                    4 => TopicCompression::Zstd(1),
                    _ => TopicCompression::Producer,
                };
            }
            Setting::Relaxed(on) => self.relaxed = on,
        }
        self.log.set_config(self.config.clone().into());
    }

    /// The node stops in good order and starts again.
    fn restart(&mut self, power_lost: bool) -> Result<Result<(), Ended>, Wrong> {
        let mut close = || {
            self.complete_sync()?;
            let mut ops = Vec::new();
            self.log.close(&mut ops);
            self.change_all(ops)?;
            self.sync()
        };
        if let Err(ended) = close() {
            return Ok(Err(ended));
        }
        self.check_files()?;
        self.write_checkpoints();
        self.end(if power_lost { Ended::PowerLost } else { Ended::Killed });
        self.seen.clean_restarts += 1;
        let opened = self.run(OpenLog::new(self.opening(true)));
        self.opened(opened, true, Ended::Killed)?;
        Ok(Ok(()))
    }

    /// The node starts after it ended like that.
    pub(super) fn open(&mut self, how: Ended) -> Result<(), Wrong> {
        // Sometimes recovery does not come to its end.
        if self.dice.chance(1, 4) {
            let fault =
                pick(&mut self.dice, &[Fault::Killed, Fault::PowerLost, Fault::ReadFails, Fault::SyncFails]);
            self.broken = Some((fault, u32::try_from(self.dice.below(12)).unwrap()));
        }
        let opened = self.run(OpenLog::new(self.opening(false)));
        self.opened(opened, false, how)
    }

    fn opened(
        &mut self,
        opened: Result<Result<crate::Log, OpenError>, Ended>,
        clean: bool,
        how: Ended,
    ) -> Result<(), Wrong> {
        match opened {
            Ok(Ok(log)) => {
                self.broken = None;
                self.log = log;
                if self.log.damage().is_empty() {
                    return self.check_opened(clean, how);
                }
                self.seen.damage_reported += 1;
                self.check_damaged()?;
                self.restore();
                self.open(how)
            }
            Ok(Err(error)) => Err(format!("the log does not open: {error}")),
            Err(ended) => {
                self.seen.recoveries_interrupted += 1;
                let again = self.end(ended);
                // What the first end took stays lost.
                self.open(if how == Ended::PowerLost { how } else { again })
            }
        }
    }

    fn flip_bit(&mut self, file: Flippable, at: u32) {
        if self.flip.is_some() {
            return;
        }
        let files: Vec<(FilePathAndContent, usize)> = self
            .disk
            .files()
            .into_iter()
            .filter(|(path, content)| path.ends_with(file.suffix()) && !content.is_empty())
            .map(|(path, content)| ((path, Bytes::copy_from_slice(content)), content.len()))
            .collect();
        let total: usize = files.iter().map(|(_, length)| length).sum();
        if total == 0 {
            return;
        }
        let mut position = at as usize % total;
        for ((path, content), length) in files {
            if position >= length {
                position -= length;
                continue;
            }
            let batch = (file == Flippable::Log).then(|| batch_at(&content, position)).flatten();
            let is_durable = batch.is_none_or(|(_, header)| header.next_offset() <= self.expected.durable);
            if file == Flippable::Log && batch.is_none() || !is_durable {
                return;
            }
            let bit = self.dice.next_u64().to_be_bytes()[0] % 8;
            if self.disk.flip_bit(&path, position, bit) {
                self.seen.flips += 1;
                self.ages_unsure |= matches!(file, Flippable::TimeIndex | Flippable::Log);
                self.epochs_unsure |= file == Flippable::Log;
                self.flip = batch.map(|(at, header)| Flip {
                    path: path.into(),
                    position,
                    bit,
                    base: header.base_offset,
                    is_in_epoch: (12..16).contains(&(position - at)),
                });
            }
            return;
        }
    }

    /// From just before the log's start to just behind its end.
    pub(super) fn any_offset(&self, raw: u16) -> Offset {
        let (start, end) = (self.expected.start.0, self.expected.end.0);
        Offset(start - 1 + i64::from(raw) % (end - start + 3))
    }

    pub(super) fn upper(&self, upper: Upper) -> Offset {
        match upper {
            Upper::End => self.expected.end,
            Upper::HighWatermark => self.high_watermark,
            Upper::At(raw) => self.any_offset(raw).max(Offset::ZERO).min(self.expected.end),
        }
    }
}

type FilePathAndContent = (String, Bytes);

/// Timestamp, key and value.
type Drawn = (Timestamp, Option<Vec<u8>>, Option<Vec<u8>>);

/// What is known of a batch's size beforehand.
#[derive(Clone, Copy, Default)]
struct Size {
    may_be_too_large: bool,
    is_too_large: bool,
}

fn or_wrong(is_right: bool, wrong: impl FnOnce() -> Wrong) -> Result<Result<(), Ended>, Wrong> {
    if is_right { Ok(Ok(())) } else { Err(wrong()) }
}

/// The batch that holds a byte of a segment's file, and where it begins.
fn batch_at(content: &[u8], position: usize) -> Option<(usize, BatchHeader)> {
    let mut at = 0;
    loop {
        let header = BatchHeader::parse(content.get(at..)?).ok()?;
        if position < at + header.size_in_bytes() {
            return Some((at, header));
        }
        at += header.size_in_bytes();
    }
}
