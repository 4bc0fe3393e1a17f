//! What a journal says, and how people read it.

use std::fmt;

use dohle_types::{Offset, Str, Timestamp};

use super::cause::{Cause, CauseKind, Who};

/// Something that happened to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The group.
    pub group_id: Str,
    /// When it happened; of what took time, when it was over.
    pub at: Timestamp,
    /// What.
    pub event: Event,
}

/// What happened to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A rebalance is over.
    Rebalance(Rebalanced),
    /// A membership changed, and nobody had to know.
    Membership {
        /// The group's generation or epoch.
        generation: i32,
        /// What changed.
        cause: Cause,
    },
    /// The group rebalances again and again.
    Storm(Storm),
    /// A record is not delivered to the group any more. Groups whose deliveries the broker does not count have none.
    Poison(Poison),
    /// Entries of any groups are missing before this one.
    Dropped {
        /// How many.
        entries: u64,
    },
}

/// A rebalance: one generation of the classic protocol, or one group epoch of the consumer protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebalanced {
    /// The protocol.
    pub protocol: Protocol,
    /// The generation or group epoch that ended.
    pub from: i32,
    /// The one that began. The same if none did: the coordinator was started again in the middle of it, or the group
    /// went on with the other protocol.
    pub to: i32,
    /// What caused it, and what came to it while it was under way.
    pub causes: Vec<Cause>,
    /// Further causes that are not told, in number.
    pub more_causes: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began.
    pub started: Timestamp,
    /// How long it took, until it was over or the next one began.
    pub duration_ms: u64,
    /// Of which: until all members had joined again or the time was up; in a group of the consumer protocol, until there
    /// was a new assignment. None if it did not come to that.
    pub first_phase_ms: Option<u64>,
    /// Members at its end.
    pub members: usize,
    /// What became of the partitions; none if that is not known, as with other clients than consumers.
    pub moves: Option<Moves>,
}

/// How a group rebalances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// All members join again, and one of them assigns.
    Classic,
    /// The coordinator assigns, and each member does its part (KIP-848).
    Consumer,
}

/// How a rebalance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All have what they are to have.
    Completed,
    /// The next one began before it was over.
    Superseded,
    /// No member is left.
    Emptied,
}

/// What became of the partitions in a rebalance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Partitions that somebody has, or had.
    pub total: usize,
    /// Partitions that somebody has who did not have them.
    pub moved: usize,
    /// Partitions that nobody has at its end.
    pub without_owner: usize,
    /// The longest that one of those that have an owner again was without.
    pub longest_without_owner_ms: Option<u64>,
}

/// Many rebalances in a short time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storm {
    /// How many.
    pub rebalances: usize,
    /// In how much time.
    pub within_ms: u64,
    /// The most frequent cause,
    pub kind: CauseKind,
    /// and how often it was that one.
    pub of_kind: usize,
    /// The member that is behind more of them than any other,
    pub member: Option<Who>,
    /// and behind how many.
    pub of_member: usize,
}

/// A record that a group could not process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// Its topic,
    pub topic: Str,
    /// partition
    pub partition: i32,
    /// and offset.
    pub offset: Offset,
    /// How often it was delivered.
    pub deliveries: u32,
    /// The topic to which it was copied, if any.
    pub dead_letter_topic: Option<Str>,
}

impl Protocol {
    /// Its name, as Kafka's tools show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }

    const fn phases(self) -> [&'static str; 2] {
        match self {
            Self::Classic => ["join", "sync"],
            Self::Consumer => ["assign", "reconcile"],
        }
    }
}

impl Outcome {
    /// Its name in a journal's records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Superseded => "superseded",
            Self::Emptied => "emptied",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rebalance(rebalanced) => rebalanced.fmt(f),
            Self::Membership { generation, cause } => write!(f, "generation {generation} stays: {cause}"),
            Self::Storm(storm) => storm.fmt(f),
            Self::Poison(poison) => poison.fmt(f),
            Self::Dropped { entries } => write!(
                f,
                "{entries} {} missing here: the broker could not write them",
                if *entries == 1 { "entry is" } else { "entries are" }
            ),
        }
    }
}

