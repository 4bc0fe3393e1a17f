//! Transactional producers and their coordinator.

use dohle_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use dohle_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use dohle_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use dohle_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest,
    InitProducerIdRequest, ListTransactionsRequest, OffsetFetchRequest, ProduceRequest, ProduceResponse,
    TxnOffsetCommitRequest,
};
use dohle_records::{Batch, BatchOptions, Batches};
use dohle_types::{ErrorCode, ProducerEpoch, ProducerId, Sequence, TopicId};

use crate::client::{Client, PRODUCE_VERSION, batch, produce_request};
use crate::metrics::{scrape, value};
use crate::process::{Broker, Directory, until};
use crate::transactions::fetch_committed;

pub(crate) const ID: &str = "bank";
pub(crate) const OVERRIDES: &[&str] =
    &["transaction.state.log.num.partitions=1", "dohle.metrics.listeners=127.0.0.1:0"];

/// A producer that takes part in transactions, as clients before transactions v2 do it.
#[derive(Clone, Copy)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

impl Producer {
    /// Fences those that there are of its transactional id.
    pub(crate) fn new(client: &mut Client, timeout_ms: i32) -> Self {
        let request =
            FindCoordinatorRequest { key_type: 1, coordinator_keys: vec![ID.into()], ..Default::default() };
        until("transactions have a coordinator", || {
            (client.call(&request, 6).coordinators[0].error_code == 0).then_some(())
        });
        let request = InitProducerIdRequest {
            transactional_id: Some(ID.into()),
            transaction_timeout_ms: timeout_ms,
            ..Default::default()
        };
        until("the producer has an id", || {
            let response = client.call(&request, 4);
            (response.error_code == 0)
                .then_some(Self { id: response.producer_id, epoch: response.producer_epoch })
        })
    }

    /// Adds partition 0 of a topic to its transaction; the error.
    pub(crate) fn add(self, client: &mut Client, topic: &str) -> i16 {
        let topics = vec![AddPartitionsToTxnTopic { name: topic.into(), partitions: vec![0] }];
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: ID.into(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: topics,
            ..Default::default()
        };
        until("the last transaction has ended", || {
            let response = client.call(&request, 3);
            let topic = &response.results_by_topic_v3_and_below[0];
            let error = topic.results_by_partition[0].partition_error_code;
            (error != ErrorCode::ConcurrentTransactions.code()).then_some(error)
        })
    }

    /// Produces into partition 0 of a topic; the error.
    pub(crate) fn produce(self, client: &mut Client, topic: TopicId, sequence: i32, value: &[u8]) -> i16 {
        let request = self.request(topic, sequence, value);
        produced(&client.call(&request, 11))
    }

    /// The same by a client of transactions v2, for which the broker adds the partition.
    pub(crate) fn produce_v2(self, client: &mut Client, topic: TopicId, sequence: i32, value: &[u8]) -> i16 {
        produced(&client.call(&self.request(topic, sequence, value), PRODUCE_VERSION))
    }

    fn request(self, topic: TopicId, sequence: i32, value: &[u8]) -> ProduceRequest {
        let options = BatchOptions {
            producer_id: ProducerId(self.id),
            producer_epoch: ProducerEpoch(self.epoch),
            base_sequence: Sequence(sequence),
            transactional: true,
            ..BatchOptions::default()
        };
        let mut request = produce_request(topic, 0, batch(options, &[value]));
        // By name before version 13.
        request.topic_data[0].name = "orders".into();
        ProduceRequest { transactional_id: Some(ID.into()), ..request }
    }

    /// Commits an offset of partition 0 of `orders` for group `g`; the error.
    fn commit_offset(self, client: &mut Client, version: i16, offset: i64) -> i16 {
        let partition = TxnOffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
        let request = TxnOffsetCommitRequest {
            transactional_id: ID.into(),
            group_id: "g".into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            topics: vec![TxnOffsetCommitRequestTopic { name: "orders".into(), partitions: vec![partition] }],
            ..Default::default()
        };
        until("the coordinators are there, and the last transaction has ended", || {
            let error = client.call(&request, version).topics[0].partitions[0].error_code;
            let again = [ErrorCode::CoordinatorNotAvailable, ErrorCode::CoordinatorLoadInProgress]
                .map(ErrorCode::code);
            (!again.contains(&error)).then_some(error)
        })
    }

