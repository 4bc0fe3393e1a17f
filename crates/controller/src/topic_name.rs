//! Which names a topic can have (Kafka's `Topic` class).

use dohle_types::Str;

/// The longest name: with a partition's number and `.delete` suffixes it still fits a file name.
const NAME_LEN_MAX: usize = 249;

/// The topic of the metadata log itself, which is no topic of the image.
pub const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";
/// The topic of the groups' offsets and members.
pub const CONSUMER_OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The topic of the transactions' states.
pub const TRANSACTION_STATE_TOPIC: &str = "__transaction_state";
/// The topic of the share groups' states.
pub const SHARE_GROUP_STATE_TOPIC: &str = "__share_group_state";
/// The topic of the journal of groups, which is ours.
pub const GROUP_JOURNAL_TOPIC: &str = "__dohle_group_journal";

/// Whether Metadata marks the topic as internal.
#[must_use]
pub fn is_internal_topic(name: &str) -> bool {
    matches!(
        name,
        CONSUMER_OFFSETS_TOPIC | TRANSACTION_STATE_TOPIC | SHARE_GROUP_STATE_TOPIC | GROUP_JOURNAL_TOPIC
    )
}

/// Why a text cannot name a topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// It is empty.
    #[error("Topic name is invalid: it is empty")]
    Empty,
    /// It is `.` or `..`, which name directories.
    #[error("Topic name is invalid: '{0}' is not allowed")]
    Dots(Str),
    /// It has more than 249 characters.
    #[error("Topic name is invalid: it has {0} characters, and at most 249 are allowed")]
    TooLong(usize),
    /// It has characters that are not allowed.
    #[error("Topic name is invalid: '{0}' has characters other than ASCII letters, digits, '.', '_' and '-'")]
    Characters(Str),
}

/// Checks a topic's name.
pub fn validate_topic_name(name: &str) -> Result<(), TopicNameError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match name {
        "" => Err(TopicNameError::Empty),
        "." | ".." => Err(TopicNameError::Dots(name.into())),
        _ if name.len() > NAME_LEN_MAX => Err(TopicNameError::TooLong(name.chars().count())),
        _ if !name.bytes().all(is_allowed) => Err(TopicNameError::Characters(name.into())),
        _ => Ok(()),
    }
}

/// The name as metrics have it, where `.` and `_` are the same. Two topics must not share it. `None` for a name that
/// has neither and so can collide with no other.
pub(crate) fn metric_name(name: &str) -> Option<Str> {
    name.contains(['.', '_']).then(|| name.replace('.', "_").into())
}
