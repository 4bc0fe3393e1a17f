//! Registration of a broker when it starts, and the elections that follow from it.

use dohle_ledger::Outcome;
use dohle_protocol::messages::register_broker_record::{BrokerEndpoint as EndpointRecord, BrokerFeature};
use dohle_protocol::messages::{BrokerRegistrationChangeRecord, PartitionChangeRecord, RegisterBrokerRecord};
use dohle_types::{BrokerId, Offset, Str};
use uuid::Uuid;

use crate::bootstrap::SUPPORTED_FEATURES;
use crate::image::{BrokerEndpoint, PartitionImage};
use crate::ledger::Controller;
use crate::record::MetadataRecord;

/// `LeaderRecoveryState` in records.
const RECOVERED: i8 = 0;
const UNCHANGED: i8 = -1;

/// What a broker tells of itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRegistration {
    /// The broker.
    pub id: BrokerId,
    /// An id that this process has drawn for itself.
    pub incarnation_id: Uuid,
    /// Its advertised addresses.
    pub endpoints: Vec<BrokerEndpoint>,
    /// Its rack.
    pub rack: Option<Str>,
    /// The ids of its log directories that are online.
    pub log_dirs: Vec<Uuid>,
}

impl Controller {
    /// Registers the node of a quorum of one, unfences it, and makes it the leader of what it can lead. The reply is
    /// the broker's epoch.
    ///
    /// `next_offset` is the offset at which the first record of the outcome will stand: it is the broker's epoch. The
    /// outcome has a record for each partition and may be appended in several batches; a crash between them is
    /// repaired by the next start.
    ///
    /// Differs from Kafka: there a broker's partitions go to no leader when it stops or is not heard of, and back
    /// when it has registered again, which makes two leader epochs of each restart. Here nothing is written when the
    /// node stops and one new leader epoch when it starts, which tells clients of a truncated log just as well.
    #[must_use]
    pub fn handle_register_broker(
        &self,
        registration: BrokerRegistration,
        next_offset: Offset,
    ) -> Outcome<MetadataRecord, i64> {
        let (id, epoch) = (registration.id, next_offset.0);
        let mut records = vec![
            registration_record(registration, epoch),
            BrokerRegistrationChangeRecord {
                broker_id: id.0,
                broker_epoch: epoch,
                fenced: -1,
                ..Default::default()
            }
            .into(),
        ];
        for topic in self.image.topics() {
            for (index, partition) in &topic.partitions {
                if let Some(change) = elect(partition, id) {
                    let (partition_id, topic_id) = (index.0, topic.id.0);
                    records.push(PartitionChangeRecord { partition_id, topic_id, ..change }.into());
                }
            }
        }
        Outcome { records, reply: epoch }
    }
}

fn registration_record(registration: BrokerRegistration, broker_epoch: i64) -> MetadataRecord {
    let end_points = registration.endpoints.into_iter().map(|endpoint| EndpointRecord {
        name: endpoint.listener,
        host: endpoint.host,
        port: endpoint.port,
        security_protocol: endpoint.security_protocol,
    });
    let features = SUPPORTED_FEATURES.iter().map(|feature| BrokerFeature {
        name: feature.name.into(),
        min_supported_version: feature.min_level,
        max_supported_version: feature.max_level,
    });
    RegisterBrokerRecord {
        broker_id: registration.id.0,
        incarnation_id: registration.incarnation_id,
        broker_epoch,
        end_points: end_points.collect(),
        features: features.collect(),
        rack: registration.rack,
        fenced: true,
        log_dirs: registration.log_dirs,
        ..Default::default()
    }
    .into()
}

/// How a partition changes when `broker` has started and no other is alive; `None` if it does not.
///
/// The order of preference is Kafka's `PartitionChangeBuilder`: a member of the ISR, then of the ELR (both have every
/// committed record), and of the last known ELR if there is nobody else at all.
fn elect(partition: &PartitionImage, broker: BrokerId) -> Option<PartitionChangeRecord> {
    let no_other_leads = partition.leader == broker || partition.leader == BrokerId::NONE;
    if !no_other_leads || !partition.replicas.contains(&broker) {
        return None;
    }
    // Opening the log has recovered it; there is nobody else to recover from (KIP-704).
    let leader_recovery_state = if partition.leader_is_recovering { RECOVERED } else { UNCHANGED };
    let elected = PartitionChangeRecord { leader: broker.0, leader_recovery_state, ..Default::default() };
    if partition.isr.contains(&broker) {
        return Some(elected);
    }
    let is_last_known =
        partition.isr.is_empty() && partition.elr.is_empty() && partition.last_known_elr.contains(&broker);
    if !partition.elr.contains(&broker) && !is_last_known {
        return None;
    }
    let rest_of_elr = partition.elr.iter().filter(|&&member| member != broker).map(|member| member.0);
    Some(PartitionChangeRecord {
        isr: Some(vec![broker.0]),
        eligible_leader_replicas: Some(rest_of_elr.collect()),
        last_known_elr: Some(Vec::new()),
        ..elected
    })
}
