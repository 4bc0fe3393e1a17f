//! The host of the transaction ledgers: one for each partition of `__transaction_state` on this node.

use std::collections::BTreeMap;
use std::time::Duration;

use dohle_configs::{BrokerConfig, broker};
use dohle_controller::TRANSACTION_STATE_TOPIC;
use dohle_ledger::{CommitQueue, partition_for};
use dohle_protocol::Message;
use dohle_records::{BatchHeader, Record as LoggedRecord};
use dohle_transactions::state::{TransactionVersion, TxnResult};
use dohle_transactions::{
    Effects, Marker, MarkerOutcome, Progress, Record, Replayed, TransactionLedger, TransactionsConfig, Turn,
};
use dohle_types::time::Instant;
use dohle_types::{ErrorCode, Offset, ProducerEpoch, ProducerId, Str, TopicId};

use crate::connection::Call;
use crate::gathered::Gathered;
use crate::ledger_hosts::{Gathering, Held, Then};
use crate::node::{Node, Phase};
use crate::partition::{PartitionKey, Waiter};
use crate::purgatory::Parked;
use crate::txn_markers::TxnMarker;
use crate::txn_produce::TxnProduces;

const COORDINATOR_GONE: &str = "the transaction coordinator is gone";

/// All transaction ledgers of this node.
#[derive(Debug)]
pub struct TxnHosts {
    config: TransactionsConfig,
    hosts: BTreeMap<i32, TxnHost>,
    pub(crate) produces: TxnProduces,
}

#[derive(Debug)]
struct TxnHost {
    ledger: TransactionLedger,
    partition: PartitionKey,
    /// Until then it is replayed and answers nobody.
    loaded: bool,
    /// The log's end after the ledger's last batch.
    appended: Offset,
    held: CommitQueue<Held>,
    gathered: Gathered,
}

impl TxnHost {
    /// Takes up what the ledger has written.
    fn gather(&mut self, records: Vec<Record>) {
        for record in records {
            if let Err(error) = self.ledger.replay(&record.key, record.value.as_ref()) {
                unreachable!("a ledger reads what it wrote: {error}");
            }
            let size = record.size();
            self.gathered.add(record.key, record.value, size);
        }
    }
}

/// A marker that is on its way into partitions.
#[derive(Debug)]
pub struct WrittenMarker {
    index: i32,
    transactional_id: Str,
    producer: (ProducerId, ProducerEpoch),
    /// Those whose commit is waited for, by their place.
    partitions: Vec<(Str, i32)>,
    outstanding: usize,
}

impl TxnHosts {
    /// No ledgers yet.
    #[must_use]
    pub fn new(config: &BrokerConfig) -> Self {
        let expiration_ms = config.value(broker::TRANSACTIONAL_ID_EXPIRATION_MS);
        let config = TransactionsConfig {
            timeout_ms_max: config.value(broker::TRANSACTION_MAX_TIMEOUT_MS),
            transactional_id_expiration: Duration::from_millis(u64::try_from(expiration_ms).unwrap_or(1)),
            ..TransactionsConfig::default()
        };
        Self { config, hosts: BTreeMap::new(), produces: TxnProduces::default() }
    }

    /// When the next ledger wants to be called.
    #[must_use]
    pub fn next_timeout(&self, now: dohle_types::Now) -> Option<Instant> {
        let loaded = self.hosts.values().filter(|host| host.loaded);
        loaded.filter_map(|host| host.ledger.next_timeout(now)).min()
    }

    /// The ledgers that answer.
    pub fn loaded(&self) -> impl Iterator<Item = (i32, &TransactionLedger)> {
        self.hosts.iter().filter(|(_, host)| host.loaded).map(|(&index, host)| (index, &host.ledger))
    }

    /// Whether some ledger is still being loaded.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.hosts.values().any(|host| !host.loaded)
    }
}

impl Node {
    /// A partition of the topic is here: its ledger will be loaded from it.
    pub(crate) fn add_txn_host(&mut self, index: i32, partition: PartitionKey) {
        let epoch = self.partitions.by_key(partition).map_or(0, |partition| partition.leader_epoch.0);
        let host = TxnHost {
            ledger: TransactionLedger::new(self.txns.config.clone(), epoch),
            partition,
            loaded: false,
            appended: Offset::ZERO,
            held: CommitQueue::default(),
            gathered: Gathered::default(),
        };
        self.txns.hosts.insert(index, host);
    }

