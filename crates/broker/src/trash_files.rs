//! The files of the trash: a manifest for each topic in it, in the log dir of the metadata log, and how they are read
//! at start.
//!
//! A manifest is called by the topic's id and `.trash`. It is a version (two bytes), the CRC-32C of what follows, and
//! `TrashManifest` of `crates/protocol/schemas/dohle`. Kafka passes over files beside its partitions' directories.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use dohle_protocol::messages::TrashManifest;
use dohle_protocol::{EncodeError, Message};
use dohle_storage::checkpoint::{PARTITION_METADATA, parse_partition_metadata};
use dohle_storage::disk::{Answer, FilePath, Job, LogDir, Progress};
use dohle_storage::script::Script;
use dohle_types::TopicId;

const SUFFIX: &str = ".trash";
const VERSION: i16 = 0;
/// More than a `partition.metadata` takes.
const METADATA_MAX: usize = 1024;

/// Where the manifest of a topic is.
pub(crate) fn manifest_path(log_dir: LogDir, topic_id: TopicId) -> FilePath {
    log_dir.path(&format!("{}{SUFFIX}", topic_id.0.simple()))
}

/// A manifest as a file.
pub(crate) fn encode(manifest: &TrashManifest) -> Result<Bytes, EncodeError> {
    let body = manifest.to_bytes(VERSION)?;
    let mut file = BytesMut::with_capacity(6 + body.len());
    file.put_i16(VERSION);
    file.put_u32(crc32c::crc32c(&body));
    file.put(body);
    Ok(file.freeze())
}

fn decode(file: &Bytes) -> Result<TrashManifest, String> {
    let mut fields = file.clone();
    let version = fields.try_get_i16().map_err(|_| "it is cut short")?;
    let crc = fields.try_get_u32().map_err(|_| "it is cut short")?;
    if version != VERSION {
        return Err(format!("its version is {version}, but only version {VERSION} is known"));
    }
    if crc32c::crc32c(&fields) != crc {
        return Err("its CRC does not match its bytes".to_owned());
    }
    TrashManifest::from_bytes(&fields, VERSION).map_err(|error| error.to_string())
}

/// What the files say of the trash.
#[derive(Debug, Default)]
pub struct TrashFacts {
    /// The manifests that can be read.
    pub manifests: Vec<TrashManifest>,
    /// The topic ids of directories that are named like a partition of one of them.
    pub ids: BTreeMap<(LogDir, String), TopicId>,
}

/// Reads [`TrashFacts`].
pub struct ReadTrash(Script<TrashFacts>);

impl std::fmt::Debug for ReadTrash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadTrash")
    }
}

impl Job for ReadTrash {
    type Output = TrashFacts;

    fn start(&mut self) -> Progress<TrashFacts> {
        self.0.start()
    }

    fn resume(&mut self, answer: Answer) -> Progress<TrashFacts> {
        self.0.resume(answer)
    }
}

impl ReadTrash {
    /// Will read the manifests in `log_dir`. `directories` are those of each log dir.
    #[must_use]
    pub fn new(log_dir: LogDir, directories: BTreeMap<LogDir, BTreeSet<String>>) -> Self {
        Self(Script::new(|disk| async move {
            let mut facts = TrashFacts::default();
            for entry in disk.list(&log_dir.root()).await {
                if entry.is_directory || !entry.name.ends_with(SUFFIX) {
                    continue;
                }
                let length = usize::try_from(entry.length).unwrap_or(usize::MAX);
                let file = disk.read(&log_dir.path(&entry.name), 0, length).await.unwrap_or_default();
                match decode(&file) {
                    Ok(manifest) => facts.manifests.push(manifest),
                    Err(error) => {
                        tracing::error!(
                            file = entry.name,
                            error,
                            "a deleted topic's manifest cannot be read"
                        );
                    }
                }
            }
            for manifest in &facts.manifests {
                for partition in &manifest.partitions {
                    let name = format!("{}-{}", manifest.name, partition.index);
                    for (&log_dir, _) in directories.iter().filter(|(_, names)| names.contains(&name)) {
                        let path = log_dir.path(&format!("{name}/{PARTITION_METADATA}"));
                        let metadata = disk.read(&path, 0, METADATA_MAX).await;
                        if let Some(id) = metadata.and_then(|file| parse_partition_metadata(&file)) {
                            facts.ids.insert((log_dir, name.clone()), id);
                        }
                    }
                }
            }
            facts
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_and_damage_to_it_is_noticed() {
        let manifest = TrashManifest { name: "orders".into(), deleted_at_ms: 7, ..TrashManifest::default() };
        let file = encode(&manifest).unwrap();
        assert_eq!(decode(&file), Ok(manifest));
        for length in 0..file.len() {
            assert!(decode(&file.slice(..length)).is_err(), "cut to {length}");
        }
        for at in 0..file.len() {
            let mut damaged = file.to_vec();
            damaged[at] ^= 0x10;
            assert!(decode(&damaged.into()).is_err(), "flipped at {at}");
        }
    }
}
