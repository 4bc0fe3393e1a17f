//! A producer that sends numbered records in bursts.

use std::collections::BTreeMap;
use std::time::Duration;

use dohle_checker::{Guarantee, Outcome, RecordId, payload};
use dohle_client::producer::DeliveryError;
use dohle_client::{
    Acks, ClusterConfig, Delivery, Effects, Input, Machine, Producer, ProducerConfig, ProducerRecord,
    SendError,
};
use dohle_records::{Compression, CompressionTarget};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Now, Offset, TopicPartition};

use super::{Actor, Shared, bootstrap};
use crate::marks::Mark;
use crate::plan::{Plan, ProducerPlan};

/// A value that is longer than `message.max.bytes`.
const TOO_LONG: u64 = 30_000;

/// The producer and what it has sent.
pub struct Sender {
    plan: ProducerPlan,
    id: u32,
    producer: Producer,
    partitions: Vec<TopicPartition>,
    sent: u64,
    burst_at: Instant,
    under_way: BTreeMap<u64, TopicPartition>,
    /// Whether what it is told of holds whatever is lost.
    counts: bool,
}

impl Sender {
    /// A producer to these partitions.
    #[must_use]
    pub fn new(
        plan: ProducerPlan,
        partitions: Vec<TopicPartition>,
        world: &Plan,
        shared: &mut Shared,
    ) -> Self {
        let id = shared.next_id();
        shared.history.producer(id, plan.guarantee);
        let (acks, idempotent) = match plan.guarantee {
            Guarantee::ExactlyOnce => (Acks::All, true),
            Guarantee::AtLeastOnce if plan.acks_all => (Acks::All, false),
            Guarantee::AtLeastOnce => (Acks::Leader, false),
            Guarantee::AtMostOnce => (Acks::None, false),
        };
        let compression = Compression::ALL.get(plan.compression).copied().unwrap_or_default();
        let config = ProducerConfig {
            cluster: ClusterConfig {
                client_id: format!("producer-{id}").into(),
                request_timeout: Duration::from_secs(3),
                allow_auto_create_topics: world.auto_create,
                ..ClusterConfig::default()
            },
            acks,
            idempotent,
            linger: plan.linger,
            batch_size: plan.batch_size,
            compression: CompressionTarget { compression, level: None },
            delivery_timeout: plan.delivery_timeout,
            ..ProducerConfig::default()
        };
        // acks=1 promises nothing that outlives the power, unless the power stays.
        let counts = acks == Acks::All || acks == Acks::Leader && !world.durable;
        let producer = Producer::new(config, bootstrap(), shared.rng.fork());
        let (burst_at, under_way) = (Duration::ZERO, BTreeMap::new());
        Self { plan, id, producer, partitions, sent: 0, burst_at, under_way, counts }
    }

    fn burst(&mut self, now: Now, shared: &mut Shared) {
        if now.instant < self.burst_at || self.sent >= self.plan.records || shared.quiet {
            return;
        }
        self.burst_at = now.after(self.plan.pause.mul_f64(shared.rng.below(2000) as f64 / 1000.0));
        for _ in 0..=shared.rng.below(self.plan.burst_max) {
            if !self.send(now, shared) {
                self.burst_at = now.after(Duration::from_millis(20));
                return;
            }
        }
    }

    /// Sends a record; whether the producer took it.
    fn send(&mut self, now: Now, shared: &mut Shared) -> bool {
        let drawn = usize::try_from(shared.rng.below(self.partitions.len() as u64)).unwrap_or(0);
        let Some(partition) = self.partitions.get(drawn).cloned() else { return false };
        let size_max = if shared.rng.chance(1, 150) { TOO_LONG } else { self.plan.value_size_max };
        let length = if size_max == TOO_LONG { TOO_LONG } else { shared.rng.below(size_max) };
        let record = RecordId { producer: self.id, number: self.sent };
        let value = payload::encode(record, usize::try_from(length).unwrap_or(0));
        let to_send = ProducerRecord {
            partition: Some(partition.partition),
            value: Some(&value),
            tag: self.sent,
            ..ProducerRecord::default()
        };
        match self.producer.send(now, &partition.topic, &to_send) {
            Ok(()) => {
                shared.history.attempt(&partition, record);
                self.under_way.insert(self.sent, partition);
                self.sent += 1;
                true
            }
            Err(error) => {
                if !error.is_transient()
                    && !matches!(error, SendError::Topic { .. } | SendError::NoPartition { .. })
                {
                    shared.violations.push(format!("a record cannot be sent: {error}"));
                }
                false
            }
        }
    }

    fn on_delivery(&mut self, delivery: Delivery, shared: &mut Shared) {
        for (index, tag) in (0..).zip(delivery.tags) {
            let Some(partition) = self.under_way.remove(&tag) else {
                shared.violations.push(format!("record {tag} of producer {} was delivered twice", self.id));
                continue;
            };
            let outcome = match &delivery.result {
                Ok(base) if self.counts => Outcome::Acknowledged(base.map(|base: Offset| base.plus(index))),
                Err(DeliveryError::Refused {
                    error: ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge,
                    ..
                }) => Outcome::Refused,
                Ok(_) | Err(_) => Outcome::Unknown,
            };
            shared.marks.sometimes(Mark::RecordRefused, outcome == Outcome::Refused);
            shared.history.outcome(&partition, RecordId { producer: self.id, number: tag }, outcome);
        }
    }
}

impl Actor for Sender {
    fn step(&mut self, now: Now, input: Input, shared: &mut Shared, effects: &mut Effects) {
        self.producer.handle(now, input, effects);
        let sent = self.sent;
        self.burst(now, shared);
        if shared.quiet {
            self.producer.flush();
        }
        if self.sent > sent || shared.quiet {
            self.producer.handle(now, Input::Wake, effects);
        }
        while let Some(delivery) = self.producer.next_delivery() {
            self.on_delivery(delivery, shared);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let burst = (self.sent < self.plan.records).then_some(self.burst_at);
        self.producer.next_timeout().into_iter().chain(burst).min()
    }

    fn waits_for(&self, _shared: &Shared) -> Option<String> {
        let waiting = self.under_way.len();
        (waiting > 0).then(|| format!("producer {}: {waiting} records have no outcome", self.id))
    }
}
