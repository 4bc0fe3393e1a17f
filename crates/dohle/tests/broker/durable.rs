//! What was acknowledged is there after every kind of end: once, and in order.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use dohle_protocol::messages::{
    DescribeConfigsRequest, FindCoordinatorRequest, IncrementalAlterConfigsRequest, OffsetCommitRequest,
    OffsetFetchRequest, ProduceRequest, describe_configs_request, incremental_alter_configs_request,
    offset_commit_request, offset_fetch_request,
};
use dohle_records::BatchOptions;
use dohle_types::{Rng, TopicId};

use crate::client::{Client, PRODUCE_VERSION, batch, produce_request};
use crate::process::{Broker, Directory, until};

const NOT_LEADER_OR_FOLLOWER: i16 = 6;
/// Requests that a writer has under way.
const IN_FLIGHT_MAX: usize = 4;

fn number_from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// One writer's numbers: they ascend from record to record, over all rounds.
#[derive(Default)]
struct Written {
    /// Those that nobody has read yet.
    acknowledged: Vec<u64>,
    /// How many were acknowledged altogether.
    count: usize,
    next: u64,
    /// Up to where the partition was read and found right, and the number there.
    checked: (i64, Option<u64>),
}

impl Written {
    /// Produces until the connection breaks.
    fn produce(
        &mut self,
        mut client: Client,
        topic: TopicId,
        partition: i32,
        seed: u64,
        progress: &AtomicUsize,
    ) {
        let mut rng = Rng::from_seed(seed);
        let mut in_flight = std::collections::VecDeque::new();
        loop {
            while in_flight.len() < IN_FLIGHT_MAX {
                let numbers = self.next..self.next + 1 + rng.below(20);
                self.next = numbers.end;
                // Some are large, so that segments are full now and then.
                let padding = if rng.chance(1, 10) { 10_000 } else { 10 };
                let values: Vec<Vec<u8>> = numbers.clone().map(|number| value(number, padding)).collect();
                let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
                let records = batch(BatchOptions::default(), &values);
                if client.send(&produce_request(topic, partition, records), PRODUCE_VERSION).is_err() {
                    return;
                }
                in_flight.push_back(numbers);
            }
            let Ok((_, response)) = client.receive::<ProduceRequest>(PRODUCE_VERSION) else { return };
            let numbers = in_flight.pop_front().unwrap();
            match response.responses[0].partition_responses[0].error_code {
                0 => {}
                // Its log is being recovered for longer than requests wait.
                NOT_LEADER_OR_FOLLOWER => continue,
                error => panic!("error {error}"),
            }
            self.count += numbers.clone().count();
            self.acknowledged.extend(numbers);
            progress.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads what was not read before, and holds it against what was acknowledged.
    fn check(&mut self, client: &mut Client, topic: TopicId, partition: i32) {
        let (from, last) = self.checked;
        let read: Vec<u64> = client.consume_from(topic, partition, from).iter().map(number).collect();
        let ascends = read.is_sorted_by(|a, b| a < b) && last < read.first().copied().or(Some(u64::MAX));
        assert!(ascends, "partition {partition}: records are there twice, or out of order");
        assert!(read.last().is_none_or(|last| *last < self.next), "a record that nobody wrote");
        let mut there = read.iter();
        for acknowledged in self.acknowledged.drain(..) {
            assert!(
                there.any(|number| *number == acknowledged),
                "partition {partition}: record {acknowledged} was acknowledged and is lost"
            );
        }
        self.checked = (from + i64::try_from(read.len()).unwrap(), read.last().copied().or(last));
    }
}

fn value(number: u64, padding: usize) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(8 + padding, b'.');
    value
}

fn number(value: &Bytes) -> u64 {
    u64::from_be_bytes(value[..8].try_into().unwrap())
}

#[test]
fn what_is_written_with_relaxed_durability_is_flushed_before_it_is_much() {
    let data = Directory::new();
    let settings = ["dohle.durability=relaxed", "log.flush.offset.checkpoint.interval.ms=600000"];
    let broker = Broker::start(&data.0, &settings);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("notes", 1, &[]);
    let note = vec![b'.'; 1_000_000];
    let records = 300;
    for _ in 0..records {
        assert_eq!(client.produce(topic, 0, &[&note]), 0);
    }
    let checkpoint = || std::fs::read_to_string(data.0.join("recovery-point-offset-checkpoint")).ok();
    let recovery_point = until("there is a recovery point", || {
        checkpoint()?.lines().find_map(|line| line.strip_prefix("notes 0 ")?.parse::<i64>().ok())
    });
    assert!((200..=records).contains(&recovery_point), "{recovery_point}");
    assert!(data.0.join(format!("notes-0/{recovery_point:020}.snapshot")).exists());
    broker.kill();
    let broker = Broker::start(&data.0, &settings);
    let mut client = Client::connect(&broker.address);
    assert_eq!(client.produce(topic, 0, &[b"one more"]), 0);
    assert_eq!(client.consume_from(topic, 0, records - 1), [&*note, b"one more"]);
}

#[test]
fn every_acknowledged_record_is_there_after_kill_once_and_in_order() {
    let partitions = i32::try_from(number_from_environment("DOHLE_CRASH_PARTITIONS", 3)).unwrap();
    kill_again_and_again(partitions, &[]);
}

#[test]
fn so_is_what_many_partitions_were_given_at_once() {
    // A journal that goes round every few moments.
    let overrides = ["dohle.journal.bytes=1048576", "dohle.journal.partitions.min=2"];
    let data = kill_again_and_again(24, &overrides);
    let broker = Broker::start(&data.0, &overrides);
    let produce = |partition: i32| {
        let mut client = Client::connect(&broker.address);
        let topic = client.topic_id("orders");
        assert_eq!(client.produce(topic, partition, &[b"last"]), 0);
    };
    thread::scope(|scope| (0..24).for_each(|partition| drop(scope.spawn(move || produce(partition)))));
    broker.stop();
    let is_journal = |name: &str| name.starts_with("dohle-journal");
    let names =
        std::fs::read_dir(&data.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| is_journal(name)).count(), 0, "after a clean stop nothing is in it");
    // And all of it is in the files, which is where Kafka would look.
    std::fs::remove_file(data.0.join(".kafka_cleanshutdown")).unwrap();
    let broker = Broker::start(&data.0, &["dohle.journal.bytes=0"]);
    let mut client = Client::connect(&broker.address);
    let topic = client.topic_id("orders");
    for partition in 0..24 {
        assert_eq!(client.consume(topic, partition).last().unwrap(), "last");
    }
}

