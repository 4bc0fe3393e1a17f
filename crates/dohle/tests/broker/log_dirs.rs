//! Several log dirs: what is in which, and what is said where they do not belong together.

use std::path::Path;

use dohle_protocol::messages::metadata_request::MetadataRequestTopic;
use dohle_protocol::messages::{DescribeLogDirsRequest, MetadataRequest};

use crate::client::Client;
use crate::process::{Broker, Directory, dohle, run};

/// The overrides that name log dirs below a directory.
pub(crate) fn log_dirs(root: &Path, names: &[&str]) -> String {
    let paths: Vec<String> = names.iter().map(|name| root.join(name).display().to_string()).collect();
    format!("log.dirs={}", paths.join(","))
}

/// The partitions' directories in a log dir.
pub(crate) fn partitions(log_dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(log_dir).unwrap().map(|entry| entry.unwrap());
    let names = names.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut names: Vec<String> = names.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What a server that does not start says.
fn refused(overrides: &[&str]) -> String {
    let mut command = dohle(&["server", "--override", "listeners=PLAINTEXT://127.0.0.1:0"]);
    for one in overrides {
        command.args(["--override", one]);
    }
    let ended = run(&mut command, "");
    assert_ne!(ended.code, 0);
    ended.stderr
}

#[test]
fn partitions_are_spread_over_the_log_dirs_and_found_again_wherever_they_are() {
    let root = Directory::new();
    let dirs = log_dirs(&root.0, &["a", "b"]);
    let broker = Broker::start_without_data(&[&dirs]);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 4, &[]);
    for partition in 0..4 {
        assert_eq!(client.produce(topic, partition, &[format!("in {partition}").as_bytes()]), 0);
    }
    broker.stop();
    assert_eq!(partitions(&root.0.join("a")), ["__cluster_metadata-0", "orders-0", "orders-2"]);
    assert_eq!(partitions(&root.0.join("b")), ["orders-1", "orders-3"]);
    for name in ["meta.properties", "recovery-point-offset-checkpoint", ".kafka_cleanshutdown", ".lock"] {
        assert!(root.0.join("a").join(name).exists() && root.0.join("b").join(name).exists(), "{name}");
    }
    // Moved by hand, and with a log dir that is new.
    std::fs::rename(root.0.join("b/orders-3"), root.0.join("a/orders-3")).unwrap();
    let more = log_dirs(&root.0, &["b", "c", "a"]);
    let metadata = format!("metadata.log.dir={}", root.0.join("a").display());
    let broker = Broker::start_without_data(&[&more, &metadata]);
    let mut client = Client::connect(&broker.address);
    for partition in 0..4 {
        assert_eq!(client.consume(topic, partition), [format!("in {partition}")]);
    }
    let added = client.create_topic("added", 1, &[]);
    assert_eq!(client.produce(added, 0, &[b"x"]), 0);
    assert_eq!(partitions(&root.0.join("c")), ["added-0"]);
    drop(broker);

    // Without its metadata log a node must not take its topics for strays.
    assert!(refused(&[&log_dirs(&root.0, &["b", "a"])]).contains("set metadata.log.dir="));
    assert!(refused(&[&log_dirs(&root.0, &["new", "b"])]).contains("is to hold the metadata log, is empty"));
    assert_eq!(partitions(&root.0.join("b")), ["orders-1"]);
}

#[test]
fn log_dirs_of_different_nodes_or_copies_of_each_other_are_refused() {
    let root = Directory::new();
    for (name, node) in [("a", "node.id=1"), ("b", "node.id=2"), ("c", "node.id=1")] {
        Broker::start_without_data(&[&log_dirs(&root.0, &[name]), node]).stop();
    }
    let both = log_dirs(&root.0, &["a", "b"]);
    assert!(refused(&[&both, "node.id=1"]).contains("belongs to node 2"));
    std::fs::remove_dir_all(root.0.join("c/__cluster_metadata-0")).unwrap();
    let both = log_dirs(&root.0, &["a", "c"]);
    assert!(refused(&[&both, "node.id=1"]).contains("belongs to cluster"));
    std::fs::copy(root.0.join("a/meta.properties"), root.0.join("c/meta.properties")).unwrap();
    assert!(refused(&[&both, "node.id=1"]).contains("have the same directory.id"));
}

#[test]
fn a_log_dir_that_fails_takes_its_own_partitions_offline_and_no_others() {
    const KAFKA_STORAGE_ERROR: i16 = 56;
    const LEADER_NOT_AVAILABLE: i16 = 5;
    let root = Directory::new();
    let dirs = log_dirs(&root.0, &["a", "b"]);
    let broker = Broker::start_without_data(&[&dirs]);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 4, &[]);
    for partition in 0..2 {
        assert_eq!(client.produce(topic, partition, &[b"before"]), 0);
    }
    // Something else is where the second log dir was: no directory can be made in it.
    std::fs::rename(root.0.join("b"), root.0.join("gone")).unwrap();
    std::fs::write(root.0.join("b"), "in the way").unwrap();
    assert_eq!(client.produce(topic, 3, &[b"lost"]), KAFKA_STORAGE_ERROR);
    assert_eq!(client.produce(topic, 1, &[b"lost"]), KAFKA_STORAGE_ERROR);
    assert_eq!(client.produce(topic, 0, &[b"after"]), 0);
    assert_eq!(client.produce(topic, 2, &[b"after"]), 0);
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: Some("orders".into()), ..Default::default() }]),
        ..Default::default()
    };
    let described = client.call(&request, 12);
    for partition in &described.topics[0].partitions {
        let seen = (partition.error_code, partition.leader_id, &*partition.offline_replicas);
        match partition.partition_index {
            0 | 2 => assert_eq!(seen, (0, 1, &[][..])),
            _ => assert_eq!(seen, (LEADER_NOT_AVAILABLE, -1, &[1][..])),
        }
    }
    // New partitions go to what is left.
    let added = client.create_topic("added", 2, &[]);
    assert_eq!((client.produce(added, 0, &[b"x"]), client.produce(added, 1, &[b"x"])), (0, 0));
    let dirs_described = client.call(&DescribeLogDirsRequest::default(), 4);
    let errors: Vec<i16> = dirs_described.results.iter().map(|result| result.error_code).collect();
    assert_eq!(errors, [0, KAFKA_STORAGE_ERROR]);
    // A topic that is brought back has no partition in another place than its records are.
    broker.succeed(&["topic", "delete", "orders"], "");
    broker.succeed(&["topic", "undelete", "orders"], "");
    assert_eq!(client.produce(topic, 1, &[b"lost"]), KAFKA_STORAGE_ERROR);
    assert_eq!(client.produce(topic, 0, &[b"back"]), 0);
    broker.stop();

    // A start without it goes on as before; with it again everything is there.
    let broker = Broker::start_without_data(&[&dirs]);
    let mut client = Client::connect(&broker.address);
    assert_eq!(client.produce(topic, 1, &[b"lost"]), KAFKA_STORAGE_ERROR);
    broker.stop();
    std::fs::remove_file(root.0.join("b")).unwrap();
    std::fs::rename(root.0.join("gone"), root.0.join("b")).unwrap();
    let broker = Broker::start_without_data(&[&dirs]);
    let mut client = Client::connect(&broker.address);
    assert_eq!(client.consume(topic, 0), ["before", "after", "back"]);
    assert_eq!(client.consume(topic, 1), ["before"]);
    assert_eq!(client.produce(topic, 3, &[b"again"]), 0);
    assert_eq!(partitions(&root.0.join("b")), ["orders-1", "orders-3"]);
}
