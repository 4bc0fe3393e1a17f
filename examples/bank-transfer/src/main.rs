//! Money moves between accounts in two topics while brokers and clients are killed again and again, and none is lost or
//! made. README.md says what this shows and how.
//!
//! Start reading at `teller.rs`, which is what an application that consumes, transforms and produces looks like, then
//! `audit.rs`, the proof, then `run.rs`, which kills.

mod audit;
mod bank;
mod customers;
mod kafka;
mod processes;
mod run;
mod teller;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use dohle_client::Endpoint;

use kafka::BankError;

/// A bank whose sum never changes, whatever is killed
#[derive(Debug, Parser)]
#[command(name = "bank-transfer")]
enum Arguments {
    /// Run the bank, kill everything again and again, and check that nothing is lost or made
    Run(run::RunArgs),
    /// Carry out orders
    Teller {
        /// Where the brokers are: HOST:PORT, separated by commas
        #[arg(long, value_name = "HOST:PORT")]
        bootstrap_server: String,
        #[command(flatten)]
        args: teller::TellerArgs,
    },
    /// Be the broker, as `dohle server` is
    Broker {
        #[arg(long, value_name = "DIR")]
        data: String,
        #[arg(long, value_name = "HOST:PORT")]
        listen: String,
        #[arg(long = "override", value_name = "NAME=VALUE")]
        overrides: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse() {
        Arguments::Run(args) => run::run(&args),
        Arguments::Teller { bootstrap_server, args } => Endpoint::parse_list(&bootstrap_server)
            .map_err(|error| BankError::Other(error.to_string()))
            .and_then(|bootstrap| teller::run(bootstrap, args)),
        Arguments::Broker { data, listen, overrides } => be_broker(data, listen, overrides),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bank-transfer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn be_broker(data: String, listen: String, overrides: Vec<String>) -> Result<(), BankError> {
    let options = dohle_server::Options { file: None, overrides, data: Some(data), listen: Some(listen) };
    let announce = |started: &dohle_server::Started| {
        for address in &started.addresses {
            println!("the broker listens on {address}");
        }
    };
    dohle_server::run(&options, announce).map_err(|error| BankError::Other(error.to_string()))
}
