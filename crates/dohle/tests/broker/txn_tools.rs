//! `dohle txn`, and what `dohle topic describe` says of transactions.

use dohle_types::ErrorCode;
use serde_json::{Value, json};

use crate::client::{Client, batch};
use crate::process::{Broker, Directory};
use crate::transactional_producer::{ID, OVERRIDES, Producer};
use crate::transactions::{PRODUCER, append_to_file, fetch_committed, options};

/// What a command prints with `--json`.
fn rows(broker: &Broker, arguments: &[&str]) -> Vec<Value> {
    let ended = broker.run(&[arguments, &["--json"]].concat(), "");
    assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.stderr);
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a command says that fails.
fn refused(broker: &Broker, arguments: &[&str]) -> String {
    let ended = broker.run(arguments, "");
    assert_ne!(ended.code, 0, "{arguments:?} printed {}", ended.stdout);
    ended.stderr
}

/// What holds a topic back.
fn held_back(broker: &Broker, topic: &str) -> Vec<Value> {
    let described = rows(broker, &["topic", "describe", topic]);
    described.into_iter().filter(|row| row.get("last_stable_offset").is_some()).collect()
}

fn abort<'a>(partition: &'a str, which: &[&'a str]) -> Vec<&'a str> {
    [&["txn", "abort", "--partition", partition], which].concat()
}

#[test]
fn an_open_transaction_is_listed_described_named_where_it_holds_consumers_back_and_aborted() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, OVERRIDES);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 1, &[]);
    assert_eq!(client.produce(topic, 0, &[b"before"]), 0);
    let producer = Producer::new(&mut client, 60_000);
    assert_eq!(held_back(&broker, "orders"), [] as [Value; 0]);
    assert_eq!(producer.add(&mut client, "orders"), 0);
    assert_eq!(producer.produce(&mut client, topic, 0, b"of the transaction"), 0);

    let id = producer.id.to_string();
    let matching: [(&[&str], bool); 9] = [
        (&[], true),
        (&["--state", "ongoing"], true),
        (&["--state", "Empty"], false),
        (&["--state", "Empty", "--state", "Ongoing"], true),
        (&["--producer-id", &id], true),
        (&["--producer-id", "77"], false),
        (&["--longer-than", "7d"], false),
        (&["--match", "b.*k"], true),
        (&["--match", "b"], false),
    ];
    for (filter, matches) in matching {
        let listed = rows(&broker, &[&["txn", "list"], filter].concat());
        let row = json!({
            "transactional_id": ID, "state": "Ongoing", "producer_id": producer.id, "coordinator": 1
        });
        assert_eq!(listed, if matches { vec![row] } else { vec![] }, "{filter:?}");
    }
    let wrong = refused(&broker, &["txn", "list", "--match", "("]);
    assert!(wrong.contains("INVALID_REGULAR_EXPRESSION"), "{wrong}");

    let described = rows(&broker, &["txn", "describe", ID]).remove(0);
    let expected = [
        ("state", json!("Ongoing")),
        ("producer_id", json!(producer.id)),
        ("producer_epoch", json!(producer.epoch)),
        ("timeout_ms", json!(60_000)),
        ("partitions", json!(["orders-0"])),
    ];
    for (column, value) in expected {
        assert_eq!(described[column], value, "{column}");
    }
    assert!(described["began"].as_i64().unwrap() > 0 && described["open_seconds"].is_i64(), "{described}");
    let nobody = refused(&broker, &["txn", "describe", "nobody"]);
    assert!(nobody.contains("dohle txn list"), "{nobody}");

    let held = held_back(&broker, "orders").remove(0);
    let expected = [
        ("partition", json!(0)),
        ("last_stable_offset", json!(1)),
        ("high_watermark", json!(2)),
        ("held_back_by", json!(ID)),
        ("state", json!("Ongoing")),
        ("producer_id", json!(producer.id)),
        ("producer_epoch", json!(producer.epoch)),
        ("began", described["began"].clone()),
    ];
    for (column, value) in expected {
        assert_eq!(held[column], value, "{column}");
    }
    // It has a coordinator that will end it: in all its partitions, or in none.
    let told = refused(&broker, &abort("orders:0", &["--start-offset", "1"]));
    assert!(told.contains("dohle txn abort bank"), "{told}");
    let hanging = ["txn", "find-hanging", "--max-transaction-timeout", "0s"];
    assert_eq!(rows(&broker, &hanging), [] as [Value; 0]);

    broker.succeed(&["txn", "abort", ID], "");
    let aborted = fetch_committed(&mut client, topic, 0);
    assert_eq!((aborted.last_stable_offset, aborted.high_watermark), (3, 3));
    assert_eq!(aborted.aborted_transactions.unwrap().len(), 1);
    assert_eq!(producer.end(&mut client, true), ErrorCode::ProducerFenced.code());
    assert_eq!(held_back(&broker, "orders"), [] as [Value; 0]);
    assert_eq!(rows(&broker, &["txn", "describe", ID])[0]["timeout_ms"], 60_000);
    let again = refused(&broker, &["txn", "abort", ID]);
    assert!(again.contains("no transaction is open"), "{again}");
}

