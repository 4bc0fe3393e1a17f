//! Transactions in the logs of group ledgers: offsets that they commit, and their markers.
//!
//! Both are appended at once, after what the ledger has gathered, for the order of the log is that in which offsets win.

use bytes::Bytes;
use dohle_groups::Record;
use dohle_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use dohle_records::{BatchBuilder, BatchOptions, Compressor};
use dohle_storage::Origin;
use dohle_types::{ErrorCode, Offset, ProducerEpoch, ProducerId, Sequence};

use crate::node::Node;
use crate::txn_markers::TxnMarker;

impl Node {
    /// Commits offsets within a producer's transaction.
    pub(crate) fn commit_in_transaction(
        &mut self,
        index: i32,
        producer: (ProducerId, ProducerEpoch),
        request: &OffsetCommitRequest,
    ) -> Result<OffsetCommitResponse, ErrorCode> {
        self.prepare_for_transaction(index)?;
        let host = self.groups.host(index).ok_or(ErrorCode::NotCoordinator)?;
        let (records, response) = host.ledger.commit_offsets_in_transaction(self.now, request);
        if records.is_empty() {
            return Ok(response);
        }
        let (key, batch) = (host.partition, self.batch_of_transaction(producer, &records)?);
        let partition = self.partitions.by_key_mut(key).ok_or(ErrorCode::NotCoordinator)?;
        let appended = match partition.append(
            self.now,
            batch,
            Origin::Coordinator,
            &mut self.codecs,
            &mut self.effects,
        ) {
            Ok(appended) => appended,
            Err(None) => return Err(ErrorCode::CoordinatorNotAvailable),
            Err(Some(error)) => {
                tracing::warn!(partition = %partition.name, %error, "offsets of a transaction are refused");
                return Err(error.error_code());
            }
        };
        self.log_dirs.use_room(partition.log_dir, appended.bytes);
        self.partitions.admit_tail(key, appended.bytes);
        let host = self.groups.host(index).ok_or(ErrorCode::NotCoordinator)?;
        host.appended = appended.next_offset;
        for (at, record) in (appended.first_offset.0..).zip(&records) {
            let (key, value) = (&record.key, record.value.as_ref());
            if let Err(error) = host.ledger.replay_at(Offset(at), Some(producer.0), key, value) {
                unreachable!("a ledger reads what it wrote: {error}");
            }
        }
        Ok(response)
    }

    /// What a ledger has gathered comes before what a transaction writes into its log.
    pub(crate) fn prepare_for_transaction(&mut self, index: i32) -> Result<(), ErrorCode> {
        if !self.groups.host(index).is_some_and(|host| host.loaded) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        self.write_gathered(index, Some(0)).ok_or(ErrorCode::KafkaStorageError)
    }

    /// A transaction was ended in a ledger's log, which ends at `end` now.
    pub(crate) fn on_group_marker(&mut self, index: i32, marker: &TxnMarker, end: Offset) {
        let Some(host) = self.groups.host(index) else { return };
        host.appended = end;
        for (group_id, topic, partition, offset) in
            host.ledger.replay_marker(marker.producer_id, marker.is_commit)
        {
            self.note_commits(&group_id, vec![(topic, partition, offset)]);
        }
    }

    fn batch_of_transaction(
        &self,
        (producer_id, producer_epoch): (ProducerId, ProducerEpoch),
        records: &[Record],
    ) -> Result<Bytes, ErrorCode> {
        let options = BatchOptions {
            producer_id,
            producer_epoch,
            base_sequence: Sequence(-1),
            transactional: true,
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(options);
        for record in records {
            let appended = builder.append(self.now.wall, Some(&record.key), record.value.as_deref(), &[]);
            appended.map_err(|_| ErrorCode::InvalidCommitOffsetSize)?;
        }
        builder.build(&mut Compressor::default()).map_err(|_| ErrorCode::InvalidCommitOffsetSize)
    }
}
