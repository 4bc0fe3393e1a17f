//! A teller: consumes orders, transforms them into entries, and produces those, exactly once.
//!
//! ```text
//! orders ──consume──> books: are there funds? ──produce──> checking, savings ─┐
//!    └──────────────── offset of the next order ──────────────────────────────┴─ one transaction: all or nothing
//! ```
//!
//! What makes it exact:
//! 1. The entries in both ledgers and the offset of the next order are committed in one transaction, or not at all.
//! 2. The consumer reads what is committed, and the group gives a branch to one teller at a time. One that was given up
//!    for dead and wakes has its transactions refused: by the group's coordinator for its generation (KIP-447), by that
//!    of the transactions for its epoch, when it was started again under the same name.
//! 3. The books are what the ledgers say, and are read anew whenever they do not fit the order whose turn it is.
//!
//! A teller that does not know what has become of its transaction ends, and is started again.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::time::Duration;

use dohle_cli::driver::Driver;
use dohle_client::consumer::IsolationLevel;
use dohle_client::group::{GroupConfig, GroupProtocol};
use dohle_client::{
    Consumer, ConsumerConfig, ConsumerEvent, ConsumerGroupMetadata, Effects, Endpoint, Machine, Producer,
    ProducerConfig, ProducerRecord, StartAt, TransactionError,
};
use dohle_records::Decompressor;
use dohle_types::{Offset, PartitionIndex, TopicPartition};
use rustix::process::Signal;

use crate::bank::{self, Books, Ledger, Order};
use crate::kafka::{self, BankError, GROUP, ORDERS, Taken};

/// Orders in a transaction, at the most.
const ORDERS_MAX: usize = 50;
/// After so much silence the group gives a teller's branches to others.
const SESSION_TIMEOUT: Duration = Duration::from_secs(2);
/// After so long the coordinator aborts a transaction that nobody ends.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(4);

/// How a teller works.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TellerArgs {
    /// Its name: its transactional.id
    #[arg(long)]
    name: String,
    /// Speak with the group by the consumer protocol (KIP-848)
    #[arg(long)]
    consumer_protocol: bool,
    /// Do it wrong: no transactions, and offsets committed after the entries
    #[arg(long)]
    without_transactions: bool,
    /// End at the worst moment of its n-th transaction: the entries are written, the offset is not
    #[arg(long, value_name = "N")]
    dies_in: Option<u64>,
}

/// What was consumed and is to be carried out.
#[derive(Default)]
struct Batch {
    orders: Vec<(i32, Offset, Order)>,
    /// The offset behind the last order of each partition.
    next: BTreeMap<TopicPartition, Offset>,
}

struct Teller {
    args: TellerArgs,
    driver: Driver,
    consumer: Consumer,
    producer: Producer,
    /// Reads the ledgers when the books are to be restored.
    ledger: Consumer,
    decompressor: Decompressor,
    /// By branch.
    books: BTreeMap<i32, Books>,
    transactions: u64,
}

/// Works until it is asked to stop.
pub(crate) fn run(bootstrap: Vec<Endpoint>, args: TellerArgs) -> Result<(), BankError> {
    let mut teller = Teller::new(bootstrap, args)?;
    while !teller.driver.is_interrupted() {
        // Who consumes is asked when the orders are taken.
        let group = teller.consumer.group_metadata();
        let batch = teller.take_orders()?;
        match group {
            Some(group) if !batch.orders.is_empty() => teller.carry_out(&group, batch)?,
            _ => teller.turn()?,
        }
    }
    teller.leave()
}

