//! An EndTxn that the network holds back and repeats, while its producer has long gone on with the next transaction
//! (KAFKA-17754).

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use dohle_cli::driver::Driver;
use dohle_client::{Endpoint, Producer, ProducerConfig, ProducerRecord, TransactionError};
use dohle_protocol::ApiKey;
use dohle_protocol::messages::EndTxnRequest;
use dohle_types::{ErrorCode, Rng};

use crate::client::Client;
use crate::process::{Broker, Directory, PATIENCE, until};
use crate::transactional_producer::{self as raw, OVERRIDES, state};
use crate::transactions::fetch_committed;

/// What happens to a client whose EndTxn is held back.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Its connection breaks.
    Cut,
    /// Nothing, and it waits in vain.
    Lose,
}

/// Between a client and its broker: hands over everything but the EndTxn for which there is a fault.
struct Proxy {
    faults: Arc<Mutex<VecDeque<Fault>>>,
    held: Receiver<Vec<u8>>,
}

impl Proxy {
    fn start(listener: TcpListener, broker: String) -> Self {
        let faults: Arc<Mutex<VecDeque<Fault>>> = Arc::default();
        let (sender, held) = channel();
        let shared = Arc::clone(&faults);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, broker) = (client.unwrap(), TcpStream::connect(&broker).unwrap());
                let (mut from, mut to) = (broker.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
                let (faults, held) = (Arc::clone(&shared), sender.clone());
                thread::spawn(move || {
                    // Whichever side goes, the other one goes with it.
                    let _ = forward(&client, &broker, &faults, &held);
                    let _ = (client.shutdown(Shutdown::Both), broker.shutdown(Shutdown::Both));
                });
            }
        });
        Self { faults, held }
    }
}

/// Hands over requests until a connection ends.
fn forward(
    mut client: &TcpStream,
    mut broker: &TcpStream,
    faults: &Mutex<VecDeque<Fault>>,
    held: &Sender<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let mut frame = length.to_vec();
        frame.resize(4 + u32::from_be_bytes(length) as usize, 0);
        client.read_exact(&mut frame[4..])?;
        let is_end = i16::from_be_bytes([frame[4], frame[5]]) == ApiKey::EndTxn.code();
        match faults.lock().unwrap().pop_front_if(|_| is_end) {
            None => broker.write_all(&frame)?,
            Some(fault) => {
                held.send(frame).map_err(io::Error::other)?;
                match fault {
                    Fault::Cut => return Ok(()),
                    Fault::Lose => {}
                }
            }
        }
    }
}

/// Has a request that was held back arrive, on a connection of its own; the error.
fn deliver(address: &str, frame: &[u8]) -> i16 {
    let version = i16::from_be_bytes([frame[6], frame[7]]);
    let mut client = Client::connect(address);
    client.stream.write_all(frame).unwrap();
    client.receive::<EndTxnRequest>(version).unwrap().1.error_code
}

/// Our client.
struct Teller {
    driver: Driver,
    producer: Producer,
}

impl Teller {
    fn new(proxy: &str) -> Self {
        let mut config =
            ProducerConfig { transactional_id: Some("bank".into()), ..ProducerConfig::default() };
        // How soon it notices that nobody answers.
        config.cluster.request_timeout = Duration::from_secs(1);
        let bootstrap = Endpoint::parse_list(proxy).unwrap();
        Self { driver: Driver::new().unwrap(), producer: Producer::new(config, bootstrap, Rng::from_seed(1)) }
    }

    fn until<T>(&mut self, what: &str, mut ask: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask(self) {
                return answer;
            }
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            self.driver.turn(std::slice::from_mut(&mut self.producer), None).unwrap();
        }
    }

    /// Begins a transaction, and has a record of it be in the log.
    fn begin(&mut self, value: &str) {
        self.until("a transaction begins", |it| match it.producer.begin_transaction() {
            Err(TransactionError::NotReady) => None,
            begun => Some(begun),
        })
        .unwrap();
        self.until("a record is taken", |it| {
            let record = ProducerRecord { value: Some(value.as_bytes()), ..ProducerRecord::default() };
            match it.producer.send(it.driver.now(), "orders", &record) {
                Err(error) if error.is_transient() => None,
                taken => Some(taken),
            }
        })
        .unwrap();
        self.producer.flush();
        self.until("it is delivered", |it| it.producer.is_idle().then_some(()));
    }

    fn end(&mut self, commit: bool) {
        self.producer.end_transaction(commit).unwrap();
        self.until("the transaction has ended", |it| it.producer.next_transaction_end()).unwrap();
    }
}

#[test]
fn an_end_that_is_delayed_and_repeated_leaves_later_transactions_alone() {
    for fault in [Fault::Cut, Fault::Lose] {
        let data = Directory::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let advertised = format!("advertised.listeners=PLAINTEXT://{address}");
        let broker = Broker::start(&data.0, &[OVERRIDES, &[advertised.as_str()]].concat());
        let proxy = Proxy::start(listener, broker.address.clone());
        let mut client = Client::connect(&broker.address);
        let topic = client.create_topic("orders", 1, &[]);

        let mut teller = Teller::new(&address);
        teller.begin("first");
        proxy.faults.lock().unwrap().push_back(fault);
        // It asks again, for nobody answered.
        teller.end(true);
        let late = proxy.held.recv_timeout(PATIENCE).unwrap();
        until("what was asked before is answered as before", || {
            let error = deliver(&broker.address, &late);
            (error != ErrorCode::ConcurrentTransactions.code()).then(|| assert_eq!(error, 0, "{fault:?}"))
        });

        teller.begin("second");
        for _ in 0..3 {
            assert_eq!(deliver(&broker.address, &late), ErrorCode::ProducerFenced.code(), "{fault:?}");
            assert_eq!(state(&mut client), "Ongoing");
        }
        assert_eq!(fetch_committed(&mut client, topic, 0).last_stable_offset, 2);
        teller.end(false);
        teller.begin("third");
        assert_eq!(deliver(&broker.address, &late), ErrorCode::ProducerFenced.code(), "{fault:?}");
        teller.end(true);
        let all = until("the markers are there", || {
            let all = fetch_committed(&mut client, topic, 0);
            (all.last_stable_offset == 6).then_some(all)
        });
        let aborted: Vec<i64> = all.aborted_transactions.unwrap().iter().map(|it| it.first_offset).collect();
        assert_eq!(aborted, [2], "the second one only, and for that its producer has asked");
        broker.stop();
    }
}

/// As with Apache Kafka: nothing in the request tells two transactions of an epoch apart, which is why there are
/// transactions v2 (KIP-890).
#[test]
fn of_clients_before_transactions_v2_a_delayed_end_ends_the_next_transaction() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, OVERRIDES);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[]);
    let producer = raw::Producer::new(&mut client, 60_000);
    assert_eq!(producer.add(&mut client, "orders"), 0);
    assert_eq!(producer.produce(&mut client, topic, 0, b"first"), 0);
    assert_eq!(producer.end(&mut client, true), 0);
    assert_eq!(producer.add(&mut client, "orders"), 0);
    assert_eq!(producer.produce(&mut client, topic, 1, b"second"), 0);
    let mut another = Client::connect(&broker.address);
    assert_eq!(producer.end(&mut another, true), 0, "the same once more");
    until("the second transaction is complete", || (state(&mut client) == "CompleteCommit").then_some(()));
    assert_eq!(fetch_committed(&mut client, topic, 0).last_stable_offset, 4);
    assert_eq!(producer.end(&mut client, false), ErrorCode::InvalidTxnState.code());
}
