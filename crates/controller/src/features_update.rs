//! UpdateFeatures (key 57, versions 0-2): other levels for the features of the cluster (KIP-584, KIP-778).
//!
//! One request is one change: either all of its features get their levels, or none does. What is said of an error is
//! Kafka's, so that its tools read as ever.

use std::collections::BTreeSet;

use dohle_ledger::Outcome;
use dohle_protocol::messages::update_features_request::FeatureUpdateKey;
use dohle_protocol::messages::update_features_response::UpdatableFeatureResult;
use dohle_protocol::messages::{FeatureLevelRecord, UpdateFeaturesRequest, UpdateFeaturesResponse};
use dohle_types::{BrokerId, ErrorCode, Str};

use crate::bootstrap::supported_feature;
use crate::image::MetadataImage;
use crate::ledger::{Controller, error_message};
use crate::record::MetadataRecord;

pub(crate) const METADATA_VERSION: &str = "metadata.version";

/// The levels of `metadata.version` that brought new records or fields of them, as Kafka's `MetadataVersion` has them:
/// a way back over one of these could lose what was written since.
const METADATA_CHANGES: [i16; 8] = [8, 11, 13, 14, 15, 17, 23, 30];

/// Why no feature gets another level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateFeaturesError {
    /// The request names nothing.
    #[error("Can not provide empty FeatureUpdates: name a feature and its level")]
    Empty,
    /// The request names a feature twice.
    #[error("The feature {0} appears more than once in the request")]
    Duplicate(Str),
    /// No level that this feature can have now.
    #[error("Invalid update version {level} for feature {feature}. {reason}")]
    Level {
        /// The feature.
        feature: Str,
        /// The level asked for.
        level: i16,
        /// What stands against it.
        reason: LevelError,
    },
    /// The metadata log may say what the lower version has no words for.
    #[error(
        "Unsupported metadata.version downgrade from {from} to {to}. Refusing to perform the requested downgrade \
         because it might delete metadata information."
    )]
    LosesMetadata {
        /// The level there is.
        from: i16,
        /// The level asked for.
        to: i16,
    },
}

/// What stands against a level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// No such way of changing it.
    #[error("The controller does not support the given upgrade type.")]
    UnknownUpgradeType,
    /// Levels begin at 0.
    #[error("A feature version cannot be less than 0.")]
    Negative,
    /// The feature is not served here.
    #[error("Local controller {0} does not support this feature.")]
    UnknownFeature(BrokerId),
    /// The feature has other levels.
    #[error("Local controller {node} only supports versions {min}-{max}")]
    Unsupported {
        /// This node.
        node: BrokerId,
        /// The lowest level.
        min: i16,
        /// The highest level.
        max: i16,
    },
    /// An upgrade to a lower level.
    #[error(
        "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade."
    )]
    IsDowngrade,
    /// A downgrade to a higher level.
    #[error("Can't downgrade to a newer version.")]
    IsUpgrade,
}

impl UpdateFeaturesError {
    /// The code on the wire.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::Empty | Self::Duplicate(_) => ErrorCode::InvalidRequest,
            Self::Level { .. } | Self::LosesMetadata { .. } => ErrorCode::InvalidUpdateVersion,
        }
    }
}

/// The direction in which a level may go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UpgradeType {
    Upgrade,
    /// Safe or not: what would lose metadata is never done, in Kafka neither.
    Downgrade,
}

impl UpgradeType {
    /// Version 0 has a flag in place of the type.
    const fn of(update: &FeatureUpdateKey, version: i16) -> Option<Self> {
        match (version, update.upgrade_type) {
            (0, _) if update.allow_downgrade => Some(Self::Downgrade),
            (0, _) | (_, 1) => Some(Self::Upgrade),
            (_, 2 | 3) => Some(Self::Downgrade),
            _ => None,
        }
    }
}

impl Controller {
    /// Gives features the levels that are asked for; `node` is the controller that answers.
    ///
    /// Until version 1 the reply tells of each feature that went well; from version 2 on, of all of them at once.
    #[must_use]
    pub fn handle_update_features(
        &self,
        node: BrokerId,
        request: &UpdateFeaturesRequest,
        version: i16,
    ) -> Outcome<MetadataRecord, UpdateFeaturesResponse> {
        match updates(&self.image, node, request, version) {
            Ok(mut records) => {
                if request.validate_only {
                    records.clear();
                }
                let told = request.feature_updates.iter().filter(|_| version <= 1);
                let results = told
                    .map(|update| UpdatableFeatureResult {
                        feature: update.feature.clone(),
                        ..UpdatableFeatureResult::default()
                    })
                    .collect();
                Outcome { records, reply: UpdateFeaturesResponse { results, ..Default::default() } }
            }
            Err(error) => {
                let error_code = error.error_code().code();
                let text = error_message(&error).unwrap_or_default();
                let about = "The update failed for all features since the following feature had an error";
                Outcome::reply(UpdateFeaturesResponse {
                    error_code,
                    error_message: Some(format!("{about}: {text}").into()),
                    ..UpdateFeaturesResponse::default()
                })
            }
        }
    }
}

fn updates(
    image: &MetadataImage,
    node: BrokerId,
    request: &UpdateFeaturesRequest,
    version: i16,
) -> Result<Vec<MetadataRecord>, UpdateFeaturesError> {
    if request.feature_updates.is_empty() {
        return Err(UpdateFeaturesError::Empty);
    }
    let mut named = BTreeSet::new();
    let update = |update: &FeatureUpdateKey| {
        if !named.insert(update.feature.clone()) {
            return Err(UpdateFeaturesError::Duplicate(update.feature.clone()));
        }
        let (feature, level) = (&update.feature, update.max_version_level);
        let current = image.finalized_features().find(|(name, _)| **name == **feature);
        let current = current.map_or(0, |(_, level)| level);
        check_level(node, update, version, current).map_err(|reason| {
            let feature = feature.clone();
            UpdateFeaturesError::Level { feature, level, reason }
        })?;
        if **feature == *METADATA_VERSION && METADATA_CHANGES.iter().any(|&at| level < at && at <= current) {
            return Err(UpdateFeaturesError::LosesMetadata { from: current, to: level });
        }
        Ok(FeatureLevelRecord { name: feature.clone(), feature_level: level }.into())
    };
    request.feature_updates.iter().map(update).collect()
}

fn check_level(
    node: BrokerId,
    update: &FeatureUpdateKey,
    version: i16,
    current: i16,
) -> Result<(), LevelError> {
    let upgrade_type = UpgradeType::of(update, version).ok_or(LevelError::UnknownUpgradeType)?;
    let level = update.max_version_level;
    if level < 0 {
        return Err(LevelError::Negative);
    }
    let Some(feature) = supported_feature(&update.feature) else {
        return Err(LevelError::UnknownFeature(node));
    };
    let (min, max) = (feature.min_level, feature.max_level);
    if !(min..=max).contains(&level) {
        return Err(LevelError::Unsupported { node, min, max });
    }
    match upgrade_type {
        UpgradeType::Upgrade if level < current => Err(LevelError::IsDowngrade),
        UpgradeType::Downgrade if level > current => Err(LevelError::IsUpgrade),
        UpgradeType::Upgrade | UpgradeType::Downgrade => Ok(()),
    }
}
