//! A run of the bank: everything is started, killed again and again, and then held against the rules.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use dohle_client::Endpoint;
use dohle_client::consumer::IsolationLevel;
use dohle_types::{Offset, Rng};
use rustix::process::Signal;

use crate::audit::{self, Branch, Summary};
use crate::bank::{ACCOUNTS, Ledger, TOTAL};
use crate::customers::{self, Acknowledged, Progress};
use crate::kafka::{self, BankError, ORDERS, PATIENCE, Values};
use crate::processes::{Broker, Teller, was_killed};

/// How a run goes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// How often something is killed, stopped or paused, at the least
    #[arg(long, default_value_t = 9)]
    kills: u32,
    /// For how many minutes that goes on, at the least
    #[arg(long, default_value_t = 0)]
    minutes: u64,
    /// How many orders are carried out between two kills, on the average
    #[arg(long, default_value_t = 100, value_name = "ORDERS")]
    every: u64,
    /// Orders a second, at the most
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Tellers
    #[arg(long, default_value_t = 3)]
    tellers: u32,
    /// Branches, which are partitions
    #[arg(long, default_value_t = 4)]
    branches: i32,
    /// What decides whom it hits; drawn if it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// The broker's data; removed at the end if it is not given
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The dohle to run, instead of the same broker in this program
    #[arg(long, value_name = "FILE")]
    dohle: Option<PathBuf>,
    /// A broker that runs already, of Dohle or Apache Kafka: only tellers are killed
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["dohle", "data"])]
    bootstrap_server: Option<String>,
    /// Have the tellers speak with the group by the consumer protocol (KIP-848)
    #[arg(long)]
    consumer_protocol: bool,
    /// Have the tellers do it wrong, to see that it is noticed
    #[arg(long)]
    without_transactions: bool,
}

/// What may happen to a bank.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Blow {
    KillBroker,
    StopBroker,
    KillTeller,
    StopTeller,
    /// Until the others have gone on without it; then it goes on, too, and knows of nothing.
    PauseTeller,
    /// By itself, at the worst moment.
    TellerDies,
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillBroker => "broker kill -9",
            Self::StopBroker => "broker SIGTERM",
            Self::KillTeller => "teller kill -9",
            Self::StopTeller => "teller SIGTERM",
            Self::PauseTeller => "teller paused until others had taken over",
            Self::TellerDies => "teller killed between its entries and its offset",
        })
    }
}

/// All of these come once before any comes again.
const ROUND: [Blow; 9] = [
    Blow::KillBroker,
    Blow::KillBroker,
    Blow::StopBroker,
    Blow::KillTeller,
    Blow::KillTeller,
    Blow::StopTeller,
    Blow::PauseTeller,
    Blow::TellerDies,
    Blow::TellerDies,
];

struct Bank<'a> {
    args: &'a RunArgs,
    broker: Option<Broker>,
    tellers: Vec<Teller>,
    progress: &'a Progress,
    rng: Rng,
    blows: BTreeMap<Blow, u32>,
    /// Tellers that did not know how to go on, and were started again.
    gave_up: u32,
}

