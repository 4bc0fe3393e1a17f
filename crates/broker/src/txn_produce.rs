//! What comes before a transactional batch is appended: its coordinator knows the partition as one of the open
//! transaction, and so will end the transaction there (KIP-890).
//!
//! A client before transactions v2 has added the partition, and the coordinator is only asked. For one of transactions v2
//! the partition is added now; if its last transaction is still being ended, the request waits for that.
//!
//! What the coordinator says is acted on when its log is committed, since a crash might otherwise leave a batch that no
//! coordinator knows of. Requests of the producer that come meanwhile wait behind, so that none overtakes another.

use std::collections::BTreeMap;
use std::time::Duration;

use dohle_configs::broker;
use dohle_protocol::messages::ProduceRequest;
use dohle_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use dohle_records::BatchHeader;
use dohle_types::{ErrorCode, FastMap, ProducerEpoch, ProducerId, Str, TopicId};

use crate::connection::Call;
use crate::handlers::k00_produce;
use crate::ledger_hosts::Held;
use crate::node::{Node, Phase};
use crate::partition::Tenant;
use crate::purgatory::{Parked, ParkedId};

/// The version of Produce from which on it adds partitions to transactions.
const ADDS_PARTITIONS: i16 = 12;

/// The partitions of a request whose batches are not appended, by their places in it.
pub(crate) type Refused = BTreeMap<(usize, usize), ErrorCode>;

/// Requests that wait for transactions, by transactional id.
#[derive(Debug, Default)]
pub(crate) struct TxnProduces {
    /// How many wait for the coordinator's log.
    held: FastMap<Str, usize>,
    /// Those that wait for the end of the last transaction.
    blocked: FastMap<Str, Vec<ParkedId>>,
}

/// A request that the coordinator has been asked about.
#[derive(Debug)]
pub struct AskedProduce {
    call: Call,
    request: ProduceRequest,
    refused: Refused,
}

/// A request that waits for the end of the last transaction.
#[derive(Debug)]
pub struct BlockedProduce {
    call: Call,
    request: ProduceRequest,
}

/// A batch that begins a transaction in its partition.
struct Beginning {
    place: (usize, usize),
    topic: Str,
    index: i32,
    producer: (ProducerId, ProducerEpoch),
}

impl Node {
    /// Appends a request with a transactional id, as soon as its coordinator knows of it.
    pub(crate) fn produce_in_transaction(&mut self, call: Call, request: ProduceRequest, may_block: bool) {
        let Some(id) = request.transactional_id.clone() else { return };
        let adds = call.version >= ADDS_PARTITIONS;
        let asks = adds || self.config.value(broker::TRANSACTION_PARTITION_VERIFICATION_ENABLE);
        let beginning = if asks { self.beginning(&request) } else { Vec::new() };
        let mut refused = Refused::new();
        if beginning.is_empty() && !self.txns.produces.held.contains_key(&id) {
            return k00_produce::append_all(self, call, request, &refused);
        }
        let Ok(index) = self.txn_coordinator_of(&id) else {
            refused.extend(beginning.iter().map(|it| (it.place, ErrorCode::NotEnoughReplicas)));
            return k00_produce::append_all(self, call, request, &refused);
        };
        if let Some(first) = beginning.first() {
            let (producer, version) = (first.producer, call.version);
            let codes = self.ask_of(index, &id, producer, &beginning, version);
            let is_blocked = codes.values().any(|&code| code == ErrorCode::ConcurrentTransactions);
            if adds && is_blocked && may_block {
                return self.block_produce(id, BlockedProduce { call, request });
            }
            for it in &beginning {
                let code = codes.get(&(it.topic.clone(), it.index)).filter(|_| it.producer == producer);
                if let Some(error) = refusal(code.copied().unwrap_or(ErrorCode::InvalidProducerIdMapping)) {
                    refused.insert(it.place, error);
                }
            }
        }
        *self.txns.produces.held.entry(id).or_default() += 1;
        self.hold_in_txns(index, Held::Produce(Box::new(AskedProduce { call, request, refused })));
    }

    /// The coordinator's log is committed.
    pub(crate) fn on_produce_asked(&mut self, asked: AskedProduce) {
        self.forget_held_produce(&asked);
        if matches!(self.phase, Phase::Serving) {
            k00_produce::append_all(self, asked.call, asked.request, &asked.refused);
        } else {
            self.close(&asked.call, "the node stops");
        }
    }

    /// The coordinator is gone.
    pub(crate) fn abandon_asked_produce(&mut self, asked: &AskedProduce) {
        self.forget_held_produce(asked);
        self.close(&asked.call, "the transaction coordinator is gone");
    }

    fn forget_held_produce(&mut self, asked: &AskedProduce) {
        let Some(id) = &asked.request.transactional_id else { return };
        if let Some(held) = self.txns.produces.held.get_mut(id) {
            *held -= 1;
            if *held == 0 {
                self.txns.produces.held.remove(id);
            }
        }
    }

