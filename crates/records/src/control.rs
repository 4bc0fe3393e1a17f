//! Control records: what brokers and controllers write into logs for each other, and consumers never see.

use bytes::{Buf, Bytes};
use dohle_types::Timestamp;

use crate::{BatchBuilder, BatchOptions, BuildError, Compressor, Malformed};

/// What a control record is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlRecordType {
    /// A transaction was aborted (KIP-98).
    Abort,
    /// A transaction was committed.
    Commit,
    /// A quorum elected a leader (KIP-595).
    LeaderChange,
    /// The first record of a snapshot (KIP-630).
    SnapshotHeader,
    /// The last record of a snapshot.
    SnapshotFooter,
    /// The version of the quorum's protocol (KIP-853).
    KRaftVersion,
    /// The quorum's voters.
    KRaftVoters,
    /// Something a later version knows, to be passed over.
    Unknown(i16),
}

impl ControlRecordType {
    /// The number in the key.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::LeaderChange => 2,
            Self::SnapshotHeader => 3,
            Self::SnapshotFooter => 4,
            Self::KRaftVersion => 5,
            Self::KRaftVoters => 6,
            Self::Unknown(code) => code,
        }
    }

    /// The type with this number.
    #[must_use]
    pub const fn from_code(code: i16) -> Self {
        match code {
            0 => Self::Abort,
            1 => Self::Commit,
            2 => Self::LeaderChange,
            3 => Self::SnapshotHeader,
            4 => Self::SnapshotFooter,
            5 => Self::KRaftVersion,
            6 => Self::KRaftVoters,
            _ => Self::Unknown(code),
        }
    }
}

/// The key of a control record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlRecordKey {
    /// The key's format, 0 so far.
    pub version: i16,
    /// What the record is about.
    pub record_type: ControlRecordType,
}

impl ControlRecordKey {
    /// The key of a record of this type as it is written today.
    #[must_use]
    pub const fn new(record_type: ControlRecordType) -> Self {
        Self { version: 0, record_type }
    }

    /// Reads a key; a later version may have more fields, which are passed over.
    pub fn parse(mut key: &[u8]) -> Result<Self, Malformed> {
        let version = key.try_get_i16().ok().filter(|&version| version >= 0);
        let version = version.ok_or(Malformed::ControlRecord)?;
        let code = key.try_get_i16().map_err(|_| Malformed::ControlRecord)?;
        Ok(Self { version, record_type: ControlRecordType::from_code(code) })
    }

    /// The key's bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 4] {
        let [version_high, version_low] = self.version.to_be_bytes();
        let [type_high, type_low] = self.record_type.code().to_be_bytes();
        [version_high, version_low, type_high, type_low]
    }
}

/// The value of an [`Abort`](ControlRecordType::Abort) or [`Commit`](ControlRecordType::Commit) record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndTxnMarker {
    /// The value's format, 0 so far.
    pub version: i16,
    /// The term of the transaction coordinator that decided, by which a deposed one is fenced.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// The marker as it is written today.
    #[must_use]
    pub const fn new(coordinator_epoch: i32) -> Self {
        Self { version: 0, coordinator_epoch }
    }

    /// Reads a value; a later version may have more fields, which are passed over.
    pub fn parse(mut value: &[u8]) -> Result<Self, Malformed> {
        let version = value.try_get_i16().ok().filter(|&version| version >= 0);
        let version = version.ok_or(Malformed::ControlRecord)?;
        let coordinator_epoch = value.try_get_i32().map_err(|_| Malformed::ControlRecord)?;
        Ok(Self { version, coordinator_epoch })
    }

    /// The value's bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 6] {
        let mut bytes = [0; 6];
        let (version, epoch) = bytes.split_at_mut(2);
        version.copy_from_slice(&self.version.to_be_bytes());
        epoch.copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        bytes
    }
}

/// A batch of these control records, each with its value's bytes.
pub fn control_batch(
    options: BatchOptions,
    timestamp: Timestamp,
    records: &[(ControlRecordType, &[u8])],
) -> Result<Bytes, BuildError> {
    let mut builder = BatchBuilder::new(BatchOptions { control: true, ..options });
    for (record_type, value) in records {
        let key = ControlRecordKey::new(*record_type).to_bytes();
        builder.append(timestamp, Some(&key), Some(value), &[])?;
    }
    builder.build(&mut Compressor::default())
}
