//! Requests of a producer, and what their answers mean for its batches.

use std::collections::BTreeMap;

use dohle_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use dohle_protocol::messages::produce_response::PartitionProduceResponse;
use dohle_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProduceResponse};
use dohle_types::time::Instant;
use dohle_types::{
    BrokerId, ErrorCode, Now, Offset, PartitionIndex, ProducerEpoch, ProducerId, Str, TopicId,
};

use super::partition::{Batch, BatchRef, Partition, Unsealed};
use super::transaction::Transactions;
use super::{Acks, Delivery, DeliveryError, Identification, Identity, Producer};
use crate::cluster::{Reply, Route};
use crate::group::coordinator::Kind;
use crate::metadata::error_of;
use crate::{Effects, Failure};

/// What a reply belongs to.
#[derive(Debug)]
pub(super) enum Token {
    /// A request for a producer id.
    Identify,
    /// A request with these batches.
    Produce(Vec<BatchRef>),
    /// A question for the coordinator of the producer's transactions, or of the group whose offsets it commits.
    FindCoordinator(Kind),
    /// Offsets of a group are part of the transaction.
    CommitOffsets,
    /// A transaction is to be ended.
    EndTransaction,
}

/// A request that is being put together.
#[derive(Default)]
struct Draft {
    size: usize,
    topics: Vec<TopicProduceData>,
    batches: Vec<BatchRef>,
}

/// Around the batch of a partition: its number, lengths, tagged fields, its topic's id or short name.
const OVERHEAD_PER_BATCH: usize = 64;

impl Producer {
    pub(super) fn on_reply(&mut self, now: Now, reply: Reply<Token>) {
        match &reply.token {
            Token::Identify => self.on_identified(now, &reply),
            Token::Produce(_) => self.on_produced(now, reply),
            Token::FindCoordinator(Kind::Transaction) => self.on_coordinator_found(now, &reply),
            Token::FindCoordinator(Kind::Group) => self.on_group_coordinator_found(now, &reply),
            Token::CommitOffsets => self.on_offsets_committed(now, &reply),
            Token::EndTransaction => self.on_ended(now, &reply),
        }
    }

    /// Asks for a producer id if there is none.
    pub(super) fn identify(&mut self, now: Now, effects: &mut Effects) {
        let Identification::Wanted { at, failures } = self.identification else { return };
        if at > now.instant {
            return;
        }
        let (route, request) = if self.transactions.is_some() {
            match self.identification_request(now, effects) {
                None => return,
                Some(Ok(request)) => request,
                Some(Err(error)) => {
                    self.identification = Identification::Refused(error);
                    return;
                }
            }
        } else {
            let Some(route) = self.cluster.any_route(now, effects) else { return };
            let request = InitProducerIdRequest {
                transactional_id: None,
                transaction_timeout_ms: i32::MAX,
                producer_id: ProducerId::NONE.0,
                producer_epoch: ProducerEpoch::NONE.0,
                ..InitProducerIdRequest::default()
            };
            (route, request)
        };
        self.identification = match self.cluster.send(now, route, &request, Token::Identify, effects) {
            Ok(()) => Identification::Asked { failures },
            Err(failure) => Identification::Refused(failure.into()),
        };
    }

    fn on_identified(&mut self, now: Now, reply: &Reply<Token>) {
        let Identification::Asked { failures } = self.identification else { return };
        self.identification = match reply.decode::<InitProducerIdRequest>() {
            Ok(response) if response.error_code == ErrorCode::None.code() => {
                Identification::Known(Some(Identity {
                    id: ProducerId(response.producer_id),
                    epoch: ProducerEpoch(response.producer_epoch),
                }))
            }
            Ok(response) if !error_of(response.error_code).is_retriable() => {
                let error = error_of(response.error_code);
                Identification::Refused(DeliveryError::Refused { error, message: None })
            }
            Err(failure) if !failure.is_retriable() => Identification::Refused(failure.into()),
            again @ (Ok(_) | Err(_)) => {
                self.on_coordinator_error(now, again.ok().map(|response| error_of(response.error_code)));
                let failures = failures + 1;
                let wait = self.config.cluster.retry_backoff.after(failures, self.cluster.rng());
                Identification::Wanted { at: now.after(wait), failures }
            }
        };
    }

