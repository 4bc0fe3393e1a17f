//! `cargo xtask docs`: the pages of `docs/` that follow from the code.
//!
//! They are committed; `--check`, and a test, compare them with what would be generated and never write.

mod differences;
mod protocol;

use std::fs;

use crate::repository::{at, root};

/// `docs` writes, `docs --check` compares.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    match arguments {
        [] => write(),
        ["--check"] => check(),
        _ => Err("usage: cargo xtask docs [--check]".to_owned()),
    }
}

/// Writes the pages that are not current.
pub(crate) fn write() -> Result<(), String> {
    for (name, page) in stale()? {
        let path = root().join(name);
        fs::write(&path, page).map_err(|e| at(&path, &e))?;
    }
    Ok(())
}

/// Fails if any page would be written.
pub(crate) fn check() -> Result<(), String> {
    let stale: Vec<&str> = stale()?.into_iter().map(|(name, _)| name).collect();
    if stale.is_empty() {
        return Ok(());
    }
    Err(format!("not current: {}; run `cargo xtask docs` and commit the result", stale.join(", ")))
}

/// The generated pages that are missing or say something else, and what they should say.
fn stale() -> Result<Vec<(&'static str, String)>, String> {
    let pages = [
        ("docs/configs.md", dohle_configs::docs_page()),
        ("docs/differences.md", differences::page()?),
        ("docs/metrics.md", dohle_metrics::docs_page()),
        ("docs/protocol.md", protocol::page()?),
    ];
    let is_stale =
        |(name, page): &(&str, String)| fs::read_to_string(root().join(name)).ok().as_ref() != Some(page);
    Ok(pages.into_iter().filter(is_stale).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_generated_pages_are_current() {
        assert_eq!(super::check(), Ok(()));
    }
}
