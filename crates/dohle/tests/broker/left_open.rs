//! Transactions that are open in a topic when it is deleted: none holds `read_committed` consumers back for ever when it
//! comes back.

use dohle_protocol::messages::FetchRequest;
use dohle_protocol::messages::fetch_response::PartitionData;
use dohle_types::TopicId;

use crate::client::{Client, FETCH_VERSION, fetch_request};
use crate::process::{Broker, Directory, until};
use crate::transactional_producer::{OVERRIDES, Producer, state};
use crate::trash::end_and_start;

/// What `read_committed` consumers are told from an offset on, though it may be nothing.
fn fetch_committed(client: &mut Client, topic: TopicId, offset: i64) -> PartitionData {
    let request = FetchRequest { isolation_level: 1, ..fetch_request(topic, 0, offset, 0) };
    client.call(&request, FETCH_VERSION).responses.remove(0).partitions.remove(0)
}

/// Waits until nothing is open in the topic; how many of its transactions were aborted.
fn aborted_of_all(client: &mut Client, topic: TopicId) -> usize {
    until("no transaction is open", || {
        let all = fetch_committed(client, topic, 0);
        let is_over = all.error_code == 0 && all.last_stable_offset == all.high_watermark;
        is_over.then(|| all.aborted_transactions.unwrap_or_default().len())
    })
}

/// Begins a transaction with a record in `orders`.
fn begin(client: &mut Client, producer: Producer, topic: TopicId, sequence: i32, is_v2: bool) {
    if is_v2 {
        assert_eq!(producer.produce_v2(client, topic, sequence, b"of the transaction"), 0);
    } else {
        assert_eq!(producer.add(client, "orders"), 0);
        assert_eq!(producer.produce(client, topic, sequence, b"of the transaction"), 0);
    }
}

fn end(client: &mut Client, producer: Producer, commits: bool, is_v2: bool) -> Producer {
    if is_v2 {
        return producer.end_v2(client, commits).unwrap();
    }
    assert_eq!(producer.end(client, commits), 0);
    producer
}

#[test]
fn what_ended_while_its_topic_was_in_the_trash_has_ended_in_it() {
    for is_v2 in [false, true] {
        for (commits, then) in [(true, "none"), (false, "kill"), (true, "stop")] {
            let data = Directory::new();
            let broker = Broker::start(&data.0, OVERRIDES);
            let mut client = Client::connect(&broker.address);
            let topic = client.create_topic("orders", 1, &[]);
            let producer = Producer::new(&mut client, 60_000);
            begin(&mut client, producer, topic, 0, is_v2);
            broker.succeed(&["topic", "delete", "orders"], "");
            end(&mut client, producer, commits, is_v2);
            let ended = if commits { "CompleteCommit" } else { "CompleteAbort" };
            until("the transaction is complete", || (state(&mut client) == ended).then_some(()));
            broker.succeed(&["topic", "undelete", "orders"], "");
            let broker = end_and_start(broker, &data.0, then);
            let mut client = Client::connect(&broker.address);
            assert_eq!(aborted_of_all(&mut client, topic), usize::from(!commits), "v2: {is_v2}, {then}");
        }
    }
}

#[test]
fn what_its_coordinator_does_not_know_any_more_is_aborted() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, OVERRIDES);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[]);
    let producer = Producer::new(&mut client, 60_000);
    begin(&mut client, producer, topic, 0, true);
    broker.succeed(&["topic", "delete", "orders"], "");
    let producer = end(&mut client, producer, true, true);
    let other = client.create_topic("other", 1, &[]);
    assert_eq!(producer.produce_v2(&mut client, other, 0, b"the next one"), 0);
    broker.succeed(&["topic", "undelete", "orders"], "");
    assert_eq!(aborted_of_all(&mut client, topic), 1);
}

#[test]
fn what_is_open_still_goes_on_and_what_begins_later_is_left_alone() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, OVERRIDES);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[]);
    let producer = Producer::new(&mut client, 60_000);
    begin(&mut client, producer, topic, 0, true);
    broker.succeed(&["topic", "delete", "orders"], "");
    broker.succeed(&["topic", "undelete", "orders"], "");
    let broker = end_and_start(broker, &data.0, "kill");
    let mut client = Client::connect(&broker.address);
    until("it is there", || (fetch_committed(&mut client, topic, 0).high_watermark == 1).then_some(()));
    assert_eq!(fetch_committed(&mut client, topic, 0).last_stable_offset, 0);
    until("the coordinator is loaded", || (state(&mut client) == "Ongoing").then_some(()));
    assert_eq!(fetch_committed(&mut client, topic, 0).last_stable_offset, 0);
    let producer = end(&mut client, producer, true, true);
    assert_eq!(aborted_of_all(&mut client, topic), 0);

    begin(&mut client, producer, topic, 0, true);
    let broker = end_and_start(broker, &data.0, "kill");
    let mut client = Client::connect(&broker.address);
    until("the coordinator is loaded", || (state(&mut client) == "Ongoing").then_some(()));
    let open = fetch_committed(&mut client, topic, 2);
    assert_eq!((open.last_stable_offset, open.high_watermark), (2, 3));
}