    /// Ends its transaction as clients of transactions v2 do: with the epoch that the next one has.
    pub(crate) fn end_v2(self, client: &mut Client, committed: bool) -> Result<Self, i16> {
        let response = client.call(&self.end_request(committed), 5);
        match response.error_code {
            0 => Ok(Self { id: response.producer_id, epoch: response.producer_epoch }),
            error => Err(error),
        }
    }

    /// Ends its transaction; the error.
    pub(crate) fn end(self, client: &mut Client, committed: bool) -> i16 {
        client.call(&self.end_request(committed), 4).error_code
    }

    fn end_request(self, committed: bool) -> EndTxnRequest {
        EndTxnRequest {
            transactional_id: ID.into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
        }
    }
}

fn produced(response: &ProduceResponse) -> i16 {
    response.responses[0].partition_responses[0].error_code
}

/// Where the coordinator says that the only transactional id stands.
pub(crate) fn state(client: &mut Client) -> String {
    let listed = client.call(&ListTransactionsRequest::default(), 2).transaction_states;
    listed.first().map(|listed| listed.transaction_state.to_string()).unwrap_or_default()
}

#[test]
fn a_transaction_is_read_when_it_is_committed_and_left_out_when_it_is_aborted() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, OVERRIDES);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[]);
    assert_eq!(client.produce(topic, 0, &[b"before"]), 0);
    let producer = Producer::new(&mut client, 60_000);
    assert_eq!(producer.produce(&mut client, topic, 0, b"not added"), ErrorCode::TransactionAbortable.code());
    for (sequence, committed) in [(0, true), (1, false)] {
        assert_eq!(producer.add(&mut client, "orders"), 0);
        assert_eq!(producer.produce(&mut client, topic, sequence, b"of the transaction"), 0);
        let open = fetch_committed(&mut client, topic, 0);
        assert_eq!(open.last_stable_offset, open.high_watermark - 1);
        assert_eq!(producer.end(&mut client, committed), 0);
        until("the marker is there", || {
            let ended = fetch_committed(&mut client, topic, 0);
            (ended.last_stable_offset == ended.high_watermark && ended.high_watermark > open.high_watermark)
                .then_some(())
        });
    }
    let all = fetch_committed(&mut client, topic, 0);
    let aborted: Vec<i64> = all.aborted_transactions.unwrap().iter().map(|it| it.first_offset).collect();
    assert_eq!((all.high_watermark, aborted), (5, vec![3]));
    until("the transaction is complete", || (state(&mut client) == "CompleteAbort").then_some(()));
    let page = scrape(&broker);
    let ended = |result| value(&page, &format!("dohle_transactions_completed_total{{result=\"{result}\"}}"));
    assert_eq!([ended("commit"), ended("abort")], [Some(1.0), Some(1.0)], "{page}");
    assert_eq!(value(&page, "dohle_transactions{state=\"CompleteAbort\"}"), Some(1.0));

    // Left open, and gone on with after a kill: another process with the id aborts it.
    assert_eq!(producer.add(&mut client, "orders"), 0);
    assert_eq!(producer.produce(&mut client, topic, 2, b"left open"), 0);
    broker.kill();
    let broker = Broker::start(&data.0, OVERRIDES);
    let mut client = Client::connect(&broker.address);
    let next = Producer::new(&mut client, 60_000);
    assert_eq!((next.id, next.epoch), (producer.id, producer.epoch + 2));
    assert_eq!(fetch_committed(&mut client, topic, 0).last_stable_offset, 7);
    assert_eq!(producer.end(&mut client, true), ErrorCode::ProducerFenced.code());
    broker.stop();
}

/// The abort goes to a log that stays closed after a clean stop, for nobody asks for it.
#[test]
fn a_transaction_that_is_open_for_too_long_is_aborted_also_after_a_restart() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, OVERRIDES);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[]);
    let producer = Producer::new(&mut client, 1_000);
    assert_eq!(producer.add(&mut client, "orders"), 0);
    assert_eq!(producer.produce(&mut client, topic, 0, b"left open"), 0);
    broker.stop();

    let broker = Broker::start(&data.0, OVERRIDES);
    let mut client = Client::connect(&broker.address);
    until("the transaction is aborted", || (state(&mut client) == "CompleteAbort").then_some(()));
    let aborted = fetch_committed(&mut client, topic, 0);
    assert_eq!((aborted.last_stable_offset, aborted.high_watermark), (2, 2));
    assert_eq!(aborted.aborted_transactions.unwrap().len(), 1);
    assert_eq!(producer.end(&mut client, true), ErrorCode::ProducerFenced.code());
    assert_eq!(value(&scrape(&broker), "dohle_transactions_timed_out_total"), Some(1.0));
}

