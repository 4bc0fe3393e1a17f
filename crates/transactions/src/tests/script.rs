//! Runs the scripts in `testdata`: unindented lines are what happens, indented ones what follows from it.
//!
//! What happens (`key=value` at the end changes defaults; times are `200ms`, `3s` or `2h`). A producer takes up the id
//! and epoch that it is told; `x` and `y` are transactional ids, and `x'` is another process that uses `x`:
//!
//! - `x inits [again] [timeout=60s] [v=5]`; `again` names the id and epoch that it has
//! - `x adds t-0 t-1 [v=3]`; `x asks about t-0 ... [v=5]`: a broker does, before the first append
//! - `x adds the offsets of 3 [v=4]`: of a group in this partition of `__consumer_offsets`
//! - `x commits [v=4]`, `x aborts [v=5]`: with version 5 it is a client of transactions v2
//! - with `as=ID/EPOCH` a producer says that it is another; `unheard` as the last word: it does not hear the answer
//! - `t-0 answers markers with ERROR`: from now on
//! - `describe x`, `list [states=..] [ids=..] [duration=1s] [pattern=..]`
//! - `clock +3s`, `expire`, `coordinator restarts`: from the log; `no producer ids`, `producer ids`
//! - `config ids=2 ...`, `transaction.version 0`; `log x ID/EPOCH Status [partitions=t-0] [v=2]`: a record that was in
//!   the log
//!
//! `UPDATE_EXPECT=1 cargo test -p dohle-transactions` writes what follows into the scripts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use dohle_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use dohle_protocol::messages::{
    AddOffsetsToTxnRequest, EndTxnRequest, InitProducerIdRequest, ListTransactionsRequest,
};
use dohle_types::{ErrorCode, ProducerEpoch, ProducerId, Str};
use expect_test::{ExpectFile, expect_file};

use super::host::{Host, START, replayed};
use crate::effects::{Marker, MarkerOutcome};
use crate::state::{Partitions, Status, Transaction, TransactionVersion, TxnResult};
use crate::{Effects, ListFilter, Progress, Record, TransactionsConfig, records};

#[test]
fn producers() {
    run(&expect_file!["../../testdata/producers.txt"]);
}

#[test]
fn transactions() {
    run(&expect_file!["../../testdata/transactions.txt"]);
}

#[test]
fn transactions_v2() {
    run(&expect_file!["../../testdata/transactions_v2.txt"]);
}

#[test]
fn markers() {
    run(&expect_file!["../../testdata/markers.txt"]);
}

#[test]
fn timeouts() {
    run(&expect_file!["../../testdata/timeouts.txt"]);
}

#[test]
fn restarts() {
    run(&expect_file!["../../testdata/restarts.txt"]);
}

#[test]
fn epoch_exhaustion() {
    run(&expect_file!["../../testdata/epoch_exhaustion.txt"]);
}

#[test]
fn administration() {
    run(&expect_file!["../../testdata/administration.txt"]);
}

#[test]
fn limits() {
    run(&expect_file!["../../testdata/limits.txt"]);
}

fn run(file: &ExpectFile) {
    let mut world = World::new();
    for line in file.data().lines().filter(|line| !line.starts_with("    ")) {
        writeln!(world.out, "{line}").unwrap();
        if !line.is_empty() && !line.starts_with('#') {
            world.step(line);
        }
    }
    file.assert_eq(&world.out);
}

struct World {
    host: Host<String>,
    /// The id and epoch that each producer was told.
    producers: BTreeMap<String, (i64, i16)>,
    /// What partitions answer to markers, where that is an error.
    errors: BTreeMap<(Str, i32), ErrorCode>,
    out: String,
}

/// The words of a line, and its `key=value` pairs.
struct Line<'a> {
    words: Vec<&'a str>,
    settings: Vec<(&'a str, &'a str)>,
    is_heard: bool,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let mut this = Self { words: Vec::new(), settings: Vec::new(), is_heard: true };
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some(setting) => this.settings.push(setting),
                None if word == "unheard" => this.is_heard = false,
                None => this.words.push(word),
            }
        }
        this
    }

    fn setting(&self, key: &str) -> Option<&'a str> {
        self.settings.iter().find(|(name, _)| *name == key).map(|&(_, value)| value)
    }

    fn version(&self, default: i16) -> i16 {
        self.setting("v").map_or(default, |value| value.parse().unwrap())
    }

    fn list(&self, key: &str) -> Vec<&'a str> {
        self.setting(key).into_iter().flat_map(|list| list.split(',')).collect()
    }
}

