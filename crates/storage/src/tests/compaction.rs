//! What compaction leaves of a log, told in records; and that a crash at any moment leaves the old or the new.

use std::collections::BTreeMap;

use bytes::Bytes;
use dohle_configs::{CleanupPolicy, TopicConfig};
use dohle_records::{
    Batch, BatchBuilder, BatchOptions, Batches, Compression, Compressor, ControlRecordType, Decompressor,
    EndTxnMarker,
};
use dohle_types::{Offset, ProducerEpoch, ProducerId, Rng, Sequence, Timestamp};

use super::disk::Disk;
use super::node::{Node, now};
use crate::disk::{Job, Op, Progress};
use crate::memory_disk::MemoryDisk;
use crate::{CleanNext, CleanPiece, CleanerLimits, HashSecret, Opening, Origin, Read};

const LIMITS: CleanerLimits = CleanerLimits {
    dedupe_bytes: 1 << 20,
    load_factor: 0.9,
    io_buffer_bytes: 4096,
    secret: HashSecret(3, 4),
};

fn compacted() -> TopicConfig {
    TopicConfig {
        cleanup_policy: CleanupPolicy { delete: false, compact: true },
        index_interval_bytes: 100,
        delete_retention_ms: 1000,
        ..TopicConfig::default()
    }
}

/// A log under compaction, as its broker has it.
struct Cleaned {
    node: Node,
    checkpoint: Option<Offset>,
    at_ms: u64,
    compression: Compression,
    /// The disk while it is cleaned, as power loss would leave it.
    mirror: MemoryDisk,
}

impl Cleaned {
    fn new(config: TopicConfig) -> Self {
        Self {
            node: Node::new(config),
            checkpoint: None,
            at_ms: 0,
            compression: Compression::None,
            mirror: MemoryDisk::default(),
        }
    }

    /// What happens, a word each. `a=1,b=` is a batch of a record and a tombstone, `p:a=1` is of producer p's
    /// transaction, `p!` aborts it and `p.` commits it, `/` closes the segment, `+500` is time that passes.
    fn script(&mut self, events: &str) {
        for event in events.split_whitespace() {
            if event == "/" {
                let mut ops = Vec::new();
                self.node.log.roll(Timestamp(0), &mut ops);
                ops.into_iter().for_each(|op| self.node.disk.apply(op));
            } else if let Some(ms) = event.strip_prefix('+') {
                self.at_ms += ms.parse::<u64>().unwrap();
            } else if let Some(producer) = event.strip_suffix(['!', '.']) {
                let kind =
                    if event.ends_with('!') { ControlRecordType::Abort } else { ControlRecordType::Commit };
                let options = BatchOptions { base_sequence: Sequence(-1), ..self.options(Some(producer)) };
                let marker = EndTxnMarker::new(0).to_bytes();
                let batch =
                    dohle_records::control::control_batch(options, Timestamp(1), &[(kind, &marker)]).unwrap();
                self.append(batch, Origin::Coordinator);
            } else {
                let (producer, records) =
                    event.split_once(':').map_or((None, event), |(producer, rest)| (Some(producer), rest));
                let options = self.options(producer);
                let mut builder =
                    BatchBuilder::new(BatchOptions { compression: self.compression.into(), ..options });
                for record in records.split(',') {
                    let (key, value) = record.split_once('=').unwrap();
                    let value = (!value.is_empty()).then_some(value.as_bytes());
                    let timestamp = Timestamp(now(self.at_ms).wall.0);
                    builder.append(timestamp, Some(key.as_bytes()), value, &[]).unwrap();
                }
                let batch = builder.build(&mut Compressor::default()).unwrap();
                self.append(batch, Origin::Client { zstd_allowed: true });
            }
        }
    }

    fn append(&mut self, batch: Bytes, origin: Origin) {
        self.node.append_at(now(self.at_ms), batch, origin).unwrap();
    }

