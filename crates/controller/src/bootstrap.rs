//! The features of the cluster that have levels (KIP-584), and the first records of a new metadata log.

use dohle_protocol::messages::{AbortTransactionRecord, FeatureLevelRecord};
use dohle_types::Str;

use crate::image::MetadataImage;
use crate::record::MetadataRecord;

/// A feature with the levels that a node can work at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportedFeature {
    /// Kafka's name.
    pub name: &'static str,
    /// The lowest level.
    pub min_level: i16,
    /// The highest level, which a new cluster begins with.
    pub max_level: i16,
}

/// The features that this version serves.
///
/// Differs from Kafka: a feature appears here when Dohle serves it. Kafka 4.3.1 formats a new log also with
/// `eligible.leader.replicas.version`, `share.version` and `streams.version`, which tell clients of APIs that are not
/// there yet.
pub const SUPPORTED_FEATURES: &[SupportedFeature] = &[
    SupportedFeature { name: "group.version", min_level: 0, max_level: 1 },
    SupportedFeature { name: "metadata.version", min_level: 7, max_level: 30 },
    SupportedFeature { name: "transaction.version", min_level: 0, max_level: 2 },
];

/// The feature of this name, if this version serves it.
pub(crate) fn supported_feature(name: &str) -> Option<&'static SupportedFeature> {
    SUPPORTED_FEATURES.iter().find(|feature| feature.name == name)
}

/// What the log lacks when a controller begins to write to it, to be appended as one atomic batch: the end of a
/// transaction that another software's controller has left open, and in a new log the levels of all features; these
/// are in `formatted`, with whatever else the directory was formatted with, where Kafka's `kafka-storage` has formatted
/// it.
///
/// Kafka's `ActivationRecordsGenerator` writes the same, with its own transaction around the first records; one
/// batch is atomic without.
#[must_use]
pub fn activation_records(image: &MetadataImage, formatted: Vec<MetadataRecord>) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    if image.is_in_transaction() {
        let reason = Some(Str::const_new("left open by the last active controller"));
        records.push(AbortTransactionRecord { reason }.into());
    }
    let before = image.before_transaction.as_deref().unwrap_or(image);
    if before.features.is_empty() && !formatted.is_empty() {
        records.extend(formatted);
    } else if before.features.is_empty() {
        records.extend(SUPPORTED_FEATURES.iter().map(|feature| {
            FeatureLevelRecord { name: feature.name.into(), feature_level: feature.max_level }.into()
        }));
    }
    records
}
