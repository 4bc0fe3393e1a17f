//! Transactions.

use crate::row::Effect::{InForce, WithoutEffect};
use crate::row::Update::{ClusterWide, ReadOnly};
use crate::row::configs;
use crate::table::reasons::{LEDGERS, TRANSACTION_ENDS, TRANSACTION_TIMEOUTS, TWO_PHASE_COMMIT};
use crate::valid::Valid::{Any, AtLeast};
use crate::value::{Boolean, Int, Long, Short};

configs! {
    TRANSACTION_MAX_TIMEOUT_MS "transaction.max.timeout.ms": Int = 900000,
        AtLeast(1), ReadOnly, InForce,
        "The longest timeout a transaction may ask for.";

    TRANSACTIONAL_ID_EXPIRATION_MS "transactional.id.expiration.ms": Int = 604800000,
        AtLeast(1), ReadOnly, InForce,
        "How long an unused transactional id is remembered.";

    TRANSACTION_STATE_LOG_NUM_PARTITIONS "transaction.state.log.num.partitions": Int = 50,
        AtLeast(1), ReadOnly, InForce,
        "The number of partitions of `__transaction_state`.";

    TRANSACTION_STATE_LOG_REPLICATION_FACTOR "transaction.state.log.replication.factor": Short = 3,
        AtLeast(1), ReadOnly, InForce,
        "The number of replicas of `__transaction_state`.";

    TRANSACTION_STATE_LOG_MIN_ISR "transaction.state.log.min.isr": Int = 2,
        AtLeast(1), ReadOnly, InForce,
        "The `min.insync.replicas` of `__transaction_state`.";

    TRANSACTION_STATE_LOG_SEGMENT_BYTES "transaction.state.log.segment.bytes": Int = 104857600,
        AtLeast(1), ReadOnly, InForce,
        "The segment size of `__transaction_state`.";

    TRANSACTION_STATE_LOG_LOAD_BUFFER_SIZE "transaction.state.log.load.buffer.size": Int = 5242880,
        AtLeast(1), ReadOnly, WithoutEffect(LEDGERS),
        "How many bytes at a time are read when transaction state is loaded.";

    DOHLE_PRODUCERS_MAX "dohle.producers.max": Long = 0, AtLeast(0), ReadOnly, InForce,
        "How many idempotent producers the logs of this node remember altogether, counted in each partition that they \
         write to; beyond that those are forgotten that were silent for longest. 0 means as many as fit into a 16th \
         of `dohle.memory.max`, at 512 bytes each.";

    TRANSACTION_ABORT_TIMED_OUT_TRANSACTION_CLEANUP_INTERVAL_MS "transaction.abort.timed.out.transaction.cleanup.interval.ms": Int = 10000,
        AtLeast(1), ReadOnly, WithoutEffect(TRANSACTION_TIMEOUTS),
        "How often transactions past their timeout are looked for.";

    TRANSACTION_REMOVE_EXPIRED_TRANSACTION_CLEANUP_INTERVAL_MS "transaction.remove.expired.transaction.cleanup.interval.ms": Int = 3600000,
        AtLeast(1), ReadOnly, InForce,
        "How often expired transactional ids are looked for.";

    TRANSACTION_PARTITION_VERIFICATION_ENABLE "transaction.partition.verification.enable": Boolean = true,
        Any, ClusterWide, InForce,
        "Whether a transactional write is checked with the coordinator first (KIP-890).";

    TRANSACTION_TWO_PHASE_COMMIT_ENABLE "transaction.two.phase.commit.enable": Boolean = false,
        Any, ReadOnly, WithoutEffect(TWO_PHASE_COMMIT),
        "Whether transactions may take part in a two-phase commit (KIP-939).";

    ADD_PARTITIONS_TO_TXN_RETRY_BACKOFF_MS "add.partitions.to.txn.retry.backoff.ms": Int = 20,
        AtLeast(1), ReadOnly, WithoutEffect(TRANSACTION_ENDS),
        "How long a broker waits at first before it asks again to add a partition to a transaction.";

    ADD_PARTITIONS_TO_TXN_RETRY_BACKOFF_MAX_MS "add.partitions.to.txn.retry.backoff.max.ms": Int = 100,
        AtLeast(0), ReadOnly, InForce,
        "How long a broker tries at most to add a partition to a transaction.";
}