impl World {
    fn new() -> Self {
        Self {
            host: Host::new(TransactionsConfig::default()),
            producers: BTreeMap::new(),
            errors: BTreeMap::new(),
            out: String::new(),
        }
    }

    fn step(&mut self, text: &str) {
        let line = Line::parse(text);
        match line.words[..] {
            ["config"] => self.configure(&line),
            ["transaction.version", level] => {
                self.host.version = TransactionVersion(level.parse().unwrap());
            }
            ["clock", by] => self.advance(duration(by.strip_prefix('+').unwrap())),
            ["no", "producer", "ids"] => self.host.has_ids = false,
            ["producer", "ids"] => self.host.has_ids = true,
            ["coordinator", "restarts"] => {
                self.host.crash();
                let ((), effects) = self.host.call(|ledger, turn| ledger.on_loaded(turn));
                self.finish(effects, None, "");
            }
            ["expire"] => loop {
                let (progress, effects) = self.host.call(|ledger, turn| ledger.expire(turn));
                self.finish(effects, None, "");
                if progress == Progress::Done {
                    break;
                }
                writeln!(self.out, "    more").unwrap();
            },
            ["log", id, identity, status] => self.log(id, identity, status, &line),
            ["describe", id] => self.describe(id),
            ["list"] => self.list(&line),
            [word, "answers", "markers", "with", name] => {
                let error = (0..200).filter_map(ErrorCode::from_code).find(|error| error.name() == name);
                self.errors.insert(partition(word), error.unwrap());
            }
            [name, "inits"] => self.init(name, false, &line),
            [name, "inits", "again"] => self.init(name, true, &line),
            [name, "adds", "the", "offsets", "of", index] => self.add_offsets(name, index, &line),
            [name, "adds", ..] => self.add(name, &line.words[2..], false, &line),
            [name, "asks", "about", ..] => self.add(name, &line.words[3..], true, &line),
            [name, "commits"] => self.end(name, true, &line),
            [name, "aborts"] => self.end(name, false, &line),
            _ => panic!("what does this mean: {text}"),
        }
    }

    fn configure(&mut self, line: &Line<'_>) {
        let config = &mut self.host.config;
        for &(key, value) in &line.settings {
            match key {
                "ids" => config.transactional_ids_max = value.parse().unwrap(),
                "partitions" => config.partitions_per_transaction_max = value.parse().unwrap(),
                "bytes" => config.state_bytes_max = value.parse().unwrap(),
                "batch-bytes" => config.batch_bytes_max = value.parse().unwrap(),
                _ => panic!("config {key}"),
            }
        }
        self.host.ledger = replayed(&self.host.config, 0, &self.host.log);
    }

    fn init(&mut self, name: &str, again: bool, line: &Line<'_>) {
        let (producer_id, producer_epoch) = match (line.setting("as"), again) {
            (Some(identity), _) => parse_identity(identity),
            (None, true) => self.identity(name, line),
            (None, false) => (-1, -1),
        };
        let request = InitProducerIdRequest {
            transactional_id: Some(transactional_id(name)),
            transaction_timeout_ms: line.setting("timeout").map_or(60_000, millis),
            producer_id,
            producer_epoch,
            ..InitProducerIdRequest::default()
        };
        let version = line.version(5);
        let (response, effects) =
            self.host.call(|ledger, turn| ledger.init_producer_id(turn, version, &request));
        let mut answer = error_name(response.error_code);
        if response.error_code == 0 {
            answer = self.learn(name, (response.producer_id, response.producer_epoch), line);
        }
        self.finish(effects, Some((name, answer)), "");
    }

    fn add(&mut self, name: &str, partitions: &[&str], verify_only: bool, line: &Line<'_>) {
        let (producer_id, producer_epoch) = self.identity(name, line);
        let topics = partitions.iter().map(|word| {
            let (name, index) = partition(word);
            AddPartitionsToTxnTopic { name, partitions: vec![index] }
        });
        let request = AddPartitionsToTxnTransaction {
            transactional_id: transactional_id(name),
            producer_id,
            producer_epoch,
            verify_only,
            topics: topics.collect(),
        };
        let version = line.version(if verify_only { 5 } else { 3 });
        let (result, effects) = self.host.call(|ledger, turn| ledger.add_partitions(turn, version, &request));
        let answers: Vec<String> = result
            .topic_results
            .iter()
            .flat_map(|topic| {
                topic.results_by_partition.iter().map(|partition| {
                    let error = error_name(partition.partition_error_code);
                    format!("{}-{}={error}", topic.name, partition.partition_index)
                })
            })
            .collect();
        self.finish(effects, Some((name, answers.join(" "))), "");
    }

