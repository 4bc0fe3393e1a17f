//! Why a group rebalances, and who is behind it.

use dohle_types::Str;

/// How many of a cause's members are told of by name.
const MEMBERS_SHOWN_MAX: usize = 5;

/// How long a name or a client's own words may be, so that an entry stays small whatever clients send.
const TEXT_BYTES_MAX: usize = 255;

/// What the Java admin client says when it removes a member (KIP-800), before what its user says.
const REMOVED_BY_ADMIN: &str = "member was removed by an admin";

/// What the Java consumer says when it leaves since nobody polls it.
const POLL_TIMEOUT: &str = "consumer poll timeout has expired";

/// What the Java consumer says when it leads and the topics changed.
const METADATA_CHANGED: &str = "cached metadata has changed";

/// What the Java consumer says when it has given up partitions that others shall have, with a cooperative assignor.
const GAVE_UP: &str = "need to revoke partitions";

/// Why a group rebalances or a membership changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What happened.
    pub kind: CauseKind,
    /// Whom it happened to; of many the first few.
    pub members: Vec<Who>,
    /// Whom else it happened to, in number.
    pub more_members: usize,
    /// What the client, or who removed it, said about it (KIP-800).
    pub reason: Option<Str>,
}

/// A member, as far as people recognise it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Its member id.
    pub member_id: Str,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Str>,
    /// `client.id`
    pub client_id: Str,
    /// Where it connected from: `/127.0.0.1`.
    pub client_host: Str,
}

/// Defines the kinds of causes with their names and texts.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $text:literal, $advice:literal;)*) => {
        /// What happened to a group.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum CauseKind {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl CauseKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name in a journal's records.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// How people are told of it.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// What to change where it happens again and again.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self {
                    $(Self::$variant => $advice,)*
                }
            }
        }
    };
}

kinds! {
    /// A member joined.
    Joined = "joined", "joined",
        "members that restart keep their partitions if each has a group.instance.id and is back within its session timeout";
    /// A member joined again, since it wants to: a consumer with a cooperative assignor does, when it has given up
    /// partitions.
    Rejoined = "rejoined", "joined again",
        "cooperative assignors rebalance twice; group.protocol=consumer does without the second time";
    /// The leader joined again, for it wants to assign anew.
    LeaderRejoined = "leader-rejoined", "leader joined again",
        "look into the leader's log for what it wants: consumers do so when topics change or enforceRebalance is called";
    /// A topic that the group subscribes to was created, deleted, or given more partitions.
    MetadataChanged = "metadata-changed", "metadata changed",
        "topics that the group subscribes to come and go: subscribe to fewer, or by a narrower pattern";
    /// A member subscribes to other topics than before.
    SubscriptionChanged = "subscription-changed", "subscription changed",
        "a client subscribes anew again and again: have it subscribe once";
    /// A member offers or prefers other assignors than before.
    AssignorChanged = "assignor-changed", "assignor changed",
        "members have different partition.assignment.strategy: give all the same";
    /// A member left.
    Left = "left", "left",
        "members that restart keep their partitions if each has a group.instance.id and is back within its session timeout";
    /// A member was not polled for `max.poll.interval.ms`: it left because of that, or did not do its part of a
    /// rebalance in time.
    PollIntervalExceeded = "poll-interval-exceeded", "poll interval exceeded",
        "processing takes longer than max.poll.interval.ms: raise it, or lower max.poll.records";
    /// A member was not heard of for its session timeout.
    SessionExpired = "session-expired", "session expired",
        "the process dies, is paused (garbage collection, CPU limits) or cut off: raise session.timeout.ms if it is only paused";
    /// A member took part in a rebalance but did not ask for its assignment in time.
    SyncExpired = "sync-expired", "assignment not fetched",
        "members join and stop before they have their partitions: look into their logs";
    /// An administrator removed a member.
    RemovedByAdministrator = "removed-by-administrator", "removed by an administrator",
        "somebody, or a tool, removes members: see the reason";
    /// Another process took the place of a static member.
    StaticMemberReplaced = "static-member-replaced", "static member replaced",
        "a process restarts again and again, or several have the same group.instance.id: give each its own";
    /// A static member went away and wants to be back.
    StaticMemberAway = "static-member-away", "static member away",
        "a process restarts again and again: look into its log";
    /// The first member of the consumer protocol came: the group moves to it.
    Upgraded = "upgraded", "migration to the consumer protocol",
        "members of both protocols come and go: finish the migration";
    /// The last member of the consumer protocol is gone: the others go on by themselves as a classic group.
    Downgraded = "downgraded", "migration to the classic protocol",
        "members of both protocols come and go: finish the migration";
    /// An operator set other offsets for the members to go on from.
    OffsetsReset = "offsets-reset", "offsets reset",
        "somebody, or a tool, resets the group's offsets";
    /// The leader's assignment does not fit in a record.
    AssignmentTooLarge = "assignment-too-large", "assignment too large",
        "raise max.message.bytes of __consumer_offsets, or use fewer members and partitions";
    /// The group has more members than it may have.
    GroupTooLarge = "group-too-large", "too many members",
        "raise group.max.size, or use fewer members";
    /// The coordinator was started again, or moved, with members that have to be heard of now.
    CoordinatorRestarted = "coordinator-restarted", "coordinator restarted",
        "the broker restarts again and again: look into its log";
}

