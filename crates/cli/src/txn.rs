//! `dohle txn`: list and describe; `txn_abort.rs` and `txn_hanging.rs` have the other commands, and
//! `open_txns.rs` what they share.

use std::time::Duration;

use dohle_client::Target;
use dohle_client::metadata::check;
use dohle_protocol::ApiKey;
use dohle_protocol::messages::describe_transactions_response::TransactionState;
use dohle_protocol::messages::{ApiVersionsRequest, ListTransactionsRequest};
use dohle_types::{BrokerId, ErrorCode, Str, Timestamp};
use serde_json::{Value, json};

use crate::input::parse_ago;
use crate::open_txns::{self, describe_transaction, partitions_of};
use crate::output::Table;
use crate::session::Session;
use crate::topic::refused;
use crate::txn_abort::AbortArgs;
use crate::txn_hanging::HangingArgs;
use crate::{CliError, Connection, txn_abort, txn_hanging};

/// What a coordinator can say of a transactional id.
const STATES: [&str; 6] =
    ["Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort"];
/// The versions of ListTransactions that know filters by duration (KIP-994) and by pattern (KIP-1152).
const DURATION_VERSION: i16 = 1;
const PATTERN_VERSION: i16 = 2;

/// `dohle txn ...`
#[derive(Clone, Debug, clap::Subcommand)]
pub enum TxnCommand {
    /// List transactional ids
    List(ListArgs),
    /// Show transactional ids' producers, and when and where their transactions began
    Describe {
        /// The transactional ids
        #[arg(required = true, value_name = "TRANSACTIONAL_ID")]
        transactional_ids: Vec<Str>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Abort a transaction: that of a transactional id, or one that hangs in a partition
    Abort(AbortArgs),
    /// Find transactions that are open in partitions and that no coordinator will end
    FindHanging(HangingArgs),
}

/// `dohle txn list`
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// Only those in this state: Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit or CompleteAbort; may be
    /// repeated
    #[arg(short, long = "state", value_name = "STATE", value_parser = parse_state)]
    states: Vec<&'static str>,
    /// Only that of this producer id; may be repeated
    #[arg(short, long = "producer-id", value_name = "ID")]
    producer_ids: Vec<i64>,
    /// Only those whose transaction began longer ago than this: 90s, 15m, 2h, 7d
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    longer_than: Option<Duration>,
    /// Only those that match this regular expression as a whole
    #[arg(short = 'm', long = "match", value_name = "PATTERN")]
    pattern: Option<Str>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

fn parse_state(text: &str) -> Result<&'static str, String> {
    let state = STATES.into_iter().find(|state| state.eq_ignore_ascii_case(text));
    state.ok_or_else(|| format!("there are {}", STATES.join(", ")))
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    parse_ago(text).ok_or_else(|| format!("{text:?} is no time such as 90s, 15m, 2h or 7d"))
}

pub(crate) fn run(connection: &Connection, command: TxnCommand) -> Result<(), CliError> {
    let session = &mut Session::new(connection)?;
    match command {
        TxnCommand::List(args) => list(session, &args),
        TxnCommand::Describe { transactional_ids, json } => describe(session, &transactional_ids, json),
        TxnCommand::Abort(args) => txn_abort::run(session, &args),
        TxnCommand::FindHanging(args) => txn_hanging::run(session, &args),
    }
}

fn list(session: &mut Session, args: &ListArgs) -> Result<(), CliError> {
    let request = ListTransactionsRequest {
        state_filters: args.states.iter().copied().map(Str::from).collect(),
        producer_id_filters: args.producer_ids.clone(),
        duration_filter: args.longer_than.map_or(-1, open_txns::millis),
        transactional_id_pattern: args.pattern.clone(),
    };
    let mut table = Table::new(["transactional id", "state", "producer id", "coordinator"]);
    let mut all = Vec::new();
    for broker in open_txns::brokers(session)? {
        check_filters(session, broker, &request)?;
        let listed = open_txns::list_transactions(session, broker, request.clone())?;
        all.extend(listed.into_iter().map(|transaction| (transaction, broker)));
    }
    all.sort_by(|(a, _), (b, _)| a.transactional_id.cmp(&b.transactional_id));
    for (transaction, broker) in all {
        table.row([
            json!(transaction.transactional_id.as_str()),
            json!(transaction.transaction_state.as_str()),
            json!(transaction.producer_id),
            json!(broker.0),
        ]);
    }
    Ok(table.print(args.json)?)
}

