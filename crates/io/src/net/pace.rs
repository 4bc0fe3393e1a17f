//! Whether a connection moves the bytes for which it holds memory.
//!
//! While others wait for memory, whoever holds some must get on with it: [`BYTES`] within [`PERIOD`], which any client
//! does that is there at all and of any use. A consumer's answers may have to drain out of the kernel's buffers before
//! more of them can be sent, which is why the period is no shorter.

use std::time::Duration;

/// How long a connection may take,
pub const PERIOD: Duration = Duration::from_secs(10);
/// for so many bytes.
const BYTES: usize = 16 << 10;

/// What a connection has moved lately.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// Since when it is watched, on the monotonic clock.
    since: Duration,
    moved: usize,
}

impl Pace {
    /// It begins to hold memory.
    pub const fn begin(&mut self, now: Duration) {
        *self = Self { since: now, moved: 0 };
    }

    /// Bytes came or went.
    pub const fn moved(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes);
    }

    /// Since when it has moved too little, where that is so.
    pub fn stalled_since(&mut self, now: Duration) -> Option<Duration> {
        if now.saturating_sub(self.since) < PERIOD {
            return None;
        }
        if self.moved >= BYTES {
            self.begin(now);
            return None;
        }
        Some(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_stalled_when_a_period_brought_too_little() {
        let at = Duration::from_secs;
        let mut pace = Pace::default();
        pace.begin(at(100));
        assert_eq!(pace.stalled_since(at(109)), None);
        pace.moved(BYTES);
        assert_eq!(pace.stalled_since(at(110)), None, "it got on");
        pace.moved(BYTES - 1);
        assert_eq!(pace.stalled_since(at(119)), None, "its next period is not over");
        assert_eq!(pace.stalled_since(at(120)), Some(at(110)));
        pace.begin(at(121));
        assert_eq!(pace.stalled_since(at(130)), None);
    }
}
