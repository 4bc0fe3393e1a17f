//! Records to state: at loading, and again right after appending.

use std::collections::BTreeMap;

use bytes::Bytes;
use dohle_protocol::messages::{GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue};
use dohle_protocol::{DecodeError, Message};
use dohle_types::{LeaderEpoch, Offset, ProducerId, Str, Timestamp, TopicId};

use crate::records::{GROUP_METADATA_KEY, OFFSET_COMMIT_KEY};
use crate::state::{CommittedOffset, GroupMetadata, MemberMetadata};
use crate::{GroupLedger, consumer};

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It is part of the state, or will be when its transaction is committed.
    Applied,
    /// It is of a type that this ledger does not know: a group of another protocol, or a newer Kafka's. It stays in
    /// the log.
    Skipped {
        /// The number of its type.
        record_type: i16,
    },
}

/// Why a record of `__consumer_offsets` makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// It is too short for the number that every key and value begins with.
    #[error("a key or value of __consumer_offsets is shorter than the two bytes of its version")]
    NoVersion,
    /// Its key cannot be read.
    #[error("the key of a record of type {record_type} in __consumer_offsets is damaged: {error}")]
    Key {
        /// The number of its type.
        record_type: i16,
        /// What is wrong.
        error: DecodeError,
    },
    /// Its value cannot be read.
    #[error("the value of a record of type {record_type} in __consumer_offsets is damaged: {error}")]
    Value {
        /// The number of its type.
        record_type: i16,
        /// What is wrong.
        error: DecodeError,
    },
}

impl GroupLedger {
    /// Takes in a record that this ledger has just written.
    pub fn replay(&mut self, key: &Bytes, value: Option<&Bytes>) -> Result<Replayed, ReplayError> {
        self.replay_at(Offset(i64::MAX), None, key, value)
    }

    /// Takes in the record of the log at `at`, and the producer of the transaction that it belongs to.
    pub fn replay_at(
        &mut self,
        at: Offset,
        transaction: Option<ProducerId>,
        key: &Bytes,
        value: Option<&Bytes>,
    ) -> Result<Replayed, ReplayError> {
        let (record_type, key) = split_number(key)?;
        match record_type {
            0 | OFFSET_COMMIT_KEY => {
                let key: OffsetCommitKey = decode_key(record_type, &key)?;
                let committed = decode_value(record_type, value)?.map(committed_offset);
                let place = (key.group, key.topic, key.partition);
                match (transaction, committed) {
                    (Some(producer), Some(committed)) => {
                        self.state.commit_pending(producer, at, place, committed)
                    }
                    (_, committed) => self.state.commit(at, place, committed),
                }
            }
            GROUP_METADATA_KEY => {
                let key: GroupMetadataKey = decode_key(record_type, &key)?;
                let metadata = decode_value(record_type, value)?.map(group_metadata);
                self.state.replay_group_metadata(key.group, metadata);
            }
            _ => match consumer::replay::replay(&mut self.state, record_type, &key, value) {
                Some(replayed) => replayed?,
                None => return Ok(Replayed::Skipped { record_type }),
            },
        }
        Ok(Replayed::Applied)
    }

    /// Takes in the marker that ends a producer's transaction. What it has committed: group, topic, partition and offset.
    pub fn replay_marker(
        &mut self,
        producer: ProducerId,
        is_committed: bool,
    ) -> Vec<(Str, Str, i32, Offset)> {
        let mut done = Vec::new();
        for (place, (at, committed)) in self.state.pending.end(producer) {
            if is_committed {
                done.push((place.0.clone(), place.1.clone(), place.2, committed.offset));
                self.state.commit(at, place, Some(committed));
            }
        }
        done
    }
}

