//! The controller: the ledger of the cluster over the metadata log, and the image that the log replays into.
//!
//! A request that changes topics, configs or brokers becomes records in Kafka's formats; the records are appended
//! to `__cluster_metadata`, replayed into a [`MetadataImage`], and answered once they are committed. A single node
//! is a quorum of one: it has no other way to change anything.
//!
//! What it is not: it knows no log and no network, it does not authorize (the handlers pass on only what a client
//! may do), it does not create partitions' directories (the broker does when it sees the image), and it elects no
//! controller.
//!
//! Inputs: requests as the wire has them ([`Controller`]'s `handle_*`), the broker's configs, randomness for ids, and
//! records that were appended or loaded ([`Controller::replay`]). Outputs: an [`Outcome`] per request.
//! There are no effects.
//!
//! Invariants:
//! 1. The image is what its records say: replaying the same log gives the same image, and nothing but
//!    [`MetadataImage::replay`] changes one.
//! 2. Records that a `handle_*` returns fit the image it has read: replaying them next cannot fail, and every one of
//!    them can be encoded.
//! 3. An answer with an error has no records, for each topic or resource on its own.
//! 4. A topic id, a producer id and a broker epoch are never given twice.
//! 5. A partition's leader epoch grows with each start of its leader: what a crash has taken from the end of a log
//!    is never mistaken for what came after (KIP-101, KIP-320).
//! 6. One request makes at most [`RECORDS_PER_REQUEST_MAX`] records; the cluster has at most [`PARTITIONS_MAX`]
//!    partitions.
//!
//! Start reading at [`ledger`], then [`image`], then any file of a request such as [`topics_create`].

pub mod bootstrap;
pub mod brokers;
pub mod configs_alter;
pub mod features_update;
pub mod image;
pub mod kept;
pub mod ledger;
pub mod log_dirs;
pub mod partitions_create;
mod partitions_reassign;
mod placement;
pub mod producer_ids;
pub mod record;
pub mod replay;
pub mod resource;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod topic_name;
pub mod topics_create;
pub mod topics_delete;
pub mod topics_undelete;

pub use bootstrap::{SUPPORTED_FEATURES, SupportedFeature, activation_records};
pub use brokers::BrokerRegistration;
pub use dohle_ledger::Outcome;
pub use image::{BrokerEndpoint, BrokerImage, ConfigOverrides, MetadataImage, PartitionImage, TopicImage};
pub use kept::Kept;
pub use ledger::{Controller, PARTITIONS_MAX, RECORDS_PER_REQUEST_MAX};
pub use placement::PlacementError;
pub use producer_ids::{PRODUCER_ID_BLOCK_LEN, ProducerIdBlock, ProducerIdsError};
pub use record::{MetadataRecord, RecordError};
pub use replay::ReplayError;
pub use resource::{ConfigResource, ConfigResourceError};
pub use topic_name::{
    GROUP_JOURNAL_TOPIC, TRANSACTION_STATE_TOPIC, TopicNameError, is_internal_topic, validate_topic_name,
};
pub use topics_create::CreateTopicError;
