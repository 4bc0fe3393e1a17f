//! Which partition of its internal topic a ledger keeps a key in.

use dohle_types::PartitionIndex;

/// The partition that coordinates a group or a transactional id: Java's hash of its name, modulo the number of
/// partitions. Every broker and tool has to agree on it.
#[must_use]
pub fn partition_for(name: &str, partitions: i32) -> PartitionIndex {
    // Java hashes UTF-16 code units, not characters and not bytes.
    let hash =
        name.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // The one hash whose absolute value is not an `i32` counts as 0 (Kafka's `Utils.abs`).
    PartitionIndex(hash.checked_abs().unwrap_or(0) % partitions.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_live_where_java_says() {
        // `"...".hashCode()` as Java computes it.
        for (group_id, hash) in [
            ("", 0_i32),
            ("a", 97),
            ("group", 98_629_247),
            ("console-consumer-1", 35_782_224),
            ("Gruppe ü", 738_166_647),
            ("🦀", 1_772_802),
            // Its hash is `i32::MIN`.
            ("polygenelubricants", 0),
        ] {
            assert_eq!(partition_for(group_id, i32::MAX), PartitionIndex(hash), "{group_id}");
            assert_eq!(partition_for(group_id, 50), PartitionIndex(hash % 50), "{group_id}");
        }
    }
}
