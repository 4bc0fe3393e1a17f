//! Random histories of producers, delayed and repeated requests, markers, time and crashes, and what must be true of
//! all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dohle_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use dohle_protocol::messages::{EndTxnRequest, InitProducerIdRequest};
use dohle_types::{ProducerEpoch, ProducerId, Str};
use proptest::prelude::*;

use super::host::{Host, compacted_state, replayed};
use crate::effects::{Marker, MarkerOutcome};
use crate::state::{Status, Transaction, TxnResult};
use crate::{Effects, TransactionsConfig};

/// Processes; each two of them share a transactional id.
const PROCESSES: usize = 4;
const PARTITIONS: i32 = 3;

type Identity = (i64, i16);

#[derive(Clone, Copy, Debug)]
enum Event {
    Init(usize),
    /// With the id and epoch that the process has.
    InitAgain(usize),
    Add(usize, i32),
    End(usize, bool),
    /// An EndTxn that was sent before arrives once more.
    Repeat(usize),
    /// A marker reaches its partitions, or one of them refuses it.
    Deliver(usize, bool),
    Clock(u16),
    CommitLog,
    Crash,
    Expire,
}

fn event() -> impl Strategy<Value = Event> {
    let process = 0..PROCESSES;
    prop_oneof![
        3 => process.clone().prop_map(Event::Init),
        2 => process.clone().prop_map(Event::InitAgain),
        10 => (process.clone(), 0..PARTITIONS).prop_map(|(process, index)| Event::Add(process, index)),
        8 => (process, any::<bool>()).prop_map(|(process, commits)| Event::End(process, commits)),
        6 => (0_usize..100).prop_map(Event::Repeat),
        10 => (0_usize..10, any::<bool>()).prop_map(|(index, refuses)| Event::Deliver(index, refuses)),
        2 => (0_u16..3_000).prop_map(Event::Clock),
        14 => Just(Event::CommitLog),
        1 => Just(Event::Crash),
        1 => Just(Event::Expire),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn every_history_is_consistent(
        start_epochs in prop::collection::vec(prop_oneof![Just(0_i16), 32_760_i16..32_767], 2),
        events in prop::collection::vec(event(), 0..200),
    ) {
        let mut world = World::new(&start_epochs);
        for event in events {
            world.step(event);
            world.check_ledger();
        }
        world.settle();
    }
}

/// An answer that waits until the log is committed.
#[derive(Clone, Debug)]
enum Answer {
    Identity(usize, Identity),
    /// A transaction ended; the producer may go on with another identity.
    Ended(usize, Ending, Identity),
}

/// An EndTxn as it was sent.
#[derive(Clone, Copy, Debug)]
struct Ending {
    process: usize,
    identity: Identity,
    commits: bool,
}

struct Process {
    identity: Option<Identity>,
    /// Of transactions v2.
    is_v2: bool,
}

struct World {
    host: Host<Answer>,
    processes: Vec<Process>,
    sent: Vec<Ending>,
    /// Markers on their way.
    markers: Vec<Marker>,
    /// How each transaction of transactions v2 was decided, by the identity that it was written with.
    decided: BTreeMap<Identity, TxnResult>,
    /// To whom an identity was given.
    owners: BTreeMap<Identity, usize>,
    /// The greatest epoch of a producer id in the log.
    epochs: BTreeMap<i64, i16>,
    seen: usize,
    last: BTreeMap<Str, Transaction>,
    /// Partitions that have the marker of the transaction that is being ended.
    marked: BTreeMap<Str, BTreeSet<(Str, i32)>>,
}

fn id_of(process: usize) -> Str {
    Str::from(["x", "y"][process / 2])
}

impl World {
    fn new(start_epochs: &[i16]) -> Self {
        let mut host = Host::new(TransactionsConfig::default());
        for ((id, producer_id), &epoch) in [("x", 1), ("y", 2)].into_iter().zip(start_epochs) {
            // As if it had been initialized that often before.
            if epoch > 0 {
                let transaction =
                    Transaction::empty(ProducerId(producer_id), ProducerEpoch(epoch), 2_000, host.now.wall);
                let record = crate::records::transaction(&Str::from(id), &transaction, host.version).unwrap();
                host.ledger.replay(&record.key, record.value.as_ref()).unwrap();
                host.log.push(record);
            }
        }
        host.commit();
        let processes = (0..PROCESSES).map(|index| Process { identity: None, is_v2: index != 3 }).collect();
        let mut world = Self {
            host,
            processes,
            sent: Vec::new(),
            markers: Vec::new(),
            decided: BTreeMap::new(),
            owners: BTreeMap::new(),
            epochs: BTreeMap::new(),
            seen: 0,
            last: BTreeMap::new(),
            marked: BTreeMap::new(),
        };
        world.follow(false);
        world
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Init(process) => self.init(process, (-1, -1)),
            Event::InitAgain(process) => {
                if let Some(identity) = self.processes[process].identity {
                    self.init(process, identity);
                }
            }
            Event::Add(process, index) => self.add(process, index),
            Event::End(process, commits) => {
                let Some(identity) = self.processes[process].identity else { return };
                let ending = Ending { process, identity, commits };
                self.sent.push(ending);
                self.end(ending);
            }
            Event::Repeat(index) => {
                if !self.sent.is_empty() {
                    self.end(self.sent[index % self.sent.len()]);
                }
            }
            Event::Deliver(index, refuses) => {
                if !self.markers.is_empty() {
                    let marker = self.markers.swap_remove(index % self.markers.len());
                    self.deliver(&marker, refuses);
                }
            }
            Event::Clock(ms) => self.advance(Duration::from_millis(ms.into())),
            Event::CommitLog => self.commit_log(),
            Event::Crash => self.crash(),
            Event::Expire => {
                let (_, effects) = self.host.call(|ledger, turn| ledger.expire(turn));
                self.take(effects, None);
            }
        }
    }

    fn init(&mut self, process: usize, (producer_id, producer_epoch): Identity) {
        let request = InitProducerIdRequest {
            transactional_id: Some(id_of(process)),
            transaction_timeout_ms: 2_000,
            producer_id,
            producer_epoch,
            ..InitProducerIdRequest::default()
        };
        let (response, effects) = self.host.call(|ledger, turn| ledger.init_producer_id(turn, 5, &request));
        let identity = (response.producer_id, response.producer_epoch);
        let answer = (response.error_code == 0).then_some(Answer::Identity(process, identity));
        self.take(effects, answer);
    }

    fn add(&mut self, process: usize, index: i32) {
        let Process { identity: Some((producer_id, producer_epoch)), is_v2, .. } = self.processes[process]
        else {
            return;
        };
        let request = AddPartitionsToTxnTransaction {
            transactional_id: id_of(process),
            producer_id,
            producer_epoch,
            verify_only: false,
            topics: vec![AddPartitionsToTxnTopic { name: Str::from("t"), partitions: vec![index] }],
        };
        let version = if is_v2 { 5 } else { 3 };
        let (_, effects) = self.host.call(|ledger, turn| ledger.add_partitions(turn, version, &request));
        self.take(effects, None);
    }

    fn end(&mut self, ending: Ending) {
        let id = id_of(ending.process);
        let request = EndTxnRequest {
            transactional_id: id.clone(),
            producer_id: ending.identity.0,
            producer_epoch: ending.identity.1,
            committed: ending.commits,
        };
        let is_v2 = self.processes[ending.process].is_v2;
        let version = if is_v2 { 5 } else { 4 };
        let before = self.host.ledger.state().transaction(&id).cloned();
        let (response, effects) = self.host.call(|ledger, turn| ledger.end_txn(turn, version, &request));
        let is_open = before.as_ref().is_some_and(|before| before.status == Status::Ongoing);
        if is_v2 && is_open && response.error_code == 0 {
            let present = self.processes[ending.process].identity;
            assert_eq!(present, Some(ending.identity), "a late EndTxn has ended a later transaction");
        }
        let answer = (response.error_code == 0).then(|| {
            let identity =
                if is_v2 { (response.producer_id, response.producer_epoch) } else { ending.identity };
            Answer::Ended(ending.process, ending, identity)
        });
        self.take(effects, answer);
    }

    fn deliver(&mut self, marker: &Marker, refuses: bool) {
        let mut outcomes = Vec::new();
        for (topic, indexes) in &marker.partitions {
            for (position, &index) in indexes.iter().enumerate() {
                let partition = (topic.clone(), index);
                let outcome =
                    if refuses && position == 0 { MarkerOutcome::Refused } else { MarkerOutcome::Done };
                if outcome == MarkerOutcome::Done && self.is_present(marker) {
                    self.marked.entry(marker.transactional_id.clone()).or_default().insert(partition.clone());
                }
                outcomes.push((partition, outcome));
            }
        }
        let (id, producer) = (&marker.transactional_id, (marker.producer_id, marker.producer_epoch));
        let ((), effects) = self.host.call(|ledger, turn| ledger.on_markers(turn, id, producer, &outcomes));
        self.take(effects, None);
    }

    /// Whether a marker is of the transaction that is being ended, and of this coordinator.
    fn is_present(&self, marker: &Marker) -> bool {
        self.last.get(&marker.transactional_id).is_some_and(|last| {
            last.status.is_prepared()
                && (last.producer_id, last.epoch) == (marker.producer_id, marker.producer_epoch)
        })
    }

    fn advance(&mut self, by: Duration) {
        let end = self.host.now.instant + by;
        while let Some(at) = self.host.ledger.next_timeout(self.host.now).filter(|&at| at <= end) {
            self.host.advance(at.saturating_sub(self.host.now.instant));
            let (_, effects) = self.host.call(|ledger, turn| ledger.on_timeout(turn));
            self.take(effects, None);
        }
        self.host.advance(end - self.host.now.instant);
    }

    fn crash(&mut self) {
        self.host.crash();
        self.markers.clear();
        // What was lost was told to nobody, and is told anew from what is left.
        self.decided.clear();
        self.epochs.clear();
        self.last.clear();
        self.seen = 0;
        self.follow(false);
        assert_eq!(&compacted_state(&self.host.config, &self.host.log), self.host.ledger.state());
        // Partitions keep the markers that they have, but who has them is asked again.
        self.marked.clear();
        let ((), effects) = self.host.call(|ledger, turn| ledger.on_loaded(turn));
        self.take(effects, None);
    }

    fn take(&mut self, effects: Effects, answer: Option<Answer>) {
        self.follow(true);
        self.host.hold(answer.into_iter().collect(), effects.markers);
    }

    fn commit_log(&mut self) {
        for (answers, markers) in self.host.commit() {
            self.markers.extend(markers);
            for answer in answers {
                match answer {
                    Answer::Identity(process, identity) => self.give(process, identity),
                    Answer::Ended(process, ending, identity) => {
                        let decided = self.decided.get(&ending.identity);
                        if self.processes[process].is_v2 {
                            let meant = if ending.commits { TxnResult::Commit } else { TxnResult::Abort };
                            assert_eq!(decided, Some(&meant), "what was answered is what was decided");
                        }
                        if self.processes[process].identity == Some(ending.identity) {
                            self.give(process, identity);
                        }
                    }
                }
            }
        }
    }

    fn give(&mut self, process: usize, identity: Identity) {
        assert!(identity.1 < i16::MAX, "invariant 5: no client has the greatest epoch");
        let owner = *self.owners.entry(identity).or_insert(process);
        assert_eq!(owner, process, "invariant 4: {identity:?} has one owner");
        self.processes[process].identity = Some(identity);
    }

    /// Follows what the ledger has written, record by record; `is_live` if it has just done so.
    fn follow(&mut self, is_live: bool) {
        while let Some(record) = self.host.log.get(self.seen).cloned() {
            self.seen += 1;
            let read = replayed(&self.host.config, 0, std::slice::from_ref(&record));
            let Some((id, next)) = read.state().transactions().next() else {
                self.last.retain(|id, _| !record.key.ends_with(id.as_bytes()));
                continue;
            };
            let epoch = self.epochs.entry(next.producer_id.0).or_insert(next.epoch.0);
            assert!(*epoch <= next.epoch.0, "invariant 5: epochs never go back");
            *epoch = next.epoch.0;
            let was = self.last.insert(id.clone(), next.clone());
            let was_status = was.as_ref().map(|was| was.status);
            match next.status {
                Status::Prepare(result) => {
                    assert!(!was_status.is_some_and(Status::is_prepared), "invariant 2");
                    if let Some(was) = was.filter(|was| was.epoch != next.epoch) {
                        let former = self.decided.insert((was.producer_id.0, was.epoch.0), result);
                        assert_eq!(former, None, "a transaction is decided once");
                    }
                    self.marked.remove(id);
                }
                Status::Complete(result) => {
                    assert_eq!(was_status, Some(Status::Prepare(result)), "invariant 2");
                    let was = was.expect("it was being ended");
                    let marked = self.marked.remove(id).unwrap_or_default();
                    let missing = was.partitions.iter().flat_map(|(topic, indexes)| {
                        indexes.iter().map(move |&index| (topic.clone(), index))
                    });
                    if is_live {
                        for partition in missing {
                            assert!(marked.contains(&partition), "invariant 3: {partition:?} has its marker");
                        }
                    }
                }
                Status::Empty | Status::Ongoing => {}
            }
        }
    }

    fn check_ledger(&self) {
        let state = self.host.ledger.state();
        assert_eq!(replayed(&self.host.config, 0, &self.host.log).state(), state, "invariant 1");
        let bytes: usize = state.transactions().map(|(id, transaction)| transaction.bytes(id)).sum();
        assert_eq!(state.bytes(), bytes);
        for (id, transaction) in state.transactions() {
            assert_eq!(
                transaction.status.is_prepared(),
                self.host.ledger.unwritten.contains_key(id),
                "what is being ended waits for markers"
            );
        }
    }

    /// If all goes well for a while, every transaction ends, and every process can begin another one.
    fn settle(&mut self) {
        for _ in 0..10 {
            self.commit_log();
            for marker in std::mem::take(&mut self.markers) {
                self.deliver(&marker, false);
            }
            self.advance(Duration::from_secs(1));
            self.check_ledger();
        }
        for (id, transaction) in self.host.ledger.state().transactions() {
            assert!(
                matches!(transaction.status, Status::Empty | Status::Complete(_)),
                "{id} has come to rest"
            );
        }
        for process in 0..PROCESSES {
            self.init(process, (-1, -1));
            self.commit_log();
            self.add(process, 0);
            let status = self.host.ledger.state().transaction(&id_of(process)).map(|known| known.status);
            assert_eq!(status, Some(Status::Ongoing));
            let identity = self.processes[process].identity.expect("it was just initialized");
            self.end(Ending { process, identity, commits: true });
            self.commit_log();
            for marker in std::mem::take(&mut self.markers) {
                self.deliver(&marker, false);
            }
            self.commit_log();
            let described = self.host.ledger.describe(&id_of(process));
            assert_eq!(described.transaction_state, "CompleteCommit");
        }
    }
}
