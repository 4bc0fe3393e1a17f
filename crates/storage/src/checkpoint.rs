//! The small text files of a log dir (Kafka's `CheckpointFile`): a version, a count, and a line per entry.
//!
//! `recovery-point-offset-checkpoint`, `log-start-offset-checkpoint` and `replication-offset-checkpoint` of a
//! log dir have lines of `topic partition offset`; a partition's `leader-epoch-checkpoint` has lines of
//! `epoch offset`. Beside them stands `partition.metadata`, which is of the same kind.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dohle_types::{LeaderEpoch, Offset, Str, TopicId, TopicPartition};

use crate::epochs::EpochEntry;

/// The offsets below which every log of a log dir is known to be durable.
pub const RECOVERY_POINT_CHECKPOINT: &str = "recovery-point-offset-checkpoint";
/// The start offsets of logs whose first segment begins below them.
pub const LOG_START_OFFSET_CHECKPOINT: &str = "log-start-offset-checkpoint";
/// The high watermarks.
pub const HIGH_WATERMARK_CHECKPOINT: &str = "replication-offset-checkpoint";
/// The offsets below which every log of a log dir is compacted.
pub const CLEANER_OFFSET_CHECKPOINT: &str = "cleaner-offset-checkpoint";
/// A partition's leader epochs and where they began.
pub const LEADER_EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";
/// A partition's topic id.
pub const PARTITION_METADATA: &str = "partition.metadata";

const VERSION: &str = "0";

/// A checkpoint file is not one: it is damaged, or from a version that is not known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCheckpoint {
    /// The bytes are not text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// The first line is not version 0.
    #[error("its version is {0:?}, but only version 0 is known")]
    Version(String),
    /// The second line is not the number of entries.
    #[error("its second line, {0:?}, is not a number of entries")]
    Count(String),
    /// A line is not an entry.
    #[error("line {line} is not an entry: {text:?}")]
    Entry {
        /// Counted from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// There are more or fewer entries than the second line says.
    #[error("it announces {announced} entries but has {found}")]
    EntryCount {
        /// What the second line says.
        announced: usize,
        /// What there is.
        found: usize,
    },
    /// The last line does not end, so that its number may have been longer.
    #[error("its last line is cut off")]
    CutOff,
}

/// The offsets in a checkpoint file of a log dir.
///
/// # Errors
/// When the file is damaged; a file of no bytes is that too.
pub fn parse_offsets(bytes: &[u8]) -> Result<BTreeMap<TopicPartition, Offset>, InvalidCheckpoint> {
    let entries = parse(bytes, |line| {
        // From the right, since nothing but convention keeps spaces out of a topic's name.
        let mut words = line.rsplitn(3, ' ');
        let offset: i64 = words.next()?.parse().ok()?;
        let partition: i32 = words.next()?.parse().ok()?;
        Some((TopicPartition::new(Str::from(words.next()?), partition), Offset(offset)))
    })?;
    Ok(entries.into_iter().collect())
}

/// The content of a checkpoint file of a log dir.
#[must_use]
pub fn format_offsets<'a>(offsets: impl IntoIterator<Item = (&'a TopicPartition, Offset)>) -> String {
    format(offsets.into_iter().map(|(at, offset)| format!("{} {} {offset}", at.topic, at.partition)))
}

/// The entries of a `leader-epoch-checkpoint`.
///
/// # Errors
/// When the file is damaged.
pub fn parse_epochs(bytes: &[u8]) -> Result<Vec<EpochEntry>, InvalidCheckpoint> {
    parse(bytes, |line| {
        let (epoch, start) = line.split_once(' ')?;
        Some(EpochEntry { epoch: LeaderEpoch(epoch.parse().ok()?), start: Offset(start.parse().ok()?) })
    })
}

/// The content of a `leader-epoch-checkpoint`.
#[must_use]
pub fn format_epochs<'a>(entries: impl IntoIterator<Item = &'a EpochEntry>) -> String {
    format(entries.into_iter().map(|entry| format!("{} {}", entry.epoch, entry.start)))
}

/// The topic id in a `partition.metadata`; `None` where it has none.
#[must_use]
pub fn parse_partition_metadata(bytes: &[u8]) -> Option<TopicId> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    (lines.next()? == "version: 0").then_some(())?;
    lines.next()?.strip_prefix("topic_id: ")?.trim_end().parse().ok()
}

