//! A newtype for every id, offset and epoch, so that none can stand where another is meant.

use std::fmt;

use crate::Str;

/// Defines a transparent integer newtype with ordering, hashing and display.
macro_rules! integer_id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl From<$int> for $name {
            fn from(value: $int) -> Self {
                Self(value)
            }
        }
    };
}

integer_id!(
    /// The position of a record in a partition's log, counted from 0. Ranges of offsets are half-open.
    Offset(i64)
);
integer_id!(
    /// The number of a node in the cluster (`node.id`), 0 or greater.
    BrokerId(i32)
);
integer_id!(
    /// The number of a partition within its topic, from 0.
    PartitionIndex(i32)
);
integer_id!(
    /// The term of a partition's leader; grows with every election, -1 where unknown.
    LeaderEpoch(i32)
);
integer_id!(
    /// The id of an idempotent or transactional producer, -1 where there is none.
    ProducerId(i64)
);
integer_id!(
    /// The term of a producer id's owner, -1 where there is none.
    ProducerEpoch(i16)
);
integer_id!(
    /// The number of a record within a producer's stream to one partition; wraps from `i32::MAX` to 0.
    Sequence(i32)
);

impl Offset {
    /// The first offset of a log that nothing was deleted from.
    pub const ZERO: Self = Self(0);

    /// The offset `count` records further on; saturates at the end of the offset space.
    #[must_use]
    pub const fn plus(self, count: i64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl BrokerId {
    /// "No broker", as the wire spells it.
    pub const NONE: Self = Self(-1);
}

impl LeaderEpoch {
    /// "Not known", as the wire spells it.
    pub const NONE: Self = Self(-1);
}

impl ProducerId {
    /// "No producer id": the batch is not idempotent.
    pub const NONE: Self = Self(-1);
}

impl ProducerEpoch {
    /// "No producer epoch".
    pub const NONE: Self = Self(-1);
}

impl Sequence {
    /// The sequence `count` records further on, wrapping to 0 after `i32::MAX` as producers do.
    #[must_use]
    pub const fn plus(self, count: i32) -> Self {
        let (sum, overflowed) = self.0.overflowing_add(count);
        Self(if overflowed { sum.wrapping_sub(i32::MIN) } else { sum })
    }
}

/// The identity of a topic, unchanged by nothing and never reused (KIP-516).
///
/// Displayed as Kafka does: 22 characters of URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub uuid::Uuid);

impl TopicId {
    /// "No topic id".
    pub const ZERO: Self = Self(uuid::Uuid::nil());

    /// Whether this is "no topic id".
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_nil()
    }
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for TopicId {
    #[expect(clippy::indexing_slicing, reason = "six bits index a table of 64")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 128 bits are 21 groups of six and one of two, which is padded on the right.
        let bits = self.0.as_u128();
        for group in 0..21 {
            let shift = 122 - 6 * group;
            write!(f, "{}", BASE64_URL[(bits >> shift & 63) as usize] as char)?;
        }
        write!(f, "{}", BASE64_URL[((bits & 3) << 4) as usize] as char)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for TopicId {
    type Err = InvalidTopicId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 22 {
            return Err(InvalidTopicId);
        }
        let mut bits: u128 = 0;
        for (index, byte) in text.bytes().enumerate() {
            let value = BASE64_URL.iter().position(|&known| known == byte).ok_or(InvalidTopicId)? as u128;
            if index < 21 {
                bits = bits << 6 | value;
            } else if value & 15 == 0 {
                bits = bits << 2 | value >> 4;
            } else {
                return Err(InvalidTopicId);
            }
        }
        Ok(Self(uuid::Uuid::from_u128(bits)))
    }
}

/// The text is not 22 characters of URL-safe base64 that spell 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidTopicId;

impl fmt::Display for InvalidTopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a topic id is 22 characters of URL-safe base64")
    }
}

impl std::error::Error for InvalidTopicId {}

/// A partition by its topic's name, displayed as its directory is called: `topic-0`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Str,
    /// The partition's number in it.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<Str>, partition: impl Into<PartitionIndex>) -> Self {
        Self { topic: topic.into(), partition: partition.into() }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_topic_id_is_spelled_as_kafka_spells_it() {
        // Kafka's Uuid(0x1234567890abcdef, 0x0fedcba987654321), as its toString prints it.
        let id = TopicId(uuid::Uuid::from_u64_pair(0x1234_5678_90ab_cdef, 0x0fed_cba9_8765_4321));
        assert_eq!(id.to_string(), "EjRWeJCrze8P7cuph2VDIQ");
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
    }

    #[test]
    fn a_sequence_wraps_to_zero() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).plus(3), Sequence(1));
        assert_eq!(Sequence(5).plus(7), Sequence(12));
    }

    proptest! {
        #[test]
        fn a_topic_id_reads_back_what_it_printed(bits: u128) {
            let id = TopicId(uuid::Uuid::from_u128(bits));
            prop_assert_eq!(id.to_string().parse::<TopicId>(), Ok(id));
        }
    }
}
