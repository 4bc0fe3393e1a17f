//! What can be wrong with bytes that claim to be a message, and with a value that cannot become bytes.

/// Why bytes are not the message that they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message goes on behind the last byte, or a length or count says so.
    #[error("the message ends before its content does")]
    UnexpectedEnd,
    /// A variable-length integer has more bits than its type.
    #[error("a variable-length integer is too long")]
    VarintTooLong,
    /// A string is not UTF-8.
    #[error("a string is not valid UTF-8")]
    InvalidUtf8,
    /// A string is longer than the 32,767 bytes that Kafka allows in every version.
    #[error("a string is longer than 32767 bytes")]
    StringTooLong,
    /// A field that this version does not let be null is null.
    #[error("a field that must have a value is null")]
    UnexpectedNull,
    /// The arrays of one message hold more elements than the reader's budget.
    #[error("the message has more array elements than a message may have")]
    TooManyElements,
    /// A known tagged field is shorter than its announced size.
    #[error("a tagged field is shorter than its announced size")]
    TaggedFieldSize,
    /// Bytes are left behind the end of the message.
    #[error("{0} bytes are left behind the end of the message")]
    TrailingBytes(usize),
    /// The message does not exist in this version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// The message's name, [`crate::Message::NAME`].
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
}

/// Why a value of ours has no encoding in the version asked for.
///
/// Writing goes on behind such a value, so that only [`crate::Writer::finish`] has to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The message does not exist in this version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// The message's name, [`crate::Message::NAME`].
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A field that this version does not let be null is `None`.
    #[error("{field} is null, which this version cannot express")]
    Null {
        /// The struct and field in Kafka's names.
        field: &'static str,
    },
    /// A string is longer than the 32,767 bytes that Kafka allows in every version.
    #[error("a string of {0} bytes is longer than the 32767 bytes that the protocol allows")]
    StringTooLong(usize),
    /// A length, a count or the whole frame does not fit in 32 bits.
    #[error("{0} bytes or elements are more than the protocol's 32-bit lengths express")]
    TooLarge(usize),
}
