//! What was produced to a topic, and whether what a group reads is exactly that: nothing lost, nothing twice, nothing changed, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::client::Client;
use super::process::Result;

/// A topic and all that was produced to it.
pub(crate) struct Topic<'a> {
    pub(crate) client: &'a Client,
    pub(crate) name: String,
    /// The n-th record's timestamp is n ms later.
    pub(crate) epoch: u64,
    runs: Vec<(Range<u64>, String)>,
}

impl<'a> Topic<'a> {
    /// A topic to which nothing was produced.
    pub(crate) fn new(client: &'a Client, epoch: u64) -> Self {
        Self { client, name: format!("topic-{}", client.tag), epoch, runs: Vec::new() }
    }

    /// How many records were produced.
    pub(crate) fn produced(&self) -> u64 {
        self.runs.last().map_or(0, |(numbers, _)| numbers.end)
    }

    /// Produces `count` records with each codec in turn.
    pub(crate) fn produce(&mut self, bootstrap: &str, count: u64, codecs: &[&str]) -> Result<()> {
        let (from, each, epoch) = (self.produced().to_string(), count.to_string(), self.epoch.to_string());
        let words = ["produce", bootstrap, &self.name, &from, &each, &epoch];
        self.client.run(&[&words[..], codecs].concat())?;
        for &codec in codecs {
            let from = self.produced();
            self.runs.push((from..from + count, codec.to_owned()));
        }
        Ok(())
    }

    fn codec(&self, number: u64) -> Option<&str> {
        self.runs.iter().find(|(numbers, _)| numbers.contains(&number)).map(|(_, codec)| codec.as_str())
    }
}

/// A record as a member printed it.
pub(crate) struct Seen {
    pub(crate) offset: u64,
    pub(crate) timestamp: u64,
    number: u64,
}

/// All that the members of one group have read of one topic.
#[derive(Default)]
pub(crate) struct Reading {
    pub(crate) partitions: BTreeMap<i32, Vec<Seen>>,
    numbers: BTreeSet<u64>,
    /// Whether there are offsets that no reader is given: those of markers, and of what was aborted.
    transactional: bool,
}

impl Reading {
    /// Of a topic that was written in transactions.
    pub(crate) fn transactional() -> Self {
        Self { transactional: true, ..Self::default() }
    }

    /// Checks one record that a member printed (without its first word) against what was produced and read before.
    pub(crate) fn take(&mut self, topic: &Topic<'_>, line: &str) -> Result<()> {
        let wrong = |what: &str| format!("{what}: {line}");
        let fields: Vec<&str> = line.split('\t').collect();
        let [partition, offset, timestamp, key, value, headers] = fields[..] else {
            return Err(wrong("not six fields"));
        };
        let number: u64 = value
            .split('-')
            .nth(1)
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| wrong("a value that was not produced"))?;
        let codec = topic.codec(number).ok_or_else(|| wrong("a number that was not produced"))?;
        let padding = "x".repeat(usize::try_from(number % 100).unwrap_or_default());
        if value != format!("value-{number}-{padding}") {
            return Err(wrong("the value is another"));
        }
        if key != if number % 10 == 9 { "NULL".to_owned() } else { format!("key-{}", number % 20) } {
            return Err(wrong("the key is another"));
        }
        if headers != format!("codec={codec},client={}", topic.client.tag) {
            return Err(wrong("the headers are others"));
        }
        let parse = |field: &str| field.parse::<u64>().map_err(|_| wrong("not a number"));
        let seen = Seen { offset: parse(offset)?, timestamp: parse(timestamp)?, number };
        if topic.client.admin && seen.timestamp != topic.epoch + number {
            return Err(wrong("the timestamp is another"));
        }
        if !self.numbers.insert(number) {
            return Err(wrong("read a second time"));
        }
        let partition =
            self.partitions.entry(partition.parse().map_err(|_| wrong("no partition"))?).or_default();
        let next = partition.last().map_or(0, |last| last.offset + 1);
        if seen.offset < next || seen.offset > next && !self.transactional {
            return Err(wrong("the offset does not follow the one before"));
        }
        if partition.last().is_some_and(|last| last.number >= number) {
            return Err(wrong("out of order within its partition"));
        }
        partition.push(seen);
        Ok(())
    }

    /// Whether all that was produced has been read.
    pub(crate) fn complete(&self, topic: &Topic<'_>) -> bool {
        self.numbers.len() as u64 == topic.produced()
    }

    /// What is still missing, for a message.
    pub(crate) fn missing(&self, topic: &Topic<'_>) -> String {
        let missing: Vec<u64> =
            (0..topic.produced()).filter(|number| !self.numbers.contains(number)).collect();
        format!(
            "{} of {} records were not read, the first of them {:?}",
            missing.len(),
            topic.produced(),
            missing.first()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::CLIENTS;
    use super::*;

    const FIRST: &str = "0\t0\t1000\tkey-0\tvalue-0-\tcodec=gzip,client=java";
    const SECOND: &str = "0\t1\t1001\tkey-1\tvalue-1-x\tcodec=gzip,client=java";

    fn read(lines: &[&str]) -> Result<Reading> {
        read_on(Reading::default(), lines)
    }

    fn read_on(mut reading: Reading, lines: &[&str]) -> Result<Reading> {
        let java = CLIENTS.iter().find(|client| client.tag == "java").unwrap();
        let mut topic = Topic::new(java, 1000);
        topic.runs.push((0..2, "gzip".to_owned()));
        lines.iter().try_for_each(|line| reading.take(&topic, line))?;
        if reading.complete(&topic) { Ok(reading) } else { Err(reading.missing(&topic)) }
    }

    #[test]
    fn what_was_produced_is_accepted() {
        assert!(read(&[FIRST, SECOND]).is_ok());
    }

    #[test]
    fn transactions_leave_offsets_out_and_no_more() {
        let later = SECOND.replacen("\t1\t", "\t4\t", 1);
        assert!(read_on(Reading::transactional(), &[FIRST, &later]).is_ok());
        let error = read_on(Reading::transactional(), &[FIRST, &SECOND.replacen("\t1\t", "\t0\t", 1)]).err();
        assert!(error.is_some_and(|error| error.contains("the offset does not follow")));
        assert!(read_on(Reading::transactional(), &[FIRST, FIRST]).is_err());
    }

    #[test]
    fn every_other_reading_is_refused() {
        let cases: &[(&[&str], &str)] = &[
            (&[FIRST], "1 of 2 records were not read"),
            (&[FIRST, FIRST], "read a second time"),
            (&[&SECOND.replacen("\t1\t", "\t0\t", 1), &FIRST.replacen("\t0\t", "\t1\t", 1)], "out of order"),
            (&[FIRST, &SECOND.replacen("\t1\t", "\t2\t", 1)], "the offset does not follow"),
            (&[&FIRST.replace("key-0", "NULL")], "the key is another"),
            (&[&SECOND.replace("-x", "-y")], "the value is another"),
            (&[&FIRST.replace("gzip", "zstd")], "the headers are others"),
            (&[&FIRST.replace("1000", "1001")], "the timestamp is another"),
            (&[&FIRST.replace("value-0", "value-7")], "a number that was not produced"),
        ];
        for (lines, expected) in cases {
            let error = read(lines).err().unwrap_or_default();
            assert!(error.contains(expected), "{lines:?}: {error}");
        }
    }
}
