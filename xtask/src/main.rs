//! Developer commands: `cargo xtask COMMAND`. Each command has a module of its own.

mod interop;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) =
        arguments.split_first().map_or(("", &[][..]), |(command, rest)| (command.as_str(), rest));
    let done = match command {
        "oracle" => interop::oracle::oracle(rest),
        "tool" => interop::oracle::tool(rest),
        _ => Err("usage: cargo xtask oracle|tool".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
