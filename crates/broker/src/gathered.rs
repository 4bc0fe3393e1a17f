//! What a ledger has written while its last batch is on its way to being committed: it gathers, and is the next batch.
//! A thousand requests that come in together are a few batches and as many syncs, and none of them waits longer for it.

use bytes::Bytes;
use dohle_records::{BatchBuilder, BatchOptions, Compressor};
use dohle_types::Offset;

use crate::ledger_hosts::Held;
use crate::node::Node;
use crate::partition::PartitionKey;

/// What a ledger has written, by which it already decides, and which its log has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    records: Vec<GatheredRecord>,
    bytes: usize,
    held: Vec<Held>,
}

#[derive(Debug)]
struct GatheredRecord {
    key: Bytes,
    value: Option<Bytes>,
    /// Bytes that it takes up in a batch, at most.
    size: usize,
}

impl Gathered {
    /// One more record, which takes up `size` bytes of a batch at most.
    pub(crate) fn add(&mut self, key: Bytes, value: Option<Bytes>, size: usize) {
        self.bytes += size;
        self.records.push(GatheredRecord { key, value, size });
    }

    /// What waits until the records are committed, for it may speak of them.
    pub(crate) fn hold(&mut self, held: Held) {
        self.held.push(held);
    }

    /// Bytes of the records.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there are no records, and thus nothing to wait for.
    pub(crate) const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What waited for the records.
    pub(crate) fn into_held(self) -> Vec<Held> {
        self.held
    }
}

impl Node {
    /// Appends the records as one batch, or as several in their order if they are more than fits in one. The log's end
    /// after them; `None` where it takes them not.
    pub(crate) fn append_gathered(
        &mut self,
        partition: PartitionKey,
        gathered: &Gathered,
        batch_bytes_max: usize,
    ) -> Option<Offset> {
        let mut end = None;
        let mut rest = &gathered.records[..];
        while !rest.is_empty() {
            let mut bytes_left = batch_bytes_max;
            let fits = rest.iter().position(|record| match bytes_left.checked_sub(record.size) {
                Some(left) => {
                    bytes_left = left;
                    false
                }
                None => true,
            });
            let (batch, others) = rest.split_at(fits.unwrap_or(rest.len()).max(1));
            let mut builder = BatchBuilder::new(BatchOptions::default());
            for record in batch {
                builder.append(self.now.wall, Some(&record.key), record.value.as_deref(), &[]).ok()?;
            }
            let batch = builder.build(&mut Compressor::default()).ok()?;
            end = Some(self.append_to_ledger_log(partition, batch)?);
            rest = others;
        }
        end
    }
}
