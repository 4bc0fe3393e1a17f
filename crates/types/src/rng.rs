//! Seeded randomness: the hosts seed it, from the system in production and from the case in simulation.

/// A small, fast, seedable generator (SplitMix64, Steele et al. 2014). Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The generator that this seed determines.
    #[must_use]
    pub const fn from_seed(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`, or 0 where `bound` is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// True in `numerator` of `denominator` draws.
    pub const fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// A random (version 4) UUID that Kafka's base64 does not begin with `-`, which command lines take for an option.
    pub fn uuid(&mut self) -> uuid::Uuid {
        const HYPHEN: u128 = 62;
        loop {
            let bits = u128::from(self.next_u64()) << 64 | u128::from(self.next_u64());
            if bits >> 122 != HYPHEN {
                return uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid();
            }
        }
    }

    /// A generator of its own, for a part that must not disturb this one's sequence.
    #[must_use]
    pub const fn fork(&mut self) -> Self {
        Self { state: self.next_u64() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let draw = |seed| {
            let mut rng = Rng::from_seed(seed);
            (0..8).map(|_| rng.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn no_id_looks_like_an_option() {
        let mut rng = Rng::from_seed(1);
        assert!((0..1000).all(|_| !crate::TopicId(rng.uuid()).to_string().starts_with('-')));
    }

    #[test]
    fn below_stays_below() {
        let mut rng = Rng::from_seed(1);
        assert!((0..1000).all(|_| rng.below(3) < 3));
        assert_eq!(rng.below(0), 0);
    }
}