#[test]
fn a_transaction_does_not_write_to_what_coordinators_keep_for_themselves_or_to_what_is_not_there() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, OVERRIDES);
    let mut client = Client::connect(&broker.address);
    let producer = Producer::new(&mut client, 60_000);
    for (topic, error) in [
        ("__transaction_state", ErrorCode::TopicAuthorizationFailed),
        ("__consumer_offsets", ErrorCode::TopicAuthorizationFailed),
        ("missing", ErrorCode::UnknownTopicOrPartition),
    ] {
        assert_eq!(producer.add(&mut client, topic), error.code(), "{topic}");
    }
    assert_eq!(state(&mut client), "Empty");
}

/// Nothing waits for the end of the transaction before: its producer goes on at once with the next epoch, and what it
/// sends again of the last one touches nothing of the next.
#[test]
fn transactions_of_v2_follow_each_other_at_once_and_are_never_mistaken_for_one_another() {
    let data = Directory::new();
    // What waits for the end of a transaction goes on when it has ended, and not when it may not wait any longer.
    let patient = "add.partitions.to.txn.retry.backoff.max.ms=600000";
    let broker = Broker::start(&data.0, &[OVERRIDES, &[patient]].concat());
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[]);
    let mut producer = Producer::new(&mut client, 60_000);
    for turn in 0..20 {
        assert_eq!(producer.produce_v2(&mut client, topic, 0, b"first"), 0, "transaction {turn}");
        assert_eq!(producer.produce_v2(&mut client, topic, 1, b"second"), 0);
        let last = producer;
        producer = last.end_v2(&mut client, turn % 2 == 0).unwrap();
        assert_eq!((producer.id, producer.epoch), (last.id, last.epoch + 1));
    }
    until("the transaction is complete", || (state(&mut client) == "CompleteAbort").then_some(()));
    let all = fetch_committed(&mut client, topic, 0);
    assert_eq!((all.last_stable_offset, all.high_watermark), (60, 60));
    assert_eq!(all.aborted_transactions.unwrap().len(), 10);

    assert_eq!(producer.produce_v2(&mut client, topic, 0, b"of the next"), 0);
    let late = Producer { epoch: producer.epoch - 1, ..producer };
    assert_eq!(late.end_v2(&mut client, false).err(), Some(ErrorCode::ProducerFenced.code()));
    assert_eq!(
        late.produce_v2(&mut client, topic, 2, b"of the last"),
        ErrorCode::InvalidProducerEpoch.code()
    );
    assert_eq!(state(&mut client), "Ongoing");
    let next = producer.end_v2(&mut client, true).unwrap();
    // Asked again, for the answer was lost.
    until("the transaction is complete", || (state(&mut client) == "CompleteCommit").then_some(()));
    let again = producer.end_v2(&mut client, true).unwrap();
    assert_eq!((again.id, again.epoch), (next.id, next.epoch));
}

/// What group `g` has committed for partition 0 of `orders`, or the error.
fn committed(client: &mut Client, require_stable: bool) -> Result<i64, i16> {
    let topic =
        OffsetFetchRequestTopics { name: "orders".into(), partition_indexes: vec![0], ..Default::default() };
    let group =
        OffsetFetchRequestGroup { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group], require_stable, ..Default::default() };
    until("the group has a coordinator", || {
        let group = client.call(&request, 9).groups.remove(0);
        (group.error_code == 0).then(|| {
            let partition = &group.topics[0].partitions[0];
            if partition.error_code == 0 { Ok(partition.committed_offset) } else { Err(partition.error_code) }
        })
    })
}