    fn options(&self, producer: Option<&str>) -> BatchOptions {
        let Some(producer) = producer else { return BatchOptions::default() };
        let id = ProducerId(i64::from(producer.as_bytes()[0]));
        let known = self.node.log.producers().find(|(known, _)| *known == id);
        let last = known.and_then(|(_, state)| Some(state.last_batch()?.last_sequence));
        BatchOptions {
            producer_id: id,
            producer_epoch: ProducerEpoch(0),
            base_sequence: last.map_or(Sequence(0), |last| last.plus(1)),
            transactional: true,
            ..BatchOptions::default()
        }
    }

    /// Compacts whatever may be; `watch` sees the disk after every change.
    fn clean_watched(&mut self, limits: CleanerLimits, mut watch: impl FnMut(&MemoryDisk)) {
        self.node.sync();
        self.mirror = MemoryDisk::default();
        for (path, content) in &self.node.disk.files {
            let data = Bytes::copy_from_slice(content);
            self.mirror.apply(&Op::Write { path: path.clone(), position: 0, data }).unwrap();
            self.mirror.sync(path);
        }
        let high_watermark = self.node.log.end_offset();
        let at = now(self.at_ms);
        let (cleanable, _) = self.node.log.cleanable(at, high_watermark, self.checkpoint);
        let mut job = self.node.log.begin_cleaning(at, &cleanable, limits);
        loop {
            let piece = self.drive(&mut job, &mut watch);
            let (ops, rest) = match piece.next {
                CleanNext::Continue(rest) => (Vec::new(), rest),
                CleanNext::Apply(ops, rest) => (ops, rest),
                CleanNext::Replace(segment, rest) => {
                    let mut ops = Vec::new();
                    self.node.log.replace(at, &segment, &mut ops);
                    (ops, rest)
                }
                CleanNext::Done(clean_to) => {
                    self.checkpoint = Some(clean_to);
                    break;
                }
                CleanNext::Failed(error) => panic!("{error}"),
            };
            for op in ops {
                self.mirror.apply(&op).unwrap();
                self.node.disk.apply(op);
                watch(&self.mirror);
            }
            job = rest;
        }
        self.node.log.end_cleaning();
    }

    fn drive(&mut self, job: &mut crate::CleanLog, watch: &mut impl FnMut(&MemoryDisk)) -> CleanPiece {
        let mut progress = job.start();
        loop {
            match progress {
                Progress::Done(piece) => return piece,
                Progress::Next(step) => {
                    let changes = matches!(step, crate::disk::Step::Apply(_));
                    self.mirror.perform(&step).unwrap();
                    let answer = self.node.disk.perform(step);
                    if changes {
                        watch(&self.mirror);
                    }
                    progress = job.resume(answer);
                }
            }
        }
    }

    fn clean(&mut self) {
        self.clean_watched(LIMITS, |_| ());
    }

    fn reopened(&self, disk: Disk, opening: Opening) -> Self {
        let node = self.node.reopen(disk, opening).unwrap_or_else(|error| panic!("{error}"));
        Self {
            node,
            checkpoint: self.checkpoint,
            at_ms: self.at_ms,
            compression: self.compression,
            mirror: MemoryDisk::default(),
        }
    }

    fn batches(&mut self) -> Vec<Batch> {
        batches(&mut self.node, Offset(0))
    }

    fn records(&mut self) -> BTreeMap<i64, String> {
        self.batches().iter().flat_map(records).collect()
    }

