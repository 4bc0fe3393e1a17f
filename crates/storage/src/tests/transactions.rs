//! Which transactions a `read_committed` consumer is told to pass over.

use bytes::Bytes;
use dohle_configs::TopicConfig;
use dohle_records::{BatchOptions, Batches, ControlRecordType, EndTxnMarker};
use dohle_types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::node::{Node, build, now};
use crate::disk::FilePath;
use crate::{AbortedTxn, Opening, Origin};

/// What happens to a log, a word each: `a3` is three records of producer a's transaction, `-3` three of nobody's,
/// `a!` aborts a's transaction, `a.` commits it, `/` begins a segment.
pub(super) fn script(node: &mut Node, events: &str) {
    for event in events.split_whitespace() {
        let mut letters = event.chars();
        let producer = letters.next().unwrap();
        if producer == '/' {
            let mut ops = Vec::new();
            node.log.roll(Timestamp(0), &mut ops);
            ops.into_iter().for_each(|op| node.disk.apply(op));
            continue;
        }
        let what = letters.as_str();
        let options = options(node, producer);
        if let Ok(count) = what.parse() {
            node.append_at(now(0), build(options, &vec![1; count], 20), Origin::Client { zstd_allowed: true })
        } else {
            let kind = if what == "!" { ControlRecordType::Abort } else { ControlRecordType::Commit };
            let marker = EndTxnMarker::new(0).to_bytes();
            let batch = dohle_records::control::control_batch(
                BatchOptions { base_sequence: Sequence(-1), ..options },
                Timestamp(1),
                &[(kind, &marker)],
            );
            node.append_at(now(0), batch.unwrap(), Origin::Coordinator)
        }
        .unwrap();
    }
}

fn options(node: &Node, producer: char) -> BatchOptions {
    if producer == '-' {
        return BatchOptions::default();
    }
    let id = ProducerId(i64::from(u32::from(producer)));
    let known = node.log.producers().find(|(known, _)| *known == id);
    let last = known.and_then(|(_, state)| Some(state.last_batch()?.last_sequence));
    BatchOptions {
        producer_id: id,
        producer_epoch: ProducerEpoch(0),
        base_sequence: last.map_or(Sequence(0), |last| last.plus(1)),
        transactional: true,
        ..BatchOptions::default()
    }
}

/// The aborted transactions of a range as `producer first-marker`.
fn aborted(node: &mut Node, from: i64, upper: i64) -> String {
    let job = node.log.find_aborted(Offset(from), Offset(upper));
    let found = job.map(|job| node.disk.run(job)).unwrap_or_default();
    let tell = |txn: &AbortedTxn| {
        let producer = char::from_u32(u32::try_from(txn.producer_id.0).unwrap()).unwrap();
        format!("{producer} {}-{}", txn.first_offset, txn.last_offset)
    };
    found.iter().map(tell).collect::<Vec<_>>().join(", ")
}

/// Checks what a range has, in the log as it was written and as it comes back after a stop and after a kill.
fn check(events: &str, ranges: &[(i64, i64, &str)]) {
    let mut node = Node::new(TopicConfig::default());
    script(&mut node, events);
    node.sync();
    let compare = |node: &mut Node, case: &str| {
        for &(from, upper, expected) in ranges {
            assert_eq!(aborted(node, from, upper), expected, "{events}: {from}..{upper} {case}");
        }
    };
    compare(&mut node, "as written");
    for recovery_point in [0, node.log.end_offset().0 / 2, node.log.end_offset().0] {
        let opening = Opening { recovery_point: Some(Offset(recovery_point)), ..node.opening() };
        let mut killed = node.reopen(node.disk.clone(), opening).unwrap();
        compare(&mut killed, &format!("recovered from {recovery_point}"));
    }
    node.close();
    let mut stopped = node.reopen(node.disk.clone(), Opening { clean: true, ..node.opening() }).unwrap();
    compare(&mut stopped, "after a stop");
}

#[test]
fn a_range_has_the_aborted_transactions_that_reach_into_it() {
    check("a2 a. -1", &[(0, 4, "")]);
    check("a2 a! -1", &[(0, 4, "a 0-2"), (2, 4, "a 0-2"), (3, 4, "")]);
    check("-1 a1 b1 a1 a! b.", &[(0, 1, ""), (0, 6, "a 1-4"), (5, 6, "")]);
    check("a1 b1 a! b!", &[(0, 1, "a 0-2"), (0, 4, "a 0-2, b 1-3"), (3, 4, "b 1-3")]);
    // A marker without a transaction ends nothing.
    check("a! a1 a. -1", &[(0, 4, "")]);
}

