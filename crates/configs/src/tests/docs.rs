//! The page of the docs is the one that the table gives.

#[test]
fn docs_configs_md_is_current() {
    let page = include_str!("../../../../docs/configs.md");
    assert!(page == crate::docs_page(), "docs/configs.md is out of date: refresh it by `cargo xtask docs`");
}