impl CauseKind {
    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Why a member is gone that left, or was removed, by LeaveGroup. An administrator knows the instance id only, or
    /// says what he does.
    pub(crate) fn of_leaving(names_member: bool, reason: Option<&str>) -> Self {
        match reason {
            _ if !names_member => Self::RemovedByAdministrator,
            Some(reason) if reason.starts_with(REMOVED_BY_ADMIN) => Self::RemovedByAdministrator,
            Some(reason) if reason.starts_with(POLL_TIMEOUT) => Self::PollIntervalExceeded,
            _ => Self::Left,
        }
    }

    /// Why a member joins again that has changed nothing about itself.
    pub(crate) fn of_rejoining(leads: bool, reason: Option<&str>) -> Self {
        match (leads, reason) {
            (_, Some(reason)) if reason.starts_with(METADATA_CHANGED) => Self::MetadataChanged,
            (_, Some(reason)) if reason.starts_with(GAVE_UP) => Self::Rejoined,
            (true, _) => Self::LeaderRejoined,
            (false, _) => Self::Rejoined,
        }
    }
}

impl Cause {
    /// A cause that no member is behind.
    pub(crate) const fn of_nobody(kind: CauseKind) -> Self {
        Self { kind, members: Vec::new(), more_members: 0, reason: None }
    }

    /// A cause that one member is behind.
    pub(crate) fn of(kind: CauseKind, who: Who) -> Self {
        Self { kind, members: vec![who], more_members: 0, reason: None }
    }

    /// A cause that these members are behind.
    pub(crate) fn of_all(kind: CauseKind, members: impl IntoIterator<Item = Who>) -> Self {
        let mut all = members.into_iter();
        let members = all.by_ref().take(MEMBERS_SHOWN_MAX).collect();
        Self { kind, members, more_members: all.count(), reason: None }
    }

    /// With what the client said about it.
    pub(crate) fn because(self, reason: Option<&Str>) -> Self {
        Self { reason: reason.filter(|reason| !reason.is_empty()).map(|reason| bounded(reason)), ..self }
    }
}

impl Who {
    pub(crate) fn new(
        member_id: &str,
        instance_id: Option<&Str>,
        client_id: &str,
        client_host: &str,
    ) -> Self {
        Self {
            member_id: bounded(member_id),
            instance_id: instance_id.map(|instance_id| bounded(instance_id)),
            client_id: bounded(client_id),
            client_host: bounded(client_host),
        }
    }

    /// What it goes by, also after it was started again.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.instance_id {
            Some(instance_id) => instance_id,
            None if self.client_id.is_empty() => &self.member_id,
            None => &self.client_id,
        }
    }
}

fn bounded(text: &str) -> Str {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    Str::from(text.get(..end).unwrap_or_default())
}