    /// Notices batches that waited long enough, partitions that may be tried again, and records that were not
    /// delivered in time.
    pub(super) fn on_timeout(&mut self, now: Now) {
        while let Some(&(at, BatchRef { slot, serial })) = self.lingering.front()
            && at <= now.instant
        {
            self.lingering.pop_front();
            if let Some(partition) =
                self.partitions.get_mut(slot).filter(|it| it.open_serial() == Some(serial))
            {
                partition.open_is_due = true;
                self.list(slot);
            }
        }
        while let Some(&(at, slot)) = self.backing_off.first()
            && at <= now.instant
        {
            self.backing_off.pop_first();
            self.list(slot);
        }
        if self.expiry_check_at <= now.instant {
            // Often enough for timeouts of minutes, seldom enough to look at every partition.
            self.expiry_check_at = now.after(self.config.delivery_timeout / 64);
            self.expire(now);
        }
    }

    fn expire(&mut self, now: Now) {
        let Some(too_old) = now.instant.checked_sub(self.config.delivery_timeout) else { return };
        for slot in 0..self.partitions.len() {
            let Some(partition) = self.partitions.get_mut(slot) else { continue };
            if partition.oldest().is_none_or(|oldest| oldest > too_old) {
                continue;
            }
            self.seal(slot);
            self.give_up_waiting(slot, too_old, None);
        }
    }

    /// Gives up the batches of a partition that were begun by then and are not in flight.
    pub(super) fn give_up_waiting(&mut self, slot: usize, created: Instant, reason: Option<&DeliveryError>) {
        let waiting = self.partitions.get(slot).map(|it| it.waiting_since(created)).unwrap_or_default();
        for serial in waiting {
            self.give_up(BatchRef { slot, serial }, reason.cloned());
        }
    }

    /// Remembers that a partition has something to send, if it has.
    pub(super) fn list(&mut self, slot: usize) {
        if let Some(partition) = self.partitions.get_mut(slot).filter(|it| !it.listed && it.has_due()) {
            partition.listed = true;
            self.ready.push_back(slot);
        }
    }

    /// Closes a partition's open batch.
    pub(super) fn seal(&mut self, slot: usize) {
        let Some(partition) = self.partitions.get_mut(slot) else { return };
        match partition.seal(&mut self.compressor) {
            Ok(saved) => self.buffered_bytes -= saved,
            Err(Unsealed { tags, buffered, error }) => {
                self.buffered_bytes -= buffered;
                self.buffered_batches -= 1;
                let reason = DeliveryError::NotBuilt { reason: error.to_string() };
                if let Some(transactions) = &mut self.transactions {
                    transactions.on_given_up(&reason);
                }
                self.deliveries.push_back(Delivery {
                    topic: partition.topic.clone(),
                    partition: partition.index,
                    result: Err(reason),
                    tags,
                });
            }
        }
    }

    /// Sends what is ready, in one request for each broker at a time, while connections take requests.
    pub(super) fn send_ready(&mut self, now: Now, effects: &mut Effects) {
        loop {
            let drafts = self.draft(now, effects);
            if drafts.is_empty() {
                return;
            }
            for (broker, draft) in drafts {
                self.send_draft(now, broker, draft, effects);
            }
        }
    }

