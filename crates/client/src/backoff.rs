//! How long to wait before trying again (KIP-580).

use std::time::Duration;

use dohle_types::Rng;

/// Waiting times that double with each failure up to a limit, a fifth more or less so that clients which
/// failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// After many.
    pub max: Duration,
}

impl Backoff {
    /// The waiting time after this many failures in a row.
    pub fn after(self, failures: u32, rng: &mut Rng) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let exact = self.first.saturating_mul(1 << doublings).min(self.max);
        let permille = u32::try_from(800 + rng.below(400)).unwrap_or(1000);
        exact.saturating_mul(permille) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_up_to_the_limit() {
        let backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) };
        let mut rng = Rng::from_seed(1);
        for (failures, exact) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (60, 1000)] {
            let waited = backoff.after(failures, &mut rng).as_millis();
            assert!((exact * 8 / 10..=exact * 12 / 10).contains(&waited), "{failures}: {waited}");
        }
    }
}
