//! What is promised of records: promises 1 to 5.

use std::collections::{BTreeMap, BTreeSet};

use dohle_types::{Offset, TopicPartition};

use crate::Anomaly;
use crate::history::{Guarantee, History, Isolation, Outcome, ReaderId, RecordId, Seen};
use crate::transactions::Transaction;

pub(crate) fn check(history: &History, anomalies: &mut Vec<Anomaly>) {
    let empty = (BTreeMap::new(), Vec::new());
    let names = history.attempts.keys().chain(history.logs.keys()).collect::<BTreeSet<_>>();
    for partition in names {
        let log = history.logs.get(partition).unwrap_or(&empty.1);
        let attempts = history.attempts.get(partition).unwrap_or(&empty.0);
        check_values(partition, log, attempts, anomalies);
        check_continuity(partition, log, obligatory(history, partition, None).as_ref(), anomalies);
        check_presence(history, partition, log, attempts, anomalies);
        check_order(history, partition, log, attempts, anomalies);
    }
    for ((reader, partition), read) in &history.reads {
        let log = history.logs.get(partition).unwrap_or(&empty.1);
        let attempts = history.attempts.get(partition).unwrap_or(&empty.0);
        check_values(partition, read, attempts, anomalies);
        check_continuity(partition, read, obligatory(history, partition, Some(*reader)).as_ref(), anomalies);
        check_constancy(partition, read, log, anomalies);
    }
}

/// Promise 4, and the half of promise 1 that is on what was refused.
fn check_values(
    partition: &TopicPartition,
    seen: &[Seen],
    attempts: &BTreeMap<RecordId, Outcome>,
    anomalies: &mut Vec<Anomaly>,
) {
    for Seen { offset, value, .. } in seen {
        let (partition, offset) = (partition.clone(), *offset);
        match value {
            Err(reason) => anomalies.push(Anomaly::Corrupt { partition, offset, reason: reason.clone() }),
            Ok(record) => match attempts.get(record) {
                Some(Outcome::Unknown | Outcome::Acknowledged(_)) => {}
                Some(Outcome::Refused) => {
                    anomalies.push(Anomaly::Refused { partition, offset, record: *record });
                }
                None => anomalies.push(Anomaly::Phantom { partition, offset, record: *record }),
            },
        }
    }
}

/// The offsets that a reader, or the log itself, must not pass over; `None` is all of them. Where there are
/// transactions, offsets are taken by their markers, too, and by what is aborted.
fn obligatory(
    history: &History,
    partition: &TopicPartition,
    reader: Option<ReaderId>,
) -> Option<BTreeSet<Offset>> {
    let is_here =
        |transaction: &Transaction| transaction.sent.iter().any(|sent| sent.partition == *partition);
    if !history.transactions.values().any(is_here) {
        return None;
    }
    let isolation = |reader| history.isolation.get(&reader).copied().unwrap_or(Isolation::Uncommitted);
    let log = match reader.map(isolation) {
        Some(Isolation::Committed) => history.committed_logs.get(partition),
        Some(Isolation::Uncommitted) => history.logs.get(partition),
        None => None,
    };
    Some(log.into_iter().flatten().map(|seen| seen.offset).collect())
}

/// Promise 5: offsets follow one another.
fn check_continuity(
    partition: &TopicPartition,
    seen: &[Seen],
    obligatory: Option<&BTreeSet<Offset>>,
    anomalies: &mut Vec<Anomaly>,
) {
    for (before, next) in seen.iter().zip(seen.iter().skip(1)) {
        let (partition, after, next) = (partition.clone(), before.offset, next.offset);
        if next <= after {
            anomalies.push(Anomaly::WentBack { partition, after, next });
        } else if obligatory.is_none_or(|offsets| offsets.range(after.plus(1)..next).next().is_some())
            && next != after.plus(1)
        {
            anomalies.push(Anomaly::Skipped { partition, after, next });
        }
    }
}

/// Promise 5: what was read is there at the end.
fn check_constancy(partition: &TopicPartition, read: &[Seen], log: &[Seen], anomalies: &mut Vec<Anomaly>) {
    let at_end: BTreeMap<Offset, RecordId> =
        log.iter().filter_map(|seen| Some((seen.offset, *seen.value.as_ref().ok()?))).collect();
    for Seen { offset, value, .. } in read {
        let Ok(read) = value else { continue };
        let found = at_end.get(offset).copied();
        if found != Some(*read) {
            let (partition, offset, read) = (partition.clone(), *offset, *read);
            anomalies.push(Anomaly::Changed { partition, offset, read, found });
        }
    }
}

/// Promises 1 and 2.
fn check_presence(
    history: &History,
    partition: &TopicPartition,
    log: &[Seen],
    attempts: &BTreeMap<RecordId, Outcome>,
    anomalies: &mut Vec<Anomaly>,
) {
    let mut places: BTreeMap<RecordId, Vec<Offset>> = BTreeMap::new();
    for seen in log {
        if let Ok(record) = seen.value {
            places.entry(record).or_default().push(seen.offset);
        }
    }
    for (&record, outcome) in attempts {
        let Outcome::Acknowledged(acknowledged) = *outcome else { continue };
        let partition = partition.clone();
        match (places.get(&record), acknowledged) {
            (None, _) => anomalies.push(Anomaly::Lost { partition, record, acknowledged }),
            (Some(found), Some(acknowledged)) if !found.contains(&acknowledged) => {
                anomalies.push(Anomaly::Moved { partition, record, acknowledged, found: found.clone() });
            }
            (Some(_), _) => {}
        }
    }
    for (record, offsets) in places {
        if offsets.len() > 1 && guarantee(history, record) != Guarantee::AtLeastOnce {
            anomalies.push(Anomaly::Duplicated { partition: partition.clone(), record, offsets });
        }
    }
}

/// Promise 3: by the first place of each record.
fn check_order(
    history: &History,
    partition: &TopicPartition,
    log: &[Seen],
    attempts: &BTreeMap<RecordId, Outcome>,
    anomalies: &mut Vec<Anomaly>,
) {
    let mut latest: BTreeMap<u32, RecordId> = BTreeMap::new();
    let mut known = BTreeSet::new();
    for Seen { offset, value, .. } in log {
        let Ok(record) = *value else { continue };
        let is_ordered = match guarantee(history, record) {
            Guarantee::ExactlyOnce => true,
            Guarantee::AtLeastOnce => matches!(attempts.get(&record), Some(Outcome::Acknowledged(_))),
            Guarantee::AtMostOnce => false,
        };
        if !is_ordered || !known.insert(record) {
            continue;
        }
        match latest.get(&record.producer) {
            Some(&before) if before > record => {
                anomalies.push(Anomaly::Reordered {
                    partition: partition.clone(),
                    offset: *offset,
                    record,
                    before,
                });
            }
            _ => {
                latest.insert(record.producer, record);
            }
        }
    }
}

/// Unknown producers are held to everything; their records are phantoms anyway.
fn guarantee(history: &History, record: RecordId) -> Guarantee {
    history.producers.get(&record.producer).copied().unwrap_or(Guarantee::ExactlyOnce)
}
