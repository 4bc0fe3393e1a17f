//! State to records, in the versions that Apache Kafka 4.3.1 writes.

use bytes::{BufMut, Bytes, BytesMut};
use dohle_protocol::messages::group_metadata_value::MemberMetadata as MemberMetadataField;
use dohle_protocol::messages::{GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue};
use dohle_protocol::{EncodeError, Message};
use dohle_types::{Str, TopicId};

use crate::Record;
use crate::state::{CommittedOffset, GroupMetadata};

/// Also the number of the record type: 0 and 1 were versions of this key once.
pub(crate) const OFFSET_COMMIT_KEY: i16 = 1;
/// Also the number of the record type.
pub(crate) const GROUP_METADATA_KEY: i16 = 2;

const GROUP_METADATA_VALUE_VERSION: i16 = 3;
const OFFSET_COMMIT_VALUE_VERSION: i16 = 4;
/// The only version with a time of expiry, which clients could ask for before OffsetCommit 5.
const OFFSET_COMMIT_VALUE_VERSION_EXPIRING: i16 = 1;

impl Record {
    /// Bytes that it takes up in a batch, at most.
    #[must_use]
    pub fn size(&self) -> usize {
        /// Length, attributes, deltas and lengths of key and value at their longest.
        const OVERHEAD: usize = 32;
        OVERHEAD + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Why encoding what is bounded cannot fail.
pub(crate) const DECODED: &str = "strings that came by the wire or the log are short enough for it";

/// Fails if the members' subscriptions and assignments are more than a record can hold.
pub(crate) fn group_metadata(group_id: &Str, metadata: &GroupMetadata) -> Result<Record, EncodeError> {
    let value = GroupMetadataValue {
        protocol_type: metadata.protocol_type.clone().unwrap_or_default(),
        generation: metadata.generation,
        protocol: metadata.protocol.clone(),
        leader: metadata.leader.clone(),
        current_state_timestamp: metadata.state_timestamp.map_or(-1, |at| at.0),
        members: metadata
            .members
            .iter()
            .map(|(member_id, member)| MemberMetadataField {
                member_id: member_id.clone(),
                group_instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout: member.rebalance_timeout_ms,
                session_timeout: member.session_timeout_ms,
                subscription: member.subscription.clone(),
                assignment: member.assignment.clone(),
            })
            .collect(),
    };
    Ok(Record {
        key: group_metadata_key(group_id),
        value: Some(with_number(
            GROUP_METADATA_VALUE_VERSION,
            &value.to_bytes(GROUP_METADATA_VALUE_VERSION)?,
        )),
    })
}

pub(crate) fn group_metadata_tombstone(group_id: &Str) -> Record {
    Record { key: group_metadata_key(group_id), value: None }
}

pub(crate) fn offset_commit(
    group_id: &Str,
    topic: &Str,
    partition: i32,
    committed: &CommittedOffset,
) -> Record {
    let (version, topic_id) = match committed.expires_at {
        Some(_) => (OFFSET_COMMIT_VALUE_VERSION_EXPIRING, TopicId::ZERO),
        None => (OFFSET_COMMIT_VALUE_VERSION, committed.topic_id),
    };
    let value = OffsetCommitValue {
        offset: committed.offset.0,
        leader_epoch: committed.leader_epoch.0,
        metadata: committed.metadata.clone(),
        commit_timestamp: committed.committed_at.0,
        expire_timestamp: committed.expires_at.map_or(-1, |at| at.0),
        topic_id: topic_id.0,
    };
    Record {
        key: offset_commit_key(group_id, topic, partition),
        value: Some(with_number(version, &value.to_bytes(version).expect(DECODED))),
    }
}

pub(crate) fn offset_commit_tombstone(group_id: &Str, topic: &Str, partition: i32) -> Record {
    Record { key: offset_commit_key(group_id, topic, partition), value: None }
}

fn group_metadata_key(group_id: &Str) -> Bytes {
    let key = GroupMetadataKey { group: group_id.clone() };
    with_number(GROUP_METADATA_KEY, &key.to_bytes(0).expect(DECODED))
}

fn offset_commit_key(group_id: &Str, topic: &Str, partition: i32) -> Bytes {
    let key = OffsetCommitKey { group: group_id.clone(), topic: topic.clone(), partition };
    with_number(OFFSET_COMMIT_KEY, &key.to_bytes(0).expect(DECODED))
}

pub(crate) fn with_number(number: i16, message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(2 + message.len());
    bytes.put_i16(number);
    bytes.put_slice(message);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dohle_types::{LeaderEpoch, Offset, Timestamp};

    use super::*;
    use crate::state::{MemberMetadata, State};
    use crate::{GroupLedger, GroupsConfig};

    /// `record` has the bytes that Apache Kafka 4.3.1 writes, and replaying it gives `expected`.
    fn check(record: &Record, [key, value]: [&str; 2], expected: &State) {
        let hex = |bytes: &Bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&record.key), key);
        assert_eq!(record.value.as_ref().map_or_else(|| "null".to_owned(), hex), value);
        let mut ledger = GroupLedger::new(GroupsConfig::default());
        ledger.replay(&record.key, record.value.as_ref()).unwrap();
        assert_eq!(ledger.state(), expected);
    }

