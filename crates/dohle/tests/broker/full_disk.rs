//! A disk that is really full: a volume of 48 MiB that only the broker and the test see.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use crate::client::Client;
use crate::process::{Broker, Directory, until};

const KAFKA_STORAGE_ERROR: i16 = 56;

/// A broker whose data directory is a small volume of its own, and the path under which others see it; `None` where
/// the system does not let a user mount one in a namespace of the process.
fn broker_on_a_small_volume(data: &Directory) -> Option<(Broker, PathBuf)> {
    let mount = format!("mount -t tmpfs -o size=48m small {}", data.0.display());
    let allowed = std::process::Command::new("unshare").args(["-rm", "sh", "-c", &mount]).output();
    if !allowed.is_ok_and(|ended| ended.status.success()) {
        eprintln!("skipped: this system lets nobody mount a volume in a namespace (unshare -rm)");
        return None;
    }
    let broker = Broker::start_after(&["unshare", "-rm"], &mount, &data.0);
    let seen = PathBuf::from(format!("/proc/{}/root{}", broker.id(), data.0.display()));
    assert!(seen.join("meta.properties").exists(), "the broker uses the volume");
    Some((broker, seen))
}

#[test]
fn a_full_disk_refuses_records_serves_all_else_and_recovers_by_a_deletion() {
    let data = Directory::new();
    let Some((broker, _)) = broker_on_a_small_volume(&data) else { return };
    let mut client = Client::connect(&broker.address);
    let orders = client.create_topic("orders", 1, &[]);
    let other = client.create_topic("other", 1, &[]);
    let value = vec![b'v'; 64 << 10];
    let mut written = 0;
    let refused = until("the disk is full", || {
        let error = client.produce(orders, 0, &[&value]);
        written += usize::from(error == 0);
        (error != 0).then_some(error)
    });
    assert_eq!(refused, KAFKA_STORAGE_ERROR);
    assert_eq!(client.produce(other, 0, &[&value]), KAFKA_STORAGE_ERROR);

    assert_eq!(client.consume(orders, 0).len(), written);
    broker.succeed(&["consume", "orders", "-g", "billing", "-n", "3", "--format", "%o\\n"], "");
    assert!(broker.succeed(&["group", "describe", "billing"], "").contains("orders"));
    client.create_topic("more", 1, &[]);

    // The trash gives back what it keeps, for the disk is short of room.
    client.delete_topic("orders");
    until("there is room again", || (client.produce(other, 0, &[&value]) == 0).then_some(()));
    assert_eq!(client.consume(other, 0).len(), 1);
    broker.stop();
}

#[test]
fn what_others_fill_the_disk_with_loses_nothing_and_when_it_goes_records_are_taken_again() {
    let data = Directory::new();
    let Some((mut broker, seen)) = broker_on_a_small_volume(&data) else { return };
    let mut client = Client::connect(&broker.address);
    let orders = client.create_topic("orders", 1, &[]);
    let other = client.create_topic("other", 1, &[]);
    let value = vec![b'v'; 64 << 10];
    for topic in [orders, other].repeat(10) {
        assert_eq!(client.produce(topic, 0, &[&value]), 0);
    }
    let filler = seen.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write(&value).is_ok_and(|bytes| bytes > 0) {}
    drop(file);
    assert_eq!(client.produce(orders, 0, &[&value]), KAFKA_STORAGE_ERROR);
    assert_eq!(client.consume(other, 0).len(), 10, "what was not being written is read");
    broker.assert_alive();

    std::fs::remove_file(&filler).unwrap();
    assert_eq!(client.consume(orders, 0).len(), 10, "what was acknowledged is there, what was not is not");
    until("records are taken again", || (client.produce(orders, 0, &[&value]) == 0).then_some(()));
    assert_eq!(client.consume(orders, 0).len(), 11);
    broker.stop();
}
