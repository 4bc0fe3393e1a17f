//! `dohle log dump`: what is in the files of a log directory, told by their names.
//!
//! A line for each batch, record or entry, of `name=value` pairs.

mod internal;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes};
use dohle_records::{Batch, BatchHeader, Decompressor, HEADER_SIZE, Record, TimestampType};

use crate::CliError;
use crate::error::on_file;

/// The largest batch that is read: what a length field says may be nonsense.
const BATCH_SIZE_MAX: usize = 1 << 30;

/// `dohle log ...`
#[derive(Clone, Debug, clap::Subcommand)]
pub enum LogCommand {
    /// Show what is in segments, indexes, snapshots and checkpoints
    Dump {
        /// The files: *.log, *.index, *.timeindex, *.txnindex, *.snapshot, *.checkpoint, or a checkpoint by its name
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Show the records too; those of Kafka's own topics are decoded
        #[arg(short, long)]
        records: bool,
    },
}

/// Whose records a segment holds, as its directory says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    /// A topic.
    Topic,
    /// `__consumer_offsets`.
    ConsumerOffsets,
    /// `__cluster_metadata`.
    ClusterMetadata,
}

pub(crate) fn run(command: LogCommand) -> Result<(), CliError> {
    let LogCommand::Dump { files, records } = command;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for path in files {
        writeln!(out, "# {}", path.display())?;
        dump(&mut out, &path, records)?;
    }
    Ok(out.flush()?)
}

fn dump(out: &mut impl io::Write, path: &Path, records: bool) -> Result<(), CliError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
    let base_offset = name.split(['.', '-']).next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
    match extension.as_str() {
        "log" | "checkpoint" if !name.ends_with("-checkpoint") => dump_segment(out, path, records),
        "index" => Ok(out.write_all(offset_index(&read(path)?, base_offset).as_bytes())?),
        "timeindex" => Ok(out.write_all(time_index(&read(path)?, base_offset).as_bytes())?),
        "txnindex" => Ok(out.write_all(transaction_index(&read(path)?).as_bytes())?),
        "snapshot" => Ok(out.write_all(producer_snapshot(&read(path)?).as_bytes())?),
        _ => Ok(out.write_all(text_file(&name, &read(path)?)?.as_bytes())?),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(on_file(path))
}

fn owner(path: &Path) -> Owner {
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let directory =
        absolute.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    match directory.rsplit_once('-').map(|(topic, _)| topic) {
        Some("__consumer_offsets") => Owner::ConsumerOffsets,
        Some("__cluster_metadata") => Owner::ClusterMetadata,
        Some(_) | None => Owner::Topic,
    }
}

fn dump_segment(out: &mut impl io::Write, path: &Path, records: bool) -> Result<(), CliError> {
    let file = File::open(path).map_err(on_file(path))?;
    let size = file.metadata().map_err(on_file(path))?.len();
    let mut input = BufReader::with_capacity(1 << 20, file);
    let owner = owner(path);
    let mut position = 0;
    let mut decompressor = Decompressor::default();
    while position < size {
        let batch = match next_batch(&mut input, size - position).map_err(on_file(path))? {
            Ok(batch) => batch,
            Err(reason) => {
                writeln!(out, "position={position} unreadable={} reason={reason:?}", size - position)?;
                break;
            }
        };
        writeln!(out, "{}", batch_line(&batch, position))?;
        if records {
            dump_records(out, &batch, owner, &mut decompressor)?;
        }
        position += batch.bytes().len() as u64;
    }
    Ok(())
}

/// The next batch, or why the `left` bytes do not begin with one.
fn next_batch(input: &mut impl io::Read, left: u64) -> io::Result<Result<Batch, String>> {
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    let mut bytes = vec![0; HEADER_SIZE.min(left)];
    input.read_exact(&mut bytes)?;
    let size = match BatchHeader::parse(&bytes) {
        Ok(header) => header.size_in_bytes(),
        Err(error) => return Ok(Err(error.to_string())),
    };
    if size > left || size > BATCH_SIZE_MAX {
        return Ok(Err(format!("the batch takes {size} bytes")));
    }
    input.take((size - bytes.len()) as u64).read_to_end(&mut bytes)?;
    Ok(Batch::parse(&Bytes::from(bytes)).map_err(|error| error.to_string()))
}

