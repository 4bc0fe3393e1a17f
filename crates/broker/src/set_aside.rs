//! Names of directories that are no partition's at the moment.
//!
//! They end as Kafka's do, `-delete` or `-stray`, so that Kafka opens a data directory with them in it: the first it
//! removes, the second it leaves alone. A name is at most [`NAME_MAX`] long, for which a long topic's is cut.

use dohle_storage::disk::{FilePath, LogDir};
use dohle_types::{PartitionIndex, TopicId};
use uuid::Uuid;

/// What the directory of a deleted partition ends with while it is being removed.
pub(crate) const DELETED_SUFFIX: &str = "-delete";
const STRAY_SUFFIX: &str = "-stray";
const TRASH_MARK: &str = ".trash-";

/// The longest name that file systems take.
pub(crate) const NAME_MAX: usize = 255;

/// Where a deleted partition's directory goes until it is removed.
pub(crate) fn deleted(directory: &str, unique: Uuid) -> FilePath {
    renamed(directory, &format!(".{}{DELETED_SUFFIX}", unique.simple()))
}

/// Where a directory goes that belongs to no partition, and may be somebody's data.
pub(crate) fn stray(directory: &str, unique: Uuid) -> FilePath {
    renamed(directory, &format!(".{}{STRAY_SUFFIX}", unique.simple()))
}

/// Where the directory of a partition goes whose topic is in the trash.
pub(crate) fn trashed(directory: &str, topic_id: TopicId) -> FilePath {
    renamed(directory, &format!("{TRASH_MARK}{}{STRAY_SUFFIX}", topic_id.0.simple()))
}

/// Whose directory a name is that [`trashed`] made.
pub(crate) fn parse_trashed(name: &str) -> Option<(TopicId, PartitionIndex)> {
    let (partition, id) = name.strip_suffix(STRAY_SUFFIX)?.rsplit_once(TRASH_MARK)?;
    let index = partition.rsplit_once('-')?.1.parse().ok()?;
    Some((TopicId(Uuid::try_parse(id).ok()?), PartitionIndex(index)))
}

fn renamed(directory: &str, suffix: &str) -> FilePath {
    let (log_dir, name) = LogDir::split(directory);
    let (topic, partition) = name.rsplit_once('-').unwrap_or((name, ""));
    // Topics' names are ASCII.
    let room = NAME_MAX.saturating_sub(1 + partition.len() + suffix.len());
    let topic = topic.get(..room).unwrap_or(topic);
    log_dir.path(&format!("{topic}-{partition}{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_whose_they_are_and_are_never_too_long() {
        let id = TopicId(Uuid::from_u128(77));
        for topic in ["orders", &"x".repeat(249)] {
            for directory in [format!("{topic}-12"), format!("@1/{topic}-12")] {
                let names = [trashed(&directory, id), stray(&directory, id.0), deleted(&directory, id.0)];
                for path in &names {
                    let (log_dir, name) = LogDir::split(path);
                    assert_eq!(log_dir, LogDir::of(&directory));
                    assert!(name.len() <= NAME_MAX && name.starts_with(&topic[..6]), "{name}");
                }
                let parsed = names.each_ref().map(|path| parse_trashed(LogDir::split(path).1));
                assert_eq!(parsed, [Some((id, PartitionIndex(12))), None, None]);
            }
        }
    }
}
