//! What members tell each other through the coordinator, which does not read it (`ConsumerProtocol`).
//!
//! Both messages begin with their version. A member of a later version may have added fields at the end.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dohle_protocol::messages::consumer_protocol_assignment::TopicPartition as AssignedTopic;
use dohle_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use dohle_protocol::{DecodeError, EncodeError, Message, Reader, Writer};
use dohle_types::{PartitionIndex, Str, TopicPartition};

/// The version that says all there is to say without rebalancing cooperatively.
const VERSION: i16 = 0;

/// "These topics".
pub fn encode_subscription(topics: &BTreeSet<Str>) -> Result<Bytes, EncodeError> {
    encode(&ConsumerProtocolSubscription {
        topics: topics.iter().cloned().collect(),
        ..ConsumerProtocolSubscription::default()
    })
}

/// The topics of a subscription.
pub fn decode_subscription(bytes: &Bytes) -> Result<BTreeSet<Str>, DecodeError> {
    Ok(decode::<ConsumerProtocolSubscription>(bytes)?.topics.into_iter().collect())
}

/// "These partitions are yours".
pub fn encode_assignment(partitions: &[TopicPartition]) -> Result<Bytes, EncodeError> {
    let mut topics: BTreeMap<&Str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition.0);
    }
    let topics =
        topics.into_iter().map(|(topic, partitions)| AssignedTopic { topic: topic.clone(), partitions });
    encode(&ConsumerProtocolAssignment { assigned_partitions: topics.collect(), user_data: None })
}

/// The partitions of an assignment; nothing at all is an assignment of nothing.
pub fn decode_assignment(bytes: &Bytes) -> Result<Vec<TopicPartition>, DecodeError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let assignment = decode::<ConsumerProtocolAssignment>(bytes)?;
    let partitions =
        assignment.assigned_partitions.into_iter().flat_map(|AssignedTopic { topic, partitions }| {
            partitions.into_iter().map(move |index| TopicPartition::new(topic.clone(), PartitionIndex(index)))
        });
    Ok(partitions.collect())
}

fn encode<M: Message>(message: &M) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.i16(VERSION);
    message.encode(&mut writer, VERSION);
    Ok(writer.finish()?.into_bytes())
}

fn decode<M: Message>(bytes: &Bytes) -> Result<M, DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.i16()?;
    M::decode(&mut reader, version.clamp(*M::VERSIONS.start(), *M::VERSIONS.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_reads_back() {
        let partitions =
            [("a", 0), ("a", 2), ("b", 1)].map(|(topic, index)| TopicPartition::new(topic, index));
        let bytes = encode_assignment(&partitions).unwrap();
        assert_eq!(decode_assignment(&bytes).unwrap(), partitions);
        assert_eq!(decode_assignment(&Bytes::new()).unwrap(), []);
    }

    #[test]
    fn fields_of_later_versions_are_passed_over() {
        let topics = BTreeSet::from(["orders".into()]);
        let mut bytes = encode_subscription(&topics).unwrap().to_vec();
        // Version 9, with a field of four bytes that this client has never heard of behind those of version 3.
        let rest = b"\0\0\0\0\xff\xff\xff\xff\xff\xffmore";
        bytes.splice(0..2, [0, 9]);
        bytes.extend_from_slice(rest);
        assert_eq!(decode_subscription(&bytes.into()).unwrap(), topics);
    }
}
