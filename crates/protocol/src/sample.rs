//! Random values of every message, for the tests: every field that the version has is drawn.

use bytes::Bytes;
use dohle_types::{Rng, Str};
use uuid::Uuid;

use crate::Records;

/// Where the values come from.
pub(crate) struct Sampler {
    pub(crate) rng: Rng,
    pub(crate) version: i16,
}

impl Sampler {
    pub(crate) fn draw<T: Sample>(&mut self) -> T {
        T::sample(self)
    }

    /// Mostly very small, sometimes around the borders of a varint's bytes.
    fn len(&mut self) -> usize {
        let bound = if self.rng.chance(1, 50) { 300 } else { 4 };
        usize::try_from(self.rng.below(bound)).unwrap()
    }
}

/// What can be drawn.
pub(crate) trait Sample: Sized {
    fn sample(s: &mut Sampler) -> Self;
}

macro_rules! sample_integers {
    ($($integer:ident),*) => {
        $(impl Sample for $integer {
            fn sample(s: &mut Sampler) -> Self {
                Self::from_be_bytes([0; size_of::<Self>()].map(|_: u8| s.rng.next_u64().to_be_bytes()[0]))
            }
        })*
    };
}

sample_integers!(i8, i16, u16, i32, u32, i64);

impl Sample for bool {
    fn sample(s: &mut Sampler) -> Self {
        s.rng.chance(1, 2)
    }
}

impl Sample for f64 {
    fn sample(s: &mut Sampler) -> Self {
        Self::from(s.draw::<i32>()) / 7.0
    }
}

impl Sample for Uuid {
    fn sample(s: &mut Sampler) -> Self {
        s.rng.uuid()
    }
}

impl Sample for Str {
    fn sample(s: &mut Sampler) -> Self {
        (0..s.len()).map(|_| if s.rng.chance(1, 9) { 'ß' } else { 'k' }).collect()
    }
}

impl Sample for Bytes {
    fn sample(s: &mut Sampler) -> Self {
        let len = if s.rng.chance(1, 10) { 1500 } else { s.len() };
        (0..len).map(|_| s.draw::<u16>().to_be_bytes()[0]).collect()
    }
}

impl Sample for Records {
    fn sample(s: &mut Sampler) -> Self {
        let mut records = Self::new();
        for _ in 0..s.len() {
            records.push(s.draw());
        }
        records
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(s: &mut Sampler) -> Self {
        if s.rng.chance(1, 4) { None } else { Some(s.draw()) }
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(s: &mut Sampler) -> Self {
        (0..s.len().min(5)).map(|_| s.draw()).collect()
    }
}
