//! Offsets that a transaction commits (KIP-98): they count when its marker says so, and not at all if it is aborted.
//!
//! As with Kafka's `OffsetMetadataManager`, of two commits for a partition the one that was written later counts,
//! though its transaction may have ended earlier; and an offset that is deleted does not come back with the end of a
//! transaction that wanted to commit it before.

use std::collections::{BTreeMap, BTreeSet};

use dohle_types::{Offset, ProducerId, Str};

use crate::state::CommittedOffset;

/// A partition as a group knows it: group id, topic, partition.
pub(crate) type Place = (Str, Str, i32);

/// What open transactions want to commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    by_producer: BTreeMap<ProducerId, BTreeMap<Place, (Offset, CommittedOffset)>>,
}

impl Pending {
    /// Takes note of a commit within a transaction; its record stands at `at`.
    pub(crate) fn add(&mut self, producer: ProducerId, at: Offset, place: Place, committed: CommittedOffset) {
        self.by_producer.entry(producer).or_default().insert(place, (at, committed));
    }

    /// Something that was written at `at` has been committed for a partition, or the partition's offset was deleted there:
    /// what was written before is out of date.
    pub(crate) fn supersede(&mut self, at: Offset, place: &Place) {
        if self.by_producer.is_empty() {
            return;
        }
        for places in self.by_producer.values_mut() {
            if places.get(place).is_some_and(|(pending, _)| *pending < at) {
                places.remove(place);
            }
        }
        self.by_producer.retain(|_, places| !places.is_empty());
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_producer.values().map(BTreeMap::len).sum()
    }

    /// Whether a transaction wants to commit an offset of this partition.
    pub(crate) fn contains(&self, group_id: &Str, topic: &Str, partition: i32) -> bool {
        if self.by_producer.is_empty() {
            return false;
        }
        let place = (group_id.clone(), topic.clone(), partition);
        self.by_producer.values().any(|places| places.contains_key(&place))
    }

    /// The groups that transactions want to commit offsets of.
    pub(crate) fn groups(&self) -> BTreeSet<&Str> {
        self.places().map(|((group_id, ..), _)| group_id).collect()
    }

    /// What transactions want to commit, each partition of a group as often as there are transactions that do.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&Place, &CommittedOffset)> {
        self.by_producer.values().flatten().map(|(place, (_, committed))| (place, committed))
    }

    /// The transaction has ended: what it wanted to commit.
    pub(crate) fn end(&mut self, producer: ProducerId) -> BTreeMap<Place, (Offset, CommittedOffset)> {
        self.by_producer.remove(&producer).unwrap_or_default()
    }
}
