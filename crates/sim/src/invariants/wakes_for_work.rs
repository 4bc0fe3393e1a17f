//! An idle node is never woken: once a timeout was handled, the next one is later (invariant 4 of `dohle-broker`).

use dohle_types::time::Instant;

/// Timeouts that may follow one another at the same moment, each doing a part of the work.
const TICKS_AT_ONCE_MAX: usize = 20;

#[derive(Debug, Default)]
pub(super) struct WakesForWork {
    last: Option<Instant>,
    ticks: usize,
}

impl WakesForWork {
    pub(super) fn check(&mut self, now: Instant, next: Option<Instant>) -> Result<(), String> {
        if self.last != Some(now) || next.is_none_or(|next| next > now) {
            *self = Self { last: Some(now), ticks: 0 };
            return Ok(());
        }
        self.ticks += 1;
        if self.ticks > TICKS_AT_ONCE_MAX {
            return Err(format!(
                "at {now:?} the node was woken {} times and wants to be woken again",
                self.ticks
            ));
        }
        Ok(())
    }
}
