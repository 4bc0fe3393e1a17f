//! The bytes of records, as Apache Kafka writes and reads them.

use bytes::Bytes;
use dohle_types::{ProducerEpoch, ProducerId, Str, Timestamp};

use crate::state::{Partitions, Status, Transaction, TransactionVersion, TxnResult};
use crate::{Record, ReplayError, Replayed, TransactionLedger, TransactionsConfig, records};

fn hex(bytes: &Bytes) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ledger() -> TransactionLedger {
    TransactionLedger::new(TransactionsConfig::default(), 0)
}

/// `transaction` has these bytes, and replaying them gives it back.
fn check(transaction: &Transaction, version: TransactionVersion, value: &str) {
    let record = records::transaction(&Str::from("x"), transaction, version).unwrap();
    assert_eq!(hex(&record.key), "0000000178");
    assert_eq!(record.value.as_ref().map(hex).as_deref(), Some(value));
    let mut ledger = ledger();
    assert_eq!(ledger.replay(&record.key, record.value.as_ref()), Ok(Replayed::Applied));
    assert_eq!(ledger.state().transaction("x"), Some(transaction));
}

fn ongoing() -> Transaction {
    Transaction {
        status: Status::Ongoing,
        partitions: Partitions::from([(Str::from("t"), [0, 2].into())]),
        started: Timestamp(4096),
        ..Transaction::empty(ProducerId(7), ProducerEpoch(3), 60_000, Timestamp(8192))
    }
}

#[test]
fn before_version_1_records_have_no_tagged_fields() {
    let empty = Transaction {
        partitions: Partitions::new(),
        status: Status::Empty,
        started: Timestamp::NONE,
        ..ongoing()
    };
    let head = "0000000000000000000700030000ea60";
    check(&empty, TransactionVersion::V0, &format!("{head}00ffffffff0000000000002000ffffffffffffffff"));
    check(
        &ongoing(),
        TransactionVersion::V0,
        &format!("{head}010000000100017400000002000000000000000200000000000020000000000000001000"),
    );
}

#[test]
fn from_version_1_on_records_tell_of_the_ids_before_and_after() {
    let head = "0001000000000000000700030000ea60";
    let partitions = "0202740300000000000000020000000000000020000000000000001000";
    check(&ongoing(), TransactionVersion(1), &format!("{head}01{partitions}00"));
    let prepared = Transaction {
        status: Status::Prepare(TxnResult::Abort),
        previous_producer_id: ProducerId(6),
        next_producer_id: ProducerId(8),
        client_version: TransactionVersion::V2,
        ..ongoing()
    };
    check(
        &prepared,
        TransactionVersion::V2,
        &format!("{head}03{partitions}0300080000000000000006010800000000000000080202 0002").replace(' ', ""),
    );
}

#[test]
fn what_cannot_be_read_is_an_error_and_what_is_not_known_is_skipped() {
    let key = records::tombstone(&Str::from("x")).key;
    let value = |status: u8| {
        let record = records::transaction(&Str::from("x"), &ongoing(), TransactionVersion::V0).unwrap();
        let mut value = record.value.unwrap().to_vec();
        value[16] = status;
        Bytes::from(value)
    };
    let replay = |key: &Bytes, value: &Bytes| ledger().replay(key, Some(value));
    assert_eq!(replay(&key, &value(1)), Ok(Replayed::Applied));
    assert_eq!(replay(&key, &value(7)), Err(ReplayError::Status(7)));
    assert_eq!(replay(&Bytes::from_static(&[0]), &value(1)), Err(ReplayError::NoVersion));
    assert_eq!(replay(&Bytes::from_static(&[0, 9]), &value(1)), Ok(Replayed::Skipped { record_type: 9 }));
    for len in 0..value(1).len() {
        assert!(replay(&key, &value(1).slice(..len)).is_err(), "cut to {len} bytes");
    }
}

#[test]
fn a_tombstone_forgets_a_transactional_id() {
    let Record { key, value } =
        records::transaction(&Str::from("x"), &ongoing(), TransactionVersion::V2).unwrap();
    let mut ledger = ledger();
    ledger.replay(&key, value.as_ref()).unwrap();
    assert!(ledger.state().bytes() > 0);
    ledger.replay(&key, None).unwrap();
    assert_eq!(*ledger.state(), crate::State::default());
}
