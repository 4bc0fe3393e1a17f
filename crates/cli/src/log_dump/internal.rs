//! The records of Kafka's own topics, and control records, as values.

use bytes::Bytes;
use dohle_protocol::messages::{
    BeginTransactionRecord, BrokerRegistrationChangeRecord, EndTransactionRecord, RegisterControllerRecord,
};
use dohle_protocol::messages::{
    ConfigRecord, FeatureLevelRecord, FenceBrokerRecord, GroupMetadataKey, GroupMetadataValue,
    LegacyOffsetCommitKey, LegacyOffsetCommitValue, NoOpRecord, OffsetCommitKey, OffsetCommitValue,
    PartitionChangeRecord, PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord, RemoveTopicRecord,
    TopicRecord, UnfenceBrokerRecord, UnregisterBrokerRecord,
};
use dohle_protocol::{DecodeError, Message, Reader, Record as Stored};
use dohle_records::{ControlRecordKey, ControlRecordType, EndTxnMarker, Record};

/// A control record.
pub(super) fn control(record: &Record) -> Option<String> {
    let key = ControlRecordKey::parse(record.key.as_deref()?).ok()?;
    let marker = record.value.as_deref().and_then(|value| EndTxnMarker::parse(value).ok());
    Some(match (key.record_type, marker) {
        (record_type @ (ControlRecordType::Abort | ControlRecordType::Commit), Some(marker)) => {
            format!("control={record_type:?} coordinator_epoch={}", marker.coordinator_epoch)
        }
        (record_type, _) => format!("control={record_type:?}"),
    })
}

/// A record of `__consumer_offsets`: a key that begins with its type, a value that begins with its version.
pub(super) fn consumer_offsets(record: &Record) -> Option<String> {
    let key = record.key.as_ref()?;
    let value = record.value.as_ref();
    let code = i16::from_be_bytes(*key.first_chunk()?);
    let shown = match code {
        LegacyOffsetCommitKey::RECORD_KEY => {
            pair::<LegacyOffsetCommitKey, LegacyOffsetCommitValue>(key, value)
        }
        OffsetCommitKey::RECORD_KEY => pair::<OffsetCommitKey, OffsetCommitValue>(key, value),
        GroupMetadataKey::RECORD_KEY => pair::<GroupMetadataKey, GroupMetadataValue>(key, value),
        _ => return None,
    };
    Some(shown.unwrap_or_else(|error| format!("unreadable={:?}", error.to_string())))
}

fn pair<K: Message + std::fmt::Debug, V: Message + std::fmt::Debug>(
    key: &Bytes,
    value: Option<&Bytes>,
) -> Result<String, DecodeError> {
    let mut reader = Reader::new(key);
    reader.i16()?;
    let key = K::decode(&mut reader, 0)?;
    let Some(value) = value else { return Ok(format!("key={key:?} value=null")) };
    let mut reader = Reader::new(value);
    let version = reader.i16()?;
    let value = V::decode(&mut reader, version)?;
    Ok(format!("key={key:?} value={value:?}"))
}

/// A record of `__cluster_metadata`: a frame version, a type and a version, then the record.
pub(super) fn cluster_metadata(record: &Record) -> Option<String> {
    let value = record.value.as_ref()?;
    let shown = metadata_record(value);
    Some(shown.unwrap_or_else(|error| format!("unreadable={:?}", error.to_string())))
}

fn metadata_record(value: &Bytes) -> Result<String, DecodeError> {
    let mut reader = Reader::new(value);
    let _frame_version = reader.unsigned_varint()?;
    let code = reader.unsigned_varint()?;
    let version = reader.unsigned_varint()?;
    let (Ok(code), Ok(version)) = (i16::try_from(code), i16::try_from(version)) else {
        return Err(DecodeError::VarintTooLong);
    };
    macro_rules! show {
        ($($record:ident)*) => {
            match code {
                $($record::RECORD_KEY => format!("{:?}", $record::decode(&mut reader, version)?),)*
                _ => format!("record_type={code} version={version} value={:?}", value.escape_ascii().to_string()),
            }
        };
    }
    Ok(show!(
        RegisterBrokerRecord UnregisterBrokerRecord TopicRecord PartitionRecord ConfigRecord PartitionChangeRecord
        FenceBrokerRecord UnfenceBrokerRecord RemoveTopicRecord FeatureLevelRecord ProducerIdsRecord
        BrokerRegistrationChangeRecord NoOpRecord BeginTransactionRecord EndTransactionRecord
        RegisterControllerRecord
    ))
}