    /// The records of a `read_committed` consumer, which passes over what it is told was aborted.
    fn committed(&mut self) -> BTreeMap<i64, String> {
        let mut seen = BTreeMap::new();
        let mut next = Offset(0);
        while next < self.node.log.end_offset() {
            let read = read(&mut self.node, next);
            let Some(last) = read.last() else { break };
            let end = last.header().next_offset();
            let job = self.node.log.find_aborted(next, end);
            let mut aborted = job.map(|job| self.node.disk.run(job)).unwrap_or_default();
            aborted.sort_by_key(|txn| txn.first_offset);
            let mut aborted = aborted.into_iter().peekable();
            let mut inside: Vec<ProducerId> = Vec::new();
            for batch in read {
                let header = batch.header();
                while let Some(txn) = aborted.next_if(|txn| txn.first_offset <= header.last_offset()) {
                    inside.push(txn.producer_id);
                }
                let is_inside = inside.contains(&header.producer_id);
                if header.attributes.is_control() {
                    inside.retain(|id| *id != header.producer_id);
                } else if !(is_inside && header.attributes.is_transactional()) {
                    seen.extend(records(&batch));
                }
            }
            next = end;
        }
        seen
    }

    /// The log as text: batches apart by `|`, an empty one as its last offset and `-`, a marker as `*`.
    fn text(&mut self) -> String {
        let tell = |batch: &Batch| {
            let header = batch.header();
            if header.attributes.is_control() && header.record_count > 0 {
                format!("{}*", header.base_offset)
            } else if header.record_count == 0 {
                format!("{}-", header.last_offset())
            } else {
                let records = records(batch);
                let told: Vec<String> =
                    records.iter().map(|(offset, text)| format!("{offset} {text}")).collect();
                told.join(" ")
            }
        };
        self.batches().iter().map(tell).collect::<Vec<_>>().join(" | ")
    }
}

#[test]
fn the_records_of_replaced_segments_are_kept_for_the_delay_or_until_the_log_is_closed_or_opened() {
    let kept = |cleaned: &Cleaned| -> Vec<String> {
        let names = cleaned.node.disk.files.keys().filter_map(|path| path.strip_prefix("orders-0/"));
        names.filter(|name| name.ends_with(".deleted")).map(|name| name[17..].to_owned()).collect()
    };
    let mut cleaned = Cleaned::new(TopicConfig { file_delete_delay_ms: 500, ..compacted() });
    cleaned.script("a=1 / b=1 / a=2 / c=1 / +100");
    cleaned.clean();
    let all = ["000.log.deleted", "001.log.deleted", "002.log.deleted", "003.log.deleted"];
    assert_eq!(kept(&cleaned), all);
    assert_eq!(cleaned.reopened(cleaned.node.disk.clone(), cleaned.node.opening()).text(), cleaned.text());

    // What is replaced again is kept from then on.
    cleaned.script("+400 b=2 /");
    cleaned.clean();
    cleaned.node.retain(now(600), Offset(0));
    assert_eq!(kept(&cleaned), ["000.log.deleted", "004.log.deleted"]);
    let config = TopicConfig { file_delete_delay_ms: 50, ..compacted() };
    cleaned.node.log.set_config(config.into());
    cleaned.node.retain(now(549), Offset(0));
    assert_eq!(kept(&cleaned).len(), 2);
    cleaned.node.retain(now(550), Offset(0));
    assert!(kept(&cleaned).is_empty());

    for end in ["close", "open"] {
        cleaned.script("b=3 / b=4 /");
        cleaned.clean();
        assert!(!kept(&cleaned).is_empty());
        match end {
            "close" => cleaned.node.close(),
            _ => cleaned = cleaned.reopened(cleaned.node.disk.clone(), cleaned.node.opening()),
        }
        assert!(kept(&cleaned).is_empty(), "after {end}");
    }
}

fn read(node: &mut Node, from: Offset) -> Vec<Batch> {
    let slices = match node.log.read(from, node.log.end_offset(), 1 << 20, true).unwrap() {
        Read::Hot(slices) => slices,
        Read::Cold(job) => node.disk.run(job).unwrap(),
    };
    slices.into_iter().flat_map(Batches::new).map(Result::unwrap).collect()
}

