//! What the host does with the disk.

use crate::row::metrics;

metrics! {
    COMMIT_SECONDS "dohle_commit_seconds": Histogram, ["log_dir"], "How long commit rounds took: those of a log dir follow each other, and each makes durable what was asked for during the one before.";

    COMMIT_REQUESTS "dohle_commit_requests_total": Counter, ["log_dir"], "Partitions that were made durable, over all rounds.";

    COMMIT_SYNCS "dohle_commit_file_syncs_total": Counter, ["log_dir"], "Files that were synced for that, one by one.";

    JOURNAL_RECORDS "dohle_journal_records_total": Counter, ["log_dir"], "Records of the commit journal, each in place of the syncs of many files.";

    JOURNAL_BYTES "dohle_journal_written_bytes_total": Counter, ["log_dir"], "Bytes that were written to the commit journal.";

    OPEN_FILES "dohle_log_files_open": Gauge, [], "Files of logs that are kept open.";

    OPEN_FILES_LIMIT "dohle_log_files_open_limit": Gauge, [], "How many are kept open at the most.";

    JOBS_QUEUED "dohle_jobs_queued": Gauge, ["kind"], "Jobs that wait for a thread: `awaited` ones, that some request waits for, and those in the `background`.";
}
