//! Blocks of producer ids: a broker takes one and gives its ids to idempotent producers.

use dohle_ledger::Outcome;
use dohle_protocol::messages::ProducerIdsRecord;
use dohle_types::{BrokerId, ErrorCode, ProducerId};

use crate::ledger::Controller;
use crate::record::MetadataRecord;

/// How many producer ids a broker gets at a time (Kafka's `ProducerIdsBlock`).
pub const PRODUCER_ID_BLOCK_LEN: i64 = 1000;

/// Consecutive producer ids that belong to one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first of them.
    pub first: ProducerId,
    /// How many they are.
    pub len: i64,
}

/// Why there are no producer ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducerIdsError {
    /// The broker is not registered.
    #[error("broker {0} is not registered; it has to register before it asks for producer ids")]
    NotRegistered(BrokerId),
    /// Another process has registered as this broker since.
    #[error("broker {0} was registered again since with a newer epoch; this process has to stop")]
    StaleEpoch(BrokerId),
    /// All 2^63 producer ids were given.
    #[error("all producer ids were given away")]
    Exhausted,
}

impl ProducerIdsError {
    /// The code on the wire.
    #[must_use]
    pub const fn error_code(self) -> ErrorCode {
        match self {
            Self::NotRegistered(_) => ErrorCode::BrokerIdNotRegistered,
            Self::StaleEpoch(_) => ErrorCode::StaleBrokerEpoch,
            Self::Exhausted => ErrorCode::UnknownServerError,
        }
    }
}

impl Controller {
    /// Gives the next block to a broker.
    pub fn handle_allocate_producer_ids(
        &self,
        broker: BrokerId,
        broker_epoch: i64,
    ) -> Outcome<MetadataRecord, Result<ProducerIdBlock, ProducerIdsError>> {
        match self.next_block(broker, broker_epoch) {
            Ok(block) => {
                let record = ProducerIdsRecord {
                    broker_id: broker.0,
                    broker_epoch,
                    next_producer_id: block.first.0 + block.len,
                };
                Outcome { records: vec![record.into()], reply: Ok(block) }
            }
            Err(error) => Outcome::reply(Err(error)),
        }
    }

    fn next_block(&self, broker: BrokerId, epoch: i64) -> Result<ProducerIdBlock, ProducerIdsError> {
        match self.image.broker(broker) {
            None => return Err(ProducerIdsError::NotRegistered(broker)),
            Some(registered) if registered.epoch != epoch => {
                return Err(ProducerIdsError::StaleEpoch(broker));
            }
            Some(_) => {}
        }
        let first = self.image.next_producer_id();
        if first.0 > i64::MAX - PRODUCER_ID_BLOCK_LEN {
            return Err(ProducerIdsError::Exhausted);
        }
        Ok(ProducerIdBlock { first, len: PRODUCER_ID_BLOCK_LEN })
    }
}
