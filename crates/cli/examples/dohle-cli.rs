//! The command line alone, without the server.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "dohle")]
struct Arguments {
    #[command(flatten)]
    connection: dohle_cli::Connection,
    #[command(subcommand)]
    command: dohle_cli::Command,
}

fn main() -> ExitCode {
    let Arguments { connection, command } = Arguments::parse();
    dohle_cli::run(&connection, command)
}
