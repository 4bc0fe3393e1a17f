//! What follows from the decision how a transaction ends: each of its partitions gets a marker, and when all have
//! theirs, the transaction is complete.

use std::collections::BTreeSet;

use dohle_types::{Now, ProducerEpoch, ProducerId, Str};

use crate::effects::{Marker, MarkerOutcome};
use crate::state::{Partitions, Status, Transaction};
use crate::{TransactionLedger, Turn};

/// The partitions of a transaction that have no marker yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unwritten {
    /// Those that are asked, or wait to be asked again.
    pub(crate) partitions: BTreeSet<(Str, i32)>,
    /// Those of them that have refused, and will be asked again.
    pub(crate) refused: BTreeSet<(Str, i32)>,
}

impl TransactionLedger {
    /// Takes in what became of the marker of a producer's transaction in some of its partitions. Answers that come
    /// twice, or late, do no harm.
    pub fn on_markers(
        &mut self,
        turn: &mut Turn<'_>,
        transactional_id: &Str,
        producer: (ProducerId, ProducerEpoch),
        outcomes: &[((Str, i32), MarkerOutcome)],
    ) {
        let Some(present) = self.state.transaction(transactional_id).cloned() else { return };
        let Status::Prepare(result) = present.status else { return };
        let Some(unwritten) = self.unwritten.get_mut(transactional_id) else { return };
        if (present.producer_id, present.epoch) != producer {
            return;
        }
        let mut is_refused = false;
        for (partition, outcome) in outcomes {
            match outcome {
                MarkerOutcome::Done => {
                    unwritten.partitions.remove(partition);
                    unwritten.refused.remove(partition);
                }
                MarkerOutcome::Refused if unwritten.partitions.contains(partition) => {
                    is_refused |= unwritten.refused.is_empty();
                    unwritten.refused.insert(partition.clone());
                }
                MarkerOutcome::Refused => {}
                // It is for the newer coordinator to complete it.
                MarkerOutcome::Fenced => {
                    self.unwritten.remove(transactional_id);
                    return;
                }
            }
        }
        if unwritten.partitions.is_empty() {
            self.unwritten.remove(transactional_id);
            let completed = present.completed(result, turn.now.wall);
            Self::write(transactional_id, &completed, turn);
        } else if is_refused {
            let at = turn.now.after(self.config.marker_retry_backoff);
            self.retries.insert((at, transactional_id.clone()));
        }
    }

    /// Has all markers of a transaction written that is being ended.
    pub(crate) fn write_markers(
        &mut self,
        transactional_id: &Str,
        prepared: &Transaction,
        turn: &mut Turn<'_>,
    ) {
        let partitions = prepared.partitions.iter();
        let partitions: BTreeSet<(Str, i32)> = partitions
            .flat_map(|(topic, indexes)| indexes.iter().map(|&index| (topic.clone(), index)))
            .collect();
        if partitions.is_empty() {
            // The log of a coordinator that stopped between two records of a transaction without partitions.
            if let Status::Prepare(result) = prepared.status {
                let completed = prepared.completed(result, turn.now.wall);
                Self::write(transactional_id, &completed, turn);
            }
            return;
        }
        turn.effects.markers.extend(self.marker(transactional_id, prepared, prepared.partitions.clone()));
        let unwritten = Unwritten { partitions, refused: BTreeSet::new() };
        self.unwritten.insert(transactional_id.clone(), unwritten);
    }

    /// Asks the partitions again that have refused their marker.
    pub(crate) fn retry_markers(&mut self, now: Now, turn: &mut Turn<'_>) {
        while let Some((_, transactional_id)) =
            self.retries.first().filter(|(at, _)| *at <= now.instant).cloned()
        {
            self.retries.pop_first();
            let Some(unwritten) = self.unwritten.get_mut(&transactional_id) else { continue };
            let refused = std::mem::take(&mut unwritten.refused);
            let mut partitions = Partitions::new();
            for (topic, index) in refused {
                partitions.entry(topic).or_default().insert(index);
            }
            let Some(present) = self.state.transaction(&transactional_id) else { continue };
            if !partitions.is_empty() {
                turn.effects.markers.extend(self.marker(&transactional_id, present, partitions));
            }
        }
    }

    fn marker(
        &self,
        transactional_id: &Str,
        prepared: &Transaction,
        partitions: Partitions,
    ) -> Option<Marker> {
        let Status::Prepare(result) = prepared.status else { return None };
        Some(Marker {
            transactional_id: transactional_id.clone(),
            producer_id: prepared.producer_id,
            producer_epoch: prepared.epoch,
            result,
            coordinator_epoch: self.coordinator_epoch,
            transaction_version: prepared.client_version,
            partitions,
        })
    }
}