/// A broker that does not know a filter would list too much.
fn check_filters(
    session: &mut Session,
    broker: BrokerId,
    request: &ListTransactionsRequest,
) -> Result<(), CliError> {
    let (needed, option) = match (&request.transactional_id_pattern, request.duration_filter) {
        (Some(_), _) => (PATTERN_VERSION, "--match"),
        (None, 0..) => (DURATION_VERSION, "--longer-than"),
        (None, _) => return Ok(()),
    };
    let asked = ApiVersionsRequest {
        client_software_name: "dohle".into(),
        client_software_version: env!("CARGO_PKG_VERSION").into(),
    };
    let response = session.call(Target::Broker(broker), asked, |_| ErrorCode::None)?;
    refused("ApiVersions", check(response.error_code), None)?;
    let served = response.api_keys.iter().find(|api| api.api_key == ApiKey::ListTransactions.code());
    let latest = served.map_or(-1, |api| api.max_version);
    if latest >= needed {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "broker {broker} serves no version of ListTransactions that knows {option}: leave it out",
    )))
}

fn describe(session: &mut Session, transactional_ids: &[Str], json: bool) -> Result<(), CliError> {
    let mut table = Table::new([
        "transactional id",
        "state",
        "producer id",
        "producer epoch",
        "timeout ms",
        "began",
        "open seconds",
        "partitions",
    ]);
    for transactional_id in transactional_ids {
        let transaction = describe_transaction(session, transactional_id)?;
        let what = || format!("transactional id {transactional_id}");
        refused(&what(), check(transaction.error_code), None)?;
        let began = Some(Timestamp(transaction.transaction_start_time_ms)).filter(|at| at.0 >= 0);
        let partitions: Vec<String> =
            partitions_of(&transaction).map(|partition| partition.to_string()).collect();
        table.row([
            json!(transaction.transactional_id.as_str()),
            json!(transaction.transaction_state.as_str()),
            json!(transaction.producer_id),
            json!(transaction.producer_epoch),
            json!(transaction.transaction_timeout_ms),
            began.map_or(Value::Null, |at| time(at, json)),
            began.filter(|_| is_open(&transaction)).map_or(Value::Null, |at| seconds_since(session, at)),
            json!(partitions),
        ]);
    }
    Ok(table.print(json)?)
}

/// Whether not all of a transaction's partitions have been told how it ends.
fn is_open(transaction: &TransactionState) -> bool {
    ["Ongoing", "PrepareCommit", "PrepareAbort"].contains(&transaction.transaction_state.as_str())
}

/// A time: milliseconds since 1970 for programs.
pub(crate) fn time(at: Timestamp, json: bool) -> Value {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(told) if !json => json!(told.strftime("%FT%TZ").to_string()),
        Ok(_) | Err(_) => json!(at.0),
    }
}

pub(crate) fn seconds_since(session: &Session, at: Timestamp) -> Value {
    json!(session.now().wall.0.saturating_sub(at.0).max(0) / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_kafkas_in_any_case() {
        assert_eq!(parse_state("ongoing"), Ok("Ongoing"));
        assert_eq!(parse_state("PrepareAbort"), Ok("PrepareAbort"));
        assert!(parse_state("Open").unwrap_err().contains("Ongoing"));
    }

    #[test]
    fn times_are_for_people_or_for_programs() {
        let at = Timestamp(1_795_341_600_999);
        assert_eq!(time(at, false), json!("2026-11-22T10:00:00Z"));
        assert_eq!(time(at, true), json!(1_795_341_600_999_i64));
        assert_eq!(time(Timestamp(i64::MAX), false), json!(i64::MAX));
    }
}
