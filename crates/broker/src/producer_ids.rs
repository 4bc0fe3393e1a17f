//! Producer ids for idempotent producers: handed out from a block that the controller reserved for this broker.

use std::ops::Range;

use dohle_types::ProducerId;

/// The rest of the block that this broker may hand out.
#[derive(Debug, Default)]
pub struct ProducerIds {
    block: Range<i64>,
    /// A block whose reservation is not committed yet.
    reserving: Option<Range<i64>>,
}

impl ProducerIds {
    /// The next id; `None` where the block is used up.
    pub fn take(&mut self) -> Option<ProducerId> {
        self.block.next().map(ProducerId)
    }

    /// Whether the block is not used up.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.block.is_empty()
    }

    /// Whether a block is being reserved.
    #[must_use]
    pub const fn is_reserving(&self) -> bool {
        self.reserving.is_some()
    }

    /// A block is being reserved.
    pub fn reserve(&mut self, block: Range<i64>) {
        self.reserving = Some(block);
    }

    /// The reservation is committed.
    pub fn commit(&mut self) {
        self.block = self.reserving.take().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_from_the_block_and_one_reservation_is_made_when_it_is_used_up() {
        let mut ids = ProducerIds::default();
        assert_eq!(ids.take(), None);
        ids.reserve(1000..1002);
        assert_eq!((ids.is_reserving(), ids.take()), (true, None));
        ids.commit();
        assert_eq!(
            (ids.take(), ids.take(), ids.take()),
            (Some(ProducerId(1000)), Some(ProducerId(1001)), None)
        );
        assert!(!ids.is_reserving());
    }
}
