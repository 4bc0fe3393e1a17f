//! A good history has no anomaly; each anomaly planted into it is found, and nothing else.

mod transactions;

use dohle_types::{Offset, TopicPartition};

use crate::payload::{decode, encode};
use crate::{Anomaly, Guarantee, History, Outcome, ReaderId, RecordId};

const EXACT: u32 = 1;
const RETRYING: u32 = 2;
const SILENT: u32 = 3;

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

fn record(producer: u32, number: u64) -> RecordId {
    RecordId { producer, number }
}

/// What is in the log at the end, in order.
const LOG: [(u32, u64); 8] = [
    (EXACT, 0),
    (EXACT, 1),
    (RETRYING, 0),
    (RETRYING, 1),
    (RETRYING, 0),
    (SILENT, 1),
    (SILENT, 0),
    (EXACT, 3),
];

/// What became of each send. Record 2 of the first producer was given up and never arrived.
fn sent() -> Vec<(RecordId, Outcome)> {
    let told = |offset| Outcome::Acknowledged(Some(Offset(offset)));
    vec![
        (record(EXACT, 0), told(0)),
        (record(EXACT, 1), Outcome::Acknowledged(None)),
        (record(EXACT, 2), Outcome::Unknown),
        (record(EXACT, 3), told(7)),
        (record(EXACT, 4), Outcome::Refused),
        (record(RETRYING, 0), told(4)),
        (record(RETRYING, 1), told(3)),
        (record(SILENT, 0), Outcome::Unknown),
        (record(SILENT, 1), Outcome::Unknown),
    ]
}

struct Case {
    sent: Vec<(RecordId, Outcome)>,
    log: Vec<(i64, Vec<u8>)>,
    read: Vec<(i64, Vec<u8>)>,
}

impl Case {
    fn good() -> Self {
        let value = |&(producer, number): &(u32, u64)| encode(record(producer, number), 40).to_vec();
        let log: Vec<_> = (0..).zip(LOG.iter().map(value)).collect();
        Self { sent: sent(), read: log[1..5].to_vec(), log }
    }

    fn check(self) -> Vec<Anomaly> {
        let mut history = History::default();
        history.producer(EXACT, Guarantee::ExactlyOnce);
        history.producer(RETRYING, Guarantee::AtLeastOnce);
        history.producer(SILENT, Guarantee::AtMostOnce);
        for (record, outcome) in self.sent {
            history.attempt(&orders(), record);
            history.outcome(&orders(), record, outcome);
        }
        for (offset, value) in self.read {
            history.read(ReaderId(1), &orders(), Offset(offset), Some(&value));
        }
        for (offset, value) in self.log {
            history.log(&orders(), Offset(offset), Some(&value));
        }
        history.check()
    }
}

fn planted(plant: impl FnOnce(&mut Case)) -> Vec<Anomaly> {
    let mut case = Case::good();
    plant(&mut case);
    case.check()
}

#[test]
fn a_good_history_has_no_anomaly() {
    assert_eq!(planted(|_| {}), []);
}

#[test]
fn lost() {
    let found = planted(|case| {
        case.log.pop();
    });
    let acknowledged = Some(Offset(7));
    assert_eq!(found, [Anomaly::Lost { partition: orders(), record: record(EXACT, 3), acknowledged }]);
}

#[test]
fn moved() {
    let found = planted(|case| case.sent[5].1 = Outcome::Acknowledged(Some(Offset(1))));
    let found_at = vec![Offset(2), Offset(4)];
    let moved = Anomaly::Moved {
        partition: orders(),
        record: record(RETRYING, 0),
        acknowledged: Offset(1),
        found: found_at,
    };
    assert_eq!(found, [moved]);
}

#[test]
fn duplicated() {
    for (producer, number, first) in [(EXACT, 3, 7), (SILENT, 0, 6)] {
        let again = encode(record(producer, number), 40).to_vec();
        let found = planted(|case| case.log.push((8, again)));
        let offsets = vec![Offset(first), Offset(8)];
        assert_eq!(
            found,
            [Anomaly::Duplicated { partition: orders(), record: record(producer, number), offsets }]
        );
    }
}

#[test]
fn reordered() {
    let late = encode(record(EXACT, 2), 40).to_vec();
    let found = planted(|case| case.log.push((8, late)));
    let reordered = Anomaly::Reordered {
        partition: orders(),
        offset: Offset(8),
        record: record(EXACT, 2),
        before: record(EXACT, 3),
    };
    assert_eq!(found, [reordered]);
}

