//! Writing: `dohle bench produce` and `dohle bench latency`.

use std::time::Duration;

use dohle_client::{
    Acks, Consumer, ConsumerConfig, ConsumerEvent, Effects, Input, Machine, Producer, ProducerConfig,
    ProducerRecord, StartAt,
};
use dohle_records::{Compression, Decompressor};
use dohle_types::time::Instant;
use dohle_types::{Now, PartitionIndex, TopicPartition};

use super::report::Report;
use super::{Common, LatencyBench, ProduceBench, positive, seconds};
use crate::driver::Driver;
use crate::session::{cluster_config, seed};
use crate::{CliError, Connection};

/// Records handed over before looking after the connections again.
const RECORDS_PER_TURN: u64 = 4096;
/// How long nothing of what was sent may come back before it is given up at the end.
const DRAIN: Duration = Duration::from_secs(60);
/// How long to wait for a delivery that makes room.
const BLOCKED: Duration = Duration::from_millis(100);
/// Bytes that values are cut from, so that no two in a row are the same.
const NOISE: usize = 64 << 10;

/// What is written, and how.
pub(super) struct Load {
    duration: Duration,
    records: Option<u64>,
    rate: Option<f64>,
    size: usize,
    producer: ProducerConfig,
    end_to_end: bool,
}

impl Load {
    pub(super) fn produce(bench: &ProduceBench) -> Result<Self, CliError> {
        let producer = ProducerConfig {
            linger: Duration::from_millis(bench.linger),
            batch_size: bench.batch_size,
            buffer_memory: bench.buffer_memory,
            request_size_max: (1 << 20).max(bench.batch_size + 1024),
            compression: bench.compression.into(),
            ..producer(bench.acks, !bench.no_idempotence)
        };
        Ok(Self {
            duration: seconds(bench.duration)?,
            records: bench.records,
            rate: positive(bench.rate)?,
            size: bench.size,
            producer,
            end_to_end: false,
        })
    }

    pub(super) fn latency(bench: &LatencyBench) -> Result<Self, CliError> {
        // A batch that is full with its first record, so that none waits for or travels with another.
        let producer = ProducerConfig { linger: Duration::ZERO, batch_size: 1, ..producer(bench.acks, true) };
        Ok(Self {
            duration: seconds(bench.duration)?,
            records: None,
            rate: positive(Some(bench.rate))?,
            size: bench.size,
            producer,
            end_to_end: bench.end_to_end,
        })
    }
}

fn producer(acks: Acks, idempotent: bool) -> ProducerConfig {
    ProducerConfig {
        cluster: cluster_config(),
        acks,
        idempotent,
        compression: Compression::None.into(),
        ..ProducerConfig::default()
    }
}

/// Either kind of client, as one driver drives them.
enum Client {
    Producer(Box<Producer>),
    Consumer(Box<Consumer>),
}

impl Machine for Client {
    fn handle(&mut self, now: Now, input: Input, effects: &mut Effects) {
        match self {
            Self::Producer(producer) => producer.handle(now, input, effects),
            Self::Consumer(consumer) => consumer.handle(now, input, effects),
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        match self {
            Self::Producer(producer) => producer.next_timeout(),
            Self::Consumer(consumer) => consumer.next_timeout(),
        }
    }
}

pub(super) fn run(connection: &Connection, common: &Common, load: &Load) -> Result<(), CliError> {
    let driver = Driver::new()?;
    let endpoints = connection.endpoints()?;
    let new_producer = |_| {
        let producer = Producer::new(load.producer.clone(), endpoints.clone(), seed());
        Client::Producer(Box::new(producer))
    };
    let mut clients: Vec<Client> = (0..common.connections).map(new_producer).collect();
    if load.end_to_end {
        let config = ConsumerConfig { cluster: cluster_config(), ..ConsumerConfig::default() };
        clients.push(Client::Consumer(Box::new(Consumer::new(config, endpoints, seed()))));
    }
    let mut rng = seed();
    let noise = (0..NOISE + load.size).map(|_| b'!' + u8::try_from(rng.below(90)).unwrap_or(0)).collect();
    let mut bench = Bench {
        common,
        load,
        driver,
        clients,
        noise,
        started: Duration::ZERO,
        sent: 0,
        turn: 0,
        batches: 0,
        report: Report::begin(None)?,
        decompressor: Decompressor::default(),
    };
    bench.warm_up()?;
    bench.report = Report::begin(common.server_pid)?;
    bench.measure()?;
    let unit = if load.producer.batch_size == 1 { "requests" } else { "batches" };
    let batches = bench.batches;
    bench.report.conclude(common.json, (batches, unit))
}

/// A benchmark under way.
struct Bench<'a> {
    common: &'a Common,
    load: &'a Load,
    driver: Driver,
    clients: Vec<Client>,
    noise: Vec<u8>,
    started: Instant,
    sent: u64,
    /// The producer that sends next.
    turn: usize,
    batches: u64,
    report: Report,
    decompressor: Decompressor,
}

