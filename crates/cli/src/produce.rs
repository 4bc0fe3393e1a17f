//! `dohle produce`: lines in, records out.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use dohle_client::producer::Header;
use dohle_client::{Acks, Producer, ProducerConfig, ProducerRecord, SendError, TransactionError};
use dohle_records::{Compression, CompressionTarget};
use dohle_types::{ErrorCode, PartitionIndex, Str};
use mio::Waker;

use crate::driver::Driver;
use crate::error::on_file;
use crate::session::{Outage, cluster_config, seed};
use crate::{CliError, Connection};

/// Bytes read from the input at a time.
const CHUNK_SIZE: usize = 256 << 10;
/// Chunks that may wait.
const CHUNKS_MAX: usize = 8;
/// Lines handed over before looking after the connections again.
const LINES_PER_TURN: usize = 16 << 10;

/// `dohle produce`
#[derive(Clone, Debug, clap::Args)]
pub struct ProduceArgs {
    /// The topic to write to
    topic: Str,
    /// Read lines from this file instead of standard input
    #[arg(short, long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// What is before the first of these in a line is the key
    #[arg(short = 'k', long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// A header for every record; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// The partition; without it the key decides, or the producer
    #[arg(short, long)]
    partition: Option<i32>,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, default_value = "none", value_parser = parse_compression)]
    compression: Compression,
    /// Whose acknowledgement to wait for: all, 1 (the leader), 0 (nobody)
    #[arg(short, long, default_value = "all", value_parser = parse_acks)]
    acks: Acks,
    /// Bytes of records sent together at the most
    #[arg(long, default_value_t = 512 << 10, value_name = "BYTES")]
    batch_size: usize,
    /// How many milliseconds a record waits for others
    #[arg(long, default_value_t = 5, value_name = "MS")]
    linger: u64,
    /// Have all lines in one transaction under this id, so that all of them are there in the end, or none
    #[arg(long, value_name = "ID")]
    transactional_id: Option<Str>,
    /// How many seconds to try to deliver a record
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    delivery_timeout: u64,
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

/// A compression by its name.
pub(crate) fn parse_compression(text: &str) -> Result<Compression, String> {
    Compression::from_name(text).ok_or_else(|| "write none, gzip, snappy, lz4 or zstd".into())
}

/// `acks` as Kafka spells it.
pub(crate) fn parse_acks(text: &str) -> Result<Acks, String> {
    match text {
        "all" | "-1" => Ok(Acks::All),
        "1" => Ok(Acks::Leader),
        "0" => Ok(Acks::None),
        _ => Err("write all, 1 or 0".into()),
    }
}

pub(crate) fn run(connection: &Connection, args: &ProduceArgs) -> Result<(), CliError> {
    let mut driver = Driver::new()?;
    let mut config = ProducerConfig {
        cluster: cluster_config(),
        acks: args.acks,
        linger: Duration::from_millis(args.linger),
        batch_size: args.batch_size,
        compression: CompressionTarget::from(args.compression),
        delivery_timeout: Duration::from_secs(args.delivery_timeout),
        transactional_id: args.transactional_id.clone(),
        ..ProducerConfig::default()
    };
    config.cluster.allow_auto_create_topics = true;
    let producer = Producer::new(config, connection.endpoints()?, seed());
    let lines = Lines::open(args.file.as_ref(), driver.waker())?;
    let headers =
        args.headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))).collect();
    let mut run = Run {
        args,
        producer,
        lines,
        headers,
        taken: 0,
        failed: 0,
        first_failure: None,
        transaction: args.transactional_id.as_ref().map(|_| Transaction::Wanted),
        outage: Outage::default(),
    };
    run.send_all(&mut driver)
}

/// One run of the command.
struct Run<'a> {
    args: &'a ProduceArgs,
    producer: Producer,
    lines: Lines,
    headers: Vec<Header<'a>>,
    taken: u64,
    failed: u64,
    first_failure: Option<String>,
    transaction: Option<Transaction>,
    outage: Outage,
}

/// Where the transaction around all lines is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transaction {
    Wanted,
    Open,
    Ending,
    Ended,
}

