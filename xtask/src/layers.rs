//! `cargo xtask layers`: a crate depends only on crates of lower layers, never sideways or upwards.

use std::collections::BTreeMap;

use crate::repository::{crates, read};

/// The layers from the bottom up. A crate that is not here yet is added with its feature.
const LAYERS: [&[&str]; 7] = [
    &["types", "timeline"],
    &["protocol", "records", "configs", "metrics", "ledger", "security", "checker"],
    &["storage", "replication", "raft", "controller", "groups", "transactions", "shares"],
    &["broker", "client"],
    &["io", "sim"],
    &["server", "cli", "console"],
    &["dohle"],
];

/// Fails if a crate has no layer, or depends on one that is not below it.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    let [] = arguments else { return Err("usage: cargo xtask layers".to_owned()) };
    let mut manifests = BTreeMap::new();
    for folder in crates()? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        manifests.insert(name, read(&folder.join("Cargo.toml"))?);
    }
    let violations = violations(&manifests);
    if violations.is_empty() { Ok(()) } else { Err(violations.join("\n")) }
}

/// What the manifests, by crate, do against the rule. Dependencies of tests are held to it as well.
fn violations(manifests: &BTreeMap<String, String>) -> Vec<String> {
    let mut violations = Vec::new();
    for (name, manifest) in manifests {
        let Some(own) = layer(name) else {
            violations.push(format!("{name}: has no layer; give it one in xtask/src/layers.rs"));
            continue;
        };
        let dependencies = manifest.lines().filter_map(|line| line.strip_prefix("dohle-"));
        for dependency in dependencies.filter_map(|line| line.split(['.', ' ', '=']).next()) {
            match layer(dependency) {
                Some(other) if other < own => {}
                Some(other) => violations.push(format!(
                    "{name} (layer {own}) depends on {dependency} (layer {other}), not below it"
                )),
                None => violations.push(format!("{name} depends on {dependency}, which has no layer")),
            }
        }
    }
    violations
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_to_its_layers() {
        assert_eq!(run(&[]), Ok(()));
    }

    #[test]
    fn dependencies_sideways_upwards_and_of_tests_are_found() {
        let manifest =
            |dependencies: &str| format!("[package]\nname = \"dohle-x\"\n\n[dependencies]\n{dependencies}");
        let manifests = BTreeMap::from([
            ("broker".to_owned(), manifest("bytes.workspace = true\ndohle-storage.workspace = true\n")),
            ("new".to_owned(), manifest("")),
            ("records".to_owned(), manifest("dohle-protocol = { path = \"../protocol\" }\n")),
            ("storage".to_owned(), manifest("\n[dev-dependencies]\ndohle-broker.workspace = true\n")),
        ]);
        assert_eq!(
            violations(&manifests),
            [
                "new: has no layer; give it one in xtask/src/layers.rs",
                "records (layer 1) depends on protocol (layer 1), not below it",
                "storage (layer 2) depends on broker (layer 3), not below it",
            ]
        );
    }
}
