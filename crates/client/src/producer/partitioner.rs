//! Which partition a record goes to.

/// The hash by which Kafka's producers place keys: Austin Appleby's 32-bit MurmurHash2 with Kafka's seed.
///
/// All clients must agree on it, or records of one key end up in two partitions.
#[must_use]
pub fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // The length is mixed in modulo 2^32, as a Java int would be.
    #[expect(clippy::cast_possible_truncation, reason = "keys of 4 GiB do not fit in a record")]
    let mut hash = SEED ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let word = word.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
        let word = word.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ word >> 24).wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

/// The partition of a key among `partitions`, whether or not they have leaders (Kafka's `BuiltInPartitioner`).
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: usize) -> usize {
    let positive = murmur2(key) & 0x7fff_ffff;
    positive as usize % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_in_java() {
        // What `org.apache.kafka.common.utils.Utils.murmur2` of Apache Kafka 4.3.1 gives.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn keys_have_the_places_that_java_gives_them() {
        // What `BuiltInPartitioner.partitionForKey` of Apache Kafka 4.3.1 gives for 3 and for 10 partitions.
        for (key, of_3, of_10) in [
            ("", 0, 1),
            ("a", 1, 4),
            ("user-7", 2, 4),
            ("foobar", 0, 6),
            ("a-little-bit-longer-string", 2, 9),
            ("äöü", 2, 2),
        ] {
            assert_eq!(partition_for_key(key.as_bytes(), 3), of_3, "{key}");
            assert_eq!(partition_for_key(key.as_bytes(), 10), of_10, "{key}");
        }
    }
}
