//! Loading a ledger: its log is read, the metadata log from where the newest snapshot ends and the others from the
//! start, in pieces, and replayed.

use bytes::Bytes;
use dohle_records::{Batches, ControlRecordKey};
use dohle_storage::{Read, ReadError};
use dohle_types::Offset;

use crate::host::DiskJob;
use crate::node::Node;
use crate::partition::{PartitionKey, Tenant};
use crate::started_jobs::JobPurpose;

/// Bytes that are replayed at a time, so that loading a long log holds up nothing else for long.
const PIECE_BYTES: usize = 256 << 10;

impl Node {
    /// Goes on loading from `next`, until the next piece must be read from files.
    pub(crate) fn load_ledger(&mut self, key: PartitionKey, mut next: Offset) {
        loop {
            let Some(partition) = self.partitions.by_key(key) else { return };
            let (tenant, end) = (partition.tenant, partition.high_watermark());
            let Some(log) = partition.log() else { return };
            let from = next.max(log.start_offset());
            if from >= end {
                return self.on_ledger_loaded(tenant);
            }
            match log.read(from, end, PIECE_BYTES, true) {
                Ok(Read::Hot(batches)) => match self.replay_piece(key, tenant, from, Ok(batches)) {
                    Some(replayed) => next = replayed,
                    None => return,
                },
                Ok(Read::Cold(job)) => {
                    let job = DiskJob::ColdRead(Box::new(job));
                    return self.start_read(key, JobPurpose::LoadLedger(key, from), job);
                }
                Err(_) => return self.fail_to_load(key, "the log has no such offset"),
            }
        }
    }

    /// A piece from `from` on was read from files.
    pub(crate) fn on_ledger_piece(
        &mut self,
        key: PartitionKey,
        from: Offset,
        batches: Result<Vec<Bytes>, ReadError>,
    ) {
        let Some(tenant) = self.partitions.by_key(key).map(|partition| partition.tenant) else { return };
        if let Some(next) = self.replay_piece(key, tenant, from, batches) {
            self.load_ledger(key, next);
        }
    }

    /// Replays a piece, and says where the next one begins; `None` where that was the end, of the log or of trying.
    fn replay_piece(
        &mut self,
        key: PartitionKey,
        tenant: Tenant,
        from: Offset,
        batches: Result<Vec<Bytes>, ReadError>,
    ) -> Option<Offset> {
        let replayed = batches
            .map_err(|error| error.to_string())
            .and_then(|batches| self.replay_batches(tenant, &batches));
        match replayed {
            Ok(Some(next)) if next > from => return Some(next),
            // A damaged log must not be read in circles.
            Ok(Some(_)) => self.fail_to_load(key, "its offsets do not ascend"),
            Ok(None) => self.on_ledger_end(key, tenant),
            Err(why) => self.fail_to_load(key, &why),
        }
        None
    }

    /// There is nothing between here and the log's end. In a compacted log that is no error: compaction has taken
    /// the last records away, or a crash has lost them before they were committed and left the segment after them.
    fn on_ledger_end(&mut self, key: PartitionKey, tenant: Tenant) {
        match tenant {
            Tenant::Groups(_) | Tenant::Transactions(_) => self.on_ledger_loaded(tenant),
            Tenant::Metadata | Tenant::None => self.fail_to_load(key, "the log ends early"),
        }
    }

    fn on_ledger_loaded(&mut self, tenant: Tenant) {
        match tenant {
            Tenant::Metadata => self.on_metadata_loaded(),
            Tenant::Groups(index) => self.on_groups_loaded(index),
            Tenant::Transactions(index) => self.on_txns_loaded(index),
            Tenant::None => {}
        }
    }

    /// Replays all records, and says where the next piece begins.
    fn replay_batches(&mut self, tenant: Tenant, batches: &[Bytes]) -> Result<Option<Offset>, String> {
        let mut next = None;
        for batch in batches.iter().flat_map(|bytes| Batches::new(bytes.clone())) {
            let batch = batch.map_err(|error| error.to_string())?;
            next = Some(batch.header().next_offset());
            let epoch = batch.header().partition_leader_epoch;
            let is_control = batch.header().attributes.is_control();
            if tenant == Tenant::Metadata {
                self.note_metadata_batch(batch.header());
            }
            let records = batch.records(&mut self.codecs.decompressor).map_err(|error| error.to_string())?;
            for record in records {
                let record = record.map_err(|error| error.to_string())?;
                match tenant {
                    Tenant::Metadata if is_control => {
                        let key = ControlRecordKey::parse(&record.key.unwrap_or_default());
                        let key = key.map_err(|error| format!("offset {}: {error}", record.offset))?;
                        self.replay_quorum(key.record_type, record.value)?;
                    }
                    Tenant::Metadata => self.replay_metadata(record.offset, epoch, record.value)?,
                    Tenant::Groups(index) => self.replay_group_record(index, batch.header(), record),
                    Tenant::Transactions(index) => self.replay_txn_record(index, batch.header(), record),
                    Tenant::None => {}
                }
            }
        }
        Ok(next)
    }

    fn fail_to_load(&mut self, key: PartitionKey, why: &str) {
        let Some(partition) = self.partitions.by_key_mut(key) else { return };
        tracing::error!(partition = %partition.name, why, "a ledger cannot be loaded");
        partition.take_offline(why.to_owned());
        match partition.tenant {
            Tenant::None => {}
            Tenant::Metadata => self.fail_to_boot(format!("the metadata log cannot be replayed: {why}")),
            Tenant::Groups(index) => self.remove_group_host(index),
            Tenant::Transactions(index) => self.remove_txn_host(index),
        }
    }
}
