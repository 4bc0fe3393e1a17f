//! A short run of the bank, by both protocols of groups; and that it would notice.

#![expect(clippy::unwrap_used, reason = "a test that stumbles has failed")]

use std::process::Command;

/// Runs the bank; whether it passed, and what it said.
fn run(arguments: &[&str]) -> (bool, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_bank-transfer")).arg("run").args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    // For the log of the tests, with --nocapture and when it fails.
    println!("{said}");
    (output.status.success(), said)
}

#[test]
fn the_sum_never_changes_while_everything_is_killed() {
    for protocol in [&[][..], &["--consumer-protocol"]] {
        let (passed, said) = run(&[&["--kills", "9"], protocol].concat());
        assert!(passed, "{said}");
        assert!(said.contains("accounts was 6400 after each of them"), "{said}");
    }
}

#[test]
fn a_bank_without_transactions_is_found_out() {
    let (passed, said) = run(&["--kills", "9", "--without-transactions"]);
    assert!(!passed && said.contains("was carried out 2 times in "), "{said}");
}