    fn add_offsets(&mut self, name: &str, index: &str, line: &Line<'_>) {
        let (producer_id, producer_epoch) = self.identity(name, line);
        let request = AddOffsetsToTxnRequest {
            transactional_id: transactional_id(name),
            producer_id,
            producer_epoch,
            group_id: Str::from("g"),
        };
        let partition = ("__consumer_offsets", index.parse().unwrap());
        let version = line.version(4);
        let (response, effects) =
            self.host.call(|ledger, turn| ledger.add_offsets(turn, version, &request, partition));
        self.finish(effects, Some((name, error_name(response.error_code))), "");
    }

    fn end(&mut self, name: &str, committed: bool, line: &Line<'_>) {
        let (producer_id, producer_epoch) = self.identity(name, line);
        let request = EndTxnRequest {
            transactional_id: transactional_id(name),
            producer_id,
            producer_epoch,
            committed,
        };
        let version = line.version(4);
        let (response, effects) = self.host.call(|ledger, turn| ledger.end_txn(turn, version, &request));
        let mut answer = error_name(response.error_code);
        if response.error_code == 0 && version >= 5 {
            answer = self.learn(name, (response.producer_id, response.producer_epoch), line);
        }
        self.finish(effects, Some((name, answer)), "");
    }

    fn describe(&mut self, id: &str) {
        let described = self.host.ledger.describe(&Str::from(id));
        if described.error_code != 0 {
            writeln!(self.out, "    {}", error_name(described.error_code)).unwrap();
            return;
        }
        let topics = described.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(move |partition| format!(" {}-{partition}", topic.topic))
        });
        writeln!(
            self.out,
            "    {} {}/{} timeout {}ms started {}{}",
            described.transaction_state,
            described.producer_id,
            described.producer_epoch,
            described.transaction_timeout_ms,
            moment(described.transaction_start_time_ms),
            topics.collect::<String>(),
        )
        .unwrap();
    }

    fn list(&mut self, line: &Line<'_>) {
        let request = ListTransactionsRequest {
            state_filters: line.list("states").into_iter().map(Str::from).collect(),
            producer_id_filters: line.list("ids").into_iter().map(|id| id.parse().unwrap()).collect(),
            duration_filter: line.setting("duration").map_or(-1, |duration| millis(duration).into()),
            transactional_id_pattern: line.setting("pattern").map(Str::from),
        };
        match ListFilter::new(&request) {
            Err(error) => writeln!(self.out, "    {error}").unwrap(),
            Ok(filter) => {
                for state in &filter.unknown_states {
                    writeln!(self.out, "    no such state: {state}").unwrap();
                }
                for listed in self.host.ledger.list(self.host.now, &filter) {
                    let (id, state) = (&listed.transactional_id, &listed.transaction_state);
                    writeln!(self.out, "    {id} {} {state}", listed.producer_id).unwrap();
                }
            }
        }
    }

    /// A record that somebody else has written.
    fn log(&mut self, id: &str, identity: &str, status: &str, line: &Line<'_>) {
        let (producer_id, epoch) = parse_identity(identity);
        let status = (0..6).filter_map(Status::from_code).find(|known| known.name() == status).unwrap();
        let partitions = line.list("partitions").into_iter().map(partition);
        let transaction = Transaction {
            status,
            partitions: partitions.fold(Partitions::new(), |mut all, (topic, index)| {
                all.entry(topic).or_default().insert(index);
                all
            }),
            started: self.host.now.wall,
            client_version: TransactionVersion(line.version(0)),
            ..Transaction::empty(ProducerId(producer_id), ProducerEpoch(epoch), 60_000, self.host.now.wall)
        };
        self.producers.insert(id.to_owned(), (producer_id, epoch));
        let record = records::transaction(&Str::from(id), &transaction, self.host.version).unwrap();
        self.host.ledger.replay(&record.key, record.value.as_ref()).unwrap();
        self.host.log.push(record);
        self.host.commit();
    }

    /// Runs the timeouts up to a later moment, each at its time.
    fn advance(&mut self, by: Duration) {
        let end = self.host.now.instant + by;
        while let Some(at) = self.host.ledger.next_timeout(self.host.now).filter(|&at| at <= end) {
            self.host.advance(at.saturating_sub(self.host.now.instant));
            let (progress, effects) = self.host.call(|ledger, turn| ledger.on_timeout(turn));
            assert!(
                progress == Progress::More || !effects.records.is_empty() || !effects.markers.is_empty(),
                "a timeout has an effect"
            );
            let moment = self.host.now.instant - START.instant;
            self.finish(effects, None, &format!("at {moment:?}: "));
        }
        self.host.advance(end - self.host.now.instant);
    }

    /// Writes down what a call did, and what follows when it is committed.
    fn finish(&mut self, effects: Effects, answer: Option<(&str, String)>, prefix: &str) {
        for record in &effects.records {
            let record = self.show_record(record);
            writeln!(self.out, "    {prefix}log: {record}").unwrap();
        }
        let replies = answer.map(|(name, answer)| format!("{name} <- {answer}"));
        self.host.hold(replies.into_iter().collect(), effects.markers);
        for (replies, markers) in self.host.commit() {
            for reply in replies {
                writeln!(self.out, "    {prefix}{reply}").unwrap();
            }
            for marker in markers {
                self.write_marker(&marker, prefix);
            }
        }
    }

    fn write_marker(&mut self, marker: &Marker, prefix: &str) {
        let mut outcomes = Vec::new();
        for (topic, indexes) in &marker.partitions {
            for &index in indexes {
                let partition = (topic.clone(), index);
                let error = self.errors.get(&partition).copied().unwrap_or_default();
                let result = match marker.result {
                    TxnResult::Commit => "commit",
                    TxnResult::Abort => "abort",
                };
                let told = if error.is_none() { String::new() } else { format!(", {}", error.name()) };
                writeln!(
                    self.out,
                    "    {prefix}marker: {topic}-{index} {result} {}/{} of coordinator {} v{}{told}",
                    marker.producer_id,
                    marker.producer_epoch,
                    marker.coordinator_epoch,
                    marker.transaction_version.0,
                )
                .unwrap();
                outcomes.push((partition, MarkerOutcome::from_error(error)));
            }
        }
        let (id, producer) = (&marker.transactional_id, (marker.producer_id, marker.producer_epoch));
        let ((), effects) = self.host.call(|ledger, turn| ledger.on_markers(turn, id, producer, &outcomes));
        self.finish(effects, None, prefix);
    }

    fn show_record(&self, record: &Record) -> String {
        let log = replayed(&self.host.config, 0, std::slice::from_ref(record));
        let Some((id, transaction)) = log.state().transactions().next() else {
            let id = String::from_utf8_lossy(record.key.get(4..).unwrap());
            return format!("{id} deleted");
        };
        let mut text =
            format!("{id} {} {}/{}", transaction.status.name(), transaction.producer_id, transaction.epoch);
        if transaction.next_producer_id != ProducerId::NONE {
            write!(text, " next {}", transaction.next_producer_id).unwrap();
        }
        if transaction.previous_producer_id != ProducerId::NONE {
            write!(text, " previous {}", transaction.previous_producer_id).unwrap();
        }
        for (topic, indexes) in &transaction.partitions {
            for index in indexes {
                write!(text, " {topic}-{index}").unwrap();
            }
        }
        text
    }

    /// The id and epoch that a producer names.
    fn identity(&self, name: &str, line: &Line<'_>) -> (i64, i16) {
        let own = || self.producers.get(name).copied().unwrap_or((-1, -1));
        line.setting("as").map_or_else(own, parse_identity)
    }

    fn learn(&mut self, name: &str, identity: (i64, i16), line: &Line<'_>) -> String {
        if line.is_heard {
            self.producers.insert(name.to_owned(), identity);
        }
        format!("{}/{}", identity.0, identity.1)
    }
}