/// Has a writer for each partition, and kills the broker in the middle of that, some rounds long; where it is
/// told how to use the journal, not before it does.
fn kill_again_and_again(partitions: i32, overrides: &[&str]) -> Directory {
    let seed = number_from_environment("DOHLE_CRASH_SEED", 1);
    let rounds = number_from_environment("DOHLE_CRASH_ROUNDS", 4);
    let mut rng = Rng::from_seed(seed);
    let data = Directory::new();
    let mut writers: Vec<Written> = (0..partitions).map(|_| Written::default()).collect();
    let mut broker = Broker::start(&data.0, overrides);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", partitions, &[("segment.bytes", "1048576")]);
    let first = client.create_topic("first", 1, &[]);
    let mut until_first_ack = Vec::new();
    for _ in 0..rounds {
        let progress = AtomicUsize::new(0);
        let enough = usize::try_from(1 + rng.below(100 * u64::try_from(partitions).unwrap())).unwrap();
        thread::scope(|scope| {
            for (partition, writer) in (0..).zip(&mut writers) {
                let (client, seed) = (Client::connect(&broker.address), rng.next_u64());
                let progress = &progress;
                scope.spawn(move || writer.produce(client, topic, partition, seed, progress));
            }
            // The second of its files is made when the first is in use.
            let is_journaled = || overrides.is_empty() || data.0.join("dohle-journal-1").exists();
            until("enough is acknowledged", || {
                (progress.load(Ordering::Relaxed) >= enough && is_journaled()).then_some(())
            });
            broker.kill();
        });
        if rng.chance(1, 2) {
            tear(&data.0, partitions, &mut rng);
        }
        let begun = Instant::now();
        broker = Broker::start(&data.0, overrides);
        client = Client::connect(&broker.address);
        assert_eq!(client.produce(first, 0, &[b"again"]), 0);
        until_first_ack.push(begun.elapsed());
        for (partition, writer) in (0..).zip(&mut writers) {
            writer.check(&mut client, topic, partition);
        }
    }
    // What was right once is so still.
    for (partition, writer) in (0..).zip(&writers) {
        let read: Vec<u64> = client.consume(topic, partition).iter().map(number).collect();
        assert!(read.is_sorted_by(|a, b| a < b) && read.len() >= writer.count, "partition {partition}");
    }
    until_first_ack.sort();
    let percentile = |of_100: usize| {
        let place = (until_first_ack.len() * of_100 / 100).min(until_first_ack.len().saturating_sub(1));
        until_first_ack.get(place).copied().unwrap_or_default().as_millis()
    };
    let acknowledged: usize = writers.iter().map(|writer| writer.count).sum();
    println!(
        "{rounds} kills, {partitions} partitions: {acknowledged} acknowledged records, none of them lost, twice, or \
         out of order; from the start of the process to the first acknowledgement {} ms (median), {} ms (99 %), \
         {} ms (most)",
        percentile(50),
        percentile(99),
        percentile(100)
    );
    data
}

