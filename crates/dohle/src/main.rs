//! The `dohle` binary: the command line, and behind `server` the broker.

#[cfg(test)]
mod cli_page;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use dohle_server::{Options, Started, shown};
use tracing_subscriber::EnvFilter;

/// An event streaming platform that any Apache Kafka client, tool or habit works with.
#[derive(Debug, Parser)]
#[command(name = "dohle", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    connection: dohle_cli::Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run a broker
    Server(ServerArguments),
    #[command(flatten)]
    Client(dohle_cli::Command),
}

#[derive(Debug, clap::Args)]
struct ServerArguments {
    /// A Kafka server.properties
    file: Option<PathBuf>,
    /// Set one config; wins over the file (may be repeated)
    #[arg(long = "override", value_name = "NAME=VALUE")]
    overrides: Vec<String>,
    /// The directory that holds everything the broker writes
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// The address to listen on
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Server(server) => run_server(server),
        Command::Client(command) => dohle_cli::run(&arguments.connection, command),
    }
}

fn run_server(arguments: ServerArguments) -> ExitCode {
    let filter = EnvFilter::try_from_env("DOHLE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let ServerArguments { file, overrides, data, listen } = arguments;
    let options = Options { file, overrides, data, listen };
    match dohle_server::run(&options, announce) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done about a standard error that is gone.
            let _ = writeln!(std::io::stderr(), "dohle: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says where the broker is and how to try it.
fn announce(started: &Started) {
    let addresses: Vec<String> = started.addresses.iter().map(ToString::to_string).collect();
    let bootstrap = match addresses.first() {
        Some(address) if address != "127.0.0.1:9092" => format!(" --bootstrap-server {address}"),
        _ => String::new(),
    };
    let data: Vec<String> = started.data.iter().map(|directory| shown(directory)).collect();
    let which = if data.len() == 1 { "that directory" } else { "these directories" };
    let metrics = |address: &SocketAddr| format!("Its metrics are at http://{address}/metrics\n");
    let metrics: String = started.metrics.iter().map(metrics).collect();
    let text = format!(
        "Dohle {} listens on {}\n{metrics}Its data is in {} (delete {which} to wipe everything)\nTry it: \
         echo hello | dohle produce greetings{bootstrap} && dohle consume greetings --from beginning -e{bootstrap}\n",
        env!("CARGO_PKG_VERSION"),
        addresses.join(", "),
        data.join(", "),
    );
    // A closed standard output is no reason not to serve.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