fn batches(node: &mut Node, from: Offset) -> Vec<Batch> {
    let mut all: Vec<Batch> = Vec::new();
    let mut next = from;
    while next < node.log.end_offset() {
        let more = read(node, next);
        let Some(last) = more.last() else { break };
        next = last.header().next_offset();
        all.extend(more);
    }
    for pair in all.windows(2) {
        assert!(pair[0].header().next_offset() <= pair[1].header().base_offset, "offsets ascend");
    }
    assert!(all.iter().all(Batch::crc_is_valid));
    all
}

fn records(batch: &Batch) -> Vec<(i64, String)> {
    if batch.header().attributes.is_control() {
        return Vec::new();
    }
    let text = |field: Option<Bytes>| String::from_utf8(field.unwrap_or_default().to_vec()).unwrap();
    let records = batch.records(&mut Decompressor::default()).unwrap().map(Result::unwrap);
    records.map(|record| (record.offset.0, format!("{}={}", text(record.key), text(record.value)))).collect()
}

/// Checks what a log is after each `clean`, also once it was stopped and once it was killed.
fn check(config: &TopicConfig, steps: &[(&str, &str)]) {
    for compression in Compression::ALL {
        let mut log = Cleaned::new(config.clone());
        log.compression = compression;
        for &(events, expected) in steps {
            log.script(events);
            log.clean();
            assert_eq!(log.text(), expected, "{events} with {compression}");
            log.node.sync();
            let opening = Opening { clean: false, cleaned: log.checkpoint, ..log.node.opening() };
            let mut killed = log.reopened(log.node.disk.clone(), opening);
            assert_eq!(killed.text(), expected, "{events} with {compression}, killed");
        }
        log.node.close();
        let opening = Opening { clean: true, cleaned: log.checkpoint, ..log.node.opening() };
        let mut stopped = log.reopened(log.node.disk.clone(), opening);
        assert_eq!(stopped.text(), steps.last().unwrap().1, "with {compression}, stopped");
    }
}

#[test]
fn the_last_record_of_each_key_stays_with_its_offset() {
    check(&compacted(), &[("a=1 b=1 a=2 / c=1", "1 b=1 | 2 a=2 | 3 c=1")]);
    // Of a batch some records stay, and the others leave a gap.
    check(&compacted(), &[("a=1,b=1,c=1 b=2 / d=1", "0 a=1 2 c=1 | 3 b=2 | 4 d=1")]);
    // The active segment is not touched, nor does it say what is old.
    check(&compacted(), &[("a=1 a=2 / a=3 a=4", "1 a=2 | 2 a=3 | 3 a=4")]);
    // The next time only the last record of what came since is looked for.
    check(
        &compacted(),
        &[("a=1 b=1 / c=1", "0 a=1 | 1 b=1 | 2 c=1"), ("b=2 / d=1", "0 a=1 | 2 c=1 | 3 b=2 | 4 d=1")],
    );
}

#[test]
fn segments_that_fit_into_one_become_one_and_say_by_their_last_batch_what_they_replace() {
    check(&compacted(), &[("a=1 / a=2 / b=1 / b=2 / c=1", "1 a=2 | 3 b=2 | 4 c=1")]);
    check(&compacted(), &[("a=1 / b=1 / a=2 / b=2,a=3 / c=1", "3 b=2 4 a=3 | 5 c=1")]);
    let mut log = Cleaned::new(compacted());
    log.script("a=1 / a=2 / b=1 / b=2 / c=1");
    log.clean();
    let bases: Vec<i64> = log.node.log.segments().map(|segment| segment.base_offset.0).collect();
    assert_eq!(bases, [0, 4]);
    // Where they do not fit, each stays, if only as an empty batch.
    let mut log = Cleaned::new(TopicConfig { segment_bytes: 150, ..compacted() });
    log.script("a=1 a=2 / a=3 a=4 / c=1");
    log.clean();
    assert_eq!(log.text(), "1- | 3 a=4 | 4 c=1");
}