impl Teller {
    fn new(bootstrap: Vec<Endpoint>, args: TellerArgs) -> Result<Self, BankError> {
        let driver = Driver::new()?;
        let group = GroupConfig {
            protocol: if args.consumer_protocol { GroupProtocol::Consumer } else { GroupProtocol::Classic },
            session_timeout: SESSION_TIMEOUT,
            rebalance_timeout: SESSION_TIMEOUT,
            heartbeat_interval: SESSION_TIMEOUT / 8,
            ..GroupConfig::new(GROUP)
        };
        let config = ConsumerConfig {
            cluster: kafka::cluster_config(&args.name),
            reset: Some(StartAt::Earliest),
            isolation: IsolationLevel::ReadCommitted,
            auto_commit: None,
            group: Some(group),
            ..ConsumerConfig::default()
        };
        let mut consumer = Consumer::new(config, bootstrap.clone(), kafka::seed());
        consumer.subscribe(driver.now(), [ORDERS.into()].into());
        let config = ProducerConfig {
            cluster: kafka::cluster_config(&args.name),
            transactional_id: (!args.without_transactions).then(|| args.name.as_str().into()),
            transaction_timeout: TRANSACTION_TIMEOUT,
            ..ProducerConfig::default()
        };
        let producer = Producer::new(config, bootstrap.clone(), kafka::seed());
        Ok(Self {
            args,
            driver,
            consumer,
            producer,
            ledger: kafka::reader(&bootstrap, IsolationLevel::ReadCommitted),
            decompressor: Decompressor::default(),
            books: BTreeMap::new(),
            transactions: 0,
        })
    }

    /// Has all clients do what there is to be done, and waits for something to happen.
    fn turn(&mut self) -> Result<(), BankError> {
        let machines: &mut [&mut dyn Machine] =
            &mut [&mut self.consumer, &mut self.producer, &mut self.ledger];
        Ok(self.driver.turn(machines, None)?)
    }

    /// The orders that have been fetched.
    fn take_orders(&mut self) -> Result<Batch, BankError> {
        let mut batch = Batch::default();
        while batch.orders.len() < ORDERS_MAX
            && let Some(event) = self.consumer.next_event()
        {
            match event {
                ConsumerEvent::Records(fetched) => {
                    let partition = fetched.partition();
                    for record in fetched.records(&mut self.decompressor)? {
                        let record = record?;
                        let value = record.value.unwrap_or_default();
                        let order = String::from_utf8_lossy(&value).parse()?;
                        batch.orders.push((partition.partition.0, record.offset, order));
                    }
                    batch.next.insert(partition.clone(), fetched.next_offset());
                }
                // Books that do not fit are noticed when they are opened.
                ConsumerEvent::Assigned(_) | ConsumerEvent::Revoked(_) => {}
                ConsumerEvent::End { .. } | ConsumerEvent::Committed(_) => {}
                ConsumerEvent::PartitionFailed { partition, error } => {
                    return Err(BankError::Partition { partition, error });
                }
                ConsumerEvent::GroupFailed(error) => return Err(BankError::Other(error.to_string())),
            }
        }
        Ok(batch)
    }

