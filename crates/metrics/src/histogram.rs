//! How long things took, counted by ranges.

use std::time::Duration;

/// Counts of durations by ranges, from a tenth of a millisecond to a minute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; Self::BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// The upper bounds of the ranges; what is longer than the last has a range of its own.
    pub const BOUNDS: [Duration; 15] = [
        Duration::from_micros(100),
        Duration::from_micros(300),
        Duration::from_millis(1),
        Duration::from_millis(2),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(20),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(300),
        Duration::from_secs(1),
        Duration::from_secs(3),
        Duration::from_secs(10),
        Duration::from_secs(30),
        Duration::from_secs(60),
    ];

    /// Counts one.
    pub fn note(&mut self, duration: Duration) {
        let range = Self::BOUNDS.iter().position(|&bound| duration <= bound).unwrap_or(Self::BOUNDS.len());
        if let Some(count) = self.counts.get_mut(range) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(duration);
    }

    /// How many are in each range, the last one without a bound.
    #[must_use]
    pub const fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// All durations together.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|&count| count == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_range_that_ends_with_it() {
        let mut histogram = Histogram::default();
        assert!(histogram.is_empty());
        for micros in [0, 100, 101, 60_000_000, 60_000_001] {
            histogram.note(Duration::from_micros(micros));
        }
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1], counts[14], counts[15]), (2, 1, 1, 1));
        assert_eq!(histogram.sum(), Duration::from_micros(120_000_202));
    }
}
