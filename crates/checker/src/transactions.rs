//! What is promised of transactions: promises 7 to 9.
//!
//! Of a transaction whose producer was told nothing certain, the committed log at the end tells: it was committed
//! if any of it can be read there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dohle_types::{Offset, Str, TopicPartition};

use crate::Anomaly;
use crate::history::{History, Isolation, Moment, Outcome, RecordId, Seen};

/// A transaction, by its producer and its place in the order of that producer's transactions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TransactionId {
    /// The producer: one run of one client.
    pub producer: u32,
    /// The transaction, counted upwards.
    pub number: u64,
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transaction {} of producer {}", self.number, self.producer)
    }
}

/// What a producer was told of its transaction.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Verdict {
    /// Nothing certain.
    #[default]
    Unknown,
    /// It is committed.
    Committed,
    /// It is aborted, or the producer was fenced before it could be committed.
    Aborted,
}

/// What was done in a transaction, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) sent: Vec<Sent>,
    pub(crate) consumed: Vec<Consumed>,
    pub(crate) commit_begun: Option<Moment>,
    pub(crate) verdict: Verdict,
}

#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) partition: TopicPartition,
    pub(crate) record: RecordId,
    pub(crate) at: Moment,
}

/// The records that a group has consumed in a transaction.
#[derive(Debug)]
pub(crate) struct Consumed {
    pub(crate) group: Str,
    pub(crate) partition: TopicPartition,
    /// The first offset.
    pub(crate) from: Offset,
    /// The offset behind the last one.
    pub(crate) to: Offset,
}

pub(crate) fn check(history: &History, anomalies: &mut Vec<Anomaly>) {
    let end = End::of(history);
    end.check_reads(anomalies);
    end.check_wholeness(anomalies);
    end.check_visibility(anomalies);
    end.check_fencing(anomalies);
    end.check_consumption(anomalies);
    end.check_flow(anomalies);
}

/// The history as it is known at its end.
struct End<'a> {
    history: &'a History,
    /// In which transaction each record was sent.
    transaction_of: BTreeMap<RecordId, TransactionId>,
    /// Every record that can be read as committed.
    visible: BTreeSet<(&'a TopicPartition, RecordId)>,
    committed: BTreeMap<TransactionId, &'a Transaction>,
}

impl<'a> End<'a> {
    fn of(history: &'a History) -> Self {
        let mut transaction_of = BTreeMap::new();
        for (&id, transaction) in &history.transactions {
            transaction_of.extend(transaction.sent.iter().map(|sent| (sent.record, id)));
        }
        let visible: BTreeSet<_> = history
            .committed_logs
            .iter()
            .flat_map(|(partition, log)| records(log).map(move |(_, record)| (partition, record)))
            .collect();
        let is_committed = |transaction: &Transaction| match transaction.verdict {
            Verdict::Committed => true,
            Verdict::Aborted => false,
            Verdict::Unknown => {
                transaction.commit_begun.is_some()
                    && transaction.sent.iter().any(|sent| visible.contains(&(&sent.partition, sent.record)))
            }
        };
        let committed = history
            .transactions
            .iter()
            .filter(|(_, transaction)| is_committed(transaction))
            .map(|(&id, transaction)| (id, transaction))
            .collect();
        Self { history, transaction_of, visible, committed }
    }

    /// Promise 7: what is read as committed.
    fn check_reads(&self, anomalies: &mut Vec<Anomaly>) {
        let isolated =
            |(reader, _): &&(_, _)| self.history.isolation.get(reader) == Some(&Isolation::Committed);
        let reads =
            self.history.reads.iter().filter(|(key, _)| isolated(key)).map(|((_, at), seen)| (at, seen));
        for (partition, seen) in reads.chain(&self.history.committed_logs) {
            for seen in seen {
                let Ok(record) = seen.value else { continue };
                let Some(&transaction) = self.transaction_of.get(&record) else { continue };
                let (partition, offset) = (partition.clone(), seen.offset);
                match self.committed.get(&transaction).map(|it| it.commit_begun) {
                    None => {
                        anomalies.push(Anomaly::AbortedRead { partition, offset, record, transaction });
                    }
                    Some(begun) if begun.is_none_or(|begun| seen.at < begun) => {
                        anomalies.push(Anomaly::PrecommittedRead { partition, offset, record, transaction });
                    }
                    Some(_) => {}
                }
            }
        }
    }

    /// Promise 8: all or nothing.
    fn check_wholeness(&self, anomalies: &mut Vec<Anomaly>) {
        for (&transaction, committed) in &self.committed {
            for Sent { partition, record, .. } in &committed.sent {
                if !self.visible.contains(&(partition, *record)) {
                    let (partition, record) = (partition.clone(), *record);
                    anomalies.push(Anomaly::Torn { transaction, partition, record });
                }
            }
        }
    }

