//! Bits that flip on the medium, below records that are durable, until an operator restores the files.
//!
//! Meanwhile nobody may be shown such a record as if it were whole, and all others are served: readers that are refused
//! ask again, and in the end find everything as it was written. A batch is chosen that its producer has forgotten: one of
//! the last ones a start after a crash could not tell from one that never came, and take again.

use std::collections::BTreeMap;

use dohle_records::BatchHeader;
use dohle_storage::disk::LogDir;

use crate::clients::FORK;
use crate::marks::Mark;
use crate::plan::End;
use crate::world::World;

/// So many batches later a producer does not send one again: it has no more requests under way.
const REMEMBERED: usize = 5;

/// The producer's id, epoch and sequence in a batch: what was durable before a crash is believed in them.
const PRODUCER_FIELDS: std::ops::Range<usize> = 43..57;

/// The leader epoch, which no CRC covers.
const LEADER_EPOCH: std::ops::Range<usize> = 12..16;

/// A bit that is not as it was written.
#[derive(Debug)]
pub(crate) struct Flip {
    /// The directory of the partition and the file in it, in whichever log dir.
    directory: String,
    file: String,
    position: usize,
    bit: u8,
    /// What the byte reads as now.
    flipped: u8,
}

impl World {
    /// Flips a bit of a record, where there is one that may be hit.
    pub(crate) fn flip_bit(&mut self, drawn: u64) {
        let is_index = drawn.is_multiple_of(4);
        let mut places = Vec::new();
        for (path, content) in self.disk.files() {
            let (_, name) = LogDir::split(&path);
            let Some((directory, file)) = name.split_once('/') else { continue };
            let is_of_partition = self.plan.topics.iter().any(|(topic, partitions)| {
                (0..*partitions).any(|partition| directory == format!("{topic}-{partition}"))
            });
            let suffix = if is_index { ".index" } else { ".log" };
            if is_of_partition && file.ends_with(suffix) && self.disk.is_on_medium(&path) {
                let old = if is_index { index_entries(content) } else { old_batches(content) };
                let old = old.into_iter().map(|(position, size)| {
                    (path.clone(), directory.to_owned(), file.to_owned(), position, size)
                });
                places.extend(old);
            }
        }
        let Some(place) = index(drawn).checked_rem(places.len()) else { return };
        let (path, directory, file, start, size) = places.swap_remove(place);
        let (within, bit) = (index(self.rng.below(size as u64)), self.rng.next_u64().to_be_bytes()[0] % 8);
        let position = start + within;
        if is_index {
            let is_flipped = self.disk.flip_bit(&path, position, bit);
            self.trace.note(self.now, "flip", position as u64, u64::from(bit), || path);
            return self.shared.marks.sometimes(Mark::IndexFlipped, is_flipped);
        }
        if PRODUCER_FIELDS.contains(&within) || LEADER_EPOCH.contains(&within) {
            return;
        }
        if self.disk.flip_bit(&path, position, bit) {
            self.trace.note(self.now, "flip", position as u64, u64::from(bit), || {
                format!("{path} {start} + {within}")
            });
            self.shared.marks.sometimes(Mark::BitFlipped, true);
            let flipped = self.disk.files().get(&path).map_or(0, |content| content[position]);
            self.invariants.on_flipped(&directory);
            self.flips.push(Flip { directory, file, position, bit, flipped });
        }
    }

    /// Files with flipped bits are restored from a copy, and the node takes them when it starts again.
    pub(crate) fn restore_flipped(&mut self) {
        if self.flips.is_empty() {
            return;
        }
        for flip in std::mem::take(&mut self.flips) {
            let copies: Vec<String> = self
                .disk
                .files()
                .into_iter()
                .filter(|(path, content)| {
                    flip.is_in(path) && content.get(flip.position) == Some(&flip.flipped)
                })
                .map(|(path, _)| path)
                .collect();
            for path in copies {
                // It may have the same file under several names.
                if self.disk.files().get(&path).and_then(|it| it.get(flip.position)) == Some(&flip.flipped) {
                    self.disk.flip_bit(&path, flip.position, flip.bit);
                }
            }
        }
        self.end_node(End::Kill);
        self.invariants.on_restored();
    }
}

impl Flip {
    /// Whether a path is that of the file, or of one that a move or a fork has made of it.
    fn is_in(&self, path: &str) -> bool {
        let (_, name) = LogDir::split(path);
        let Some((directory, file)) = name.split_once('/') else { return false };
        let is_copy = source_of(directory)
            .strip_prefix(&self.directory)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        is_copy && file == self.file
    }
}

/// The directory of the partition that one was forked of, or itself.
pub(crate) fn source_of(directory: &str) -> String {
    let of_fork =
        directory.split_once(FORK).and_then(|(source, rest)| Some((source, rest.split_once('-')?.1)));
    of_fork.map_or_else(|| directory.to_owned(), |(source, rest)| format!("{source}-{rest}"))
}

/// Where the entries of an offset index begin, and how large they are.
fn index_entries(content: &[u8]) -> Vec<(usize, usize)> {
    (0..content.len() / 8).map(|entry| (entry * 8, 8)).collect()
}

/// Where the batches of a segment begin, and how large they are, but for the last ones of each producer.
fn old_batches(content: &[u8]) -> Vec<(usize, usize)> {
    let mut batches = Vec::new();
    let mut position = 0;
    while let Some(Ok(header)) = content.get(position..).map(BatchHeader::parse) {
        batches.push((position, header.size_in_bytes(), header.producer_id));
        position += header.size_in_bytes();
    }
    let mut later = BTreeMap::new();
    let mut old: Vec<(usize, usize)> = Vec::new();
    for (position, size, producer) in batches.into_iter().rev() {
        let later: &mut usize = later.entry(producer).or_default();
        if *later >= REMEMBERED {
            old.push((position, size));
        }
        *later += 1;
    }
    old
}

fn index(drawn: u64) -> usize {
    usize::try_from(drawn).unwrap_or_default()
}
