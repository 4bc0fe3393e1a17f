//! What ends a command: what happened, and what to do next.

use std::io;
use std::process::ExitCode;

use dohle_client::consumer::ConsumerError;
use dohle_client::group::GroupError;
use dohle_client::{Failure, InvalidEndpoint, SendError, TransactionError, Unreachable};
use dohle_types::{ErrorCode, TopicPartition};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// No broker can be reached.
    #[error("{0}: start one with `dohle server` or name another with --bootstrap-server")]
    Unreachable(#[from] Unreachable),
    /// An address is none.
    #[error(transparent)]
    InvalidEndpoint(#[from] InvalidEndpoint),
    /// A request has no response.
    #[error("{what}: {failure}")]
    Failed {
        /// What was tried.
        what: String,
        /// What came of it.
        failure: Failure,
    },
    /// A broker refused.
    #[error("{what}: {error}{}{}", message.as_ref().map(|it| format!(" ({it})")).unwrap_or_default(), hint(*error))]
    Refused {
        /// What was tried.
        what: String,
        /// Why.
        error: ErrorCode,
        /// What the broker adds.
        message: Option<String>,
    },
    /// A record was not taken.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Some records were not acknowledged.
    #[error(
        "{failed} of {total} records were not acknowledged; the first: {first}. Those that were are in the log; \
         send the others again"
    )]
    NotAcknowledged {
        /// How many were not.
        failed: u64,
        /// How many were sent.
        total: u64,
        /// What happened to the first.
        first: String,
    },
    /// A transaction did not come about.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// A transaction was aborted, since not all of it was acknowledged, or as the user wanted it.
    #[error("the transaction was aborted, none of its records is there{}", first.as_ref().map(|it| format!(": {it}")).unwrap_or_default())]
    Aborted {
        /// What happened to the first record that was not acknowledged.
        first: Option<String>,
    },
    /// A partition cannot be read.
    #[error("partition {partition} cannot be read: {error}{}", consumer_hint(error))]
    Partition {
        /// Which one.
        partition: TopicPartition,
        /// Why.
        error: ConsumerError,
    },
    /// The group does not take the consumer.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The arguments do not make sense.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read or written.
    #[error("{what}: {error}")]
    File {
        /// Which one.
        what: String,
        /// Why.
        error: io::Error,
    },
    /// Standard output, or something of the system, failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The user interrupted.
    #[error("interrupted{0}")]
    Interrupted(String),
}

impl CliError {
    /// Whether the reader of the standard output went away, which is no error of ours.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Interrupted(_) => ExitCode::from(130),
            Self::Usage(_) | Self::InvalidEndpoint(_) => ExitCode::from(2),
            Self::Unreachable(_)
            | Self::Failed { .. }
            | Self::Refused { .. }
            | Self::Send(_)
            | Self::NotAcknowledged { .. }
            | Self::Transaction(_)
            | Self::Aborted { .. }
            | Self::Partition { .. }
            | Self::Group(_)
            | Self::File { .. }
            | Self::Io(_) => ExitCode::FAILURE,
        }
    }
}

/// An error on a file.
pub(crate) fn on_file(path: &std::path::Path) -> impl Fn(io::Error) -> CliError {
    move |error| CliError::File { what: path.display().to_string(), error }
}

/// What to do about an error.
const fn hint(error: ErrorCode) -> &'static str {
    if matches!(error, ErrorCode::UnknownTopicOrPartition) {
        "; `dohle topic list` shows what there is, `dohle topic create` makes a topic"
    } else if matches!(error, ErrorCode::TopicAlreadyExists) {
        "; --if-not-exists makes that no error"
    } else if matches!(error, ErrorCode::InvalidReplicationFactor) {
        "; a topic cannot have more replicas than there are brokers"
    } else if matches!(error, ErrorCode::NonEmptyGroup) {
        "; stop the group's consumers first"
    } else if matches!(error, ErrorCode::GroupIdNotFound) {
        "; `dohle group list` shows what there is"
    } else if matches!(error, ErrorCode::TransactionalIdNotFound) {
        "; `dohle txn list` shows what there is"
    } else if matches!(error, ErrorCode::InvalidRegularExpression) {
        "; write one as Rust's regex has it, of 1024 bytes at most, such as 'orders-.*'"
    } else if matches!(error, ErrorCode::TransactionCoordinatorFenced) {
        "; a later coordinator has written there: `dohle txn find-hanging` shows its epoch"
    } else if matches!(error, ErrorCode::InvalidProducerEpoch) {
        "; the producer has written there with a later epoch: `dohle txn find-hanging` shows it"
    } else {
        ""
    }
}

const fn consumer_hint(error: &ConsumerError) -> &'static str {
    match error {
        ConsumerError::NoPartition => "; `dohle topic describe` shows the partitions",
        ConsumerError::OutOfRange(_) => "; --from beginning or --from end begins where there are records",
        ConsumerError::Unreadable { .. } => "; --from OFFSET+1 goes on behind it",
        ConsumerError::Refused(error) => hint(*error),
        ConsumerError::NothingCommitted | ConsumerError::Failed(_) => "",
    }
}
