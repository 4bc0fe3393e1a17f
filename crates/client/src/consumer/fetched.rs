//! A batch that was fetched.

use dohle_records::{Batch, BatchError, Decompressor, Record};
use dohle_types::{Offset, TopicPartition};

/// A batch of records of one partition, as it came from the broker.
#[derive(Clone, Debug)]
pub struct Fetched {
    partition: TopicPartition,
    batch: Batch,
    from: Offset,
}

impl Fetched {
    pub(super) const fn new(partition: TopicPartition, batch: Batch, from: Offset) -> Self {
        Self { partition, batch, from }
    }

    /// The partition it is from.
    #[must_use]
    pub const fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The batch, header and all. It may begin before the position that was asked for.
    #[must_use]
    pub const fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The offset after its last record.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.batch.header().next_offset()
    }

    /// How many bytes it has as it came, compressed or not.
    #[must_use]
    pub const fn size_in_bytes(&self) -> usize {
        self.batch.bytes().len()
    }

    /// The records from the position on, as slices of the batch, which is decompressed now if it has to be.
    pub fn records(
        &self,
        decompressor: &mut Decompressor,
    ) -> Result<impl Iterator<Item = Result<Record, BatchError>> + use<>, BatchError> {
        let from = self.from;
        let records = self.batch.records(decompressor)?;
        Ok(records.filter(move |record| record.as_ref().map_or(true, |record| record.offset >= from)))
    }
}