#[test]
fn corrupt() {
    let found = planted(|case| case.log[6].1[30] ^= 1);
    let corrupt = |anomaly: &Anomaly| matches!(anomaly, Anomaly::Corrupt { offset: Offset(6), .. });
    assert!(matches!(&found[..], [only] if corrupt(only)), "{found:?}");
    // Torn anywhere, or with one bit changed anywhere.
    let value = encode(record(7, 9), 40);
    assert_eq!(decode(&value), Ok(record(7, 9)));
    for length in 0..value.len() {
        assert!(decode(&value[..length]).is_err());
    }
    for position in 16..value.len() {
        let mut damaged = value.to_vec();
        damaged[position] ^= 0x80;
        assert!(decode(&damaged).is_err());
    }
}

#[test]
fn phantom() {
    let unknown = encode(record(EXACT, 77), 40).to_vec();
    let found = planted(|case| case.log.push((8, unknown)));
    assert_eq!(
        found,
        [Anomaly::Phantom { partition: orders(), offset: Offset(8), record: record(EXACT, 77) }]
    );
}

#[test]
fn refused() {
    let refused = encode(record(EXACT, 4), 40).to_vec();
    let found = planted(|case| case.log.push((8, refused)));
    assert_eq!(
        found,
        [Anomaly::Refused { partition: orders(), offset: Offset(8), record: record(EXACT, 4) }]
    );
}

#[test]
fn skipped() {
    let found = planted(|case| {
        case.read.remove(1);
    });
    assert_eq!(found, [Anomaly::Skipped { partition: orders(), after: Offset(1), next: Offset(3) }]);
}

#[test]
fn went_back() {
    for at in [0, 1] {
        let found = planted(|case| case.read.insert(2, case.read[at].clone()));
        let (after, next) = (Offset(2), Offset(1 + i64::try_from(at).unwrap()));
        assert_eq!(found[0], Anomaly::WentBack { partition: orders(), after, next });
    }
}

#[test]
fn changed() {
    let found = planted(|case| {
        let above = encode(record(EXACT, 2), 40).to_vec();
        case.read = vec![(7, case.log[7].1.clone()), (8, above)];
    });
    let changed =
        Anomaly::Changed { partition: orders(), offset: Offset(8), read: record(EXACT, 2), found: None };
    assert_eq!(found, [changed]);
}

#[test]
fn inconsistent_offsets() {
    // Two readers, or a reader and the log, find different records at one offset.
    let found = planted(|case| case.read = vec![case.log[2].clone(), (3, case.log[5].1.clone())]);
    let changed = Anomaly::Changed {
        partition: orders(),
        offset: Offset(3),
        read: record(SILENT, 1),
        found: Some(record(RETRYING, 1)),
    };
    assert_eq!(found, [changed]);
}

/// Commits 10 and 20 one after the other, then 30 without an answer, and fetches.
fn offsets(fetched: Option<i64>) -> Vec<Anomaly> {
    let mut history = History::default();
    for offset in [10, 20] {
        let commit = history.commit("billing", &orders(), Offset(offset));
        history.committed(commit);
    }
    history.commit("billing", &orders(), Offset(30));
    let begun = history.moment();
    history.fetched(begun, "billing", &orders(), fetched.map(Offset));
    // Whatever is committed later has nothing to do with it.
    history.commit("billing", &orders(), Offset(40));
    history.check()
}

#[test]
fn offsets_that_are_there_or_may_be() {
    assert_eq!(offsets(Some(20)), []);
    assert_eq!(offsets(Some(30)), []);
}

#[test]
fn lost_commits() {
    for fetched in [None, Some(10)] {
        let found = offsets(fetched);
        let is_lost = |anomaly: &Anomaly| matches!(anomaly, Anomaly::LostCommit { fetched: told, .. } if *told == fetched.map(Offset));
        assert!(matches!(&found[..], [only] if is_lost(only)), "{found:?}");
    }
}

#[test]
fn phantom_commits() {
    for fetched in [15, 40] {
        let phantom =
            Anomaly::PhantomCommit { group: "billing".into(), partition: orders(), fetched: Offset(fetched) };
        assert_eq!(offsets(Some(fetched)), [phantom]);
    }
}

#[test]
fn a_commit_that_overlaps_a_fetch_may_or_may_not_be_seen() {
    for fetched in [10, 20] {
        let mut history = History::default();
        let first = history.commit("billing", &orders(), Offset(10));
        history.committed(first);
        let begun = history.moment();
        let second = history.commit("billing", &orders(), Offset(20));
        history.fetched(begun, "billing", &orders(), Some(Offset(fetched)));
        history.committed(second);
        assert_eq!(history.check(), []);
    }
}
