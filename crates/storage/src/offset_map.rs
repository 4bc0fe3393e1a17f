//! The last offset of each key of a part of a log, in bounded memory (Kafka's `SkimpyOffsetMap`).
//!
//! Not the keys are kept but 128 bits of their hash, so that a key takes 24 bytes whatever its length. Two keys of
//! the same hash would be taken for one and the older record be lost; the hash is therefore SipHash-2-4 with a
//! secret, under which nobody can look for two such keys, and by chance there are none in the life of a disk.

use dohle_types::Offset;

/// Two words of hash, and the offset plus one; all zero where the slot is free.
type Slot = [u64; 3];

const SLOT_SIZE: usize = size_of::<Slot>();
const SLOTS_MIN: usize = 16;

/// The secret that keys are hashed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashSecret(pub u64, pub u64);

#[derive(Debug)]
pub(crate) struct OffsetMap {
    slots: Vec<Slot>,
    used: usize,
    used_max: usize,
    secret: HashSecret,
}

impl OffsetMap {
    /// An empty map for some `keys`, in at most `bytes` of memory, of which the share `load_factor` gets used.
    pub(crate) fn new(keys: usize, bytes: usize, load_factor: f64, secret: HashSecret) -> Self {
        let load_factor = load_factor.clamp(0.01, 1.0);
        let wanted = scale(keys, 1.0 / load_factor).saturating_add(1);
        let slots = wanted.min(bytes / SLOT_SIZE).max(SLOTS_MIN);
        // A search ends at a free slot, so that one must remain.
        let used_max = scale(slots, load_factor).clamp(1, slots - 1);
        Self { slots: vec![Slot::default(); slots], used: 0, used_max, secret }
    }

    /// Notes the offset of a key's record; `false` where the map is full and the key is not in it.
    pub(crate) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let [high, low] = hash(self.secret, key);
        let index = self.find(high, low);
        let is_full = self.used >= self.used_max;
        let Some(slot) = self.slots.get_mut(index) else { return false };
        if slot[2] == 0 {
            if is_full {
                return false;
            }
            self.used += 1;
        }
        *slot = [high, low, offset.0.cast_unsigned().wrapping_add(1)];
        true
    }

    /// The last offset of a key.
    pub(crate) fn last_offset(&self, key: &[u8]) -> Option<Offset> {
        let [high, low] = hash(self.secret, key);
        let [_, _, offset] = *self.slots.get(self.find(high, low))?;
        Some(Offset(offset.checked_sub(1)?.cast_signed()))
    }

    /// The slot of a hash, or the free one where it belongs.
    fn find(&self, high: u64, low: u64) -> usize {
        let count = self.slots.len();
        let scaled = (u128::from(high) * count as u128) >> 64;
        let first = usize::try_from(scaled).unwrap_or(0);
        let around = (first..count).chain(0..first);
        let is_place = |&index: &usize| {
            self.slots.get(index).is_some_and(|slot| slot[2] == 0 || (slot[0] == high && slot[1] == low))
        };
        around.into_iter().find(is_place).unwrap_or(count)
    }
}

/// A share of a count.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the sizes of tables need not be exact"
)]
fn scale(count: usize, factor: f64) -> usize {
    (count as f64 * factor) as usize
}

/// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein).
fn hash(HashSecret(k0, k1): HashSecret, bytes: &[u8]) -> [u64; 2] {
    let mut state = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    last[7] = bytes.len().to_le_bytes()[0];
    for word in words.iter().chain([&last]) {
        let word = u64::from_le_bytes(*word);
        state[3] ^= word;
        rounds(&mut state, 2);
        state[0] ^= word;
    }
    state[2] ^= 0xee;
    rounds(&mut state, 4);
    let first = state[0] ^ state[1] ^ state[2] ^ state[3];
    state[1] ^= 0xdd;
    rounds(&mut state, 4);
    [first, state[0] ^ state[1] ^ state[2] ^ state[3]]
}

fn rounds([v0, v1, v2, v3]: &mut [u64; 4], count: usize) {
    for _ in 0..count {
        *v0 = v0.wrapping_add(*v1);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v3);
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.wrapping_add(*v3);
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.wrapping_add(*v1);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v2 = v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: HashSecret = HashSecret(1, 2);

    #[test]
    fn the_hash_is_siphash() {
        // Of the vectors that come with the reference, those for 0, 1 and 15 bytes.
        let secret = HashSecret(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let bytes: Vec<u8> = (0..15).collect();
        let check = |length: usize, expected: &str| {
            let words = hash(secret, &bytes[..length]);
            let hex: String =
                words.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected, "{length} bytes");
        };
        check(0, "a3817f04ba25a8e66df67214c7550293");
        check(1, "da87c1d86b99af44347659119b22fc45");
        check(15, "5493e99933b0a8117e08ec0f97cfc3d9");
    }

    #[test]
    fn the_last_offset_of_each_key_is_found() {
        let mut map = OffsetMap::new(1000, 1 << 20, 0.9, SECRET);
        for round in 0..3 {
            for key in 0..1000_i64 {
                assert!(map.put(&key.to_be_bytes(), Offset(round * 1000 + key)));
            }
        }
        for key in 0..1000_i64 {
            assert_eq!(map.last_offset(&key.to_be_bytes()), Some(Offset(2000 + key)));
        }
        assert_eq!(map.last_offset(b"another"), None);
    }

    #[test]
    fn a_full_map_takes_no_new_key_and_keeps_to_its_memory() {
        let mut map = OffsetMap::new(1_000_000, 100 * SLOT_SIZE, 0.9, SECRET);
        assert_eq!(map.slots.len(), 100);
        let taken = (0..200_i64).take_while(|key| map.put(&key.to_be_bytes(), Offset(*key))).count();
        assert_eq!(taken, 90);
        assert!(map.put(&5_i64.to_be_bytes(), Offset(500)), "a key that it knows");
        assert_eq!(map.last_offset(&5_i64.to_be_bytes()), Some(Offset(500)));
    }
}
