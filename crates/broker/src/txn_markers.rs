//! Appending the markers that end transactions in partitions (KIP-98).
//!
//! In a partition of `__consumer_offsets` the offsets that the transaction commits count from then on, or never.

use dohle_records::{BatchOptions, ControlRecordType, EndTxnMarker};
use dohle_storage::Origin;
use dohle_types::{ErrorCode, Offset, ProducerEpoch, ProducerId, Sequence, TopicId};

use crate::node::Node;
use crate::partition::{PartitionKey, Tenant};

/// The end of a producer's transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TxnMarker {
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) is_commit: bool,
    /// The term of the coordinator that decided.
    pub(crate) coordinator_epoch: i32,
    /// Whether it is one of transactions v2, whose epoch has to be greater than that of what it ends.
    pub(crate) is_v2: bool,
}

impl Node {
    /// Ends a transaction in a partition; it has ended when the partition is committed up to the offset returned.
    pub(crate) fn append_marker(
        &mut self,
        marker: &TxnMarker,
        topic: &str,
        index: i32,
    ) -> Result<(PartitionKey, Offset), ErrorCode> {
        let topic_id = self.topic_id(TopicId::ZERO, topic)?;
        let key = self.partitions.key(topic_id, index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let tenant = self.partitions.by_key(key).map(|partition| partition.tenant);
        match tenant {
            None => return Err(ErrorCode::UnknownTopicOrPartition),
            Some(Tenant::None) => {}
            Some(Tenant::Groups(index)) => self.prepare_for_transaction(index)?,
            Some(Tenant::Metadata | Tenant::Transactions(_)) => return Err(ErrorCode::InvalidTopicException),
        }
        let origin = if marker.is_v2 { Origin::MarkerV2 } else { Origin::Coordinator };
        let partition = self.partitions.by_key_mut(key).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let batch = batch(marker, self.now.wall);
        let appended = match partition.append(self.now, batch, origin, &mut self.codecs, &mut self.effects) {
            Ok(appended) => appended,
            Err(None) => return Err(partition.unavailable()),
            Err(Some(error)) => {
                tracing::warn!(partition = %partition.name, %error, "a transaction marker is refused");
                return Err(error.error_code());
            }
        };
        self.log_dirs.use_room(partition.log_dir, appended.bytes);
        self.partitions.admit_tail(key, appended.bytes);
        if let Some(Tenant::Groups(index)) = tenant
            && !appended.duplicate
        {
            self.on_group_marker(index, marker, appended.next_offset);
        }
        Ok((key, appended.next_offset))
    }
}

fn batch(marker: &TxnMarker, now: dohle_types::Timestamp) -> bytes::Bytes {
    let options = BatchOptions {
        producer_id: marker.producer_id,
        producer_epoch: marker.producer_epoch,
        base_sequence: Sequence(-1),
        transactional: true,
        ..BatchOptions::default()
    };
    let kind = if marker.is_commit { ControlRecordType::Commit } else { ControlRecordType::Abort };
    let value = EndTxnMarker::new(marker.coordinator_epoch).to_bytes();
    dohle_records::control::control_batch(options, now, &[(kind, &value)])
        .unwrap_or_else(|error| unreachable!("a marker is a few bytes: {error}"))
}
