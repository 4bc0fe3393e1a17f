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
    pub(crate) fn size(&self) -> usize {
        /// Length, attributes, deltas and lengths of key and value at their longest.
        const OVERHEAD: usize = 32;
        OVERHEAD + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Why encoding what is bounded cannot fail.
const DECODED: &str = "strings that came by the wire or the log are short enough for it";

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

fn with_number(number: i16, message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(2 + message.len());
    bytes.put_i16(number);
    bytes.put_slice(message);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use dohle_types::{LeaderEpoch, Offset, Timestamp};

    use super::*;

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
    fn an_offset_commit_has_kafkas_bytes() {
        let record = offset_commit(&Str::from("g"), &Str::from("t"), 5, &committed());
        assert_eq!(
            record.key,
            [&[0, 1][..], &[0, 1, b'g'], &[0, 1, b't'], &[0, 0, 0, 5]].concat(),
            "type 1, group, topic, partition"
        );
        assert_eq!(
            record.value.unwrap(),
            [
                &[0, 4][..],
                &[0, 0, 0, 0, 0, 0, 0, 7],
                &[0, 0, 0, 3],
                &[2, b'm'],
                &[0, 0, 0, 0, 0, 0, 3, 232],
                &[0]
            ]
            .concat(),
            "version 4, offset, leader epoch, metadata, commit timestamp, no tagged fields"
        );
    }

    #[test]
    fn an_offset_that_expires_is_written_in_version_1() {
        let committed = CommittedOffset {
            expires_at: Some(Timestamp(2000)),
            topic_id: "EjRWeJCrze8P7cuph2VDIQ".parse().unwrap(),
            ..committed()
        };
        let record = offset_commit(&Str::from("g"), &Str::from("t"), 5, &committed);
        assert_eq!(
            record.value.unwrap(),
            [
                &[0, 1][..],
                &[0, 0, 0, 0, 0, 0, 0, 7],
                &[0, 1, b'm'],
                &[0, 0, 0, 0, 0, 0, 3, 232],
                &[0, 0, 0, 0, 0, 0, 7, 208]
            ]
            .concat(),
            "version 1, offset, metadata, commit timestamp, expire timestamp"
        );
    }

    #[test]
    fn an_empty_generation_has_kafkas_bytes() {
        let metadata = GroupMetadata {
            protocol_type: Some(Str::from("consumer")),
            generation: 2,
            protocol: None,
            leader: None,
            state_timestamp: Some(Timestamp(1000)),
            members: std::collections::BTreeMap::new(),
        };
        let record = group_metadata(&Str::from("g"), &metadata).unwrap();
        assert_eq!(record.key, [0, 2, 0, 1, b'g'][..], "type 2, group");
        assert_eq!(
            record.value.unwrap(),
            [
                &[0, 3][..],
                &[0, 8],
                b"consumer",
                &[0, 0, 0, 2],
                &[255, 255],
                &[255, 255],
                &[0, 0, 0, 0, 0, 0, 3, 232],
                &[0, 0, 0, 0]
            ]
            .concat(),
            "version 3, protocol type, generation, no protocol, no leader, timestamp, no members"
        );
    }
}
