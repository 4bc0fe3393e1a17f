use std::fmt::Write as _;

use dohle_protocol::messages::update_features_request::FeatureUpdateKey;
use dohle_protocol::messages::{FeatureLevelRecord, UpdateFeaturesRequest};
use dohle_types::BrokerId;
use expect_test::expect;

use super::{Cluster, error};
use crate::Outcome;

/// Asks for `name level type` each, as one request, and tells the answer and the levels after it.
fn update(cluster: &mut Cluster, version: i16, validate_only: bool, updates: &[&str]) -> String {
    let parse = |text: &&str| {
        let words: Vec<&str> = text.split(' ').collect();
        FeatureUpdateKey {
            feature: words[0].into(),
            max_version_level: words[1].parse().unwrap(),
            allow_downgrade: words[2] == "allow_downgrade",
            upgrade_type: words[2].parse().unwrap_or(1),
        }
    };
    let request = UpdateFeaturesRequest {
        feature_updates: updates.iter().map(parse).collect(),
        validate_only,
        ..Default::default()
    };
    let outcome = cluster.controller.handle_update_features(BrokerId(1), &request, version);
    let reply = cluster.run(outcome);
    let mut text = error(reply.error_code, reply.error_message.as_ref());
    for result in reply.results {
        write!(text, ", {} {}", result.feature, error(result.error_code, result.error_message.as_ref()))
            .unwrap();
    }
    for (name, level) in cluster.image().finalized_features() {
        write!(text, ", {name}={level}").unwrap();
    }
    text + "\n"
}