/// Kafka's name of a type of records in `__consumer_offsets`.
#[must_use]
pub const fn record_type_name(record_type: i16) -> &'static str {
    match record_type {
        0 | OFFSET_COMMIT_KEY => "OffsetCommit",
        GROUP_METADATA_KEY => "GroupMetadata",
        3 => "ConsumerGroupMetadata",
        4 => "ConsumerGroupPartitionMetadata",
        5 => "ConsumerGroupMemberMetadata",
        6 => "ConsumerGroupTargetAssignmentMetadata",
        7 => "ConsumerGroupTargetAssignmentMember",
        8 => "ConsumerGroupCurrentMemberAssignment",
        10 => "ShareGroupMemberMetadata",
        11 => "ShareGroupMetadata",
        12 => "ShareGroupTargetAssignmentMetadata",
        13 => "ShareGroupTargetAssignmentMember",
        14 => "ShareGroupCurrentMemberAssignment",
        15 => "ShareGroupStatePartitionMetadata",
        16 => "ConsumerGroupRegularExpression",
        17 => "StreamsGroupMetadata",
        19 => "StreamsGroupMemberMetadata",
        20 => "StreamsGroupTargetAssignmentMetadata",
        21 => "StreamsGroupTargetAssignmentMember",
        22 => "StreamsGroupCurrentMemberAssignment",
        23 => "StreamsGroupTopology",
        _ => "an unknown type",
    }
}

fn split_number(bytes: &Bytes) -> Result<(i16, Bytes), ReplayError> {
    let (&number, _) = bytes.split_first_chunk().ok_or(ReplayError::NoVersion)?;
    Ok((i16::from_be_bytes(number), bytes.slice(2..)))
}

pub(crate) fn decode_key<M: Message>(record_type: i16, key: &Bytes) -> Result<M, ReplayError> {
    M::from_bytes(key, 0).map_err(|error| ReplayError::Key { record_type, error })
}

pub(crate) fn decode_value<M: Message>(
    record_type: i16,
    value: Option<&Bytes>,
) -> Result<Option<M>, ReplayError> {
    let Some(value) = value else { return Ok(None) };
    let (version, value) = split_number(value)?;
    M::from_bytes(&value, version).map(Some).map_err(|error| ReplayError::Value { record_type, error })
}

fn committed_offset(value: OffsetCommitValue) -> CommittedOffset {
    CommittedOffset {
        offset: Offset(value.offset),
        leader_epoch: LeaderEpoch(value.leader_epoch),
        metadata: value.metadata,
        committed_at: Timestamp(value.commit_timestamp),
        expires_at: Some(Timestamp(value.expire_timestamp)).filter(|&at| at != Timestamp::NONE),
        topic_id: TopicId(value.topic_id),
    }
}

fn group_metadata(value: GroupMetadataValue) -> GroupMetadata {
    let members: BTreeMap<_, _> = value
        .members
        .into_iter()
        .map(|member| {
            let metadata = MemberMetadata {
                instance_id: member.group_instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                rebalance_timeout_ms: match member.rebalance_timeout {
                    -1 => member.session_timeout,
                    timeout => timeout,
                },
                session_timeout_ms: member.session_timeout,
                // Copies: slices would keep the buffer alive that the log was read into.
                subscription: Bytes::copy_from_slice(&member.subscription),
                assignment: Bytes::copy_from_slice(&member.assignment),
            };
            (member.member_id, metadata)
        })
        .collect();
    GroupMetadata {
        protocol_type: Some(value.protocol_type).filter(|protocol_type| !protocol_type.is_empty()),
        generation: value.generation,
        protocol: value.protocol,
        leader: value.leader,
        state_timestamp: Some(Timestamp(value.current_state_timestamp)).filter(|&at| at != Timestamp::NONE),
        members,
    }
}

#[cfg(test)]
mod tests {
    use dohle_protocol::messages::group_metadata_value::MemberMetadata as MemberMetadataField;
    use dohle_types::Str;

    use super::*;
    use crate::GroupsConfig;

    fn numbered<M: Message>(number: i16, message: &M, version: i16) -> Bytes {
        [&number.to_be_bytes()[..], &message.to_bytes(version).unwrap()].concat().into()
    }

    fn offset_key(number: i16) -> Bytes {
        let key = OffsetCommitKey { group: Str::from("g"), topic: Str::from("t"), partition: 0 };
        numbered(number, &key, 0)
    }

    fn group_key() -> Bytes {
        numbered(GROUP_METADATA_KEY, &GroupMetadataKey { group: Str::from("g") }, 0)
    }