#[test]
fn offsets_count_when_their_transaction_is_committed_also_after_a_kill() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, OVERRIDES);
    let mut client = Client::connect(&broker.address);
    client.create_topic("orders", 1, &[]);
    let producer = Producer::new(&mut client, 60_000);
    let add = AddOffsetsToTxnRequest {
        transactional_id: ID.into(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        group_id: "g".into(),
    };
    until("the topic of offsets is there", || (client.call(&add, 3).error_code == 0).then_some(()));
    assert_eq!(producer.commit_offset(&mut client, 3, 5), 0);
    assert_eq!(committed(&mut client, false), Ok(-1));
    assert_eq!(committed(&mut client, true), Err(ErrorCode::UnstableOffsetCommit.code()));
    broker.kill();

    let broker = Broker::start(&data.0, OVERRIDES);
    let mut client = Client::connect(&broker.address);
    assert_eq!(committed(&mut client, true), Err(ErrorCode::UnstableOffsetCommit.code()));
    assert_eq!(producer.end(&mut client, true), 0);
    until("the marker is there", || (committed(&mut client, true) == Ok(5)).then_some(()));

    // By transactions v2, for which nobody adds the offsets; what is aborted never counts.
    assert_eq!(producer.commit_offset(&mut client, 5, 7), 0);
    let producer = producer.end_v2(&mut client, false).unwrap();
    until("the marker is there", || (committed(&mut client, true) == Ok(5)).then_some(()));
    assert_eq!(producer.commit_offset(&mut client, 5, 9), 0);
    let next = producer.end_v2(&mut client, true).unwrap();
    until("the marker is there", || (committed(&mut client, true) == Ok(9)).then_some(()));
    assert_eq!(
        producer.commit_offset(&mut client, 5, 11),
        ErrorCode::InvalidProducerEpoch.code(),
        "of the transaction that has ended"
    );
    assert_eq!(next.commit_offset(&mut client, 3, 11), ErrorCode::InvalidTxnState.code(), "not added");
}

/// 300 transactions at the same moment: what the coordinator writes of them while a sync is under way is one batch of the
/// next.
#[test]
fn transactions_that_come_together_are_written_together() {
    const TRANSACTIONS: usize = 300;
    let data = Directory::new();
    let broker = Broker::start(&data.0, OVERRIDES);
    let mut client = Client::connect(&broker.address);
    let orders = client.create_topic("orders", 1, &[]);
    // Has the coordinator made.
    Producer::new(&mut client, 60_000);
    let ids: Vec<String> = (0..TRANSACTIONS).map(|number| format!("transfer-{number}")).collect();
    let request = |id: &String| InitProducerIdRequest {
        transactional_id: Some(id.as_str().into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    for id in &ids {
        client.send(&request(id), 5).unwrap();
    }
    let producers: Vec<Producer> = ids
        .iter()
        .map(|_| client.receive::<InitProducerIdRequest>(5).unwrap().1)
        .map(|answer| {
            assert_eq!(answer.error_code, 0);
            Producer { id: answer.producer_id, epoch: answer.producer_epoch }
        })
        .collect();
    for (id, producer) in ids.iter().zip(&producers) {
        let id = Some(id.as_str().into());
        let request = ProduceRequest { transactional_id: id, ..producer.request(orders, 0, b"a transfer") };
        client.send(&request, PRODUCE_VERSION).unwrap();
    }
    for _ in &ids {
        assert_eq!(produced(&client.receive::<ProduceRequest>(PRODUCE_VERSION).unwrap().1), 0);
    }
    for (id, producer) in ids.iter().zip(&producers) {
        let request = EndTxnRequest { transactional_id: id.as_str().into(), ..producer.end_request(true) };
        client.send(&request, 5).unwrap();
    }
    for _ in &ids {
        assert_eq!(client.receive::<EndTxnRequest>(5).unwrap().1.error_code, 0);
    }
    until("all transactions have ended", || {
        let listed = client.call(&ListTransactionsRequest::default(), 2).transaction_states;
        let ended = listed.iter().filter(|listed| &*listed.transaction_state == "CompleteCommit").count();
        (ended == TRANSACTIONS).then_some(())
    });
    let read = fetch_committed(&mut client, orders, 0).records.unwrap().into_bytes();
    let is_control = |batch: &Batch| batch.header().attributes.is_control();
    let transfers = Batches::new(read).map(Result::unwrap).filter(|batch| !is_control(batch));
    assert_eq!(transfers.count(), TRANSACTIONS);
    broker.stop();
    let log = std::fs::read(data.0.join("__transaction_state-0/00000000000000000000.log")).unwrap();
    let headers: Vec<_> =
        Batches::new(log.into()).map(|batch| batch.unwrap().header().record_count).collect();
    let records: i32 = headers.iter().sum();
    // The id, its transaction, its decision and its end; and the id that made the coordinator.
    assert_eq!(records, 4 * i32::try_from(TRANSACTIONS).unwrap() + 1);
    assert!(headers.len() <= TRANSACTIONS, "{} batches for {TRANSACTIONS} transactions", headers.len());
}
