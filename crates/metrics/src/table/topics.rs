//! What goes into topics and out of them.

use crate::row::metrics;

metrics! {
    TOPIC_APPENDED_BYTES "dohle_topic_appended_bytes_total": Counter, ["topic"], "Bytes of batches that were appended.";

    TOPIC_APPENDED_RECORDS "dohle_topic_appended_records_total": Counter, ["topic"], "Records that were appended.";

    TOPIC_FETCHED_BYTES "dohle_topic_fetched_bytes_total": Counter, ["topic"], "Bytes of batches in answers to consumers.";
}