/// The content of a `partition.metadata`.
#[must_use]
pub fn format_partition_metadata(topic_id: TopicId) -> String {
    format!("version: 0\ntopic_id: {topic_id}")
}

fn parse<E>(bytes: &[u8], entry: impl Fn(&str) -> Option<E>) -> Result<Vec<E>, InvalidCheckpoint> {
    let text = std::str::from_utf8(bytes).map_err(|_| InvalidCheckpoint::NotText)?;
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default();
    if version.trim() != VERSION {
        return Err(InvalidCheckpoint::Version(version.to_owned()));
    }
    let count = lines.next().unwrap_or_default();
    let announced: usize = count.trim().parse().map_err(|_| InvalidCheckpoint::Count(count.to_owned()))?;
    let mut entries = Vec::new();
    for (index, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let invalid = || InvalidCheckpoint::Entry { line: index + 3, text: line.to_owned() };
        entries.push(entry(line.trim_end()).ok_or_else(invalid)?);
    }
    if entries.len() != announced {
        return Err(InvalidCheckpoint::EntryCount { announced, found: entries.len() });
    }
    if text.ends_with('\n') { Ok(entries) } else { Err(InvalidCheckpoint::CutOff) }
}

fn format(lines: impl Iterator<Item = String>) -> String {
    let mut entries = String::new();
    let mut count = 0_usize;
    for line in lines {
        entries.push_str(&line);
        entries.push('\n');
        count += 1;
    }
    let mut text = String::with_capacity(entries.len() + 24);
    let _ = write!(text, "{VERSION}\n{count}\n");
    text.push_str(&entries);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_written_as_kafka_writes_them() {
        let offsets = BTreeMap::from([
            (TopicPartition::new("orders", 0), Offset(42)),
            (TopicPartition::new("a", 11), Offset(0)),
        ]);
        let text = format_offsets(offsets.iter().map(|(at, &offset)| (at, offset)));
        assert_eq!(text, "0\n2\na 11 0\norders 0 42\n");
        assert_eq!(parse_offsets(text.as_bytes()), Ok(offsets));
    }

    #[test]
    fn epochs_are_written_as_kafka_writes_them() {
        let entries = vec![
            EpochEntry { epoch: LeaderEpoch(0), start: Offset(0) },
            EpochEntry { epoch: LeaderEpoch(3), start: Offset(17) },
        ];
        let text = format_epochs(&entries);
        assert_eq!(text, "0\n2\n0 0\n3 17\n");
        assert_eq!(parse_epochs(text.as_bytes()), Ok(entries));
    }

    #[test]
    fn damage_is_told_from_emptiness() {
        let check = |text: &str, expected: Result<usize, InvalidCheckpoint>| {
            assert_eq!(parse_offsets(text.as_bytes()).map(|offsets| offsets.len()), expected, "{text:?}");
        };
        check("0\n0\n", Ok(0));
        check("0\r\n1\r\nt 0 5\r\n", Ok(1));
        check("", Err(InvalidCheckpoint::Version(String::new())));
        check("1\n0\n", Err(InvalidCheckpoint::Version("1".into())));
        check("0\nmany\n", Err(InvalidCheckpoint::Count("many".into())));
        check("0\n2\nt 0 5\n", Err(InvalidCheckpoint::EntryCount { announced: 2, found: 1 }));
        check("0\n1\nt 0\n", Err(InvalidCheckpoint::Entry { line: 3, text: "t 0".into() }));
        check("0\n1\nt 0 5", Err(InvalidCheckpoint::CutOff));
    }

    #[test]
    fn partition_metadata_keeps_the_topic_id() {
        let id: TopicId = "EjRWeJCrze8P7cuph2VDIQ".parse().expect("a topic id");
        let text = format_partition_metadata(id);
        assert_eq!(text, "version: 0\ntopic_id: EjRWeJCrze8P7cuph2VDIQ");
        assert_eq!(parse_partition_metadata(text.as_bytes()), Some(id));
        assert_eq!(parse_partition_metadata(b"version: 0\ntopic_id: EjRW"), None);
        assert_eq!(parse_partition_metadata(b""), None);
    }
}
