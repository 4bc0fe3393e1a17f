//! Fetching: one request at a time to each broker, and what its answer means.

use std::collections::BTreeMap;

use bytes::Bytes;
use dohle_protocol::messages::FetchRequest;
use dohle_protocol::messages::fetch_response::{AbortedTransaction, PartitionData};
use dohle_records::{Batch, BatchError, Batches, ControlRecordKey, ControlRecordType, Decompressor};
use dohle_types::{BrokerId, ErrorCode, Now, Offset, PartitionIndex, TopicId, TopicPartition};

use super::position::{Partition, Position};
use super::session::Wanted;
use super::{Consumer, ConsumerError, ConsumerEvent, Fetched, Fetcher, IsolationLevel, StartAt, Token};
use crate::cluster::{Reply, Route};
use crate::metadata::{check, error_of};
use crate::{Effects, Failure};

impl Consumer {
    /// Asks every broker that leads partitions with known positions, unless it is being asked.
    pub(super) fn fetch(&mut self, now: Now, effects: &mut Effects) {
        if self.buffered_bytes >= self.config.buffer_max {
            return;
        }
        let is_idle = |id| self.fetchers.get(&id).is_none_or(|fetcher: &Fetcher| !fetcher.in_flight);
        if !self.cluster.metadata().brokers().any(|(id, _)| is_idle(id)) {
            return;
        }
        let mut wanted: BTreeMap<BrokerId, BTreeMap<TopicPartition, Wanted>> = BTreeMap::new();
        let ready = self.partitions.iter().filter(|(_, it)| it.retry_at <= now.instant);
        let ready = ready.filter_map(|(partition, it)| match it.position {
            Position::At(offset) => Some((partition.clone(), offset)),
            Position::Unset(_) | Position::Asked(_) | Position::Failed => None,
        });
        for (partition, offset) in ready.collect::<Vec<_>>() {
            let Some(leader) = self.leader(now, &partition) else { continue };
            let topic_id =
                self.cluster.metadata().topic(&partition.topic).map_or(TopicId::ZERO, |topic| topic.id);
            let leader_epoch = self.leader_epoch(&partition);
            let max_bytes = self.config.partition_max_bytes;
            wanted
                .entry(leader)
                .or_default()
                .insert(partition, Wanted { topic_id, offset, leader_epoch, max_bytes });
        }
        for (leader, partitions) in wanted {
            self.fetch_from(now, leader, partitions, effects);
        }
    }