    /// Carries out orders in one transaction. When it is aborted they are consumed again.
    fn carry_out(&mut self, group: &ConsumerGroupMetadata, batch: Batch) -> Result<(), BankError> {
        let mut books = BTreeMap::new();
        for &(branch, order, _) in &batch.orders {
            let Entry::Vacant(place) = books.entry(branch) else { continue };
            let Some(fitting) = self.books_for(branch, order)? else {
                // Another one has carried out this order.
                self.consumer.seek_to_committed();
                return Ok(());
            };
            place.insert(fitting);
        }
        self.transactions += 1;
        if self.args.without_transactions {
            return self.carry_out_without_transaction(&mut books, batch);
        }
        match self.transact(group, &mut books, batch) {
            Ok(()) => self.books.extend(books),
            Err(BankError::Transaction(TransactionError::Abort(_))) => {
                self.producer.end_transaction(false)?;
                self.await_end()?;
                self.consumer.seek_to_committed();
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// All or nothing.
    fn transact(
        &mut self,
        group: &ConsumerGroupMetadata,
        books: &mut BTreeMap<i32, Books>,
        batch: Batch,
    ) -> Result<(), BankError> {
        loop {
            match self.producer.begin_transaction() {
                Ok(()) => break,
                Err(TransactionError::NotReady) => self.turn()?,
                Err(error) => return Err(error.into()),
            }
        }
        self.write_entries(books, &batch)?;
        self.die_if_asked()?;
        self.producer.send_offsets_to_transaction(group, batch.next)?;
        self.producer.end_transaction(true)?;
        self.await_end()
    }

    fn await_end(&mut self) -> Result<(), BankError> {
        loop {
            while self.producer.next_delivery().is_some() {}
            if let Some(ended) = self.producer.next_transaction_end() {
                return Ok(ended?);
            }
            self.turn()?;
        }
    }

    /// What it is about to write is true if the books are.
    fn write_entries(&mut self, books: &mut BTreeMap<i32, Books>, batch: &Batch) -> Result<(), BankError> {
        for (branch, offset, order) in &batch.orders {
            let Some(books) = books.get_mut(branch) else { continue };
            for (ledger, entry) in Ledger::BOTH.into_iter().zip(books.carry_out(offset.0, order)) {
                self.write(ledger, *branch, &entry)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, ledger: Ledger, branch: i32, entry: &bank::Entry) -> Result<(), BankError> {
        let (key, value) = (entry.account.to_string(), entry.to_string());
        let record = ProducerRecord {
            partition: Some(PartitionIndex(branch)),
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            ..ProducerRecord::default()
        };
        loop {
            match self.producer.send(self.driver.now(), ledger.topic(), &record) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_transient() => self.turn()?,
                // A record of the transaction was given up meanwhile.
                Err(dohle_client::SendError::NoTransaction) => {
                    let aborted = dohle_client::producer::DeliveryError::Aborted;
                    return Err(TransactionError::Abort(aborted).into());
                }
                Err(error) => return Err(BankError::Other(error.to_string())),
            }
        }
    }

    /// How not to do it: whoever dies in between has written entries for orders that will be consumed again.
    fn carry_out_without_transaction(
        &mut self,
        books: &mut BTreeMap<i32, Books>,
        batch: Batch,
    ) -> Result<(), BankError> {
        self.write_entries(books, &batch)?;
        self.await_deliveries()?;
        self.die_if_asked()?;
        let mut effects = Effects::new();
        self.consumer.commit(self.driver.now(), &mut effects);
        self.driver.carry_out(0, effects);
        self.books.append(books);
        Ok(())
    }

    fn await_deliveries(&mut self) -> Result<(), BankError> {
        self.producer.flush();
        while !self.producer.is_idle() {
            self.turn()?;
            while self.producer.next_delivery().is_some() {}
        }
        Ok(())
    }

    /// As kill -9 does it, when the entries are in the logs.
    fn die_if_asked(&mut self) -> Result<(), BankError> {
        if self.args.dies_in == Some(self.transactions) {
            self.await_deliveries()?;
            rustix::process::kill_process(rustix::process::getpid(), Signal::KILL)
                .map_err(io::Error::from)?;
        }
        Ok(())
    }

    /// The books of a branch in which all orders before this one are carried out; `None` if this one is, too.
    fn books_for(&mut self, branch: i32, order: Offset) -> Result<Option<Books>, BankError> {
        if let Some(books) = self.books.get(&branch).filter(|books| books.orders() == (order.0, order.0)) {
            return Ok(Some(books.clone()));
        }
        let partitions = kafka::ledgers([branch]);
        self.ledger.assign(self.driver.now(), partitions.into_iter().map(|it| (it, StartAt::Earliest)));
        let mut books = Books::default();
        // The marker of the transaction before may come a little later to the ledgers than to the group's offsets.
        let mut ended = 0;
        while books.orders().0 < order.0 || (self.args.without_transactions && ended < 2) {
            self.turn()?;
            while let Some(event) = self.ledger.next_event() {
                let Taken { partition, values, is_end } = kafka::take(event, &mut self.decompressor)?;
                let is_checking = *partition.topic == *Ledger::Checking.topic();
                let ledger = if is_checking { Ledger::Checking } else { Ledger::Savings };
                for (_, value) in values {
                    books.take_over(ledger, &value.parse()?);
                }
                ended += usize::from(is_end);
            }
            if self.driver.is_interrupted() {
                break;
            }
        }
        self.ledger.assign(self.driver.now(), []);
        let fits = books.orders() == (order.0, order.0) || self.args.without_transactions;
        Ok(fits.then_some(books))
    }

    /// Leaves the group, so that others need not wait for it.
    fn leave(mut self) -> Result<(), BankError> {
        let mut effects = Effects::new();
        self.consumer.close(self.driver.now(), &mut effects);
        self.driver.carry_out(0, effects);
        let deadline = self.driver.now().after(SESSION_TIMEOUT);
        while !self.consumer.is_closed() && self.driver.now().instant < deadline {
            self.turn()?;
        }
        Ok(())
    }
}
