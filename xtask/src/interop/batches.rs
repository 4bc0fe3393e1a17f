//! What lies in a partition's segments: which codecs, and whether an idempotent producer wrote it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::process::Result;

/// The compression codecs by the number in a batch's attributes.
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// The bytes of a batch before those that its length counts.
const PREFIX: usize = 12;

/// Checks that every codec, and only batches of idempotent producers, are in the segments of a topic.
pub(crate) fn check(data: &Path, topic: &str) -> Result<()> {
    let mut codecs = BTreeSet::new();
    let entries = fs::read_dir(data).map_err(|error| format!("cannot list {}: {error}", data.display()))?;
    for folder in entries.flatten().map(|entry| entry.path()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.rsplit_once('-').is_some_and(|(of, _)| of == topic) {
            for file in fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
                if file.extension().is_some_and(|extension| extension == "log") {
                    let bytes = fs::read(&file)
                        .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
                    walk(&bytes, &mut codecs).map_err(|error| format!("{}: {error}", file.display()))?;
                }
            }
        }
    }
    let all: BTreeSet<&str> = CODECS.into_iter().collect();
    if codecs == all { Ok(()) } else { Err(format!("the log holds batches with the codecs {codecs:?} only")) }
}

fn walk(mut bytes: &[u8], codecs: &mut BTreeSet<&'static str>) -> Result<()> {
    // A preallocated tail is zeros.
    while let Some(length) = number(bytes, 8, 4).filter(|&length| length > 0) {
        let attributes = number(bytes, 21, 2).ok_or("a batch is cut off")?;
        let producer = number(bytes, 43, 8).ok_or("a batch is cut off")?;
        let codec = usize::try_from(attributes & 7).ok().and_then(|at| CODECS.get(at));
        codecs.insert(codec.ok_or("a batch has no known codec")?);
        if producer == u64::MAX {
            return Err("a batch has no producer id: the producer was not idempotent".to_owned());
        }
        bytes = usize::try_from(length)
            .ok()
            .and_then(|length| bytes.get(PREFIX + length..))
            .ok_or("a batch is cut off")?;
    }
    Ok(())
}

/// A big-endian number in the bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    Some(bytes.get(at..at + size)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}
