//! Logs and log dirs.

use crate::row::metrics;

metrics! {
    LOG_DIR_ONLINE "dohle_log_dir_online": Gauge, ["log_dir"], "1 for a log dir that can be used, 0 once it has failed.";

    LOG_DIR_CORDONED "dohle_log_dir_cordoned": Gauge, ["log_dir"], "1 for a log dir that takes no new partitions (`cordoned.log.dirs`).";

    LOG_DIR_FULL "dohle_log_dir_full": Gauge, ["log_dir"], "1 while records are refused, for the disk is full but for its reserve.";

    LOG_DIR_SIZE "dohle_log_dir_volume_bytes": Gauge, ["log_dir"], "Size of the volume that the log dir is on.";

    LOG_DIR_USABLE "dohle_log_dir_usable_bytes": Gauge, ["log_dir"], "Bytes of it that can be used.";

    LOG_DIR_PARTITIONS "dohle_log_dir_partitions": Gauge, ["log_dir"], "Partitions in the log dir.";

    UNCHECKPOINTED "dohle_log_dir_uncheckpointed_bytes": Gauge, ["log_dir"], "Bytes that were appended since the last checkpoint was begun (`dohle.checkpoint.bytes`): about what a start after a crash reads.";

    CHECKPOINTS "dohle_checkpoints_total": Counter, ["log_dir", "outcome"], "Checkpoints that were `written`, or `failed`.";

    SCRUBBED_BYTES "dohle_scrub_read_bytes_total": Counter, ["log_dir"], "Bytes that the scrub has read and checked.";

    SCRUB_LEFT "dohle_scrub_logs_left": Gauge, ["log_dir"], "Logs that are left of this round of the scrub; 0 between rounds.";

    PARTITIONS "dohle_partitions": Gauge, ["state"], "Partitions, by the state of their logs: `new` was never written to, `closed` was not asked for since the start, `opening`, `online`, `offline`.";

    UNRECOVERED "dohle_logs_unrecovered": Gauge, [], "Logs that are still to be recovered after a stop that was not clean.";

    RECOVERED "dohle_logs_recovered": Gauge, [], "Logs that were recovered since the start.";

    SEGMENTS "dohle_segments": Gauge, [], "Segments of the logs that are open.";

    DAMAGED "dohle_log_damages": Gauge, [], "Ranges of offsets in open logs that are damaged, and refused to readers.";

    TOPIC_BYTES "dohle_topic_log_bytes": Gauge, ["topic"], "Bytes of records in the open logs of the topic.";

    START_OFFSET "dohle_partition_start_offset": Gauge, ["topic", "partition"], "The first offset that can be read.";

    HIGH_WATERMARK "dohle_partition_high_watermark": Gauge, ["topic", "partition"], "The offset after the last record that is committed. Its rate is that of records, as long as none is a control record.";

    UNDURABLE "dohle_partition_undurable_records": Gauge, ["topic", "partition"], "Offsets that would not survive a power loss yet, where there are any.";

    CLEANER_WORKING "dohle_cleaner_working": Gauge, [], "1 while a log is being compacted.";

    CLEANER_MARKED "dohle_cleaner_logs_marked": Gauge, [], "Logs that compaction is to look at.";

    CLEANER_UNCLEANABLE "dohle_cleaner_logs_uncleanable": Gauge, [], "Logs that could not be compacted, and are left alone until their configs change.";

    CLEANER_BYTES "dohle_cleaner_processed_bytes_total": Counter, [], "Bytes that compaction has read and written.";

    CLEANER_CLEANED "dohle_cleaner_logs_cleaned_total": Counter, [], "Logs that were compacted, each round of one.";

    TRASH_TOPICS "dohle_trash_topics": Gauge, [], "Deleted topics that can be brought back.";
}
