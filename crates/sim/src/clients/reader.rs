//! A consumer that reads all partitions from their beginning.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dohle_checker::ReaderId;
use dohle_client::{
    ClusterConfig, Consumer, ConsumerConfig, ConsumerEvent, Effects, Fetched, Input, Machine, StartAt,
};
use dohle_records::Decompressor;
use dohle_types::time::Instant;
use dohle_types::{Now, Offset, TopicPartition};

use super::{Actor, Shared, bootstrap};

/// What becomes of what a reader reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record {
    /// It is one of many readers.
    AsReader,
    /// It reads when nothing is written any more, and finds out where the partitions end.
    AsReaderToTheEnd,
    /// It is the last one: what it reads is the log.
    AsLog,
}

/// The consumer and how far it is.
pub struct Reader {
    id: ReaderId,
    record: Record,
    consumer: Consumer,
    partitions: BTreeSet<TopicPartition>,
    assigned: bool,
    ended: BTreeMap<TopicPartition, Offset>,
    decompressor: Decompressor,
}

impl Reader {
    /// A reader of these partitions, whose topics may not be there yet.
    #[must_use]
    pub fn new(record: Record, partitions: &[TopicPartition], shared: &mut Shared) -> Self {
        let id = ReaderId(shared.next_id());
        let config = ConsumerConfig {
            cluster: cluster(format!("reader-{}", id.0)),
            reset: None,
            fetch_max_bytes: i32::try_from(500 + shared.rng.below(60_000)).unwrap_or(i32::MAX),
            partition_max_bytes: i32::try_from(100 + shared.rng.below(20_000)).unwrap_or(i32::MAX),
            fetch_min_bytes: if shared.rng.chance(1, 3) { 2000 } else { 1 },
            ..ConsumerConfig::default()
        };
        let consumer = Consumer::new(config, bootstrap(), shared.rng.fork());
        Self {
            id,
            record,
            consumer,
            partitions: partitions.iter().cloned().collect(),
            assigned: false,
            ended: BTreeMap::new(),
            decompressor: Decompressor::default(),
        }
    }

    /// Whether it is the one that finds out where the partitions end.
    #[must_use]
    pub fn finds_ends(&self) -> bool {
        self.record == Record::AsReaderToTheEnd
    }

    /// Where the partitions end, once the reader has come to the end of all.
    #[must_use]
    pub fn ends(&self) -> Option<BTreeMap<TopicPartition, Offset>> {
        (self.ended.len() == self.partitions.len()).then(|| self.ended.clone())
    }

    fn assign(&mut self, now: Now) -> bool {
        if self.assigned {
            return false;
        }
        let topics: BTreeSet<_> = self.partitions.iter().map(|partition| partition.topic.clone()).collect();
        let known =
            topics.iter().filter(|topic| matches!(self.consumer.partition_count(now, topic), Some(Ok(_))));
        if known.count() == topics.len() {
            self.consumer.assign(now, self.partitions.iter().map(|it| (it.clone(), StartAt::Earliest)));
            self.assigned = true;
        }
        self.assigned
    }
}

impl Actor for Reader {
    fn step(&mut self, now: Now, input: Input, shared: &mut Shared, effects: &mut Effects) {
        self.consumer.handle(now, input, effects);
        if self.assign(now) {
            self.consumer.handle(now, Input::Wake, effects);
        }
        let mut took = false;
        while let Some(event) = self.consumer.next_event() {
            match event {
                ConsumerEvent::Records(fetched) => {
                    took = true;
                    let (id, record) = (self.id, self.record);
                    each(&fetched, &mut self.decompressor, shared, |shared, offset, value| match record {
                        Record::AsReader | Record::AsReaderToTheEnd => {
                            shared.history.read(id, fetched.partition(), offset, value);
                        }
                        Record::AsLog => shared.history.log(fetched.partition(), offset, value),
                    });
                }
                ConsumerEvent::End { partition, offset } => {
                    self.ended.insert(partition, offset);
                }
                ConsumerEvent::PartitionFailed { partition, error } => {
                    shared.violations.push(format!("reader {}: {partition}: {error}", self.id.0));
                }
                ConsumerEvent::GroupFailed(_)
                | ConsumerEvent::Assigned(_)
                | ConsumerEvent::Revoked(_)
                | ConsumerEvent::Committed(_) => {}
            }
        }
        if took {
            self.consumer.handle(now, Input::Wake, effects);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.consumer.next_timeout()
    }

    fn waits_for(&self, shared: &Shared) -> Option<String> {
        if self.record != Record::AsReader {
            let ended = self.ended.len();
            let waits = ended < self.partitions.len();
            return waits.then(|| format!("reader {} is at the end of {ended} partitions", self.id.0));
        }
        shared.ends.iter().find_map(|(partition, &end)| {
            let position = self.consumer.position(partition).unwrap_or_default();
            let id = self.id.0;
            (position < end)
                .then(|| format!("reader {id} of {partition} is at {position} and the end at {end}"))
        })
    }
}

/// Hands each record of a batch to `take`.
pub(super) fn each(
    fetched: &Fetched,
    decompressor: &mut Decompressor,
    shared: &mut Shared,
    mut take: impl FnMut(&mut Shared, Offset, Option<&[u8]>),
) {
    let partition = fetched.partition();
    let records = match fetched.records(decompressor) {
        Ok(records) => records,
        Err(error) => return shared.violations.push(format!("{partition}: a batch cannot be read: {error}")),
    };
    for record in records {
        match record {
            Ok(record) => take(shared, record.offset, record.value.as_deref()),
            Err(error) => shared.violations.push(format!("{partition}: a record cannot be read: {error}")),
        }
    }
}

/// How consumers talk to the cluster.
pub(super) fn cluster(client_id: String) -> ClusterConfig {
    ClusterConfig {
        client_id: client_id.into(),
        request_timeout: Duration::from_secs(4),
        allow_auto_create_topics: false,
        ..ClusterConfig::default()
    }
}
