//! Transactions that consume, transform and produce: a good history of them, and each anomaly planted into it.

use dohle_types::{Offset, TopicPartition};

use super::record;
use crate::payload::encode;
use crate::{Anomaly, Guarantee, History, Isolation, Outcome, ReaderId, RecordId, TransactionId, Verdict};

/// Who writes what is consumed.
const SOURCE: u32 = 1;
/// Its successor fences it.
const FIRST: u32 = 10;
const SECOND: u32 = 11;

const FOLLOWER: ReaderId = ReaderId(7);

#[derive(Clone, Copy, PartialEq, Debug)]
enum At {
    Input,
    Output,
    Audit,
}

impl At {
    fn partition(self) -> TopicPartition {
        TopicPartition::new(["input", "output", "audit"][self as usize], 0)
    }
}

/// What happens, in order.
#[derive(Clone, PartialEq, Debug)]
enum Event {
    Send(TransactionId, At, RecordId),
    /// The input's offsets from here up to there.
    Consume(TransactionId, At, i64, i64),
    Committing(TransactionId),
    Ended(TransactionId, Verdict),
    Fenced(u32),
    /// By a follower of what is committed.
    Read(At, i64, RecordId),
    /// At the end, whether it is committed or not.
    Log(At, i64, RecordId),
    CommittedLog(At, i64, RecordId),
}

use At::{Audit, Input, Output};
use Event::{CommittedLog, Committing, Consume, Ended, Fenced, Log, Read, Send};

fn transaction(producer: u32, number: u64) -> TransactionId {
    TransactionId { producer, number }
}

/// Committed, aborted by a fence, committed, and committed without an answer. Markers stand at output 2, 4, 6 and 8,
/// and at audit 1 and 3.
fn good() -> Vec<Event> {
    let (one, zombie) = (transaction(FIRST, 0), transaction(FIRST, 1));
    let (three, last) = (transaction(SECOND, 0), transaction(SECOND, 1));
    let mut events = vec![
        Consume(one, Input, 0, 2),
        Send(one, Output, record(FIRST, 0)),
        Send(one, Output, record(FIRST, 1)),
        Committing(one),
        Read(Output, 0, record(FIRST, 0)),
        Ended(one, Verdict::Committed),
        Read(Output, 1, record(FIRST, 1)),
        Consume(zombie, Input, 2, 4),
        Send(zombie, Output, record(FIRST, 2)),
        Fenced(FIRST),
        Committing(zombie),
        Ended(zombie, Verdict::Aborted),
        Consume(three, Input, 2, 4),
        Send(three, Output, record(SECOND, 0)),
        Send(three, Audit, record(SECOND, 1)),
        Committing(three),
        Ended(three, Verdict::Committed),
        Read(Output, 5, record(SECOND, 0)),
        Consume(last, Input, 4, 6),
        Send(last, Output, record(SECOND, 2)),
        Send(last, Audit, record(SECOND, 3)),
        Committing(last),
        Read(Output, 7, record(SECOND, 2)),
    ];
    for (offset, number) in (0..6).zip(0..) {
        events.extend([Log, CommittedLog].map(|log| log(Input, offset, record(SOURCE, number))));
    }
    events.push(Log(Output, 3, record(FIRST, 2)));
    for (at, offset, producer, number) in [
        (Output, 0, FIRST, 0),
        (Output, 1, FIRST, 1),
        (Output, 5, SECOND, 0),
        (Output, 7, SECOND, 2),
        (Audit, 0, SECOND, 1),
        (Audit, 2, SECOND, 3),
    ] {
        events.extend([Log, CommittedLog].map(|log| log(at, offset, record(producer, number))));
    }
    events
}

fn check(events: &[Event]) -> Vec<Anomaly> {
    let mut history = History::default();
    for producer in [SOURCE, FIRST, SECOND] {
        history.producer(producer, Guarantee::ExactlyOnce);
    }
    for number in 0..6 {
        let (offset, record) = (Offset(i64::try_from(number).unwrap()), record(SOURCE, number));
        history.attempt(&Input.partition(), record);
        history.outcome(&Input.partition(), record, Outcome::Acknowledged(Some(offset)));
    }
    history.reader(FOLLOWER, Isolation::Committed);
    // The log is in order whatever was planted where.
    let mut logs: Vec<_> =
        events.iter().filter(|event| matches!(event, Log(..) | CommittedLog(..))).collect();
    logs.sort_by_key(
        |event| if let Log(_, offset, _) | CommittedLog(_, offset, _) = event { *offset } else { 0 },
    );
    let others = events.iter().filter(|event| !matches!(event, Log(..) | CommittedLog(..)));
    for event in others.chain(logs) {
        match *event {
            Send(transaction, at, record) => history.attempt_in(transaction, &at.partition(), record),
            Consume(transaction, at, from, to) => {
                history.consume(transaction, "workers", &at.partition(), Offset(from), Offset(to));
            }
            Committing(transaction) => history.committing(transaction),
            Ended(transaction, verdict) => history.ended(transaction, verdict),
            Fenced(producer) => history.fenced(producer),
            Read(at, offset, record) => {
                history.read(FOLLOWER, &at.partition(), Offset(offset), Some(&encode(record, 20)));
            }
            Log(at, offset, record) => {
                history.log(&at.partition(), Offset(offset), Some(&encode(record, 20)))
            }
            CommittedLog(at, offset, record) => {
                history.committed_log(&at.partition(), Offset(offset), Some(&encode(record, 20)));
            }
        }
    }
    history.check()
}

