//! Which of a broker's log dirs a replica is in (KIP-858), and which take no new ones (KIP-1066).
//!
//! Differs from Kafka: the controller chooses the log dir of a new replica itself, the one with the fewest partitions.
//! There it leaves the choice, which is the same, to a broker with several, and is told by AssignReplicasToDirs.

use std::collections::BTreeMap;

use dohle_protocol::messages::{BrokerRegistrationChangeRecord, PartitionChangeRecord};
use dohle_types::{BrokerId, PartitionIndex, TopicId};
use uuid::Uuid;

use crate::features_update::METADATA_VERSION;
use crate::image::{BrokerImage, MetadataImage, PartitionImage};
use crate::ledger::Controller;
use crate::record::MetadataRecord;

/// The level of `metadata.version` (4.3-IV0) that brought them.
const CORDONS_LEVEL: i16 = 30;
/// Nil, "the broker chooses"; Kafka keeps the ids up to 99 for such meanings.
const UNASSIGNED: Uuid = Uuid::nil();

/// How many replicas each log dir has; counted only where a broker has a choice.
#[derive(Debug)]
pub(crate) struct LogDirLoad(BTreeMap<Uuid, usize>);

impl LogDirLoad {
    pub(crate) fn of(image: &MetadataImage) -> Self {
        let with_choice = image.brokers().filter(|broker| broker.log_dirs.len() > 1);
        let mut load: BTreeMap<Uuid, usize> =
            with_choice.flat_map(|broker| &broker.log_dirs).map(|&dir| (dir, 0)).collect();
        if !load.is_empty() {
            let partitions = image.topics().flat_map(|topic| topic.partitions.values());
            for directory in partitions.flat_map(|partition| &partition.directories) {
                load.entry(*directory).and_modify(|count| *count += 1);
            }
        }
        Self(load)
    }

    /// The log dir of a broker for one more replica. A cordoned one is chosen only where all are, and the client has
    /// named the broker.
    pub(crate) fn choose(&mut self, broker: &BrokerImage) -> Uuid {
        if let [only] = &*broker.log_dirs {
            return *only;
        }
        let load = &mut self.0;
        let takes_any = !broker.takes_partitions();
        let candidates = broker.log_dirs.iter().copied().filter(|&dir| takes_any || !broker.is_cordoned(dir));
        let emptiest = candidates.min_by_key(|dir| load.get(dir).copied().unwrap_or_default());
        if let Some(dir) = emptiest {
            *load.entry(dir).or_default() += 1;
        }
        emptiest.unwrap_or(UNASSIGNED)
    }
}

impl PartitionImage {
    /// The log dir of a broker's replica; `None` where it has none or may choose.
    #[must_use]
    pub fn directory_of(&self, broker: BrokerId) -> Option<Uuid> {
        let place = self.replicas.iter().position(|&replica| replica == broker)?;
        self.directories.get(place).copied().filter(|&directory| directory != UNASSIGNED)
    }
}

impl MetadataImage {
    /// Whether the metadata log may tell of cordoned log dirs.
    #[must_use]
    pub fn supports_cordons(&self) -> bool {
        self.features.get(METADATA_VERSION).is_some_and(|&level| level >= CORDONS_LEVEL)
    }
}

impl BrokerImage {
    /// Whether a log dir takes no new partitions.
    #[must_use]
    pub fn is_cordoned(&self, log_dir: Uuid) -> bool {
        self.cordoned_log_dirs.as_ref().is_some_and(|cordoned| cordoned.contains(&log_dir))
    }

    /// Whether it has a log dir that takes new partitions; one that tells of no log dirs does.
    #[must_use]
    pub fn takes_partitions(&self) -> bool {
        self.log_dirs.is_empty() || self.log_dirs.iter().any(|&log_dir| !self.is_cordoned(log_dir))
    }
}

impl Controller {
    /// The records that say that a broker has only these log dirs left, and that some of its log dirs are cordoned:
    /// new replicas go to no other.
    #[must_use]
    pub fn change_log_dirs(
        &self,
        broker: BrokerId,
        log_dirs: Vec<Uuid>,
        cordoned: Vec<Uuid>,
    ) -> Vec<MetadataRecord> {
        let Some(registered) = self.image.broker(broker) else { return Vec::new() };
        let has_changed = registered.log_dirs != log_dirs;
        let has_cordons_changed = registered.cordoned_log_dirs.as_deref().unwrap_or_default() != cordoned;
        if !has_changed && !has_cordons_changed {
            return Vec::new();
        }
        let change = BrokerRegistrationChangeRecord {
            broker_id: broker.0,
            broker_epoch: registered.epoch,
            log_dirs: if has_changed { log_dirs } else { Vec::new() },
            cordoned_log_dirs: has_cordons_changed.then_some(cordoned),
            ..Default::default()
        };
        vec![change.into()]
    }

    /// The records that say where a broker's replicas are, as far as the log says otherwise.
    #[must_use]
    pub fn assign_log_dirs(
        &self,
        broker: BrokerId,
        assignments: impl IntoIterator<Item = (TopicId, PartitionIndex, Uuid)>,
    ) -> Vec<MetadataRecord> {
        let change = |(topic_id, index, directory): (TopicId, PartitionIndex, Uuid)| {
            let partition = self.image.topic_by_id(topic_id)?.partitions.get(&index)?;
            let place = partition.replicas.iter().position(|&replica| replica == broker)?;
            let mut directories = partition.directories.clone();
            let known = directories.get_mut(place)?;
            (std::mem::replace(known, directory) != directory).then(|| {
                PartitionChangeRecord {
                    partition_id: index.0,
                    topic_id: topic_id.0,
                    directories: Some(directories),
                    ..Default::default()
                }
                .into()
            })
        };
        assignments.into_iter().filter_map(change).collect()
    }
}