/// Runs the bank, and tells what came of it.
pub(crate) fn run(args: &RunArgs) -> Result<(), BankError> {
    let seed = args.seed.unwrap_or_else(|| kafka::seed().next_u64() & 0xffff);
    let begun = Instant::now();
    let temporary = std::env::temp_dir().join(format!("bank-transfer-{}", std::process::id()));
    let broker = match args.bootstrap_server {
        Some(_) => None,
        None => {
            Some(Broker::start(args.dohle.clone(), args.data.clone().unwrap_or_else(|| temporary.clone()))?)
        }
    };
    let address = broker.as_ref().map(|broker| broker.address.clone());
    let address = address.or_else(|| args.bootstrap_server.clone()).unwrap_or_default();
    let bootstrap = Endpoint::parse_list(&address).map_err(|error| BankError::Other(error.to_string()))?;
    kafka::create_topics(&bootstrap, args.branches)?;
    let progress = Progress::new(args.branches);
    let mut rng = Rng::from_seed(seed);
    let orders_rng = rng.fork();
    let tellers = (0..args.tellers).map(|number| Teller::start(teller_arguments(args, number, &address)));
    let tellers = tellers.collect::<Result<_, _>>()?;
    let mut bank =
        Bank { args, broker, tellers, progress: &progress, rng, blows: BTreeMap::new(), gave_up: 0 };
    println!("bank-transfer: seed {seed}, broker at {address}");
    let outcome = thread::scope(|scope| {
        let follower = scope.spawn(|| customers::follow(&bootstrap, &progress));
        let orders = scope.spawn(|| customers::give_orders(&bootstrap, args.rate, orders_rng, &progress));
        let lived = bank.live(begun);
        progress.is_closing.store(true, Ordering::Relaxed);
        let acknowledged =
            orders.join().unwrap_or_else(|_| Err(BankError::Other("customers panicked".to_owned())));
        let closed = lived.and(acknowledged).and_then(|told| bank.close(&bootstrap, &told));
        progress.is_closed.store(true, Ordering::Relaxed);
        let seen =
            follower.join().unwrap_or_else(|_| Err(BankError::Other("the follower panicked".to_owned())));
        closed.and_then(|closed| closed.hold_against(&seen?))
    });
    drop(bank);
    if args.data.is_none() && args.bootstrap_server.is_none() {
        let _ = std::fs::remove_dir_all(&temporary);
    }
    outcome?;
    println!("bank-transfer: passed in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

fn teller_arguments(args: &RunArgs, number: u32, address: &str) -> Vec<String> {
    let mut arguments = vec![
        "--name".to_owned(),
        format!("teller-{number}"),
        "--bootstrap-server".to_owned(),
        address.to_owned(),
    ];
    arguments.extend(args.consumer_protocol.then(|| "--consumer-protocol".to_owned()));
    arguments.extend(args.without_transactions.then(|| "--without-transactions".to_owned()));
    arguments
}

impl Bank<'_> {
    /// Everything is killed again and again. After each blow the bank must go on before the next one is due.
    fn live(&mut self, begun: Instant) -> Result<(), BankError> {
        self.await_all_branches("the bank opens")?;
        let mut round = Vec::new();
        let mut told = Instant::now();
        let lasts = Duration::from_secs(60 * self.args.minutes);
        for blow in 0.. {
            if blow >= self.args.kills && begun.elapsed() >= lasts {
                return Ok(());
            }
            let carried_out = self.carried_out();
            // Now and then at once: a start is interrupted, too.
            let pause = self.rng.below(2 * self.args.every + 1);
            self.wait("the bank goes on", |bank| bank.carried_out() >= carried_out + pause)?;
            if round.is_empty() {
                round = ROUND.to_vec();
            }
            let drawn = usize::try_from(self.rng.below(round.len() as u64)).unwrap_or(0);
            self.strike(round.swap_remove(drawn))?;
            if told.elapsed() > Duration::from_secs(60) {
                told = Instant::now();
                println!("bank-transfer: {} orders carried out, {} blows", self.carried_out(), blow + 1);
            }
        }
        Ok(())
    }

    fn strike(&mut self, blow: Blow) -> Result<(), BankError> {
        let victim = usize::try_from(self.rng.below(self.tellers.len() as u64)).unwrap_or(0);
        let dies_in = 1 + self.rng.below(5);
        match (blow, &mut self.broker, self.tellers.get_mut(victim)) {
            (Blow::KillBroker, Some(broker), _) => broker.restart(Signal::KILL)?,
            (Blow::StopBroker, Some(broker), _) => broker.restart(Signal::TERM)?,
            // Somebody else's broker is left alone.
            (Blow::KillBroker | Blow::StopBroker, None, _) => return Ok(()),
            (Blow::KillTeller, _, Some(teller)) => {
                teller.end(Signal::KILL)?;
                teller.start_again(None)?;
            }
            (Blow::StopTeller, _, Some(teller)) => {
                teller.end(Signal::TERM)?;
                teller.start_again(None)?;
            }
            (Blow::TellerDies, _, Some(teller)) => {
                teller.end(Signal::KILL)?;
                teller.start_again(Some(dies_in))?;
                let deaths = |bank: &Self| bank.blows.get(&Blow::TellerDies).copied().unwrap_or(0);
                let before = deaths(&*self);
                // That counts it.
                return self.wait("a teller dies", |bank| deaths(bank) > before);
            }
            (Blow::PauseTeller, _, Some(teller)) => {
                teller.pause(true)?;
                self.await_all_branches("the others take over")?;
                if let Some(teller) = self.tellers.get_mut(victim) {
                    teller.pause(false)?;
                }
            }
            (_, _, None) => {}
        }
        *self.blows.entry(blow).or_default() += 1;
        Ok(())
    }

    /// The end of business: all orders are carried out, the tellers go home, the broker is killed once more, and what
    /// it then has on its disk is read.
    fn close(&mut self, bootstrap: &[Endpoint], told: &[Acknowledged]) -> Result<Closed, BankError> {
        let branches = 0..self.args.branches;
        let orders: Vec<_> = branches.clone().map(|branch| kafka::partition(ORDERS, branch)).collect();
        let orders = kafka::read_all(bootstrap, IsolationLevel::ReadCommitted, &orders)?;
        let counts: Vec<u64> = orders.values().map(|orders| orders.len() as u64).collect();
        self.wait("all orders are carried out", |bank| {
            bank.progress.by_branch().iter().zip(&counts).all(|(carried_out, given)| carried_out >= given)
        })?;
        for teller in &mut self.tellers {
            teller.pause(false)?;
            teller.end(Signal::TERM)?;
        }
        if let Some(broker) = &mut self.broker {
            broker.restart(Signal::KILL)?;
        }
        let partitions = kafka::ledgers(branches);
        let ledgers = kafka::read_all(bootstrap, IsolationLevel::ReadCommitted, &partitions)?;
        let all = kafka::read_all(bootstrap, IsolationLevel::ReadUncommitted, &partitions)?;
        let entries: usize = ledgers.values().map(Vec::len).sum();
        let deadline = Instant::now() + PATIENCE;
        while self.progress.entries() < entries as u64 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Closed {
            acknowledged: told.to_vec(),
            offsets: kafka::committed(bootstrap)?,
            aborted: all.values().map(Vec::len).sum::<usize>() - entries,
            branches: self.args.branches,
            blows: self.blows.clone(),
            gave_up: self.gave_up,
            orders,
            ledgers,
        })
    }

    fn carried_out(&self) -> u64 {
        self.progress.by_branch().into_iter().sum()
    }

    /// Until each branch has carried out an order more.
    fn await_all_branches(&mut self, what: &str) -> Result<(), BankError> {
        let before = self.progress.by_branch();
        self.wait(what, |bank| {
            bank.progress.by_branch().iter().zip(&before).all(|(now, before)| now > before)
        })
    }

    /// Starts tellers again that have ended until something is so.
    fn wait(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<(), BankError> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            if Instant::now() > deadline {
                let progress = self.progress.by_branch();
                return Err(BankError::Other(format!(
                    "waited in vain until {what}; orders by branch: {progress:?}"
                )));
            }
            for teller in &mut self.tellers {
                if let Some(status) = teller.ended()? {
                    if was_killed(status) {
                        *self.blows.entry(Blow::TellerDies).or_default() += 1;
                    } else {
                        self.gave_up += 1;
                    }
                    teller.start_again(None)?;
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// What a bank leaves behind.
struct Closed {
    orders: Values,
    ledgers: Values,
    /// The entries that are in the ledgers and not committed.
    aborted: usize,
    offsets: BTreeMap<dohle_types::TopicPartition, Offset>,
    acknowledged: Vec<Acknowledged>,
    branches: i32,
    blows: BTreeMap<Blow, u32>,
    gave_up: u32,
}

impl Closed {
    /// Holds everything against the rules, and tells what there was. `seen` is what was read meanwhile.
    fn hold_against(&self, seen: &Values) -> Result<(), BankError> {
        let mut faults = Vec::new();
        let mut total = Summary::default();
        for branch in 0..self.branches {
            let books = self.branch(branch)?;
            match audit::audit(&books) {
                Ok(summary) => {
                    total.transfers += summary.transfers;
                    total.declined += summary.declined;
                }
                Err(violations) => {
                    faults.extend(violations.iter().map(|violation| format!("branch {branch}: {violation}")));
                }
            }
            let committed = self.offsets.get(&kafka::partition(ORDERS, branch)).map_or(0, |offset| offset.0);
            if usize::try_from(committed) != Ok(books.orders.len()) {
                faults.push(format!(
                    "branch {branch}: {} orders, and offset {committed} is committed",
                    books.orders.len()
                ));
            }
            self.check_acknowledged(branch, &books, &mut faults);
        }
        for (partition, at_the_end) in &self.ledgers {
            let meanwhile = seen.get(partition).map_or(&[][..], Vec::as_slice);
            if let Some((seen, found)) = meanwhile.iter().zip(at_the_end).find(|(seen, found)| seen != found)
            {
                faults.push(format!(
                    "{partition}: {seen:?} was read as committed, and in the end {found:?} is there"
                ));
            } else if meanwhile.len() != at_the_end.len() {
                let (seen, found) = (meanwhile.len(), at_the_end.len());
                faults.push(format!(
                    "{partition}: {seen} entries were read as committed, and in the end {found} are there"
                ));
            }
        }
        let blows: Vec<String> = self.blows.iter().map(|(blow, times)| format!("{times} x {blow}")).collect();
        println!("bank-transfer: {}", blows.join(", "));
        println!(
            "bank-transfer: {} times a teller did not know what had become of its transaction",
            self.gave_up
        );
        if !faults.is_empty() {
            for fault in faults.iter().take(20) {
                println!("bank-transfer: {fault}");
            }
            return Err(BankError::Other(format!("{} rules were broken", faults.len())));
        }
        let orders = total.transfers + total.declined;
        println!(
            "bank-transfer: {orders} orders ({} acknowledged), each carried out once: {} transfers, {} declined for lack \
             of funds",
            self.acknowledged.len(),
            total.transfers,
            total.declined,
        );
        println!(
            "bank-transfer: the sum over {} accounts was {} after each of them",
            self.branches * i32::try_from(2 * ACCOUNTS).unwrap_or(0),
            i64::from(self.branches) * TOTAL,
        );
        println!(
            "bank-transfer: {} entries of aborted transactions, which no reader of committed records was given",
            self.aborted
        );
        Ok(())
    }

    fn branch(&self, branch: i32) -> Result<Branch, BankError> {
        let none = Vec::new();
        let values = |values: &'_ Values, topic| -> Vec<String> {
            let values = values.get(&kafka::partition(topic, branch)).unwrap_or(&none);
            values.iter().map(|(_, value)| value.clone()).collect()
        };
        let entries = |ledger: Ledger| -> Result<Vec<_>, BankError> {
            let entries = values(&self.ledgers, ledger.topic()).into_iter().map(|value| value.parse());
            Ok(entries.collect::<Result<_, _>>()?)
        };
        let orders = values(&self.orders, ORDERS).into_iter().map(|value| value.parse());
        Ok(Branch {
            orders: orders.collect::<Result<_, _>>()?,
            checking: entries(Ledger::Checking)?,
            savings: entries(Ledger::Savings)?,
        })
    }

    /// What was acknowledged is there, where that was said.
    fn check_acknowledged(&self, branch: i32, books: &Branch, faults: &mut Vec<String>) {
        let told = self.acknowledged.iter().filter(|(at, ..)| *at == branch);
        for (_, offset, order) in told {
            let Some(offset) = offset else { continue };
            if usize::try_from(offset.0).ok().and_then(|offset| books.orders.get(offset)) != Some(order) {
                faults.push(format!(
                    "branch {branch}: `{order}` was acknowledged at offset {offset} and is not there"
                ));
            }
        }
    }
}