fn batch_line(batch: &Batch, position: u64) -> String {
    let header = batch.header();
    let attributes = header.attributes;
    let compression =
        attributes.compression().map_or_else(|error| error.to_string(), |it| it.name().to_owned());
    let time = match attributes.timestamp_type() {
        TimestampType::CreateTime => "create_time",
        TimestampType::LogAppendTime => "log_append_time",
    };
    let mut line = format!(
        "offsets={}..{} records={} position={position} size={} {time}={} compression={compression} leader_epoch={} \
         crc={:#010x}{}",
        header.base_offset,
        header.next_offset(),
        header.record_count,
        batch.bytes().len(),
        header.max_timestamp,
        header.partition_leader_epoch,
        header.crc,
        if batch.crc_is_valid() { "" } else { " CORRUPT" },
    );
    if header.has_producer_id() {
        let (id, epoch, sequence) = (header.producer_id, header.producer_epoch, header.base_sequence);
        let _ = write!(line, " producer_id={id} producer_epoch={epoch} sequence={sequence}");
    }
    if attributes.is_transactional() {
        line.push_str(" transactional");
    }
    if attributes.is_control() {
        line.push_str(" control");
    }
    if let Some(horizon) = header.delete_horizon() {
        let _ = write!(line, " delete_horizon={horizon}");
    }
    line
}

fn dump_records(
    out: &mut impl io::Write,
    batch: &Batch,
    owner: Owner,
    decompressor: &mut Decompressor,
) -> io::Result<()> {
    let records = match batch.records(decompressor) {
        Ok(records) => records,
        Err(error) => return writeln!(out, "  unreadable={:?}", error.to_string()),
    };
    for record in records {
        match record {
            Ok(record) => {
                writeln!(out, "  {}", record_line(&record, owner, batch.header().attributes.is_control()))?
            }
            Err(error) => writeln!(out, "  unreadable={:?}", error.to_string())?,
        }
    }
    Ok(())
}

fn record_line(record: &Record, owner: Owner, is_control: bool) -> String {
    let mut line = format!("offset={} timestamp={}", record.offset, record.timestamp);
    let decoded = match owner {
        _ if is_control => internal::control(record),
        Owner::ConsumerOffsets => internal::consumer_offsets(record),
        Owner::ClusterMetadata => internal::cluster_metadata(record),
        Owner::Topic => None,
    };
    match decoded {
        Some(decoded) => {
            let _ = write!(line, " {decoded}");
        }
        None => {
            let _ =
                write!(line, " key={} value={}", shown(record.key.as_ref()), shown(record.value.as_ref()));
        }
    }
    for header in &record.headers {
        let _ = write!(line, " header.{}={}", header.key.escape_ascii(), shown(header.value.as_ref()));
    }
    line
}

fn shown(bytes: Option<&Bytes>) -> String {
    match bytes.map(|bytes| std::str::from_utf8(bytes)) {
        None => "null".to_owned(),
        Some(Ok(text)) => format!("{text:?}"),
        Some(Err(_)) => bytes.map(|bytes| format!("b\"{}\"", bytes.escape_ascii())).unwrap_or_default(),
    }
}

/// Entries of an offset index: the offset of a batch, and where it is in the segment.
fn offset_index(bytes: &[u8], base_offset: i64) -> String {
    entries::<8>(bytes, |mut entry, out| {
        let (relative, position) = (entry.get_i32(), entry.get_i32());
        let _ = writeln!(out, "offset={} position={position}", base_offset + i64::from(relative));
    })
}

/// Entries of a time index: the greatest timestamp so far, and the offset of its record.
fn time_index(bytes: &[u8], base_offset: i64) -> String {
    entries::<12>(bytes, |mut entry, out| {
        let (timestamp, relative) = (entry.get_i64(), entry.get_i32());
        let _ = writeln!(out, "timestamp={timestamp} offset={}", base_offset + i64::from(relative));
    })
}

/// Entries of a transaction index: the aborted transactions.
fn transaction_index(bytes: &[u8]) -> String {
    entries::<34>(bytes, |mut entry, out| {
        let _version = entry.get_i16();
        let (producer, first, last, stable) =
            (entry.get_i64(), entry.get_i64(), entry.get_i64(), entry.get_i64());
        let _ = writeln!(
            out,
            "producer_id={producer} first_offset={first} last_offset={last} last_stable_offset={stable}"
        );
    })
}

/// One line for each entry of `N` bytes, up to the zeros that an index in use ends in.
fn entries<const N: usize>(bytes: &[u8], mut show: impl FnMut(&[u8], &mut String)) -> String {
    let mut out = String::new();
    let (entries, rest) = bytes.as_chunks::<N>();
    let used =
        entries.iter().rposition(|entry| entry.iter().any(|&byte| byte != 0)).map_or(0, |last| last + 1);
    for entry in entries.iter().take(used) {
        show(entry, &mut out);
    }
    if used < entries.len() {
        let _ = writeln!(out, "empty_entries={}", entries.len() - used);
    }
    if !rest.is_empty() {
        let _ = writeln!(out, "trailing_bytes={}", rest.len());
    }
    out
}