    /// A partition of the topic is gone, and with it its transactional ids.
    pub(crate) fn remove_txn_host(&mut self, index: i32) {
        let Some(mut host) = self.txns.hosts.remove(&index) else { return };
        let held: Vec<Held> = host.held.abandon().chain(host.gathered.into_held()).collect();
        for held in held {
            match held {
                Held::Answer(call, _) | Held::TxnOffsetCommit(call, _) => self.close(&call, COORDINATOR_GONE),
                Held::Markers(..) => {}
                Held::Produce(asked) => self.abandon_asked_produce(&asked),
                Held::Part(_)
                | Held::Metadata(..)
                | Held::FindCoordinator(..)
                | Held::InitProducerId(..)
                | Held::EndTxn(..)
                | Held::AddOffsets(..) => self.let_go(held),
            }
        }
    }

    /// Replays one record at start. What cannot be read is passed over: the rest of the ids go on.
    pub(crate) fn replay_txn_record(&mut self, index: i32, header: &BatchHeader, record: LoggedRecord) {
        let Some(host) = self.txns.hosts.get_mut(&index).filter(|_| !header.attributes.is_control()) else {
            return;
        };
        match host.ledger.replay(&record.key.unwrap_or_default(), record.value.as_ref()) {
            Ok(Replayed::Applied) => {}
            Ok(Replayed::Skipped { record_type }) => {
                tracing::warn!(
                    partition = index,
                    record_type,
                    "a record of {TRANSACTION_STATE_TOPIC} is of no known type"
                );
            }
            Err(error) => {
                tracing::warn!(partition = index, %error, "a record of {TRANSACTION_STATE_TOPIC} is passed over");
            }
        }
    }

    /// The ledger's log is replayed: it answers from now on, and goes on with what was being ended.
    pub(crate) fn on_txns_loaded(&mut self, index: i32) {
        if let Some(host) = self.txns.hosts.get_mut(&index) {
            host.loaded = true;
        }
        self.run_txns(index, |ledger, turn| ledger.on_loaded(turn));
        self.end_all_left_open();
    }

    /// The ledger's log was committed further: what it said may be told, and what it decided be done.
    pub(crate) fn on_txn_log_committed(&mut self, index: i32) {
        let Some(host) = self.txns.hosts.get(&index) else { return };
        let committed = self.partitions.by_key(host.partition).map(|partition| partition.high_watermark());
        let Some(committed) = committed else { return };
        while let Some(held) = self.txns.hosts.get_mut(&index).and_then(|host| host.held.release(committed)) {
            self.let_go(held);
        }
        self.write_txns_gathered(index, None);
    }

    /// Takes up what a ledger has written, and appends it when it is time. `None` where the log takes no more, and the
    /// ledger is gone.
    fn gather_txns(&mut self, index: i32, records: Vec<Record>) -> Option<()> {
        let bytes_max = self.txns.config.batch_bytes_max;
        let host = self.txns.hosts.get(&index)?;
        // What is decided together stays in one batch, if it fits.
        if host.gathered.bytes() + records.iter().map(Record::size).sum::<usize>() > bytes_max {
            self.write_txns_gathered(index, Some(0))?;
        }
        self.txns.hosts.get_mut(&index)?.gather(records);
        self.write_txns_gathered(index, Some(bytes_max))
    }

    /// Appends what the ledgers have gathered, for the node stops.
    pub(crate) fn write_all_txns_gathered(&mut self) {
        let loaded: Vec<i32> = self.txns.loaded().map(|(index, _)| index).collect();
        for index in loaded {
            self.write_txns_gathered(index, Some(0));
        }
    }

    /// Appends what a ledger has gathered, if nothing of it is on its way to being committed; or if there is more than
    /// so many bytes of it. `None` where that failed, and the ledger is gone.
    fn write_txns_gathered(&mut self, index: i32, or_above: Option<usize>) -> Option<()> {
        let host = self.txns.hosts.get_mut(&index)?;
        let is_committed = |key| self.partitions.by_key(key).is_none_or(|it| it.is_committed(host.appended));
        let is_due =
            or_above.is_some_and(|bytes| host.gathered.bytes() > bytes) || is_committed(host.partition);
        if host.gathered.is_empty() || !is_due {
            return Some(());
        }
        let (partition, gathered) = (host.partition, std::mem::take(&mut host.gathered));
        let end = self.append_gathered(partition, &gathered, self.txns.config.batch_bytes_max);
        let host = self.txns.hosts.get_mut(&index)?;
        let Some(end) = end else {
            // The ledger has promised what is not in the log.
            host.gathered = gathered;
            self.remove_txn_host(index);
            return None;
        };
        host.appended = end;
        gathered.into_held().into_iter().for_each(|held| host.held.hold(end, held));
        Some(())
    }

