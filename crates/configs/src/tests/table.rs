//! The table against the facts of a running Apache Kafka 4.3.1: names, types, defaults, ranges, update modes.

use crate::row::{Config, Effect, Update};
use crate::table::{broker_config, broker_configs, topic_config, topic_configs};
use crate::value::{Kind, Value};

const BROKER_FACTS: &str = include_str!("../../testdata/kafka-broker-configs.tsv");
const TOPIC_FACTS: &str = include_str!("../../testdata/kafka-topic-configs.tsv");

/// The rows of a file of facts, as columns.
fn facts(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().skip(1).map(|line| line.split('\t').collect())
}

fn all_configs() -> impl Iterator<Item = &'static Config> {
    broker_configs().chain(topic_configs())
}

#[test]
fn every_config_of_kafka_is_there_with_its_type_and_default() {
    for (file, lookup) in
        [(BROKER_FACTS, broker_config as fn(&str) -> Option<&'static Config>), (TOPIC_FACTS, topic_config)]
    {
        for fact in facts(file) {
            let row = lookup(fact[0]).unwrap_or_else(|| panic!("{} is missing", fact[0]));
            assert_eq!(row.kind.name(), fact[1], "type of {}", row.name);
            if fact[2] != "(set per server)" {
                assert_eq!(row.default.unwrap_or("null"), fact[2], "default of {}", row.name);
            }
            assert_eq!(row.is_sensitive().to_string(), fact[4], "sensitive: {}", row.name);
        }
    }
}

#[test]
fn what_kafka_does_not_have_is_ours_by_name() {
    let of_kafka: Vec<&str> = facts(BROKER_FACTS).chain(facts(TOPIC_FACTS)).map(|fact| fact[0]).collect();
    for row in all_configs() {
        assert!(of_kafka.contains(&row.name) || row.name.starts_with("dohle."), "{}", row.name);
    }
}

#[test]
fn configs_change_at_run_time_as_in_kafka() {
    for fact in facts(BROKER_FACTS) {
        let row = broker_config(fact[0]).unwrap();
        assert_eq!(row.update.name(), fact[6], "{}", row.name);
        assert_eq!((row.update == Update::ReadOnly).to_string(), fact[3], "{}", row.name);
    }
    assert!(topic_configs().all(|row| row.update == Update::PerTopic));
}

/// Kafka prints a range as `[1,...,9]` and a set as `[a, b]`.
#[test]
fn ranges_end_where_those_of_kafka_end() {
    let check = |row: &Config, text: &str| {
        Value::parse(row.kind, text).and_then(|value| row.valid.check(row.name, &value))
    };
    let mut checked = 0;
    let rows = facts(BROKER_FACTS).map(|fact| (broker_config(fact[0]).unwrap(), fact[7]));
    let rows = rows.chain(facts(TOPIC_FACTS).map(|fact| (topic_config(fact[0]).unwrap(), fact[6])));
    for (row, range) in rows.filter(|(_, range)| range.contains('[') && !range.contains("partitionId")) {
        checked += 1;
        let inside = range.trim_start_matches("(case insensitive) ").trim_start_matches('[');
        let inside = inside.split(']').next().unwrap();
        let Some((min, max)) = inside.split_once(",...") else {
            for allowed in inside.split(", ") {
                assert_eq!(check(row, allowed), Ok(()), "{}={allowed}", row.name);
            }
            assert!(check(row, "nonsense").is_err(), "{}", row.name);
            continue;
        };
        let step: f64 = if row.kind == Kind::Double { 0.01 } else { 1.0 };
        assert_eq!(check(row, min), Ok(()), "{} at its least", row.name);
        let below = (min.parse::<f64>().unwrap() - step).to_string();
        assert!(
            below == "-1" && range.ends_with("or -1") || check(row, &below).is_err(),
            "{}={below}",
            row.name
        );
        if let Some(max) = max.strip_prefix(',') {
            assert_eq!(check(row, max), Ok(()), "{} at its most", row.name);
            let above = (max.parse::<f64>().unwrap() + step).to_string();
            assert!(check(row, &above).is_err(), "{}={above}", row.name);
        }
    }
    assert!(checked > 200, "the facts name {checked} ranges");
}

#[test]
fn defaults_are_valid_and_written_as_they_are_reported() {
    for row in all_configs() {
        let Some(default) = row.default else { continue };
        let value = Value::parse(row.kind, default).unwrap_or_else(|reason| panic!("{}: {reason}", row.name));
        assert_eq!(row.valid.check(row.name, &value), Ok(()), "{}", row.name);
        assert_eq!(value.to_string(), default, "{}", row.name);
    }
}

#[test]
fn texts_and_reasons_are_sentences() {
    for row in all_configs() {
        assert!(row.text.ends_with('.') && !row.text.contains("  "), "{}: {}", row.name, row.text);
        assert!(!row.text.contains('|'), "{}: the docs are a table", row.name);
        if let Effect::WithoutEffect(reason) = row.effect {
            assert!(!reason.ends_with('.'), "{}: {reason}", row.name);
        }
    }
}