    /// Promise 8, of records in no transaction: those of the others are [`Anomaly::Torn`] if they are not there.
    fn check_visibility(&self, anomalies: &mut Vec<Anomaly>) {
        for (partition, log) in &self.history.logs {
            // Who has not read what is committed at the end has no transactions.
            if self.history.committed_logs.is_empty() {
                return;
            }
            let attempts = self.history.attempts.get(partition);
            for (offset, record) in records(log) {
                let outcome = attempts.and_then(|attempts| attempts.get(&record));
                if matches!(outcome, Some(Outcome::Acknowledged(_)))
                    && !self.transaction_of.contains_key(&record)
                    && !self.visible.contains(&(partition, record))
                {
                    anomalies.push(Anomaly::Unseen { partition: partition.clone(), offset, record });
                }
            }
        }
    }

    /// Promise 7: who is fenced is out.
    fn check_fencing(&self, anomalies: &mut Vec<Anomaly>) {
        for (&transaction, committed) in &self.committed {
            let Some(&fenced) = self.history.fenced.get(&transaction.producer) else { continue };
            let sent = committed.sent.iter().any(|sent| sent.at > fenced);
            if sent || committed.commit_begun.is_some_and(|begun| begun > fenced) {
                anomalies.push(Anomaly::Zombie { transaction, sent });
            }
        }
    }

    /// Promise 9: each record once.
    fn check_consumption(&self, anomalies: &mut Vec<Anomaly>) {
        let mut ranges: BTreeMap<_, Vec<(Offset, Offset, TransactionId)>> = BTreeMap::new();
        for (&id, committed) in &self.committed {
            for consumed in &committed.consumed {
                let key = (&consumed.group, &consumed.partition);
                ranges.entry(key).or_default().push((consumed.from, consumed.to, id));
            }
        }
        for ((group, partition), mut ranges) in ranges {
            ranges.sort_unstable();
            let visible: BTreeSet<Offset> = self
                .history
                .committed_logs
                .get(partition)
                .into_iter()
                .flatten()
                .map(|seen| seen.offset)
                .collect();
            let mut ranges = ranges.into_iter();
            // The range that reaches furthest of those so far.
            let Some((_, mut reached, mut first)) = ranges.next() else { continue };
            for (from, to, second) in ranges {
                let (group, partition) = (group.clone(), partition.clone());
                if from < reached && from < to {
                    anomalies.push(Anomaly::ConsumedTwice { group, partition, offset: from, first, second });
                } else if let Some(&offset) = visible.range(reached..from.max(reached)).next() {
                    anomalies.push(Anomaly::PassedOver { group, partition, offset, next: second });
                }
                if to > reached {
                    (reached, first) = (to, second);
                }
            }
        }
    }

    /// Promise 9: no circles.
    fn check_flow(&self, anomalies: &mut Vec<Anomaly>) {
        let mut writers: BTreeMap<(&TopicPartition, Offset), TransactionId> = BTreeMap::new();
        for (partition, log) in &self.history.committed_logs {
            let written = records(log).filter_map(|(offset, record)| {
                Some(((partition, offset), *self.transaction_of.get(&record)?))
            });
            writers.extend(written);
        }
        let mut consumed_from: BTreeMap<TransactionId, BTreeSet<TransactionId>> = BTreeMap::new();
        for (&id, committed) in &self.committed {
            for Consumed { partition, from, to, .. } in &committed.consumed {
                let written = writers.range((partition, *from)..(partition, *to.max(from)));
                consumed_from.entry(id).or_default().extend(written.map(|(_, writer)| writer));
            }
        }
        let mut done = BTreeSet::new();
        for &start in consumed_from.keys() {
            // Depth first, without recursion: the way to here, and what is still to be tried from each step of it.
            let writers = |id| consumed_from.get(&id).into_iter().flatten().copied().collect::<Vec<_>>();
            let mut path = vec![start];
            let mut untried = vec![writers(start)];
            while let (Some(&here), Some(next)) = (path.last(), untried.last_mut()) {
                match next.pop() {
                    Some(writer) if done.contains(&writer) => {}
                    Some(writer) => match path.iter().position(|&step| step == writer) {
                        Some(position) => {
                            anomalies.push(Anomaly::Circle(path.iter().skip(position).copied().collect()));
                        }
                        None => {
                            path.push(writer);
                            untried.push(writers(writer));
                        }
                    },
                    None => {
                        done.insert(here);
                        path.pop();
                        untried.pop();
                    }
                }
            }
        }
    }
}

fn records(seen: &[Seen]) -> impl Iterator<Item = (Offset, RecordId)> {
    seen.iter().filter_map(|seen| Some((seen.offset, *seen.value.as_ref().ok()?)))
}