    /// Calls the ledgers that wanted to be called by now.
    pub(crate) fn on_txn_timeouts(&mut self) {
        let now = self.now;
        let due: Vec<i32> = self
            .txns
            .loaded()
            .filter(|(_, ledger)| ledger.next_timeout(now).is_some_and(|due| due <= now.instant))
            .map(|(index, _)| index)
            .collect();
        for index in due {
            while self.run_txns(index, |ledger, turn| ledger.on_timeout(turn)) == Some(Progress::More) {}
        }
    }

    /// Forgets transactional ids that nobody has used for `transactional.id.expiration.ms`.
    pub(crate) fn expire_transactional_ids(&mut self) {
        let loaded: Vec<i32> = self.txns.loaded().map(|(index, _)| index).collect();
        for index in loaded {
            while self.run_txns(index, |ledger, turn| ledger.expire(turn)) == Some(Progress::More) {}
        }
    }

    /// The ledger that coordinates a transactional id.
    ///
    /// # Errors
    /// It is not here yet; the client asks again.
    pub(crate) fn txn_coordinator_of(&self, transactional_id: &str) -> Result<i32, ErrorCode> {
        let partitions = self.image().topic(TRANSACTION_STATE_TOPIC).map(|topic| topic.partitions.len());
        let partitions = partitions.and_then(|count| i32::try_from(count).ok()).filter(|&count| count > 0);
        let index = partition_for(transactional_id, partitions.ok_or(ErrorCode::CoordinatorNotAvailable)?).0;
        match self.txns.hosts.get(&index) {
            Some(host) if host.loaded => Ok(index),
            Some(_) => Err(ErrorCode::CoordinatorLoadInProgress),
            None => Err(ErrorCode::NotCoordinator),
        }
    }