    fn fetch_from(
        &mut self,
        now: Now,
        leader: BrokerId,
        wanted: BTreeMap<TopicPartition, Wanted>,
        effects: &mut Effects,
    ) {
        let isolation_level = self.isolation_code();
        let fetcher = self.fetchers.entry(leader).or_default();
        let route = Route::data(leader);
        if fetcher.in_flight || fetcher.retry_at > now.instant || self.cluster.slots(now, route, effects) == 0
        {
            return;
        }
        let mut request = FetchRequest {
            max_wait_ms: i32::try_from(self.config.fetch_max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.config.fetch_min_bytes,
            max_bytes: self.config.fetch_max_bytes,
            isolation_level,
            ..FetchRequest::default()
        };
        fetcher.session.fill(&mut request, wanted);
        match self.cluster.send(now, route, &request, Token::Fetch(leader), effects) {
            Ok(()) => fetcher.in_flight = true,
            Err(failure) => self.on_fetch_failed(now, leader, &failure),
        }
    }

    pub(super) fn on_fetched(&mut self, now: Now, broker: BrokerId, reply: &Reply<Token>) {
        let fetcher = self.fetchers.entry(broker).or_default();
        fetcher.in_flight = false;
        let response = match reply.decode::<FetchRequest>() {
            Ok(response) => response,
            Err(failure) => return self.on_fetch_failed(now, broker, &failure),
        };
        let error = error_of(response.error_code);
        fetcher.session.on_answer(error, response.session_id);
        if !error.is_none() {
            return self.back_off_fetcher(now, broker);
        }
        fetcher.failures = 0;
        for topic in response.responses {
            let name = match TopicId(topic.topic_id) {
                TopicId::ZERO => Some(topic.topic),
                id => self
                    .fetchers
                    .get(&broker)
                    .and_then(|it| it.session.topic_of(id))
                    .map(|it| it.topic.clone()),
            };
            let Some(name) = name else { continue };
            for data in topic.partitions {
                let partition = TopicPartition::new(name.clone(), PartitionIndex(data.partition_index));
                self.on_partition(now, broker, &partition, data);
            }
        }
    }

    fn on_fetch_failed(&mut self, now: Now, broker: BrokerId, failure: &Failure) {
        if let Some(fetcher) = self.fetchers.get_mut(&broker) {
            fetcher.session.on_failure();
        }
        if failure.is_retriable() {
            return self.back_off_fetcher(now, broker);
        }
        let partitions: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        for partition in partitions {
            self.fail(&partition, failure.clone().into());
        }
    }

    fn back_off_fetcher(&mut self, now: Now, broker: BrokerId) {
        self.cluster.refresh_metadata(now);
        let Some(fetcher) = self.fetchers.get_mut(&broker) else { return };
        fetcher.failures += 1;
        let wait = self.config.cluster.retry_backoff.after(fetcher.failures, self.cluster.rng());
        fetcher.retry_at = now.after(wait);
    }

    fn on_partition(&mut self, now: Now, broker: BrokerId, partition: &TopicPartition, data: PartitionData) {
        let asked =
            self.fetchers.get(&broker).and_then(|it| it.session.asked(partition)).map(|asked| asked.offset);
        let Some(state) = self.partitions.get_mut(partition) else { return };
        let (Position::At(offset), Some(asked)) = (state.position, asked) else { return };
        // An answer to what is not asked any more.
        if offset != asked {
            return;
        }
        match check(data.error_code) {
            Ok(()) => self.on_records(partition, offset, data),
            Err(ErrorCode::OffsetOutOfRange) => self.on_out_of_range(partition, offset),
            Err(error) if error.is_retriable() => self.back_off(now, partition),
            Err(error) => self.fail(partition, ConsumerError::Refused(error)),
        }
    }

    fn on_out_of_range(&mut self, partition: &TopicPartition, offset: Offset) {
        // Another offset might be out of range again, and again.
        let reset =
            self.config.reset.filter(|reset| !matches!(reset, StartAt::Offset(_) | StartAt::Committed));
        match (reset, self.partitions.get_mut(partition)) {
            (Some(reset), Some(state)) => *state = Partition::new(reset),
            (None, _) => self.fail(partition, ConsumerError::OutOfRange(offset)),
            (_, None) => {}
        }
    }

    /// Takes the batches of an answer apart, from `position` on.
    fn on_records(&mut self, partition: &TopicPartition, position: Offset, data: PartitionData) {
        let end = match self.config.isolation {
            IsolationLevel::ReadUncommitted => Offset(data.high_watermark),
            IsolationLevel::ReadCommitted => Offset(data.last_stable_offset),
        };
        let mut aborted = data.aborted_transactions.unwrap_or_default();
        aborted.sort_by_key(|transaction| transaction.first_offset);
        let records = data.records.map(dohle_protocol::Records::into_bytes).unwrap_or_default();
        let next = match self.on_batches(partition, position, records, aborted) {
            Ok(next) => next,
            Err(error) => return self.fail(partition, error),
        };
        let Some(state) = self.partitions.get_mut(partition) else { return };
        state.failures = 0;
        state.position = Position::At(next);
        if next >= end && state.end != Some(next) {
            state.end = Some(next);
            self.events.push_back(ConsumerEvent::End { partition: partition.clone(), offset: next });
        }
    }

    pub(super) fn on_batches(
        &mut self,
        partition: &TopicPartition,
        position: Offset,
        records: Bytes,
        aborted: Vec<AbortedTransaction>,
    ) -> Result<Offset, ConsumerError> {
        let mut next = position;
        let mut aborted = aborted.into_iter().peekable();
        for batch in Batches::new(records) {
            let batch = match batch {
                Ok(batch) => batch,
                // A broker sends what fits: the last batch may be cut off, and comes whole the next time.
                Err(BatchError::Truncated { .. }) if next > position => break,
                Err(reason) => {
                    return Err(ConsumerError::Unreadable { offset: next, reason: reason.to_string() });
                }
            };
            let offset = next;
            let unreadable =
                |reason: BatchError| ConsumerError::Unreadable { offset, reason: reason.to_string() };
            batch.check_crc().map_err(unreadable)?;
            let header = *batch.header();
            let Some(state) = self.partitions.get_mut(partition) else { break };
            while let Some(transaction) = aborted.next_if(|it| it.first_offset <= header.last_offset().0) {
                state.aborted.insert(transaction.producer_id);
            }
            if header.next_offset() <= position {
                continue;
            }
            let from = next.max(position);
            next = header.next_offset();
            if header.attributes.is_control() {
                if ends_aborted(&batch).map_err(unreadable)? {
                    state.aborted.remove(&header.producer_id.0);
                }
            } else if !(header.attributes.is_transactional() && state.aborted.contains(&header.producer_id.0))
            {
                let fetched = Fetched::new(partition.clone(), batch, from);
                self.buffered_bytes += fetched.size_in_bytes();
                self.events.push_back(ConsumerEvent::Records(fetched));
            }
        }
        Ok(next)
    }
}

/// Whether a control batch says that its producer's transaction was aborted.
fn ends_aborted(batch: &Batch) -> Result<bool, BatchError> {
    let record = batch.records(&mut Decompressor::default())?.next().transpose()?;
    let key = record.and_then(|record| record.key).unwrap_or_default();
    Ok(ControlRecordKey::parse(&key).is_ok_and(|key| key.record_type == ControlRecordType::Abort))
}