#[test]
fn levels_go_up_and_down_as_kafka_lets_them() {
    let mut cluster = Cluster::new();
    let mut told = String::new();
    for updates in [
        &["group.version 0 1"] as &[&str],
        &["group.version 0 2"],
        &["group.version 0 2"],
        &["group.version 1 3"],
        &["group.version 1 1"],
        &["group.version 2 1"],
        &["group.version -1 2"],
        &["group.version 1 0"],
        &["share.version 1 1"],
        &["metadata.version 29 2"],
        &["metadata.version 6 3"],
        &["metadata.version 30 1", "group.version 0 2"],
        &["group.version 1 1", "metadata.version 31 1"],
        &["group.version 1 1", "group.version 1 1"],
        &[],
    ] {
        write!(told, "{updates:?}: {}", update(&mut cluster, 2, false, updates)).unwrap();
    }
    expect![[r#"
        ["group.version 0 1"]: INVALID_UPDATE_VERSION: The update failed for all features since the following feature had an error: Invalid update version 0 for feature group.version. Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade., group.version=1, metadata.version=30, transaction.version=2
        ["group.version 0 2"]: NONE: , metadata.version=30, transaction.version=2
        ["group.version 0 2"]: NONE: , metadata.version=30, transaction.version=2
        ["group.version 1 3"]: INVALID_UPDATE_VERSION: The update failed for all features since the following feature had an error: Invalid update version 1 for feature group.version. Can't downgrade to a newer version., metadata.version=30, transaction.version=2
        ["group.version 1 1"]: NONE: , group.version=1, metadata.version=30, transaction.version=2
        ["group.version 2 1"]: INVALID_UPDATE_VERSION: The update failed for all features since the following feature had an error: Invalid update version 2 for feature group.version. Local controller 1 only supports versions 0-1, group.version=1, metadata.version=30, transaction.version=2
        ["group.version -1 2"]: INVALID_UPDATE_VERSION: The update failed for all features since the following feature had an error: Invalid update version -1 for feature group.version. A feature version cannot be less than 0., group.version=1, metadata.version=30, transaction.version=2
        ["group.version 1 0"]: INVALID_UPDATE_VERSION: The update failed for all features since the following feature had an error: Invalid update version 1 for feature group.version. The controller does not support the given upgrade type., group.version=1, metadata.version=30, transaction.version=2
        ["share.version 1 1"]: INVALID_UPDATE_VERSION: The update failed for all features since the following feature had an error: Invalid update version 1 for feature share.version. Local controller 1 does not support this feature., group.version=1, metadata.version=30, transaction.version=2
        ["metadata.version 29 2"]: INVALID_UPDATE_VERSION: The update failed for all features since the following feature had an error: Unsupported metadata.version downgrade from 30 to 29. Refusing to perform the requested downgrade because it might delete metadata information., group.version=1, metadata.version=30, transaction.version=2
        ["metadata.version 6 3"]: INVALID_UPDATE_VERSION: The update failed for all features since the following feature had an error: Invalid update version 6 for feature metadata.version. Local controller 1 only supports versions 7-30, group.version=1, metadata.version=30, transaction.version=2
        ["metadata.version 30 1", "group.version 0 2"]: NONE: , metadata.version=30, transaction.version=2
        ["group.version 1 1", "metadata.version 31 1"]: INVALID_UPDATE_VERSION: The update failed for all features since the following feature had an error: Invalid update version 31 for feature metadata.version. Local controller 1 only supports versions 7-30, metadata.version=30, transaction.version=2
        ["group.version 1 1", "group.version 1 1"]: INVALID_REQUEST: The update failed for all features since the following feature had an error: The feature group.version appears more than once in the request, metadata.version=30, transaction.version=2
        []: INVALID_REQUEST: The update failed for all features since the following feature had an error: Can not provide empty FeatureUpdates: name a feature and its level, metadata.version=30, transaction.version=2
    "#]].assert_eq(&told);
}

#[test]
fn metadata_version_goes_back_as_far_as_no_record_has_changed() {
    let mut cluster = Cluster::new();
    let level = FeatureLevelRecord { name: "metadata.version".into(), feature_level: 29 };
    cluster.run(Outcome { records: vec![level.into()], reply: () });
    let mut told = String::new();
    for level in [22, 24, 23, 29] {
        told += &update(&mut cluster, 2, false, &[&format!("metadata.version {level} 2")]);
    }
    expect![[r#"
        INVALID_UPDATE_VERSION: The update failed for all features since the following feature had an error: Unsupported metadata.version downgrade from 29 to 22. Refusing to perform the requested downgrade because it might delete metadata information., group.version=1, metadata.version=29, transaction.version=2
        NONE: , group.version=1, metadata.version=24, transaction.version=2
        NONE: , group.version=1, metadata.version=23, transaction.version=2
        INVALID_UPDATE_VERSION: The update failed for all features since the following feature had an error: Invalid update version 29 for feature metadata.version. Can't downgrade to a newer version., group.version=1, metadata.version=23, transaction.version=2
    "#]].assert_eq(&told);
}

#[test]
fn older_versions_have_a_flag_and_an_answer_for_each_feature() {
    let mut cluster = Cluster::new();
    let told = [
        update(&mut cluster, 0, false, &["group.version 0 upgrade"]),
        update(&mut cluster, 0, false, &["group.version 0 allow_downgrade"]),
        update(&mut cluster, 1, false, &["group.version 1 1", "metadata.version 30 1"]),
    ];
    expect![[r#"
        INVALID_UPDATE_VERSION: The update failed for all features since the following feature had an error: Invalid update version 0 for feature group.version. Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade., group.version=1, metadata.version=30, transaction.version=2
        NONE: , group.version NONE: , metadata.version=30, transaction.version=2
        NONE: , group.version NONE: , metadata.version NONE: , group.version=1, metadata.version=30, transaction.version=2
    "#]].assert_eq(&told.concat());
}

#[test]
fn what_is_only_validated_changes_nothing() {
    let mut cluster = Cluster::new();
    let told = update(&mut cluster, 1, true, &["group.version 0 2"]);
    expect![[r#"
        NONE: , group.version NONE: , group.version=1, metadata.version=30, transaction.version=2
    "#]]
    .assert_eq(&told);
}
