//! What a group subscribes to: names, what regular expressions match, and one number that says whether the
//! subscribed topics changed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dohle_types::{ErrorCode, Now, Str};
use regex::{Regex, RegexBuilder};
use xxhash_rust::xxh3::Xxh3;

use super::state::{ConsumerGroup, ConsumerMember, ResolvedRegex};
use crate::cluster::{Cluster, Topic};

/// The longest regular expression.
const REGEX_LEN_MAX: usize = 4096;

/// What a compiled regular expression may take up; one that counts to a million does not fit.
const REGEX_COMPILED_BYTES_MAX: usize = 1 << 20;

/// The least time between two looks at all topics for one group.
pub(crate) const REGEX_REFRESH_INTERVAL_MIN: Duration = Duration::from_secs(10);

/// Why a regular expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegexError {
    #[error("the regular expression is longer than {REGEX_LEN_MAX} bytes: make it shorter")]
    TooLong,
    #[error("the regular expression cannot be used: {0}")]
    Invalid(String),
    #[error("the regular expression matches more topics than a record can hold: make it match fewer")]
    TooManyTopics,
}

impl RegexError {
    pub(crate) const fn code(&self) -> ErrorCode {
        match self {
            Self::TooLong | Self::Invalid(_) | Self::TooManyTopics => ErrorCode::InvalidRegularExpression,
        }
    }
}

/// The topics whose whole names a regular expression matches, in time that grows with their number and with its
/// length, but not with what it says.
pub(crate) fn resolve(
    regex: &str,
    now: Now,
    cluster: &dyn Cluster,
    bytes_max: usize,
) -> Result<ResolvedRegex, RegexError> {
    let whole = compile(regex)?;
    let mut bytes = regex.len();
    let mut topics = BTreeSet::new();
    for name in cluster.topic_names().filter(|name| whole.is_match(name)) {
        bytes += name.len() + 2;
        if bytes > bytes_max {
            return Err(RegexError::TooManyTopics);
        }
        topics.insert(name.clone());
    }
    Ok(ResolvedRegex { topics, version: cluster.version(), at: now.wall })
}

fn compile(regex: &str) -> Result<Regex, RegexError> {
    if regex.len() > REGEX_LEN_MAX {
        return Err(RegexError::TooLong);
    }
    let compile = |regex: &str| {
        let built = RegexBuilder::new(regex).size_limit(REGEX_COMPILED_BYTES_MAX).build();
        // The last line says what is wrong; those before it draw where.
        built.map_err(|error| {
            let text = error.to_string();
            let line = text.lines().last().unwrap_or_default();
            RegexError::Invalid(line.strip_prefix("error: ").unwrap_or(line).to_owned())
        })
    };
    // On its own first, so that it cannot reach out of the group that is put around it.
    compile(regex)?;
    compile(&format!(r"\A(?:{regex})\z"))
}

/// A group as it will be when the records of a call are replayed.
pub(crate) struct NextGroup<'a> {
    pub(crate) group: &'a ConsumerGroup,
    /// Members that leave it.
    pub(crate) gone: &'a [Str],
    /// The member that joins it or changes.
    pub(crate) member: Option<(&'a Str, &'a ConsumerMember)>,
    /// What its regular expressions match.
    pub(crate) regexes: Cow<'a, BTreeMap<Str, ResolvedRegex>>,
}

impl<'a> NextGroup<'a> {
    /// The group without some members, and without regular expressions that nobody else uses.
    pub(crate) fn without(group: &'a ConsumerGroup, gone: &'a [Str]) -> Self {
        let mut next = Self { group, gone, member: None, regexes: Cow::Borrowed(&group.regexes) };
        for regex in group.regexes.keys() {
            if next.regex_subscribers(regex) == 0 {
                next.regexes.to_mut().remove(regex);
            }
        }
        next
    }

