//! Those who are not killed: the customers, who give orders, and the one who follows what is committed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dohle_cli::driver::Driver;
use dohle_client::consumer::IsolationLevel;
use dohle_client::{Endpoint, Producer, ProducerConfig, ProducerRecord, StartAt};
use dohle_records::Decompressor;
use dohle_types::{Offset, PartitionIndex, Rng};

use crate::bank::{ACCOUNTS, Ledger, OPENING_BALANCE, Order};
use crate::kafka::{self, BankError, ORDERS, Taken, Values};

/// Customers wait while so many of their orders are not carried out.
const OUTSTANDING_MAX: u64 = 200;
/// How often they look.
const PATIENCE: Duration = Duration::from_millis(5);

/// How far the bank has come, as a reader of what is committed sees it.
pub(crate) struct Progress {
    /// The entries in both ledgers, by branch.
    entries: Vec<[AtomicU64; 2]>,
    /// Whether the customers are to come to an end, and the one who follows.
    pub(crate) is_closing: AtomicBool,
    pub(crate) is_closed: AtomicBool,
}

impl Progress {
    pub(crate) fn new(branches: i32) -> Self {
        Self {
            entries: (0..branches).map(|_| [AtomicU64::new(0), AtomicU64::new(0)]).collect(),
            is_closing: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        }
    }

    /// The orders of each branch of which both entries can be read.
    pub(crate) fn by_branch(&self) -> Vec<u64> {
        let min = |entries: &[AtomicU64; 2]| {
            let [checking, savings] = entries.each_ref().map(|count| count.load(Ordering::Relaxed));
            checking.min(savings)
        };
        self.entries.iter().map(min).collect()
    }

    /// The entries that can be read.
    pub(crate) fn entries(&self) -> u64 {
        self.entries.iter().flatten().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// What a customer was told: the branch, where its order stands if that was said, and the order.
pub(crate) type Acknowledged = (i32, Option<Offset>, Order);

/// Gives orders to all branches, so many a second, until the bank closes.
pub(crate) fn give_orders(
    bootstrap: &[Endpoint],
    per_second: u64,
    mut rng: Rng,
    progress: &Progress,
) -> Result<Vec<Acknowledged>, BankError> {
    let mut driver = Driver::new()?;
    let config = ProducerConfig { cluster: kafka::cluster_config("customers"), ..ProducerConfig::default() };
    let mut producer = Producer::new(config, bootstrap.to_vec(), rng.fork());
    let mut given: Vec<(i32, Order)> = Vec::new();
    let mut acknowledged = Vec::new();
    let begun = driver.now().instant;
    loop {
        let is_closing = progress.is_closing.load(Ordering::Relaxed);
        if is_closing {
            producer.flush();
            if producer.is_idle() {
                return Ok(acknowledged);
            }
        }
        let elapsed_ms = u64::try_from((driver.now().instant - begun).as_millis()).unwrap_or(u64::MAX);
        let carried_out: u64 = progress.by_branch().into_iter().sum();
        let due = (elapsed_ms.saturating_mul(per_second) / 1000).min(carried_out + OUTSTANDING_MAX);
        while !is_closing && (given.len() as u64) < due {
            let (branch, order) = draw(&mut rng, progress.entries.len());
            let value = order.to_string();
            let record = ProducerRecord {
                partition: Some(PartitionIndex(branch)),
                value: Some(value.as_bytes()),
                tag: given.len() as u64,
                ..ProducerRecord::default()
            };
            match producer.send(driver.now(), ORDERS, &record) {
                Ok(()) => given.push((branch, order)),
                Err(error) if error.is_transient() => break,
                Err(error) => return Err(BankError::Other(error.to_string())),
            }
        }
        driver.turn(std::slice::from_mut(&mut producer), Some(PATIENCE))?;
        while let Some(delivery) = producer.next_delivery() {
            // Of an order that nobody acknowledged nothing is promised.
            let Ok(offset) = delivery.result else { continue };
            for (place, tag) in (0..).zip(delivery.tags) {
                let order = usize::try_from(tag).ok().and_then(|tag| given.get(tag));
                let told = |&(branch, order)| (branch, offset.map(|first: Offset| first.plus(place)), order);
                acknowledged.extend(order.map(told));
            }
        }
    }
}

/// An order of anybody to anybody, in any branch, which there may be funds for or not.
fn draw(rng: &mut Rng, branches: usize) -> (i32, Order) {
    let mut below = |bound: usize| usize::try_from(rng.below(bound as u64)).unwrap_or(0);
    let branch = i32::try_from(below(branches)).unwrap_or(0);
    let from = if below(2) == 0 { Ledger::Checking } else { Ledger::Savings };
    let (from_account, to_account) = (below(ACCOUNTS), below(ACCOUNTS));
    let amount = 1 + i64::try_from(below(usize::try_from(OPENING_BALANCE).unwrap_or(1))).unwrap_or(0);
    (branch, Order { from, from_account, to_account, amount })
}

/// Reads what is committed, as it is, until the bank is closed: what it has seen.
pub(crate) fn follow(bootstrap: &[Endpoint], progress: &Progress) -> Result<Values, BankError> {
    let mut driver = Driver::new()?;
    let mut reader = kafka::reader(bootstrap, IsolationLevel::ReadCommitted);
    let mut decompressor = Decompressor::default();
    let branches = i32::try_from(progress.entries.len()).unwrap_or(i32::MAX);
    let partitions = kafka::ledgers(0..branches);
    let mut values: Values = partitions.iter().map(|it| (it.clone(), Vec::new())).collect();
    reader.assign(driver.now(), partitions.into_iter().map(|it| (it, StartAt::Earliest)));
    while !progress.is_closed.load(Ordering::Relaxed) {
        driver.turn(std::slice::from_mut(&mut reader), Some(PATIENCE))?;
        while let Some(event) = reader.next_event() {
            let Taken { partition, values: read, .. } = kafka::take(event, &mut decompressor)?;
            let counts = usize::try_from(partition.partition.0).ok().and_then(|it| progress.entries.get(it));
            if let Some([checking, savings]) = counts {
                let is_checking = *partition.topic == *Ledger::Checking.topic();
                let count = if is_checking { checking } else { savings };
                count.fetch_add(read.len() as u64, Ordering::Relaxed);
            }
            values.entry(partition).or_default().extend(read);
        }
    }
    Ok(values)
}
