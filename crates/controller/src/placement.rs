//! Where the replicas of new partitions go.

use std::collections::BTreeMap;

use dohle_types::{BrokerId, Rng};
use uuid::Uuid;

use crate::image::{BrokerImage, MetadataImage, PartitionImage};
use crate::log_dirs::LogDirLoad;

/// Why replicas cannot be placed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// There are fewer brokers than replicas.
    #[error(
        "Unable to replicate the partition {replicas} time(s): only {brokers} broker(s) are registered; \
         ask for a replication factor of at most {brokers}"
    )]
    TooFewBrokers {
        /// The replication factor.
        replicas: i16,
        /// The number of registered brokers.
        brokers: usize,
    },
    /// No broker could lead.
    #[error(
        "Unable to replicate the partition {0} time(s): All brokers are currently fenced, or have all their log \
         directories cordoned."
    )]
    NoActiveBroker(i16),
    /// Replicas cannot be fewer than one.
    #[error("Replication factor must be larger than 0, or -1 to use the default value.")]
    NotPositive,
}

/// Chooses the brokers of `partitions` new partitions, the leader first.
///
/// As with Kafka's `StripedReplicaPlacer` the replicas of a partition stand in as many racks as possible, the leaders
/// go around the brokers, where they begin is random, and brokers that are not active lead nothing and follow only
/// where the others do not suffice. A broker whose log dirs are all cordoned gets nothing (KIP-1066).
/// Differs from Kafka: the order of the brokers is not shuffled after each round.
pub(crate) fn place(
    image: &MetadataImage,
    rng: &mut Rng,
    partitions: usize,
    replication_factor: i16,
) -> Result<Vec<Vec<BrokerId>>, PlacementError> {
    let replicas = usize::try_from(replication_factor).unwrap_or(0);
    if replicas == 0 {
        return Err(PlacementError::NotPositive);
    }
    let (mut active, inactive): (Vec<&BrokerImage>, Vec<&BrokerImage>) = image
        .brokers()
        .map(|broker| &**broker)
        .filter(|broker| broker.takes_partitions())
        .partition(|broker| broker.is_active());
    if active.is_empty() {
        return Err(PlacementError::NoActiveBroker(replication_factor));
    }
    if replicas > image.brokers().len() {
        let brokers = image.brokers().len();
        return Err(PlacementError::TooFewBrokers { replicas: replication_factor, brokers });
    }
    stripe_racks(&mut active);
    let count = active.len();
    let first = usize::try_from(rng.below(count as u64)).unwrap_or(0);
    let assignment = |partition: usize| {
        let stripe = active.iter().cycle().skip((first + partition) % count).take(count);
        stripe.chain(&inactive).take(replicas).map(|broker| broker.id).collect()
    };
    Ok((0..partitions).map(assignment).collect())
}

/// Orders brokers so that neighbours stand in different racks: the first of each rack, the second of each, and so on.
fn stripe_racks(brokers: &mut [&BrokerImage]) {
    let mut counts = BTreeMap::new();
    let mut keyed: Vec<_> = brokers
        .iter()
        .map(|broker| {
            let position = counts.entry(&broker.rack).or_insert(0_usize);
            *position += 1;
            (*position, &broker.rack, *broker)
        })
        .collect();
    keyed.sort_by_key(|&(position, rack, broker)| (position, rack, broker.id));
    for (place, (_, _, broker)) in brokers.iter_mut().zip(keyed) {
        *place = broker;
    }
}

/// A new partition with these replicas: the active ones are in sync, the first of these leads. `None` if none is.
pub(crate) fn new_partition(
    image: &MetadataImage,
    load: &mut LogDirLoad,
    replicas: Vec<BrokerId>,
) -> Option<PartitionImage> {
    let is_active = |id: &BrokerId| image.broker(*id).is_some_and(|broker| broker.is_active());
    let isr: Vec<BrokerId> = replicas.iter().copied().filter(is_active).collect();
    Some(PartitionImage {
        directories: replicas
            .iter()
            .map(|&id| image.broker(id).map_or(Uuid::nil(), |broker| load.choose(broker)))
            .collect(),
        leader: *isr.first()?,
        replicas,
        isr,
        removing_replicas: Vec::new(),
        adding_replicas: Vec::new(),
        elr: Vec::new(),
        last_known_elr: Vec::new(),
        leader_is_recovering: false,
        leader_epoch: dohle_types::LeaderEpoch(0),
        partition_epoch: 0,
    })
}
