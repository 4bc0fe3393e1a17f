//! Damage that a scrub finds: its records are refused, all others are read.

use dohle_configs::TopicConfig;
use dohle_types::Offset;

use super::node::{Node, batch};
use super::transactions::script;
use crate::{Damage, ScrubPoint};

/// Several sealed segments of a few batches with one record each.
fn node() -> Node {
    let config = TopicConfig { segment_bytes: 2000, index_interval_bytes: 0, ..TopicConfig::default() };
    let mut node = Node::new(config);
    for _ in 0..40 {
        node.append(batch(&[1], 300)).unwrap();
    }
    node.sync();
    node.cool();
    node
}

/// Scrubs everything; what was found, and how many bytes were read.
fn scrub(node: &mut Node) -> (Vec<Damage>, u64) {
    let (mut found, mut bytes, mut point) = (Vec::new(), 0, ScrubPoint::default());
    while let Some(piece) = node.log.scrub(&point) {
        let scrubbed = node.disk.run(piece);
        assert!(node.log.has_sealed(scrubbed.segment));
        point = scrubbed.point;
        bytes += scrubbed.bytes;
        let mut ops = Vec::new();
        scrubbed.indexes.into_iter().for_each(|indexes| node.log.take_indexes(indexes, &mut ops));
        ops.into_iter().for_each(|op| node.disk.apply(op));
        found.extend(scrubbed.damage.into_iter().filter(|damage| node.log.note_damage(damage.clone())));
    }
    (found, bytes)
}

fn flip(node: &mut Node, path: &str, at: usize) {
    let content = node.disk.files.iter_mut().find(|(name, _)| &***name == path);
    content.unwrap().1[at] ^= 4;
}

#[test]
fn a_scrub_reads_what_is_sealed_and_finds_nothing_where_nothing_is() {
    let mut node = node();
    let sealed: u64 = node.log.segments().map(|segment| segment.size_in_bytes).sum::<u64>()
        - node.log.segments().last().unwrap().size_in_bytes;
    assert_eq!(scrub(&mut node), (Vec::new(), sealed));
}

#[test]
fn wherever_a_bit_flips_its_batch_alone_is_refused() {
    let segment = node().log.segments().nth(1).unwrap();
    let path = format!("orders-0/{:020}.log", segment.base_offset.0);
    let size = usize::try_from(segment.size_in_bytes).unwrap();
    let batch_size = size / 5;
    for at in (0..size).step_by(37) {
        // The offset of a batch is what its CRC does not cover, and neither is its leader epoch.
        if at % batch_size < 16 && at % batch_size >= 12 {
            continue;
        }
        let mut node = node();
        let end = node.log.end_offset();
        flip(&mut node, &path, at);
        let (found, _) = scrub(&mut node);
        let hit = segment.base_offset.plus(i64::try_from(at / batch_size).unwrap());
        let [damage] = &*found else { panic!("byte {at}: {found:?}") };
        assert_eq!((damage.from, damage.to), (hit, hit.plus(1)), "byte {at}: {}", damage.reason);
        assert_eq!(node.log.damage_at(hit), Some(damage));
        let before = node.read_below(Offset(0), end, 1 << 20, true);
        assert_eq!(before[0].header().base_offset, Offset(0));
        for offset in (0..end.0).map(Offset).filter(|&offset| offset != hit) {
            let read = node.read_below(offset, end, 1 << 20, true);
            assert_eq!(read[0].header().base_offset, offset, "byte {at}");
            let next = read.last().unwrap().header().next_offset();
            assert!(offset > hit || next <= hit, "byte {at}: a read from {offset} goes on to {next}");
        }
        assert_eq!(scrub(&mut node).0, [], "what is known is no news");
    }
}

#[test]
fn an_index_that_is_damaged_is_as_it_was_after_a_scrub() {
    let whole = || {
        let config = TopicConfig { index_interval_bytes: 0, ..TopicConfig::default() };
        let mut node = Node::new(config);
        // Transactions that reach into later segments, and timestamps that go back.
        script(&mut node, "a1 b1 -1 a! / b2");
        for timestamp in [5, 7, 6, 9] {
            node.append(batch(&[timestamp], 30)).unwrap();
        }
        script(&mut node, "b1 a1 a! c1 / c. b! a1 / a! -1");
        node.sync();
        node
    };
    let mut node = whole();
    let is_index = |path: &str| path.contains("index");
    let expected = node.disk.files.clone();
    assert_eq!(scrub(&mut node).0, []);
    assert_eq!(node.disk.files, expected, "nothing is wrong, and nothing is changed");
    let sealed: Vec<_> = node.log.segments().map(|segment| segment.base_offset).collect();
    let (active, sealed) = sealed.split_last().unwrap();
    let is_sealed = |path: &str| sealed.iter().any(|base| path.contains(&format!("{:020}.", base.0)));
    let indexes: Vec<_> = expected.keys().filter(|path| is_index(path) && is_sealed(path)).cloned().collect();
    assert_eq!(indexes.len(), 9, "behind {active} none is sealed: {indexes:?}");
    for path in indexes {
        let length = expected[&path].len();
        for at in 0..length {
            // Of the version of an entry nothing depends.
            if path.ends_with("txnindex") && at % 34 < 2 {
                continue;
            }
            let mut node = whole();
            flip(&mut node, &path, at);
            assert_eq!(scrub(&mut node).0, []);
            assert_eq!(node.disk.files, expected, "{path}, byte {at}");
        }
        for cut in [0, length / 2] {
            let mut node = whole();
            node.disk.files.get_mut(&path).unwrap().truncate(cut);
            assert_eq!(scrub(&mut node).0, []);
            assert_eq!(node.disk.files, expected, "{path}, cut to {cut}");
        }
    }
}

#[test]
fn a_batch_that_ends_before_it_begins_is_not_read_though_its_crc_is_right() {
    let mut node = node();
    let path = "orders-0/00000000000000000000.log";
    let (_, content) = node.disk.files.iter_mut().find(|(name, _)| &***name == path).unwrap();
    let second = content.len() / 5;
    let batch = &mut content[second..2 * second];
    batch[23..27].copy_from_slice(&(-7_i32).to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    let read = node.read_or_damage(Offset(0)).unwrap();
    assert_eq!(read.iter().map(|batch| batch.header().base_offset).collect::<Vec<_>>(), [Offset(0)]);
    assert!(node.read_or_damage(Offset(1)).is_none());
    assert_eq!(node.read_or_damage(Offset(2)).unwrap()[0].header().base_offset, Offset(2));
}