    /// Its members.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&'a Str, &'a ConsumerMember)> {
        let (gone, member) = (self.gone, self.member);
        let stay = move |member_id: &Str| {
            !gone.contains(member_id) && member.is_none_or(|(changed, _)| changed != member_id)
        };
        self.group.members().iter().filter(move |(member_id, _)| stay(member_id)).chain(member)
    }

    fn former_members(&self) -> impl Iterator<Item = &'a ConsumerMember> {
        let changed = self.member.map(|(member_id, _)| member_id).filter(|id| !self.gone.contains(id));
        let group = self.group;
        self.gone.iter().chain(changed).filter_map(move |member_id| group.member(member_id))
    }

    /// How many members use a regular expression.
    pub(crate) fn regex_subscribers(&self, regex: &str) -> usize {
        let former = self.former_members().filter(|member| member.topic_regex == regex).count();
        let joined = self.member.is_some_and(|(_, member)| member.topic_regex == regex);
        self.group.regex_subscribers(regex) - former + usize::from(joined)
    }

    /// The names of all topics that any member subscribes to.
    fn topic_names(&self) -> BTreeSet<&'a Str> {
        let mut counts: BTreeMap<&Str, usize> =
            self.group.subscribers().iter().map(|(name, &count)| (name, count)).collect();
        for name in self.former_members().flat_map(|member| &member.topic_names) {
            if let Some(count) = counts.get_mut(name) {
                *count -= 1;
            }
        }
        counts.retain(|_, count| *count > 0);
        let joined = self.member.into_iter().flat_map(|(_, member)| &member.topic_names);
        counts.into_keys().chain(joined).collect()
    }

    /// A number that changes with the subscribed topics that exist, as Kafka computes it (KIP-1101): a group that
    /// moves between Kafka and Dohle need not be assigned anew.
    pub(crate) fn metadata_hash(&self, cluster: &dyn Cluster) -> i64 {
        let mut names: BTreeSet<&Str> = self.topic_names();
        names.extend(self.regexes.values().flat_map(|resolved| &resolved.topics));
        let mut hash = Xxh3::new();
        let mut is_empty = true;
        for topic in names.into_iter().filter_map(|name| cluster.topic(name)) {
            is_empty = false;
            hash.update(&topic_hash(&topic, cluster).to_le_bytes());
        }
        if is_empty { 0 } else { hash.digest().cast_signed() }
    }
}

/// Strings go in as UTF-16 with their length behind.
fn topic_hash(topic: &Topic, cluster: &dyn Cluster) -> u64 {
    const MAGIC: u8 = 0;
    let mut hash = Xxh3::new();
    let (high, low) = topic.id.0.as_u64_pair();
    hash.update(&[MAGIC]);
    hash.update(&high.to_le_bytes());
    hash.update(&low.to_le_bytes());
    update_with_string(&mut hash, &topic.name);
    hash.update(&topic.partitions.to_le_bytes());
    for partition in 0..topic.partitions {
        hash.update(&partition.to_le_bytes());
        for rack in cluster.racks(topic, partition) {
            hash.update(&utf16_len(&rack).to_le_bytes());
            update_with_string(&mut hash, &rack);
        }
    }
    hash.digest()
}

fn update_with_string(hash: &mut Xxh3, text: &str) {
    for unit in text.encode_utf16() {
        hash.update(&unit.to_le_bytes());
    }
    hash.update(&utf16_len(text).to_le_bytes());
}

fn utf16_len(text: &str) -> i32 {
    i32::try_from(text.encode_utf16().count()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::host::TestCluster;

    /// What Apache Kafka 4.3.1 wrote for groups of topics on a broker with `broker.rack=rack-a`.
    #[test]
    fn the_hash_of_topics_is_kafkas() {
        let mut cluster = TestCluster::default();
        cluster.rack = Some(Str::from("rack-a"));
        cluster.add_topic("t", "4OzHF8CVQ_WITqm2WHZt5w", 2);
        cluster.add_topic("tea", "OzS3ApqoSWa7eFeai0Kn8A", 1);
        for (names, hash) in [
            (&["t"][..], -8_871_323_770_343_270_110),
            (&["t", "tea", "none"], -7_010_796_677_196_115_832),
            (&["none"], 0),
        ] {
            let member = ConsumerMember {
                topic_names: names.iter().map(|name| Str::from(*name)).collect(),
                ..ConsumerMember::default()
            };
            let group = ConsumerGroup::default();
            let next = NextGroup {
                group: &group,
                gone: &[],
                member: Some((&Str::from("m"), &member)),
                regexes: Cow::Borrowed(&group.regexes),
            };
            assert_eq!(next.metadata_hash(&cluster), hash, "{names:?}");
        }
    }
}