    /// One request for each broker that takes one, of the batches that are ready for it.
    fn draft(&mut self, now: Now, effects: &mut Effects) -> BTreeMap<BrokerId, Draft> {
        let in_flight_max = if self.config.idempotent { self.config.cluster.max_in_flight.min(5) } else { 1 };
        let mut drafts = BTreeMap::new();
        let mut slots: BTreeMap<BrokerId, usize> = BTreeMap::new();
        for _ in 0..self.ready.len() {
            let Some(slot) = self.ready.pop_front() else { break };
            let Some(partition) = self.partitions.get_mut(slot) else { continue };
            partition.listed = false;
            if partition.should_seal(now, in_flight_max) {
                self.seal(slot);
            }
            let Some(partition) = self.partitions.get_mut(slot) else { continue };
            // Whatever holds a partition up lists it again: an answer, the end of a backoff.
            let Some(position) = partition.next_to_send(now, in_flight_max) else { continue };
            partition.listed = true;
            let described = self.cluster.metadata().topic(&partition.topic);
            let leader = described.and_then(|topic| topic.partition(partition.index)?.leader);
            let (Some(leader), Some(described)) = (leader, described) else {
                self.cluster.refresh_metadata(now);
                self.ready.push_back(slot);
                continue;
            };
            let topic_id = described.id;
            let free =
                slots.entry(leader).or_insert_with(|| self.cluster.slots(now, Route::data(leader), effects));
            let draft: &mut Draft = if *free > 0 {
                drafts.entry(leader).or_default()
            } else {
                self.ready.push_back(slot);
                continue;
            };
            let size = partition.size_of(position) + OVERHEAD_PER_BATCH;
            if draft.size > 0 && draft.size + size > self.config.request_size_max {
                self.ready.push_back(slot);
                continue;
            }
            draft.add(slot, size, topic_id, partition, position);
            partition.listed = false;
            if partition.has_due() {
                partition.listed = true;
                self.ready.push_back(slot);
            }
        }
        drafts
    }