#[test]
fn a_transaction_that_hangs_is_found_named_and_aborted_in_its_partition() {
    let data = Directory::new();
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);
    let topic = client.create_topic("orders", 2, &[]);
    for partition in 0..2 {
        assert_eq!(client.produce(topic, partition, &[b"before"]), 0);
    }
    broker.kill();
    for partition in ["orders-0", "orders-1"] {
        append_to_file(&data.0, partition, &batch(options(3, 0), &[b"hangs"]), 1);
    }
    let broker = Broker::start(&data.0, &[]);
    let mut client = Client::connect(&broker.address);

    let search = ["txn", "find-hanging", "--max-transaction-timeout", "0s"];
    let found = |filter: &[&str]| {
        let rows = rows(&broker, &[&search, filter].concat());
        let told = |row: &Value| format!("{}-{}@{}", row["topic"], row["partition"], row["start_offset"]);
        rows.iter().map(told).collect::<Vec<_>>().join(" ")
    };
    let (first, second) = ("\"orders\"-0@1", "\"orders\"-1@1");
    let both = format!("{first} {second}");
    assert_eq!(found(&[]), both);
    assert_eq!(found(&["--topic", "orders"]), both);
    assert_eq!(found(&["--topic", "orders:1"]), second);
    assert_eq!(found(&["--broker", "1"]), both);
    assert_eq!(rows(&broker, &["txn", "find-hanging"]), [] as [Value; 0], "they are not old enough");
    let row = rows(&broker, &[&search[..], &["--topic", "orders:0"]].concat()).remove(0);
    assert_eq!((&row["producer_id"], &row["producer_epoch"]), (&json!(PRODUCER), &json!(3)));
    let missing = refused(&broker, &["txn", "find-hanging", "--topic", "orders:7"]);
    assert!(missing.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{missing}");

    let held = held_back(&broker, "orders");
    let told = |row: &Value| (row["state"].clone(), row["held_back_by"].clone(), row["producer_id"].clone());
    assert_eq!(
        held.iter().map(told).collect::<Vec<_>>(),
        vec![(json!("hangs"), Value::Null, json!(PRODUCER)); 2]
    );

    let elsewhere = refused(&broker, &abort("orders:0", &["--start-offset", "0"]));
    assert!(elsewhere.contains("open ones at 1"), "{elsewhere}");
    let which = refused(&broker, &abort("orders:0", &[]));
    assert!(which.contains("--start-offset"), "{which}");
    broker.succeed(&abort("orders:0", &["--start-offset", "1"]), "");
    let producer = PRODUCER.to_string();
    let of_epoch =
        |epoch| ["--producer-id", &producer, "--coordinator-epoch", "-1", "--producer-epoch", epoch];
    let fenced = refused(&broker, &abort("orders:1", &of_epoch("2")));
    assert!(fenced.contains("INVALID_PRODUCER_EPOCH"), "{fenced}");
    broker.succeed(&abort("orders:1", &of_epoch("3")), "");
    for partition in 0..2 {
        let gone = refused(&broker, &abort(&format!("orders:{partition}"), &["--start-offset", "1"]));
        assert!(gone.contains("no transaction is open"), "{gone}");
    }
    assert_eq!(found(&[]), "");
    let aborted = fetch_committed(&mut client, topic, 0);
    assert_eq!((aborted.last_stable_offset, aborted.high_watermark), (3, 3));
    broker.stop();
}