    /// Lets a ledger act, appends what it wrote, and has its markers written once that is committed. `None` where it is
    /// not here.
    pub(crate) fn run_txns<T>(
        &mut self,
        index: i32,
        act: impl FnOnce(&mut TransactionLedger, &mut Turn<'_>) -> T,
    ) -> Option<T> {
        let version = self.transaction_version();
        let host = self.txns.hosts.get_mut(&index)?;
        let mut effects = Effects::default();
        let ids = &mut self.producer_ids;
        let mut take_producer_id = || ids.take();
        let mut turn =
            Turn { now: self.now, version, take_producer_id: &mut take_producer_id, effects: &mut effects };
        let result = act(&mut host.ledger, &mut turn);
        self.gather_txns(index, effects.records)?;
        for marker in effects.markers {
            self.hold_in_txns(index, Held::Markers(index, Box::new(marker)));
        }
        self.on_txn_log_committed(index);
        Some(result)
    }

    /// Asks a transactional id's ledger for an answer and gives it once it is committed; `refusal` makes the answer
    /// where the ledger is not here.
    pub(crate) fn ask_txns<M: Message>(
        &mut self,
        call: Call,
        transactional_id: &str,
        refusal: impl FnOnce(ErrorCode) -> M,
        act: impl FnOnce(&mut TransactionLedger, &mut Turn<'_>) -> M,
    ) {
        let answered = self.txn_coordinator_of(transactional_id).and_then(|index| {
            let response = self.run_txns(index, act);
            response.map(|response| (index, response)).ok_or(ErrorCode::NotCoordinator)
        });
        match answered {
            Ok((index, response)) => match self.encode(&call, &response) {
                Ok(frame) => self.hold_in_txns(index, Held::Answer(call, frame)),
                Err(error) => self.close(&call, &format!("{} response: {error}", call.key.name())),
            },
            Err(error) => self.reply(&call, &refusal(error)),
        }
    }

    /// Answers a request once what all these ledgers have appended so far is committed.
    pub(crate) fn answer_from_txns<M: Message>(&mut self, indexes: &[i32], call: Call, response: &M) {
        let frame = match self.encode(&call, response) {
            Ok(frame) => frame,
            Err(error) => return self.close(&call, &format!("{} response: {error}", call.key.name())),
        };
        match indexes {
            [] => self.send(&call, Some(frame)),
            &[index] => self.hold_in_txns(index, Held::Answer(call, frame)),
            _ => {
                let (id, connection) = (self.purgatory.next_id(), call.connection);
                let gathering = Gathering { call, then: Then::Answer(frame), outstanding: indexes.len() };
                self.purgatory.park(id, Some(connection), Parked::Gathering(Box::new(gathering)), None);
                for &index in indexes {
                    self.hold_in_txns(index, Held::Part(id));
                }
            }
        }
    }

    /// What the cluster's `transaction.version` is.
    fn transaction_version(&self) -> TransactionVersion {
        let level = self.image().finalized_features().find(|(name, _)| *name == "transaction.version");
        TransactionVersion(level.map_or(0, |(_, level)| level))
    }

    pub(crate) fn hold_in_txns(&mut self, index: i32, held: Held) {
        match self.txns.hosts.get_mut(&index) {
            Some(host) if host.gathered.is_empty() => {
                host.held.hold(host.appended, held);
                self.on_txn_log_committed(index);
            }
            Some(host) => host.gathered.hold(held),
            None => self.let_go(held),
        }
    }

    /// Writes the markers of a transaction whose end is committed. A node that stops leaves them to its next start.
    pub(crate) fn write_txn_markers(&mut self, index: i32, marker: Marker) {
        if matches!(self.phase, Phase::Stopping | Phase::Stopped) {
            return;
        }
        let written = TxnMarker {
            producer_id: marker.producer_id,
            producer_epoch: marker.producer_epoch,
            is_commit: marker.result == TxnResult::Commit,
            coordinator_epoch: marker.coordinator_epoch,
            is_v2: marker.transaction_version.bumps_epochs(),
        };
        let id = self.purgatory.next_id();
        let mut waiting = WrittenMarker {
            index,
            transactional_id: marker.transactional_id,
            producer: (marker.producer_id, marker.producer_epoch),
            partitions: Vec::new(),
            outstanding: 0,
        };
        let mut outcomes = Vec::new();
        for (topic, indexes) in marker.partitions {
            for partition_index in indexes {
                let named = (topic.clone(), partition_index);
                self.open_for_marker(&topic, partition_index);
                match self.append_marker(&written, &topic, partition_index) {
                    Ok((key, end)) => match self.partitions.by_key_mut(key) {
                        Some(partition) if !partition.is_committed(end) => {
                            let place = (0, waiting.partitions.len());
                            partition.acknowledge_when_committed(Waiter { end, parked: id, place });
                            waiting.partitions.push(named);
                            waiting.outstanding += 1;
                        }
                        _ => outcomes.push((named, MarkerOutcome::Done)),
                    },
                    Err(error) => outcomes.push((named, MarkerOutcome::from_error(error))),
                }
            }
        }
        let WrittenMarker { index, ref transactional_id, producer, .. } = waiting;
        if !outcomes.is_empty() {
            self.tell_markers(index, transactional_id, producer, &outcomes);
        }
        if !waiting.partitions.is_empty() {
            self.purgatory.park(id, None, Parked::TxnMarkers(Box::new(waiting)), None);
        }
    }

    /// Has the log opened that a marker goes to. It refuses the marker until then, and is asked again.
    fn open_for_marker(&mut self, topic: &Str, index: i32) {
        let unopened = self.unopened([(TopicId::ZERO, topic.as_str(), index)].into_iter());
        for key in unopened {
            self.open_log(key);
        }
    }

    /// A marker is committed in a partition, or never will be.
    pub(crate) fn on_txn_marker_appended(&mut self, waiter: Waiter, result: Result<(), ErrorCode>) {
        let Some(Parked::TxnMarkers(waiting)) = self.purgatory.parked_mut(waiter.parked) else { return };
        let Some(partition) = waiting.partitions.get(waiter.place.1).cloned() else { return };
        let (index, id, producer) = (waiting.index, waiting.transactional_id.clone(), waiting.producer);
        waiting.outstanding -= 1;
        if waiting.outstanding == 0 {
            self.purgatory.take(waiter.parked);
        }
        if matches!(self.phase, Phase::Stopping | Phase::Stopped) {
            return;
        }
        let outcome = result.map_or_else(MarkerOutcome::from_error, |()| MarkerOutcome::Done);
        self.tell_markers(index, &id, producer, &[(partition, outcome)]);
    }

    /// Tells a ledger what became of its markers. When the last one is written, the producer goes on.
    fn tell_markers(
        &mut self,
        index: i32,
        transactional_id: &Str,
        producer: (ProducerId, ProducerEpoch),
        outcomes: &[((Str, i32), MarkerOutcome)],
    ) {
        self.run_txns(index, |ledger, turn| ledger.on_markers(turn, transactional_id, producer, outcomes));
        let ledger = self.txns.hosts.get(&index).map(|host| &host.ledger);
        let transaction = ledger.and_then(|ledger| ledger.state().transaction(transactional_id));
        if !transaction.is_some_and(|transaction| transaction.status.is_prepared()) {
            self.unblock_produces(transactional_id, true);
        }
    }
}
