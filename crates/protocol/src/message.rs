//! What every generated message can do.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::{ApiKey, DecodeError, EncodeError, Reader, Writer};

/// A message of Kafka's protocol: a request, a response, a header, or the key or value of a record.
///
/// A struct has the fields of all versions. Those that a version lacks keep their default when decoded
/// and are left out when encoded.
pub trait Message: Sized + Default {
    /// Kafka's name of the message.
    const NAME: &'static str;
    /// The versions that its schema describes, unstable ones included.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact lengths and tagged fields (KIP-482), `i16::MAX` if there is none.
    const FLEXIBLE_FROM: i16;

    /// Reads one message and leaves the reader behind it.
    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError>;

    /// Appends the message; what cannot be expressed in `version` is reported by [`Writer::finish`].
    fn encode(&self, w: &mut Writer, version: i16);

    /// Tells each error code of a response that is not 0.
    fn errors(&self, _note: &mut impl FnMut(i16)) {}

    /// Decodes a message that takes up all of `bytes`.
    fn from_bytes(bytes: &Bytes, version: i16) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let message = Self::decode(&mut r, version)?;
        r.finish()?;
        Ok(message)
    }

    /// The message alone, in one piece.
    fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut w = Writer::new();
        self.encode(&mut w, version);
        Ok(w.finish()?.into_bytes())
    }
}

/// A message that asks a broker or controller something.
pub trait Request: Message {
    /// The API that it calls.
    const KEY: ApiKey;
    /// What answers it.
    type Response: Message;
}

/// A message that is stored as (part of) a record and tells by a number what it is: a record of the metadata
/// log, or a key or value of a coordinator's internal topic.
pub trait Record: Message {
    /// The number of the record type, unique in its log. A coordinator's key and value share it; as Kafka
    /// has it, it is what stands where the version of the key would.
    const RECORD_KEY: i16;
}