#[test]
fn a_tombstone_stays_for_delete_retention_ms_after_the_cleaning_that_found_it() {
    check(
        &compacted(),
        &[
            ("a=1 a= b=1 / c=1", "1 a= | 2 b=1 | 3 c=1"),
            ("+999 c=2 / c=3", "1 a= | 2 b=1 | 4 c=2 | 5 c=3"),
            ("+1 c=4 / c=5", "2 b=1 | 6 c=4 | 7 c=5"),
        ],
    );
}

#[test]
fn records_of_aborted_transactions_go_and_their_markers_when_their_time_comes() {
    check(
        &compacted(),
        &[
            ("p:a=1 p! a=2 / c=1", "0- | 1* | 2 a=2 | 3 c=1"),
            // Its batch goes once the producer has sent another, and the next cleaning finds the marker alone.
            ("p:b=1 p. / c=2", "1* | 2 a=2 | 3 c=1 | 4 b=1 | 5* | 6 c=2"),
            ("x=1 / c=3", "1* | 2 a=2 | 4 b=1 | 5* | 6 c=2 | 7 x=1 | 8 c=3"),
            ("+999 x=2 / c=4", "1* | 2 a=2 | 4 b=1 | 5* | 8 c=3 | 9 x=2 | 10 c=4"),
            ("+1 x=3 / c=5", "2 a=2 | 4 b=1 | 5* | 10 c=4 | 11 x=3 | 12 c=5"),
        ],
    );
}

#[test]
fn a_committed_transaction_counts_as_any_record_and_an_open_one_bounds_the_cleaning() {
    check(&compacted(), &[("a=1 p:a=2 p. / c=1", "1 a=2 | 2* | 3 c=1")]);
    check(&compacted(), &[("a=1 a=2 / p:a=3 / p:a=4 / c=1", "1 a=2 | 2 a=3 | 3 a=4 | 4 c=1")]);
    // What an aborted transaction says of a key does not count.
    check(&compacted(), &[("a=1 p:a=2 p! / c=1", "0 a=1 | 1- | 2* | 3 c=1")]);
}

#[test]
fn a_log_is_due_by_its_dirty_share_or_by_its_age_and_not_before_its_records_may_be_compacted() {
    let value = "x".repeat(100);
    let with = |change: fn(&mut TopicConfig)| {
        let mut config = compacted();
        change(&mut config);
        let mut log = Cleaned::new(config);
        log.script(&format!("a={value} b={value} / +100 c={value} / d={value}"));
        log.node.sync();
        log
    };
    let due = |log: &Cleaned, ms: u64, checkpoint: Option<i64>, high_watermark: i64| {
        let (found, is_due) = log.node.log.cleanable(now(ms), Offset(high_watermark), checkpoint.map(Offset));
        let changes_in = found.changes_at.map(|at| at.0 - now(0).wall.0);
        (found.first_dirty.0, found.first_uncleanable.0, is_due, changes_in)
    };
    let log = with(|_| ());
    assert_eq!(due(&log, 100, None, 4), (0, 3, true, None));
    assert_eq!(due(&log, 100, Some(2), 4), (2, 3, false, None), "a third is dirty");
    assert_eq!(due(&log, 100, Some(3), 4), (3, 3, false, None));
    assert_eq!(due(&log, 100, Some(9), 4), (0, 3, true, None), "a checkpoint beyond the end says nothing");
    assert_eq!(due(&log, 100, None, 3), (0, 3, true, None));
    assert_eq!(due(&log, 100, None, 2), (0, 2, true, None), "what is not committed is not compacted");
    assert_eq!(due(&log, 100, None, 1), (0, 0, false, None));

    let log = with(|config| config.min_compaction_lag_ms = 1000);
    assert_eq!(due(&log, 100, None, 4), (0, 0, false, Some(1001)));
    assert_eq!(due(&log, 1000, None, 4), (0, 2, true, Some(1101)), "the first segment is old enough");
    assert_eq!(due(&log, 1100, None, 4), (0, 3, true, None));

    let log = with(|config| {
        config.max_compaction_lag_ms = 500;
        config.min_cleanable_dirty_ratio = 0.9;
    });
    assert_eq!(due(&log, 100, Some(2), 4), (2, 3, false, Some(601)));
    assert_eq!(due(&log, 600, Some(2), 4), (2, 3, false, Some(601)));
    assert_eq!(due(&log, 601, Some(2), 4), (2, 3, true, None), "overdue");

    let mut log = with(|_| ());
    log.script("e=1 / f=1");
    assert_eq!(
        due(&log, 100, None, 6),
        (0, 3, true, None),
        "what is not durable in its file is not compacted"
    );

    let log = with(|config| config.cleanup_policy.compact = false);
    assert!(!due(&log, 100, None, 4).2);
}

