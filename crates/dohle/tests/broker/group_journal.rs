//! The journal of groups: real members of both protocols come and go, are silent, and the broker is killed and stopped.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use dohle_protocol::messages::{ConsumerGroupHeartbeatRequest, FindCoordinatorRequest};
use dohle_types::ErrorCode;

use crate::client::Client;
use crate::process::{Broker, Directory, dohle, until};

fn heartbeat(client: &mut Client, member_id: &str, epoch: i32) -> i32 {
    let joins = epoch == 0;
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "billing".into(),
        member_id: member_id.into(),
        member_epoch: epoch,
        rebalance_timeout_ms: if joins { 60_000 } else { -1 },
        subscribed_topic_names: joins.then(|| vec!["orders".into()]),
        topic_partitions: joins.then(Vec::new),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    // While the group is being loaded, clients ask again.
    until("the group is there", || {
        let response = client.call(&request, 1);
        let error = ErrorCode::from_code(response.error_code);
        let waits = [ErrorCode::CoordinatorLoadInProgress, ErrorCode::NotCoordinator];
        (!error.is_some_and(|error| waits.contains(&error))).then_some(response.member_epoch)
    })
}

/// The journal, once it tells this.
fn journal_with(broker: &Broker, arguments: &[&str], told: &str) -> String {
    until(told, || {
        let journal = broker.run(&[&["group", "journal"], arguments].concat(), "");
        assert_eq!(journal.code, 0, "{}", journal.stderr);
        journal.stdout.contains(told).then_some(journal.stdout)
    })
}

#[test]
fn the_journal_tells_who_and_why_through_kills_and_stops() {
    let data = Directory::new();
    let configs = [
        "group.consumer.assignment.interval.ms=0",
        "group.consumer.min.session.timeout.ms=500",
        "group.consumer.session.timeout.ms=500",
        "group.consumer.min.heartbeat.interval.ms=100",
        "group.consumer.heartbeat.interval.ms=100",
        "group.initial.rebalance.delay.ms=0",
    ];
    let broker = Broker::start(&data.0, &configs);
    let nothing = broker.run(&["group", "journal"], "");
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, ""));
    assert!(nothing.stderr.contains("nothing has happened"), "{}", nothing.stderr);
    let mut client = Client::connect(&broker.address);
    client.create_topic("orders", 2, &[]);
    until("the group has a coordinator", || {
        let request =
            FindCoordinatorRequest { coordinator_keys: vec!["billing".into()], ..Default::default() };
        (client.call(&request, 6).coordinators[0].error_code == 0).then_some(())
    });

    // A member of the consumer protocol joins and is silent from then on.
    assert_eq!(heartbeat(&mut client, "first", 0), 2);
    let journal = journal_with(&broker, &["billing"], "2 -> 3 caused by session expired");
    assert!(journal.contains("rebalance 1 -> 2 caused by joined: test (127.0.0.1)"), "{journal}");
    assert!(journal.contains("1 member, 2 of 2 partitions moved"), "{journal}");
    assert!(journal.contains("no member is left"), "{journal}");

    // One of the classic protocol reads, and leaves.
    broker.succeed(&["produce", "orders"], "a\nb\n");
    assert_eq!(broker.succeed(&["consume", "orders", "-g", "readers", "-e"], "").lines().count(), 2);
    let journal = journal_with(&broker, &["readers"], "caused by left: ");
    assert!(journal.contains("rebalance 0 -> 1 caused by joined: "), "{journal}");
    assert_eq!(journal.lines().count(), 2, "only of this group: {journal}");
    let both = broker.succeed(&["group", "journal", "--since", "1h"], "");
    assert!(both.contains(" readers: rebalance") && both.contains(" billing: rebalance"), "{both}");
    assert_eq!(broker.succeed(&["group", "journal", "--since", "2100-01-01T00:00:00Z"], ""), "");
    for line in broker.succeed(&["group", "journal", "readers", "--json"], "").lines() {
        assert!(line.starts_with('{') && line.contains(r#""group":"readers""#), "{line}");
    }
    let summary = broker.succeed(&["group", "journal", "--summary"], "");
    assert!(summary.contains("session-expired  1"), "{summary}");
    // Neither lists of topics nor subscriptions by pattern are troubled by it.
    assert_eq!(broker.succeed(&["topic", "list"], "").lines().count(), 2);

    // Who follows is told at once. The group outlives the broker's end, and the journal tells of that as well.
    assert!(heartbeat(&mut client, "second", 0) > 2);
    journal_with(&broker, &["billing"], "3 -> 4 caused by joined");
    broker.kill();
    let broker = Broker::start(&data.0, &configs);
    let mut follower =
        dohle(&["group", "journal", "billing", "--follow", "--bootstrap-server", &broker.address])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut told = |wanted: &str| assert!(lines.any(|line| line.unwrap().contains(wanted)), "{wanted}");
    told("generation 4 stays: coordinator restarted");
    told("4 -> 5 caused by session expired");
    let mut client = Client::connect(&broker.address);
    heartbeat(&mut client, "third", 0);
    told("5 -> 6 caused by joined");
    follower.kill().unwrap();
    follower.wait().unwrap();

    // What was told last is there after a stop in good order.
    heartbeat(&mut client, "third", -1);
    broker.stop();
    let broker = Broker::start(&data.0, &configs);
    let journal = journal_with(&broker, &["billing"], "6 -> 7 caused by left: ");
    assert!(journal.contains("1 -> 2 caused by joined"), "{journal}");

    // No group needs it: somebody deletes it, and it begins anew.
    let mut client = Client::connect(&broker.address);
    client.delete_topic("__dohle_group_journal");
    assert!(heartbeat(&mut client, "fourth", 0) > 7);
    let journal = journal_with(&broker, &["billing"], "7 -> 8 caused by joined");
    assert!(!journal.contains("1 -> 2"), "{journal}");
}
