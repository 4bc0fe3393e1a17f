//! The records of the metadata log, and the frame in which each stands in the value of a log record.
//!
//! A frame is three unsigned varints (frame version 1, record type, record version) and the message, as in Kafka's
//! `MetadataRecordSerde`. What happens to a record type that Dohle does not act on:
//!
//! - *Without effect*: `NoOpRecord`, `ZkMigrationStateRecord`. Nothing that a client could see depends on them.
//! - *Kept*, and not enforced: see [`crate::kept`].
//! - *Refused*: types and versions that do not exist in Kafka 4.3. What they say would be lost with the next snapshot.

use bytes::Bytes;
use dohle_protocol::messages::{
    AbortTransactionRecord, AccessControlEntryRecord, BeginTransactionRecord, BrokerRegistrationChangeRecord,
    ClearElrRecord, ClientQuotaRecord, ConfigRecord, DelegationTokenRecord, EndTransactionRecord,
    FeatureLevelRecord, FenceBrokerRecord, NoOpRecord, PartitionChangeRecord, PartitionRecord,
    ProducerIdsRecord, RegisterBrokerRecord, RegisterControllerRecord, RemoveAccessControlEntryRecord,
    RemoveDelegationTokenRecord, RemoveTopicRecord, RemoveUserScramCredentialRecord, TopicRecord,
    UnfenceBrokerRecord, UnregisterBrokerRecord, UserScramCredentialRecord, ZkMigrationStateRecord,
};
use dohle_protocol::{DecodeError, EncodeError, Message, Reader, Record, Writer};

/// The version of the frame itself.
const FRAME_VERSION: u32 = 1;

/// Defines the enum of records and its codec from one list of rows.
macro_rules! metadata_records {
    ($($variant:ident($message:ident),)*) => {
        /// A record of the metadata log.
        #[derive(Clone, Debug, PartialEq)]
        pub enum MetadataRecord {
            $(
                #[doc = concat!("Kafka's `", stringify!($message), "`.")]
                $variant($message),
            )*
        }

        impl MetadataRecord {
            /// Kafka's name of the record type.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $message::NAME,)*
                }
            }

            /// The framed record: the value of a log record.
            ///
            /// Every record is written in the newest version of Kafka 4.3, which is the one of the
            /// `metadata.version` that a new log begins with.
            pub fn encode(&self) -> Result<Bytes, EncodeError> {
                let mut w = Writer::new();
                w.unsigned_varint(FRAME_VERSION);
                match self {
                    $(Self::$variant(message) => {
                        let version = *$message::VERSIONS.end();
                        w.unsigned_varint(u32::from($message::RECORD_KEY.unsigned_abs()));
                        w.unsigned_varint(u32::from(version.unsigned_abs()));
                        message.encode(&mut w, version);
                    })*
                }
                Ok(w.finish()?.into_bytes())
            }

            /// The record in the value of a log record.
            pub fn decode(value: &Bytes) -> Result<Self, RecordError> {
                let mut r = Reader::new(value);
                let (key, version) = decode_frame(&mut r)?;
                let message = |name| move |error| RecordError::Message { name, version, error };
                match key {
                    $($message::RECORD_KEY => {
                        let record = $message::decode(&mut r, version).map_err(message($message::NAME))?;
                        r.finish().map_err(message($message::NAME))?;
                        Ok(Self::$variant(record))
                    })*
                    _ => Err(RecordError::UnknownType { key, version }),
                }
            }
        }

        $(impl From<$message> for MetadataRecord {
            fn from(message: $message) -> Self {
                Self::$variant(message)
            }
        })*
    };
}

metadata_records! {
    RegisterBroker(RegisterBrokerRecord),
    UnregisterBroker(UnregisterBrokerRecord),
    Topic(TopicRecord),
    Partition(PartitionRecord),
    Config(ConfigRecord),
    PartitionChange(PartitionChangeRecord),
    FenceBroker(FenceBrokerRecord),
    UnfenceBroker(UnfenceBrokerRecord),
    RemoveTopic(RemoveTopicRecord),
    FeatureLevel(FeatureLevelRecord),
    ProducerIds(ProducerIdsRecord),
    BrokerRegistrationChange(BrokerRegistrationChangeRecord),
    NoOp(NoOpRecord),
    ZkMigrationState(ZkMigrationStateRecord),
    BeginTransaction(BeginTransactionRecord),
    EndTransaction(EndTransactionRecord),
    AbortTransaction(AbortTransactionRecord),
    RegisterController(RegisterControllerRecord),
    ClearElr(ClearElrRecord),
    ClientQuota(ClientQuotaRecord),
    AccessControlEntry(AccessControlEntryRecord),
    RemoveAccessControlEntry(RemoveAccessControlEntryRecord),
    UserScramCredential(UserScramCredentialRecord),
    RemoveUserScramCredential(RemoveUserScramCredentialRecord),
    DelegationToken(DelegationTokenRecord),
    RemoveDelegationToken(RemoveDelegationTokenRecord),
}

/// Why the value of a log record is no metadata record that Dohle understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The frame is cut short or malformed.
    #[error("the frame of a metadata record is damaged: {0}")]
    Frame(DecodeError),
    /// A frame of another version than 1.
    #[error(
        "a metadata record has frame version {0}, only version 1 is known; it was written by newer software"
    )]
    FrameVersion(u32),
    /// A record type that Kafka 4.3 does not have.
    #[error(
        "the metadata log holds a record of unknown type {key}, version {version}; it was written by newer software"
    )]
    UnknownType {
        /// The number of the type.
        key: i16,
        /// Its version.
        version: i16,
    },
    /// A known record type with content or a version that cannot be read.
    #[error("a {name} of version {version} in the metadata log cannot be read: {error}")]
    Message {
        /// Kafka's name of the type.
        name: &'static str,
        /// The version that the frame announces.
        version: i16,
        /// What is wrong.
        error: DecodeError,
    },
}

/// Reads the frame, up to the message: the record's type and version.
fn decode_frame(r: &mut Reader<'_>) -> Result<(i16, i16), RecordError> {
    let frame_version = r.unsigned_varint().map_err(RecordError::Frame)?;
    if frame_version != FRAME_VERSION {
        return Err(RecordError::FrameVersion(frame_version));
    }
    let mut number = || {
        let number = r.unsigned_varint().map_err(RecordError::Frame)?;
        i16::try_from(number).map_err(|_| RecordError::Frame(DecodeError::VarintTooLong))
    };
    Ok((number()?, number()?))
}