impl Run<'_> {
    fn send_all(&mut self, driver: &mut Driver) -> Result<(), CliError> {
        let mut interrupted = false;
        loop {
            let handed_over = match interrupted {
                true => HandedOver::All,
                false => self.hand_over(driver)?,
            };
            self.take_deliveries();
            if handed_over == HandedOver::All
                && self.producer.is_idle()
                && self.end_transaction(interrupted)?
            {
                return self.conclude(interrupted);
            }
            if handed_over == HandedOver::All {
                self.producer.flush();
            }
            // There is more to hand over at once only if the buffer did not fill up.
            let patience = (handed_over == HandedOver::Some).then_some(Duration::ZERO);
            driver.turn(std::slice::from_mut(&mut self.producer), patience)?;
            match self.producer.unreachable() {
                Some(unreachable) if self.taken == 0 => return Err(unreachable.clone().into()),
                unreachable => self.outage.note(unreachable),
            }
            // What was taken is still delivered; a second interrupt ends the process.
            interrupted |= driver.is_interrupted();
            if interrupted && self.taken == 0 {
                return Err(CliError::Interrupted(String::new()));
            }
        }
    }

    /// Gives the producer the lines there are, as many as it takes.
    fn hand_over(&mut self, driver: &Driver) -> Result<HandedOver, CliError> {
        let now = driver.now();
        if self.transaction == Some(Transaction::Wanted) {
            match self.producer.begin_transaction() {
                Ok(()) => self.transaction = Some(Transaction::Open),
                Err(TransactionError::NotReady) => return Ok(HandedOver::None),
                Err(error) => return Err(error.into()),
            }
        }
        for _ in 0..LINES_PER_TURN {
            let line = match self.lines.peek()? {
                Peeked::Line(line) => line,
                Peeked::Nothing => return Ok(HandedOver::None),
                Peeked::End => return Ok(HandedOver::All),
            };
            let (key, value) = split_key(line, self.args.key_separator.as_deref());
            let record = ProducerRecord {
                partition: self.args.partition.map(PartitionIndex),
                key,
                value: Some(value),
                headers: &self.headers,
                timestamp: None,
                tag: self.taken,
            };
            match self.producer.send(now, &self.args.topic, &record) {
                Ok(()) => {
                    self.taken += 1;
                    self.lines.advance();
                }
                Err(SendError::NotReady) if now.instant > TOPIC_PATIENCE => {
                    self.check_topic()?;
                    return Ok(HandedOver::None);
                }
                Err(error) if error.is_transient() => return Ok(HandedOver::None),
                Err(error) if self.taken == 0 => return Err(error.into()),
                // Those before are still to be delivered and reported.
                Err(error) => {
                    self.fail(1, &error.to_string());
                    self.taken += 1;
                    self.lines.advance();
                }
            }
        }
        Ok(HandedOver::Some)
    }

    /// Commits what was delivered, or aborts it where that is not all; whether nothing is left to be done.
    fn end_transaction(&mut self, interrupted: bool) -> Result<bool, CliError> {
        match self.transaction {
            None | Some(Transaction::Wanted | Transaction::Ended) => return Ok(true),
            Some(Transaction::Open) => {
                self.producer.end_transaction(self.failed == 0 && !interrupted)?;
                self.transaction = Some(Transaction::Ending);
            }
            Some(Transaction::Ending) => {
                if let Some(ended) = self.producer.next_transaction_end() {
                    ended?;
                    self.transaction = Some(Transaction::Ended);
                }
            }
        }
        Ok(self.transaction == Some(Transaction::Ended))
    }

    /// A broker that creates topics on its own has had time to.
    fn check_topic(&self) -> Result<(), CliError> {
        match self.producer.topic_error(&self.args.topic) {
            Some(error) if error == ErrorCode::UnknownTopicOrPartition => {
                Err(CliError::Refused { what: format!("topic {}", self.args.topic), error, message: None })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn take_deliveries(&mut self) {
        while let Some(delivery) = self.producer.next_delivery() {
            if let Err(error) = delivery.result {
                self.fail(delivery.tags.len() as u64, &error.to_string());
            }
        }
    }

    fn fail(&mut self, records: u64, reason: &str) {
        self.failed += records;
        self.first_failure.get_or_insert_with(|| reason.to_owned());
    }

    fn conclude(&self, interrupted: bool) -> Result<(), CliError> {
        if self.transaction.is_some() && (self.failed > 0 || interrupted) {
            return Err(CliError::Aborted { first: self.first_failure.clone() });
        }
        if self.failed > 0 {
            let first = self.first_failure.clone().unwrap_or_default();
            return Err(CliError::NotAcknowledged { failed: self.failed, total: self.taken, first });
        }
        if interrupted {
            return Err(CliError::Interrupted(format!(" after {} acknowledged records", self.taken)));
        }
        Ok(())
    }
}

/// How long a topic may be unknown before that is an error.
const TOPIC_PATIENCE: Duration = Duration::from_secs(5);

/// How much of what there is to send was handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum HandedOver {
    /// Everything, and there will be no more.
    All,
    /// All that may be handed over at a time.
    Some,
    /// What there was, or what fitted.
    None,
}

/// A line's key and value.
fn split_key<'a>(line: &'a [u8], separator: Option<&str>) -> (Option<&'a [u8]>, &'a [u8]) {
    let Some(separator) = separator.map(str::as_bytes).filter(|it| !it.is_empty()) else {
        return (None, line);
    };
    let at = line.windows(separator.len()).position(|window| window == separator);
    match at.and_then(|at| Some((line.get(..at)?, line.get(at + separator.len()..)?))) {
        Some((key, value)) => (Some(key), value),
        None => (None, line),
    }
}