/// The good history with one event replaced by others.
fn planted(event: Event, others: &[Event]) -> Vec<Anomaly> {
    let mut events = good();
    let position = events.iter().position(|it| *it == event).expect("it is in the good history");
    events.splice(position..=position, others.iter().cloned());
    check(&events)
}

#[test]
fn a_good_history_has_no_anomaly() {
    assert_eq!(check(&good()), []);
}

#[test]
fn aborted_read() {
    let (last, record) = (Read(Output, 1, record(FIRST, 1)), record(FIRST, 2));
    let found = planted(last.clone(), &[last, Read(Output, 3, record)]);
    let (partition, offset, transaction) = (Output.partition(), Offset(3), transaction(FIRST, 1));
    assert_eq!(found, [Anomaly::AbortedRead { partition, offset, record, transaction }]);
}

#[test]
fn aborted_for_it_was_never_to_be_committed() {
    let found = planted(Committing(transaction(SECOND, 1)), &[]);
    assert!(!found.is_empty());
    let is_aborted = |anomaly: &Anomaly| matches!(anomaly, Anomaly::AbortedRead { transaction: it, .. } if *it == transaction(SECOND, 1));
    assert!(found.iter().all(is_aborted), "{found:?}");
}

#[test]
fn precommitted_read() {
    let (committing, read) = (Committing(transaction(SECOND, 1)), Read(Output, 7, record(SECOND, 2)));
    let mut events = good();
    let first = events.iter().position(|it| *it == committing).unwrap();
    assert_eq!(events[first + 1], read);
    events.swap(first, first + 1);
    let precommitted = Anomaly::PrecommittedRead {
        partition: Output.partition(),
        offset: Offset(7),
        record: record(SECOND, 2),
        transaction: transaction(SECOND, 1),
    };
    assert_eq!(check(&events), [precommitted]);
}

#[test]
fn torn() {
    // The other one of its two partitions tells that it was committed, whatever its producer was told.
    for (number, record, offset) in [(0, record(SECOND, 1), 0), (1, record(SECOND, 3), 2)] {
        let found = planted(CommittedLog(Audit, offset, record), &[]);
        let (transaction, partition) = (transaction(SECOND, number), Audit.partition());
        assert_eq!(found, [Anomaly::Torn { transaction, partition, record }]);
    }
}

#[test]
fn unseen() {
    let found = planted(CommittedLog(Input, 5, record(SOURCE, 5)), &[]);
    let unseen =
        Anomaly::Unseen { partition: Input.partition(), offset: Offset(5), record: record(SOURCE, 5) };
    assert_eq!(found, [unseen]);
}

#[test]
fn skipped() {
    let found = planted(Read(Output, 5, record(SECOND, 0)), &[]);
    assert_eq!(
        found,
        [Anomaly::Skipped { partition: Output.partition(), after: Offset(1), next: Offset(7) }]
    );
}

#[test]
fn went_back() {
    let last = Read(Output, 7, record(SECOND, 2));
    let found = planted(last.clone(), &[last, Read(Output, 5, record(SECOND, 0))]);
    assert_eq!(
        found,
        [Anomaly::WentBack { partition: Output.partition(), after: Offset(7), next: Offset(5) }]
    );
}

#[test]
fn zombies() {
    let (send, committing) =
        (Send(transaction(SECOND, 1), Output, record(SECOND, 2)), Committing(transaction(SECOND, 1)));
    for (before, sent) in [(send, true), (committing, false)] {
        let found = planted(before.clone(), &[Fenced(SECOND), before]);
        assert_eq!(found, [Anomaly::Zombie { transaction: transaction(SECOND, 1), sent }]);
    }
}

#[test]
fn consumed_twice() {
    let last = transaction(SECOND, 1);
    let found = planted(Consume(last, Input, 4, 6), &[Consume(last, Input, 3, 6)]);
    let twice = Anomaly::ConsumedTwice {
        group: "workers".into(),
        partition: Input.partition(),
        offset: Offset(3),
        first: transaction(SECOND, 0),
        second: last,
    };
    assert_eq!(found, [twice]);
}

#[test]
fn passed_over() {
    let last = transaction(SECOND, 1);
    let found = planted(Consume(last, Input, 4, 6), &[Consume(last, Input, 5, 6)]);
    let passed = Anomaly::PassedOver {
        group: "workers".into(),
        partition: Input.partition(),
        offset: Offset(4),
        next: last,
    };
    assert_eq!(found, [passed]);
}

#[test]
fn a_group_passes_over_what_is_not_committed() {
    let (one, three) = (transaction(FIRST, 0), transaction(SECOND, 0));
    let (first, second) = (Consume(one, Input, 0, 2), Consume(three, Input, 2, 4));
    let mut events = good();
    events.extend([Consume(one, Output, 0, 0), Consume(three, Output, 0, 2)]);
    let last = transaction(SECOND, 1);
    // Offsets 2 to 4 are markers and what is aborted.
    events.push(Consume(last, Output, 5, 6));
    assert!(events.contains(&first) && events.contains(&second));
    assert_eq!(check(&events), []);
}

#[test]
fn circles() {
    let (three, last) = (transaction(SECOND, 0), transaction(SECOND, 1));
    let mut events = good();
    events.extend([Consume(three, Audit, 2, 3), Consume(last, Output, 5, 6)]);
    assert_eq!(check(&events), [Anomaly::Circle(vec![three, last])]);
    // What it wrote itself it cannot have read as committed.
    let mut events = good();
    events.push(Consume(three, Output, 5, 6));
    assert_eq!(check(&events), [Anomaly::Circle(vec![three])]);
}