    /// The last transaction has not ended in time, upon which the producer tries again; with all that it has sent since,
    /// for none of it may come before this.
    pub(crate) fn on_blocked_produce_expired(&mut self, blocked: BlockedProduce) {
        let transactional_id = blocked.request.transactional_id.clone().unwrap_or_default();
        self.produce_in_transaction(blocked.call, blocked.request, false);
        self.unblock_produces(&transactional_id, false);
    }

    /// What waited for the end of a transaction goes on, for it has ended; or no longer may wait.
    pub(crate) fn unblock_produces(&mut self, transactional_id: &Str, may_block: bool) {
        for id in self.txns.produces.blocked.remove(transactional_id).unwrap_or_default() {
            if let Some((Parked::BlockedProduce(blocked), _)) = self.purgatory.take(id) {
                self.produce_in_transaction(blocked.call, blocked.request, may_block);
            }
        }
    }

    fn block_produce(&mut self, transactional_id: Str, blocked: BlockedProduce) {
        let patience_ms = self.config.value(broker::ADD_PARTITIONS_TO_TXN_RETRY_BACKOFF_MAX_MS);
        let deadline = self.now.after(Duration::from_millis(u64::try_from(patience_ms).unwrap_or_default()));
        let (id, connection) = (self.purgatory.next_id(), blocked.call.connection);
        let parked = self.txns.produces.blocked.entry(transactional_id).or_default();
        // Some were answered at their deadline, or lost their connection.
        parked.retain(|&id| self.purgatory.parked_mut(id).is_some());
        parked.push(id);
        self.purgatory.park(id, Some(connection), Parked::BlockedProduce(Box::new(blocked)), Some(deadline));
    }

    /// The batches of a request that begin a transaction in their partition. What is refused anyway is left out.
    fn beginning(&self, request: &ProduceRequest) -> Vec<Beginning> {
        let mut beginning = Vec::new();
        for (topic_place, topic) in request.topic_data.iter().enumerate() {
            let Ok(topic_id) = self.topic_id(TopicId(topic.topic_id), &topic.name) else { continue };
            for (place, data) in topic.partition_data.iter().enumerate() {
                let bytes = data.records.clone().map(|records| records.into_bytes()).unwrap_or_default();
                let Ok(header) = BatchHeader::parse(&bytes) else { continue };
                let key = self.partitions.key(topic_id, data.index);
                let Some(partition) = key.and_then(|key| self.partitions.by_key(key)) else { continue };
                let Some(log) = partition.log() else { continue };
                let producer = (header.producer_id, header.producer_epoch);
                if header.attributes.is_transactional()
                    && partition.tenant == Tenant::None
                    && !log.has_open_transaction(producer.0, producer.1)
                    && matches!(request.acks, -1..=1)
                {
                    beginning.push(Beginning {
                        place: (topic_place, place),
                        topic: partition.name.topic.clone(),
                        index: data.index,
                        producer,
                    });
                }
            }
        }
        beginning
    }

    /// What a coordinator says of the partitions of a producer.
    fn ask_of(
        &mut self,
        index: i32,
        transactional_id: &Str,
        producer: (ProducerId, ProducerEpoch),
        beginning: &[Beginning],
        produce_version: i16,
    ) -> BTreeMap<(Str, i32), ErrorCode> {
        let mut topics: BTreeMap<&Str, Vec<i32>> = BTreeMap::new();
        let its: Vec<&Beginning> = beginning.iter().filter(|it| it.producer == producer).collect();
        for it in &its {
            topics.entry(&it.topic).or_default().push(it.index);
        }
        let topic =
            |(name, partitions): (&Str, Vec<i32>)| AddPartitionsToTxnTopic { name: name.clone(), partitions };
        let question = AddPartitionsToTxnTransaction {
            transactional_id: transactional_id.clone(),
            producer_id: producer.0.0,
            producer_epoch: producer.1.0,
            verify_only: produce_version < ADDS_PARTITIONS,
            topics: topics.into_iter().map(topic).collect(),
        };
        let version = if produce_version >= 11 { 5 } else { 4 };
        let answer = self.run_txns(index, |ledger, turn| ledger.add_partitions(turn, version, &question));
        let mut codes: BTreeMap<(Str, i32), ErrorCode> =
            its.iter().map(|it| ((it.topic.clone(), it.index), ErrorCode::NotCoordinator)).collect();
        for topic in answer.iter().flat_map(|answer| &answer.topic_results) {
            for partition in &topic.results_by_partition {
                if let Some(code) = codes.get_mut(&(topic.name.clone(), partition.partition_index)) {
                    *code = ErrorCode::from_code(partition.partition_error_code).unwrap_or_default();
                }
            }
        }
        codes
    }
}

/// What Produce answers where the coordinator gives an error.
fn refusal(code: ErrorCode) -> Option<ErrorCode> {
    if matches!(code, ErrorCode::ConcurrentTransactions | ErrorCode::NotCoordinator) {
        // What clients of every age take for a reason to try again, without asking for metadata first.
        Some(ErrorCode::NotEnoughReplicas)
    } else if code == ErrorCode::ProducerFenced {
        Some(ErrorCode::InvalidProducerEpoch)
    } else {
        (!code.is_none()).then_some(code)
    }
}
