//! Developer commands: `cargo xtask COMMAND`. Each command has a module of its own.

mod bench;
mod codegen;
mod docs;
mod fuzz;
mod interop;
mod layers;
mod repository;
mod scale;
mod tidy;
mod verify;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (command, rest) = arguments.split_first().map_or(("", &[][..]), |(command, rest)| (*command, rest));
    let done = match command {
        "bench" => bench::run(rest),
        "codegen" => codegen::run(rest),
        "docs" => docs::run(rest),
        "fix" => verify::fix(rest),
        "fuzz" => fuzz::run(rest),
        "interop" => interop::run(rest),
        "layers" => layers::run(rest),
        "oracle" => interop::oracle::oracle(rest),
        "pipe" => interop::pipe(rest),
        "scale" => scale::run(rest),
        "tidy" => tidy::run(rest),
        "tool" => interop::oracle::tool(rest),
        "verify" => verify::verify(rest),
        _ => {
            Err("usage: cargo xtask bench|codegen|docs|fix|fuzz|interop|layers|oracle|pipe|scale|tidy|tool|verify"
                .to_owned())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
