//! Time as an argument: the host reads the clocks once per wake-up and passes [`Now`] down.

use std::fmt;
use std::time::Duration;

/// Milliseconds since the Unix epoch, as records carry them; -1 where there is none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// "No timestamp", as the wire spells it.
    pub const NONE: Self = Self(-1);

    /// The moment `duration` later; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A point on the monotonic clock, as time since some fixed moment before the process started.
///
/// Deadlines and intervals are reckoned with it: it never jumps.
pub type Instant = Duration;

/// The two clocks, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// For deadlines and intervals.
    pub instant: Instant,
    /// For what is written into records and shown to people.
    pub wall: Timestamp,
}

impl Now {
    /// The instant `duration` from now.
    #[must_use]
    pub fn after(self, duration: Duration) -> Instant {
        self.instant.saturating_add(duration)
    }
}
