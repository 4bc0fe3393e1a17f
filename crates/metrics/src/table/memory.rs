//! Memory, caches and queues.

use crate::row::metrics;

metrics! {
    MEMORY_LIMIT "dohle_memory_limit_bytes": Gauge, [], "Bytes that are divided into shares (`dohle.memory.max`).";

    SHARE_LIMIT "dohle_memory_share_limit_bytes": Gauge, ["share"], "Bytes that the share has.";

    SHARE_USED "dohle_memory_share_used_bytes": Gauge, ["share"], "Bytes of the share that are used.";

    SHARE_PEAK "dohle_memory_share_peak_bytes": Gauge, ["share"], "The most that were used at one time since the start.";

    SHORTAGES "dohle_memory_shortages_total": Counter, ["share"], "How often the share was used up, so that somebody had to wait or make do with less.";

    ANSWERS_WAITING "dohle_answers_waiting": Gauge, [], "Fetches that stand in line for memory.";

    FETCH_SESSIONS "dohle_fetch_sessions": Gauge, [], "Incremental fetch sessions.";

    FETCH_SESSIONS_LIMIT "dohle_fetch_sessions_limit": Gauge, [], "How many there may be (`max.incremental.fetch.session.cache.slots`).";

    JOBS "dohle_jobs": Gauge, [], "Jobs on files that are under way, or wait for a thread.";

    TOPIC_CONFIGS "dohle_topic_configs_cached": Gauge, [], "Configs of topics that are kept parsed, at most one for each topic.";
}