impl Bench<'_> {
    /// Connects all clients: what that takes is not what is measured.
    fn warm_up(&mut self) -> Result<(), CliError> {
        let deadline = self.driver.now().after(DRAIN);
        loop {
            let now = self.driver.now();
            let mut ready = true;
            for client in &mut self.clients {
                match client {
                    Client::Producer(producer) => {
                        if let Some(unreachable) = producer.unreachable() {
                            return Err(unreachable.clone().into());
                        }
                        ready &= producer.partition_count(now, &self.common.topic).is_some();
                        // A record tells whether the producer has its id, and whether the broker answers it.
                        ready &= producer.is_idle() && self.sent > 0;
                    }
                    Client::Consumer(consumer) => ready &= begin_at_end(now, consumer, &self.common.topic),
                }
            }
            if ready {
                break;
            }
            if self.sent == 0 && self.send_one_each(now) {
                self.sent = 1;
            }
            self.check_interrupt(deadline)?;
            self.driver.turn(&mut self.clients, None)?;
            self.collect();
        }
        self.sent = 0;
        self.batches = 0;
        Ok(())
    }

    /// Sends a record by each producer that has sent none; whether all could.
    fn send_one_each(&mut self, now: Now) -> bool {
        let mut all = true;
        for client in &mut self.clients {
            if let Client::Producer(producer) = client
                && producer.is_idle()
            {
                let record = ProducerRecord { value: Some(b"warm-up"), tag: 0, ..ProducerRecord::default() };
                all &= producer.send(now, &self.common.topic, &record).is_ok();
            }
        }
        all
    }

    fn measure(&mut self) -> Result<(), CliError> {
        self.started = self.driver.now().instant;
        loop {
            let now = self.driver.now();
            let over = now.instant.saturating_sub(self.started) >= self.load.duration
                || self.load.records.is_some_and(|records| self.sent >= records)
                || self.driver.is_interrupted();
            if over {
                break;
            }
            let until_due = self.send_due(now)?;
            let before = self.driver.now().instant;
            self.driver.turn(&mut self.clients, Some(until_due.unwrap_or(BLOCKED)))?;
            if until_due.is_none() {
                self.report.blocked += self.driver.now().instant.saturating_sub(before);
            }
            self.collect();
            self.report.draw();
        }
        self.drain()
    }

    /// Sends what is due; how long until more is, or `None` where the producers' buffers are full.
    fn send_due(&mut self, now: Now) -> Result<Option<Duration>, CliError> {
        for _ in 0..RECORDS_PER_TURN {
            let due = self.due(self.sent, now);
            if due > now.instant {
                return Ok(Some(due - now.instant));
            }
            if self.load.records.is_some_and(|records| self.sent >= records) {
                return Ok(Some(Duration::ZERO));
            }
            if !self.send(now, due)? {
                return Ok(None);
            }
        }
        Ok(Some(Duration::ZERO))
    }

    /// When a record is meant to be sent.
    fn due(&self, index: u64, now: Now) -> Instant {
        #[expect(clippy::cast_precision_loss, reason = "exact for years of microseconds")]
        let index = index as f64;
        match self.load.rate {
            Some(rate) => self.started + Duration::from_secs_f64(index / rate),
            None => now.instant,
        }
    }

    /// Sends a record by the next producer that has room for it; whether one has.
    fn send(&mut self, now: Now, due: Instant) -> Result<bool, CliError> {
        let nanos = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
        let from = usize::try_from(self.sent.wrapping_mul(7919)).unwrap_or(0) % NOISE;
        if self.load.end_to_end
            && let Some(head) = self.noise.get_mut(from..from + 8)
        {
            head.copy_from_slice(&nanos.to_be_bytes());
        }
        let size = if self.load.end_to_end { self.load.size.max(8) } else { self.load.size };
        let record = ProducerRecord {
            value: self.noise.get(from..from + size),
            tag: nanos,
            ..ProducerRecord::default()
        };
        let producers = usize::from(self.common.connections);
        for _ in 0..producers {
            let turn = self.turn;
            self.turn = (turn + 1) % producers;
            let Some(Client::Producer(producer)) = self.clients.get_mut(turn) else { return Ok(false) };
            match producer.send(now, &self.common.topic, &record) {
                Ok(()) => {
                    self.sent += 1;
                    return Ok(true);
                }
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Waits for what is still on its way.
    fn drain(&mut self) -> Result<(), CliError> {
        let mut deadline = self.driver.now().after(DRAIN);
        while !self.has_all() {
            let before = self.report.records;
            for client in &mut self.clients {
                if let Client::Producer(producer) = client {
                    producer.flush();
                }
            }
            self.driver.turn(&mut self.clients, None)?;
            self.collect();
            self.report.draw();
            if self.report.records > before {
                deadline = self.driver.now().after(DRAIN);
            }
            if self.driver.now().instant > deadline {
                let missing = self.sent - self.report.records - self.report.failed;
                self.report.failed += missing;
                self.report.first_failure.get_or_insert_with(|| "no answer in a minute".into());
                break;
            }
        }
        Ok(())
    }

    fn has_all(&self) -> bool {
        self.report.records + self.report.failed >= self.sent
    }

    /// Takes what came back.
    fn collect(&mut self) {
        let now = self.driver.now();
        let size = self.load.size as u64;
        for client in &mut self.clients {
            match client {
                Client::Producer(producer) => {
                    while let Some(delivery) = producer.next_delivery() {
                        self.batches += 1;
                        let records = delivery.tags.len() as u64;
                        match delivery.result {
                            Err(error) => {
                                self.report.failed += records;
                                self.report.first_failure.get_or_insert_with(|| error.to_string());
                            }
                            Ok(_) if self.load.end_to_end => {}
                            Ok(_) => {
                                self.report.records += records;
                                self.report.bytes += records * size;
                                for tag in delivery.tags {
                                    self.report.record(now.instant.saturating_sub(Duration::from_nanos(tag)));
                                }
                            }
                        }
                    }
                }
                Client::Consumer(consumer) => {
                    while let Some(event) = consumer.next_event() {
                        let ConsumerEvent::Records(fetched) = event else { continue };
                        let Ok(records) = fetched.records(&mut self.decompressor) else { continue };
                        // The warm-up's records are shorter.
                        let values = records.flatten().filter_map(|record| record.value);
                        for head in values.filter_map(|value| value.first_chunk().copied()) {
                            let due = Duration::from_nanos(u64::from_be_bytes(head));
                            self.report.records += 1;
                            self.report.bytes += size;
                            self.report.record(now.instant.saturating_sub(due));
                        }
                    }
                }
            }
        }
    }

    fn check_interrupt(&self, deadline: Instant) -> Result<(), CliError> {
        if self.driver.is_interrupted() {
            return Err(CliError::Interrupted(String::new()));
        }
        if self.driver.now().instant > deadline {
            return Err(CliError::Usage(format!("topic {} is not ready; try again", self.common.topic)));
        }
        Ok(())
    }
}

/// Has the consumer read what is written from now on; whether it knows where that is.
fn begin_at_end(now: Now, consumer: &mut Consumer, topic: &str) -> bool {
    let Some(Ok(count)) = consumer.partition_count(now, topic) else { return false };
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    let partitions: Vec<TopicPartition> =
        (0..count).map(|index| TopicPartition::new(topic, PartitionIndex(index))).collect();
    if !consumer.is_assigned() {
        consumer.assign(now, partitions.iter().map(|partition| (partition.clone(), StartAt::Latest)));
    }
    partitions.iter().all(|partition| consumer.position(partition).is_some())
}
