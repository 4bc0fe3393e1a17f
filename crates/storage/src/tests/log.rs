//! Appending, reading, looking up, rolling, retaining and closing.

use dohle_configs::TopicConfig;
use dohle_records::{Batch, BatchHeader, BatchOptions, Compression, ControlRecordType, EndTxnMarker};
use dohle_types::{ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

use super::node::{DIR, Node, Producer, batch, batch_of, build, compressed, now, records};
use crate::disk::{FilePath, Op};
use crate::{OffsetOutOfRange, Opening, Origin, TimestampOffset};

const CLIENT: Origin = Origin::Client { zstd_allowed: true };

pub(super) fn small_segments() -> TopicConfig {
    TopicConfig { segment_bytes: 1000, index_interval_bytes: 200, ..TopicConfig::default() }
}

/// Forty batches of two records at 10 ms distance, in segments of 1000 bytes.
fn forty_batches() -> Node {
    let mut node = Node::new(small_segments());
    for index in 0..40_i64 {
        node.epoch = LeaderEpoch(i32::try_from(index / 15).unwrap());
        let timestamps = [1_000_000 + index * 20, 1_000_010 + index * 20];
        let appended = node.append(batch(&timestamps, 20 + usize::try_from(index % 7).unwrap())).unwrap();
        assert_eq!((appended.first_offset, appended.next_offset), (Offset(index * 2), Offset(index * 2 + 2)));
    }
    node
}

fn name(offset: i64, suffix: &str) -> FilePath {
    format!("{DIR}/{offset:020}{suffix}").into()
}

#[test]
fn a_log_nobody_wrote_to_has_no_files_and_the_first_append_makes_them() {
    let mut node = Node::new(TopicConfig::default());
    assert_eq!(node.log.begin_sync(), None);
    assert_eq!(node.log.read(Offset(0), Offset(0), 100, true).map(|_| ()), Ok(()));
    let appended = node.append(batch(&[5, 6, 7], 10)).unwrap();
    assert_eq!(
        (appended.first_offset, appended.next_offset, appended.duplicate),
        (Offset(0), Offset(3), false)
    );
    let files: Vec<&str> = node.disk.files.keys().map(AsRef::as_ref).collect();
    assert_eq!(
        files,
        [
            "orders-0/00000000000000000000.log",
            "orders-0/leader-epoch-checkpoint",
            "orders-0/partition.metadata"
        ]
    );
    assert_eq!(node.disk.files["orders-0/leader-epoch-checkpoint"], b"0\n1\n0 0\n");
}

#[test]
fn offset_and_epoch_are_assigned_in_the_file_and_in_the_tail_alike() {
    let mut node = Node::new(TopicConfig::default());
    node.append(batch(&[5, 6, 7], 10)).unwrap();
    node.epoch = LeaderEpoch(4);
    node.append(batch(&[8], 10)).unwrap();
    let hot = node.read_all(Offset(0));
    node.cool();
    let cold = node.read_all(Offset(0));
    assert_eq!(hot, cold);
    let headers: Vec<(i64, i32)> = cold
        .iter()
        .map(|batch| (batch.header().base_offset.0, batch.header().partition_leader_epoch.0))
        .collect();
    assert_eq!(headers, [(0, 0), (3, 4)]);
}

#[test]
fn a_batch_with_one_owner_is_neither_copied_for_the_file_nor_for_the_tail() {
    let mut node = Node::new(TopicConfig::default());
    let bytes = batch(&[5], 5000);
    let address = bytes.as_ptr();
    let mut ops = Vec::new();
    node.log.append(now(0), bytes, CLIENT, LeaderEpoch(0), &mut node.codecs, &mut ops).unwrap();
    let Some(Op::Write { data, .. }) = ops.last() else { panic!("{ops:?}") };
    assert_eq!(data.as_ptr(), address);
}

#[test]
fn every_offset_is_found_hot_and_cold_and_whole_batches_are_returned() {
    let mut node = forty_batches();
    assert!(node.log.segments().count() > 4, "{:?}", node.log.segments().collect::<Vec<_>>());
    for pass in ["hot", "cold"] {
        for offset in 0..80 {
            let read = node.read(Offset(offset), 1);
            assert_eq!(read.len(), 1, "{pass} at {offset}");
            assert_eq!(read[0].header().base_offset, Offset(offset / 2 * 2), "{pass} at {offset}");
        }
        assert_eq!(node.read_all(Offset(0)).len(), 40);
        assert!(node.read(Offset(80), 100).is_empty());
        node.cool();
    }
}

#[test]
fn reads_keep_to_their_bounds() {
    let mut node = forty_batches();
    let size = node.read(Offset(0), 1)[0].bytes().len();
    let both = size + node.read(Offset(2), 1)[0].bytes().len();
    for pass in ["hot", "cold"] {
        let mut check = |from: i64, upper: i64, max: usize, one: bool, expected: usize| {
            let read = node.read_below(Offset(from), Offset(upper), max, one);
            assert_eq!(read.len(), expected, "{pass} from {from} below {upper}, {max} bytes");
        };
        check(0, 80, size, false, 1);
        check(0, 80, size - 1, false, 0);
        check(0, 80, size - 1, true, 1);
        check(0, 80, both - 1, true, 1);
        check(0, 80, both, true, 2);
        check(0, 80, 0, false, 0);
        check(0, 4, 1 << 20, true, 2);
        check(1, 3, 1 << 20, true, 1);
        check(0, 1, 1 << 20, true, 0);
        check(4, 4, 1 << 20, true, 0);
        node.cool();
    }
    for requested in [-1, 81] {
        let requested = Offset(requested);
        let error = OffsetOutOfRange { requested, start: Offset(0), end: Offset(80) };
        assert_eq!(node.log.read(requested, Offset(80), 1, true).map(|_| ()), Err(error));
    }
}

#[test]
fn a_batch_larger_than_all_windows_is_read_cold() {
    let mut node = Node::new(TopicConfig { max_message_bytes: 8 << 20, ..TopicConfig::default() });
    node.append(batch(&[1], 10)).unwrap();
    node.append(batch(&[2], 3 << 20)).unwrap();
    node.append(batch(&[3], 10)).unwrap();
    node.cool();
    assert_eq!(node.read_all(Offset(0)).len(), 3);
    assert_eq!(node.read(Offset(1), 100).len(), 1);
}

#[test]
fn an_index_that_is_wrong_or_missing_costs_time_and_no_answer() {
    let mut node = forty_batches();
    node.close();
    node.cool();
    let expected = node.read_all(Offset(0));
    for suffix in [".index", ".timeindex"] {
        let indexes: Vec<FilePath> =
            node.disk.files.keys().filter(|path| path.ends_with(suffix)).cloned().collect();
        for path in indexes {
            node.disk.files.get_mut(&path).unwrap().iter_mut().for_each(|byte| *byte ^= 0x11);
            assert_eq!(node.read_all(Offset(0)), expected);
            node.disk.files.remove(&path);
            assert_eq!(node.read_all(Offset(0)), expected);
        }
    }
}

#[test]
fn an_index_that_is_partly_in_memory_is_searched_whole() {
    let mut node = Node::new(TopicConfig { index_interval_bytes: 0, ..TopicConfig::default() });
    for offset in 0..1000_i64 {
        node.append(batch(&[1_000_000 + offset * 10], 10)).unwrap();
    }
    node.cool();
    let mut opened: Option<Node> = None;
    for state in ["growing", "closed", "opened again"] {
        let node = opened.as_mut().unwrap_or(&mut node);
        for offset in (0..1000).step_by(7) {
            assert_eq!(node.read(Offset(offset), 1)[0].header().base_offset, Offset(offset), "{state}");
            let job =
                node.log.find_by_timestamp(Timestamp(1_000_000 + offset * 10 - 3), Offset(1000)).unwrap();
            assert_eq!(
                node.disk.run(job).unwrap().map(|found| found.offset),
                Some(Offset(offset)),
                "{state}"
            );
        }
        node.close();
        let opening = crate::Opening { clean: true, ..node.opening() };
        let again = node.reopen(node.disk.clone(), opening).unwrap();
        opened = Some(again);
    }
}

#[test]
fn a_segment_that_is_deleted_under_a_read_is_gone() {
    let mut node = forty_batches();
    node.cool();
    let crate::Read::Cold(job) = node.log.read(Offset(0), Offset(80), 100, true).unwrap() else {
        panic!("hot")
    };
    node.disk.files.clear();
    assert_eq!(node.disk.run(job), Err(crate::ReadError::Gone { path: name(0, ".log") }));
}

#[test]
fn indexes_follow_kafkas_rules() {
    let mut node = forty_batches();
    node.close();
    let bases: Vec<i64> = node.log.segments().map(|segment| segment.base_offset.0).collect();
    for (index, &base) in bases.iter().enumerate() {
        let log = &node.disk.files[&name(base, ".log")];
        let mut batches: Vec<(usize, BatchHeader)> = Vec::new();
        let mut position = 0;
        while position < log.len() {
            let header = BatchHeader::parse(&log[position..]).unwrap();
            batches.push((position, header));
            position += header.size_in_bytes();
        }
        assert!(log.len() <= 1000);
        // What DumpLogSegments verifies: an entry leads to the batch that ends with its offset ...
        let entries: Vec<(i64, usize)> = node.disk.files[&name(base, ".index")]
            .chunks(8)
            .map(|entry| {
                let number = |bytes: &[u8]| i32::from_be_bytes(bytes.try_into().unwrap());
                (base + i64::from(number(&entry[..4])), usize::try_from(number(&entry[4..])).unwrap())
            })
            .collect();
        assert!(!entries.is_empty() || index + 1 == bases.len());
        let mut last_position = 0;
        for &(offset, position) in &entries {
            let found = batches.iter().find(|(at, _)| *at == position).expect("a batch begins there");
            assert_eq!(found.1.last_offset().0, offset);
            assert!(position - last_position > 200, "entries are at least the interval apart");
            last_position = position;
        }
        // ... and a timestamp is the greatest of the batch that ends with its offset, and ascends.
        let times: Vec<(i64, i64)> = node.disk.files[&name(base, ".timeindex")]
            .chunks(12)
            .map(|entry| {
                let timestamp = i64::from_be_bytes(entry[..8].try_into().unwrap());
                (timestamp, base + i64::from(i32::from_be_bytes(entry[8..].try_into().unwrap())))
            })
            .collect();
        assert!(times.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for &(timestamp, offset) in &times {
            let found = batches.iter().find(|(_, header)| header.last_offset().0 == offset).expect("a batch");
            assert_eq!(found.1.max_timestamp.0, timestamp);
        }
        // The closing entry is the greatest timestamp of the segment.
        let greatest = batches.iter().map(|(_, header)| header.max_timestamp.0).max().unwrap();
        assert_eq!(times.last().map(|&(timestamp, _)| timestamp), Some(greatest));
        if index > 0 {
            assert!(node.disk.files.contains_key(&name(base, ".snapshot")));
        }
    }
}

#[test]
fn segments_are_rolled_for_size_time_and_full_indexes() {
    let check = |config: TopicConfig, timestamps: &[i64], expected: &[i64]| {
        let mut node = Node::new(config);
        for &timestamp in timestamps {
            node.append_at(now(u64::try_from(timestamp.max(0)).unwrap()), batch(&[timestamp], 10), CLIENT)
                .unwrap();
        }
        let bases: Vec<i64> = node.log.segments().map(|segment| segment.base_offset.0).collect();
        assert_eq!(bases, expected, "{timestamps:?}");
    };
    let default = TopicConfig::default;
    let size = u32::try_from(batch(&[0], 10).len()).unwrap();
    check(default(), &[0, 1, 2, 3], &[0]);
    check(TopicConfig { segment_bytes: 2 * size, ..default() }, &[0, 1, 2, 3], &[0, 2]);
    check(TopicConfig { segment_bytes: 2 * size - 1, ..default() }, &[0, 1, 2], &[0, 1, 2]);
    check(TopicConfig { segment_ms: 100, ..default() }, &[0, 100, 101, 150, 201, 202], &[0, 2, 5]);
    // Without timestamps the broker's clock counts.
    check(TopicConfig { segment_ms: 100, ..default() }, &[-1, -1], &[0]);
    // Three entries fit the offset index, but two the time index, of which one is kept for the end.
    let tiny = TopicConfig { segment_index_bytes: 24, index_interval_bytes: 0, ..default() };
    check(tiny, &[0, 1, 2, 3, 4], &[0, 2, 4]);
}

#[test]
fn jitter_rolls_segments_of_different_logs_at_different_times() {
    let config = TopicConfig { segment_ms: 1000, segment_jitter_ms: 900, ..TopicConfig::default() };
    let first_roll = |dir: &str| {
        let config = std::sync::Arc::new(config.clone());
        let mut log = crate::Log::create(dir.into(), super::node::topic_id(), config);
        let mut codecs = crate::Codecs::default();
        (0..1001)
            .find(|&at| {
                log.append(now(0), batch(&[at], 1), CLIENT, LeaderEpoch(0), &mut codecs, &mut Vec::new())
                    .unwrap();
                log.segments().count() > 1
            })
            .expect("it is rolled within segment.ms")
    };
    let rolls: std::collections::BTreeSet<i64> =
        ["a-0", "a-1", "a-2", "b-0", "b-1"].into_iter().map(first_roll).collect();
    assert!(rolls.len() > 2 && rolls.iter().all(|&at| at > 100), "{rolls:?}");
}

#[test]
fn records_are_found_by_timestamp() {
    let mut node = forty_batches();
    let find = |node: &mut Node, timestamp: i64, upper: i64| -> Option<TimestampOffset> {
        let job = node.log.find_by_timestamp(Timestamp(timestamp), Offset(upper))?;
        node.disk.run(job).unwrap()
    };
    for closed in [false, true] {
        for offset in 0..80_i64 {
            for (timestamp, upper) in
                [(1_000_000 + offset * 10, 80), (1_000_000 - 9 + offset * 10, offset + 1)]
            {
                let found =
                    find(&mut node, timestamp, upper).map(|found| (found.offset.0, found.timestamp.0));
                assert_eq!(found, Some((offset, 1_000_000 + offset * 10)), "{timestamp} below {upper}");
            }
            assert_eq!(find(&mut node, 1_000_000 + offset * 10, offset), None);
        }
        assert_eq!(find(&mut node, 0, 80).map(|found| found.offset), Some(Offset(0)));
        assert_eq!(find(&mut node, 1_000_791, 80), None);
        assert_eq!(find(&mut node, 1_000_700, 80).map(|found| found.leader_epoch), Some(LeaderEpoch(2)));
        let newest = node.log.find_max_timestamp(Offset(80)).map(|job| node.disk.run(job).unwrap().unwrap());
        assert_eq!(newest.map(|found| (found.offset.0, found.timestamp.0)), Some((79, 1_000_790)));
        if !closed {
            node.close();
        }
    }
    node.log.delete_records_before(now(0), Offset(33));
    assert_eq!(find(&mut node, 0, 80).map(|found| found.offset), Some(Offset(33)));
}

#[test]
fn the_first_of_the_greatest_timestamps_is_found_whatever_their_order() {
    let mut node = Node::new(small_segments());
    assert!(node.log.find_max_timestamp(Offset(0)).is_none());
    node.append(batch(&[-1], 10)).unwrap();
    assert!(node.log.find_max_timestamp(Offset(1)).is_none());
    let greatest = 1_000_500;
    for timestamps in [[10, 20], [30, greatest], [greatest, 5], [7, greatest], [6, 6]] {
        node.append(build(compressed(Compression::Lz4), &timestamps, 300)).unwrap();
    }
    let job = node.log.find_max_timestamp(node.log.end_offset()).unwrap();
    let found = node.disk.run(job).unwrap().unwrap();
    assert_eq!((found.timestamp.0, found.offset.0), (greatest, 4));
    let job = node.log.find_by_timestamp(Timestamp(25), node.log.end_offset()).unwrap();
    assert_eq!(node.disk.run(job).unwrap().map(|found| found.offset.0), Some(3));
}

#[test]
fn repeated_batches_are_answered_with_their_first_offset_and_gaps_are_refused() {
    let mut node = Node::new(small_segments());
    let producer = |sequence: i32| Producer { id: 7, epoch: 0, sequence };
    for sequence in 0..8 {
        node.append(batch_of(producer(sequence), &[1], 10)).unwrap();
    }
    let again = node.append(batch_of(producer(5), &[1], 10)).unwrap();
    assert_eq!((again.first_offset, again.next_offset, again.duplicate), (Offset(5), Offset(6), true));
    let code =
        |node: &mut Node, producer| node.append(batch_of(producer, &[1], 10)).unwrap_err().error_code();
    assert_eq!(code(&mut node, producer(9)), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(code(&mut node, producer(1)), ErrorCode::OutOfOrderSequenceNumber);
    node.append(batch_of(Producer { id: 7, epoch: 1, sequence: 0 }, &[1], 10)).unwrap();
    assert_eq!(code(&mut node, producer(8)), ErrorCode::InvalidProducerEpoch);
    assert_eq!(node.log.end_offset(), Offset(9));
    let known: Vec<i64> = node.log.producers().map(|(id, _)| id.0).collect();
    assert_eq!(known, [7]);
    node.log.expire_producers(now(10_000), 5_000);
    assert_eq!(node.log.producers().count(), 0);
}

#[test]
fn refusals_carry_kafkas_error_codes() {
    let config = TopicConfig { max_message_bytes: 2000, ..small_segments() };
    let mut node = Node::new(config);
    let mut check = |batch: bytes::Bytes, expected: ErrorCode| {
        assert_eq!(node.append(batch).unwrap_err().error_code(), expected);
    };
    check(batch(&[1], 1500), ErrorCode::RecordListTooLarge);
    check(batch(&[1], 2500), ErrorCode::MessageTooLarge);
    check(batch(&[9_000_000], 10), ErrorCode::InvalidTimestamp);
    let mut corrupt = batch(&[1], 10).to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    check(corrupt.into(), ErrorCode::CorruptMessage);
    assert_eq!(node.log.end_offset(), Offset(0));
}

#[test]
fn log_append_time_replaces_the_producers_timestamps() {
    let message_timestamp_type = dohle_configs::MessageTimestampType::LogAppendTime;
    let mut node = Node::new(TopicConfig { message_timestamp_type, ..small_segments() });
    let appended = node.append_at(now(7), batch(&[1, 2], 10), CLIENT).unwrap();
    assert_eq!(appended.log_append_time, Timestamp(1_000_007));
    let read = node.read_all(Offset(0));
    assert_eq!(records(&read).iter().map(|record| record.1).collect::<Vec<_>>(), [1_000_007, 1_000_007]);
}

#[test]
fn batches_are_recompressed_to_the_topics_compression() {
    let config = TopicConfig { compression: dohle_configs::Compression::Zstd(3), ..TopicConfig::default() };
    let mut node = Node::new(config);
    node.append(batch(&[1, 2, 3], 400)).unwrap();
    node.append(build(compressed(Compression::Zstd), &[4], 400)).unwrap();
    let read = node.read_all(Offset(0));
    for batch in &read {
        assert_eq!(batch.header().attributes.compression(), Ok(Compression::Zstd));
    }
    assert_eq!(records(&read).iter().map(|record| record.1).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

fn marker(producer: Producer, coordinator_epoch: i32) -> bytes::Bytes {
    let options = BatchOptions {
        producer_id: ProducerId(producer.id),
        producer_epoch: ProducerEpoch(producer.epoch),
        transactional: true,
        ..BatchOptions::default()
    };
    let value = EndTxnMarker::new(coordinator_epoch).to_bytes();
    dohle_records::control::control_batch(options, Timestamp(1), &[(ControlRecordType::Commit, &value)])
        .unwrap()
}

#[test]
fn a_transaction_holds_the_last_stable_offset_back_until_its_marker_is_committed() {
    let mut node = Node::new(small_segments());
    node.append(batch(&[1], 10)).unwrap();
    let producer = Producer { id: 7, epoch: 0, sequence: 0 };
    let transactional = BatchOptions {
        producer_id: ProducerId(7),
        producer_epoch: ProducerEpoch(0),
        base_sequence: dohle_types::Sequence(0),
        transactional: true,
        ..BatchOptions::default()
    };
    node.append(build(transactional, &[1, 2], 10)).unwrap();
    assert_eq!(node.log.last_stable_offset(Offset(3)), Offset(1));
    assert!(node.append(marker(producer, 3)).is_err(), "clients write no markers");
    node.append_at(now(0), marker(producer, 3), Origin::Coordinator).unwrap();
    assert_eq!(node.log.last_stable_offset(Offset(3)), Offset(1));
    assert_eq!(node.log.last_stable_offset(Offset(4)), Offset(4));
    let mut first_from = |offset| {
        let found = node.disk.run(node.log.find_first(Offset(offset), Offset(4))?).unwrap()?;
        Some((found.offset.0, found.timestamp.0))
    };
    assert_eq!((first_from(2), first_from(3)), (Some((2, 2)), None), "a marker is no record to be read");
    let stale = node.append_at(now(0), marker(producer, 2), Origin::Coordinator).unwrap_err();
    assert_eq!(stale.error_code(), ErrorCode::TransactionCoordinatorFenced);
    // All of that comes back after a restart.
    node.close();
    let opening = crate::Opening { clean: true, ..node.opening() };
    for opening in [opening, node.opening()] {
        let mut again = node.reopen(node.disk.clone(), opening).unwrap();
        assert_eq!(again.log.last_stable_offset(Offset(4)), Offset(4));
        assert!(again.append_at(now(0), marker(producer, 2), Origin::Coordinator).is_err());
        assert_eq!(
            again.log.producers().map(|(id, state)| (id.0, state.coordinator_epoch)).collect::<Vec<_>>(),
            [(7, 3)]
        );
    }
}

#[test]
fn epochs_end_where_the_next_begins() {
    let node = forty_batches();
    assert_eq!(node.log.epoch_end_offset(LeaderEpoch(0)), (LeaderEpoch(0), Offset(30)));
    assert_eq!(node.log.epoch_end_offset(LeaderEpoch(1)), (LeaderEpoch(1), Offset(60)));
    assert_eq!(node.log.epoch_end_offset(LeaderEpoch(2)), (LeaderEpoch(2), Offset(80)));
    assert_eq!(node.log.epoch_end_offset(LeaderEpoch(3)), (LeaderEpoch(-1), Offset(-1)));
    assert_eq!(node.disk.files["orders-0/leader-epoch-checkpoint"], b"0\n3\n0 0\n1 30\n2 60\n");
}

#[test]
fn retention_by_size_and_time_takes_the_oldest_segments() {
    let kept = |retention_bytes: Option<u64>, retention_ms: Option<i64>, at: u64| {
        let mut node = forty_batches();
        node.sync();
        let config = TopicConfig { retention_bytes, retention_ms, ..small_segments() };
        node.log.set_config(config.into());
        node.retain(now(at), Offset(0));
        node.log.start_offset().0
    };
    let mut node = forty_batches();
    let segments: Vec<_> = node.log.segments().collect();
    let size = node.log.size_in_bytes();
    let (first, second) = (segments[1].base_offset.0, segments[2].base_offset.0);
    assert_eq!(kept(None, None, 1 << 40), 0);
    assert_eq!(kept(Some(size), None, 0), 0);
    assert_eq!(kept(Some(size - segments[0].size_in_bytes + 1), None, 0), 0);
    assert_eq!(kept(Some(size - segments[0].size_in_bytes), None, 0), first);
    let newest_of_first = u64::try_from(segments[0].max_timestamp.0 - 1_000_000).unwrap();
    assert_eq!(kept(None, Some(1000), newest_of_first + 1000), 0);
    assert_eq!(kept(None, Some(1000), newest_of_first + 1001), first);
    let newest_of_second = u64::try_from(segments[1].max_timestamp.0 - 1_000_000).unwrap();
    assert_eq!(kept(Some(size), Some(1000), newest_of_second + 1001), second);
    assert_eq!(kept(Some(0), None, 0), 80, "the active segment is rolled, and goes too");
    // Nothing that is not committed is deleted.
    node.log.set_config(TopicConfig { retention_bytes: Some(0), ..small_segments() }.into());
    node.retain(now(0), Offset(0));
    assert_eq!(node.log.start_offset(), Offset(0));
}

#[test]
fn the_files_of_deleted_segments_go_after_the_checkpoint_and_the_delay() {
    let mut node = forty_batches();
    node.sync();
    let config = TopicConfig { retention_bytes: Some(0), file_delete_delay_ms: 500, ..small_segments() };
    node.log.set_config(config.into());
    let all = node.log.segments().count();
    node.retain(now(0), Offset(0));
    assert_eq!(
        (node.log.start_offset(), node.log.start_offset_to_checkpoint()),
        (Offset(80), Some(Offset(80)))
    );
    node.retain(now(1000), Offset(0));
    assert_eq!(node.log.segments().count(), all + 1, "the checkpoint does not know yet");
    node.retain(now(499), Offset(80));
    assert_eq!(node.log.segments().count(), all + 1, "a read may be under way");
    node.retain(now(1000), Offset(80));
    assert_eq!(node.log.segments().count(), 2, "the file of the active segment is not durable yet");
    node.sync();
    node.retain(now(1000), Offset(80));
    assert_eq!(node.log.segments().count(), 1);
    node.sync();
    let files: Vec<&str> = node.disk.files.keys().map(AsRef::as_ref).collect();
    assert_eq!(
        files,
        [
            "orders-0/00000000000000000080.log",
            "orders-0/00000000000000000080.snapshot",
            "orders-0/leader-epoch-checkpoint",
            "orders-0/partition.metadata"
        ]
    );
    // The next record does not get an offset that was given out before.
    let mut again = node.reopen(node.disk.clone(), node.opening()).unwrap();
    assert_eq!(again.append(batch(&[1], 1)).unwrap().first_offset, Offset(80));
}

#[test]
fn a_preallocated_segment_has_room_from_its_first_batch_until_it_is_closed() {
    let mut node = Node::new(TopicConfig { preallocate: true, segment_bytes: 300, ..TopicConfig::default() });
    let mut told = Vec::new();
    let mut tell = |op: &Op| match op {
        Op::Allocate { path, length } => told.push(format!("{path} gets room for {length}")),
        Op::Truncate { path, length } => told.push(format!("{path} ends at {length}")),
        Op::Write { .. } | Op::Link { .. } | Op::Rename { .. } | Op::Remove { .. } => {}
    };
    for preallocate in [true, true, true, false, false] {
        node.log.set_config(TopicConfig { preallocate, ..node.log.config().as_ref().clone() }.into());
        let batch = batch(&[1], 50);
        let mut ops = Vec::new();
        node.log.append(now(0), batch, CLIENT, node.epoch, &mut node.codecs, &mut ops).unwrap();
        ops.iter().for_each(&mut tell);
        ops.into_iter().for_each(|op| node.disk.apply(op));
    }
    let config = TopicConfig { preallocate: true, ..node.log.config().as_ref().clone() };
    let opening = Opening { config: config.into(), ..node.opening() };
    let mut again = node.reopen(node.disk.clone(), opening).unwrap();
    let mut ops = Vec::new();
    again.log.close(&mut ops);
    ops.iter().for_each(tell);
    let segment = |base: i64| format!("{DIR}/{base:020}.log");
    let expected = [
        format!("{} gets room for 300", segment(0)),
        format!("{} ends at 242", segment(0)),
        format!("{} gets room for 300", segment(2)),
        format!("{} ends at 242", segment(2)),
        // The process was killed.
        format!("{} ends at 121", segment(4)),
    ];
    assert_eq!(told, expected);
}

#[test]
fn deleted_records_cannot_be_read_any_more() {
    let mut node = forty_batches();
    node.log.delete_records_before(now(0), Offset(33));
    assert_eq!(node.log.start_offset(), Offset(33));
    assert!(node.log.read(Offset(32), Offset(80), 100, true).is_err());
    assert_eq!(node.read(Offset(33), 1)[0].header().base_offset, Offset(32), "the whole batch comes");
    node.log.delete_records_before(now(0), Offset(10));
    assert_eq!(node.log.start_offset(), Offset(33));
    node.sync();
    node.retain(now(100_000), Offset(33));
    assert_eq!(node.log.segments().next().map(|segment| segment.base_offset <= Offset(33)), Some(true));
    let start_offset = Some(Offset(33));
    let again = node.reopen(node.disk.clone(), crate::Opening { start_offset, ..node.opening() }).unwrap();
    assert_eq!((again.log.start_offset(), again.log.end_offset()), (Offset(33), Offset(80)));
}

#[test]
fn one_sync_is_under_way_at_a_time_and_the_next_takes_what_came_meanwhile() {
    let mut node = Node::new(small_segments());
    node.append(batch(&[1], 10)).unwrap();
    let first = node.log.begin_sync().unwrap();
    let ranges = |work: &crate::SyncWork| -> Vec<(i64, u32, u32, i64)> {
        work.ranges.iter().map(|range| (range.base.0, range.position, range.length, range.end.0)).collect()
    };
    let size = u32::try_from(batch(&[1], 10).len()).unwrap();
    assert_eq!((first.point.end, ranges(&first)), (Offset(1), vec![(0, 0, size, 1)]));
    assert_eq!((&first.ranges[0].path, first.files.len()), (&name(0, ".log"), 2), "{first:?}");
    node.append(batch(&[1], 10)).unwrap();
    assert_eq!(node.log.begin_sync(), None);
    node.log.synced(first.point);
    assert_eq!((node.log.durable_offset(), node.log.recovery_point()), (Offset(1), Offset(0)));
    let second = node.log.begin_sync().unwrap();
    assert_eq!((ranges(&second), &second.files[..]), (vec![(0, size, size, 2)], &[][..]));
    assert!(node.log.flushed(second.point));
    assert_eq!((node.log.durable_offset(), node.log.recovery_point()), (Offset(2), Offset(2)));
    assert_eq!((node.log.begin_sync(), node.log.begin_flush()), (None, None));
    // A roll in between leaves the old segment's files to be synced as well.
    for _ in 0..10 {
        node.append(batch(&[1], 100)).unwrap();
    }
    let third = node.log.begin_sync().unwrap();
    assert!(third.ranges.len() >= 2 && third.ranges.is_sorted_by(|a, b| a.end == b.base && b.position == 0));
    let paths: Vec<_> = third.paths().collect();
    for (offset, suffix) in [(0, ".log"), (0, ".index"), (0, ".timeindex")] {
        assert!(paths.contains(&&name(offset, suffix)), "{paths:?}");
    }
    assert!(paths.iter().any(|path| path.ends_with(".snapshot")), "{paths:?}");
}

#[test]
fn what_is_durable_elsewhere_is_still_to_be_flushed() {
    let mut node = Node::new(small_segments());
    node.append(batch(&[1], 10)).unwrap();
    let first = node.log.begin_sync().unwrap();
    node.log.synced(first.point);
    assert_eq!(node.log.begin_sync(), None);
    node.append(batch(&[1], 10)).unwrap();
    let second = node.log.begin_sync().unwrap();
    // The files have the first part while the second is under way.
    assert!(!node.log.flushed(first.point));
    assert_eq!((node.log.durable_offset(), node.log.recovery_point()), (Offset(1), Offset(1)));
    node.log.synced(second.point);
    let third = node.log.begin_flush().unwrap();
    assert!(third.in_files && third.ranges.is_empty() && third.files.is_empty(), "{third:?}");
    assert!(node.log.flushed(third.point));
    assert_eq!((node.log.recovery_point(), node.log.begin_flush()), (Offset(2), None));
}

#[test]
fn after_a_clean_shutdown_the_log_goes_on_as_if_nothing_had_happened() {
    let mut node = forty_batches();
    for sequence in 0..3 {
        node.append(batch_of(Producer { id: 7, epoch: 0, sequence }, &[1_000_900], 10)).unwrap();
    }
    node.close();
    let expected: Vec<Batch> = node.read_all(Offset(0));
    let segments: Vec<_> = node.log.segments().collect();
    let opening =
        crate::Opening { clean: true, recovery_point: Some(node.log.end_offset()), ..node.opening() };
    let mut again = node.reopen(node.disk.clone(), opening).unwrap();
    assert_eq!(again.log.segments().collect::<Vec<_>>(), segments);
    assert_eq!(again.read_all(Offset(0)), expected);
    assert_eq!(again.log.epoch_end_offset(LeaderEpoch(0)), (LeaderEpoch(0), Offset(30)));
    let duplicate =
        again.append(batch_of(Producer { id: 7, epoch: 0, sequence: 2 }, &[1_000_900], 10)).unwrap();
    assert!(duplicate.duplicate && duplicate.first_offset == Offset(82));
    for _ in 0..20 {
        again.append(batch(&[1_001_000], 60)).unwrap();
    }
    again.close();
    let again = &mut again.reopen(again.disk.clone(), again.opening()).unwrap();
    assert_eq!(again.read_all(Offset(0)).len(), 63);
}

#[test]
fn a_directory_of_another_topic_is_not_opened() {
    let mut node = forty_batches();
    node.close();
    let opening = crate::Opening { topic_id: "AAAAAAAAAAAAAAAAAAAAAQ".parse().unwrap(), ..node.opening() };
    let error = node.reopen(node.disk.clone(), opening).err();
    assert!(matches!(error, Some(crate::OpenError::OtherTopic { .. })), "{error:?}");
}

#[test]
fn the_first_record_from_an_offset_on_is_found_with_its_timestamp() {
    let mut node = forty_batches();
    node.cool();
    let end = node.log.end_offset();
    let find = |node: &mut Node, from: i64, upper: Offset| {
        let job = node.log.find_first(Offset(from), upper)?;
        let found = node.disk.run(job).unwrap()?;
        Some((found.offset.0, found.timestamp.0, found.leader_epoch.0))
    };
    for offset in 0..80 {
        let epoch = i32::try_from(offset / 2 / 15).unwrap();
        assert_eq!(find(&mut node, offset, end), Some((offset, 1_000_000 + offset * 10, epoch)));
    }
    assert_eq!(find(&mut node, 80, end), None);
    assert_eq!(find(&mut node, 30, Offset(30)), None);
    node.log.delete_records_before(now(0), Offset(33));
    assert_eq!(find(&mut node, 7, end), Some((33, 1_000_330, 1)), "what was deleted is not there");
}