/// A snapshot of the producers' states (`ProducerStateManager`): version, CRC-32C, count, entries.
fn producer_snapshot(bytes: &[u8]) -> String {
    const ENTRY: usize = 46;
    let mut fields = bytes;
    let (Ok(version), Ok(crc), Ok(count)) =
        (fields.try_get_i16(), fields.try_get_u32(), fields.try_get_i32())
    else {
        return "unreadable=\"it is too short\"\n".to_owned();
    };
    let mut out = format!("version={version} crc={crc:#010x} producers={count}\n");
    for mut entry in fields.chunks_exact(ENTRY) {
        let _ = writeln!(
            out,
            "producer_id={} producer_epoch={} last_sequence={} last_offset={} offset_delta={} timestamp={} \
             coordinator_epoch={} transaction_first_offset={}",
            entry.get_i64(),
            entry.get_i16(),
            entry.get_i32(),
            entry.get_i64(),
            entry.get_i32(),
            entry.get_i64(),
            entry.get_i32(),
            entry.get_i64(),
        );
    }
    out
}

/// A checkpoint: a version, a count, and as many lines; or properties, which speak for themselves.
fn text_file(name: &str, bytes: &[u8]) -> Result<String, CliError> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        CliError::Usage(format!(
            "{name} is none of a log directory's files; *.log, *.index, *.snapshot ... are"
        ))
    })?;
    let fields: &[&str] = match name {
        "leader-epoch-checkpoint" => &["leader_epoch", "start_offset"],
        "recovery-point-offset-checkpoint"
        | "replication-offset-checkpoint"
        | "log-start-offset-checkpoint"
        | "cleaner-offset-checkpoint" => &["topic", "partition", "offset"],
        _ => return Ok(text.to_owned()),
    };
    let mut lines = text.lines();
    let (version, count) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut out = format!("version={version} entries={count}\n");
    for line in lines {
        let pairs: Vec<String> = fields
            .iter()
            .zip(line.split_whitespace())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let _ = writeln!(out, "{}", pairs.join(" "));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use dohle_records::{BatchBuilder, BatchOptions, Compressor};
    use dohle_types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_segment_is_shown_batch_by_batch() {
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset: Offset(7),
            producer_id: ProducerId(1000),
            producer_epoch: ProducerEpoch(0),
            base_sequence: Sequence(5),
            ..BatchOptions::default()
        });
        builder.append(Timestamp(1000), Some(b"k"), Some(b"v\n"), &[(b"h", None)]).unwrap();
        builder.append(Timestamp(1001), None, Some(b"\xff"), &[]).unwrap();
        let bytes = builder.build(&mut Compressor::default()).unwrap();
        let mut input = &bytes[..];
        let batch = next_batch(&mut input, bytes.len() as u64).unwrap().unwrap();
        let mut out = batch_line(&batch, 300).into_bytes();
        out.push(b'\n');
        dump_records(&mut out, &batch, Owner::Topic, &mut Decompressor::default()).unwrap();
        expect![[r#"
            offsets=7..9 records=2 position=300 size=82 create_time=1001 compression=none leader_epoch=-1 crc=0xac4ca9a2 producer_id=1000 producer_epoch=0 sequence=5
              offset=7 timestamp=1000 key="k" value="v\n" header.h=null
              offset=8 timestamp=1001 key=null value=b"\xff"
        "#]].assert_eq(&String::from_utf8(out).unwrap());

        let mut torn = &bytes[..70];
        assert!(next_batch(&mut torn, 70).unwrap().is_err());
    }

    #[test]
    fn an_index_ends_where_only_zeros_follow() {
        let mut bytes = Vec::new();
        for (relative, position) in [(0_i32, 0_i32), (12, 4096)] {
            bytes.extend(relative.to_be_bytes());
            bytes.extend(position.to_be_bytes());
        }
        bytes.extend([0; 16]);
        expect![[r#"
            offset=100 position=0
            offset=112 position=4096
            empty_entries=2
        "#]]
        .assert_eq(&offset_index(&bytes, 100));
    }

    #[test]
    fn checkpoints_are_shown_with_names() {
        expect![[r#"
            version=0 entries=2
            topic=orders partition=0 offset=42
            topic=orders partition=1 offset=7
        "#]]
        .assert_eq(
            &text_file("recovery-point-offset-checkpoint", b"0\n2\norders 0 42\norders 1 7\n").unwrap(),
        );
        assert!(text_file("picture.png", b"\xff\xfe").is_err());
    }
}
