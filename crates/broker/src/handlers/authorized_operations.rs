//! What a client may do, as Kafka's bit fields say it (KIP-430). There are no ACLs yet: everything.

/// Bits of `AclOperation` codes.
const fn bits(operations: &[u8]) -> i32 {
    let mut bits = 0;
    let mut index = 0;
    while index < operations.len() {
        #[expect(clippy::indexing_slicing, reason = "the loop's condition")]
        let operation = operations[index];
        bits |= 1 << operation;
        index += 1;
    }
    bits
}

const READ: u8 = 3;
const WRITE: u8 = 4;
const CREATE: u8 = 5;
const DELETE: u8 = 6;
const ALTER: u8 = 7;
const DESCRIBE: u8 = 8;
const CLUSTER_ACTION: u8 = 9;
const DESCRIBE_CONFIGS: u8 = 10;
const ALTER_CONFIGS: u8 = 11;
const IDEMPOTENT_WRITE: u8 = 12;

/// All that can be done to a cluster.
pub(super) const CLUSTER: i32 =
    bits(&[CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE]);

/// All that can be done to a topic.
pub(super) const TOPIC: i32 =
    bits(&[READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS]);

/// All that can be done to a group.
pub(super) const GROUP: i32 = bits(&[READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_those_that_apache_kafka_answers_without_an_authorizer() {
        assert_eq!((CLUSTER, TOPIC), (8096, 3576));
    }
}