/// Adds the torn beginning of a write to each log, as a crash in the middle of one leaves it.
fn tear(data: &Path, partitions: i32, rng: &mut Rng) {
    for partition in 0..partitions {
        let entries = std::fs::read_dir(data.join(format!("orders-{partition}"))).into_iter().flatten();
        let logs = entries.map(|entry| entry.unwrap().path());
        let active = logs.filter(|path| path.extension().is_some_and(|it| it == "log")).max();
        let Some(active) = active else { continue };
        let torn = batch(BatchOptions::default(), &[&[7; 200]]);
        let kept = usize::try_from(rng.below(torn.len() as u64)).unwrap();
        let mut file = std::fs::OpenOptions::new().append(true).open(active).unwrap();
        file.write_all(&torn[..kept]).unwrap();
    }
}

#[test]
fn a_stop_in_good_order_keeps_everything_and_the_next_start_goes_on() {
    let data = Directory::new();
    let mut expected = Vec::new();
    for round in 0..3 {
        let broker = Broker::start(&data.0, &[]);
        let mut client = Client::connect(&broker.address);
        let topic = match round {
            0 => client.create_topic("orders", 1, &[]),
            _ => client.topic_id("orders"),
        };
        assert_eq!(client.consume(topic, 0), expected);
        let value = format!("round {round}");
        assert_eq!(client.produce(topic, 0, &[value.as_bytes()]), 0);
        expected.push(Bytes::from(value));
        broker.stop();
        assert!(data.0.join(".kafka_cleanshutdown").exists());
    }
}