#[test]
fn a_marker_of_transactions_v2_that_the_log_has_is_not_appended_again() {
    let mut node = Node::new(TopicConfig::default());
    script(&mut node, "a2");
    let options =
        BatchOptions { producer_epoch: ProducerEpoch(1), base_sequence: Sequence(-1), ..options(&node, 'a') };
    let value = EndTxnMarker::new(0).to_bytes();
    let kind = ControlRecordType::Abort;
    let marker = dohle_records::control::control_batch(options, Timestamp(1), &[(kind, &value)]).unwrap();
    for is_repeated in [false, true] {
        let appended = node.append_at(now(0), marker.clone(), Origin::MarkerV2).unwrap();
        assert_eq!((appended.duplicate, appended.next_offset), (is_repeated, Offset(3)));
    }
    assert_eq!(node.log.end_offset(), Offset(3));
    assert_eq!(aborted(&mut node, 0, 3), "a 0-2");
}

#[test]
fn a_transaction_is_found_from_every_segment_it_has_records_in() {
    check("a1 / -1 / a! / -1", &[(0, 1, "a 0-2"), (1, 2, "a 0-2"), (2, 3, "a 0-2"), (3, 4, "")]);
    check("a1 b1 / a! b1 / b! / a1 a.", &[(0, 2, "a 0-2, b 1-4"), (3, 4, "b 1-4"), (5, 7, "")]);
}

#[test]
fn the_files_are_those_of_kafka_and_only_where_a_transaction_was_aborted() {
    let mut node = Node::new(TopicConfig::default());
    script(&mut node, "a1 a. / a1 b1 a! / b!");
    let indexes: Vec<(String, usize)> = node
        .disk
        .files
        .iter()
        .filter(|(path, _)| path.ends_with(".txnindex"))
        .map(|(path, content)| (path.to_string(), content.len()))
        .collect();
    assert_eq!(
        indexes,
        [
            ("orders-0/00000000000000000002.txnindex".to_owned(), 34),
            ("orders-0/00000000000000000005.txnindex".to_owned(), 34)
        ]
    );
    let first = &node.disk.files["orders-0/00000000000000000002.txnindex"];
    // Version, producer a, first record, marker, and the last stable offset: b's transaction is open.
    let expected: Vec<u8> = [
        &[0, 0][..],
        &97_i64.to_be_bytes(),
        &2_i64.to_be_bytes(),
        &4_i64.to_be_bytes(),
        &3_i64.to_be_bytes(),
    ]
    .concat();
    assert_eq!(*first, expected);
}

/// Where the batches of all segments are: the file, and where in it.
fn batches(node: &Node) -> Vec<(FilePath, usize)> {
    let logs = node.disk.files.iter().filter(|(path, _)| path.ends_with(".log"));
    let of_log = |(path, content): (&FilePath, &Vec<u8>)| {
        let mut position = 0;
        let places = Batches::new(Bytes::from(content.clone())).map(|batch| {
            let at = position;
            position += batch.unwrap().bytes().len();
            (path.clone(), at)
        });
        places.collect::<Vec<_>>()
    };
    logs.flat_map(of_log).collect()
}

fn indexes(node: &Node) -> Vec<(FilePath, Vec<u8>)> {
    let files = node.disk.files.iter().filter(|(path, _)| path.ends_with(".txnindex"));
    files.map(|(path, content)| (path.clone(), content.clone())).collect()
}

#[test]
fn a_recovery_that_meets_damage_leaves_the_index_as_good_as_it_was() {
    for events in [
        "a1 a1 b1 a! b. -1",
        "a1 b1 b1 a1 b! a! -1",
        "a1 a. a1 a! b1 b! a1 a. -1",
        "a1 b1 / a1 a! b1 / b! a1 / a! -1",
    ] {
        let mut node = Node::new(TopicConfig::default());
        script(&mut node, events);
        node.sync();
        let (expected, end) = (indexes(&node), node.log.end_offset());
        for (path, at) in batches(&node) {
            for recovery_point in 0..=end.0 {
                let case = format!("{events}: {path} {at} is damaged, recovered from {recovery_point}");
                let flip = |node: &mut Node| node.disk.files.get_mut(&path).unwrap()[at + 64] ^= 4;
                let mut damaged = node.reopen(node.disk.clone(), node.opening()).unwrap();
                flip(&mut damaged);
                let opening = Opening { recovery_point: Some(Offset(recovery_point)), ..node.opening() };
                let mut damaged = damaged.reopen(damaged.disk.clone(), opening).unwrap();
                if damaged.log.end_offset() < end {
                    continue; // It was taken for a torn end.
                }
                assert_eq!(indexes(&damaged), expected, "{case}");
                damaged.close();
                flip(&mut damaged);
                let opening = Opening { clean: true, ..node.opening() };
                let mut restored = damaged.reopen(damaged.disk.clone(), opening).unwrap();
                assert_eq!(restored.log.damage(), [], "{case}");
                for from in 0..end.0 {
                    let found = aborted(&mut restored, from, end.0);
                    assert_eq!(found, aborted(&mut node, from, end.0), "{case}: from {from}");
                }
            }
        }
    }
}