#[test]
fn keys_beyond_the_memory_are_left_for_the_next_time() {
    let limits = CleanerLimits { dedupe_bytes: 0, ..LIMITS };
    let mut log = Cleaned::new(compacted());
    let keys: Vec<String> = (0..40).map(|key| format!("k{key}=1 k{key}=2")).collect();
    log.script(&format!("{} / z=1", keys.join(" ")));
    let mut rounds = Vec::new();
    while log.checkpoint != Some(Offset(80)) {
        log.clean_watched(limits, |_| ());
        rounds.push(log.checkpoint.unwrap().0);
    }
    assert_eq!(rounds, [28, 56, 80], "the smallest map has room for 14 keys");
    let expected: BTreeMap<i64, String> =
        (0..40).map(|key| (2 * key + 1, format!("k{key}=2"))).chain([(80, "z=1".to_owned())]).collect();
    assert_eq!(log.records(), expected);
}

#[test]
fn a_policy_that_is_no_longer_compact_finds_the_gaps_it_has() {
    let mut log = Cleaned::new(compacted());
    log.script("a=1 b=1 a=2 / a=3 / c=1");
    log.clean();
    log.node.sync();
    let mut config = compacted();
    config.cleanup_policy = CleanupPolicy { delete: true, compact: false };
    let opening = Opening { config: config.into(), cleaned: log.checkpoint, ..log.node.opening() };
    let mut again = log.reopened(log.node.disk.clone(), opening);
    assert_eq!(again.text(), "1 b=1 | 3 a=3 | 4 c=1");
}

#[test]
fn damage_ends_the_cleaning_and_nothing_is_lost() {
    let mut log = Cleaned::new(compacted());
    log.script("a=1 a=2 / b=1");
    log.node.sync();
    let path: crate::disk::FilePath = "orders-0/00000000000000000000.log".into();
    let before = {
        let content = log.node.disk.files.get_mut(&path).unwrap();
        *content.last_mut().unwrap() ^= 1;
        log.node.disk.files.clone()
    };
    let (cleanable, _) = log.node.log.cleanable(now(0), Offset(3), None);
    let mut job = log.node.log.begin_cleaning(now(0), &cleanable, LIMITS);
    let CleanNext::Failed(error) = log.drive(&mut job, &mut |_| ()).next else { panic!("it is damaged") };
    assert!(error.to_string().contains("is damaged at byte"), "{error}");
    assert_eq!(log.node.disk.files, before);
}

