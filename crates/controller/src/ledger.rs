//! The controller as a tenant of the ledger contract: its state, its limits, and what its requests share.
//!
//! Each family of requests has a file with the `handle_*` methods of [`Controller`].

use std::collections::BTreeMap;

use dohle_types::{LeaderEpoch, Offset, Str};

use crate::image::MetadataImage;
use crate::record::MetadataRecord;
use crate::replay::ReplayError;

/// How many records one request may make, as in Kafka's `QuorumController`: they are one atomic batch.
pub const RECORDS_PER_REQUEST_MAX: usize = 10_000;

/// How many partitions all topics may have together.
///
/// Differs from Kafka: it has no such limit, and a client that may create topics can exhaust its brokers.
pub const PARTITIONS_MAX: usize = 200_000;

/// The longest string in a record, and so the longest value of a config.
pub(crate) const STRING_LEN_MAX: usize = 0x7fff;

/// The controller's durable state. It has no soft state while it is a quorum of one.
#[derive(Clone, Debug, Default)]
pub struct Controller {
    pub(crate) image: MetadataImage,
}

impl Controller {
    /// A controller that goes on from a snapshot.
    #[must_use]
    pub const fn new(image: MetadataImage) -> Self {
        Self { image }
    }

    /// What the records so far say, committed or not.
    #[must_use]
    pub const fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// Takes in the next record of the log; see [`MetadataImage::replay`].
    pub fn replay(
        &mut self,
        record: &MetadataRecord,
        offset: Offset,
        epoch: LeaderEpoch,
    ) -> Result<(), ReplayError> {
        self.image.replay(record, offset, epoch)
    }
}

/// The first of all items with the same key, in order, with whether there are others.
pub(crate) fn distinct<'a, T, K: Ord>(items: &'a [T], key: impl Fn(&'a T) -> K) -> Vec<(&'a T, bool)> {
    let mut counts: BTreeMap<K, usize> = BTreeMap::new();
    for item in items {
        *counts.entry(key(item)).or_default() += 1;
    }
    items.iter().filter_map(|item| counts.remove(&key(item)).map(|count| (item, count > 1))).collect()
}

/// An error's text for the wire, which has no longer strings than [`STRING_LEN_MAX`].
pub(crate) fn error_message(error: &impl std::error::Error) -> Option<Str> {
    let mut text = error.to_string();
    text.truncate(text.floor_char_boundary(STRING_LEN_MAX));
    Some(text.into())
}