impl fmt::Display for Rebalanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to {
            write!(f, "rebalance of {}", self.to)?;
        } else {
            write!(f, "rebalance {} -> {}", self.from, self.to)?;
        }
        for (index, cause) in self.causes.iter().enumerate() {
            let before = match index {
                0 => " caused by ",
                1 => "; then ",
                _ => ", ",
            };
            write!(f, "{before}{cause}")?;
        }
        if self.more_causes > 0 {
            write!(f, " and {} more", self.more_causes)?;
        }
        if self.causes.len() > 1 {
            f.write_str(";")?;
        } else {
            f.write_str(",")?;
        }
        write!(f, " {}", Seconds(self.duration_ms))?;
        let [first, second] = self.protocol.phases();
        match self.first_phase_ms {
            Some(first_ms) if self.outcome != Outcome::Emptied => write!(
                f,
                " ({first} {}, {second} {})",
                Seconds(first_ms),
                Seconds(self.duration_ms.saturating_sub(first_ms))
            )?,
            Some(_) | None => {}
        }
        match self.outcome {
            Outcome::Completed => {}
            Outcome::Superseded => f.write_str(", interrupted by the next")?,
            Outcome::Emptied => f.write_str(", no member is left")?,
        }
        if self.outcome != Outcome::Emptied {
            write!(f, ", {} {}", self.members, if self.members == 1 { "member" } else { "members" })?;
        }
        match &self.moves {
            Some(moves) if self.outcome != Outcome::Emptied => moves.fmt(f),
            Some(_) | None => Ok(()),
        }
    }
}

impl fmt::Display for Moves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", {} of {} partitions moved", self.moved, self.total)?;
        if let Some(longest_ms) = self.longest_without_owner_ms {
            write!(f, ", longest without owner {}", Seconds(longest_ms))?;
        }
        if self.without_owner > 0 {
            write!(f, ", {} still without owner", self.without_owner)?;
        }
        Ok(())
    }
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.within_ms.div_ceil(60_000).max(1);
        let unit = if minutes == 1 { "minute" } else { "minutes" };
        let Self { rebalances, kind, of_kind, of_member, .. } = self;
        write!(f, "STORM: {rebalances} rebalances in {minutes} {unit}, {of_kind} caused by {}", kind.text())?;
        if let Some(member) = &self.member {
            write!(f, ", {of_member} by {member}")?;
        }
        write!(f, "; {}", kind.advice())
    }
}

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, offset, deliveries, dead_letter_topic } = self;
        let times = if *deliveries == 1 { "delivery" } else { "deliveries" };
        write!(f, "POISON: {topic}-{partition} offset {offset} is set aside after {deliveries} {times}")?;
        match dead_letter_topic {
            Some(topic) => write!(f, ", copied to {topic}"),
            None => f.write_str(", copied nowhere: the group has no errors.deadletterqueue.topic.name"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.text())?;
        for (index, member) in self.members.iter().enumerate() {
            write!(f, "{} {member}", if index == 0 { ":" } else { "," })?;
        }
        if self.more_members > 0 {
            write!(f, " and {} more", self.more_members)?;
        }
        match &self.reason {
            Some(reason) => write!(f, " \"{}\"", reason.escape_debug()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.client_host.trim_start_matches('/');
        // Clients choose their names: none of them shall move the cursor of whoever reads this.
        write!(f, "{} ({})", self.name().escape_debug(), host.escape_debug())
    }
}

/// Milliseconds as seconds.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms @ ..1_000 => write!(f, "{ms} ms"),
            ms @ ..600_000 => write!(f, "{}.{} s", ms / 1_000, ms % 1_000 / 100),
            ms => write!(f, "{} min", ms / 60_000),
        }
    }
}