#[test]
fn an_end_that_has_changed_takes_no_other_segment_for_replaced() {
    for (script, end) in [
        // No segment begins where such an end would be,
        ("a=1 b=2 / c=3 d=4 e=5 / f=6 g=7 h=8 / i=9", 9),
        // and exactly there one begins.
        ("a=1 b=2 / c=3 d=4 / e=5 f=6 / g=7 h=8 i=9 j=10 / k=11", 11),
    ] {
        // Of the last batch: its offset, which no CRC covers, and how far it reaches, which is read without it.
        for bit in (0..64).chain(23 * 8..27 * 8) {
            let mut log = Cleaned::new(compacted());
            log.script(script);
            log.node.sync();
            let mut disk = log.node.disk.clone();
            let path: crate::disk::FilePath = "orders-0/00000000000000000000.log".into();
            let content = disk.files.get_mut(&path).unwrap();
            let last = content.len() / 2;
            content[last + bit / 8] ^= 1 << (bit % 8);
            for recovery_point in [0, 2, 8, end] {
                let opening = Opening { recovery_point: Some(Offset(recovery_point)), ..log.node.opening() };
                let mut again = log.reopened(disk.clone(), opening);
                for offset in 2..end {
                    let read = again.node.read_or_damage(Offset(offset));
                    let first = read.and_then(|read| Some(read.first()?.header().base_offset));
                    assert_eq!(first, Some(Offset(offset)), "bit {bit}, recovery point {recovery_point}");
                }
            }
        }
    }
}

#[test]
fn compaction_leaves_gaps_below_the_recovery_point_alone() {
    let mut log = Cleaned::new(compacted());
    log.script("a=1 b=2 / c=3 / d=4");
    log.node.sync();
    let mut disk = log.node.disk.clone();
    disk.files.retain(|path, _| !path.starts_with("orders-0/00000000000000000002."));
    let opened = |recovery_point: i64, cleaned: Option<i64>| {
        let (recovery_point, cleaned) = (Some(Offset(recovery_point)), cleaned.map(Offset));
        let mut again = log.reopened(disk.clone(), Opening { recovery_point, cleaned, ..log.node.opening() });
        let end = again.node.log.end_offset().0;
        let read = (end > 2).then(|| again.node.read_or_damage(Offset(2)));
        (end, read.map(|read| read.and_then(|read| Some(read.first()?.header().base_offset.0))))
    };
    // What was not durable is lost, and what follows it was not durable either.
    assert_eq!(opened(2, None), (2, None));
    // It was durable.
    assert_eq!(opened(3, None), (4, Some(Some(3))), "compaction may have taken it");
    assert_eq!(opened(2, Some(3)), (4, Some(Some(3))), "compaction may have taken it");
}

fn random_events(rng: &mut Rng) -> String {
    let mut events = String::new();
    for _ in 0..rng.below(12) + 4 {
        let key = |rng: &mut Rng| char::from(b"abcd"[usize::try_from(rng.below(4)).unwrap()]);
        let value = |rng: &mut Rng| if rng.chance(1, 4) { String::new() } else { rng.below(100).to_string() };
        let record = |rng: &mut Rng| format!("{}={}", key(rng), value(rng));
        let producer = |rng: &mut Rng| if rng.chance(1, 2) { 'p' } else { 'q' };
        events += &match rng.below(10) {
            0..=3 => record(rng),
            4 => format!("{},{},{}", record(rng), record(rng), record(rng)),
            5 => format!("{}:{}", producer(rng), record(rng)),
            6 => format!("{}!", producer(rng)),
            7 => format!("{}.", producer(rng)),
            8 => format!("+{}", rng.below(900)),
            _ => "/".to_owned(),
        };
        events.push(' ');
    }
    events
}

/// What is found on a disk after a crash.
fn left(disk: &MemoryDisk) -> Disk {
    let files = disk.files().into_iter().map(|(path, content)| (path.into(), content.to_vec()));
    let mut found = Disk::default();
    found.files = files.collect();
    found
}

/// The last value of each key.
fn values(records: &BTreeMap<i64, String>) -> BTreeMap<String, String> {
    let mut last = BTreeMap::new();
    for record in records.values() {
        let (key, value) = record.split_once('=').unwrap();
        last.insert(key.to_owned(), value.to_owned());
    }
    last.retain(|_, value| !value.is_empty());
    last
}