/// Lines of a file or of standard input, read by a thread of their own: whether there is anything to read must
/// not hold up what was read before.
struct Lines {
    chunks: Receiver<io::Result<Vec<u8>>>,
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Where it ends, once that is known, and how far the search has come.
    end: Option<usize>,
    searched: usize,
    ended: bool,
}

/// What [`Lines::peek`] finds.
enum Peeked<'a> {
    /// A line, without its end.
    Line(&'a [u8]),
    /// No line now.
    Nothing,
    /// No line any more.
    End,
}

impl Lines {
    fn open(path: Option<&PathBuf>, waker: Arc<Waker>) -> Result<Self, CliError> {
        let (sender, chunks) = sync_channel(CHUNKS_MAX);
        match path {
            Some(path) => {
                let file = File::open(path).map_err(on_file(path))?;
                thread::spawn(move || read_chunks(file, sender, &waker));
            }
            None => {
                thread::spawn(move || read_chunks(io::stdin(), sender, &waker));
            }
        }
        Ok(Self { chunks, buffer: Vec::new(), start: 0, end: None, searched: 0, ended: false })
    }

    /// The next line, again and again until [`Self::advance`].
    fn peek(&mut self) -> Result<Peeked<'_>, CliError> {
        while self.end.is_none() {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(length) = unsearched.iter().position(|&byte| byte == b'\n') {
                self.end = Some(self.searched + length);
            } else if self.ended {
                if self.start == self.buffer.len() {
                    return Ok(Peeked::End);
                }
                // The last line has no end.
                self.end = Some(self.buffer.len());
            } else {
                self.buffer.drain(..self.start);
                self.start = 0;
                self.searched = self.buffer.len();
                match self.chunks.try_recv() {
                    Ok(chunk) => self.buffer.extend_from_slice(&chunk?),
                    Err(TryRecvError::Empty) => return Ok(Peeked::Nothing),
                    Err(TryRecvError::Disconnected) => self.ended = true,
                }
            }
        }
        let line = self.end.and_then(|end| self.buffer.get(self.start..end));
        Ok(line.map_or(Peeked::Nothing, Peeked::Line))
    }

    fn advance(&mut self) {
        if let Some(end) = self.end.take() {
            self.start = (end + 1).min(self.buffer.len());
            self.searched = self.start;
        }
    }
}

/// Reads until there is no more. The end shows as a channel without a sender, and wakes the receiver too.
fn read_chunks(mut input: impl Read, sender: SyncSender<io::Result<Vec<u8>>>, waker: &Waker) {
    loop {
        let mut chunk = vec![0; CHUNK_SIZE];
        let read = match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                chunk.truncate(count);
                Ok(chunk)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = read.is_err();
        // A receiver that is gone needs no waking.
        if sender.send(read).is_err() || waker.wake().is_err() || failed {
            break;
        }
    }
    drop(sender);
    let _ = waker.wake();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&str]) -> Vec<String> {
        let (sender, receiver) = sync_channel(chunks.len().max(1));
        for chunk in chunks {
            sender.send(Ok(chunk.as_bytes().to_vec())).unwrap();
        }
        drop(sender);
        let mut lines =
            Lines { chunks: receiver, buffer: Vec::new(), start: 0, end: None, searched: 0, ended: false };
        let mut found = Vec::new();
        loop {
            match lines.peek().unwrap() {
                Peeked::Line(line) => found.push(String::from_utf8(line.to_vec()).unwrap()),
                Peeked::Nothing => panic!("the sender is gone"),
                Peeked::End => return found,
            }
            lines.advance();
        }
    }

    #[test]
    fn lines_come_out_whole_however_they_arrive() {
        assert_eq!(lines(&["a\nbc\n"]), ["a", "bc"]);
        assert_eq!(lines(&["a\nb", "c", "d\n", "e"]), ["a", "bcd", "e"]);
        assert_eq!(lines(&["\n", "\nx\n\n"]), ["", "", "x", ""]);
        assert_eq!(lines(&[]), Vec::<String>::new());
    }

    #[test]
    fn what_is_before_the_separator_is_the_key() {
        let split = |line: &'static str, separator| split_key(line.as_bytes(), separator);
        assert_eq!(split("k:v:w", Some(":")), (Some(&b"k"[..]), &b"v:w"[..]));
        assert_eq!(split("k=>v", Some("=>")), (Some(&b"k"[..]), &b"v"[..]));
        assert_eq!(split(":v", Some(":")), (Some(&b""[..]), &b"v"[..]));
        assert_eq!(split("kv", Some(":")), (None, &b"kv"[..]));
        assert_eq!(split("k:v", None), (None, &b"k:v"[..]));
    }
}
