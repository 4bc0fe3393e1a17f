//! What happened, as a hash that two runs of a seed must share, and as text where somebody wants to read it.

use std::collections::VecDeque;
use std::time::Duration;

/// How many of the last events are kept as text.
const LINES_MAX: usize = 200;

/// The trace of a run.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    events: u64,
    /// `None` where nobody reads it: text costs more than what it describes.
    lines: Option<VecDeque<String>>,
}

impl Trace {
    /// A trace that keeps the last events as text.
    #[must_use]
    pub fn readable() -> Self {
        Self { lines: Some(VecDeque::new()), ..Self::default() }
    }

    /// Notes an event, which `what` and the two numbers tell apart from others.
    pub fn note(
        &mut self,
        now: Duration,
        what: &str,
        first: u64,
        second: u64,
        text: impl FnOnce() -> String,
    ) {
        self.events += 1;
        let time = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        for number in [time, u64::from(crc32c::crc32c(what.as_bytes())), first, second] {
            self.hash = (self.hash.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        if let Some(lines) = &mut self.lines {
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(format!("{:>12.6} {what:<14} {}", now.as_secs_f64(), text()));
        }
    }

    /// The hash of all events.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The last events.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.iter().flatten().cloned().collect()
    }
}