    fn check_offset(committed: CommittedOffset, value: &str) {
        let record = offset_commit(&Str::from("g"), &Str::from("t"), 5, &committed);
        let mut expected = State::default();
        expected.replay_offset(Str::from("g"), Str::from("t"), 5, Some(committed));
        check(&record, ["000100016700017400000005", value], &expected);
    }

    fn committed() -> CommittedOffset {
        CommittedOffset {
            offset: Offset(7),
            leader_epoch: LeaderEpoch(3),
            metadata: Str::from("m"),
            committed_at: Timestamp(1000),
            expires_at: None,
            topic_id: TopicId::ZERO,
        }
    }

    #[test]
    fn offset_commits_have_kafkas_bytes() {
        check_offset(committed(), "0004000000000000000700000003026d00000000000003e800");
        check_offset(
            CommittedOffset { topic_id: "EjRWeJCrze8P7cuph2VDIQ".parse().unwrap(), ..committed() },
            "0004000000000000000700000003026d00000000000003e80100101234567890abcdef0fedcba987654321",
        );
        let expiring = CommittedOffset {
            leader_epoch: LeaderEpoch::NONE,
            expires_at: Some(Timestamp(2000)),
            ..committed()
        };
        check_offset(expiring, "0001000000000000000700016d00000000000003e800000000000007d0");
    }

    #[test]
    fn group_metadata_has_kafkas_bytes() {
        let member = MemberMetadata {
            instance_id: Some(Str::from("i")),
            client_id: Str::from("c"),
            client_host: Str::from("/h"),
            rebalance_timeout_ms: 5,
            session_timeout_ms: 6,
            subscription: Bytes::from_static(&[1]),
            assignment: Bytes::from_static(&[2]),
        };
        let metadata = GroupMetadata {
            protocol_type: Some(Str::from("consumer")),
            generation: 2,
            protocol: Some(Str::from("range")),
            leader: Some(Str::from("A")),
            state_timestamp: Some(Timestamp(1000)),
            members: BTreeMap::from([(Str::from("A"), member)]),
        };
        let record = group_metadata(&Str::from("g"), &metadata).unwrap();
        let mut expected = State::default();
        expected.replay_group_metadata(Str::from("g"), Some(metadata));
        let value = concat!(
            "00030008636f6e73756d657200000002000572616e676500014100000000000003e8",
            "0000000100014100016900016300022f68000000050000000600000001010000000102"
        );
        check(&record, ["0002000167", value], &expected);
    }

    #[test]
    fn tombstones_have_kafkas_bytes() {
        let group_id = Str::from("g");
        let offset = offset_commit_tombstone(&group_id, &Str::from("t"), 5);
        check(&offset, ["000100016700017400000005", "null"], &State::default());
        check(&group_metadata_tombstone(&group_id), ["0002000167", "null"], &State::default());
    }
}
