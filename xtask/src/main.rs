//! Developer commands: `cargo xtask COMMAND`. Each command has a module of its own.

mod codegen;
mod interop;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (command, rest) = arguments.split_first().map_or(("", &[][..]), |(command, rest)| (*command, rest));
    let done = match command {
        "codegen" => codegen::run(rest),
        "interop" => interop::run(rest),
        "oracle" => interop::oracle::oracle(rest),
        "pipe" => interop::pipe(rest),
        "tool" => interop::oracle::tool(rest),
        _ => Err("usage: cargo xtask codegen|interop|oracle|pipe|tool".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
