//! What the bank needs of Kafka's clients, waited for: topics, and everything that a topic holds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use dohle_cli::driver::Driver;
use dohle_client::consumer::{ConsumerError, IsolationLevel};
use dohle_client::group::offsets;
use dohle_client::{
    Admin, ClusterConfig, Consumer, ConsumerConfig, ConsumerEvent, Endpoint, Failure, Machine, StartAt,
    Target, TransactionError,
};
use dohle_protocol::messages::CreateTopicsRequest;
use dohle_protocol::messages::create_topics_request::CreatableTopic;
use dohle_records::{BatchError, Decompressor};
use dohle_types::{ErrorCode, Offset, Rng, Str, TopicPartition};

use crate::bank::{Ledger, NotOurs};

/// The topic of orders, which each branch has a partition of.
pub(crate) const ORDERS: &str = "orders";
/// The group of the tellers.
pub(crate) const GROUP: &str = "tellers";

/// How long the bank's clients wait for a broker that is being started again. Only a run that fails waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Why a part of the bank cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BankError {
    #[error(transparent)]
    System(#[from] io::Error),
    #[error("the request failed: {0}")]
    Request(#[from] Failure),
    #[error("the broker says {0}")]
    Refused(ErrorCode),
    #[error("{partition} cannot be read: {error}")]
    Partition { partition: TopicPartition, error: ConsumerError },
    #[error("a batch cannot be read: {0}")]
    Batch(#[from] BatchError),
    #[error(transparent)]
    NotOurs(#[from] NotOurs),
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    #[error("{0}")]
    Other(String),
}

/// What all clients of the bank are told: to try again soon, for whatever they speak with will be back soon.
pub(crate) fn cluster_config(client: &str) -> ClusterConfig {
    let mut config = ClusterConfig {
        client_id: client.into(),
        allow_auto_create_topics: false,
        ..ClusterConfig::default()
    };
    config.reconnect_backoff.max = Duration::from_millis(200);
    config.retry_backoff.max = Duration::from_millis(200);
    config
}

/// Randomness of its own for each client.
pub(crate) fn seed() -> Rng {
    let mut bytes = [0; 8];
    // Without the system's randomness clients that start together try again together.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    Rng::from_seed(u64::from_ne_bytes(bytes) ^ u64::from(std::process::id()))
}

/// The partition of a topic that a branch has.
pub(crate) fn partition(topic: &str, branch: i32) -> TopicPartition {
    TopicPartition::new(topic, branch)
}

/// The partitions of both ledgers.
pub(crate) fn ledgers(branches: impl IntoIterator<Item = i32>) -> Vec<TopicPartition> {
    let both = |branch| Ledger::BOTH.map(|ledger| partition(ledger.topic(), branch));
    branches.into_iter().flat_map(both).collect()
}

/// A consumer for itself, without a group.
pub(crate) fn reader(bootstrap: &[Endpoint], isolation: IsolationLevel) -> Consumer {
    let config = ConsumerConfig {
        cluster: cluster_config("bank-reader"),
        reset: None,
        isolation,
        auto_commit: None,
        ..ConsumerConfig::default()
    };
    Consumer::new(config, bootstrap.to_vec(), seed())
}

/// The values of a partition, with their offsets.
pub(crate) type Values = BTreeMap<TopicPartition, Vec<(Offset, String)>>;

/// What a reader has read of a partition.
pub(crate) struct Taken {
    pub(crate) partition: TopicPartition,
    pub(crate) values: Vec<(Offset, String)>,
    /// Whether that was all there is.
    pub(crate) is_end: bool,
}

/// What an event brings to a reader.
pub(crate) fn take(event: ConsumerEvent, decompressor: &mut Decompressor) -> Result<Taken, BankError> {
    match event {
        ConsumerEvent::Records(fetched) => {
            let mut values = Vec::new();
            for record in fetched.records(decompressor)? {
                let record = record?;
                let value = record.value.unwrap_or_default();
                values.push((record.offset, String::from_utf8_lossy(&value).into_owned()));
            }
            Ok(Taken { partition: fetched.partition().clone(), values, is_end: false })
        }
        ConsumerEvent::End { partition, .. } => Ok(Taken { partition, values: Vec::new(), is_end: true }),
        ConsumerEvent::PartitionFailed { partition, error } => Err(BankError::Partition { partition, error }),
        ConsumerEvent::Assigned(_)
        | ConsumerEvent::Revoked(_)
        | ConsumerEvent::Committed(_)
        | ConsumerEvent::GroupFailed(_) => Err(BankError::Other("a reader has no group".to_owned())),
    }
}

/// Everything that these partitions hold now.
pub(crate) fn read_all(
    bootstrap: &[Endpoint],
    isolation: IsolationLevel,
    partitions: &[TopicPartition],
) -> Result<Values, BankError> {
    let mut driver = Driver::new()?;
    let mut reader = reader(bootstrap, isolation);
    let mut decompressor = Decompressor::default();
    reader.assign(driver.now(), partitions.iter().map(|it| (it.clone(), StartAt::Earliest)));
    let mut unread: BTreeSet<TopicPartition> = partitions.iter().cloned().collect();
    let mut values: Values = partitions.iter().map(|it| (it.clone(), Vec::new())).collect();
    let deadline = driver.now().after(PATIENCE);
    while !unread.is_empty() {
        if driver.now().instant > deadline {
            return Err(BankError::Other(format!("these are not read to their ends: {unread:?}")));
        }
        driver.turn(std::slice::from_mut(&mut reader), None)?;
        while let Some(event) = reader.next_event() {
            let taken = take(event, &mut decompressor)?;
            if taken.is_end {
                unread.remove(&taken.partition);
            }
            values.entry(taken.partition).or_default().extend(taken.values);
        }
    }
    Ok(values)
}

/// Creates the topics of the bank, for so many branches.
pub(crate) fn create_topics(bootstrap: &[Endpoint], branches: i32) -> Result<(), BankError> {
    let names = Ledger::BOTH.map(Ledger::topic).into_iter().chain([ORDERS]);
    let topics = names.map(|name| CreatableTopic {
        name: name.into(),
        num_partitions: branches,
        replication_factor: 1,
        ..CreatableTopic::default()
    });
    let request = CreateTopicsRequest {
        topics: topics.collect(),
        timeout_ms: 30_000,
        ..CreateTopicsRequest::default()
    };
    let response = call(bootstrap, |driver, admin| {
        let error = |response: &<CreateTopicsRequest as dohle_protocol::Request>::Response| {
            first_error(response.topics.iter().map(|topic| topic.error_code))
        };
        let id = admin.call(driver.now(), Target::Controller, request, error);
        move |admin: &mut Admin| admin.take::<CreateTopicsRequest>(id)
    })?;
    refused(first_error(response.topics.iter().map(|topic| topic.error_code)))
}

/// The offsets that the tellers have committed, by branch.
pub(crate) fn committed(bootstrap: &[Endpoint]) -> Result<BTreeMap<TopicPartition, Offset>, BankError> {
    use dohle_protocol::messages::{MetadataRequest, OffsetFetchRequest, metadata_request};
    let topic = metadata_request::MetadataRequestTopic { name: Some(ORDERS.into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    let response = call(bootstrap, |driver, admin| {
        let id = admin.call(driver.now(), Target::Any, request, |response| {
            first_error(response.topics.iter().map(|topic| topic.error_code))
        });
        move |admin: &mut Admin| admin.take::<MetadataRequest>(id)
    })?;
    let metadata = response.into();
    let request = offsets::fetch_request(&metadata, &Str::from(GROUP), None);
    let response = call(bootstrap, |driver, admin| {
        let id = admin.call(driver.now(), Target::Coordinator(GROUP.into()), request, |response| {
            let groups = response.groups.iter();
            let partitions =
                groups.clone().flat_map(|group| &group.topics).flat_map(|topic| &topic.partitions);
            let partitions = partitions.map(|partition| partition.error_code);
            first_error(groups.map(|group| group.error_code).chain(partitions))
        });
        move |admin: &mut Admin| admin.take::<OffsetFetchRequest>(id)
    })?;
    offsets::parse_fetch(&metadata, response).map_err(BankError::Refused)
}

/// Has an admin client call, and waits for what comes of it.
fn call<T, P: FnMut(&mut Admin) -> Option<Result<T, Failure>>>(
    bootstrap: &[Endpoint],
    begin: impl FnOnce(&Driver, &mut Admin) -> P,
) -> Result<T, BankError> {
    let mut driver = Driver::new()?;
    let mut admin = Admin::new(cluster_config("bank-admin"), PATIENCE, bootstrap.to_vec(), seed());
    let mut poll = begin(&driver, &mut admin);
    loop {
        if let Some(result) = poll(&mut admin) {
            return Ok(result?);
        }
        driver.turn(&mut [&mut admin as &mut dyn Machine], None)?;
    }
}

fn first_error(codes: impl IntoIterator<Item = i16>) -> ErrorCode {
    let code = codes.into_iter().find(|&code| code != 0).unwrap_or(0);
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

fn refused(error: ErrorCode) -> Result<(), BankError> {
    if error.is_none() { Ok(()) } else { Err(BankError::Refused(error)) }
}