#[test]
fn after_a_clean_stop_only_the_logs_are_opened_that_somebody_asks_for() {
    const LOGS: i32 = 6;
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", LOGS, &[]);
    for partition in 0..LOGS {
        assert_eq!(client.produce(topic, partition, &[b"first"]), 0);
    }
    broker.stop();
    let checkpoint = || {
        let file = std::fs::read_to_string(data.0.join("recovery-point-offset-checkpoint")).unwrap();
        let orders = file.lines().filter(|line| line.starts_with("orders "));
        orders.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(checkpoint(), (0..LOGS).map(|log| format!("orders {log} 1")).collect::<Vec<_>>());

    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    assert_eq!(broker.open_files("orders-"), Vec::<String>::new());
    assert_eq!(client.produce(topic, 3, &[b"second"]), 0);
    let is_of_log_3 = |path: &String| path.contains("/orders-3/");
    let open = broker.open_files("orders-");
    assert!(!open.is_empty() && open.iter().all(is_of_log_3), "{open:?}");
    broker.stop();
    let mut expected: Vec<_> = (0..LOGS).map(|log| format!("orders {log} 1")).collect();
    expected[3] = "orders 3 2".to_owned();
    assert_eq!(checkpoint(), expected, "the logs that were not opened are still known to be durable");

    // And what was never opened is as good after a kill.
    let broker = Broker::start(&data.0, &[]);
    broker.kill();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    for partition in 0..LOGS {
        let expected: &[Bytes] = &[Bytes::from("first"), Bytes::from("second")];
        assert_eq!(client.consume(topic, partition), expected[..if partition == 3 { 2 } else { 1 }]);
    }
}

#[test]
fn dynamic_configs_of_brokers_are_in_force_after_a_restart() {
    const BROKER: i8 = 4;
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[]);
    let topic = Client::connect(&broker.address).create_topic("orders", 1, &[]);
    let config = incremental_alter_configs_request::AlterableConfig {
        name: "message.max.bytes".into(),
        value: Some("200".into()),
        ..Default::default()
    };
    let resource = incremental_alter_configs_request::AlterConfigsResource {
        resource_type: BROKER,
        resource_name: "".into(),
        configs: vec![config],
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    assert_eq!(Client::connect(&broker.address).call(&request, 1).responses[0].error_code, 0);
    broker.kill();

    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let resource = describe_configs_request::DescribeConfigsResource {
        resource_type: BROKER,
        resource_name: "1".into(),
        configuration_keys: Some(vec!["message.max.bytes".into()]),
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let described = client.call(&request, 4).results.remove(0).configs.remove(0);
    assert_eq!(described.value.as_deref(), Some("200"));
    assert_eq!(client.produce(topic, 0, &[&[0; 500]]), dohle_types::ErrorCode::MessageTooLarge.code());
}

#[test]
fn offsets_of_groups_survive_kill_and_stop() {
    let data = Directory::new();
    let mut broker = Broker::start(&data.0, &[]);
    let topic = Client::connect(&broker.address).create_topic("orders", 1, &[]);
    for offset in 1..=3 {
        let mut client = Client::connect(&broker.address);
        assert_eq!(client.produce(topic, 0, &[b"value"]), 0);
        until("the group has a coordinator", || {
            let request =
                FindCoordinatorRequest { coordinator_keys: vec!["billing".into()], ..Default::default() };
            (client.call(&request, 6).coordinators[0].error_code == 0).then_some(())
        });
        until("the offset is committed", || (commit(&mut client, topic, offset) == 0).then_some(()));
        if offset % 2 == 0 {
            broker.stop()
        } else {
            broker.kill()
        }
        broker = Broker::start(&data.0, &[]);
        let mut client = Client::connect(&broker.address);
        let committed = until("the group is loaded", || committed(&mut client, topic));
        assert_eq!(committed, offset);
    }
}

pub(crate) fn commit(client: &mut Client, topic: TopicId, offset: i64) -> i16 {
    let partition = offset_commit_request::OffsetCommitRequestPartition {
        committed_offset: offset,
        committed_leader_epoch: -1,
        ..Default::default()
    };
    let topic = offset_commit_request::OffsetCommitRequestTopic {
        topic_id: topic.0,
        partitions: vec![partition],
        ..Default::default()
    };
    let request = OffsetCommitRequest {
        group_id: "billing".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    client.call(&request, 10).topics[0].partitions[0].error_code
}

pub(crate) fn committed(client: &mut Client, topic: TopicId) -> Option<i64> {
    let topic = offset_fetch_request::OffsetFetchRequestTopics {
        topic_id: topic.0,
        partition_indexes: vec![0],
        ..Default::default()
    };
    let group = offset_fetch_request::OffsetFetchRequestGroup {
        group_id: "billing".into(),
        member_epoch: -1,
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let response = client.call(&OffsetFetchRequest { groups: vec![group], ..Default::default() }, 10);
    let group = &response.groups[0];
    (group.error_code == 0).then(|| group.topics[0].partitions[0].committed_offset)
}

#[test]
fn a_topic_that_was_deleted_and_made_again_has_only_its_own_records_after_kill() {
    let data = Directory::new();
    let mut broker = Broker::start(&data.0, &[]);
    for round in 0..3_u8 {
        let mut client = Client::connect(&broker.address);
        let first = client.create_topic("orders", 2, &[]);
        for _ in 0..10 {
            assert_eq!(client.produce(first, 1, &[b"old"]), 0);
        }
        client.delete_topic("orders");
        let topic = client.create_topic("orders", 2, &[]);
        assert_ne!(topic, first);
        assert_eq!(client.produce(topic, 1, &[&[round]]), 0);
        broker.kill();
        broker = Broker::start(&data.0, &[]);
        let mut client = Client::connect(&broker.address);
        assert_eq!(client.topic_id("orders"), topic);
        assert_eq!(client.consume(topic, 1), [Bytes::copy_from_slice(&[round])]);
        client.delete_topic("orders");
    }
}

#[test]
fn a_data_directory_has_one_broker() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[]);
    let mut second = crate::process::dohle(&["server", "--listen", "127.0.0.1:0", "--data"]);
    let ended = crate::process::run(second.arg(&data.0), "");
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("--data"), "{}", ended.stderr);
    broker.stop();
    Broker::start(&data.0, &[]).stop();
}

#[test]
fn without_room_for_the_journal_files_are_synced_and_nothing_is_refused() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &["dohle.journal.partitions.min=1"]);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 2, &[]);
    // Whatever is written to it finds no room.
    let journal = data.0.join("dohle-journal-0");
    std::os::unix::fs::symlink("/dev/full", &journal).unwrap();
    let mut written = 0;
    until("the journal is given up", || {
        for partition in 0..2 {
            assert_eq!(client.produce(topic, partition, &[format!("number {written}").as_bytes()]), 0);
        }
        written += 1;
        (!journal.is_symlink()).then_some(())
    });
    for partition in 0..2 {
        assert_eq!(client.produce(topic, partition, &[b"and on"]), 0);
    }
    broker.kill();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    for partition in 0..2 {
        assert_eq!(client.consume(topic, partition).len(), written + 1);
    }
}