fn is_part(part: &BTreeMap<i64, String>, whole: &BTreeMap<i64, String>) -> bool {
    part.iter().all(|(offset, record)| whole.get(offset) == Some(record))
}

#[test]
fn whatever_happens_the_last_committed_value_of_each_key_stays_where_it_was() {
    for seed in 0..60 {
        let rng = &mut Rng::from_seed(seed);
        let segment_bytes = [200, 400, 1 << 20][usize::try_from(rng.below(3)).unwrap()];
        let mut log = Cleaned::new(TopicConfig { segment_bytes, ..compacted() });
        log.compression = Compression::ALL[usize::try_from(rng.below(5)).unwrap()];
        for round in 0..4 {
            log.script(&random_events(rng));
            if rng.chance(1, 2) {
                log.node.cool();
            }
            let (before, committed) = (log.records(), log.committed());
            let limits = if rng.chance(1, 3) { CleanerLimits { dedupe_bytes: 0, ..LIMITS } } else { LIMITS };
            log.clean_watched(limits, |_| ());
            let case = format!("seed {seed}, round {round}");
            let after = log.records();
            assert!(is_part(&after, &before), "{case}");
            let committed_after = log.committed();
            assert!(is_part(&committed_after, &committed), "{case}: {committed_after:?} of {committed:?}");
            assert_eq!(values(&committed_after), values(&committed), "{case}");
            for from in 0..log.node.log.end_offset().0 {
                let found =
                    batches(&mut log.node, Offset(from)).iter().flat_map(records).find(|(at, _)| *at >= from);
                let expected = after.range(from..).next().map(|(at, text)| (*at, text.clone()));
                assert_eq!(found, expected, "{case}: from {from}");
            }
        }
    }
}

#[test]
fn a_crash_at_any_moment_leaves_the_old_or_the_new_and_no_aborted_record_shows() {
    for seed in 0..60 {
        let rng = &mut Rng::from_seed(seed);
        let segment_bytes = [250, 400, 1 << 20][usize::try_from(rng.below(3)).unwrap()];
        let mut log = Cleaned::new(TopicConfig { segment_bytes, ..compacted() });
        for _ in 0..2 {
            log.script(&random_events(rng));
            log.node.sync();
            let (before, committed) = (log.records(), log.committed());
            let mut disks = Vec::new();
            let dice = &mut Rng::from_seed(seed ^ 0x5eed);
            log.clean_watched(LIMITS, |disk| {
                disks.push(left(disk));
                for _ in 0..2 {
                    let mut disk = disk.clone();
                    disk.lose_power(dice);
                    disks.push(left(&disk));
                }
            });
            let (after, committed_after) = (log.records(), log.committed());
            let end = log.node.log.end_offset();
            for (moment, disk) in disks.into_iter().enumerate() {
                let case = format!("seed {seed}, moment {moment}");
                // Compaction waits until the checkpoint knows what it takes.
                let above = end.0.abs_diff(log.checkpoint.unwrap_or_default().0);
                let durable = Some(end.plus(-i64::try_from(dice.below(above + 1)).unwrap()));
                let opening = Opening { recovery_point: durable, ..log.node.opening() };
                let mut again = log.reopened(disk, opening);
                assert_eq!(again.node.log.end_offset(), end, "{case}");
                let found = again.records();
                assert!(is_part(&found, &before) && is_part(&after, &found), "{case}: {found:?}");
                let shown = again.committed();
                assert!(
                    is_part(&shown, &committed) && is_part(&committed_after, &shown),
                    "{case}: {shown:?} {committed:?} {committed_after:?} {}",
                    again.text()
                );
                // It can be cleaned, and everything is as if nothing had happened.
                again.clean();
                assert_eq!(values(&again.committed()), values(&committed), "{case}");
            }
        }
    }
}
