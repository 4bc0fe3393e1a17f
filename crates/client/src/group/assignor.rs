//! Which member of a group reads which partitions: the leader's decision (Kafka's range and round-robin assignors).

use std::collections::{BTreeMap, BTreeSet};

use dohle_types::{PartitionIndex, Str, TopicPartition};

/// A way to share partitions out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Assignor {
    /// Of each topic a run of partitions for each member.
    #[default]
    Range,
    /// All partitions in turn, one for each member.
    RoundRobin,
}

/// A member as the leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its id in this group.
    pub id: Str,
    /// The name of a static member (KIP-345).
    pub instance_id: Option<Str>,
    /// What it subscribed to.
    pub topics: BTreeSet<Str>,
}

/// The partitions of each member, by member id; every member has an entry.
pub type Assignment = BTreeMap<Str, Vec<TopicPartition>>;

impl Assignor {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Range, Self::RoundRobin];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
        }
    }

    /// The assignor of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// Shares out topics, given with their numbers of partitions; the same input gives the same shares.
    #[must_use]
    pub fn assign(self, mut members: Vec<Member>, topics: &BTreeMap<Str, usize>) -> Assignment {
        // Static members come first, by the name that outlives a restart, so that they keep their shares.
        members.sort_by(|a, b| {
            (a.instance_id.is_none(), &a.instance_id, &a.id).cmp(&(
                b.instance_id.is_none(),
                &b.instance_id,
                &b.id,
            ))
        });
        let mut assignment: Assignment =
            members.iter().map(|member| (member.id.clone(), Vec::new())).collect();
        match self {
            Self::Range => range(&members, topics, &mut assignment),
            Self::RoundRobin => round_robin(&members, topics, &mut assignment),
        }
        assignment
    }
}

fn range(members: &[Member], topics: &BTreeMap<Str, usize>, assignment: &mut Assignment) {
    for (topic, &count) in topics {
        let readers: Vec<&Member> = members.iter().filter(|member| member.topics.contains(topic)).collect();
        let mut next = 0;
        for (position, reader) in readers.iter().enumerate() {
            // The first ones take one more where it does not divide.
            let share = count / readers.len() + usize::from(position < count % readers.len());
            if let Some(partitions) = assignment.get_mut(&reader.id) {
                partitions.extend((next..next + share).map(|index| partition(topic, index)));
            }
            next += share;
        }
    }
}

fn round_robin(members: &[Member], topics: &BTreeMap<Str, usize>, assignment: &mut Assignment) {
    let mut turn = members.iter().cycle();
    for (topic, &count) in topics {
        if !members.iter().any(|member| member.topics.contains(topic)) {
            continue;
        }
        for index in 0..count {
            // Ends, as someone reads the topic.
            let reader = turn.by_ref().find(|member| member.topics.contains(topic));
            if let Some(partitions) = reader.and_then(|reader| assignment.get_mut(&reader.id)) {
                partitions.push(partition(topic, index));
            }
        }
    }
}

fn partition(topic: &Str, index: usize) -> TopicPartition {
    TopicPartition::new(topic.clone(), PartitionIndex(i32::try_from(index).unwrap_or(i32::MAX)))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// `members` as `id: topic topic`, static ones as `id=instance: topic`; `topics` as `name*partitions`.
    fn check(assignor: Assignor, members: &str, topics: &str, expected: Expect) {
        let members = members.lines().map(|line| {
            let (names, topics) = line.split_once(':').unwrap();
            let (id, instance) =
                names.trim().split_once('=').map_or((names.trim(), None), |(a, b)| (a, Some(b)));
            Member {
                id: id.into(),
                instance_id: instance.map(Str::from),
                topics: topics.split_whitespace().map(Str::from).collect(),
            }
        });
        let topics = topics.split_whitespace().map(|topic| {
            let (name, count) = topic.split_once('*').unwrap();
            (Str::from(name), count.parse().unwrap())
        });
        let assignment = assignor.assign(members.collect(), &topics.collect());
        let lines = assignment.iter().map(|(id, partitions)| format!("{id}: {partitions:?}\n"));
        expected.assert_eq(&lines.collect::<String>());
    }

    #[test]
    fn range_gives_runs_of_each_topic() {
        check(
            Assignor::Range,
            "c0: t0 t1\nc1: t0 t1",
            "t0*3 t1*3",
            expect![[r#"
            c0: [t0-0, t0-1, t1-0, t1-1]
            c1: [t0-2, t1-2]
        "#]],
        );
    }

    #[test]
    fn range_leaves_members_without_partitions_when_there_are_too_few() {
        check(
            Assignor::Range,
            "a: t\nb: t\nc: u",
            "t*1",
            expect![[r#"
            a: [t-0]
            b: []
            c: []
        "#]],
        );
    }

    #[test]
    fn round_robin_deals_all_topics_in_turn() {
        check(
            Assignor::RoundRobin,
            "c0: t0 t1\nc1: t0 t1",
            "t0*3 t1*3",
            expect![[r#"
            c0: [t0-0, t0-2, t1-1]
            c1: [t0-1, t1-0, t1-2]
        "#]],
        );
    }

    #[test]
    fn round_robin_passes_over_who_did_not_subscribe() {
        check(
            Assignor::RoundRobin,
            "c0: t0\nc1: t0 t1\nc2: t0 t1 t2",
            "t0*1 t1*2 t2*3",
            expect![[r#"
            c0: [t0-0]
            c1: [t1-0]
            c2: [t1-1, t2-0, t2-1, t2-2]
        "#]],
        );
    }

    #[test]
    fn static_members_come_first_by_their_names() {
        check(
            Assignor::Range,
            "z=a: t\ny=b: t\na: t",
            "t*4",
            expect![[r#"
            a: [t-3]
            y: [t-2]
            z: [t-0, t-1]
        "#]],
        );
    }
}
