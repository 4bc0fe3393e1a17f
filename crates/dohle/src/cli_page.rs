//! `docs/cli.md`: what `--help` says of each command.

use std::fmt::Write as _;

use clap::CommandFactory;
use expect_test::expect_file;

use crate::Arguments;

const INTRODUCTION: &str = "\
# The command line

<!-- Written by `UPDATE_EXPECT=1 cargo test -p dohle` from the command line's own help. Do not edit. -->
";

#[test]
fn the_page_of_the_command_line_is_current() {
    // The page must not depend on what is set where the test runs.
    let mut command = Arguments::command().mut_arg("bootstrap_server", |arg| arg.hide_env_values(true));
    command.build();
    let mut page = INTRODUCTION.to_owned();
    describe(&mut command, &mut page);
    expect_file!["../../../docs/cli.md"].assert_eq(&page);
}

/// Appends the help of a command and of those below it.
fn describe(command: &mut clap::Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let help = command.render_long_help().to_string();
    let help: String = help.lines().flat_map(|line| [line.trim_end(), "\n"]).collect();
    // Writing to a string cannot fail.
    let _ = write!(page, "\n## {name}\n\n```text\n{}\n```\n", help.trim_end());
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        describe(below, page);
    }
}