    #[test]
    fn records_of_older_kafkas_are_understood() {
        for key_version in 0..=1 {
            for version in 0..=4 {
                let value =
                    OffsetCommitValue { offset: 7, metadata: Str::from("m"), ..OffsetCommitValue::default() };
                let mut ledger = GroupLedger::new(GroupsConfig::default());
                let replayed =
                    ledger.replay(&offset_key(key_version), Some(&numbered(version, &value, version)));
                assert_eq!(replayed, Ok(Replayed::Applied), "version {version}");
                let committed = ledger.state().group("g").unwrap().offset("t", 0).unwrap();
                assert_eq!((committed.offset, committed.expires_at), (Offset(7), None), "version {version}");
            }
        }
        for version in 0..=4 {
            let value = GroupMetadataValue {
                protocol_type: Str::from("consumer"),
                protocol: Some(Str::from("range")),
                leader: Some(Str::from("A")),
                members: vec![MemberMetadataField {
                    member_id: Str::from("A"),
                    session_timeout: 6,
                    ..MemberMetadataField::default()
                }],
                ..GroupMetadataValue::default()
            };
            let mut ledger = GroupLedger::new(GroupsConfig::default());
            let replayed = ledger.replay(&group_key(), Some(&numbered(version, &value, version)));
            assert_eq!(replayed, Ok(Replayed::Applied), "version {version}");
            let metadata = ledger.state().group("g").unwrap().metadata.as_ref().unwrap();
            assert_eq!(
                metadata.members["A"].rebalance_timeout_ms, 6,
                "the session timeout where there is none"
            );
            assert_eq!(metadata.state_timestamp, None, "version {version}");
        }
    }

    #[test]
    fn what_is_not_understood_is_skipped_or_refused() {
        let mut ledger = GroupLedger::new(GroupsConfig::default());
        let bytes = Bytes::from_static;
        assert_eq!(ledger.replay(&bytes(&[0, 10, 1]), None), Ok(Replayed::Skipped { record_type: 10 }));
        assert_eq!(ledger.replay(&bytes(&[0]), None), Err(ReplayError::NoVersion));
        assert!(matches!(
            ledger.replay(&bytes(&[0, 2, 9]), None),
            Err(ReplayError::Key { record_type: 2, .. })
        ));
        for value in [&[0, 3, 9][..], &[0, 99]] {
            let replayed = ledger.replay(&group_key(), Some(&bytes(value)));
            assert!(matches!(replayed, Err(ReplayError::Value { record_type: 2, .. })), "{replayed:?}");
        }
        assert!(ledger.state().is_empty());
    }

    #[test]
    fn offsets_of_transactions_count_once_these_are_committed_and_the_one_written_last_counts() {
        let mut ledger = GroupLedger::new(GroupsConfig::default());
        let key = offset_key(OFFSET_COMMIT_KEY);
        let mut at = Offset(0);
        let mut write = |ledger: &mut GroupLedger, producer: Option<i64>, offset: i64| {
            let value = numbered(4, &OffsetCommitValue { offset, ..OffsetCommitValue::default() }, 4);
            at = at.plus(1);
            ledger.replay_at(at, producer.map(ProducerId), &key, Some(&value)).unwrap();
        };
        let committed = |ledger: &GroupLedger| {
            ledger
                .state()
                .group("g")
                .and_then(|group| group.offset("t", 0))
                .map(|committed| committed.offset.0)
        };

        write(&mut ledger, Some(1), 10);
        assert_eq!(committed(&ledger), None, "open");
        ledger.replay_marker(ProducerId(1), true);
        assert_eq!(committed(&ledger), Some(10), "committed");

        write(&mut ledger, Some(1), 11);
        ledger.replay_marker(ProducerId(1), false);
        assert_eq!(committed(&ledger), Some(10), "aborted");

        write(&mut ledger, Some(1), 12);
        write(&mut ledger, Some(2), 13);
        write(&mut ledger, Some(3), 14);
        ledger.replay_marker(ProducerId(2), true);
        ledger.replay_marker(ProducerId(1), true);
        assert_eq!(committed(&ledger), Some(13), "the first was written before");
        write(&mut ledger, None, 15);
        ledger.replay_marker(ProducerId(3), true);
        assert_eq!(committed(&ledger), Some(15), "the third was written before");
    }
}