/// Other processes with the same id have a tick at the end of their name.
fn transactional_id(name: &str) -> Str {
    Str::from(if name == "nobody" { "" } else { name.trim_end_matches('\'') })
}

fn parse_identity(text: &str) -> (i64, i16) {
    let (id, epoch) = text.split_once('/').unwrap();
    (id.parse().unwrap(), epoch.parse().unwrap())
}

fn partition(word: &str) -> (Str, i32) {
    let (topic, index) = word.rsplit_once('-').unwrap();
    (Str::from(topic), index.parse().unwrap())
}

fn error_name(code: i16) -> String {
    ErrorCode::from_code(code).map_or_else(|| code.to_string(), |error| error.name().to_owned())
}

/// A time of the wall clock, from the script's beginning.
fn moment(ms: i64) -> String {
    if ms < 0 { "never".to_owned() } else { format!("at +{}ms", ms - START.wall.0) }
}

fn duration(text: &str) -> Duration {
    Duration::from_millis(u64::try_from(millis(text)).unwrap())
}

fn millis(text: &str) -> i32 {
    let units = [("ms", 1), ("s", 1000), ("h", 3_600_000)];
    let (number, factor) = units
        .iter()
        .find_map(|&(unit, factor)| Some((text.strip_suffix(unit)?.parse::<i32>().ok()?, factor)))
        .unwrap();
    number * factor
}