    fn send_draft(&mut self, now: Now, broker: BrokerId, draft: Draft, effects: &mut Effects) {
        let Draft { topics, batches, .. } = draft;
        let acks = match self.config.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        };
        let timeout = self.config.cluster.request_timeout.as_millis();
        let request = ProduceRequest {
            transactional_id: self.transactions.as_ref().map(|it| it.id().clone()),
            acks,
            timeout_ms: i32::try_from(timeout).unwrap_or(i32::MAX),
            topic_data: topics,
        };
        let route = Route::data(broker);
        let sent = if acks == 0 {
            self.cluster.send_unanswered(now, route, &request, effects)
        } else {
            self.cluster.send(now, route, &request, Token::Produce(batches.clone()), effects)
        };
        for batch in batches {
            match &sent {
                Ok(()) if acks == 0 => self.complete(batch, Ok(None)),
                Ok(()) => {}
                Err(failure) => self.on_failure(now, batch, failure),
            }
        }
    }

    fn on_produced(&mut self, now: Now, reply: Reply<Token>) {
        let response = reply.decode::<ProduceRequest>();
        let Token::Produce(batches) = reply.token else { return };
        match response {
            Ok(response) => self.on_produce_response(now, batches, response),
            Err(failure) => {
                for batch in batches {
                    self.on_failure(now, batch, &failure);
                }
            }
        }
    }

    fn on_produce_response(&mut self, now: Now, batches: Vec<BatchRef>, response: ProduceResponse) {
        let mut unanswered = batches;
        for topic in response.responses {
            let name = match TopicId(topic.topic_id) {
                TopicId::ZERO => Some(topic.name),
                id => self.cluster.metadata().topic_by_id(id).map(|(name, _)| name.clone()),
            };
            for answer in topic.partition_responses {
                // Brokers answer in the order of the request, or nearly so.
                let index = PartitionIndex(answer.index);
                let found = unanswered.iter().position(|batch| {
                    self.partitions.get(batch.slot).is_some_and(|it| {
                        it.index == index && name.as_ref().is_none_or(|name| *name == it.topic)
                    })
                });
                if let Some(position) = found {
                    let batch = unanswered.remove(position);
                    self.on_answer(now, batch, answer);
                }
            }
        }
        for batch in unanswered {
            self.on_failure(now, batch, &Failure::OutOfOrder);
        }
    }

    fn on_answer(&mut self, now: Now, batch: BatchRef, answer: PartitionProduceResponse) {
        let error = error_of(answer.error_code);
        let gap = matches!(
            error,
            ErrorCode::OutOfOrderSequenceNumber
                | ErrorCode::UnknownProducerId
                | ErrorCode::InvalidProducerEpoch
        );
        if error == ErrorCode::None {
            let offset = (answer.base_offset >= 0).then_some(Offset(answer.base_offset));
            self.complete(batch, Ok(offset));
        } else if error == ErrorCode::DuplicateSequenceNumber {
            // An earlier attempt was written; its offset is forgotten.
            self.complete(batch, Ok(None));
        } else if error.is_retriable() || (gap && self.comes_again(batch, error)) {
            self.retry(now, batch, Some(error), gap);
        } else {
            let message = answer.error_message.or_else(|| {
                answer.record_errors.into_iter().find_map(|record| record.batch_index_error_message)
            });
            self.give_up(batch, Some(DeliveryError::Refused { error, message }));
        }
    }

    /// Whether a batch that does not follow on what the broker has is sent again. In a transaction only if the one
    /// before it comes again, too: under another epoch it would not be part of it.
    fn comes_again(&self, batch: BatchRef, error: ErrorCode) -> bool {
        let is_first = || self.partitions.get(batch.slot).is_some_and(|it| it.is_first(batch.serial));
        match self.transactions {
            None => self.config.idempotent,
            Some(_) => error == ErrorCode::OutOfOrderSequenceNumber && !is_first(),
        }
    }

    fn on_failure(&mut self, now: Now, batch: BatchRef, failure: &Failure) {
        if failure.is_retriable() {
            self.retry(now, batch, None, false);
        } else {
            self.give_up(batch, Some(failure.clone().into()));
        }
    }

    fn retry(&mut self, now: Now, batch: BatchRef, error: Option<ErrorCode>, gap: bool) {
        self.cluster.refresh_metadata(now);
        let Some(partition) = self.partitions.get_mut(batch.slot) else { return };
        let Some((attempts, created)) = partition.batch(batch.serial).map(|it| (it.attempts, it.created))
        else {
            return;
        };
        partition.put_back(batch.serial, error, gap);
        let wait = self.config.cluster.retry_backoff.after(attempts, self.cluster.rng());
        partition.retry_at = now.after(wait);
        self.backing_off.insert((partition.retry_at, batch.slot));
        if self.transactions.as_ref().is_some_and(Transactions::is_aborting) {
            self.give_up(batch, Some(DeliveryError::Aborted));
        } else if created.saturating_add(self.config.delivery_timeout) <= now.instant {
            self.give_up(batch, None);
        }
    }

    fn complete(&mut self, batch: BatchRef, result: Result<Option<Offset>, DeliveryError>) {
        let Some(partition) = self.partitions.get_mut(batch.slot) else { return };
        if let Some(done) = partition.complete(batch.serial) {
            self.report(batch.slot, done, result);
        }
        self.list(batch.slot);
    }

    /// Reports a batch as not delivered: for the given reason, or because its time is up.
    fn give_up(&mut self, batch: BatchRef, reason: Option<DeliveryError>) {
        let Some(partition) = self.partitions.get_mut(batch.slot) else { return };
        if let Some(given_up) = partition.remove(batch.serial) {
            let reason = reason.unwrap_or(DeliveryError::Expired { last: given_up.last_error });
            self.report(batch.slot, given_up, Err(reason));
        }
        self.list(batch.slot);
    }

    fn report(&mut self, slot: usize, batch: Batch, result: Result<Option<Offset>, DeliveryError>) {
        self.buffered_bytes -= batch.buffered;
        self.buffered_batches -= 1;
        if let (Some(transactions), Err(reason)) = (&mut self.transactions, &result) {
            transactions.on_given_up(reason);
        }
        let Some(Partition { topic, index, .. }) = self.partitions.get(slot) else { return };
        self.deliveries.push_back(Delivery {
            topic: topic.clone(),
            partition: *index,
            result,
            tags: batch.tags,
        });
    }
}

impl Draft {
    fn add(
        &mut self,
        slot: usize,
        size: usize,
        topic_id: TopicId,
        partition: &mut Partition,
        position: usize,
    ) {
        let Some((serial, records)) = partition.launch(position) else { return };
        self.size += size;
        self.batches.push(BatchRef { slot, serial });
        let data = PartitionProduceData { index: partition.index.0, records: Some(records) };
        let same = |topic: &&mut TopicProduceData| topic.name == partition.topic;
        match self.topics.iter_mut().rev().find(same) {
            Some(topic) => topic.partition_data.push(data),
            None => self.topics.push(new_topic(&partition.topic, topic_id, data)),
        }
    }
}

fn new_topic(name: &Str, topic_id: TopicId, data: PartitionProduceData) -> TopicProduceData {
    TopicProduceData { name: name.clone(), topic_id: topic_id.0, partition_data: vec![data] }
}
